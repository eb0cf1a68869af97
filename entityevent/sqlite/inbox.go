package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/resosync/resosync/entityevent"
)

const (
	takeQuery  = `SELECT seq, resource, key, url FROM inbox WHERE feed = ? ORDER BY seq, resource, key LIMIT ?+0`
	depthQuery = `SELECT pending FROM cursors WHERE feed = ?`
	itemDelete = `DELETE FROM inbox WHERE feed = ? AND seq = ? AND resource = ? AND key = ?`

	pendingUpdate = `UPDATE cursors SET pending = pending - ? WHERE feed = ?`

	asideQuery = `SELECT resource, key, kind, reason, tries, next_at FROM aside
		WHERE feed = ? ORDER BY next_at, resource, key LIMIT ?+0`
	asideDueQuery = `SELECT resource, key, kind, reason, tries, next_at FROM aside
		WHERE feed = ? AND next_at <= ? ORDER BY next_at, resource, key LIMIT ?+0`
	asideCount  = `SELECT kind, count(*) FROM aside WHERE feed = ? GROUP BY kind`
	asideDelete = `DELETE FROM aside WHERE feed = ? AND resource = ? AND key = ?`
	asidePut    = `INSERT INTO aside (feed, resource, key, kind, reason, tries, next_at) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET kind = excluded.kind, reason = excluded.reason, tries = excluded.tries,
		next_at = excluded.next_at`
)

// Take implements entityevent.Inbox.
func (s *Store) Take(ctx context.Context, feed string, limit int) ([]entityevent.Item, error) {
	var items []entityevent.Item
	err := s.read(ctx, func(c *conn) error {
		return c.query(ctx, takeQuery, func(row []driver.Value) bool {
			items = append(items, entityevent.Item{
				Sequence: entityevent.Sequence(integer(row[0])),
				Ref:      entityevent.Ref{Resource: str(row[1]), Key: str(row[2])},
				URL:      str(row[3]),
			})
			return true
		}, feed, atMostRows(limit))
	})
	if err != nil {
		return nil, fmt.Errorf("inbox of feed %q: %w", feed, err)
	}
	return items, nil
}

// Depth implements entityevent.Inbox. Its cost does not grow with the depth.
func (s *Store) Depth(ctx context.Context, feed string) (n int64, err error) {
	err = s.read(ctx, func(c *conn) error {
		_, err := c.one(depthQuery, func(row []driver.Value) { n = integer(row[0]) }, feed)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("inbox of feed %q: %w", feed, err)
	}
	return n, nil
}

// Aside implements entityevent.Inbox.
func (s *Store) Aside(ctx context.Context, feed string, due time.Time, limit int) ([]entityevent.Setback, error) {
	var setbacks []entityevent.Setback
	each := func(row []driver.Value) bool {
		setbacks = append(setbacks, entityevent.Setback{
			Ref:  entityevent.Ref{Resource: str(row[0]), Key: str(row[1])},
			Kind: str(row[2]), Reason: str(row[3]), Tries: int(integer(row[4])), NextAt: instant(row[5]),
		})
		return true
	}
	err := s.read(ctx, func(c *conn) error {
		if due.IsZero() {
			return c.query(ctx, asideQuery, each, feed, atMostRows(limit))
		}
		return c.query(ctx, asideDueQuery, each, feed, due.UnixMicro(), atMostRows(limit))
	})
	if err != nil {
		return nil, fmt.Errorf("set aside of feed %q: %w", feed, err)
	}
	return setbacks, nil
}

// CountAside implements entityevent.Inbox.
func (s *Store) CountAside(ctx context.Context, feed string) (map[string]int64, error) {
	kinds := map[string]int64{}
	err := s.read(ctx, func(c *conn) error {
		return c.query(ctx, asideCount, func(row []driver.Value) bool {
			kinds[str(row[0])] = integer(row[1])
			return true
		}, feed)
	})
	if err != nil {
		return nil, fmt.Errorf("set aside of feed %q: %w", feed, err)
	}
	return kinds, nil
}

// atMostRows reads a limit; 0 is none.
func atMostRows(limit int) int64 {
	if limit <= 0 {
		return -1
	}
	return int64(limit)
}

// settle removes the inbox rows that a commit settled, and what was set aside of their records.
func (t *tx) settle(feed string, done []entityevent.Item, refused map[entityevent.Ref]bool) error {
	var removed int64
	for _, item := range done {
		if refused[item.Ref] {
			continue
		}
		n, err := t.exec(itemDelete, feed, int64(item.Sequence), item.Resource, item.Key)
		if err != nil {
			return err
		}
		removed += n
		if _, err := t.exec(asideDelete, feed, item.Resource, item.Key); err != nil {
			return err
		}
	}
	if removed == 0 {
		return nil
	}
	_, err := t.exec(pendingUpdate, removed, feed)
	return err
}

func (t *tx) setAside(feed string, a entityevent.Setback) error {
	_, err := t.exec(asidePut, feed, a.Resource, a.Key, a.Kind, a.Reason, int64(a.Tries), micros(a.NextAt))
	return err
}
