package producer

import (
	"context"
	"errors"
	"net/http"
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
	wish    wish
	members int
	after   entityevent.Sequence // the lowest position of a member: nobody waits for what is between it and another's
	ready   chan struct{}        // nil: nobody reads it yet; closed when it was read
	page    entityevent.Page
	err     error
}

// join makes a request share what is read for a wish.
func (h *holds) join(w wish, after entityevent.Sequence) *sharedPage {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.shared[w]
	if s == nil {
		s = &sharedPage{wish: w, after: after}
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
func (h *holds) leave(s *sharedPage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.members--; s.members == 0 && h.shared[s.wish] == s {
		delete(h.shared, s.wish)
	}
}

// read returns what follows a position, in the page that all who share it have: the first one reads it.
func (h *holds) read(s *sharedPage, after entityevent.Sequence, gather func(after entityevent.Sequence) (entityevent.Page, error)) (entityevent.Page, error) {
	h.mu.Lock()
	first := s.ready == nil
	if first {
		s.ready = make(chan struct{})
		if h.shared[s.wish] == s { // who comes now waits for another event
			delete(h.shared, s.wish)
		}
	}
	h.mu.Unlock()
	if first {
		s.page, s.err = gather(s.after)
		close(s.ready)
	}
	<-s.ready
	page := s.page
	if s.err != nil || page.Through <= after { // it came too late for that page
		return gather(after)
	}
	for len(page.Events) > 0 && page.Events[0].Sequence <= after {
		page.Events = page.Events[1:]
	}
	return page, nil
}

// pause is a request that is held.
type pause struct {
	ask    *eventAsk
	ctx    context.Context
	end    func()
	query  entityevent.EventQuery // what it waits for
	shared *sharedPage
	page   entityevent.Page // empty
}

// pause begins to hold a request whose page is empty.
func (x *exchange) pause(a *eventAsk, page entityevent.Page) {
	p := &pause{ask: a, query: a.query(entityevent.OldestFirst, 1)}
	w := wish{mask: x.view.Mask, before: a.before, limit: a.w.limit}
	if a.filter != nil {
		w.filter = a.filter.String()
	}
	p.ctx, p.end = x.holds.begin(x.r.Context(), time.Duration(x.prefer.wait)*time.Second)
	x.wait(p, w, page)
}

// wait waits for what follows an empty page.
func (x *exchange) wait(p *pause, w wish, page entityevent.Page) {
	p.page = page
	p.query.After = max(p.query.After, page.Through)
	p.shared = x.holds.join(w, p.query.After)
	x.paused = p
}

// goOn goes on when the wait has ended: it answers, or waits again.
func (x *exchange) goOn(p *pause, waited error) error {
	x.paused = nil
	defer func() {
		if x.paused == nil {
			p.end()
		}
	}()
	gather := func(after entityevent.Sequence) (entityevent.Page, error) {
		q := p.ask.eventQuery
		q.after = int64(after)
		// One reads for many, so not only as long as its own client is there.
		return x.gather(context.WithoutCancel(p.ctx), q, p.ask.w, entityevent.OldestFirst)
	}
	if waited == nil {
		page, err := x.holds.read(p.shared, p.query.After, gather)
		switch {
		case err != nil:
			return err
		case len(page.Events) == 0:
			x.wait(p, p.shared.wish, page)
			return nil
		}
		return x.answerEvents(p.ask, page)
	}
	x.holds.leave(p.shared)
	switch {
	case x.r.Context().Err() != nil:
		return x.r.Context().Err()
	case p.ctx.Err() != nil && p.page.Log != x.Store.LogID(): // it was named anew meanwhile
		page, err := gather(p.query.After)
		if err != nil {
			return err
		}
		return x.answerEvents(p.ask, page)
	case p.ctx.Err() == nil && !errors.Is(waited, entityevent.ErrClosed):
		return waited
	}
	return x.answerEvents(p.ask, p.page)
}

// answer answers a request, which may be held for news meanwhile.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, version string) error {
	x := &exchange{}
	err := s.serve(w, r, version, x)
	for err == nil && x.paused != nil {
		err = x.goOn(x.paused, s.Store.Wait(x.paused.ctx, x.view, x.paused.query))
	}
	return err
}
