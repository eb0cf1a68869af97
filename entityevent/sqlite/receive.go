package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/resosync/resosync/entityevent"
)

const (
	cursorQuery = `SELECT log, seq, started, marked, cleared, unsettled, pending FROM cursors WHERE feed = ?`
	cursorPut   = `INSERT INTO cursors (feed, log, seq, started, marked, cleared, unsettled, pending)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET log = excluded.log, seq = excluded.seq,
		started = excluded.started, marked = excluded.marked, cleared = excluded.cleared,
		unsettled = excluded.unsettled, pending = excluded.pending`
	inboxClear  = `DELETE FROM inbox WHERE feed = ?`
	recentQuery = `SELECT seq, resource, key FROM recent WHERE feed = ? AND seq BETWEEN ? AND ?`
	recentClear = `DELETE FROM recent WHERE feed = ? AND seq <= ?`

	// The lowest event above the cursor that is not settled yet, and the highest below it that is.
	unsettledQuery = `SELECT min(seq) FROM recent WHERE feed = ? AND seq > ? AND seq <= ? AND at > ?`
	settledQuery   = `SELECT max(seq) FROM recent WHERE feed = ? AND seq > ? AND seq <= ?`
	futureUpdate   = `UPDATE recent SET at = ?1 WHERE feed = ?2 AND seq > ?3 AND seq <= ?4 AND at > ?1`
)

var (
	inboxInsert  = newInsert(`INSERT INTO inbox (feed, seq, resource, key, url) VALUES `, 5, ` ON CONFLICT DO NOTHING`)
	recentInsert = newInsert(`INSERT INTO recent (feed, seq, resource, key, at) VALUES `, 5, ` ON CONFLICT DO NOTHING`)
)

// cursor is a feed's row.
type cursor struct {
	entityevent.Position
	pending int64
}

// Position implements entityevent.Inbox.
func (s *Store) Position(ctx context.Context, feed string) (entityevent.Position, error) {
	var cur cursor
	err := s.read(ctx, func(c *conn) (err error) {
		cur, err = c.cursor(feed)
		return err
	})
	if err != nil {
		return entityevent.Position{}, fmt.Errorf("position of feed %q: %w", feed, err)
	}
	return cur.Position, nil
}

func (c *conn) cursor(feed string) (cur cursor, err error) {
	_, err = c.one(cursorQuery, func(row []driver.Value) {
		cur.Log, cur.Sequence = entityevent.LogID(str(row[0])), entityevent.Sequence(integer(row[1]))
		cur.Started, cur.Marked, cur.Cleared = integer(row[2]) != 0, integer(row[3]), integer(row[4])
		cur.Unsettled, cur.pending = integer(row[5]) != 0, integer(row[6])
	}, feed)
	return cur, err
}

// Receive implements entityevent.Inbox.
func (s *Store) Receive(ctx context.Context, d entityevent.Delivery) (entityevent.Position, error) {
	r := receipt{Delivery: d}
	err := checkDelivery(d)
	if err == nil {
		err = s.write(ctx, &call{rows: len(d.Events) + len(d.Docs), run: r.run})
	}
	if err == nil {
		err = r.refused
	}
	if err != nil && !errors.Is(err, entityevent.ErrAnotherLog) {
		return entityevent.Position{}, fmt.Errorf("receive for feed %q: %w", d.Feed, err)
	}
	if err != nil {
		err = fmt.Errorf("receive for feed %q: %w", d.Feed, err)
	}
	return r.cursor.Position, err
}

func checkDelivery(d entityevent.Delivery) error {
	if d.Feed == "" {
		return fmt.Errorf("%w: no feed", entityevent.ErrInvalid)
	}
	if d.After < 0 || d.Through < 0 || d.Chained && d.Through < d.After {
		return fmt.Errorf("%w: positions %d to %d", entityevent.ErrInvalid, d.After, d.Through)
	}
	for _, e := range d.Events {
		if err := e.Validate(); err != nil {
			return err
		}
	}
	return checkDocs(d.Docs)
}

// receipt is one Receive inside its transaction.
type receipt struct {
	entityevent.Delivery
	tx      *tx
	cursor  cursor
	seen    int64 // when the events were seen first, unix microseconds
	refused error // ErrAnotherLog: only the mark is committed
}

func (r *receipt) run(t *tx) (err error) {
	r.tx, r.refused = t, nil
	// A page that was asked for cannot have been seen before, whatever the clocks say.
	r.seen = max(t.now, r.Asked.UnixMicro())
	if r.cursor, err = t.cursor(r.Feed); err != nil {
		return err
	}
	before := r.cursor
	switch {
	case r.Adopt:
		err = r.adopt()
	case !r.cursor.Started:
		err = r.store(r.Events)
	case r.Log != "" && r.Log != r.cursor.Log:
		r.refused = fmt.Errorf("%w: it names %q, the feed follows %q", entityevent.ErrAnotherLog, r.Log, r.cursor.Log)
	case r.Log != r.cursor.Log: // it names none
		r.cursor.Marked++
		err = r.store(r.Events)
	default:
		err = r.follow()
	}
	if errors.Is(err, entityevent.ErrAnotherLog) {
		r.refused, err = err, nil
	}
	if r.refused != nil {
		r.cursor = before
		r.cursor.Marked++
	} else if err == nil {
		err = t.writeDocs(r.Docs)
	}
	if err != nil {
		return err
	}
	stored := r.cursor.Stored
	r.cursor.Stored = 0
	if r.cursor != before || stored > 0 {
		err = t.putCursor(r.Feed, r.cursor)
	}
	r.cursor.Stored = stored
	return err
}

func (t *tx) putCursor(feed string, c cursor) error {
	_, err := t.exec(cursorPut, feed, string(c.Log), int64(c.Sequence), flag(c.Started), c.Marked, c.Cleared,
		flag(c.Unsettled), c.pending)
	return err
}

// adopt begins to follow a log. Without a name nobody can tell whether it is the one before.
func (r *receipt) adopt() error {
	c := &r.cursor
	if c.Started && (c.Log != r.Log || r.Log == "") {
		if _, err := r.tx.exec(inboxClear, r.Feed); err != nil {
			return err
		}
		c.pending = 0
	}
	c.Log, c.Sequence, c.Started, c.Cleared, c.Unsettled = r.Log, r.Through, true, c.Marked, false
	if _, err := r.tx.exec(recentClear, r.Feed, int64(maxSequence)); err != nil {
		return err
	}
	above := r.above(r.Through)
	if err := r.store(above); err != nil {
		return err
	}
	return r.remember(above)
}

// follow takes a delivery of the feed's own log.
func (r *receipt) follow() error {
	c := &r.cursor
	fresh, err := r.unseen()
	if err != nil {
		return err
	}
	if err := r.store(fresh); err != nil {
		return err
	}
	if !r.Chained || r.After > c.Sequence {
		c.Marked++
		return r.remember(r.above(c.Sequence))
	}
	through := max(c.Sequence, r.Through)
	if r.Settle > 0 {
		if err := r.remember(r.above(c.Sequence)); err != nil {
			return err
		}
		if through, err = r.settled(); err != nil {
			return err
		}
	} else {
		if err := r.remember(r.above(through)); err != nil {
			return err
		}
		c.Unsettled = false
	}
	if r.Clears > c.Cleared {
		c.Cleared = min(r.Clears, c.Marked)
	}
	if through == c.Sequence {
		return nil
	}
	c.Sequence = through
	_, err = r.tx.exec(recentClear, r.Feed, int64(through))
	return err
}

// settled returns how far the cursor may move: to the highest event that was seen, at or below Through and
// below the lowest one that was first seen too short a time ago.
func (r *receipt) settled() (entityevent.Sequence, error) {
	c := &r.cursor
	limit, unsettled := int64(r.Through), false
	// What was stamped in the future was seen before the clock was set back: it settles from now on, not
	// when the clock is there again.
	if _, err := r.tx.exec(futureUpdate, r.seen, r.Feed, int64(c.Sequence), int64(r.Through)); err != nil {
		return c.Sequence, err
	}
	_, err := r.tx.one(unsettledQuery, func(row []driver.Value) {
		if low, ok := row[0].(int64); ok {
			limit, unsettled = low-1, true
		}
	}, r.Feed, int64(c.Sequence), int64(r.Through), r.Asked.Add(-r.Settle).UnixMicro())
	if err != nil {
		return c.Sequence, err
	}
	through := c.Sequence
	_, err = r.tx.one(settledQuery, func(row []driver.Value) {
		through = max(through, entityevent.Sequence(integer(row[0])))
	}, r.Feed, int64(c.Sequence), limit)
	c.Unsettled = unsettled
	return through, err
}

// unseen returns the events that are neither known, being at or below the cursor of a chain, nor
// remembered. One that is remembered with another record proves another log.
func (r *receipt) unseen() ([]entityevent.Event, error) {
	c := &r.cursor
	events := r.Events
	if r.Chained {
		events = r.above(c.Sequence)
	}
	if len(events) == 0 {
		return nil, nil
	}
	lowest, highest := events[0].Sequence, events[0].Sequence
	for _, e := range events {
		lowest, highest = min(lowest, e.Sequence), max(highest, e.Sequence)
	}
	var recent map[int64]entityevent.Ref
	err := r.tx.query(context.Background(), recentQuery, func(row []driver.Value) bool {
		if recent == nil {
			recent = map[int64]entityevent.Ref{}
		}
		recent[integer(row[0])] = entityevent.Ref{Resource: str(row[1]), Key: str(row[2])}
		return true
	}, r.Feed, int64(lowest), int64(highest))
	if err != nil || recent == nil {
		return events, err
	}
	fresh := make([]entityevent.Event, 0, len(events))
	for _, e := range events {
		ref, known := recent[int64(e.Sequence)]
		if known && ref != e.Ref {
			return nil, fmt.Errorf("%w: event %d was %s, now it is %s", entityevent.ErrAnotherLog, e.Sequence, ref, e.Ref)
		}
		if !known {
			fresh = append(fresh, e)
		}
	}
	return fresh, nil
}

// above returns the delivered events above a position.
func (r *receipt) above(s entityevent.Sequence) []entityevent.Event {
	for i, e := range r.Events {
		if e.Sequence > s {
			continue
		}
		kept := append([]entityevent.Event(nil), r.Events[:i]...)
		for _, e := range r.Events[i:] {
			if e.Sequence > s {
				kept = append(kept, e)
			}
		}
		return kept
	}
	return r.Events
}

// store puts events into the inbox, except those that are pending already.
func (r *receipt) store(events []entityevent.Event) error {
	n, err := r.tx.insert(inboxInsert, len(events), func(i int, args []any) []any {
		e := &events[i]
		return append(args, r.Feed, int64(e.Sequence), e.Resource, e.Key, e.URL)
	})
	r.cursor.Stored += int(n)
	r.cursor.pending += n
	return err
}

// remember notes events above the cursor, so that they are not stored again.
func (r *receipt) remember(events []entityevent.Event) error {
	_, err := r.tx.insert(recentInsert, len(events), func(i int, args []any) []any {
		e := &events[i]
		return append(args, r.Feed, int64(e.Sequence), e.Resource, e.Key, r.seen)
	})
	return err
}

const maxSequence = 1<<63 - 1
