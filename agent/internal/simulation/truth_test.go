package simulation

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// truth is what the producer's store must hold: every commit that it carried out, computed a second time and
// in the plainest way.
type truth struct {
	w  *world
	mu sync.Mutex

	facts       map[entityevent.Ref]fact
	history     map[entityevent.Ref][]version
	committedAt map[entityevent.Sequence]time.Time
	events      []entityevent.Event // of the log, ascending
	log         entityevent.LogID   // as the store has it
}

// fact is one record.
type fact struct {
	body  string // empty: there is none
	hash  entityevent.Hash
	since time.Time // of its existence, or its absence
}

// committed takes in what the store answered to a commit.
func (t *truth) committed(c entityevent.Commit, outcomes []entityevent.Outcome, err error) {
	if err != nil || c.Feed != entityevent.Local {
		return // wholly absent, or documents only
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, change := range c.Changes {
		t.change(change, outcomes[i])
	}
}

func (t *truth) change(c entityevent.Change, o entityevent.Outcome) {
	old := t.facts[c.Ref]
	content, want := t.expect(c, old)
	if c.IfHash.IsZero() || !errors.Is(o.Err, entityevent.ErrConflict) { // who comes second is refused, in either order
		if !errors.Is(o.Err, want) || want == nil && o.Err != nil {
			t.w.violated("preconditions decide", "%s: %v, want %v", c.Ref, o.Err, want)
			return
		}
	}
	if o.Err != nil {
		return
	}
	changed := content.Hash != old.hash
	if (o.Sequence > 0) != changed {
		t.w.violated("an event for each change and for nothing else", "%s: event %d, changed %v", c.Ref, o.Sequence, changed)
	}
	if !changed {
		return
	}
	now := fact{body: string(content.Body), hash: content.Hash, since: old.since}
	if (now.body == "") != (old.body == "") {
		now.since = time.Now()
	}
	t.facts[c.Ref] = now
	t.history[c.Ref] = append(t.history[c.Ref], version{at: time.Now(), body: now.body, hash: now.hash})
	t.committedAt[o.Sequence] = time.Now()
	e := entityevent.Event{Sequence: o.Sequence, Ref: c.Ref}
	at, found := slices.BinarySearchFunc(t.events, e, func(a, b entityevent.Event) int { return cmp.Compare(a.Sequence, b.Sequence) })
	if found || o.Sequence <= 0 {
		t.w.violated("numbers never reappear", "%d of %s was given to %s", o.Sequence, e.Ref, t.events[at].Ref)
		return
	}
	t.events = slices.Insert(t.events, at, e)
}

// expect returns the content after a change, or why it must be refused.
func (t *truth) expect(c entityevent.Change, old fact) (content entityevent.Content, err error) {
	exists := old.body != ""
	switch {
	case c.Only == entityevent.New && exists:
		return content, entityevent.ErrExists
	case c.Only == entityevent.Present && !exists, c.Op == entityevent.Merge && !exists:
		return content, entityevent.ErrAbsent
	case !c.IfHash.IsZero() && c.IfHash != old.hash:
		return content, entityevent.ErrConflict
	case c.Op == entityevent.Remove:
		return content, nil
	}
	body := []byte(c.Body)
	if c.Op == entityevent.Merge {
		members := map[string]json.RawMessage{}
		_ = json.Unmarshal([]byte(old.body), &members)
		_ = json.Unmarshal(body, &members)
		body, _ = json.Marshal(members)
	}
	return entityevent.Canonicalize(body)
}

// absentSince says whether the record was absent at any time since.
func (t *truth) absentSince(ref entityevent.Ref, since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.facts[ref]
	return f.body == "" || !f.since.Before(since)
}

func (t *truth) follow(log entityevent.LogID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log = log
}

func (t *truth) get(ref entityevent.Ref) fact {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.facts[ref]
}

func (t *truth) head() entityevent.Sequence {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.events) == 0 {
		return 0
	}
	return t.events[len(t.events)-1].Sequence
}

// between returns the events in (after, through].
func (t *truth) between(after, through entityevent.Sequence) []entityevent.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []entityevent.Event
	for _, e := range t.events {
		if e.Sequence > after && e.Sequence <= through {
			out = append(out, e)
		}
	}
	return out
}

// refs returns the records that there are, in order.
func (t *truth) refs() []entityevent.Ref {
	t.mu.Lock()
	defer t.mu.Unlock()
	var refs []entityevent.Ref
	for ref, f := range t.facts {
		if f.body != "" {
			refs = append(refs, ref)
		}
	}
	slices.SortFunc(refs, byName)
	return refs
}

func byName(a, b entityevent.Ref) int {
	return cmp.Or(strings.Compare(a.Resource, b.Resource), strings.Compare(a.Key, b.Key))
}

// snapshot is what a backup holds.
func (t *truth) snapshot() *truth {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &truth{facts: maps.Clone(t.facts), events: slices.Clone(t.events)}
}

// restore makes the truth what it was.
func (t *truth) restore(old *truth) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	facts := maps.Clone(old.facts)
	for ref, f := range facts {
		if (f.body == "") != (t.facts[ref].body == "") {
			f.since = now
			facts[ref] = f
		}
	}
	for ref, f := range t.facts {
		if _, kept := facts[ref]; !kept && f.body != "" {
			facts[ref] = fact{since: now}
		}
	}
	t.facts, t.events = facts, slices.Clone(old.events)
}
