package producer

import (
	"math"

	"github.com/resosync/resosync/entityevent/odata"
)

// span is where the sequences lie of all events that meet a condition, however it is written.
type span struct {
	after   int64 // exclusive; -1: no lower bound
	upTo    int64 // inclusive
	follows bool  // asks for what is new
}

var anywhere = span{after: -1, upTo: math.MaxInt64}

// spanOf returns the span of a condition, or of its opposite: no event is without a sequence, so not ( ) turns a
// comparison round.
func spanOf(e odata.Expr, not bool) span {
	switch e := e.(type) {
	case odata.Negation:
		return spanOf(e.Term, !not)
	case odata.Conjunction:
		return spanOfAll(e, not, !not)
	case odata.Disjunction:
		return spanOfAll(e, not, not)
	case odata.Membership:
		if f, ok := e.Left.(odata.Field); ok && f.Path == sequenceField && !not {
			s := span{after: math.MaxInt64, upTo: -1}
			for _, v := range e.Values {
				s = s.or(spanOfOne(odata.Eq, v))
			}
			return s
		}
	case odata.Comparison:
		if field, value, ok := sides(e); ok && field == sequenceField {
			return spanOfOne(turned(e.Op, not), value)
		}
	}
	return anywhere
}

// spanOfAll returns the span of terms that all hold, or of which one does.
func spanOfAll(terms []odata.Expr, not, all bool) span {
	s := spanOf(terms[0], not)
	for _, t := range terms[1:] {
		if next := spanOf(t, not); all {
			s = span{max(s.after, next.after), min(s.upTo, next.upTo), s.follows || next.follows}
		} else {
			s = s.or(next)
		}
	}
	return s
}

// or returns the span of conditions of which one holds.
func (s span) or(other span) span {
	switch {
	case s.never():
		return other
	case other.never():
		return s
	}
	after := min(s.after, other.after)
	return span{after, max(s.upTo, other.upTo), after >= 0 && (s.follows || other.follows)}
}

func (s span) never() bool { return s.upTo <= max(s.after, 0) }

// spanOfOne returns the span of a comparison with a literal.
func spanOfOne(op odata.Op, value odata.Literal) span {
	n, exact, err := number(value)
	if err != nil || value.Kind == odata.Null {
		return anywhere
	}
	below := max(n, 0) // the highest number below value
	if exact {
		below = max(n, 1) - 1
	}
	switch op {
	case odata.Gt:
		return span{max(n, 0), math.MaxInt64, true}
	case odata.Ge:
		return span{below, math.MaxInt64, true}
	case odata.Lt:
		return span{-1, below, false}
	case odata.Le:
		return span{-1, max(n, 0), false}
	case odata.Eq:
		return span{below, max(n, 0), false}
	default:
		return anywhere
	}
}

// turned returns the comparison that holds where op does not.
func turned(op odata.Op, not bool) odata.Op {
	opposite := map[odata.Op]odata.Op{
		odata.Gt: odata.Le, odata.Le: odata.Gt, odata.Ge: odata.Lt, odata.Lt: odata.Ge, odata.Eq: odata.Ne, odata.Ne: odata.Eq,
	}
	if not {
		return opposite[op]
	}
	return op
}
