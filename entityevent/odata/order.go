package odata

import "cmp"

// Value returns the value of a field as a literal of its kind, or of an Int a Decimal and the other way
// round: Null if the record has no value that fits. Of an Untyped field it is always Null.
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
		return Literal{v.kind, string([]byte(v.s))}
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
