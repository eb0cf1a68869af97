package consumer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// Status is how a feed is.
type Status struct {
	Feed     string               `json:"feed"`
	Loaded   bool                 `json:"loaded"`   // a first load was completed
	Log      entityevent.LogID    `json:"log"`      // of the producer; empty if it names none
	Sequence entityevent.Sequence `json:"sequence"` // the cursor
	Behind   bool                 `json:"behind"`   // events are known to be missing
	Pending  int64                `json:"pending"`  // events received and not yet applied
	Aside    int                  `json:"aside"`    // records set aside because they cannot be applied
	Recheck  int                  `json:"recheck"`  // records that will be looked at once more
	Held     int                  `json:"held"`     // records whose removal the brake holds

	Contact time.Time `json:"contact,omitzero"` // the producer last answered a poll, or a page of a load, in this run
	Level   time.Time `json:"level,omitzero"`   // the producer last had nothing new, in this run
	Whole   time.Time `json:"whole,omitzero"`   // last seen not to be behind, in this run
	Moved   time.Time `json:"moved,omitzero"`   // events last were judged or applied, or none waited, in this run
	Applied time.Time `json:"applied,omitzero"` // what had been received by then was applied or set aside, in this run
	Halted  time.Time `json:"halted,omitzero"`  // until then the producer wants no requests

	Polling     Trouble   `json:"polling,omitzero"`
	Applying    Trouble   `json:"applying,omitzero"`
	Reconciling Trouble   `json:"reconciling,omitzero"` // by itself
	Loading     *Progress `json:"loading,omitempty"`    // nil: no load is under way

	Registration *RegistrationStatus `json:"registration,omitempty"` // nil: there is none, and none is wanted

	Reconciled *ReconcileReport `json:"reconciled,omitempty"` // what the last one found that came to its end; nil: none did
}

// Trouble is what goes wrong at present; zero when all is well.
type Trouble struct {
	Since    time.Time `json:"since"`
	Failures int       `json:"failures"`
	Error    string    `json:"error"`
	Store    bool      `json:"store,omitempty"` // it is our own store that does not do its work
}

// Progress is how far a load or a catch-up is.
type Progress struct {
	Resource string `json:"resource,omitempty"` // the one that is being loaded; empty when events are followed
	Records  int64  `json:"records"`            // loaded, of all resources
	Events   int64  `json:"events"`             // received by polling
	Settled  int64  `json:"settled"`            // records of events brought up to date
	Pending  int64  `json:"pending"`            // events not yet applied
}

// Status says how the feed is. It reads the store and does not ask the producer.
func (f *Feed) Status(ctx context.Context) (Status, error) {
	if err := f.Check(); err != nil {
		return Status{}, err
	}
	p, err := f.Store.Position(ctx, f.Name)
	if err != nil {
		return Status{}, err
	}
	pending, err := f.Store.Depth(ctx, f.Name)
	if err != nil {
		return Status{}, err
	}
	aside, err := f.Store.CountAside(ctx, f.Name)
	if err != nil {
		return Status{}, err
	}
	load, _, err := f.loadState(ctx)
	if err != nil {
		return Status{}, err
	}
	reconcile, _, err := f.reconcileState(ctx)
	if err != nil {
		return Status{}, err
	}
	registration, err := f.registrationStatus(ctx)
	if err != nil {
		return Status{}, err
	}
	s := f.state.status()
	s.Reconciled, s.Registration = reconcile.Last, registration
	s.Feed, s.Log, s.Sequence, s.Behind, s.Pending = f.Name, p.Log, p.Sequence, p.Behind(), pending
	s.Loaded, s.Halted = load.Loaded, f.client.pace.halted()
	s.Aside, s.Recheck, s.Held = int(aside[poison]), int(aside[recheck]), int(aside[held])
	return s, nil
}

// state is what a feed remembers of this run, for people and for the receiver.
type state struct {
	mu       sync.Mutex
	now      Status
	perSec   float64 // events applied a second, lately
	progress Progress
}

func (s *state) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now
	if now.Loading != nil {
		p := s.progress
		now.Loading = &p
		if p.Records > 0 {
			now.Polling = Trouble{} // from before this load went on: it is over, though only the end of the load proves it
		}
	}
	return now
}

// applied notes the end of a round of the applier and returns how many failed in a row.
func (s *state) applied(l *slog.Logger, settled int, err error) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress.Settled += int64(settled)
	if settled > 0 || err == nil {
		s.now.Moved = time.Now()
	}
	return s.now.Applying.note(l, "apply", err)
}

// moved notes that the producer's answers were enough to judge a record.
func (s *state) moved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Moved = time.Now()
}

// emptied notes that everything received by then was taken out of the inbox.
func (s *state) emptied(then time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Applied = then
}

// reconciled notes the end of a pass and returns how many failed in a row.
func (s *state) reconciled(l *slog.Logger, err error) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.Reconciling.note(l, "reconcile", err)
}

// polled notes the end of a poll and returns how many failed in a row.
func (s *state) polled(l *slog.Logger, err error) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.Polling.note(l, "poll", err)
}

// note logs the first failure and the recovery.
func (t *Trouble) note(l *slog.Logger, what string, err error) int {
	switch {
	case err == nil && t.Failures > 0:
		l.Info("recovered", "what", what, "failures", t.Failures, "since", t.Since)
		*t = Trouble{}
	case err != nil && t.Failures == 0:
		l.Warn("failing", "what", what, "err", err)
		*t = Trouble{Since: time.Now(), Failures: 1, Error: err.Error()}
	case err != nil:
		t.Failures++
		t.Error = err.Error()
	}
	t.Store = errors.Is(err, entityevent.ErrUnavailable)
	return t.Failures
}

// rate keeps a moving average of how fast the inbox is emptied. A round that settled nothing counts too.
func (s *state) rate(items int, took time.Duration) {
	if took <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := float64(items) / took.Seconds()
	if s.perSec == 0 {
		s.perSec = now
	}
	s.perSec += (now - s.perSec) / 8
}

// drain returns how long so many pending events take at the present rate.
func (s *state) drain(pending int64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.perSec <= 0 {
		return time.Minute
	}
	return time.Duration(min(float64(pending)/s.perSec, 1e6) * float64(time.Second))
}

func (s *state) heard(level bool, events int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Contact = time.Now()
	if level {
		s.now.Level = s.now.Contact
	}
	s.progress.Events += int64(events)
}

// followed notes whether a poll began with events known to be missing.
func (s *state) followed(behind bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !behind {
		s.now.Whole = time.Now()
	}
}

func (s *state) load(under bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Loading, s.progress.Resource = nil, ""
	if under {
		s.now.Loading, s.progress.Records = &Progress{}, 0
	}
}

func (s *state) loaded(resource string, records int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Contact = time.Now()
	s.progress.Resource = resource
	s.progress.Records += int64(records)
}

func (s *state) done() Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.progress
}
