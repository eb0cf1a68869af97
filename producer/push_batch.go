package producer

import (
	"context"
	"fmt"

	"github.com/resosync/resosync/entityevent"
)

// batch is what one push carries: all that the subscription may see in (after, through].
type batch struct {
	after, through entityevent.Sequence
	first, last    entityevent.Sequence // of its events
	events         int
	body           []byte
	more           bool // something may follow
	floor          entityevent.Sequence
}

// next returns the batch after the cursor: the one read ahead, if it is that.
func (r *run) next(ctx context.Context) (batch, error) {
	b := r.ahead
	r.ahead = batch{}
	if b.events > 0 && b.after == r.state.Cursor && b.events <= r.limit() {
		return b, nil
	}
	return r.read(ctx, r.state.Cursor, r.limit())
}

// readAhead reads what follows b while b is in flight, if something does. What it sends is empty if
// it could not: then the next turn reads it, and reports why not.
func (r *run) readAhead(ctx context.Context, b batch) <-chan batch {
	ahead := make(chan batch, 1)
	if !b.more || r.sub.Mode == OnlyOnce {
		ahead <- batch{}
		return ahead
	}
	limit := r.limit()
	go func() {
		following, err := r.read(ctx, b.through, limit)
		if err != nil {
			following = batch{}
		}
		ahead <- following
	}()
	return ahead
}

// limit returns how many events a push may carry now.
func (r *run) limit() int {
	if l := r.state.BatchLimit; l > 0 && l < r.sub.BatchEvents {
		return l
	}
	return r.sub.BatchEvents
}

// read builds the batch after a position.
func (r *run) read(ctx context.Context, after entityevent.Sequence, limit int) (batch, error) {
	q := entityevent.EventQuery{After: after, Limit: limit, Filter: r.filter}
	if r.sub.Mode == OnlyOnce && r.state.BatchEnd > after {
		q.Before = r.state.BatchEnd + 1
	}
	page, err := r.Store.Events(ctx, r.view, q)
	if err != nil {
		return batch{}, fmt.Errorf("read events after %d: %w", after, err)
	}
	if len(page.Events) == 0 && q.Before > 0 && !page.More {
		r.state.BatchEnd = 0 // of what was to be delivered nothing is left
		return r.read(ctx, after, limit)
	}
	b := batch{after: after, through: page.Through, events: len(page.Events), more: page.More, floor: page.Floor}
	if b.events == 0 {
		return b, nil
	}
	b.body = r.form.append(make([]byte, 0, 256+min(len(page.Events), limit)*(128+len(r.form.root))), page.Events)
	for len(b.body) > r.sub.BatchBytes && b.events > 1 {
		// As many as would fit if all were of one size, and always fewer.
		b.events = max(1, min(b.events-1, b.events*r.sub.BatchBytes/len(b.body)))
		b.through, b.more = page.Events[b.events-1].Sequence, true
		b.body = r.form.append(b.body[:0], page.Events[:b.events])
	}
	b.first, b.last = page.Events[0].Sequence, page.Events[b.events-1].Sequence
	return b, nil
}
