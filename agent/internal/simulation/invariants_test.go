package simulation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
)

// What holds throughout, beside what stands where it is checked (w.violated names each):
// every commit of the producer is there wholly or not at all, whatever crashed.

// checkProducer compares the producer's store with the truth: records and log.
func (w *world) checkProducer(store *sqlite.Store) {
	ctx, view := context.Background(), entityevent.View{Feed: entityevent.Local, Mask: entityevent.Everyone}
	w.compare(store, entityevent.Local, resources, "every answered write survives, and nothing else")
	want, n := w.truth.between(0, math.MaxInt64), 0
	for after := entityevent.Sequence(0); ; {
		page, err := store.Events(ctx, view, entityevent.EventQuery{After: after, Limit: 1000})
		if err != nil {
			w.violated("the log can be read", "%v", err)
			return
		}
		for _, e := range page.Events {
			if n >= len(want) || want[n].Sequence != e.Sequence || want[n].Ref != e.Ref {
				w.violated("numbers never reappear", "the log has %d for %s, which it never gave out so", e.Sequence, e.Ref)
				return
			}
			n++
		}
		if after = page.Through; !page.More {
			break
		}
	}
	if n != len(want) {
		w.violated("every answered write survives, and nothing else", "the log has %d events, %d were given out", n, len(want))
	}
}

// compare compares a feed's records with the truth.
func (w *world) compare(store *sqlite.Store, feed string, of []string, invariant string) (equal bool) {
	difference := w.difference(store, feed, of)
	if difference != "" {
		w.violated(invariant, "%s", difference)
	}
	return difference == ""
}

func (w *world) difference(store *sqlite.Store, feed string, of []string) string {
	have := map[entityevent.Ref]entityevent.Record{}
	for _, resource := range of {
		for r, err := range store.Read(context.Background(), entityevent.View{Feed: feed, Mask: entityevent.Everyone}, entityevent.Query{Resource: resource}) {
			if err != nil {
				return err.Error()
			}
			have[r.Ref] = r
		}
	}
	wanted := map[string]bool{}
	for _, r := range of {
		wanted[r] = true
	}
	for _, ref := range w.truth.refs() {
		if !wanted[ref.Resource] {
			continue
		}
		r, ok := have[ref]
		switch f := w.truth.get(ref); {
		case !ok:
			return fmt.Sprintf("feed %s lacks %s", feed, ref)
		case r.Hash != f.hash:
			return fmt.Sprintf("feed %s: %s differs: %.200s instead of %.200s", feed, ref, r.Body, f.body)
		}
		delete(have, ref)
	}
	for ref, r := range have {
		return fmt.Sprintf("feed %s has %s, which is no longer there: %.200s", feed, ref, r.Body)
	}
	return ""
}

// restless says what is not at rest yet, "" if all is.
func (w *world) restless() string {
	ctx := context.Background()
	p, c := w.producer.alive(), w.consumer.alive()
	if p == nil || c == nil {
		return "a node is down"
	}
	head := w.truth.head()
	position, err := c.store.Position(ctx, feedName)
	depth, derr := c.store.Depth(ctx, feedName)
	aside, aerr := c.store.Aside(ctx, feedName, time.Time{}, 0)
	states, serr := producer.Subscriptions(ctx, p.store)
	if err := errors.Join(err, derr, aerr, serr); err != nil {
		return err.Error()
	}
	if !w.network.logless && position.Log != w.truth.served() {
		return "the feed follows another log"
	}
	if position.Sequence < head || position.Behind() {
		return fmt.Sprintf("the cursor is at %d of %d, behind %v", position.Sequence, head, position.Behind())
	}
	if depth > 0 || len(aside) > 0 {
		text := fmt.Sprintf("%d events are pending, %d records set aside", depth, len(aside))
		if len(aside) > 0 {
			text += fmt.Sprintf(": %+v", aside[0])
		}
		return text
	}
	for _, s := range states {
		if s.Cursor < head || s.Status != producer.Active {
			return fmt.Sprintf("subscription %s is %s at %d of %d: %s %s until %v", s.Name, s.Status, s.Cursor, head, s.Reason, s.LastError, s.HaltedUntil)
		}
	}
	if w.witness.arrived() < head {
		return fmt.Sprintf("the witness has got %d of %d", w.witness.arrived(), head)
	}
	return w.difference(c.store, feedName, copied)
}
