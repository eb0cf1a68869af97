package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// SyncOptions say how Sync goes about it.
type SyncOptions struct {
	Full bool // load every resource anew; the replica is served meanwhile
}

// progressEvery is how often Sync reports.
const progressEvery = 200 * time.Millisecond

// Sync catches up once: it loads what was never loaded, receives what the producer's log holds, and
// applies what was received. It returns when the replica is level with the head that the producer had at
// the start, or with the failure that it could not get past by asking again. It may run beside Follow and
// Apply. It calls progress, if it is not nil, several times a second and once at the end.
func (f *Feed) Sync(ctx context.Context, o SyncOptions, progress func(Progress)) error {
	if err := f.Check(); err != nil {
		return err
	}
	if progress != nil {
		defer f.report(ctx, progress)()
	}
	loadErr := f.startSync(ctx, o)
	var incomplete *partial
	if loadErr != nil && !errors.As(loadErr, &incomplete) {
		return loadErr
	}
	head, err := f.newest(ctx)
	if err != nil {
		return err
	}
	for {
		end, err := f.catchUp(ctx, false, toTheEnd)
		if err != nil && !errors.As(err, &incomplete) {
			return err
		}
		level := end.Sequence >= head.through || !end.Unsettled
		if err := f.empty(ctx, head.through); err != nil {
			return err
		}
		if level {
			return loadErr
		}
		if end.over {
			f.rest(ctx, f.Settle)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

func (f *Feed) startSync(ctx context.Context, o SyncOptions) error {
	if o.Full {
		return f.reload(ctx)
	}
	return f.load(ctx)
}

// empty applies until nothing at or below a position is pending.
func (f *Feed) empty(ctx context.Context, through entityevent.Sequence) error {
	for {
		if _, err := f.applyRound(ctx, takeItems); err != nil {
			return err
		}
		oldest, err := f.Store.Take(ctx, f.Name, 1)
		if err != nil || len(oldest) == 0 || oldest[0].Sequence > through {
			return err
		}
	}
}

// report calls progress until the function that it returns is called.
func (f *Feed) report(ctx context.Context, progress func(Progress)) (stop func()) {
	now := func() {
		p := f.state.done()
		if n, err := f.Store.Depth(ctx, f.Name); err == nil {
			p.Pending = n
		}
		progress(p)
	}
	quit, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		t := time.NewTicker(progressEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				now()
			case <-quit:
				now()
				return
			}
		}
	}()
	return func() { close(quit); <-over }
}
