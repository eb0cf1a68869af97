package consumer

import (
	"context"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"
)

// longestHalt bounds what a producer may ask us to wait (Retry-After): it is asked again after a day
// even if it said a year.
const longestHalt = 24 * time.Hour

// errand is what a request is for. Where few may be sent, those of an earlier errand go first.
type errand uint8

const (
	forInbox     errand = iota // what received events name
	forPoll                    // the log
	forLoad                    // records, for a load
	forReconcile               // keys and timestamps
	errands                    // how many errands there are
)

// pace holds all requests of a feed to what the producer wants: none of those that its 429 or 503 speaks of before the
// time that it named, no more than the rate, and no more than the budget. Whoever hammers after a 429 loses the token.
type pace struct {
	interval time.Duration // between two requests, unless free
	budget   *budget
	stats    *stats

	mu      sync.Mutex
	free    bool           // the producer sends a log id: no rate of ours
	halts   [concerns]halt // the producer's, by what it refuses
	slot    time.Time      // when the rate allows the next request
	queue   []*turn        // who waits, in the order in which they go
	changed chan struct{}
}

// turn is one request that waits to be sent.
type turn struct {
	errand errand
	passed int // how many of earlier errands went before it, that came later
}

// pollPassed is how many requests a poll lets go before it. However much is pending, the agent has to know
// whether the producer answers, and what is new.
const pollPassed = 30

func newPace(perSecond float64, b *budget, s *stats) *pace {
	return &pace{interval: time.Duration(float64(time.Second) / perSecond), budget: b, stats: s, changed: make(chan struct{})}
}

// wait blocks until a request may be sent. Of those that wait the first of the earliest errand goes; it
// never waits for one that was there before it on a later errand.
func (p *pace) wait(ctx context.Context, e errand) error {
	if err := p.open(ctx); err != nil {
		return err
	}
	t := p.join(e)
	defer p.leave(t)
	for {
		delay, reserve, changed := p.next(t)
		switch {
		case reserve:
			if err := p.reserve(ctx); err != nil {
				return err
			}
		case delay <= 0:
			return context.Cause(ctx)
		default:
			if err := await(ctx, delay, changed); err != nil {
				return err
			}
		}
	}
}

// await blocks until d has passed, changed is closed, or ctx ends; then it returns ctx's cause.
func await(ctx context.Context, d time.Duration, changed <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-changed:
	case <-ctx.Done():
	}
	return context.Cause(ctx)
}

func (p *pace) join(e errand) *turn {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := &turn{errand: e}
	at := slices.IndexFunc(p.queue, func(q *turn) bool { return q.errand > e })
	if at < 0 {
		at = len(p.queue)
	}
	p.queue = slices.Insert(p.queue, at, t)
	return t
}

func (p *pace) leave(t *turn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = slices.DeleteFunc(p.queue, func(q *turn) bool { return q == t })
	p.wakeAll()
}

// wakeAll lets everybody who waits look again. The caller holds mu.
func (p *pace) wakeAll() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// first is whose turn is next. The caller holds mu.
func (p *pace) first() *turn {
	for _, q := range p.queue {
		if q.errand == forPoll && q.passed >= pollPassed {
			return q
		}
	}
	return p.queue[0]
}

// next says how long t has to wait, at least until changed is closed. When that is no time it counts the
// request as sent; or the budget has to be written down first.
func (p *pace) next(t *turn) (delay time.Duration, reserve bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first() != t {
		return math.MaxInt64, false, p.changed
	}
	now := time.Now()
	delay = max(p.halts[everything].until.Sub(now), p.budget.delay(now, t.errand, p.free))
	// What refused lately is not taken by storm, whoever it is.
	if !p.free || p.halts[everything].refusals > 0 {
		delay = max(delay, p.slot.Sub(now))
	}
	if delay > 0 {
		return delay, false, p.changed
	}
	if !p.budget.take(p.free) {
		return 0, true, nil
	}
	p.slot = now.Add(p.interval)
	for _, q := range p.queue {
		if q.errand > t.errand {
			q.passed++
		}
	}
	p.stats.requests.Add(1)
	return 0, false, nil
}

// saw learns from an answer to a request of a kind. It says whether that has to be written down.
func (p *pace) saw(resp *http.Response, c concern) (note bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := &p.halts[everything]
	if !halts(resp.StatusCode) {
		p.halts[c].refusals = 0
		note = all.refusals > 0
		all.refusals = 0
		return note
	}
	p.stats.halts.Add(1)
	p.halts[c].refused(resp)
	p.wakeAll()
	return c == everything
}

// named says whether the producer sends a log id.
func (p *pace) named(named bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free != named {
		p.free = named
		p.wakeAll()
	}
}

// isNamed says whether the producer sends a log id, as far as is known.
func (p *pace) isNamed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.free
}

// halted returns until when no requests are sent, because the producer wants none or the budget is spent;
// zero if they are.
func (p *pace) halted() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	d := max(p.halts[everything].until.Sub(now), p.budget.delay(now, forInbox, p.free))
	if d <= 0 {
		return time.Time{}
	}
	return now.Add(d)
}
