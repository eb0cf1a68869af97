package task

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent/retry"
)

const (
	lookAgain  = 10 * time.Minute // when nothing is known to happen before
	whileBad   = 5 * time.Second  // until the store is asked again that could not answer
	maxPosting = 16               // posts under way
)

// Run does the tasks, posts their results, and drops them a day after their end, until ctx ends. It returns nil then,
// when nothing of that is under way any more; a task that it was at begins anew with the next Run. When the store fails it
// logs that and tries again.
func (t *Tasks) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer t.poster().CloseIdleConnections()
	defer work.Wait()
	swept, failing := false, false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, err := t.step(ctx, &work, &swept)
		if err != nil && ctx.Err() == nil {
			wait = whileBad
			if !failing {
				t.logger().ErrorContext(ctx, "tasks cannot go on", "err", err)
			}
		}
		failing = err != nil
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-t.woken():
		case <-timer.C:
		}
	}
}

// step begins what is due, and says when to look again at the latest.
func (t *Tasks) step(ctx context.Context, work *sync.WaitGroup, swept *bool) (time.Duration, error) {
	if err := t.open(ctx); err != nil {
		return 0, err
	}
	if !*swept {
		if err := t.sweepFiles(); err != nil {
			t.logger().WarnContext(ctx, "what is left of results cannot be removed", "err", err)
		}
		*swept = true
	}
	now := time.Now()
	next := now.Add(lookAgain)
	due := func(at time.Time) bool {
		if at.After(now) && at.Before(next) {
			next = at
		}
		return !at.After(now)
	}
	for _, k := range t.all() {
		s, stored := t.look(k)
		if stored && s.over() && due(s.Ended.Add(keepFor)) {
			if err := t.drop(ctx, k); err != nil {
				return 0, err
			}
		}
	}
	for _, k := range t.posts(due) {
		work.Go(func() { t.post(ctx, k) })
	}
	for _, k := range t.turns(due) {
		runs, cancel := context.WithCancelCause(ctx)
		t.mu.Lock()
		k.cancel = cancel
		t.mu.Unlock()
		work.Go(func() {
			defer cancel(nil)
			t.do(runs, k)
		})
	}
	return time.Until(next), nil
}

// all returns the tasks, oldest first.
func (t *Tasks) all() []*task {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*task, 0, len(t.tasks))
	for _, k := range t.tasks {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b *task) int { return strings.Compare(a.id, b.id) }) // the ids begin with the time
	return all
}

// look returns the state of a task, and whether it is stored.
func (t *Tasks) look(k *task) (state, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return k.state, k.version > 0
}

// turns returns the tasks whose turn it is: the oldest ones, but of the clients for whom the fewest run.
func (t *Tasks) turns(due func(time.Time) bool) []*task {
	all := t.all()
	t.mu.Lock()
	defer t.mu.Unlock()
	runs := map[string]int{}
	room := atATime
	for _, k := range all {
		if k.cancel != nil {
			runs[k.state.Client]++
			room--
		}
	}
	var turns []*task
	for ; room > 0; room-- {
		var next *task
		for _, k := range all {
			waits := k.version > 0 && k.state.Status == pending && k.cancel == nil && !slices.Contains(turns, k) && due(k.notUntil)
			if waits && (next == nil || runs[k.state.Client] < runs[next.state.Client]) {
				next = k
			}
		}
		if next == nil {
			break
		}
		runs[next.state.Client]++
		turns = append(turns, next)
	}
	return turns
}

// errCancelled is why a run ends whose task was cancelled.
var errCancelled = errors.New("the task was cancelled")

// byClient is why a task is cancelled whose client wants nothing more of it.
const byClient = "It was cancelled by its client"

// abandon cancels a task, or drops the result of one that ended. It does nothing to one that was cancelled. Who did not
// want that himself is told, if he has not been told of the end yet.
func (t *Tasks) abandon(ctx context.Context, k *task, why string) error {
	err := t.change(ctx, k, func(s *state) error {
		switch {
		case s.Status == cancelled || s.Status == failed:
			return errUnchanged
		case s.over():
			s.Status, s.Detail, s.Outcome = cancelled, why, outcome{}
		default:
			s.end(cancelled, why)
		}
		if s.Callback != nil && why == byClient {
			s.Callback.Done = true
		}
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return err
	}
	t.mu.Lock()
	cancel := k.cancel
	t.mu.Unlock()
	if cancel != nil {
		cancel(errCancelled)
	}
	return t.remove(k.id)
}

// settle is change for what must be told: while the store cannot take it, it is tried again until ctx ends, and then once
// more.
func (t *Tasks) settle(ctx context.Context, k *task, apply func(*state) error) {
	for attempt := 1; ; attempt++ {
		ended := ctx.Err() != nil
		err := t.change(context.WithoutCancel(ctx), k, apply)
		if err == nil || errors.Is(err, errUnchanged) || errors.Is(err, errNoTask) {
			return
		}
		if attempt == 1 {
			t.logger().ErrorContext(ctx, "what became of a task cannot be stored", "task", k.id, "err", err)
		}
		if ended {
			return
		}
		_ = retry.Sleep(ctx, whileBad) // at its end there is one more
	}
}
