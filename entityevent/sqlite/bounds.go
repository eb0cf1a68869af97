package sqlite

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/odata"
)

// bounds are what a query says at its top of what has an index. The records beyond them are not looked at; the
// whole filter still judges those within.
type bounds struct {
	resource string
	key      string // Query.KeyField

	keys    set  // of these keys
	parents set  // belong to a record of one of these keys
	low     *end // of the keys
	high    *end

	timed       bool  // the ModificationTimestamp is not null and
	since, till int64 // within these microseconds
}

// set is a list of values, each once, in order.
type set struct {
	known  bool
	values []string
}

// end is one end of a range of keys.
type end struct {
	key  string
	open bool // without the key itself
}

// boundsOf reads what q asks for.
func boundsOf(q entityevent.Query) bounds {
	b := unbounded(q.Resource, q.KeyField)
	if len(q.Keys) > 0 {
		b.keys.intersect(q.Keys)
	}
	if len(q.Parents) > 0 {
		keys := make([]string, len(q.Parents))
		for i, p := range q.Parents {
			keys[i] = p.Key
		}
		b.parents.intersect(keys)
	}
	if q.After != "" {
		b.above(end{q.After, true})
	}
	b.narrow(q.Filter)
	b.keys.values = slices.DeleteFunc(b.keys.values, func(k string) bool { return !b.within(k) })
	return b
}

func unbounded(resource, key string) bounds {
	return bounds{resource: resource, key: key, since: math.MinInt64, till: math.MaxInt64}
}

func (s *set) intersect(values []string) {
	values = slices.Compact(slices.Sorted(slices.Values(values)))
	if s.known {
		values = slices.DeleteFunc(values, func(v string) bool { _, ok := slices.BinarySearch(s.values, v); return !ok })
	}
	s.known, s.values = true, values
}

func (b *bounds) above(e end) {
	if b.low == nil || e.key > b.low.key || e.key == b.low.key && e.open {
		b.low = &e
	}
}

func (b *bounds) below(e end) {
	if b.high == nil || e.key < b.high.key || e.key == b.high.key && e.open {
		b.high = &e
	}
}

func (b *bounds) within(key string) bool {
	return (b.low == nil || key > b.low.key || key == b.low.key && !b.low.open) &&
		(b.high == nil || key < b.high.key || key == b.high.key && !b.high.open)
}

// narrow takes in a condition that holds for all records that are asked for.
func (b *bounds) narrow(e odata.Expr) {
	switch e := e.(type) {
	case odata.Conjunction:
		for _, term := range e {
			b.narrow(term)
		}
	case odata.Disjunction:
		b.either(e)
	case odata.Membership:
		if f, ok := e.Left.(odata.Field); ok {
			b.oneOf(f, e.Values)
		}
	case odata.Comparison:
		f, isField := e.Left.(odata.Field)
		l, isLiteral := e.Right.(odata.Literal)
		switch {
		case !isField || !isLiteral:
		case e.Op == odata.Eq:
			b.oneOf(f, []odata.Literal{l})
		case f.Path == modificationTimestamp && f.Of.Kind == odata.DateTimeOffset && l.Kind == odata.DateTimeOffset:
			b.time(e.Op, l.Instant())
		case f.Path == b.key && f.Of.Kind == odata.String && l.Kind == odata.String:
			b.span(e.Op, l.Text)
		}
	}
}

// either takes in that one of the terms holds: of each field the widest that they say, if all of them bound it.
func (b *bounds) either(terms []odata.Expr) {
	one := unbounded(b.resource, b.key)
	one.narrow(terms[0])
	keys, parents := one.keys.values, one.parents.values
	for _, t := range terms[1:] {
		other := unbounded(b.resource, b.key)
		other.narrow(t)
		one.keys.known = one.keys.known && other.keys.known
		keys = append(keys, other.keys.values...)
		one.parents.known = one.parents.known && other.parents.known
		parents = append(parents, other.parents.values...)
		one.timed = one.timed && other.timed
		one.since, one.till = min(one.since, other.since), max(one.till, other.till)
		one.low, one.high = outer(one.low, other.low, -1), outer(one.high, other.high, 1)
	}
	if one.keys.known {
		b.keys.intersect(keys)
	}
	if one.parents.known {
		b.parents.intersect(parents)
	}
	if one.timed {
		b.since, b.till, b.timed = max(b.since, one.since), min(b.till, one.till), true
	}
	if one.low != nil {
		b.above(*one.low)
	}
	if one.high != nil {
		b.below(*one.high)
	}
}

// outer returns the end that lies further out, nil if one is missing. The side of low ends is -1, of high ones 1.
func outer(a, b *end, side int) *end {
	switch {
	case a == nil || b == nil:
		return nil
	case strings.Compare(a.key, b.key)*side > 0, a.key == b.key && !a.open:
		return a
	default:
		return b
	}
}

func (b *bounds) span(op odata.Op, key string) {
	switch op {
	case odata.Gt:
		b.above(end{key, true})
	case odata.Ge:
		b.above(end{key, false})
	case odata.Lt:
		b.below(end{key, true})
	case odata.Le:
		b.below(end{key, false})
	default:
	}
}

// time narrows the range of the ModificationTimestamp. Instants are far from the ends of an int64.
func (b *bounds) time(op odata.Op, us int64) {
	switch op {
	case odata.Gt:
		b.since = max(b.since, us+1)
	case odata.Ge:
		b.since = max(b.since, us)
	case odata.Lt:
		b.till = min(b.till, us-1)
	case odata.Le:
		b.till = min(b.till, us)
	default:
		return
	}
	b.timed = true
}

// oneOf takes in that a field equals one of the literals.
func (b *bounds) oneOf(f odata.Field, literals []odata.Literal) {
	switch {
	case f.Path == b.key && f.Of.Kind == odata.String:
		b.keys.intersect(texts(literals, odata.String)) // the key is never null
	case slices.ContainsFunc(literals, func(l odata.Literal) bool { return l.Kind != f.Of.Kind || l.Text == "" }):
		// null, which no index finds
	case f.Path == b.key && f.Of.Kind == odata.Int:
		b.keys.intersect(texts(literals, odata.Int))
	case f.Path == modificationTimestamp && f.Of.Kind == odata.DateTimeOffset:
		first, last := int64(math.MaxInt64), int64(math.MinInt64)
		for _, l := range literals {
			first, last = min(first, l.Instant()), max(last, l.Instant())
		}
		b.time(odata.Ge, first)
		b.time(odata.Le, last)
	case f.Of.Kind == odata.String && f.Path == parentField(b.resource):
		b.parents.intersect(texts(literals, odata.String))
	}
}

// texts returns the literals of a kind as keys are written.
func texts(literals []odata.Literal, kind odata.Kind) []string {
	var all []string
	for _, l := range literals {
		switch {
		case l.Kind != kind:
		case kind == odata.Int:
			all = append(all, strconv.FormatInt(l.Int(), 10))
		default:
			all = append(all, l.Text)
		}
	}
	return all
}

// parentField returns the field from which records.parent_key is taken, "" if records of the resource belong to
// none.
func parentField(resource string) string {
	_, field, _ := metadata.Parent(resource, func(name string) string { return name })
	return field
}
