package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// reader is a query on its way: how it is answered, and between two chunks where it is.
type reader struct {
	looks  looks
	query  entityevent.Query
	bounds bounds
	orders []odata.Order // before the key
	desc   bool          // the direction of the key
	from   *candidate

	base   base     // the feed, the resource, the mask, then what the filter compares with
	where  string   // who may see a record, and what is asked for
	values []string // of orders
	bodies bool     // where or values read bodies

	source source
	sorts  bool // the source does not have the order

	done    bool
	skip    int
	yielded int
	records []entityevent.Record // of the chunk
	bytes   int
	err     error // a row that makes no sense
}

// source is where the records are looked for.
type source uint8

const (
	byKey    source = iota // the range of keys
	byKeys                 // keys that are known
	byParent               // records that belong to known ones
	byTime                 // the range of the ModificationTimestamp
)

// Who sees a record: of a present one its views tell, of a gone one who ever saw it. The mask is ?3.
const (
	visible     = "r.views <> 0 AND r.views & ?3 <> 0"
	visibleGone = "CASE WHEN r.body IS NULL THEN r.seen & ?3 <> 0 ELSE r.views & ?3 <> 0 END"
)

func newReader(v entityevent.View, q entityevent.Query, l looks) (*reader, error) {
	r := &reader{looks: l, query: q, bounds: boundsOf(q), skip: q.Skip, where: visible}
	if q.Gone {
		r.where = visibleGone
	}
	r.direct()
	r.choose()
	c := &compiler{key: q.KeyField, args: []any{v.Feed, q.Resource, int64(v.Mask)}}
	if q.After != "" {
		r.where += " AND +r.key > " + c.arg(q.After)
	}
	if len(q.Parents) > 0 {
		r.where += " AND (+r.parent_resource, +r.parent_key) IN (SELECT value ->> 0, value ->> 1 FROM json_each(" + c.arg(pairs(q.Parents)) + "))"
	}
	if q.Filter != nil {
		r.where += " AND " + c.condition(q.Filter)
	}
	if r.sorts {
		for _, o := range r.orders {
			value := "NULL" // what has no type has no order
			if o.Field.Of.Kind != odata.Untyped {
				value = c.field(o.Field)
			}
			r.values = append(r.values, value)
		}
	}
	r.base, r.bodies = c.args, c.body
	if c.err != nil {
		return nil, c.err
	}
	return r, r.start()
}

// direct reads the order. What follows the key in it decides nothing.
func (r *reader) direct() {
	for i, o := range r.query.OrderBy {
		r.desc = o.Desc
		if o.Field.Path == r.query.KeyField && o.Field.Of.Kind == odata.String {
			return
		}
		r.orders = r.query.OrderBy[:i+1]
	}
}

// choose picks the source: what is looked up goes before ranges.
func (r *reader) choose() {
	timely := len(r.orders) == 1 && isTime(r.orders[0].Field) && r.orders[0].Desc == r.desc
	switch {
	case r.bounds.keys.known:
		r.source, r.sorts = byKeys, len(r.orders) > 0
	case r.bounds.parents.known:
		r.source, r.sorts = byParent, len(r.orders) > 0 || len(r.bounds.parents.values) != 1
	case !r.query.Gone && (timely || r.bounds.timed && len(r.orders) > 0): // the index leaves out what is gone
		r.source, r.sorts = byTime, !timely
	default:
		r.source, r.sorts = byKey, len(r.orders) > 0
	}
}

func isTime(f odata.Field) bool {
	return f.Path == modificationTimestamp && f.Of.Kind == odata.DateTimeOffset
}

// start reads the place to go on from.
func (r *reader) start() error {
	if r.query.From == nil {
		return nil
	}
	if len(r.query.From.Values) != len(r.query.OrderBy) {
		return fmt.Errorf("%w place: %d values in an order of %d fields", entityevent.ErrInvalid, len(r.query.From.Values), len(r.query.OrderBy))
	}
	r.from = &candidate{key: r.query.From.Key, values: make([]any, len(r.orders))}
	for i, o := range r.orders {
		l := r.query.From.Values[i]
		if k := o.Field.Of.Kind; l.Kind == k || number(l.Kind) && number(k) {
			r.from.values[i] = literalValue(l)
		}
	}
	return nil
}

func pairs(refs []entityevent.Ref) string {
	all := make([][2]string, len(refs))
	for i, p := range refs {
		all[i] = [2]string{p.Resource, p.Key}
	}
	text, _ := json.Marshal(all)
	return string(text)
}

// prefer looks whether the range of the ModificationTimestamp is so small that it is better sorted by key than
// looked for among all keys.
func (s *Store) prefer(ctx context.Context, r *reader) error {
	if r.source != byKey || r.sorts || !r.bounds.timed || r.query.Gone {
		return nil
	}
	since, till := r.times()
	p := r.base[:2].params()
	where := (&span{index: "records_modified", timed: true}).where(p, since, till)
	return s.read(ctx, func(c *conn) error {
		_, err := c.one("SELECT count(*) FROM (SELECT 1 FROM records r INDEXED BY records_modified WHERE "+where+" LIMIT "+p.arg(int64(r.looks.few+1))+"+0)",
			func(row []driver.Value) {
				if integer(row[0]) <= int64(r.looks.few) {
					r.source, r.sorts = byTime, true
				}
			}, slices.Concat(r.base[:2], p.args)...)
		return err
	})
}

// times are the ends of the range of the ModificationTimestamp, nil for none.
func (r *reader) times() (since, till *limit) {
	if r.bounds.since > math.MinInt64 {
		since = &limit{place: place{micro: r.bounds.since}, whole: true}
	}
	if r.bounds.till < math.MaxInt64 {
		till = &limit{place: place{micro: r.bounds.till}, whole: true}
	}
	return since, till
}

// scan goes through the source, in the order if the source has it, and then from the place.
func (r *reader) scan() scan {
	switch r.source {
	case byKeys:
		return r.scanKeys()
	case byParent:
		if r.sorts {
			return &families{base: r.base, keys: r.bounds.parents.values}
		}
		return r.scanRange(&span{base: r.base, index: "records_parent", parent: r.bounds.parents.values[0]})
	case byTime:
		return r.scanTimes()
	default:
		return r.scanRange(&span{base: r.base, index: "records_ref"})
	}
}

func (r *reader) scanKeys() scan {
	keys := slices.Clone(r.bounds.keys.values)
	if r.sorts {
		return &list{base: r.base, keys: keys}
	}
	if r.from != nil {
		keys = slices.DeleteFunc(keys, func(k string) bool { return r.compare(candidate{key: k}, *r.from) <= 0 })
	}
	if r.desc {
		slices.Reverse(keys)
	}
	return &list{base: r.base, keys: keys}
}

// scanRange sets the ends of a span by key.
func (r *reader) scanRange(s *span) scan {
	if low := r.bounds.low; low != nil {
		s.low = &limit{place: place{key: low.key}, open: low.open}
	}
	if high := r.bounds.high; high != nil {
		s.high = &limit{place: place{key: high.key}, open: high.open}
	}
	s.desc = r.desc
	if r.sorts || r.from == nil {
		return s
	}
	if r.desc && (s.high == nil || r.from.key <= s.high.key) || !r.desc && (s.low == nil || r.from.key >= s.low.key) {
		s.after(place{key: r.from.key})
	}
	return s
}

// scanTimes goes through records_modified: those without a time come first, or, descending, last.
func (r *reader) scanTimes() scan {
	timed := &span{base: r.base, index: "records_modified", timed: true, desc: r.desc}
	timed.low, timed.high = r.times()
	untimed := &span{base: r.base, index: "records_modified", untimed: true, desc: r.desc, done: r.bounds.timed}
	if r.from != nil && !r.sorts {
		at, has := r.from.values[0].(int64)
		from := place{key: r.from.key, micro: at}
		switch {
		case !has:
			untimed.after(from)
			timed.done = r.desc
		case r.desc:
			if at <= r.bounds.till {
				timed.after(from)
			}
		default:
			untimed.done = true
			if at >= r.bounds.since {
				timed.after(from)
			}
		}
	}
	if r.desc {
		return &chain{scans: []scan{timed, untimed}}
	}
	return &chain{scans: []scan{untimed, timed}}
}

// window is how many rows the first statement may look at: not many more than are asked for.
func (r *reader) window() int {
	if r.query.Limit == 0 || r.skip > 0 {
		return r.windowLimit()
	}
	return min(max(r.query.Limit, 16), r.windowLimit())
}

func (r *reader) windowLimit() int {
	if r.bodies {
		return r.looks.bodies
	}
	return r.looks.window
}
