package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent/retry"
)

// concern is what a refusal of a request speaks of.
//
// A 429 or 503 does not say whether it is about all requests. One of records or of the log is taken for that. One of what
// is optional ends this alone, for as long as it says: if more was meant, the next request is told so.
type concern uint8

const (
	everything concern = iota // records and the log
	holding                   // Prefer: wait
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

// concernOf is what a request with this answer speaks of. Only a 503 may say that nothing can be held: a 429 counts requests,
// however long they last.
func concernOf(req *http.Request, status int) concern {
	switch {
	case status != http.StatusTooManyRequests && asksToHold(req.Header):
		return holding
	case isOfTask(req.Context()):
		return tasking
	}
	return everything
}

// asksToHold says whether a request asks to be held (RFC 7240, 4.3).
func asksToHold(h http.Header) bool { return strings.Contains(h.Get("Prefer"), "wait=") }

// unheld drops the wish to be held, and leaves the others.
func unheld(h http.Header) {
	var others []string
	for _, p := range strings.Split(h.Get("Prefer"), ", ") {
		if !strings.HasPrefix(p, "wait=") {
			others = append(others, p)
		}
	}
	h.Del("Prefer")
	if len(others) > 0 {
		h.Set("Prefer", strings.Join(others, ", "))
	}
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

// haltOf returns until when there are to be no requests of a kind.
func (p *pace) haltOf(c concern) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.halts[c].until
}

// mayHold says whether a request may ask to be held.
func (p *pace) mayHold() bool { return !time.Now().Before(p.haltOf(holding)) }
