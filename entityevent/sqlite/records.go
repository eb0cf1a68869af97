package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"unicode/utf8"

	"github.com/mattn/go-sqlite3"

	"github.com/resosync/resosync/entityevent"
)

// looks are how much one statement does at most.
type looks struct {
	rows   int // records that it yields
	bytes  int // of their bodies, until the next is not begun
	window int // rows that it looks at, without their bodies
	bodies int // rows whose bodies it looks at
	pass   int // records that are held to be sorted
	few    int // records that are rather sorted than looked for
}

var usualLooks = looks{rows: 256, bytes: 1 << 20, window: 1024, bodies: 256, pass: 10_000, few: 10_000}

// columns are what a record is made of.
const (
	columns       = "SELECT r.key, r.hash, r.version, r.views, r.seen, r.modified_at, CAST(r.body AS BLOB)"
	recordColumns = 7
)

// Read implements entityevent.Records.
func (s *Store) Read(ctx context.Context, v entityevent.View, q entityevent.Query) iter.Seq2[entityevent.Record, error] {
	return func(yield func(entityevent.Record, error) bool) {
		stop := errors.New("enough")
		err := s.each(ctx, v, q, func(r entityevent.Record) error {
			if !yield(r, nil) {
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) {
			yield(entityevent.Record{}, fmt.Errorf("read %s of feed %q: %w", q.Resource, v.Feed, err))
		}
	}
}

func (s *Store) each(ctx context.Context, v entityevent.View, q entityevent.Query, yield func(entityevent.Record) error) error {
	r, err := newReader(v, q, s.looks)
	if err != nil {
		return err
	}
	if err := s.prefer(ctx, r); err != nil {
		return err
	}
	if r.sorts {
		return s.readSorted(ctx, r, yield)
	}
	return s.readInOrder(ctx, r, yield)
}

// readInOrder reads by an index that has the order.
func (s *Store) readInOrder(ctx context.Context, r *reader, yield func(entityevent.Record) error) error {
	scan := r.scan()
	for rows := r.window(); !r.done; rows = min(2*rows, r.windowLimit()) {
		err := s.read(ctx, func(c *conn) error { return r.chunk(ctx, c, scan, rows) })
		if err != nil {
			return err
		}
		for _, record := range r.records {
			if err := yield(record); err != nil {
				return err
			}
		}
	}
	return nil
}

// chunk reads one window, or what of it fits.
func (r *reader) chunk(ctx context.Context, c *conn, scan scan, rows int) error {
	r.records, r.bytes = r.records[:0], 0
	w, ok, err := scan.next(ctx, c, rows)
	if err != nil || !ok {
		r.done = !ok
		return err
	}
	wanted := columns
	most := r.looks.rows
	if r.skip > 0 {
		wanted, most = "SELECT r.key, r.modified_at", r.skip
	} else if r.query.Limit > 0 {
		most = min(most, r.query.Limit-r.yielded)
	}
	n := 0
	err = r.ask(ctx, c, wanted, w, most, func(row []driver.Value) bool {
		n++
		last := place{key: str(row[0])}
		full := n == most
		if r.skip == 0 {
			last.micro = row[5]
			full = !r.take(row) || full
		} else {
			last.micro = row[1]
		}
		if full {
			scan.resume(last)
		}
		return !full
	})
	r.skip -= min(n, r.skip)
	return errors.Join(err, r.err)
}

// ask runs the statement of one window, for so many rows; -1: all.
func (r *reader) ask(ctx context.Context, c *conn, wanted string, w window, rows int, each func(row []driver.Value) bool) error {
	text := wanted + " FROM " + w.from + " WHERE " + w.where + " AND " + r.where
	if w.order != "" {
		text += " ORDER BY " + w.order
	}
	// The limit is always a parameter: with the last number, for the text need not use all before it.
	p := &params{first: len(r.base) + len(w.args)}
	text += " LIMIT " + p.arg(int64(rows)) + "+0"
	args := make([]any, 0, len(r.base)+len(w.args)+1)
	args = append(append(append(args, r.base...), w.args...), p.args...)
	err := c.query(ctx, text, each, args...)
	var e sqlite3.Error
	if errors.As(err, &e) && e.Code == sqlite3.ErrError { // all that it can stumble over is a body that is no JSON
		err = fmt.Errorf("%w: a body of %s: %w", errDamaged, r.query.Resource, err)
	}
	return err
}

// take adds a row to the chunk and says whether the chunk has room for more.
func (r *reader) take(row []driver.Value) bool {
	record := entityevent.Record{
		Ref:      entityevent.Ref{Resource: r.query.Resource, Key: str(row[0])},
		Version:  entityevent.Sequence(integer(row[2])),
		Views:    entityevent.Mask(integer(row[3])),
		Seen:     entityevent.Mask(integer(row[4])),
		Modified: instant(row[5]),
	}
	if body, ok := row[6].([]byte); ok {
		record.Body = body
	}
	if !hashOf(row[1], &record.Hash) || (record.Body == nil) != (record.Views == 0) || record.Body != nil && !whole(record.Body) {
		r.err = fmt.Errorf("%w: the row of %s", errDamaged, record.Ref)
		return false
	}
	r.records = append(r.records, record)
	r.yielded++
	r.done = r.yielded == r.query.Limit
	r.bytes += len(record.Body)
	return !r.done && r.bytes < r.looks.bytes
}

// whole says that a body may be what was stored. SQLite notices a damaged page by its structure, and the
// pages of a long body have next to none.
func whole(body []byte) bool {
	return len(body) >= 2 && body[0] == '{' && body[len(body)-1] == '}' &&
		bytes.IndexByte(body, 0) < 0 && utf8.Valid(body)
}

// hashOf reads a hash and says whether it is one.
func hashOf(v driver.Value, to *entityevent.Hash) bool {
	b, ok := v.([]byte)
	return ok && copy(to[:], b) == len(b) && len(b) == len(to)
}

// Count implements entityevent.Records.
func (s *Store) Count(ctx context.Context, v entityevent.View, q entityevent.Query) (int64, error) {
	q.Skip, q.Limit = 0, 0
	if q.From == nil {
		q.OrderBy = nil
	}
	n, err := s.count(ctx, v, q)
	if err != nil {
		return 0, fmt.Errorf("count %s of feed %q: %w", q.Resource, v.Feed, err)
	}
	return n, nil
}

func (s *Store) count(ctx context.Context, v entityevent.View, q entityevent.Query) (n int64, err error) {
	r, err := newReader(v, q, s.looks)
	if err != nil {
		return 0, err
	}
	if q.From == nil && r.source == byKey && r.bounds.timed && !q.Gone {
		r.source = byTime
	}
	scan := r.scan()
	for !r.done {
		err := s.read(ctx, func(c *conn) error {
			w, ok, err := scan.next(ctx, c, r.windowLimit())
			if err != nil || !ok {
				r.done = !ok
				return err
			}
			if r.sorts && q.From != nil {
				return r.candidates(ctx, c, w, func(at candidate) {
					if r.compare(at, *r.from) > 0 {
						n++
					}
				})
			}
			return r.ask(ctx, c, "SELECT count(*)", w, -1, func(row []driver.Value) bool {
				n += integer(row[0])
				return true
			})
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
