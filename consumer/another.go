package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/retry"
)

// resyncEvery bounds how often another log may cause a load.
const resyncEvery = time.Hour

// errRestored: the producer gives out numbers again that we have seen already. What we have stays as it is
// until the producer's log has another name; then everything is loaded again.
var errRestored = errors.New("the producer's log ends below our position: it was restored from a backup, and has to be told so there (resosync log new-id); " +
	"or an old copy answers in its place")

// gone says what a 410 for our position means. The producer is asked for its head, without our position.
func (f *Feed) gone(ctx context.Context, p entityevent.Position, reason error) error {
	head, err := f.head(ctx)
	switch {
	case err != nil:
		return reason
	case head.log != p.Log:
		return fmt.Errorf("%w: the head is of another log than the one followed", entityevent.ErrAnotherLog)
	case head.through < p.Sequence:
		return fmt.Errorf("%w: it ends at %d, we are at %d", errRestored, head.through, p.Sequence)
	}
	// It forgot what follows our position: only a load can tell what that was.
	return fmt.Errorf("%w: the producer no longer has what follows %d: %w", entityevent.ErrAnotherLog, p.Sequence, reason)
}

// checkHead recognises a producer without a log id that was set back: it has neither the event at our
// cursor nor one above, its newest is below, and all that still is so when asked again.
func (f *Feed) checkHead(ctx context.Context, cursor entityevent.Sequence) error {
	for range 2 {
		if cursor == 0 {
			return nil // nothing is below
		}
		last, err := f.eventsAfter(ctx, entityevent.Position{}, cursor-1, atOnce)
		if err != nil || last.log != "" || len(last.events) > 0 {
			return err
		}
		head, err := f.newest(ctx)
		if err != nil || head.log != "" || head.through >= cursor {
			return err
		}
		if err := retry.Sleep(ctx, f.Settle); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: the producer's newest event is below ours, %d", entityevent.ErrAnotherLog, cursor)
}

// resynchronise loads again because the producer has another log, at most once an hour. The replica is
// served meanwhile.
func (f *Feed) resynchronise(ctx context.Context) error {
	if err := hold(ctx, f.loading); err != nil {
		return err
	}
	defer func() { <-f.loading }()
	state, doc, err := f.loadState(ctx)
	if err != nil {
		return err
	}
	if f.resynced.IsZero() && !state.Resynced.IsZero() {
		f.resynced = state.Resynced
		if f.resynced.After(time.Now()) {
			// The clock was set back. From now on an hour counts, once, over restarts too.
			f.resynced = time.Now()
			state.Resynced = f.resynced
			if doc, err = f.save(ctx, doc, state); err != nil {
				return err
			}
		}
	}
	if wait := resyncEvery - time.Since(f.resynced); wait > 0 && !f.resynced.IsZero() {
		return fmt.Errorf("%w again: the feed was loaded for that reason at %s, and will be again after %s; if the url leads to several servers, give the url of one",
			entityevent.ErrAnotherLog, f.resynced.Format(time.TimeOnly), wait.Round(time.Minute))
	}
	now := time.Now() // with the monotonic clock, which nobody sets
	state.Resynced = now
	if err := f.begin(ctx, state, doc); err != nil {
		return err
	}
	f.resynced = now
	return f.finish(ctx)
}
