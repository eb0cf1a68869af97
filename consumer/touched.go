package consumer

import (
	"context"
	"errors"
	"sync"

	"github.com/resosync/resosync/entityevent"
)

// touched tells a load, or a look, which records the applier wrote while a page was under way. UnchangedSince alone
// does not: a record that went from A to B and back to A makes no event here, and the B of an older page
// would stay. It is of one process: two that apply and load the same feed at once are not told of each other,
// and which of two answers stays is then decided by UnchangedSince alone.
type touched struct {
	mu    sync.RWMutex
	pages map[*mark]bool
	loads int // how many began
}

// errOvertaken: a load began after the applier asked for what it would commit. It must ask again.
var errOvertaken = errors.New("a load began meanwhile")

// overtake lets nothing be committed any more that the applier is fetching.
func (t *touched) overtake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.loads++
}

// begun returns how many loads began: the applier notes it before it asks for anything.
func (t *touched) begun() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.loads
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

// add marks the records of events.
func (t *touched) add(m *mark, events []entityevent.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range events {
		(*m)[e.Ref] = true
	}
}

// apply commits for the applier what it asked for when so many loads had begun, or returns errOvertaken.
func (t *touched) apply(ctx context.Context, s Store, c entityevent.Commit, begun int) ([]entityevent.Outcome, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loads != begun {
		return nil, errOvertaken
	}
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
