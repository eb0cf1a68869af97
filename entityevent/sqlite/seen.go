package sqlite

import (
	"database/sql/driver"
	"errors"

	"github.com/resosync/resosync/entityevent"
)

// sight is who saw a record before a call, who would see it after one of the call's changes or another, and who sees it
// after the last. Nobody looks in between.
type sight struct{ before, between, views entityevent.Mask }

type sighted struct {
	feed string
	ref  entityevent.Ref
}

// sees notes what a change makes of a record's views.
func (t *tx) sees(feed string, ref entityevent.Ref, seen, views entityevent.Mask) {
	if len(t.rules.of) == 0 {
		return
	}
	k := sighted{feed, ref}
	s, known := t.sights[k]
	if !known {
		s.before = seen
	}
	s.between |= s.views
	s.views = views
	if t.sights == nil {
		t.sights = map[sighted]sight{}
	}
	t.sights[k] = s
}

const (
	toldQuery  = `SELECT rowid, told FROM records WHERE feed = ? AND resource = ? AND key = ?`
	seenUpdate = `UPDATE records SET seen = ?, told = ? WHERE rowid = ?`
)

// forgetBetween takes those who would have seen a record only between two changes of one call out of its seen and of
// its events: they are not told of it.
func (t *tx) forgetBetween() error {
	for k, s := range t.sights {
		never := s.between &^ (s.before | s.views | entityevent.Everyone)
		if never == 0 {
			continue
		}
		var row int64
		var all told
		var damage error
		if _, err := t.one(toldQuery, func(columns []driver.Value) {
			row = integer(columns[0])
			all, damage = toldOf(columns[1])
		}, k.feed, k.ref.Resource, k.ref.Key); err != nil || damage != nil {
			return errors.Join(err, damage)
		}
		seen := (s.before | s.between | s.views) &^ never
		if _, err := t.exec(seenUpdate, int64(seen), all.without(never).column(), row); err != nil {
			return err
		}
		kept := t.events[:0]
		for _, e := range t.events {
			if e.feed == k.feed && e.ref == k.ref {
				e.views &^= never
			}
			if e.views != 0 {
				kept = append(kept, e)
			}
		}
		t.events = kept
	}
	return nil
}
