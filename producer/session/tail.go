package session

import (
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"
	"sync"

	"github.com/resosync/resosync/entityevent"
)

// entityEvent is the type of the log's events, as JSON.
const entityEvent = `"entity_event"`

// step is how many events are read at a time. Of a log that went on by more than far, only the newest are read, and the
// others are counted.
const (
	step = 1000
	far  = 20_000
)

// tail is the end of the log as one view has it, which all sessions with this view share: whoever asks reads on where the
// last one stopped. Its fields are guarded by Sessions.mu; how far it was read is written only by who holds reading.
type tail struct {
	view    entityevent.View
	told    map[owner]*told // by client; all who are anonymous have one
	begun   bool
	through entityevent.Sequence // how far it was read
	total   int64                // how many events there were since it began
	events  []event              // the last of them, 1,000 at least if there are so many

	reading sync.Mutex // held while the log is read
}

// told is what a client is told in all of its sessions: what becomes of its subscriptions, over the tail.
type told struct {
	layer
	tail     *tail
	owner    owner
	sessions int
}

func (t *tail) count() int64 { return t.total }

func (t *tail) newest(n int64) []event { return t.events[max(int64(len(t.events))-n, 0):] }

// render is an event of the log as a listener gets it.
func render(e entityevent.Event) json.RawMessage {
	raw, _ := json.Marshal(struct { // of a number and texts
		Sequence entityevent.Sequence `json:"EntityEventSequence"`
		Resource string               `json:"ResourceName"`
		Key      string               `json:"ResourceRecordKey"`
	}{e.Sequence, e.Resource, e.Key})
	return raw
}

// enter returns what an owner with a view is told, for one session more.
func (s *Sessions) enter(mask entityevent.Mask, o owner) *told {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tails[mask]
	if t == nil {
		t = &tail{view: entityevent.View{Feed: cmp.Or(s.Feed, entityevent.Local), Mask: mask}, told: map[owner]*told{}}
		if s.tails == nil {
			s.tails = map[entityevent.Mask]*tail{}
		}
		s.tails[mask] = t
	}
	o.address = ""
	of := t.told[o]
	if of == nil {
		of = &told{layer: layer{below: t, base: t.total}, tail: t, owner: o}
		t.told[o] = of
	}
	of.sessions++
	return of
}

// leave says that a session has gone that was told this.
func (s *Sessions) leave(of *told) {
	if of.sessions--; of.sessions > 0 {
		return
	}
	if delete(of.tail.told, of.owner); len(of.tail.told) == 0 {
		delete(s.tails, of.tail.view.Mask)
	}
}

// toldTo is what a client is told: one for each view that sessions of it have.
func (s *Sessions) toldTo(client string) (all []*told) {
	for _, t := range s.tails {
		if of := t.told[owner{client: client}]; of != nil {
			all = append(all, of)
		}
	}
	return all
}

// anyhow is no position: the log is read to its end whoever read it before.
const anyhow entityevent.Sequence = -1

// extend reads the log to its end. It has nothing to do if somebody read beyond a position meanwhile.
func (s *Sessions) extend(ctx context.Context, t *tail, beyond entityevent.Sequence) error {
	t.reading.Lock()
	defer t.reading.Unlock()
	ctx = context.WithoutCancel(ctx) // others wait for it, too
	if !t.begun {
		page, err := s.Store.Events(ctx, t.view, entityevent.EventQuery{After: math.MaxInt64, Limit: 1})
		if err == nil {
			s.grow(t, entityevent.Page{Through: page.Head}, 0)
			t.begun = true
		}
		return err
	}
	for more := beyond == anyhow || t.through <= beyond; more; { // only who holds reading writes it
		page, err := s.Store.Events(ctx, t.view, entityevent.EventQuery{After: t.through, Limit: step})
		if err != nil {
			return err
		}
		skipped := int64(0)
		if more = page.More; more && page.Head-t.through > far {
			if page, skipped, err = s.leap(ctx, t, page.Head); err != nil {
				return err
			}
			more = false
		}
		s.grow(t, page, skipped)
	}
	return nil
}

// grow adds a page at the end of a tail, before which some events were counted and not read.
func (s *Sessions) grow(t *tail, page entityevent.Page, skipped int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case skipped > 0:
		t.events = nil
	case len(t.events) >= 2*kept:
		t.events = append(make([]event, 0, 2*kept+step), t.events[len(t.events)-kept:]...)
	}
	for _, e := range page.Events {
		t.events = append(t.events, event{kind: entityEvent, data: render(e)})
	}
	t.total += skipped + int64(len(page.Events))
	t.through = max(t.through, page.Through)
}

// leap returns the newest events up to a position, and how many are before them.
func (s *Sessions) leap(ctx context.Context, t *tail, head entityevent.Sequence) (page entityevent.Page, skipped int64, err error) {
	q := entityevent.EventQuery{After: t.through, Before: head + 1}
	n, err := s.Store.CountEvents(ctx, t.view, q)
	if err != nil {
		return page, 0, err
	}
	var newest []entityevent.Event
	q.Order = entityevent.NewestFirst
	for more := true; more && len(newest) < kept; more = page.More {
		q.Limit = kept - len(newest)
		if page, err = s.Store.Events(ctx, t.view, q); err != nil {
			return page, 0, err
		}
		newest = append(newest, page.Events...)
		q.Before = page.Through
	}
	slices.Reverse(newest)
	page.Events, page.Through = newest, head
	if len(newest) == kept { // else these are all
		skipped = max(n-kept, 0)
	}
	return page, skipped, nil
}
