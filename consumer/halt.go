package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/resosync/resosync/entityevent/retry"
)

// concern is what a refusal of a request speaks of.
//
// A 429 or 503 does not say whether it is about all requests. One of records or of the log is taken for that, also where
// it was asked to hold its answer. One of tasks, which are optional, ends these alone, for as long as it says: if more was
// meant, the next request is told so.
type concern uint8

const (
	everything concern = iota // records and the log
	tasking                   // long-running tasks
	concerns                  // how many there are
)

// halt is how the producer refuses requests.
type halt struct {
	until    time.Time // nothing before
	refusals int       // in a row
	why      *refusal  // the last one, if it was read
}

// pardon is the wait after a 429 or 503 that names none.
var pardon = retry.Backoff{Min: 2 * time.Second, Max: 15 * time.Minute}

// refused learns from a 429 or 503.
func (h *halt) refused(resp *http.Response) {
	h.refusals++
	h.why = nil
	now := time.Now()
	halt, told := retry.After(resp.Header.Get("Retry-After"), now)
	if !told || halt <= 0 {
		halt = pardon.Delay(h.refusals)
	}
	if until := now.Add(min(halt, longestHalt)); until.After(h.until) {
		h.until = until
	}
}

func halts(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}

// taskKey marks the contexts of requests for tasks.
type taskKey struct{}

// ofTask returns a context for requests for tasks.
func ofTask(ctx context.Context) context.Context {
	return context.WithValue(ctx, taskKey{}, true)
}

func isOfTask(ctx context.Context) bool { return ctx.Value(taskKey{}) != nil }

// concernOf is what a refusal of a request speaks of.
func concernOf(req *http.Request) concern {
	if isOfTask(req.Context()) {
		return tasking
	}
	return everything
}

// errNoTasks: the producer wants no requests for tasks for longer than one waits for that. It is a refusal.
var errNoTasks = errors.New("the producer wants no requests for tasks")

// waitForTasks blocks until requests for tasks are wanted, if that is soon.
func (p *pace) waitForTasks(ctx context.Context) error {
	for {
		p.mu.Lock()
		h := p.halts[tasking]
		p.mu.Unlock()
		wait := time.Until(h.until)
		if wait > jobWait {
			return fmt.Errorf("%w before %s: %w", errNoTasks, h.until.Format(time.DateTime), cmp.Or(h.why, &refusal{Status: http.StatusTooManyRequests, Proper: true}))
		}
		if wait <= 0 {
			return nil
		}
		if err := retry.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// noTasks remembers why a task was refused.
func (p *pace) noTasks(why *refusal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.halts[tasking].why = why
}
