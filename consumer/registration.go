package consumer

import (
	"context"
	"time"

	"github.com/resosync/resosync/entityevent/bearer"
)

// Registration is how a feed has its producer push to it (RCP-28), where the producer takes subscriptions by API: the
// feed subscribes itself, renews the token that pushes carry, and resumes the subscription when it was suspended.
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
	Suspended   = "suspended"   // the producer has stopped pushing: Reason says why
	Refused     = "refused"     // the producer does not want it: Reason says why; it is asked again, rarely
	Unoffered   = "unoffered"   // the producer takes no subscriptions by API: the feed is polled
)

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
	<-ctx.Done()
	return nil
}

// Deregistered returns a feed for each registration in the store whose feed is not named any more, for KeepRegistered
// alone: it cancels them.
func Deregistered(ctx context.Context, s Store, a *bearer.Authority, named func(feed string) bool) ([]*Feed, error) {
	return nil, nil
}
