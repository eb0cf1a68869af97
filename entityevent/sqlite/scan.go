package sqlite

import (
	"context"
	"database/sql/driver"
	"slices"
	"strconv"
)

// scan goes through records by one index, window by window: a window is as many rows as one statement may look
// at. What each asks for is bounded, so none holds a read transaction for long.
type scan interface {
	// next returns the next window, of about so many rows at most; ok is false after the last.
	next(ctx context.Context, c *conn, rows int) (w window, ok bool, err error)
	// resume says that of the last window only what comes before this place, and the place, was read. It is for
	// scans that have an order.
	resume(at place)
}

// window is the part of a statement that says which rows it looks at.
type window struct {
	from  string
	where string
	order string // empty: as they come
	args  []any  // follow those of the base
}

// place is where a record stands in an index.
type place struct {
	key   string
	micro any // modified_at: int64 or nil
}

// base is what the parameters of a statement begin with: ?1 is the feed, ?2 the resource.
type base []any

// params numbers further parameters.
type params struct {
	first int
	args  []any
}

func (b base) params() *params { return &params{first: len(b)} }

func (p *params) arg(v any) string {
	p.args = append(p.args, v)
	return "?" + strconv.Itoa(p.first+len(p.args))
}

// list looks up keys in their order.
type list struct {
	base
	keys []string
	last []string // of the last window
}

func (l *list) next(_ context.Context, _ *conn, rows int) (window, bool, error) {
	if len(l.keys) == 0 {
		return window{}, false, nil
	}
	n := min(rows, len(l.keys))
	l.last, l.keys = l.keys[:n:n], l.keys[n:]
	return l.of(l.last), true, nil
}

// of returns the window of some keys. Rows come in the order of the keys, for the join is not turned round.
func (b base) of(keys []string) window {
	p := b.params()
	if len(keys) == 1 {
		return window{from: "records r INDEXED BY records_ref", where: "r.feed = ?1 AND r.resource = ?2 AND r.key = " + p.arg(keys[0]), args: p.args}
	}
	return window{
		from:  "json_each(" + p.arg(textArray(keys)) + ") k CROSS JOIN records r INDEXED BY records_ref",
		where: "r.feed = ?1 AND r.resource = ?2 AND r.key = k.value",
		args:  p.args,
	}
}

func (l *list) resume(at place) {
	if i := slices.Index(l.last, at.key); i >= 0 {
		l.keys = append(l.last[i+1:len(l.last):len(l.last)], l.keys...)
	}
}

func textArray(texts []string) string {
	values := make([]any, len(texts))
	for i, t := range texts {
		values[i] = t
	}
	return jsonArray(values)
}

// span is a range of one index, in its order.
type span struct {
	base
	index     string
	parent    string // of records_parent
	timed     bool   // ordered by modified_at and key, else by key alone
	untimed   bool   // only those without a modified_at
	desc      bool
	low, high *limit
	far       *limit // of the last window; nil: the end of the span
	done      bool
}

// limit is an end of a span.
type limit struct {
	place
	whole bool // of a timed one: all keys of that time
	open  bool // without the place itself
}

func (s *span) next(ctx context.Context, c *conn, rows int) (window, bool, error) {
	if s.done {
		return window{}, false, nil
	}
	// The end of the window is looked up in the index alone.
	p := s.base[:2].params()
	where := s.where(p, s.low, s.high)
	s.far = nil
	err := c.query(ctx, "SELECT r.key, r.modified_at FROM records r INDEXED BY "+s.index+" WHERE "+where+" ORDER BY "+s.order()+
		" LIMIT 1 OFFSET "+p.arg(int64(rows-1))+"+0", func(row []driver.Value) bool {
		s.far = &limit{place: place{key: str(row[0]), micro: row[1]}}
		return false
	}, slices.Concat(s.base[:2], p.args)...)
	if err != nil {
		return window{}, false, err
	}
	low, high := s.low, s.high
	switch {
	case s.far == nil:
		s.done = true
	case s.desc:
		low = s.far
	default:
		high = s.far
	}
	p = s.params()
	w := window{from: "records r INDEXED BY " + s.index, where: s.where(p, low, high), order: s.order(), args: p.args}
	if s.far != nil {
		s.after(s.far.place)
	}
	return w, true, nil
}

// after moves the near end of the span.
func (s *span) after(at place) {
	near := &limit{place: at, open: true}
	if s.desc {
		s.high = near
	} else {
		s.low = near
	}
}

func (s *span) resume(at place) {
	s.done = false
	s.after(at)
}

func (s *span) order() string {
	switch {
	case s.timed && s.desc:
		return "r.modified_at DESC, r.key DESC"
	case s.timed:
		return "r.modified_at, r.key"
	case s.desc:
		return "r.key DESC"
	}
	return "r.key"
}

func (s *span) where(p *params, low, high *limit) string {
	where := "r.feed = ?1 AND r.resource = ?2"
	switch {
	case s.index == "records_parent":
		where += " AND r.parent_key = " + p.arg(s.parent)
	case s.untimed:
		where += " AND r.views <> 0 AND r.modified_at IS NULL"
	case s.timed:
		where += " AND r.views <> 0 AND r.modified_at IS NOT NULL"
	}
	return where + s.limited(p, low, ">") + s.limited(p, high, "<")
}

func (s *span) limited(p *params, l *limit, operator string) string {
	switch {
	case l == nil:
		return ""
	case !l.open:
		operator += "="
	}
	switch {
	case !s.timed:
		return " AND r.key " + operator + " " + p.arg(l.key)
	case l.whole:
		return " AND r.modified_at " + operator + " " + p.arg(l.micro)
	}
	return " AND (r.modified_at, r.key) " + operator + " (" + p.arg(l.micro) + ", " + p.arg(l.key) + ")"
}

// chain is one scan after another.
type chain struct {
	scans []scan
	last  scan
}

func (h *chain) next(ctx context.Context, c *conn, rows int) (window, bool, error) {
	for len(h.scans) > 0 {
		h.last = h.scans[0]
		w, ok, err := h.last.next(ctx, c, rows)
		if ok || err != nil {
			return w, ok, err
		}
		h.scans = h.scans[1:]
	}
	return window{}, false, nil
}

func (h *chain) resume(at place) { h.last.resume(at) }

// families looks up the records that belong to records of these keys, in no order.
type families struct {
	base
	keys []string
	one  *span // one that is too large for a window
}

const (
	familiesOf   = " p CROSS JOIN records r INDEXED BY records_parent"
	familiesOn   = "r.feed = ?1 AND r.parent_key = p.value AND r.resource = ?2"
	familiesSize = "SELECT count(*) FROM (SELECT 1 FROM json_each(?3)" + familiesOf + " WHERE " + familiesOn + " LIMIT ?4+0)"
)

func (f *families) next(ctx context.Context, c *conn, rows int) (window, bool, error) {
	if f.one != nil {
		w, ok, err := f.one.next(ctx, c, rows)
		if ok || err != nil {
			return w, ok, err
		}
		f.one = nil
	}
	for n := min(len(f.keys), rows); n > 0; n /= 2 {
		keys := textArray(f.keys[:n])
		var size int64
		_, err := c.one(familiesSize, func(row []driver.Value) { size = integer(row[0]) }, f.base[0], f.base[1], keys, int64(rows+1))
		if err != nil {
			return window{}, false, err
		}
		if size > int64(rows) && n > 1 {
			continue
		}
		if size > int64(rows) {
			f.one = &span{base: f.base, index: "records_parent", parent: f.keys[0]}
			f.keys = f.keys[1:]
			return f.next(ctx, c, rows)
		}
		f.keys = f.keys[n:]
		p := f.params()
		return window{from: "json_each(" + p.arg(keys) + ")" + familiesOf, where: familiesOn, args: p.args}, true, nil
	}
	return window{}, false, nil
}

func (f *families) resume(place) {}
