package subscription

import (
	"cmp"
	"slices"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// tally is what is known of all subscriptions without reading them: whose they are, and where those stand that are not
// cancelled.
type tally struct {
	all    []*entry       // in order of their UUIDs
	open   int            // how many are not cancelled
	own    map[string]int // how many of these there are, by client
	kept   map[string]int // with the cancelled ones
	others []string       // names of states that were not registered
}

// entry is a subscription in the tally.
type entry struct {
	uuid, client string
	types        []string
	version      int64                       // of the state
	state        *producer.SubscriptionState // replaced, never changed; nil: cancelled
}

// newTally counts what was read: first the registrations, then the states.
func newTally(registrations, states []entityevent.Doc) (*tally, error) {
	t := &tally{own: map[string]int{}, kept: map[string]int{}}
	stands := make(map[string]bool, len(states))
	for _, doc := range states {
		stands[doc.ID] = true
	}
	for _, doc := range registrations {
		if !stands[doc.ID] {
			continue
		}
		if err := t.add(doc); err != nil {
			return nil, err
		}
	}
	for _, doc := range states {
		if _, registered := t.find(doc.ID); !registered {
			t.others = append(t.others, doc.ID)
		}
		if err := t.move(doc); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// note takes over what a commit wrote. Two that changed the same may be noted in either order.
func (t *tally) note(docs []entityevent.Doc) error {
	for _, doc := range docs {
		doc.Version++ // as it was stored
		var err error
		switch {
		case doc.Body == nil: // only Sweep forgets some, and counts anew
		case doc.Kind == registrationKind:
			err = t.add(doc)
		case doc.Kind == producer.SubscriptionKind:
			err = t.move(doc)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tally) find(uuid string) (at int, found bool) {
	return slices.BinarySearchFunc(t.all, uuid, func(e *entry, uuid string) int { return cmp.Compare(e.uuid, uuid) })
}

// add takes in a registration, unless it is known: what an entry has of it never changes.
func (t *tally) add(doc entityevent.Doc) error {
	at, found := t.find(doc.ID)
	if found {
		return nil
	}
	r, err := parseRegistration(doc)
	if err != nil {
		return err
	}
	t.all = slices.Insert(t.all, at, &entry{uuid: doc.ID, client: r.Client, types: r.EventTypes})
	t.kept[r.Client]++
	t.others = slices.DeleteFunc(t.others, func(name string) bool { return name == doc.ID })
	return nil
}

// move takes over where a subscription stands, unless what is known is newer.
func (t *tally) move(doc entityevent.Doc) error {
	at, found := t.find(doc.ID)
	if !found || doc.Version <= t.all[at].version {
		return nil
	}
	state, err := parseState(doc)
	if err != nil {
		return err
	}
	e := t.all[at]
	t.close(e)
	if e.version = doc.Version; state.Status == producer.Cancelled {
		e.types = nil
		return nil
	}
	e.state = &state
	t.open++
	t.own[e.client]++
	return nil
}

// close counts an entry as cancelled.
func (t *tally) close(e *entry) {
	if e.state == nil {
		return
	}
	e.state = nil
	t.open--
	t.own[e.client]--
}
