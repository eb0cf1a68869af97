package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"iter"
)

// markRows is how many rows one read transaction looks at.
const markRows = 2000

// The body is not named but for being there, so that its pages are not read.
const markQuery = `SELECT key, pass <> ?1 AND body IS NOT NULL FROM records WHERE feed = ?2 AND resource = ?3 AND key > ?4 ORDER BY key LIMIT ?5+0`

// Unmarked implements entityevent.Passes.
func (s *Store) Unmarked(ctx context.Context, feed, resource string, pass int64) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		after := ""
		for rows := markRows; rows == markRows; {
			rows = 0
			var keys []string
			err := s.snapshot(ctx, func(c *conn) error {
				return c.query(ctx, markQuery, func(row []driver.Value) bool {
					rows++
					after = str(row[0])
					if integer(row[1]) != 0 {
						keys = append(keys, after)
					}
					return true
				}, pass, feed, resource, after, int64(markRows))
			})
			if err != nil {
				yield("", fmt.Errorf("unmarked %s of feed %q: %w", resource, feed, err))
				return
			}
			for _, key := range keys {
				if !yield(key, nil) {
					return
				}
			}
		}
	}
}
