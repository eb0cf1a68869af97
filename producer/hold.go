package producer

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// Those who were held together must not come back together: a hold of jitterFrom and more ends up to a tenth
// early, and Drain spreads its answers.
const (
	jitterFrom  = 10 * time.Second
	drainEach   = 200 * time.Microsecond // for each that is held
	drainWithin = 2 * time.Second
)

// holds are the requests that are held for news. The zero holds are ready to use.
type holds struct {
	mu      sync.Mutex
	drained bool
	begun   uint64 // how many there were
	held    map[*hold]struct{}
	shared  map[wish]*sharedPage
}

// hold is one request that is held until a time, news, or Drain.
type hold struct {
	n     uint64 // of all that were begun
	ends  time.Time
	timer *time.Timer // cancels the context of the hold
}

// begin holds a request for a time. Its end must be called.
func (h *holds) begin(ctx context.Context, d time.Duration) (held context.Context, end func()) {
	held, cancel := context.WithCancel(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun++
	if d >= jitterFrom {
		d -= jitter(h.begun, d/10)
	}
	this := &hold{n: h.begun, ends: time.Now().Add(d)}
	if h.drained {
		cancel()
		return held, cancel
	}
	this.timer = time.AfterFunc(d, cancel)
	if h.held == nil {
		h.held = map[*hold]struct{}{}
	}
	h.held[this] = struct{}{}
	return held, func() {
		cancel()
		this.timer.Stop()
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.held, this)
	}
}

// drain ends all holds within a short while, and begins no more.
func (h *holds) drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drained = true
	spread := min(time.Duration(len(h.held))*drainEach, drainWithin)
	for this := range h.held {
		this.timer.Reset(min(jitter(this.n, spread), time.Until(this.ends)))
	}
}

// jitter spreads those that come one after another over d: multiples of the golden ratio leave no gap and are as good as
// random, and they are the same whenever the same happens.
func jitter(n uint64, d time.Duration) time.Duration {
	const golden = 0x9E3779B97F4A7C15 // of 2^64
	return time.Duration(float64(n*golden) / (1 << 64) * float64(d))
}

// wish is what a held request asks for, but for its position.
type wish struct {
	mask   entityevent.Mask
	before int64
	filter string
	limit  int
}

// sharedPage is read once for all who are woken by the same event, and what they ask for is the same.
type sharedPage struct {
	members int
	after   int64         // the lowest position of a member: nobody waits for what is between it and another's
	ready   chan struct{} // nil: nobody reads it yet; closed when it was read
	page    entityevent.Page
	err     error
}

// join makes a request share what is read for a wish.
func (h *holds) join(w wish, after int64) *sharedPage {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.shared[w]
	if s == nil {
		s = &sharedPage{after: after}
		if h.shared == nil {
			h.shared = map[wish]*sharedPage{}
		}
		h.shared[w] = s
	}
	s.members++
	s.after = min(s.after, after)
	return s
}

// leave ends what join began, for a request that was not woken.
func (h *holds) leave(w wish, s *sharedPage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.members--; s.members == 0 && h.shared[w] == s {
		delete(h.shared, w)
	}
}

// read returns what follows a position, in the page that all who share it have: the first one reads it.
func (h *holds) read(w wish, s *sharedPage, after int64, gather func(after int64) (entityevent.Page, error)) (entityevent.Page, error) {
	h.mu.Lock()
	first := s.ready == nil
	if first {
		s.ready = make(chan struct{})
		if h.shared[w] == s { // who comes now waits for another event
			delete(h.shared, w)
		}
	}
	h.mu.Unlock()
	if first {
		s.page, s.err = gather(s.after)
		close(s.ready)
	}
	<-s.ready
	page := s.page
	if s.err != nil || int64(page.Through) <= after { // it came too late for that page
		return gather(after)
	}
	for len(page.Events) > 0 && int64(page.Events[0].Sequence) <= after {
		page.Events = page.Events[1:]
	}
	return page, nil
}

// hold waits until an event matches, the preferred time is over, or the server drains. Its page is empty.
func (x *exchange) hold(q eventQuery, w window, page entityevent.Page) (entityevent.Page, error) {
	ctx, end := x.holds.begin(x.r.Context(), time.Duration(x.prefer.wait)*time.Second)
	defer end()
	same := wish{mask: x.view.Mask, before: q.before, limit: w.limit}
	if q.filter != nil {
		same.filter = q.filter.String()
	}
	gather := func(after int64) (entityevent.Page, error) {
		q := q
		q.after = after
		// One reads for many, so not only as long as its own client is there.
		return x.gather(context.WithoutCancel(ctx), q, w, entityevent.OldestFirst)
	}
	for len(page.Events) == 0 {
		page.Events = nil // a parked request holds no memory that it does not need
		q.after = max(q.after, int64(page.Through))
		shared := x.holds.join(same, q.after)
		err := x.Store.Wait(ctx, x.view, q.query(entityevent.OldestFirst, 1))
		if err == nil {
			page, err = x.holds.read(same, shared, q.after, gather)
			if err != nil {
				return page, err
			}
			continue
		}
		x.holds.leave(same, shared)
		switch {
		case x.r.Context().Err() != nil:
			return page, x.r.Context().Err()
		case ctx.Err() != nil && page.Log != x.Store.LogID():
			return gather(q.after) // the log was named anew meanwhile
		case ctx.Err() != nil, errors.Is(err, entityevent.ErrClosed):
			return page, nil
		}
		return page, err
	}
	return page, nil
}
