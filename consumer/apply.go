package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/retry"
)

const (
	takeItems    = 1000        // inbox items in one round
	takeMost     = 20_000      // when those before them do not get through
	commitRows   = 1000        // changes in one commit
	commitBytes  = 1 << 20     // and their size
	commitAfter  = time.Minute // of a producer that gives a request a second, what it gave is not kept back
	retryAside   = 200         // records set aside that one round tries again
	lookForAside = 15 * time.Second
	// lookForOverdue is how often what waits for too long is looked for: the clock may have been set back.
	lookForOverdue = 5 * time.Minute
	// asidePatience is how long a request of what is only tried again may keep what is new waiting.
	asidePatience = 15 * time.Second
)

var (
	applyBackoff  = retry.Backoff{Min: time.Second, Max: 15 * time.Minute}
	poisonBackoff = retry.Backoff{Min: time.Minute, Max: 6 * time.Hour}
)

// Apply brings the replica up to date with the inbox until ctx ends, which is no error. An event leaves
// the inbox in the transaction that writes its record. It may run while Follow loads, and what is received
// before the first load begins waits for that.
func (f *Feed) Apply(ctx context.Context) error {
	if err := f.Check(); err != nil {
		return err
	}
	limit := takeItems
	var looked time.Time
	for ctx.Err() == nil {
		var settled int
		var err error
		if looked.IsZero() || time.Since(looked) >= lookForOverdue {
			looked = time.Now()
			err = f.overdue(ctx)
		}
		if err == nil {
			settled, err = f.applyRound(ctx, limit)
		}
		if ctx.Err() != nil {
			break
		}
		failures := f.state.applied(f.Logger, settled, err)
		switch {
		case err != nil:
			// What does not get through must not hide the items behind it.
			limit = min(2*limit, takeMost)
			delay := pauseAfter(err, applyBackoff, failures)
			f.rest(ctx, min(delay, breath))
			f.idle(ctx, delay-breath)
		case settled == 0:
			limit = takeItems
			f.idle(ctx, lookForAside)
		}
	}
	return nil
}

// pauseAfter is how long to wait after a failure. Our own store is not spared: when its disk has room again
// the work goes on soon.
func pauseAfter(err error, b retry.Backoff, failures int) time.Duration {
	d := b.Delay(failures)
	if errors.Is(err, entityevent.ErrUnavailable) {
		return min(d, 10*time.Second)
	}
	return d
}

// rest waits after a failure.
func (f *Feed) rest(ctx context.Context, d time.Duration) {
	// The cause of an ended ctx is for the caller's loop to see.
	_ = retry.Sleep(ctx, d)
}

// idle waits until d has passed or something is received.
func (f *Feed) idle(ctx context.Context, d time.Duration) { doze(ctx, f.apply, d) }

// applyRound takes what is pending and due, and brings those records up to date. It returns how many
// records it settled, and the failure that kept it from the rest.
func (f *Feed) applyRound(ctx context.Context, limit int) (settled int, err error) {
	err = f.alone(ctx, func(r *round) error {
		settled, err = r.all(ctx, limit)
		return err
	})
	return settled, err
}

// alone carries out a round while no other is under way.
func (f *Feed) alone(ctx context.Context, do func(*round) error) error {
	if err := hold(ctx, f.applying); err != nil {
		return err
	}
	defer func() { <-f.applying }()
	r := &round{fetcher: fetcher{Feed: f}, begun: f.touched.begun()}
	defer r.close()
	position, err := f.Store.Position(ctx, f.Name)
	if err != nil {
		return err
	}
	r.follows, r.lagging = position.Started, position.Log == ""
	return do(r)
}

// all is a round of whatever is pending and due.
func (r *round) all(ctx context.Context, limit int) (settled int, err error) {
	start := time.Now()
	items, err := r.Store.Take(ctx, r.Name, limit)
	if err != nil {
		return 0, err
	}
	due, err := r.Store.Aside(ctx, r.Name, start, retryAside)
	if err != nil {
		return 0, err
	}
	if len(items)+len(due) == 0 {
		r.state.emptied(start)
		return 0, nil
	}
	if !r.follows {
		// Whoever pushes before anybody knows the producer's log would have its records asked for at the pace of a
		// producer without one, and the load that comes to know it waits for its turn behind them.
		return 0, nil
	}
	if err := r.recall(ctx); err != nil {
		return 0, err
	}
	r.full, r.stuck = len(items) == limit, len(items) == takeMost
	tasks, reviews := r.plan(items, due)
	switch err = r.run(ctx, tasks, reviews); {
	case errors.Is(err, errOvertaken):
		wake(r.Feed.apply) // what is still pending is asked for again
		err = nil
	case err == nil && !r.full:
		r.state.emptied(start)
	}
	r.stats.settled.Add(int64(r.settled))
	if done := len(items); done > 0 {
		if err != nil {
			done = min(done, r.settled)
		}
		r.state.rate(done, time.Since(start))
	}
	return r.settled, err
}
