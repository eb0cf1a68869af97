package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

const (
	probeEvery    = 10 * time.Second
	probePatience = 15 * time.Second // a write that takes longer hangs
	probeLarge    = 256 << 10        // bytes that must fit before a store that failed counts as well again
)

// probe watches whether the store can do its work. It writes to it although nobody else may, because a disk
// fills and a file system turns read-only in the quiet too, and it hears of every failure of others.
type probe struct {
	store interface {
		entityevent.Log
		entityevent.Docs
	}

	mu     sync.Mutex
	fault  error     // why the store last could not do its work; nil: a large write succeeded since
	damage error     // what a file that was found damaged says: it does not heal
	since  time.Time // the first of either
	faults int       // how many were heard of
	begun  time.Time // of the write under way; zero: none is
	worked time.Time // when one last succeeded
}

// heard notes a failure of the store.
func (p *probe) heard(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == nil && p.damage == nil {
		p.since = time.Now()
	}
	var u *sqlite.UnavailableError
	if errors.As(err, &u) && u.Damaged {
		p.damage = err
	}
	p.fault = err
	p.faults++
}

// run writes now and then until ctx ends.
func (p *probe) run(ctx context.Context) error {
	ticks := time.NewTicker(probeEvery)
	defer ticks.Stop()
	for {
		p.once(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

// once writes a little, or, after a failure, as much as shows that there is room.
func (p *probe) once(ctx context.Context) {
	p.mu.Lock()
	before, large := p.faults, p.fault != nil
	p.begun = time.Now()
	p.mu.Unlock()

	size := 0
	if large {
		size = probeLarge
	}
	err := p.write(ctx, size)
	if err == nil && large {
		err = p.write(ctx, 0)
	}

	p.mu.Lock()
	p.begun = time.Time{}
	if err == nil {
		p.worked = time.Now()
	}
	if err == nil && p.faults == before { // one heard of meanwhile is newer than what the write proves
		p.fault = nil
	}
	p.mu.Unlock()
	if err != nil && ctx.Err() == nil && !errors.Is(err, entityevent.ErrClosed) {
		p.heard(err)
	}
}

// probeKind is the kind of the document that is written.
const probeKind = "probe"

func (p *probe) write(ctx context.Context, size int) error {
	doc, err := p.store.Get(ctx, probeKind, "store")
	if err != nil {
		return err
	}
	doc.Kind, doc.ID = probeKind, "store"
	doc.Body, err = json.Marshal(map[string]string{"room": string(bytes.Repeat([]byte("-"), size))})
	if err != nil {
		return err
	}
	_, err = p.store.Apply(ctx, entityevent.Commit{Docs: []entityevent.Doc{doc}})
	return err
}

// reasons says what is wrong with the store, and what to do.
func (p *probe) reasons(now time.Time) []reason {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch hangs := now.Sub(p.begun); {
	case p.damage != nil:
		return []reason{storeReason(p.damage, p.since)}
	case p.fault != nil:
		return []reason{storeReason(p.fault, p.since)}
	case !p.begun.IsZero() && hangs > probePatience:
		return []reason{{"store", fmt.Sprintf("the store has not answered for %s: look at the disk of the data folder", age(hangs))}}
	}
	return nil
}

// works says that the store was read and written a moment ago: if it is late for somebody else, it has much to do.
func (p *probe) works(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Sub(p.worked) < probeEvery+probePatience
}

// storeReason is what people may do about a failure. Anyone may read it: it holds no path.
func storeReason(err error, since time.Time) reason {
	remedy := "`resosync status` and the log say more"
	var u *sqlite.UnavailableError
	if errors.As(err, &u) {
		remedy = u.Remedy
	}
	return reason{"store", fmt.Sprintf("the store does not work since %s: %s", since.UTC().Format(time.RFC3339), remedy)}
}
