package producer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// SubscriptionStatus says whether a subscription is pushed to.
type SubscriptionStatus string

// The statuses of a subscription.
const (
	Active    SubscriptionStatus = "active"
	Suspended SubscriptionStatus = "suspended" // stopped with its position kept, until somebody resumes it
	Cancelled SubscriptionStatus = "cancelled" // ended for good
)

// SubscriptionKind is the kind of the documents that hold a SubscriptionState.
const SubscriptionKind = "subscription"

// SubscriptionState is where a subscription stands: a document of the store, so that positions and waits
// survive a restart. Whoever else changes it does so by compare-and-set; its Pusher takes over what
// it finds.
type SubscriptionState struct {
	Name   string             `json:"name"`
	Status SubscriptionStatus `json:"status"`
	Reason string             `json:"reason,omitempty"` // why it is suspended and how to resume it, or why it is cancelled; for people
	Since  time.Time          `json:"since,omitzero"`   // when it was suspended or cancelled

	Told SubscriptionStatus `json:"told,omitempty"` // the status that Pusher.Changed was told last

	// Cursor: every event up to it was acknowledged or is invisible to the subscription.
	Cursor entityevent.Sequence `json:"cursor"`
	// Acknowledged is the EntityEvent-Through of the last acknowledged push, or where the subscription
	// began: the next push's EntityEvent-After. Between it and Cursor nothing is visible.
	Acknowledged entityevent.Sequence `json:"acknowledged"`
	// Floor is the newest event of those that were forgotten that the subscription has not missed.
	Floor entityevent.Sequence `json:"floor,omitempty"`
	// BatchEnd is the last event of the one delivery of an only-once subscription, as soon as it was tried; 0: not yet.
	BatchEnd entityevent.Sequence `json:"batch_end,omitempty"`
	// Replays counts how often the position was set anew: what is then pushed again is another delivery.
	Replays int `json:"replays,omitempty"`

	HaltedUntil  time.Time `json:"halted_until,omitzero"`  // nothing is pushed before
	HaltedAt     time.Time `json:"halted_at,omitzero"`     // when that was said: a wait counts only from then on
	FailingSince time.Time `json:"failing_since,omitzero"` // the first failure since the last success, later by the halts and by what was not tried
	Attempts     int       `json:"attempts,omitempty"`     // pushes since the last success
	Halts        int       `json:"halts,omitempty"`        // of them answered 429 or 503, which are no failures
	Refusals     int       `json:"refusals,omitempty"`     // of them answered 401 or 403
	LastError    string    `json:"last_error,omitempty"`   // of the last push that was not acknowledged
	SucceededAt  time.Time `json:"succeeded_at,omitzero"`  // the last acknowledged push
	BatchLimit   int       `json:"batch_limit,omitempty"`  // events in a push, while the subscriber takes fewer than agreed
	Endpoint     string    `json:"endpoint,omitempty"`     // fingerprint of callback and token; when they change, it is tried again
}

// NewState returns the state of a subscription that begins after a position, to be committed together with what makes
// it known. A Pusher goes on from there.
func NewState(s Subscription, from entityevent.Sequence) (entityevent.Doc, error) {
	return stateDoc(beginning(s, from), 0)
}

func beginning(s Subscription, from entityevent.Sequence) SubscriptionState {
	return SubscriptionState{Name: s.Name, Status: Active, Told: Active, Endpoint: s.endpoint(), Cursor: from, Acknowledged: from}
}

// Resume makes the subscription active and forgets what went wrong. One that is cancelled stays so.
func (s *SubscriptionState) Resume() {
	if s.Status == Cancelled {
		return
	}
	s.Status, s.Reason, s.Since, s.BatchLimit = Active, "", time.Time{}, 0
	s.settled()
}

// Replay makes the subscription go on after a position, at most the head: what it has had since comes again.
func (s *SubscriptionState) Replay(from entityevent.Sequence) {
	s.Cursor, s.Acknowledged, s.Floor, s.BatchEnd = from, from, 0, 0
	s.Replays++
}

// Cancel ends the subscription, with a message for people.
func (s *SubscriptionState) Cancel(message string) {
	s.settled()
	s.Status, s.Reason, s.Since = Cancelled, message, time.Now().UTC()
}

// Suspend stops the subscription where it stands, with a reason for people. One that is cancelled stays so.
func (s *SubscriptionState) Suspend(reason string) {
	if s.Status == Cancelled {
		return
	}
	s.Status, s.Reason, s.Since = Suspended, reason, time.Now().UTC()
	s.HaltedUntil = time.Time{}
}

// settled forgets what went wrong.
func (s *SubscriptionState) settled() {
	s.HaltedUntil, s.HaltedAt, s.FailingSince = time.Time{}, time.Time{}, time.Time{}
	s.Attempts, s.Halts, s.Refusals, s.LastError = 0, 0, 0, ""
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

// ReadState returns the state of a subscription: entityevent.ErrAbsent for an unknown one.
func ReadState(ctx context.Context, docs entityevent.Docs, name string) (SubscriptionState, error) {
	s, _, err := readState(ctx, docs, name)
	return s, err
}

func readState(ctx context.Context, docs entityevent.Docs, name string) (s SubscriptionState, version int64, err error) {
	doc, err := docs.Get(ctx, SubscriptionKind, name)
	if err == nil && doc.Version == 0 {
		err = entityevent.ErrAbsent
	}
	if err != nil {
		return s, 0, fmt.Errorf("subscription %s: %w", name, err)
	}
	s, err = parseState(doc)
	return s, doc.Version, err
}

// Resume makes a suspended or halted subscription active: its Pusher continues from its cursor after Pusher.Wake. A
// cancelled one stays so. It returns entityevent.ErrAbsent for an unknown one.
func Resume(ctx context.Context, store Store, name string) error {
	_, err := ChangeState(ctx, store, name, func(s *SubscriptionState) ([]entityevent.Doc, error) {
		s.Resume()
		return nil, nil
	})
	if err != nil {
		return fmt.Errorf("resume subscription %s: %w", name, err)
	}
	return nil
}

// ChangeState changes a state, durably, and returns it as it then is; its Pusher sees it after Pusher.Wake. change is called
// with what is stored, and again if that was changed meanwhile. The documents that it returns are written in the same
// commit: if one of them was changed meanwhile, change is called again too, and has to read it again. Its error ends
// ChangeState, which returns it as it is. An unknown subscription is entityevent.ErrAbsent.
func ChangeState(ctx context.Context, store Store, name string, change func(*SubscriptionState) ([]entityevent.Doc, error)) (SubscriptionState, error) {
	for {
		state, version, err := readState(ctx, store, name)
		if err != nil {
			return state, err
		}
		others, err := change(&state)
		if err != nil {
			return state, err
		}
		if _, err = writeState(ctx, store, state, version, others...); !errors.Is(err, entityevent.ErrConflict) {
			return state, err
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

// writeState stores s, with others, if its document still has this version, and returns the new one.
func writeState(ctx context.Context, store Store, s SubscriptionState, version int64, others ...entityevent.Doc) (int64, error) {
	doc, err := stateDoc(s, version)
	if err == nil {
		_, err = store.Apply(ctx, entityevent.Commit{Docs: append([]entityevent.Doc{doc}, others...)})
	}
	if err != nil {
		return version, fmt.Errorf("write state of subscription %s: %w", s.Name, err)
	}
	return version + 1, nil
}

func stateDoc(s SubscriptionState, version int64) (entityevent.Doc, error) {
	for _, at := range []*time.Time{&s.HaltedUntil, &s.HaltedAt, &s.FailingSince} {
		*at = at.UTC() // in the copy alone: it would lose the monotonic clock
	}
	body, err := json.Marshal(s)
	return entityevent.Doc{Kind: SubscriptionKind, ID: s.Name, Version: version, Body: body}, err
}
