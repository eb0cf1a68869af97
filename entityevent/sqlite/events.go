package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// pageWork is how many rows of the log one page looks at, at most: a reader who may see few of them gets
// a short page that says how far it looked.
const pageWork = 50_000

const (
	ascending = `SELECT seq, resource, key, at FROM (SELECT * FROM events
		WHERE feed = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq LIMIT ?4) WHERE views & ?5 <> 0`
	descending = `SELECT seq, resource, key, at FROM (SELECT * FROM events
		WHERE feed = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq DESC LIMIT ?4) WHERE views & ?5 <> 0`
	ofResource  = ` AND resource = ?7`
	ofResources = ` AND resource IN (SELECT value FROM json_each(?7))`
	atMost      = ` LIMIT ?6`

	// Where a page's work ended, if the log goes on there.
	ascendingEnd  = `SELECT seq FROM events WHERE feed = ? AND seq > ? AND seq < ? ORDER BY seq LIMIT 1 OFFSET ?`
	descendingEnd = `SELECT seq FROM events WHERE feed = ? AND seq > ? AND seq < ? ORDER BY seq DESC LIMIT 1 OFFSET ?`
)

// Events implements entityevent.Log.
func (s *Store) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	var p entityevent.Page
	err := s.snapshot(ctx, func(c *conn) (err error) {
		p, err = readPage(c, v, q)
		return err
	})
	if err != nil {
		return entityevent.Page{}, fmt.Errorf("events of feed %q: %w", v.Feed, err)
	}
	return p, nil
}

func readPage(c *conn, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	var p entityevent.Page
	if q.Limit <= 0 {
		q.Limit = 100
	}
	before := int64(math.MaxInt64)
	if q.Before > 0 {
		before = int64(q.Before)
	}
	if _, err := c.one(logQuery, func(row []driver.Value) {
		p.Log, p.Head = entityevent.LogID(str(row[0])), entityevent.Sequence(integer(row[1]))
	}); err != nil {
		return p, err
	}
	query, end := ascending, ascendingEnd
	if q.Order == entityevent.NewestFirst {
		query, end = descending, descendingEnd
	}
	// One more than asked for, to know whether more follow.
	args := []any{v.Feed, int64(q.After), before, int64(pageWork), int64(v.Mask), int64(q.Limit) + 1}
	switch len(q.Resources) {
	case 0:
	case 1:
		query += ofResource
		args = append(args, q.Resources[0])
	default:
		names, err := json.Marshal(q.Resources)
		if err != nil {
			return p, err
		}
		query += ofResources
		args = append(args, string(names))
	}
	p.Events = make([]entityevent.Event, 0, min(q.Limit, 1000))
	err := c.query(context.Background(), query+atMost, func(row []driver.Value) bool {
		if len(p.Events) == q.Limit {
			p.More = true
			return false
		}
		p.Events = append(p.Events, entityevent.Event{
			Sequence: entityevent.Sequence(integer(row[0])),
			Ref:      entityevent.Ref{Resource: str(row[1]), Key: str(row[2])},
			At:       time.UnixMicro(integer(row[3])).UTC(),
		})
		return true
	}, args...)
	if err != nil {
		return p, err
	}
	if p.More {
		p.Through = p.Events[len(p.Events)-1].Sequence
		return p, nil
	}
	_, err = c.one(end, func(row []driver.Value) {
		p.More, p.Through = true, entityevent.Sequence(integer(row[0]))
	}, v.Feed, int64(q.After), before, int64(pageWork-1))
	switch {
	case err != nil || p.More:
	case q.Order == entityevent.NewestFirst:
		p.Through = q.After + 1
	default:
		p.Through = min(p.Head, entityevent.Sequence(before-1))
	}
	return p, err
}

// Wait implements entityevent.Log. The notifier knows everything since the store was opened; what is
// older is looked for in the log.
func (s *Store) Wait(ctx context.Context, v entityevent.View, after entityevent.Sequence) error {
	for from := after; int64(from) < s.opened; {
		p, err := s.Events(ctx, v, entityevent.EventQuery{After: from, Limit: 1})
		if err != nil || len(p.Events) > 0 {
			return err
		}
		if !p.More {
			break
		}
		from = p.Through
	}
	return s.notifier.Wait(ctx, v, after)
}
