package producer

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/odata"
)

// Those who were held together must not come back together: a hold of jitterFrom and more ends up to a tenth
// early, and Drain spreads its answers.
const (
	jitterFrom  = 10 * time.Second
	drainEach   = 200 * time.Microsecond // for each that is held
	drainWithin = 2 * time.Second
)

// maxHeld is how many requests are held at a time: they take some 24 KB each. A quarter of them is
// for others than the client that has most, lest it keep all from waiting.
const (
	maxHeld   = 20_000
	forOthers = 4 // a quarter
)

// Holds are the requests that are held for news. Several servers and handlers may share one. The zero Holds are ready to
// use.
type Holds struct {
	Most int // at a time, three quarters of them of one client. Each takes a file of the process. Default 20,000.

	mu      sync.Mutex
	drained bool
	begun   uint64 // how many there were
	held    map[*Hold]struct{}
	of      map[string]int // how many of each client are held
}

// Hold is one request that is held until a time, news, or Drain. There may be very many: a timer takes a quarter of the
// memory of a context of its own.
type Hold struct {
	C <-chan time.Time // receives when the hold is over. It suits entityevent.EventQuery.End.

	n      uint64 // of all that were begun
	client string
	ends   time.Time
	timer  *time.Timer
}

// Limit is how many may be held at a time.
func (h *Holds) Limit() int { return cmp.Or(h.Most, maxHeld) }

// Begin holds a request of a client for a time, of which it takes off up to a tenth lest many end at once. The hold must be
// given to End. It is nil when too many are held, or too many of this client: the one who asks is refused then, and his
// connection closed, for it takes a file as well. After Drain it is over at once.
func (h *Holds) Begin(client string, d time.Duration) *Hold {
	h.mu.Lock()
	defer h.mu.Unlock()
	most := h.Limit()
	if len(h.held) >= most || h.of[client] >= most-most/forOthers {
		return nil
	}
	h.begun++
	if d >= jitterFrom {
		d -= jitter(h.begun, d/10)
	}
	if h.drained {
		d = 0
	}
	timer := time.NewTimer(d)
	this := &Hold{C: timer.C, n: h.begun, client: client, ends: time.Now().Add(d), timer: timer}
	if h.held == nil {
		h.held, h.of = map[*Hold]struct{}{}, map[string]int{}
	}
	h.held[this] = struct{}{}
	h.of[client]++
	return this
}

// Cut makes a hold be over now.
func (h *Hold) Cut() { h.timer.Reset(0) }

// End forgets a hold.
func (h *Holds) End(this *Hold) {
	this.timer.Stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.held, this)
	if h.of[this.client]--; h.of[this.client] == 0 {
		delete(h.of, this.client)
	}
}

// Len returns how many requests are held.
func (h *Holds) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.held)
}

// Drain ends all holds, many of them over two seconds, and those that begin later at once.
func (h *Holds) Drain() {
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

// shares are the pages that held requests read together.
type shares struct {
	mu     sync.Mutex
	shared map[wish]*sharedPage
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
func (h *shares) join(w wish, after entityevent.Sequence) *sharedPage {
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
func (h *shares) leave(s *sharedPage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.members--; s.members == 0 && h.shared[s.wish] == s {
		delete(h.shared, s.wish)
	}
}

// read returns what follows a position, in the page that all who share it have: the first one reads it.
func (h *shares) read(s *sharedPage, after entityevent.Sequence, gather func(after entityevent.Sequence) (entityevent.Page, error)) (entityevent.Page, error) {
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
	hold   *Hold
	query  entityevent.EventQuery // what it waits for
	shared *sharedPage
	page   entityevent.Page // empty
}

// pause begins to hold a request whose page is empty.
func (x *exchange) pause(a *eventAsk, page entityevent.Page) error {
	p := &pause{ask: a, query: a.query(entityevent.OldestFirst, 1)}
	w := wish{mask: x.view.Mask, before: a.before, limit: a.w.limit}
	if a.filter != nil {
		w.filter = a.filter.String()
	}
	if p.hold = x.holds().Begin(x.client.Name, time.Duration(x.prefer.wait)*time.Second); p.hold == nil {
		h := x.w.Header()
		h.Del("Preference-Applied")
		h.Set("Retry-After", "30")
		h.Set("Connection", "close")
		return &odata.Error{Status: http.StatusServiceUnavailable, Message: "Too many requests wait for news here, or too many of yours: ask again after the time in Retry-After, or without Prefer: wait"}
	}
	p.query.End = p.hold.C
	x.wait(p, w, page)
	return nil
}

// wait waits for what follows an empty page.
func (x *exchange) wait(p *pause, w wish, page entityevent.Page) {
	p.page = page
	p.query.After = max(p.query.After, page.Through)
	p.shared = x.shares.join(w, p.query.After)
	x.paused = p
}

// goOn goes on when the wait has ended: it answers, or waits again.
func (x *exchange) goOn(p *pause, waited error) error {
	x.paused = nil
	defer func() {
		if x.paused == nil {
			x.holds().End(p.hold)
		}
	}()
	gather := func(after entityevent.Sequence) (entityevent.Page, error) {
		q := p.ask.eventQuery
		q.after = int64(after)
		// One reads for many, so not only as long as its own client is there.
		return x.gather(context.WithoutCancel(x.r.Context()), q, p.ask.w, entityevent.OldestFirst)
	}
	if waited == nil {
		page, err := x.shares.read(p.shared, p.query.After, gather)
		switch {
		case err != nil:
			return err
		case len(page.Events) == 0:
			x.wait(p, p.shared.wish, page)
			return nil
		}
		return x.answerHeld(p, page)
	}
	x.shares.leave(p.shared)
	switch {
	case errors.Is(waited, entityevent.ErrEnded) && p.page.Log != x.Store.LogID(): // it was named anew meanwhile
		page, err := gather(p.query.After)
		if err != nil {
			return err
		}
		return x.answerHeld(p, page)
	case errors.Is(waited, entityevent.ErrEnded), errors.Is(waited, entityevent.ErrClosed):
		return x.answerHeld(p, p.page)
	}
	return waited
}

// answerHeld answers a request that was held. Its client may have been revoked meanwhile, and is told nothing then.
func (x *exchange) answerHeld(p *pause, page entityevent.Page) error {
	if len(page.Events) > 0 {
		if _, err := x.Gate.Admit(x.r, bearer.ScopeRead); err != nil {
			x.w.Header().Del("Preference-Applied")
			return err
		}
		if p.ask.count >= 0 { // it was of the time before
			q := p.ask.eventQuery
			q.after = p.ask.began
			n, err := x.countOfEvents(q)
			if err != nil {
				return err
			}
			p.ask.count = n
		}
	}
	return x.answerEvents(p.ask, page)
}

// answer answers a request, which may be held for news meanwhile.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, version string) error {
	x := &exchange{}
	err := s.serve(w, r, version, x)
	for err == nil && x.paused != nil {
		err = x.goOn(x.paused, s.Store.Wait(r.Context(), x.view, x.paused.query))
	}
	return err
}
