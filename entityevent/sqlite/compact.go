package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"

	"github.com/resosync/resosync/entityevent"
)

const (
	eventFeeds = `SELECT feed FROM events WHERE feed > ? ORDER BY feed LIMIT 1`
	// Events, oldest first, and what their records say about them.
	compactQuery = `SELECT e.seq, e.at, r.rowid, r.version, r.told, r.body IS NULL FROM events e
		LEFT JOIN records r ON r.feed = e.feed AND r.resource = e.resource AND r.key = e.key
		WHERE e.feed = ? AND e.seq > ? AND e.seq <= ? ORDER BY e.seq LIMIT ?+0`
	eventDelete  = `DELETE FROM events WHERE feed = ? AND seq = ?`
	recordDelete = `DELETE FROM records WHERE rowid = ? AND version = ? AND body IS NULL`
	floorRaise   = `INSERT INTO floors (feed, seq) VALUES (?, ?) ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)`
)

// Compact implements entityevent.Compactor. It walks the log of each feed, as far as it was there when it began.
func (s *Store) Compact(ctx context.Context, c entityevent.Compaction) (entityevent.Compacted, error) {
	run := compaction{store: s, forget: math.MinInt64}
	if !c.Forget.IsZero() {
		run.forget = c.Forget.UnixMicro()
	}
	if err := run.all(ctx); err != nil {
		return run.done, fmt.Errorf("compact: %w", err)
	}
	return run.done, nil
}

// compaction is one Compact under way.
type compaction struct {
	store  *Store
	forget int64 // unix microseconds
	head   int64 // it goes no further
	feed   string
	after  int64
	done   entityevent.Compacted

	// Of the events that were looked at last:
	more       bool    // they are not the last of the feed
	superseded []int64 // newer ones tell all who could see them
	gone       []mark  // the last ones of records to be forgotten
}

// mark is a gone record and its last event.
type mark struct{ row, seq int64 }

func (c *compaction) all(ctx context.Context) error {
	for {
		var found bool
		if err := c.store.read(ctx, func(conn *conn) (err error) {
			if _, err = conn.one(counterQuery, func(row []driver.Value) { c.head = integer(row[0]) }); err == nil {
				found, err = conn.one(eventFeeds, func(row []driver.Value) { c.feed, c.after = str(row[0]), 0 }, c.feed)
			}
			return err
		}); err != nil || !found {
			return err
		}
		for c.more = true; c.more; {
			if err := c.store.read(ctx, c.look); err != nil {
				return err
			}
			if len(c.superseded)+len(c.gone) == 0 {
				continue
			}
			var dropped entityevent.Compacted
			if err := c.store.write(ctx, &call{rows: len(c.superseded) + len(c.gone), run: func(t *tx) (err error) {
				dropped, err = c.drop(t)
				return err
			}}); err != nil {
				return err
			}
			c.done.Events += dropped.Events
			c.done.Forgotten += dropped.Forgotten
		}
	}
}

// look looks at the next events of the feed. What it finds superseded stays so, whatever happens until it is dropped.
func (c *compaction) look(conn *conn) error {
	c.superseded, c.gone = c.superseded[:0], c.gone[:0]
	rows := 0
	var damage error
	err := conn.query(context.Background(), compactQuery, func(row []driver.Value) bool {
		rows++
		c.after = integer(row[0])
		var live told
		live, damage = toldOf(row[4])
		switch {
		case damage != nil:
			return false
		case row[2] == nil:
			// No commit leaves an event without its record: it is kept, for whoever finds out why.
		case c.after != integer(row[3]) && !live.has(c.after):
			c.superseded = append(c.superseded, c.after)
		case integer(row[5]) != 0 && integer(row[1]) < c.forget:
			c.gone = append(c.gone, mark{integer(row[2]), c.after})
		}
		return true
	}, c.feed, c.after, c.head, int64(c.store.steps.compacted))
	c.more = rows == c.store.steps.compacted
	return errors.Join(err, damage)
}

// drop drops what look found, except the marks of records that came back meanwhile.
func (c *compaction) drop(t *tx) (dropped entityevent.Compacted, err error) {
	for _, seq := range c.superseded {
		n, err := t.exec(eventDelete, c.feed, seq)
		if err != nil {
			return dropped, err
		}
		dropped.Events += n
	}
	for _, m := range c.gone {
		n, err := t.exec(recordDelete, m.row, m.seq)
		if n == 0 || err != nil {
			if err != nil {
				return dropped, err
			}
			continue
		}
		dropped.Forgotten++
		if _, err := t.exec(eventDelete, c.feed, m.seq); err != nil {
			return dropped, err
		}
		if _, err := t.exec(floorRaise, c.feed, m.seq); err != nil {
			return dropped, err
		}
	}
	return dropped, nil
}
