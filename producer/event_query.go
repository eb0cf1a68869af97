package producer

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

const (
	eventResource = "EntityEvent"
	sequenceField = "EntityEventSequence"
	resourceField = "ResourceName"
	keyField      = "ResourceRecordKey"
	urlField      = "ResourceRecordUrl"
)

// eventFields are the fields of EntityEvent (RCP-27), and what can be asked of them: the URL is made for
// the answer.
type eventFields struct{ url bool }

// Field implements odata.Scope.
func (f *eventFields) Field(name string) (odata.Type, bool) {
	switch name {
	case sequenceField:
		return odata.Type{Kind: odata.Int}, true
	case urlField:
		f.url = true
		fallthrough
	case resourceField, keyField:
		return odata.Type{Kind: odata.String}, true
	}
	return odata.Type{}, false
}

// Enum implements odata.Scope.
func (f *eventFields) Enum(string) (*odata.Enum, bool) { return nil, false }

// eventQuery is what is asked of EntityEvent: bounds of the sequence, which cost nothing however long the
// log is, and the rest.
type eventQuery struct {
	after   int64   // exclusive
	before  int64   // exclusive; 0: none
	numbers []int64 // nil: all
	follows bool    // has a lower bound: asks for what is new
	empty   bool    // nothing can match
	filter  odata.Expr
}

// eventQuery reads $filter and last_event.
func (x *exchange) eventQuery() (eventQuery, error) {
	var q eventQuery
	if text := x.options.Filter; text != nil {
		var fields eventFields
		e, err := odata.ParseFilter(*text, &fields)
		if err != nil {
			return q, err
		}
		if fields.url {
			return q, notOffered("$filter", "Filtering by "+urlField+" is not offered: filter by "+resourceField+" and "+keyField)
		}
		if strings.Contains(strings.ToLower(*text), "now") {
			e = odata.At(e, time.Now())
		}
		if err := q.bind(e); err != nil {
			return q, err
		}
	}
	if n := x.options.LastEvent; n != nil {
		q.after, q.follows = max(q.after, *n), true
	}
	return q, nil
}

// bind narrows the query by a filter.
func (q *eventQuery) bind(e odata.Expr) error {
	switch e := e.(type) {
	case odata.Conjunction:
		for _, term := range e {
			if err := q.bind(term); err != nil {
				return err
			}
		}
		return nil
	case odata.Comparison:
		if field, value, ok := sides(e); ok && field == sequenceField {
			if bound, err := q.bound(e.Op, value); bound || err != nil {
				return err
			}
		}
	case odata.Membership:
		if f, ok := e.Left.(odata.Field); ok && f.Path == sequenceField {
			if err := q.among(e.Values); err != nil {
				return err
			}
		}
	default:
		q.narrow(spanOf(e, false))
	}
	rest, ok := q.filter.(odata.Conjunction)
	switch {
	case q.filter == nil:
		q.filter = e
	case ok:
		q.filter = append(slices.Clip(rest), e)
	default:
		q.filter = odata.Conjunction{q.filter, e}
	}
	return nil
}

// bound narrows the query by a comparison of the sequence, and says whether that is all that it says.
func (q *eventQuery) bound(op odata.Op, value odata.Literal) (bool, error) {
	if _, _, err := number(value); err != nil || value.Kind == odata.Null {
		return false, err
	}
	switch op {
	case odata.Ne:
		return false, nil
	case odata.Eq:
		return false, q.among([]odata.Literal{value}) // who waits must know it still
	default:
		q.narrow(spanOfOne(op, value))
		return true, nil
	}
}

// narrow takes in a span.
func (q *eventQuery) narrow(s span) {
	if s.upTo < math.MaxInt64 {
		q.upTo(s.upTo)
	}
	if s.after >= 0 {
		q.after, q.follows = max(q.after, s.after), q.follows || s.follows
	}
}

// upTo sets an upper bound, inclusive.
func (q *eventQuery) upTo(n int64) {
	switch {
	case n <= 0:
		q.empty = true
	case n < math.MaxInt64 && (q.before == 0 || n < q.before):
		q.before = n + 1
	}
}

// among narrows the query to some numbers.
func (q *eventQuery) among(values []odata.Literal) error {
	numbers := []int64{}
	for _, v := range values {
		n, exact, err := number(v)
		if err != nil {
			return err
		}
		if exact && n > 0 && (q.numbers == nil || slices.Contains(q.numbers, n)) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	q.numbers = slices.Compact(numbers)
	return nil
}

// number returns the whole number that a literal is, or the one below it. null is none.
func number(v odata.Literal) (n int64, exact bool, err error) {
	switch v.Kind {
	case odata.Int:
		return v.Int(), true, nil
	case odata.Decimal:
		f := math.Floor(v.Float())
		if !(f >= math.MinInt64 && f < math.MaxInt64) {
			return 0, false, badRequest("$filter", v.Text+" is beyond the numbers that "+sequenceField+" can have")
		}
		return int64(f), f == v.Float(), nil
	default:
		return 0, false, nil
	}
}

// resume narrows the query to what follows a $skiptoken.
func (q *eventQuery) resume(from string, order entityevent.Order) error {
	if from == "" {
		return nil
	}
	n, err := strconv.ParseInt(from, 10, 64)
	if err != nil || n < 0 {
		return badRequest("$skiptoken", "The $skiptoken is not one of ours: begin again without it")
	}
	if order == entityevent.OldestFirst {
		q.after = max(q.after, n)
	} else {
		q.upTo(n - 1)
	}
	return nil
}

// empties says that no event at all lies within the bounds.
func (q *eventQuery) empties() bool {
	return q.empty || q.before > 0 && q.before-1 <= q.after
}

// open says that an event may yet come that lies within the bounds.
func (q *eventQuery) open(head entityevent.Sequence) bool {
	highest := int64(math.MaxInt64)
	if q.before > 0 {
		highest = q.before - 1
	}
	if n := len(q.numbers); q.numbers != nil && n == 0 {
		return false
	} else if n > 0 {
		highest = min(highest, q.numbers[n-1])
	}
	return !q.empties() && highest > int64(head)
}

// query returns q for a store.
func (q *eventQuery) query(order entityevent.Order, limit int) entityevent.EventQuery {
	return entityevent.EventQuery{
		After: entityevent.Sequence(q.after), Before: entityevent.Sequence(q.before),
		Filter: q.filter, Order: order, Limit: limit,
	}
}
