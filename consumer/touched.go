package consumer

import (
	"context"
	"sync"

	"github.com/resosync/resosync/entityevent"
)

// touched tells a load which records the applier wrote while a page was under way. UnchangedSince alone
// does not: a record that went from A to B and back to A makes no event here, and the B of an older page
// would stay.
type touched struct {
	mu    sync.RWMutex
	pages map[*mark]bool
}

// mark is what was touched since a page was asked for.
type mark map[entityevent.Ref]bool

func (t *touched) watch() *mark {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pages == nil {
		t.pages = map[*mark]bool{}
	}
	m := &mark{}
	t.pages[m] = true
	return m
}

func (t *touched) forget(m *mark) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pages, m)
}

// apply commits for the applier.
func (t *touched) apply(ctx context.Context, s Store, c entityevent.Commit) ([]entityevent.Outcome, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for m := range t.pages {
		for _, change := range c.Changes {
			(*m)[change.Ref] = true
		}
	}
	return s.Apply(ctx, c)
}

// load commits for a load, without what the applier touched since the page was asked for. It returns the
// changes that it made, in the order of their outcomes.
func (t *touched) load(ctx context.Context, s Store, m *mark, c entityevent.Commit) ([]entityevent.Change, []entityevent.Outcome, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(*m) > 0 {
		kept := c.Changes[:0]
		for _, change := range c.Changes {
			if !(*m)[change.Ref] {
				kept = append(kept, change)
			}
		}
		c.Changes = kept
	}
	outcomes, err := s.Apply(ctx, c)
	return c.Changes, outcomes, err
}
