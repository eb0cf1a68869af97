package consumer

import (
	"context"
	"time"

	"github.com/resosync/resosync/entityevent/retry"
)

var reconcileBackoff = retry.Backoff{Min: 15 * time.Minute, Max: 6 * time.Hour}

// ReconcileOnSchedule runs Reconcile at the times of ReconcileAt, until ctx ends, which is no error. One that
// was cut goes on at once, and so does one whose time came while nothing ran. A pass that fails is tried
// again, ever more rarely.
func (f *Feed) ReconcileOnSchedule(ctx context.Context) error {
	if err := f.Check(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		wait, err := f.untilReconcile(ctx)
		if err == nil && wait > 0 {
			// The clock may be set meanwhile, or the feed be reconciled by somebody.
			f.rest(ctx, min(wait, 10*time.Minute))
			continue
		}
		if err == nil {
			_, err = f.Reconcile(ctx, ReconcileOptions{}, nil)
		}
		if ctx.Err() != nil {
			break
		}
		if failures := f.state.reconciled(f.Logger, err); failures > 0 {
			f.rest(ctx, reconcileBackoff.Delay(failures))
		}
	}
	return nil
}

// untilReconcile returns how long it is until the feed is to be reconciled by itself.
func (f *Feed) untilReconcile(ctx context.Context) (time.Duration, error) {
	const never = 24 * time.Hour
	load, _, err := f.loadState(ctx)
	if err != nil || f.reconcileAt == nil || !load.Loaded {
		return never, err
	}
	state, _, err := f.reconcileState(ctx)
	if err != nil {
		return 0, err
	}
	if !state.Begun.IsZero() {
		return 0, nil
	}
	now, last := time.Now(), load.Begun
	if state.Last != nil && state.Last.Began.After(last) {
		last = state.Last.Began
	}
	if last.After(now) {
		last = now // the clock was set back
	}
	return f.reconcileAt.Next(last.Local()).Sub(now), nil
}
