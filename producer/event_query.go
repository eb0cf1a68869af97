package producer

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

const (
	eventResource = "EntityEvent"
	sequenceField = "EntityEventSequence"
	resourceField = "ResourceName"
)

var eventFields = []string{sequenceField, resourceField, "ResourceRecordKey", "ResourceRecordUrl"}

// eventQuery is a $filter on EntityEvent, as bounds.
type eventQuery struct {
	after     int64    // exclusive
	before    int64    // exclusive; 0: none
	follows   bool     // has a lower bound: asks for what is new
	resources []string // nil: all
	empty     bool     // nothing can match
}

// bind narrows the query by a filter.
func (q *eventQuery) bind(e odata.Expr) error {
	switch e := e.(type) {
	case nil:
		return nil
	case odata.Conjunction:
		for _, term := range e {
			if err := q.bind(term); err != nil {
				return err
			}
		}
		return nil
	case odata.Comparison:
		if field, value, ok := sides(e); ok && field == sequenceField {
			return q.bound(e.Op, value)
		}
	}
	resources, err := resourcesOf(e)
	if err != nil {
		return err
	}
	if q.resources != nil {
		resources = slices.DeleteFunc(resources, func(r string) bool { return !slices.Contains(q.resources, r) })
	}
	q.resources = resources
	q.empty = q.empty || len(resources) == 0
	return nil
}

// bound narrows the query by a comparison of the sequence.
func (q *eventQuery) bound(op odata.Op, value odata.Literal) error {
	if value.Kind != odata.Int {
		return badRequest("$filter", sequenceField+" is compared with a whole number")
	}
	n, err := strconv.ParseInt(value.Text, 10, 64)
	if err != nil {
		return badRequest("$filter", sequenceField+" is compared with a whole number")
	}
	above := func(n int64) { q.after = max(q.after, n) }
	below := func(n int64) { // exclusive
		if n <= 1 {
			q.empty = true
		} else if q.before == 0 || n < q.before {
			q.before = n
		}
	}
	switch op {
	case odata.Gt:
		above(n)
		q.follows = true
	case odata.Ge:
		above(max(n, 1) - 1)
		q.follows = true
	case odata.Lt:
		below(n)
	case odata.Le:
		if n < math.MaxInt64 {
			below(n + 1)
		}
	case odata.Eq:
		if n < 1 || n == math.MaxInt64 { // no store counts so far, and n + 1 has no form
			q.empty = true
			return nil
		}
		above(n - 1)
		below(n + 1)
	default:
		return notOffered("$filter", fmt.Sprintf("Filtering EntityEvent by %s %s is not offered", sequenceField, op))
	}
	return nil
}

// resourcesOf reads ResourceName eq 'a', in ('a','b'), or several of these with or.
func resourcesOf(e odata.Expr) ([]string, error) {
	var field string
	var values []odata.Literal
	switch e := e.(type) {
	case odata.Disjunction:
		var all []string
		for _, term := range e {
			some, err := resourcesOf(term)
			if err != nil {
				return nil, err
			}
			all = append(all, some...)
		}
		return all, nil
	case odata.Comparison:
		var value odata.Literal
		var ok bool
		if field, value, ok = sides(e); ok && e.Op == odata.Eq {
			values = []odata.Literal{value}
		}
	case odata.Membership:
		field, values = e.Left.String(), e.Values
	}
	if field != "" && !slices.Contains(eventFields, field) {
		return nil, badRequest("$filter", fmt.Sprintf("EntityEvent has no field %s", field))
	}
	if field != resourceField || values == nil {
		return nil, notOffered("$filter", fmt.Sprintf("Filtering EntityEvent by %s is not offered: only by bounds of %s and by names with %s", e, sequenceField, resourceField))
	}
	names := make([]string, len(values))
	for i, v := range values {
		if v.Kind != odata.String {
			return nil, badRequest("$filter", resourceField+" is compared with a string")
		}
		names[i] = v.Text
	}
	return names, nil
}

// empties says that no event at all lies within the bounds.
func (q *eventQuery) empties() bool {
	return q.empty || q.before > 0 && q.before-1 <= q.after
}

// query returns q for a store.
func (q *eventQuery) query(order entityevent.Order, limit int) entityevent.EventQuery {
	return entityevent.EventQuery{
		After: entityevent.Sequence(q.after), Before: entityevent.Sequence(q.before),
		Resources: q.resources, Order: order, Limit: limit,
	}
}
