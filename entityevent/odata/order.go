package odata

import (
	"cmp"
	"unicode/utf8"
)

const orderedBytes = 1000

// Ordered returns as much of a text as decides its place in an order: texts may be very long, and whoever goes on from a
// place has to name it.
func Ordered(text string) string {
	if len(text) <= orderedBytes {
		return text
	}
	end := orderedBytes
	for end < len(text) && !utf8.RuneStart(text[end]) {
		end++
	}
	return text[:end]
}

// Value returns the value of a field as a literal of its kind, or of an Int a Decimal and the other way
// round: Null if the record has no value that fits. Of an Untyped field it is always Null, and of a text what is Ordered.
func (f Field) Value(member func(name string) []byte) Literal {
	raw := evaluation{member: member}.raw(f)
	switch v := fit(raw, f.Of); v.kind {
	case Untyped, Complex:
		return Literal{Null, "null"}
	case Int, Decimal, Bool:
		return Literal{v.kind, string(raw)}
	case DateTimeOffset:
		return Literal{v.kind, string([]byte(text(raw)))}
	default:
		return Literal{v.kind, string([]byte(Ordered(v.s)))}
	}
}

// Compare compares two values of one field as $orderby does, ascending: null comes before all others.
func (l Literal) Compare(other Literal) int {
	a, b := l.value(), other.value()
	switch {
	case a.kind == Untyped || b.kind == Untyped:
		return cmp.Compare(min(a.kind, 1), min(b.kind, 1))
	case compare(a, Lt, b):
		return -1
	case compare(a, Gt, b):
		return 1
	default:
		return 0
	}
}
