package odata

import (
	"strconv"
	"time"
)

// fold returns e, or its value if it has no field.
func fold(e Expr) Expr {
	fixed := func(e Expr) bool { _, ok := e.(Literal); return ok }
	switch e := e.(type) {
	case Comparison:
		if !fixed(e.Left) || !fixed(e.Right) {
			return e
		}
	case Membership:
		if !fixed(e.Left) {
			return e
		}
	case Call:
		for _, a := range e.Args {
			if !fixed(a) {
				return e
			}
		}
	default:
		return e
	}
	v := evaluation{}.value(e)
	if v.kind == Bool {
		return Literal{Bool, strconv.FormatBool(v.n != 0)}
	}
	return Literal{String, v.s}
}

// At returns e with now() as that time, cut off to the microsecond.
func At(e Expr, now time.Time) Expr {
	all := func(terms []Expr) []Expr {
		changed := make([]Expr, len(terms))
		for i, t := range terms {
			changed[i] = At(t, now)
		}
		return changed
	}
	switch e := e.(type) {
	case Now:
		return Literal{DateTimeOffset, now.UTC().Format("2006-01-02T15:04:05.000000Z")}
	case Conjunction:
		return Conjunction(all(e))
	case Disjunction:
		return Disjunction(all(e))
	case Negation:
		return Negation{At(e.Term, now)}
	case Comparison:
		return fold(Comparison{At(e.Left, now), e.Op, At(e.Right, now)})
	case Membership:
		return fold(Membership{At(e.Left, now), e.Values})
	case Call:
		return fold(Call{e.Name, all(e.Args)})
	case Lambda:
		if e.Term != nil {
			e.Term = At(e.Term, now)
		}
		return e
	}
	return e
}
