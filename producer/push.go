package producer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/retry"
)

// Pusher pushes one feed's events to one subscription (RCP-28): strictly in order, one batch in flight,
// from the position that is kept in the store. A batch that is not acknowledged comes again, so the
// subscriber sees every event at least once; none is ever skipped, and nothing is dropped after a last
// attempt: the subscription is suspended where it stands.
//
// EntityEvent-After: a and EntityEvent-Through: b promise that the body holds every event in (a, b]
// that a poll by the same client would show, and a is the b of the last acknowledged push.
//
// A wait that a subscriber asked for, and every failure, is stored before it begins. The position is
// stored at most 100 ms after it moved, and when Run ends: a crash repeats pushes and skips none.
//
// While there is nothing to push it waits for the next event, or for Wake, without a timer and without
// reading the store; a suspended one waits for Wake alone.
type Pusher struct {
	Store        Store
	Subscription Subscription
	HTTP         *http.Client  // Default CallbackDialer{}.Client(). It must not retry; redirects are not followed whatever it says.
	Turns        *Turns        // of pushes under way; may be shared. nil: it waits for none.
	Backoff      retry.Backoff // Default 1s to 15min.
	SuspendAfter time.Duration // of failure without one success; also the longest wait that a subscriber may ask for. Default 24h.
	UserAgent    string        // Default "resosync".
	Logger       *slog.Logger  // Default: discards.
	// Changed is called with the state whenever its Status was changed, after that was stored, by whomever. It should
	// return soon, for nothing is pushed meanwhile. nil: nobody asks.
	Changed func(SubscriptionState)

	mu        sync.Mutex
	woken     bool
	interrupt context.CancelFunc // ends the wait under way
	counts    counts
}

// storeBackoff is ours, not the subscriber's: what can be pushed again is not kept back for long.
var storeBackoff = retry.Backoff{Min: time.Second, Max: 10 * time.Second}

const (
	positionDelay = 100 * time.Millisecond // how long a position may stay unwritten
	lookAgain     = 30 * time.Second       // how long a halt lasts before the clock is looked at again
)

// Run pushes until ctx ends or the subscription is cancelled, and then returns nil. A subscription that has
// no state yet begins at the head of the log. When the store fails, Run logs it and tries again. It returns an error only for a
// Subscription that can never work. Only one Run of a subscription may be under way.
func (p *Pusher) Run(ctx context.Context) error {
	r, err := p.newRun()
	if err != nil {
		return err
	}
	defer r.end(ctx)
	for failures := 0; ctx.Err() == nil && r.state.Status != Cancelled; {
		err := r.turn(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(err, entityevent.ErrConflict):
			r.stale = true // somebody else changed the state: the next turn takes it over
		case err != nil:
			if failures++; failures == 1 {
				r.log.Error("subscription waits for the store", "err", err)
			}
			// The only error of a wait is ctx's, which ends the loop.
			_ = retry.Sleep(ctx, storeBackoff.Delay(failures))
		case failures > 0:
			r.log.Info("subscription goes on", "attempts", failures)
			failures = 0
		}
	}
	return nil
}

// Wake makes Run look at its state and the log now, whatever it waits for. Whoever changes the state calls it.
func (p *Pusher) Wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.woken = true
	if p.interrupt != nil {
		p.interrupt()
	}
}

// run is a Pusher at work.
type run struct {
	*Pusher
	sub    Subscription // with its defaults
	view   entityevent.View
	filter odata.Expr
	form   form
	key    []byte // that signs; nil: nothing is signed
	client *http.Client
	log    *slog.Logger

	state   SubscriptionState
	stale   bool      // the state has to be read
	version int64     // of the state's document; 0: not read yet
	moved   time.Time // when the position moved first after it was written; zero: it is written
	urgent  bool      // the state holds more than a moved position
	ahead   batch     // read while another was in flight
	waited  bool      // since the log was read to its end, and nothing was there: whatever came since is not forgotten

	complains  bool           // the log says that pushes are not taken
	complaints rate.Sometimes // that it says so: of one that now takes them and now does not, once a minute
}

func (p *Pusher) newRun() (*run, error) {
	s := p.Subscription
	u, err := url.Parse(s.URL)
	switch {
	case p.Store == nil || s.Name == "":
		return nil, errors.New("subscription: it needs a store and a name")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		// The parser's error repeats the URL.
		return nil, fmt.Errorf("subscription %s: its url is not an absolute http or https URL", s.Name)
	}
	key, err := signingKey(s.Secret)
	if err != nil {
		return nil, fmt.Errorf("subscription %s: secret: %w", s.Name, err)
	}
	r := &run{Pusher: p, sub: s, filter: s.Filter(), key: key, form: s.form(), stale: true, complaints: rate.Sometimes{First: 5, Interval: time.Minute}, client: CallbackDialer{}.Client(), log: p.Logger}
	if p.HTTP != nil {
		client := *p.HTTP
		client.CheckRedirect = noRedirect
		r.client = &client
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.log = r.log.With("subscription", s.Name)
	setDefault(&r.sub.Feed, entityevent.Local)
	setDefault(&r.sub.Profile, "all")
	setDefault(&r.sub.BatchEvents, 500)
	setDefault(&r.sub.BatchBytes, 1<<20)
	setDefault(&r.sub.Timeout, 15*time.Second)
	r.view = entityevent.View{Feed: r.sub.Feed, Mask: s.Mask}
	return r, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// turn does the next thing: it waits, or pushes one batch.
func (r *run) turn(ctx context.Context) error {
	if !r.delivered() { // else what is stored does not know of it yet
		if err := r.refresh(ctx); err != nil {
			return err
		}
	}
	switch {
	case r.state.Status == Cancelled:
		return nil
	case r.delivered():
		return r.write(ctx)
	case r.state.Status == Suspended:
		return r.pause(ctx, untilWake)
	case r.state.wait(time.Now()) > 0:
		return r.pause(ctx, r.untilOver)
	}
	b, err := r.next(ctx)
	if err != nil {
		return err
	}
	if r.missed(b.floor) {
		return r.write(ctx)
	}
	if b.events == 0 {
		return r.idle(ctx, b)
	}
	r.waited = false
	if err := r.bind(ctx, b); err != nil {
		return err
	}
	if begun, err := r.begins(ctx, b); !begun {
		return err
	}
	r.skipIdle(time.Now())
	ahead := r.readAhead(ctx, b)
	got := r.post(ctx, b)
	r.Turns.end(r.sub.Client)
	r.ahead = <-ahead
	if ctx.Err() == nil || got.status != 0 { // else nobody knows whether it arrived: it comes again
		r.settle(b, got)
		r.checkCursor(ctx, b, got)
	}
	return r.writeIfDue(ctx)
}

// refresh takes over the state of the store, unless it is the one that this run wrote, and stores what could not be
// stored before.
func (r *run) refresh(ctx context.Context) error {
	if r.heard() {
		r.stale = true
	}
	if !r.stale {
		if r.urgent {
			return r.write(ctx)
		}
		return nil
	}
	doc, err := r.Store.Get(ctx, SubscriptionKind, r.sub.Name)
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	r.stale = false
	switch {
	case doc.Version == 0:
		return r.begin(ctx)
	case doc.Version == r.version && r.urgent:
		return r.write(ctx)
	case doc.Version == r.version:
		return nil
	}
	if r.state, err = parseState(doc); err != nil {
		r.stale = true
		return err
	}
	r.state.rebase(time.Now())
	r.version, r.moved, r.urgent, r.waited = doc.Version, time.Time{}, false, false
	if r.state.Told == "" {
		r.state.Told = r.state.Status
	}
	if r.state.Endpoint != r.sub.endpoint() && r.state.Status != Cancelled {
		r.log.Info("subscription has another callback or token: trying it", "seq", r.state.Cursor)
		r.state.Resume()
		r.state.Endpoint = r.sub.endpoint()
		return r.write(ctx)
	}
	if r.state.Told != r.state.Status {
		return r.write(ctx)
	}
	return nil
}

// begin starts a new subscription at the head.
func (r *run) begin(ctx context.Context) error {
	page, err := r.Store.Events(ctx, r.view, entityevent.EventQuery{After: math.MaxInt64, Limit: 1})
	if err != nil {
		r.stale = true
		return fmt.Errorf("read head: %w", err)
	}
	r.version = 0
	r.state = beginning(r.sub, page.Head)
	r.urgent = true
	r.log.Info("subscription begins", "seq", page.Head)
	return r.write(ctx)
}

// idle waits for the event after b, which holds none; a position that is not written yet is written
// when its delay is over.
func (r *run) idle(ctx context.Context, b batch) error {
	if b.through > r.state.Cursor {
		r.moveTo(b.through)
	}
	if b.more {
		return r.writeIfDue(ctx)
	}
	next := entityevent.EventQuery{After: r.state.Cursor, Filter: r.filter}
	if !r.moved.IsZero() {
		wait := positionDelay - time.Since(r.moved)
		if wait <= 0 {
			return r.write(ctx)
		}
		timer := time.NewTimer(wait)
		defer timer.Stop()
		next.End = timer.C
	}
	r.waited = true
	return r.pause(ctx, func(ctx context.Context) error {
		if err := r.Store.Wait(ctx, r.view, next); !errors.Is(err, entityevent.ErrEnded) {
			return err
		}
		return r.write(ctx)
	})
}

func (r *run) moveTo(seq entityevent.Sequence) {
	r.state.Cursor = seq
	if r.moved.IsZero() {
		r.moved = time.Now()
	}
}

// pause waits until what it waits for is there, until Wake, or until ctx ends.
func (p *Pusher) pause(ctx context.Context, until func(context.Context) error) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	if p.arm(cancel) {
		return nil
	}
	defer p.arm(nil)
	if err := until(waiting); err != nil && waiting.Err() == nil {
		return fmt.Errorf("wait for events: %w", err)
	}
	return nil
}

func untilWake(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// untilOver waits until the halt is over, by whichever clock.
func (r *run) untilOver(ctx context.Context) error {
	for {
		wait := r.state.wait(time.Now())
		if wait <= 0 {
			return nil
		}
		timer := time.NewTimer(min(wait, lookAgain))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// arm makes Wake call cancel, and says whether it was called already.
func (p *Pusher) arm(cancel context.CancelFunc) (woken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.interrupt = cancel
	return p.woken
}

// heard says whether Wake was called since it was last asked.
func (p *Pusher) heard() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	woken := p.woken
	p.woken = false
	return woken
}

func (r *run) writeIfDue(ctx context.Context) error {
	if r.urgent || !r.moved.IsZero() && time.Since(r.moved) >= positionDelay {
		return r.write(ctx)
	}
	return nil
}

// write stores the state: entityevent.ErrConflict if somebody else changed it meanwhile.
func (r *run) write(ctx context.Context) error {
	if r.delivered() {
		return r.conclude(ctx)
	}
	before := r.state.Told
	r.state.Told = r.state.Status
	version, err := writeState(ctx, r.Store, r.state, r.version)
	if err != nil {
		r.state.Told = before
		return err
	}
	r.version, r.moved, r.urgent = version, time.Time{}, false
	if before != r.state.Status && r.Changed != nil {
		r.Changed(r.state)
	}
	return nil
}

// end stores what is not stored yet.
func (r *run) end(ctx context.Context) {
	if r.HTTP == nil {
		r.client.CloseIdleConnections()
	}
	if r.moved.IsZero() && !r.urgent {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := r.write(ctx); err != nil && !errors.Is(err, entityevent.ErrConflict) {
		r.log.Warn("position was not stored: the last pushes come again", "seq", r.state.Cursor, "err", err)
	}
}
