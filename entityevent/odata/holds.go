package odata

import (
	"bytes"
	"slices"
	"strings"
	"unsafe"
)

// Holds says whether the record meets the condition e, which is without now(). member returns the JSON
// text of a member of the record, nil if it has none. It is what every store answers by:
//
// A value counts only if it fits the field: a Bool is true or false; an Int or Decimal a number, exact if
// it is written as an integer and fits in an int64, else the nearest float64; a String, Guid or Enumeration
// is a string; a Date is a string like 2026-02-28, a DateTimeOffset one that ParseInstant reads; a
// collection is an array. A Moment is a Date or a DateTimeOffset, and compares with both as an instant: a Date
// is the midnight UTC with which it begins. Everything else is null.
//
// eq and ne are never null: null equals null alone. gt, ge, lt and le with a null are false. in is eq with
// any of the list. Functions of a null are null. and, or and not have three values, and null is not
// true in the end. any and all take a null as not true, and what is no array as empty. Strings compare by
// their bytes, Guids in any case, false is less than true, and flags by Enum.Canonical. tolower and toupper are those of package strings.
//
// has looks for members in a string, between commas and without the spaces around, or in the strings of
// an array, of flags for those that Enum.Canonical has, and is null for anything else.
func Holds(e Expr, member func(name string) []byte) bool {
	return evaluation{member: member}.truth(e) == yes
}

// evaluation is a record, and the element that a Lambda looks at.
type evaluation struct {
	member  func(name string) []byte
	element []byte
}

// truth is one of three.
type truth uint8

const (
	no truth = iota
	unknown
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (ev evaluation) truth(e Expr) truth {
	switch e := e.(type) {
	case Conjunction:
		all := yes
		for _, t := range e {
			if all = min(all, ev.truth(t)); all == no {
				break
			}
		}
		return all
	case Disjunction:
		one := no
		for _, t := range e {
			if one = max(one, ev.truth(t)); one == yes {
				break
			}
		}
		return one
	case Negation:
		return yes - ev.truth(e.Term)
	case Comparison:
		return truthOf(compare(ev.value(e.Left), e.Op, ev.value(e.Right)))
	case Membership:
		left := ev.value(e.Left)
		for _, v := range e.Values {
			if compare(left, Eq, v.value()) {
				return yes
			}
		}
		return no
	case Has:
		return ev.has(e)
	case Lambda:
		return truthOf(ev.lambda(e))
	}
	v := ev.value(e)
	if v.kind != Bool {
		return unknown
	}
	return truthOf(v.n != 0)
}

func (ev evaluation) value(e Expr) value {
	switch e := e.(type) {
	case Field:
		return fit(ev.raw(e), e.Of)
	case Variable:
		return fit(ev.element, e.Of)
	case Literal:
		return e.value()
	case Call:
		return ev.call(e)
	case Conjunction, Disjunction, Negation, Comparison, Membership, Has, Lambda:
		switch ev.truth(e) {
		case yes:
			return value{kind: Bool, n: 1}
		case no:
			return value{kind: Bool}
		case unknown:
		}
	}
	return value{}
}

// raw returns the JSON text of a field, nil if there is none.
func (ev evaluation) raw(f Field) []byte {
	name, rest, nested := strings.Cut(f.Path, "/")
	raw := ev.member(name)
	for nested && raw != nil {
		name, rest, nested = strings.Cut(rest, "/")
		raw = memberOf(raw, name)
	}
	return bytes.TrimSpace(raw)
}

func (ev evaluation) call(c Call) value {
	var args [2]value
	for i, a := range c.Args {
		if args[i] = ev.value(a); args[i].kind != String {
			return value{}
		}
	}
	a, b := args[0].s, args[1].s
	var holds bool
	switch c.Name {
	case "tolower":
		return value{kind: String, s: strings.ToLower(a)}
	case "toupper":
		return value{kind: String, s: strings.ToUpper(a)}
	case "contains":
		holds = strings.Contains(a, b)
	case "startswith":
		holds = strings.HasPrefix(a, b)
	case "endswith":
		holds = strings.HasSuffix(a, b)
	}
	if holds {
		return value{kind: Bool, n: 1}
	}
	return value{kind: Bool}
}

func (ev evaluation) has(e Has) truth {
	raw := ev.element
	if f, ok := e.Left.(Field); ok {
		raw = ev.raw(f)
	}
	var members []string
	switch kindOf(raw) {
	case '"':
		members = Literal{Text: text(raw)}.Members()
	case '[':
		for element := range elements(raw) {
			if kindOf(element) == '"' {
				members = append(members, text(element))
			}
		}
	default:
		return unknown
	}
	if enum := e.Left.Type().Enum; enum != nil && enum.Flags {
		members, _ = enum.read(strings.Join(members, ","))
	}
	for _, m := range e.Right.Members() {
		if !slices.Contains(members, m) {
			return no
		}
	}
	return yes
}

func (ev evaluation) lambda(e Lambda) bool {
	raw := ev.raw(e.Over)
	if kindOf(raw) != '[' {
		return e.All
	}
	for element := range elements(raw) {
		ev.element = element
		if e.Term == nil || (ev.truth(e.Term) == yes) != e.All {
			return !e.All
		}
	}
	return e.All
}

// view returns b as a string without a copy: for what is over before b changes.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
