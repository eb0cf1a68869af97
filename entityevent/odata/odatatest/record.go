package odatatest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"pgregory.net/rapid"

	"github.com/resosync/resosync/entityevent/odata"
)

// What values are drawn from, few enough that filters often meet them.
var (
	texts = []string{
		"", "a", "A", "Ab", "aB", "b", "O'Neil", "''", "ü", "Ü", "ß", "ẞ", "İ", "ſ", "Σας", "a%b", "a_b", "%", "\\", `"`, "a\nb", "日本", "🏠", "\uffff",
		"Active", "Pending", "A,B", "A, B", "5", "true", "2024-05-06", "2024-05-06T10:00:00Z", "null", "a) or (b", "aa", " a", "a ",
	}
	integers = []string{
		"0", "1", "-1", "7", "100", "9007199254740992", "9007199254740993", "-9007199254740993",
		"9223372036854775806", "9223372036854775807", "-9223372036854775808",
	}
	decimals = []string{
		"0.1", "0.10", "1.5", "-1.50", "1.0", "1e2", "1E+2", "100.0", "1e-7", "123456789012345", "12345678901.2345", "-0.0",
		"9007199254740992.0", "9223372036854775807.0", "9223372036854775808", "-9223372036854775809", "18446744073709551616", "0.000001",
	}
	instants = []string{
		"2024-05-06T10:00:00Z", "2024-05-06T10:00:00.500Z", "2024-05-06T10:00:00.5Z", "2024-05-06T12:00:00+02:00", "2024-05-06T09:59:59.999999Z",
		"2024-05-06T10:00:00.000001Z", "2024-05-06T10:00:00.0000019Z", "2024-05-06T10:00:00.000000999999Z", "2024-05-06t10:00:00z",
		"2024-05-06T00:00:00Z", "2024-05-05T14:00:00-10:00", "2024-02-29T23:59:59Z", "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z",
		"0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999999Z", "0000-01-01T00:00:00+14:00",
	}
	dates = []string{"2024-05-06", "2024-05-07", "2024-02-29", "1969-12-31", "0001-01-01", "9999-12-31"}
	guids = []string{"4b1e3d6d-5b61-4f6d-a38f-9e3b1cb71ffa", "4B1E3D6D-5B61-4F6D-A38F-9E3B1CB71FFA", "00000000-0000-0000-0000-000000000000"}
	// strange is JSON that does not fit a field, or only some.
	strange = []string{
		"null", "true", "false", "1", "1.5", `""`, `"x"`, "[]", "{}", `["A"]`, `[null]`, `{"City":"a"}`, `[[1]]`, `"2024-02-30"`, `"2024-5-6"`, `"2024-05-06T10:00Z"`,
		`"2024-05-06 10:00:00Z"`, `"2024-05-06T10:00:00"`, `"2024-05-06T24:00:00Z"`, `"2024-05-06T10:00:60Z"`, `"2024-05-06T10:00:00.Z"`, `"2024-05-06T10:00:00,5Z"`,
		`"2024-05-06T10:00:00+2:00"`, `"2024-05-06T10:00:00Z "`, `"A,,B"`, `"C, A"`, `"D"`, `"True"`, `"1"`,
	}
)

// Record makes records of Scope as JSON objects: with members that are absent, null, of another type, or
// strings with escapes.
func Record() *rapid.Generator[[]byte] {
	fields := fieldsOf(Scope().(scope).Fields)
	return rapid.Custom(func(t *rapid.T) []byte { return object(t, fields) })
}

type field struct {
	name string
	of   odata.Type
}

// fieldsOf returns the fields in one order, so that a seed says what happens.
func fieldsOf(scope odata.Scope) []field {
	var fields []field
	for name, of := range scope.(odata.Fields) {
		fields = append(fields, field{name, of})
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return fields
}

func object(t *rapid.T, fields []field) []byte {
	body := []byte("{")
	for _, f := range fields {
		var value string
		switch n := draw(t, 20); {
		case n < 2:
			continue
		case n < 3:
			value = "null"
		case n < 5:
			value = pick(t, strange)
		case f.of.Collection:
			value = array(t, f.of)
		default:
			value = json1(t, f.of)
		}
		if len(body) > 1 {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, "%s:%s", quoted(t, f.name), value)
	}
	return append(body, '}')
}

func array(t *rapid.T, of odata.Type) string {
	values := make([]string, draw(t, 4))
	for i := range values {
		if values[i] = json1(t, of); draw(t, 8) == 0 {
			values[i] = pick(t, strange)
		}
	}
	return "[" + strings.Join(values, pick(t, []string{",", ", "})) + "]"
}

// json1 returns one value of a type.
func json1(t *rapid.T, of odata.Type) string {
	switch of.Kind {
	case odata.Bool:
		return pick(t, []string{"true", "false"})
	case odata.Int, odata.Decimal:
		return pick(t, slices.Concat(integers, decimals))
	case odata.String:
		return quoted(t, pick(t, texts))
	case odata.DateTimeOffset:
		return quoted(t, pick(t, instants))
	case odata.Date:
		return quoted(t, pick(t, dates))
	case odata.Guid:
		return quoted(t, pick(t, guids))
	case odata.Enumeration:
		if of.Enum.Flags {
			if draw(t, 4) > 0 {
				return quoted(t, together(t, of.Enum))
			}
			return pick(t, []string{`["A","C"]`, `["Sun","Sat"]`, `["A,B"]`, `["Sat","Sun,Mon"]`, `["A",1,null]`, `"Sat,Nope"`, `"Nope"`, `"96"`})
		}
		return quoted(t, pick(t, of.Enum.Members))
	case odata.Complex:
		return string(object(t, fieldsOf(of.Fields)))
	case odata.TimeOfDay:
		return `"10:30:00"`
	default:
		if draw(t, 2) == 0 {
			return quoted(t, pick(t, slices.Concat(instants, dates)))
		}
		return pick(t, strange)
	}
}

// together returns a value of flags: one member or several, in any order.
func together(t *rapid.T, e *odata.Enum) string {
	members := make([]string, 1+draw(t, 3))
	for i := range members {
		members[i] = pick(t, e.Members)
	}
	return strings.Join(members, pick(t, []string{",", ", "}))
}

// quoted writes a JSON string, with needless escapes now and then.
func quoted(t *rapid.T, s string) string {
	if draw(t, 6) > 0 {
		text, _ := json.Marshal(s)
		return string(text)
	}
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune(s)) {
		fmt.Fprintf(&b, `\u%04x`, unit)
	}
	return `"` + b.String() + `"`
}

// draw returns 0 to below-1, each as often: rapid by itself likes small numbers.
func draw(t *rapid.T, below int) int {
	const golden = 2654435761 // spreads
	return int(uint32(rapid.Uint16().Draw(t, "n"))*golden>>8) % below
}

func pick[E any](t *rapid.T, from []E) E { return from[draw(t, len(from))] }
