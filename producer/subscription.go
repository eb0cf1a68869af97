package producer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// Subscription says to whom the log is pushed, and how.
type Subscription struct {
	Name    string // unique in the agent
	Client  string // whose subscription it is: it sees what this client sees
	Mask    entityevent.Mask
	Profile string // the client's profile, which EntityEvent-Log names. Default "all".
	Feed    string // whose events are pushed. Default entityevent.Local.
	URL     string // the callback; a secret, for its query may hold one
	Token   string // the callback's bearer token
	Label   string // the consumer's own name of the feed (RCP-28), printable, at most 255

	BatchEvents int           // events in a push at most; with 1 the body is the bare object. Default 500.
	BatchBytes  int           // bytes of a push's body at most, unless one event is larger. Default 1 MB.
	Timeout     time.Duration // for the whole of one push. Default 15s.
}

// endpoint is a fingerprint of where and as whom the subscription pushes.
func (s Subscription) endpoint() string {
	sum := sha256.Sum256([]byte(s.URL + "\x00" + s.Token))
	return hex.EncodeToString(sum[:8])
}

// SubscriptionStatus says whether a subscription is pushed to.
type SubscriptionStatus string

// The statuses of a subscription.
const (
	Active    SubscriptionStatus = "active"
	Suspended SubscriptionStatus = "suspended" // stopped with its position kept, until somebody resumes it
)

// SubscriptionKind is the kind of the documents that hold a SubscriptionState.
const SubscriptionKind = "subscription"

// SubscriptionState is where a subscription stands: a document of the store, so that positions and waits
// survive a restart. Whoever else changes it does so by compare-and-set; its Pusher takes over what
// it finds.
type SubscriptionState struct {
	Name   string             `json:"name"`
	Status SubscriptionStatus `json:"status"`
	Reason string             `json:"reason,omitempty"` // why it is suspended and how to resume it, for people

	// Cursor: every event up to it was acknowledged or is invisible to the subscription.
	Cursor entityevent.Sequence `json:"cursor"`
	// Acknowledged is the EntityEvent-Through of the last acknowledged push, or where the subscription
	// began: the next push's EntityEvent-After. Between it and Cursor nothing is visible.
	Acknowledged entityevent.Sequence `json:"acknowledged"`
	// Floor is the newest event of those that were forgotten that the subscription has not missed.
	Floor entityevent.Sequence `json:"floor,omitempty"`

	HaltedUntil  time.Time `json:"halted_until,omitzero"`  // nothing is pushed before
	HaltedAt     time.Time `json:"halted_at,omitzero"`     // when that was said: a wait counts only from then on
	FailingSince time.Time `json:"failing_since,omitzero"` // the first failure since the last success, later by the halts and by what was not tried
	Attempts     int       `json:"attempts,omitempty"`     // pushes since the last success
	Refusals     int       `json:"refusals,omitempty"`     // of them answered 401 or 403
	LastError    string    `json:"last_error,omitempty"`   // of the last push that was not acknowledged
	SucceededAt  time.Time `json:"succeeded_at,omitzero"`  // the last acknowledged push
	BatchLimit   int       `json:"batch_limit,omitempty"`  // events in a push, while the subscriber takes fewer than agreed
	Endpoint     string    `json:"endpoint,omitempty"`     // fingerprint of callback and token; when they change, it is tried again
}

// resume makes the subscription active and forgets what went wrong.
func (s *SubscriptionState) resume() {
	s.Status, s.Reason, s.BatchLimit = Active, "", 0
	s.settled()
}

// settled forgets what went wrong.
func (s *SubscriptionState) settled() {
	s.HaltedUntil, s.HaltedAt, s.FailingSince = time.Time{}, time.Time{}, time.Time{}
	s.Attempts, s.Refusals, s.LastError = 0, 0, ""
}

// halt begins a wait.
func (s *SubscriptionState) halt(now time.Time, wait time.Duration) {
	s.HaltedAt, s.HaltedUntil = now, now.Add(wait)
}

// wait returns how much of the wait is left, negative once it is over. As long as this process began it
// the monotonic clock counts it too, and the shorter of the two is right: the other one was set, or stood
// still while the machine slept.
func (s *SubscriptionState) wait(now time.Time) time.Duration {
	return min(s.HaltedUntil.Sub(now), s.HaltedUntil.Round(0).Sub(now))
}

// rebase takes over a state that was stored before. If the clock was set back since, nothing in it may lie
// ahead: its wait is over, for nobody knows how much of it is left, and it has failed for as long as before.
func (s *SubscriptionState) rebase(now time.Time) {
	if skew := s.HaltedAt.Sub(now); skew > 0 {
		s.HaltedAt, s.HaltedUntil = now, now
		if !s.FailingSince.IsZero() {
			s.FailingSince = s.FailingSince.Add(-skew)
		}
	}
}

// Subscriptions returns the state of every subscription that ever ran, in order of their names.
func Subscriptions(ctx context.Context, docs entityevent.Docs) ([]SubscriptionState, error) {
	list, err := docs.List(ctx, SubscriptionKind)
	if err != nil {
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	states := make([]SubscriptionState, len(list))
	for i, doc := range list {
		if states[i], err = parseState(doc); err != nil {
			return nil, err
		}
	}
	return states, nil
}

// Resume makes a suspended or halted subscription active: its Pusher continues from its cursor, at the
// latest after 30 s, at once after Pusher.Wake. It returns entityevent.ErrAbsent for an unknown one.
func Resume(ctx context.Context, store Store, name string) error {
	for {
		doc, err := store.Get(ctx, SubscriptionKind, name)
		if err == nil && doc.Version == 0 {
			err = entityevent.ErrAbsent
		}
		if err != nil {
			return fmt.Errorf("resume subscription %s: %w", name, err)
		}
		state, err := parseState(doc)
		if err != nil {
			return err
		}
		state.resume()
		_, err = writeState(ctx, store, state, doc.Version)
		if !errors.Is(err, entityevent.ErrConflict) {
			return err
		}
	}
}

func parseState(doc entityevent.Doc) (SubscriptionState, error) {
	var s SubscriptionState
	if err := json.Unmarshal(doc.Body, &s); err != nil {
		return s, fmt.Errorf("state of subscription %s: %w", doc.ID, err)
	}
	return s, nil
}

// writeState stores s if its document still has this version, and returns the new one.
func writeState(ctx context.Context, store Store, s SubscriptionState, version int64) (int64, error) {
	for _, at := range []*time.Time{&s.HaltedUntil, &s.HaltedAt, &s.FailingSince} {
		*at = at.UTC() // in the copy alone: it would lose the monotonic clock
	}
	body, err := json.Marshal(s)
	if err == nil {
		doc := entityevent.Doc{Kind: SubscriptionKind, ID: s.Name, Version: version, Body: body}
		_, err = store.Apply(ctx, entityevent.Commit{Docs: []entityevent.Doc{doc}})
	}
	if err != nil {
		return version, fmt.Errorf("write state of subscription %s: %w", s.Name, err)
	}
	return version + 1, nil
}
