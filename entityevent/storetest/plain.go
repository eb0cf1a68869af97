package storetest

import (
	"cmp"
	"maps"
	"slices"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/resosync/resosync/entityevent"
)

// model is what a store means, in plain Go and without any care for speed or durability.
type model struct {
	head    entityevent.Sequence
	events  map[string][]entityevent.Event
	content map[string]map[entityevent.Ref]entityevent.Record
	inbox   map[string][]entityevent.Item
	setback map[string]map[entityevent.Ref]entityevent.Setback
	cursors map[string]*follower
	docs    map[string]entityevent.Doc
	seconds int
	begin   time.Time
}

// follower is a feed's position and what was seen above it.
type follower struct {
	entityevent.Position
	recent map[entityevent.Sequence]sighting
}

type sighting struct {
	ref entityevent.Ref
	at  time.Time
}

func newModel() *model {
	return &model{
		events:  map[string][]entityevent.Event{},
		content: map[string]map[entityevent.Ref]entityevent.Record{},
		inbox:   map[string][]entityevent.Item{},
		setback: map[string]map[entityevent.Ref]entityevent.Setback{},
		cursors: map[string]*follower{},
		docs:    map[string]entityevent.Doc{},
		begin:   time.Now().Add(time.Hour), // later than the store's clock
	}
}

func (m *model) now() time.Time { return m.begin.Add(time.Duration(m.seconds) * time.Second) }

func (m *model) cursor(feed string) *follower {
	if m.cursors[feed] == nil {
		m.cursors[feed] = &follower{recent: map[entityevent.Sequence]sighting{}}
	}
	return m.cursors[feed]
}

func (m *model) record(feed string, ref entityevent.Ref) entityevent.Record {
	return m.content[feed][ref]
}

func (m *model) apply(c entityevent.Commit) ([]entityevent.Outcome, error) {
	if !m.docsHold(c.Docs) {
		return nil, entityevent.ErrConflict
	}
	outcomes := make([]entityevent.Outcome, len(c.Changes))
	refused := map[entityevent.Ref]bool{}
	for i, ch := range c.Changes {
		outcomes[i] = m.change(c.Feed, ch)
		refused[ch.Ref] = refused[ch.Ref] || outcomes[i].Err != nil
	}
	if m.setback[c.Feed] == nil {
		m.setback[c.Feed] = map[entityevent.Ref]entityevent.Setback{}
	}
	for _, d := range slices.Clone(c.Done) {
		if !refused[d.Ref] {
			m.inbox[c.Feed] = slices.DeleteFunc(slices.Clone(m.inbox[c.Feed]), func(i entityevent.Item) bool {
				return i.Sequence == d.Sequence && i.Ref == d.Ref
			})
			delete(m.setback[c.Feed], d.Ref)
		}
	}
	for _, a := range c.Aside {
		m.setback[c.Feed][a.Ref] = a
	}
	m.write(c.Docs)
	return outcomes, nil
}

func (m *model) change(feed string, c entityevent.Change) entityevent.Outcome {
	old := m.record(feed, c.Ref)
	exists := old.Body != nil
	o := entityevent.Outcome{Before: old.Hash, Hash: old.Hash}
	body := c.Body
	if c.Op != entityevent.Remove {
		patch, err := entityevent.Canonicalize(body)
		if err != nil {
			return entityevent.Outcome{Err: entityevent.ErrInvalid}
		}
		body = patch.Body
	}
	switch {
	case c.Only == entityevent.New && exists:
		o.Err = entityevent.ErrExists
	case (c.Only == entityevent.Present || c.Op == entityevent.Merge) && !exists:
		o.Err = entityevent.ErrAbsent
	case !c.IfHash.IsZero() && c.IfHash != old.Hash, c.UnchangedSince != nil && old.Version > *c.UnchangedSince:
		o.Err = entityevent.ErrConflict
	}
	if o.Err != nil || c.Op == entityevent.Remove && !exists {
		return o
	}
	now := entityevent.Record{Ref: c.Ref, Seen: old.Seen}
	if c.Op != entityevent.Remove {
		if c.Op == entityevent.Merge {
			body, _ = entityevent.MergeBodies(old.Body, body)
		}
		content, err := entityevent.Canonicalize(body)
		if err != nil {
			panic(err)
		}
		now.Body, now.Hash, now.Modified = content.Body, content.Hash, content.Modified
		now.Views, now.Seen = entityevent.Everyone, entityevent.Everyone
	}
	now.Version = old.Version
	if now.Hash != old.Hash {
		m.head++
		now.Version, o.Sequence = m.head, m.head
		m.events[feed] = append(m.events[feed], entityevent.Event{Sequence: m.head, Ref: c.Ref})
	}
	if m.content[feed] == nil {
		m.content[feed] = map[entityevent.Ref]entityevent.Record{}
	}
	m.content[feed][c.Ref] = now
	o.Hash = now.Hash
	return o
}

// assign takes the number that the store gave an event: gaps are the store's own affair.
func (m *model) assign(feed string, mine, stores entityevent.Sequence) {
	m.head = max(m.head, stores)
	if mine == stores {
		return
	}
	for i := range m.events[feed] {
		if m.events[feed][i].Sequence == mine {
			m.events[feed][i].Sequence = stores
		}
	}
	for ref, r := range m.content[feed] {
		if r.Version == mine {
			r.Version = stores
			m.content[feed][ref] = r
		}
	}
}

func (m *model) countAside(feed string) map[string]int64 {
	kinds := map[string]int64{}
	for _, a := range m.setback[feed] {
		kinds[a.Kind]++
	}
	return kinds
}

func (m *model) receive(d entityevent.Delivery) (entityevent.Position, error) {
	f := m.cursor(d.Feed)
	if !d.Adopt && f.Started && d.Log != "" && d.Log != f.Log {
		f.Marked++
		return f.Position, entityevent.ErrAnotherLog
	}
	own := f.Started && d.Log == f.Log
	if !d.Adopt && own {
		for _, e := range d.Events {
			if s, ok := f.recent[e.Sequence]; ok && s.ref != e.Ref && e.Sequence > f.Sequence {
				f.Marked++
				return f.Position, entityevent.ErrAnotherLog
			}
		}
	}
	if !m.docsHold(d.Docs) {
		return entityevent.Position{}, entityevent.ErrConflict
	}
	m.write(d.Docs)
	store := d.Events
	var remember []entityevent.Event
	switch {
	case d.Adopt:
		if f.Started && (f.Log != d.Log || d.Log == "") {
			m.inbox[d.Feed] = nil
		}
		f.Log, f.Sequence, f.Started, f.Cleared, f.Unsettled = d.Log, d.Through, true, f.Marked, false
		clear(f.recent)
		store = above(d.Events, d.Through)
		remember = store
	case !f.Started:
	case !own:
		f.Marked++
	default:
		if d.Chained {
			store = above(store, f.Sequence)
		}
		store = slices.DeleteFunc(slices.Clone(store), func(e entityevent.Event) bool {
			_, known := f.recent[e.Sequence]
			return known
		})
		remember = above(d.Events, f.Sequence)
	}
	n := m.pend(d.Feed, store)
	for _, e := range remember {
		if _, ok := f.recent[e.Sequence]; !ok {
			f.recent[e.Sequence] = sighting{e.Ref, d.Asked}
		}
	}
	if own && !d.Adopt {
		f.follow(d)
	}
	p := f.Position
	p.Stored = n
	return p, nil
}

// follow moves the cursor of a delivery of its own log.
func (f *follower) follow(d entityevent.Delivery) {
	if !d.Chained || d.After > f.Sequence {
		f.Marked++
		return
	}
	f.Cleared = max(f.Cleared, min(d.Clears, f.Marked))
	to := max(f.Sequence, d.Through)
	f.Unsettled = false
	if d.Settle > 0 {
		to = f.Sequence
		for s, seen := range f.recent {
			if s <= d.Through && seen.at.After(d.Asked) { // the clock was set back
				f.recent[s] = sighting{seen.ref, d.Asked}
			}
		}
		for _, s := range slices.Sorted(maps.Keys(f.recent)) {
			if s > d.Through {
				break
			}
			if f.recent[s].at.After(d.Asked.Add(-d.Settle)) {
				f.Unsettled = true
				break
			}
			to = s
		}
	}
	f.Sequence = to
	maps.DeleteFunc(f.recent, func(s entityevent.Sequence, _ sighting) bool { return s <= to })
}

func above(events []entityevent.Event, s entityevent.Sequence) []entityevent.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e entityevent.Event) bool { return e.Sequence <= s })
}

func (m *model) pend(feed string, events []entityevent.Event) (n int) {
	for _, e := range events {
		item := entityevent.Item{Sequence: e.Sequence, Ref: e.Ref, URL: e.URL}
		if !slices.ContainsFunc(m.inbox[feed], func(i entityevent.Item) bool { return i.Sequence == e.Sequence && i.Ref == e.Ref }) {
			m.inbox[feed] = append(m.inbox[feed], item)
			n++
		}
	}
	slices.SortFunc(m.inbox[feed], func(a, b entityevent.Item) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Key, b.Key))
	})
	return n
}

func (m *model) docsHold(docs []entityevent.Doc) bool {
	for _, d := range docs {
		if m.docs[d.ID].Version != d.Version {
			return false
		}
	}
	return true
}

func (m *model) write(docs []entityevent.Doc) {
	for _, d := range docs {
		if d.Body == nil {
			delete(m.docs, d.ID)
			continue
		}
		d.Version++
		m.docs[d.ID] = d
	}
}

func (m *model) wantRecords(feed string) []entityevent.Record {
	return slices.SortedFunc(maps.Values(m.content[feed]), func(a, b entityevent.Record) int { return cmp.Compare(a.Key, b.Key) })
}

func (m *model) wantAside(feed string) []entityevent.Setback {
	return slices.SortedFunc(maps.Values(m.setback[feed]), func(a, b entityevent.Setback) int {
		return cmp.Or(a.NextAt.Compare(b.NextAt), cmp.Compare(a.Key, b.Key))
	})
}

func (m *model) wantDocs() []entityevent.Doc {
	return slices.SortedFunc(maps.Values(m.docs), func(a, b entityevent.Doc) int { return cmp.Compare(a.ID, b.ID) })
}

// refs are events without their times.
func refs(events []entityevent.Event) []entityevent.Event {
	out := slices.Clone(events)
	for i := range out {
		out[i].At = time.Time{}
	}
	return out
}

func diff(want, got any) string { return gocmp.Diff(want, got, cmpopts.EquateEmpty()) }

// clone is the model as a backup keeps it.
func (m *model) clone() *model {
	c := *m
	c.events, c.inbox, c.docs = maps.Clone(m.events), maps.Clone(m.inbox), maps.Clone(m.docs)
	for feed := range c.events {
		c.events[feed] = slices.Clone(c.events[feed])
	}
	for feed := range c.inbox {
		c.inbox[feed] = slices.Clone(c.inbox[feed])
	}
	c.content, c.setback, c.cursors = maps.Clone(m.content), maps.Clone(m.setback), maps.Clone(m.cursors)
	for feed := range c.content {
		c.content[feed] = maps.Clone(c.content[feed])
	}
	for feed := range c.setback {
		c.setback[feed] = maps.Clone(c.setback[feed])
	}
	for feed, f := range c.cursors {
		c.cursors[feed] = &follower{f.Position, maps.Clone(f.recent)}
	}
	return &c
}
