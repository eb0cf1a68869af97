package odata_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/odata/odatatest"
)

// TestFieldValue: records in the order of a field, null first, with what is equal in one line.
func TestFieldValue(t *testing.T) {
	for name, lines := range map[string][][]string{
		"City":                  {{"null", "5", "[]"}, {`""`}, {`"A"`, `"\u0041"`}, {`"a"`}, {`"ü"`}, {`"日"`}, {`"🏠"`}},
		"Beds":                  {{`"5"`, "true"}, {"-9223372036854775808"}, {"-1.5"}, {"0", "-0", "0.0"}, {"9007199254740992", "9007199254740992.0"}, {"9007199254740993"}, {"9223372036854775807"}, {"9223372036854775808", "9223372036854775809.0"}, {"1e999", "1e1000"}},
		"PoolYN":                {{"1", "null"}, {"false"}, {"true"}},
		"ModificationTimestamp": {{`"2024-05-06"`, `"x"`}, {`"2024-05-06T10:00:00Z"`, `"2024-05-06T12:00:00.0000009+02:00"`}, {`"2024-05-06T10:00:00.5Z"`, `"2024-05-06t10:00:00.50z"`}},
		"CloseDate":             {{`"2024-5-6"`}, {`"2024-05-06"`}, {`"2024-05-07"`}},
		"Id":                    {{"7"}, {`"0a"`, `"0A"`}, {`"0b"`}},
		"Odd":                   {{"1", `"x"`, "null"}},
	} {
		orders, err := odata.ParseOrderBy(name, odatatest.Scope())
		if err != nil {
			t.Fatal(err)
		}
		value := func(text string) odata.Literal {
			return orders[0].Field.Value(func(string) []byte { return []byte(text) })
		}
		for i, line := range lines {
			for j, other := range lines {
				for _, a := range line {
					for _, b := range other {
						if got, want := value(a).Compare(value(b)), sign(i-j); got != want {
							t.Errorf("%s: %s beside %s: %d, want %d", name, a, b, got, want)
						}
					}
				}
			}
		}
	}
	absent := odata.Field{Path: "A/B", Of: odata.Type{Kind: odata.String}}.Value(odatatest.Member([]byte(`{"A":{"C":"x"}}`)))
	if want := (odata.Literal{Kind: odata.Null, Text: "null"}); absent != want {
		t.Errorf("an absent value is %+v", absent)
	}
}

func sign(n int) int { return max(-1, min(1, n)) }

// TestValuesHold: a value of a record, as a literal, is what a filter finds that record by, and Compare says
// what gt and lt say.
func TestValuesHold(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		text := odatatest.OrderBy().Draw(r, "order")
		orders, err := odata.ParseOrderBy(text, odatatest.Scope())
		if err != nil {
			r.Fatal(err)
		}
		a := odatatest.Member(odatatest.Record().Draw(r, "a"))
		b := odatatest.Member(odatatest.Record().Draw(r, "b"))
		for _, o := range orders {
			value, other := o.Field.Value(a), o.Field.Value(b)
			holds := func(op odata.Op, member func(string) []byte) bool {
				return odata.Holds(odata.Comparison{Left: o.Field, Op: op, Right: value}, member)
			}
			if o.Field.Of.Kind != odata.Untyped && !holds(odata.Eq, a) {
				r.Fatalf("%s: %v is not found", text, value)
			}
			if value.Kind == odata.Null || other.Kind == odata.Null {
				continue
			}
			c := other.Compare(value)
			for op, want := range map[odata.Op]bool{odata.Eq: c == 0, odata.Ne: c != 0, odata.Gt: c > 0, odata.Ge: c >= 0, odata.Lt: c < 0, odata.Le: c <= 0} {
				if holds(op, b) != want {
					r.Fatalf("%s: %v %s %v is %v", text, other, op, value, !want)
				}
			}
		}
	})
}
