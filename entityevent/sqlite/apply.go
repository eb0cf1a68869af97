package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// prepared is a change whose body was read before the writer was asked for, so that the one transaction
// does not wait for parsing.
type prepared struct {
	entityevent.Change
	content entityevent.Content // of the body; of a Merge, the members to merge
	err     error
}

// Apply implements entityevent.Log.
func (s *Store) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	if err := checkCommit(c); err != nil {
		return nil, fmt.Errorf("apply to feed %q: %w", c.Feed, err)
	}
	changes, bytes := s.prepare(c.Changes)
	var outcomes []entityevent.Outcome
	err := s.write(ctx, &call{
		rows:  len(c.Changes) + len(c.Done) + len(c.Aside) + len(c.Docs),
		bytes: bytes,
		run: func(t *tx) error {
			outcomes = make([]entityevent.Outcome, len(changes))
			return s.apply(t, c, changes, outcomes)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("apply to feed %q: %w", c.Feed, err)
	}
	return outcomes, nil
}

func checkCommit(c entityevent.Commit) error {
	if c.Feed == "" && len(c.Changes)+len(c.Done)+len(c.Aside) > 0 {
		return fmt.Errorf("%w: no feed", entityevent.ErrInvalid)
	}
	for _, a := range c.Aside {
		if err := a.Ref.Validate(); err != nil {
			return fmt.Errorf("set aside: %w", err)
		}
	}
	return checkDocs(c.Docs)
}

func (s *Store) prepare(changes []entityevent.Change) (out []prepared, bytes int) {
	out = make([]prepared, len(changes))
	for i, ch := range changes {
		p := &out[i]
		p.Change = ch
		bytes += len(ch.Body)
		if p.err = ch.Ref.Validate(); p.err != nil {
			continue
		}
		switch ch.Op {
		case entityevent.Put, entityevent.Merge:
			p.content, p.err = entityevent.Canonicalize(ch.Body, s.volatile[ch.Resource]...)
		case entityevent.Remove:
		default:
			p.err = fmt.Errorf("%w: operation %d", entityevent.ErrInvalid, ch.Op)
		}
	}
	return out, bytes
}

func (s *Store) apply(t *tx, c entityevent.Commit, changes []prepared, outcomes []entityevent.Outcome) error {
	var refused map[entityevent.Ref]bool
	for i := range changes {
		o, err := s.change(t, c.Feed, &changes[i])
		if err != nil {
			return fmt.Errorf("%s: %w", changes[i].Ref, err)
		}
		if o.Err != nil {
			o.Err = fmt.Errorf("%s: %w", changes[i].Ref, o.Err)
			if refused == nil {
				refused = map[entityevent.Ref]bool{}
			}
			refused[changes[i].Ref] = true
		}
		outcomes[i] = o
	}
	if err := t.settle(c.Feed, c.Done, refused); err != nil {
		return err
	}
	for _, a := range c.Aside {
		if err := t.setAside(c.Feed, a); err != nil {
			return err
		}
	}
	return t.writeDocs(c.Docs)
}

// stored is what the table says of one record; zero when there is no row.
type stored struct {
	row     int64
	version int64
	hash    entityevent.Hash
	views   entityevent.Mask
	seen    entityevent.Mask
	told    told
	pass    int64
	exists  bool // and is not gone
	same    bool // the body is the one asked about, byte by byte
}

const (
	recordQuery = `SELECT rowid, version, hash, seen, pass, body IS NOT NULL, CASE WHEN hash = ?4 THEN body = ?5 END,
		views, told FROM records WHERE feed = ?1 AND resource = ?2 AND key = ?3`
	bodyQuery    = `SELECT CAST(body AS BLOB) FROM records WHERE rowid = ?`
	recordInsert = `INSERT INTO records (feed, resource, key, hash, version, views, seen, modified_at, pass, parent_resource, parent_key,
		body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	recordUpdate = `UPDATE records SET hash = ?, version = ?, views = ?, seen = ?, told = NULL, modified_at = ?, pass = ?,
		parent_resource = ?, parent_key = ?, body = ? WHERE rowid = ?`
	// The content is equal and only volatile members, or the order of members, differ.
	bodyUpdate = `UPDATE records SET modified_at = ?, pass = ?, parent_resource = ?, parent_key = ?, body = ? WHERE rowid = ?`
	// Nothing differs: this statement must not name body, for people hang triggers on it.
	passUpdate = `UPDATE records SET pass = ? WHERE rowid = ?`
)

func (t *tx) record(feed string, ref entityevent.Ref, content entityevent.Content) (r stored, err error) {
	sound := true
	var damage error
	_, err = t.one(recordQuery, func(row []driver.Value) {
		r.row, r.version = integer(row[0]), integer(row[1])
		sound = hashOf(row[2], &r.hash)
		r.seen, r.pass = entityevent.Mask(integer(row[3])), integer(row[4])
		r.exists, r.same = integer(row[5]) != 0, integer(row[6]) != 0
		r.views = entityevent.Mask(integer(row[7]))
		r.told, damage = toldOf(row[8])
	}, feed, ref.Resource, ref.Key, content.Hash[:], text(content.Body))
	if err == nil && !sound {
		err = fmt.Errorf("%w: its row", errDamaged)
	}
	return r, errors.Join(err, damage)
}

// change applies one change. A refusal is in the outcome; an error is the whole commit's.
func (s *Store) change(t *tx, feed string, p *prepared) (o entityevent.Outcome, err error) {
	if p.err != nil {
		return entityevent.Outcome{Err: p.err}, nil
	}
	old, err := t.record(feed, p.Ref, p.content)
	if err != nil {
		return o, err
	}
	o.Before, o.Hash = old.hash, old.hash
	if o.Err = refusal(p.Change, old); o.Err != nil {
		return o, nil
	}
	pass := old.pass
	if p.Pass != 0 {
		pass = p.Pass
	}
	if p.Op == entityevent.Remove {
		return t.remove(feed, p.Ref, old, pass, o)
	}
	content := p.content
	if p.Op == entityevent.Merge {
		if content, old.same, err = s.merge(t, p, old); errors.Is(err, entityevent.ErrInvalid) {
			o.Err = err
			return o, nil
		} else if err != nil {
			return o, err
		}
	}
	switch {
	case !old.exists || content.Hash != old.hash:
		return t.store(feed, p.Ref, old, content, pass, o)
	case !old.same:
		parentResource, parentKey := parentOf(p.Resource, content.Body)
		_, err = t.exec(bodyUpdate, modifiedAt(content), pass, parentResource, parentKey, text(content.Body), old.row)
		if err == nil {
			err = t.lookAgain(feed, p.Ref, old, content.Body, parentResource, parentKey)
		}
		return o, err
	}
	return o, t.mark(old, pass)
}

func refusal(c entityevent.Change, old stored) error {
	switch {
	case c.Only == entityevent.New && old.exists:
		return entityevent.ErrExists
	case c.Only == entityevent.Present && !old.exists, c.Op == entityevent.Merge && !old.exists:
		return entityevent.ErrAbsent
	case !c.IfHash.IsZero() && c.IfHash != old.hash:
		return entityevent.ErrConflict
	case c.UnchangedSince != nil && old.version > int64(*c.UnchangedSince):
		return entityevent.ErrConflict
	}
	return nil
}

// merge returns the record's content after a Merge, and whether its body is what is stored already.
func (s *Store) merge(t *tx, p *prepared, old stored) (content entityevent.Content, same bool, err error) {
	var base []byte
	if _, err = t.one(bodyQuery, func(row []driver.Value) { base, _ = row[0].([]byte) }, old.row); err != nil {
		return content, false, err
	}
	if !whole(base) {
		return content, false, fmt.Errorf("%w: its body", errDamaged)
	}
	merged, err := entityevent.MergeBodies(base, p.content.Body)
	if err != nil {
		return content, false, err
	}
	content, err = entityevent.Canonicalize(merged, s.volatile[p.Resource]...)
	return content, bytes.Equal(base, content.Body), err
}

// store writes new content and its event.
func (t *tx) store(feed string, ref entityevent.Ref, old stored, content entityevent.Content, pass int64,
	o entityevent.Outcome) (entityevent.Outcome, error) {
	parentResource, parentKey := parentOf(ref.Resource, content.Body)
	views, err := t.views(feed, ref, content.Body, parentResource, parentKey)
	if err == nil {
		err = t.follow(feed, ref, old.views, views)
	}
	if err != nil {
		return o, err
	}
	seq, seen := t.next(), old.seen|views
	t.sees(feed, ref, old.seen, views)
	modified, body := modifiedAt(content), text(content.Body)
	if old.row == 0 {
		_, err = t.exec(recordInsert, feed, ref.Resource, ref.Key, content.Hash[:], seq, int64(views), int64(seen),
			modified, pass, parentResource, parentKey, body)
	} else {
		_, err = t.exec(recordUpdate, content.Hash[:], seq, int64(views), int64(seen), modified, pass, parentResource, parentKey, body,
			old.row)
	}
	t.append(event{feed, seq, ref, seen})
	o.Sequence, o.Hash = entityevent.Sequence(seq), content.Hash
	return o, err
}

// remove leaves a mark in the record's place. Nobody sees the record from now on, and those who ever saw
// it see the event.
func (t *tx) remove(feed string, ref entityevent.Ref, old stored, pass int64, o entityevent.Outcome) (
	entityevent.Outcome, error) {
	if !old.exists {
		return o, t.mark(old, pass)
	}
	if err := t.follow(feed, ref, old.views, 0); err != nil {
		return o, err
	}
	var gone entityevent.Hash
	seq := t.next()
	t.sees(feed, ref, old.seen, 0)
	_, err := t.exec(recordUpdate, gone[:], seq, int64(0), int64(old.seen), nil, pass, nil, nil, nil, old.row)
	t.append(event{feed, seq, ref, old.seen})
	o.Sequence, o.Hash = entityevent.Sequence(seq), gone
	return o, err
}

// mark notes the pass on a record that did not change.
func (t *tx) mark(old stored, pass int64) error {
	if old.row == 0 || pass == old.pass {
		return nil
	}
	_, err := t.exec(passUpdate, pass, old.row)
	return err
}

// micros returns a time for a column of unix microseconds, NULL for the zero time.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// instant is the reverse of micros.
func instant(v driver.Value) time.Time {
	if us, ok := v.(int64); ok {
		return time.UnixMicro(us).UTC()
	}
	return time.Time{}
}
