package consumer

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// revives remembers how often the subscription was resumed without a push that was taken since.
type revives struct {
	from  entityevent.Sequence // where it was resumed
	tries int
	next  time.Time
}

// standstill remembers since when a subscription stands still while there is something to push.
type standstill struct {
	at    entityevent.Sequence
	ours  entityevent.Sequence // where the feed stood at the first look that found it there
	looks int                  // that did so since
}

// tell gives the producer the terms and the token in full, whatever it has: after a restore that is what it had long
// ago, and with a new key it can read neither.
func (r *registrar) tell(ctx context.Context, p entityevent.Position) (time.Duration, error) {
	if err := r.prepare(ctx, sending{To: r.now.Self, Log: p.Log}); err != nil {
		return 0, err
	}
	return r.deliver(ctx)
}

// toldJustNow says that a look comes right after the terms were taken: it shows whether that helped.
func (r *registrar) toldJustNow() bool { return time.Since(r.told) < lookEvery/2 }

// standsStill says whether it is time to do something about a subscription that did not move since an earlier look,
// though the feed had by then polled more than was pushed: at the second look, and ever more rarely after that.
func (r *registrar) standsStill(p entityevent.Position, is subscription) bool {
	if s := &r.stands; is.Cursor != s.at || s.ours <= s.at {
		*s = standstill{at: is.Cursor, ours: p.Sequence}
		return false
	}
	r.stands.looks++
	return r.stands.looks&(r.stands.looks-1) == 0
}

// resume lets the producer push again, once pushes can be stored: it is told the terms, which ends a suspension if it
// had others, and else that it may go on. What the feed has already it is not pushed again; what it lacks below the
// subscription's cursor, polls fetch: the first push does not follow on the feed's cursor.
func (r *registrar) resume(ctx context.Context, p entityevent.Position, is subscription) (time.Duration, error) {
	if is.Cursor > r.revives.from {
		r.revives = revives{} // a push was taken since
	}
	if r.refuses == 0 { // else what was refused is to be read
		r.is(Suspended, is.why())
	}
	if left := time.Until(r.revives.next); left > 0 {
		return min(left, lookEvery), nil
	}
	pending, err := r.Store.Depth(ctx, r.Name)
	if err != nil {
		return 0, err
	}
	if pending >= cmp.Or(max(r.MaxPending, 0), maxPending) {
		return lookEvery, nil
	}
	if !r.toldJustNow() { // a store that takes that takes pushes
		return r.tell(ctx, p)
	}
	var body any
	if p.Sequence > is.Cursor {
		body = map[string]any{"fromSequence": p.Sequence}
	}
	r.revives.from = max(p.Sequence, is.Cursor)
	r.revives.tries++
	r.revives.next = time.Now().Add(registerBackoff.Delay(r.revives.tries + 6)) // from a minute on
	_, err = r.ask(ctx, http.MethodPost, r.now.Self+"/resume", body, nil)
	if refused(err, http.StatusUnprocessableEntity) {
		// Its log ends below our cursor: that is for the polls to find out.
		_, err = r.ask(ctx, http.MethodPost, r.now.Self+"/resume", nil, nil)
	}
	switch {
	case settled(err):
		return r.refuse(err)
	case err != nil:
		r.pending(err)
		return 0, err
	}
	r.refuses = 0
	r.is(Registered, "")
	r.Logger.Info("resumed", "subscription", r.now.UUID, "seq", r.revives.from, "was", is.why())
	return lookEvery, nil
}
