package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/retry"
	"github.com/resosync/resosync/entityevent/seal"
)

// Registration is how a feed has its producer push to it (RCP-28), where the producer takes subscriptions by API: the
// feed subscribes itself, renews the token that pushes carry, and mends the subscription when it was suspended, or when the producer was restored
// from a backup and has it as it was.
// Polling goes on as it is configured: it fetches what no push brought.
type Registration struct {
	// Callback is where this agent receives the feed's pushes, as others reach it. "": no pushes are wanted, and
	// what was registered before is cancelled.
	Callback string
	// Authority issues the tokens that pushes carry; its key seals what the store has to keep. Required.
	Authority *bearer.Authority
	// Batch is how many events a push holds at most. Default: the producer decides.
	Batch int
	// MaxPending is that of the Receiver: while so many events are pending a suspended subscription is left as it
	// is. Default 10,000.
	MaxPending int64
}

// RegistrationStatus is how the registration of a feed is.
type RegistrationStatus struct {
	UUID    string    `json:"UUID,omitempty"` // of the subscription, as its producer names it; empty: there is none
	Since   time.Time `json:"since,omitzero"` // when it was registered
	State   string    `json:"state"`          // one of those below
	Reason  string    `json:"reason,omitempty"`
	Looked  time.Time `json:"looked,omitzero"`  // when the producer last told how the subscription is, in this run
	Expires time.Time `json:"expires,omitzero"` // of the token that pushes carry; it is renewed before
}

// The states of a registration.
const (
	Registering = "registering" // not yet: Reason says what it waits for, or what went wrong
	Registered  = "registered"  // the producer pushes
	Failing     = "failing"     // the producer pushes in vain: Reason says why; polls fetch what does not arrive
	Suspended   = "suspended"   // the producer has stopped pushing: Reason says why
	Refused     = "refused"     // the producer does not want it: Reason says why; it is asked again, ever more rarely
	Unoffered   = "unoffered"   // the producer takes no subscriptions by API: the feed is polled
)

// How often a registration is looked at.
const (
	lookEvery    = 5 * time.Minute // drawn from 4 to 6, so that many agents do not ask at once
	anewEvery    = time.Hour       // when somebody cancels one subscription after another
	unknownEvery = 5 * time.Minute // when the producer knows one after another no more
	startEvery   = 2 * time.Second // for the beginning of a first load
)

var (
	registerBackoff = retry.Backoff{Min: 2 * time.Second, Max: 15 * time.Minute}
	refusedBackoff  = retry.Backoff{Min: 2 * time.Minute, Max: time.Hour} // when the producer does not want it
)

// errDeregistered: nothing is left of the registration.
var errDeregistered = errors.New("nothing is registered")

// KeepRegistered keeps the feed registered with its producer until ctx ends, which is no error; without a Callback it
// cancels what was registered before, and returns when nothing is left of it. Without a Registration it returns at
// once. Failures are tried again, for ever, and shown by Status. At most one subscription of the feed is kept,
// whatever crash comes between the two agents.
func (f *Feed) KeepRegistered(ctx context.Context) error {
	if err := f.Check(); err != nil {
		return err
	}
	if f.Register == nil {
		return nil
	}
	r := &registrar{Feed: f, Registration: f.Register, seal: seal.New(f.Register.Authority.Key)}
	for ctx.Err() == nil {
		wait, err := r.step(ctx)
		if errors.Is(err, errDeregistered) {
			r.registration.end()
			return nil
		}
		if ctx.Err() != nil {
			break
		}
		if failures := r.registration.note(r.Logger, err); failures > 0 {
			wait = pauseAfter(err, registerBackoff, failures)
		}
		f.rest(ctx, wait)
	}
	return nil
}

// Deregistered returns a feed for each registration in the store whose feed is not named any more, for KeepRegistered
// alone: it cancels them.
func Deregistered(ctx context.Context, s Store, a *bearer.Authority, named func(feed string) bool) ([]*Feed, error) {
	docs, err := s.List(ctx, kindRegistered)
	if err != nil {
		return nil, fmt.Errorf("registrations: %w", err)
	}
	var feeds []*Feed
	for _, doc := range docs {
		var was registered
		if err := json.Unmarshal(doc.Body, &was); err != nil {
			return nil, fmt.Errorf("registration %s: %w", doc.ID, err)
		}
		if !named(doc.ID) && !was.over() {
			feeds = append(feeds, former(doc.ID, was, s, &Registration{Authority: a}))
		}
	}
	return feeds, nil
}

// registration is what Status says of it.
type registration struct {
	mu      sync.Mutex
	now     *RegistrationStatus // nil: KeepRegistered does not run
	trouble Trouble
}

func (r *registration) status() *RegistrationStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil {
		return nil
	}
	now := *r.now
	if r.trouble.Failures > 0 {
		now.Reason = r.trouble.Error
	}
	return &now
}

// registrationStatus is how the registration is, or, where KeepRegistered did not run yet, how it was left.
func (f *Feed) registrationStatus(ctx context.Context) (*RegistrationStatus, error) {
	if now := f.registration.status(); now != nil || f.Register == nil {
		return now, nil
	}
	var was registered
	if _, err := f.document(ctx, kindRegistered, f.Name, &was); err != nil || was.over() {
		return nil, err
	}
	s := RegistrationStatus{State: Registering, UUID: was.UUID, Since: was.Since, Expires: was.Token.Expires}
	if was.UUID != "" {
		s.State = Registered
	}
	return &s, nil
}

// note notes the end of a step, and returns how many failed in a row.
func (r *registration) note(l *slog.Logger, err error) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.now == nil {
		r.now = &RegistrationStatus{State: Registering}
	}
	return r.trouble.note(l, "keep registered", err)
}

// say notes how the registration is, and logs what is new.
func (r *registration) say(l *slog.Logger, now RegistrationStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var before RegistrationStatus
	if r.now != nil {
		before = *r.now
	}
	if now.Looked.IsZero() && now.UUID == before.UUID {
		now.Looked = before.Looked
	}
	r.now = &now
	if now.State == before.State && now.UUID == before.UUID {
		return
	}
	level := slog.LevelInfo
	if now.State == Failing || now.State == Suspended || now.State == Refused {
		level = slog.LevelWarn
	}
	l.Log(context.Background(), level, "registration", "state", now.State, "subscription", now.UUID, "reason", now.Reason)
}

func (r *registration) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = nil
}
