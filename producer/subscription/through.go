package subscription

import (
	"context"
	"fmt"
	"sync"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// tallied keeps a tally. It is taken from the store when it is first asked for, and again by each Sweep; between these
// it hears of what is committed.
type tallied struct {
	taking sync.Mutex // held while it is taken

	mu     sync.Mutex
	now    *tally              // nil: it was never taken
	missed [][]entityevent.Doc // what was committed since a taking began; nil: none is under way
}

// Through is Store, for all that changes subscriptions and for their Pushers: what is committed through it the API hears
// of, and need not read.
func (a *API) Through() producer.Store { return heard{a.Store, &a.tally} }

// heard is a store whose commits a tally hears of.
type heard struct {
	producer.Store
	by *tallied
}

func (h heard) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	outcomes, err := h.Store.Apply(ctx, c)
	if err == nil {
		h.by.hear(c.Docs)
	}
	return outcomes, err
}

func (t *tallied) hear(docs []entityevent.Doc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.missed != nil {
		t.missed = append(t.missed, docs)
	}
	if t.now != nil && t.now.note(docs) != nil { // nobody here wrote that
		t.now = nil
	}
}

// known calls look with the tally, which it takes first if it has to. look may keep nothing of it but states.
func (a *API) known(ctx context.Context, look func(*tally)) error {
	for !a.tally.look(look) {
		a.tally.taking.Lock()
		err := error(nil)
		if !a.tally.look(func(*tally) {}) {
			err = a.take(ctx)
		}
		a.tally.taking.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// look says whether there is a tally to look at.
func (t *tallied) look(look func(*tally)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now == nil {
		return false
	}
	look(t.now)
	return true
}

// take takes the tally. taking is held.
func (a *API) take(ctx context.Context) error {
	t := &a.tally
	t.mu.Lock()
	t.missed = [][]entityevent.Doc{}
	t.mu.Unlock()
	next, err := a.count(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	missed := t.missed
	t.missed = nil
	if err != nil {
		return err
	}
	for _, docs := range missed {
		if err := next.note(docs); err != nil {
			return err
		}
	}
	t.now = next
	return nil
}

// count reads all.
func (a *API) count(ctx context.Context) (*tally, error) {
	registrations, err := a.Store.List(ctx, registrationKind)
	if err != nil {
		return nil, fmt.Errorf("list registrations: %w", err)
	}
	states, err := a.Store.List(ctx, producer.SubscriptionKind)
	if err != nil {
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	return newTally(registrations, states)
}
