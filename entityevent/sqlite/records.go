package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"slices"
	"unicode/utf8"

	"github.com/resosync/resosync/entityevent"
)

// One read transaction yields no more than this.
const (
	chunkRows  = 256
	chunkBytes = 1 << 20
)

// Who sees a record: of a present one its views tell, of a gone one who ever saw it. Parameters ?1 to ?4
// are feed, resource, mask and whether gone ones are asked for.
const (
	visible = `CASE WHEN body IS NULL THEN ?4 <> 0 AND seen & ?3 <> 0 ELSE views & ?3 <> 0 END`
	columns = `SELECT ` + visible + `, key, hash, version, views, seen, modified_at,
		CASE WHEN views & ?3 <> 0 THEN CAST(body AS BLOB) END FROM records `

	rangeQuery = columns + `WHERE feed = ?1 AND resource = ?2 AND key > ?5 ORDER BY key LIMIT ?6`
	keyQuery   = columns + `WHERE feed = ?1 AND resource = ?2 AND key = ?5`

	countRange = `SELECT count(*) FROM records WHERE feed = ?1 AND resource = ?2 AND key > ?5 AND ` + visible
	countKey   = `SELECT count(*) FROM records WHERE feed = ?1 AND resource = ?2 AND key = ?5 AND ` + visible
)

// Read implements entityevent.Records.
func (s *Store) Read(ctx context.Context, v entityevent.View, q entityevent.Query) iter.Seq2[entityevent.Record, error] {
	return func(yield func(entityevent.Record, error) bool) {
		r := newReader(v, q)
		for !r.done {
			err := s.snapshot(ctx, func(c *conn) error { return r.chunk(ctx, c) })
			if err != nil {
				yield(entityevent.Record{}, fmt.Errorf("read %s of feed %q: %w", q.Resource, v.Feed, err))
				return
			}
			for _, record := range r.records {
				if !yield(record, nil) {
					return
				}
			}
		}
	}
}

// reader is the state of one Read between its chunks.
type reader struct {
	view    entityevent.View
	query   entityevent.Query
	byKey   bool
	keys    []string // left to look up
	after   string
	done    bool
	records []entityevent.Record // of the chunk
	bytes   int
	yielded int
	err     error // a row that makes no sense
}

func newReader(v entityevent.View, q entityevent.Query) *reader {
	return &reader{view: v, query: q, byKey: len(q.Keys) > 0, keys: wanted(q), after: q.After}
}

// wanted returns the keys of a query in order, each once, without those at or below After.
func wanted(q entityevent.Query) []string {
	keys := slices.Compact(slices.Sorted(slices.Values(q.Keys)))
	at, _ := slices.BinarySearch(keys, q.After+"\x00") // the first string above After
	return keys[at:]
}

func (r *reader) chunk(ctx context.Context, c *conn) error {
	r.records, r.bytes = r.records[:0], 0
	if r.byKey {
		return r.chunkOfKeys(ctx, c)
	}
	limit := chunkRows
	if r.query.Limit > 0 {
		limit = min(limit, r.query.Limit-r.yielded)
	}
	rows := 0
	full := false
	err := c.query(ctx, rangeQuery, func(row []driver.Value) bool {
		rows++
		r.after = str(row[1])
		full = !r.take(row)
		return !full
	}, append(r.args(), r.after, int64(limit))...)
	r.done = r.done || !full && rows < limit
	return errors.Join(err, r.err)
}

func (r *reader) chunkOfKeys(ctx context.Context, c *conn) error {
	for range chunkRows {
		if len(r.keys) == 0 {
			break
		}
		full := false
		err := c.query(ctx, keyQuery, func(row []driver.Value) bool {
			full = !r.take(row)
			return true
		}, append(r.args(), r.keys[0])...)
		if err != nil {
			return err
		}
		r.keys = r.keys[1:]
		if full {
			break
		}
	}
	r.done = r.done || len(r.keys) == 0
	return r.err
}

func (r *reader) args() []any {
	return []any{r.view.Feed, r.query.Resource, int64(r.view.Mask), flag(r.query.Gone)}
}

// take adds a visible row to the chunk and says whether the chunk has room for more.
func (r *reader) take(row []driver.Value) bool {
	if integer(row[0]) == 0 {
		return true
	}
	record := entityevent.Record{
		Ref:      entityevent.Ref{Resource: r.query.Resource, Key: str(row[1])},
		Version:  entityevent.Sequence(integer(row[3])),
		Views:    entityevent.Mask(integer(row[4])),
		Seen:     entityevent.Mask(integer(row[5])),
		Modified: instant(row[6]),
	}
	if body, ok := row[7].([]byte); ok {
		record.Body = body
	}
	if !hashOf(row[2], &record.Hash) || record.Body != nil && !whole(record.Body) {
		r.err = fmt.Errorf("%w: the row of %s", errDamaged, record.Ref)
		return false
	}
	r.records = append(r.records, record)
	r.yielded++
	r.done = r.yielded == r.query.Limit
	r.bytes += len(record.Body)
	return !r.done && r.bytes < chunkBytes
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
	var n int64
	add := func(row []driver.Value) bool {
		n += integer(row[0])
		return true
	}
	args := (&reader{view: v, query: q}).args()
	err := s.read(ctx, func(c *conn) error {
		if len(q.Keys) == 0 {
			return c.query(ctx, countRange, add, append(args, q.After)...)
		}
		for _, key := range wanted(q) {
			if err := c.query(ctx, countKey, add, append(args, key)...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("count %s of feed %q: %w", q.Resource, v.Feed, err)
	}
	return n, nil
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
