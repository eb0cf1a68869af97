package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// vain remembers how far the log was looked at without a find, so that no event is looked at twice for subscriptions
// that want few: what was committed does not change, and what comes is above it.
type vain struct {
	mu    sync.Mutex
	spans map[wants]span
}

// wants is what a subscription gets of the log: what its client sees, narrowed to some event types.
type wants struct {
	entityevent.View
	types string // as one text; "": all
}

// span is where nothing is for somebody: above after, up to through.
type span struct{ after, through entityevent.Sequence }

func wantsOf(s producer.Subscription) wants {
	types := slices.Sorted(slices.Values(s.EventTypes))
	return wants{entityevent.View{Feed: s.Feed, Mask: s.Mask}, strings.Join(types, "\x00")}
}

// skip is where to begin to look after a position.
func (v *vain) skip(w wants, after entityevent.Sequence) entityevent.Sequence {
	v.mu.Lock()
	defer v.mu.Unlock()
	if known, ok := v.spans[w]; ok && known.after <= after && after < known.through {
		return known.through
	}
	return after
}

// learn remembers where nothing was.
func (v *vain) learn(w wants, now span) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.spans == nil || len(v.spans) > 1000 { // clients choose the types
		v.spans = map[wants]span{}
	}
	v.spans[w] = now
}

// lookPages bounds one look for the first event that waits. A later one goes on from there.
const lookPages = 20

// waiting is how many events there may be after a position that a subscription gets, and since when there is one. It
// looks at the oldest alone, and takes the numbers from it to the head for the rest: gaps and what others get make
// it too many.
func (a *agent) waiting(ctx context.Context, sub producer.Subscription, after entityevent.Sequence) (lag int64, since time.Time, err error) {
	w := wantsOf(sub)
	at := a.vain.skip(w, after)
	for range lookPages {
		page, err := a.store.Events(ctx, w.View, entityevent.EventQuery{After: at, Limit: 1, Times: true, Filter: sub.Filter()})
		if err != nil {
			return 0, since, err
		}
		if len(page.Events) > 0 {
			first := page.Events[0]
			lag, since, at = int64(page.Head-first.Sequence)+1, first.At, first.Sequence-1
			break
		}
		if at = max(at, page.Through); !page.More {
			break
		}
	}
	a.vain.learn(w, span{after, at})
	return lag, since, nil
}

// countLag counts the events that wait, up to lagShown, and up to what one may look at.
func (a *agent) countLag(ctx context.Context, s *subscriptionStatus, sub producer.Subscription) error {
	if s.Lag == 0 {
		return nil
	}
	s.Lag = 0
	w := wantsOf(sub)
	after := a.vain.skip(w, s.Cursor)
	for range lookPages {
		page, err := a.store.Events(ctx, w.View, entityevent.EventQuery{After: after, Limit: 1000, Filter: sub.Filter()})
		if err != nil {
			return err
		}
		s.Lag += int64(len(page.Events))
		if after = page.Through; !page.More || s.Lag >= lagShown {
			break
		}
	}
	return nil
}

// subscription is one of the configuration.
func (a *agent) subscription(name string) (s producer.Subscription, known bool) {
	i := slices.IndexFunc(a.subscriptions, func(s producer.Subscription) bool { return s.Name == name })
	if i < 0 {
		return s, false
	}
	return a.subscriptions[i], true
}
