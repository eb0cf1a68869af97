package odata

import (
	"cmp"
	"math"
	"strconv"
	"strings"
)

// value is what expressions yield.
type value struct {
	kind Kind    // Untyped (the zero value) is null
	n    int64   // of an Int, Bool or DateTimeOffset
	f    float64 // of a Decimal
	s    string  // of the others
}

func (l Literal) value() value {
	switch l.Kind {
	case Bool:
		if l.Text == "true" {
			return value{kind: Bool, n: 1}
		}
		return value{kind: Bool}
	case Int:
		return value{kind: Int, n: l.Int()}
	case Decimal:
		return value{kind: Decimal, f: l.Float()}
	case DateTimeOffset:
		return value{kind: DateTimeOffset, n: l.Instant()}
	case String, Date, Guid, Enumeration:
		return value{kind: l.Kind, s: l.Text}
	default:
		return value{}
	}
}

// fit returns a JSON text as a value of the type, null if it is none.
func fit(raw []byte, of Type) value {
	kind := of.Kind
	switch c := kindOf(raw); c {
	case 0, 'n':
		return value{}
	case '"':
		switch kind {
		case Enumeration:
			return value{kind: kind, s: of.Enum.Canonical(text(raw))}
		case String, Guid:
			return value{kind: kind, s: text(raw)}
		case Date:
			if s := text(raw); isDate(s) {
				return value{kind: Date, s: s}
			}
			return value{}
		case DateTimeOffset:
			if n, ok := ParseInstant(text(raw)); ok {
				return value{kind: DateTimeOffset, n: n}
			}
			return value{}
		case Moment:
			if n, ok := momentOf(text(raw)); ok {
				return value{kind: DateTimeOffset, n: n}
			}
			return value{}
		default:
		}
	case 't', 'f':
		if kind == Bool {
			if c == 't' {
				return value{kind: Bool, n: 1}
			}
			return value{kind: Bool}
		}
	case '{', '[':
	default:
		if kind.number() {
			s := view(raw)
			if isDigits(strings.TrimPrefix(s, "-")) {
				if n, err := strconv.ParseInt(s, 10, 64); err == nil {
					return value{kind: Int, n: n}
				}
			}
			f, _ := strconv.ParseFloat(s, 64) // beyond the range: infinite
			return value{kind: Decimal, f: f}
		}
	}
	if kind == Untyped { // something that is not null
		return value{kind: Complex}
	}
	return value{}
}

// compare is false for what does not compare.
func compare(a value, op Op, b value) bool {
	if a.kind == Untyped || b.kind == Untyped {
		switch op {
		case Eq:
			return a.kind == b.kind
		case Ne:
			return a.kind != b.kind
		default:
			return false
		}
	}
	var c int
	switch {
	case a.kind == DateTimeOffset && b.kind == Date:
		n, _ := momentOf(b.s)
		c = cmp.Compare(a.n, n)
	case a.kind == Date && b.kind == DateTimeOffset:
		n, _ := momentOf(a.s)
		c = cmp.Compare(n, b.n)
	case a.kind == Int && b.kind == Decimal:
		c = compareMixed(a.n, b.f)
	case a.kind == Decimal && b.kind == Int:
		c = -compareMixed(b.n, a.f)
	case a.kind != b.kind || a.kind == Complex:
		return op == Ne
	case a.kind == Decimal:
		c = cmp.Compare(a.f, b.f)
	case a.kind == Guid:
		c = cmp.Compare(strings.ToLower(a.s), strings.ToLower(b.s))
	case a.kind == Bool || a.kind == Int || a.kind == DateTimeOffset:
		c = cmp.Compare(a.n, b.n)
	default:
		c = strings.Compare(a.s, b.s)
	}
	switch op {
	case Eq:
		return c == 0
	case Ne:
		return c != 0
	case Gt:
		return c > 0
	case Ge:
		return c >= 0
	case Lt:
		return c < 0
	default:
		return c <= 0
	}
}

// compareMixed compares without rounding the integer.
func compareMixed(n int64, f float64) int {
	switch {
	case f >= 1<<63:
		return -1
	case f < -1<<63:
		return 1
	}
	whole := math.Trunc(f)
	if c := cmp.Compare(n, int64(whole)); c != 0 {
		return c
	}
	return cmp.Compare(whole, f)
}
