package sqlite

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// candidate is a record that may come next: what the order knows of it.
type candidate struct {
	values []any // of reader.orders
	key    string
}

// readSorted reads in an order that the source does not have: it goes through all of the source for the next
// candidates, then reads these.
func (s *Store) readSorted(ctx context.Context, r *reader, yield func(entityevent.Record) error) error {
	for from := r.from; ; {
		most := r.looks.pass
		if r.query.Limit > 0 {
			most = min(most, r.skip+r.query.Limit-r.yielded)
		}
		next, err := s.smallest(ctx, r, from, most)
		if err != nil {
			return err
		}
		skipped := min(r.skip, len(next))
		r.skip -= skipped
		if err := s.readCandidates(ctx, r, next[skipped:], yield); err != nil {
			return err
		}
		if len(next) < most || r.query.Limit > 0 && r.yielded == r.query.Limit {
			return nil
		}
		from = &next[len(next)-1]
	}
}

// smallest returns the first candidates after a place, in order.
func (s *Store) smallest(ctx context.Context, r *reader, from *candidate, most int) ([]candidate, error) {
	var found []candidate
	keep := func() {
		slices.SortFunc(found, r.compare)
		found = found[:min(len(found), most)]
	}
	scan := r.scan()
	for done := false; !done; {
		err := s.read(ctx, func(c *conn) error {
			w, ok, err := scan.next(ctx, c, r.windowLimit())
			if err != nil || !ok {
				done = !ok
				return err
			}
			return r.candidates(ctx, c, w, func(at candidate) {
				if from != nil && r.compare(at, *from) <= 0 {
					return
				}
				if found = append(found, at); len(found) >= 2*most+r.looks.rows {
					keep()
				}
			})
		})
		if err != nil {
			return nil, err
		}
	}
	keep()
	return found, nil
}

// candidates calls each with the candidates of one window.
func (r *reader) candidates(ctx context.Context, c *conn, w window, each func(candidate)) error {
	w.order = ""
	return r.ask(ctx, c, "SELECT r.key"+r.more(), w, -1, func(row []driver.Value) bool {
		each(candidate{key: str(row[0]), values: valuesOf(row[1:])})
		return true
	})
}

// more is the part of a statement that asks for what the order knows.
func (r *reader) more() string {
	if len(r.values) == 0 {
		return ""
	}
	return ", " + strings.Join(r.values, ", ")
}

func valuesOf(row []driver.Value) []any {
	values := make([]any, len(row))
	for i, v := range row {
		values[i] = v
		if text, ok := v.(string); ok {
			values[i] = odata.Ordered(text)
		}
	}
	return values
}

// readCandidates reads the records of candidates, in their order. One that changed its place meanwhile is left
// out: it is not where it was, and where it is it is met, unless that is behind us.
func (s *Store) readCandidates(ctx context.Context, r *reader, all []candidate, yield func(entityevent.Record) error) error {
	for len(all) > 0 && (r.query.Limit == 0 || r.yielded < r.query.Limit) {
		r.records, r.bytes = r.records[:0], 0
		keys := make([]string, min(len(all), r.looks.rows))
		for i := range keys {
			keys[i] = all[i].key
		}
		rest := all[len(keys):]
		err := s.read(ctx, func(c *conn) error {
			i := 0
			err := r.ask(ctx, c, columns+r.more(), r.base.of(keys), -1, func(row []driver.Value) bool {
				for key := str(row[0]); all[i].key != key; {
					i++
				}
				i++
				if r.compare(all[i-1], candidate{values: valuesOf(row[recordColumns:]), key: all[i-1].key}) != 0 || r.take(row[:recordColumns]) {
					return true
				}
				rest = all[i:]
				return false
			})
			return errors.Join(err, r.err)
		})
		if err != nil {
			return err
		}
		for _, record := range r.records {
			if err := yield(record); err != nil {
				return err
			}
		}
		all = rest
	}
	return nil
}

// compare compares two records by the order of the query.
func (r *reader) compare(a, b candidate) int {
	for i, o := range r.orders {
		if c := compareValues(a.values[i], b.values[i]); c != 0 {
			return directed(c, o.Desc)
		}
	}
	return directed(strings.Compare(a.key, b.key), r.desc)
}

func directed(c int, desc bool) int {
	if desc {
		return -c
	}
	return c
}

// compareValues compares two values of one field: null comes first.
func compareValues(a, b any) int {
	switch a := a.(type) {
	case int64:
		switch b := b.(type) {
		case int64:
			return cmp.Compare(a, b)
		case float64:
			return compareMixed(a, b)
		}
		return 1
	case float64:
		switch b := b.(type) {
		case int64:
			return -compareMixed(b, a)
		case float64:
			return cmp.Compare(a, b)
		}
		return 1
	case string:
		if b, ok := b.(string); ok {
			return strings.Compare(a, b)
		}
		return 1
	}
	if b == nil {
		return 0
	}
	return -1
}

// compareMixed compares without rounding the integer.
func compareMixed(n int64, f float64) int {
	switch {
	case f >= 1<<63:
		return -1
	case f < -1<<63:
		return 1
	}
	if c := cmp.Compare(n, int64(f)); c != 0 {
		return c
	}
	return cmp.Compare(0, f-float64(int64(f)))
}
