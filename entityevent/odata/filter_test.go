package odata_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent/odata"
)

func TestParseFilter(t *testing.T) {
	field := func(name string, k odata.Kind) odata.Field { return odata.Field{Path: name, Of: odata.Type{Kind: k}} }
	moment := func(k odata.Kind, text string) odata.Expr {
		return odata.Comparison{Left: field("F", odata.Moment), Op: odata.Le, Right: odata.Literal{Kind: k, Text: text}}
	}
	value := func(k odata.Kind, text string) odata.Expr {
		kind := k
		if k == odata.Null {
			kind = odata.Untyped
		}
		return odata.Comparison{Left: field("F", kind), Op: odata.Le, Right: odata.Literal{Kind: k, Text: text}}
	}
	gt := func(n string) odata.Expr {
		return odata.Comparison{Left: field("EntityEventSequence", odata.Int), Op: odata.Gt, Right: odata.Literal{Kind: odata.Int, Text: n}}
	}
	str := func(s string) odata.Literal { return odata.Literal{Kind: odata.String, Text: s} }
	eq := func(f, v string) odata.Expr {
		return odata.Comparison{Left: field(f, odata.String), Op: odata.Eq, Right: str(v)}
	}
	for text, want := range map[string]odata.Expr{
		"EntityEventSequence gt 100":                  gt("100"),
		" EntityEventSequence  GT\t9007199254740993 ": gt("9007199254740993"),
		"100 lt EntityEventSequence":                  gt("100"),
		"((EntityEventSequence gt 1))":                gt("1"),
		"K eq 'O''Neil'":                              eq("K", "O'Neil"),
		"K eq ''":                                     eq("K", ""),
		"K eq 'a) or (b'":                             eq("K", "a) or (b"),
		"K eq 'ü/%#'":                                 eq("K", "ü/%#"),
		"K in ('a','b')":                              odata.Membership{Left: field("K", odata.String), Values: []odata.Literal{str("a"), str("b")}},
		"K IN( 'a' , 'b' )":                           odata.Membership{Left: field("K", odata.String), Values: []odata.Literal{str("a"), str("b")}},
		"in in (1)":                                   odata.Membership{Left: field("in", odata.Int), Values: []odata.Literal{{Kind: odata.Int, Text: "1"}}},
		"A eq '1' or B eq '2' AND C eq '3'":           odata.Disjunction{eq("A", "1"), odata.Conjunction{eq("B", "2"), eq("C", "3")}},
		"(A eq '1' OR B eq '2') and C eq '3'":         odata.Conjunction{odata.Disjunction{eq("A", "1"), eq("B", "2")}, eq("C", "3")},
		"not (A eq '1')":                              odata.Negation{Term: eq("A", "1")},
		"not A eq '1' and B eq '2'":                   odata.Conjunction{odata.Negation{Term: eq("A", "1")}, eq("B", "2")},
		"F le null":                                   value(odata.Null, "null"),
		"F le TRUE":                                   value(odata.Bool, "true"),
		"F le -1.50":                                  value(odata.Decimal, "-1.50"),
		"F le 1e3":                                    value(odata.Decimal, "1e3"),
		"F le 2026-02-28":                             moment(odata.Date, "2026-02-28"),
		"F le 2026-02-28T10:00:00.123456Z":            moment(odata.DateTimeOffset, "2026-02-28T10:00:00.123456Z"),
		"F le 2026-02-28T10:00+02:00":                 moment(odata.DateTimeOffset, "2026-02-28T10:00:00+02:00"),
		"F le 4b1e3d6d-5b61-4f6d-a38f-9e3b1cb71ffa":   value(odata.Guid, "4b1e3d6d-5b61-4f6d-a38f-9e3b1cb71ffa"),
		"F le ab1e3d6d-5b61-4f6d-a38f-9e3b1cb71ffa":   value(odata.Guid, "ab1e3d6d-5b61-4f6d-a38f-9e3b1cb71ffa"),
		"Media/Order eq 'x'":                          eq("Media/Order", "x"),
		strings.Repeat("(", 90) + "K eq 'a'" + strings.Repeat(")", 90): eq("K", "a"),
	} {
		got, err := odata.ParseFilter(text, nil)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", text, d)
		}
		again, err := odata.ParseFilter(got.String(), nil)
		if err != nil || !cmp.Equal(got, again) {
			t.Errorf("%s: printed as %s and read back as %v, %v", text, got, again, err)
		}
	}
}

func TestParseFilterRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "Unexpected end at position 0",
		"'K'":                                 "'K' is Edm.String, no condition at position 0",
		"K gtt 1":                             `Unexpected "gtt" at position 2`,
		"K eq":                                "Unexpected end at position 4",
		"K eq 'a":                             "A string without an end at position 5",
		"K eq 'a' 'b'":                        `Unexpected "'" at position 9`,
		"K eq 'a' and":                        "Unexpected end at position 12",
		"(K eq 'a'":                           "Unexpected end at position 9",
		"K eq 'a')":                           `Unexpected ")" at position 8`,
		"K in ()":                             `Unexpected ")" at position 6`,
		"K in ('a',)":                         `Unexpected ")" at position 10`,
		"K in ('a' 'b')":                      `Unexpected "'" at position 10`,
		"K in (L)":                            `Want a literal, not "L" at position 6`,
		"K gt 2026-02-30":                     `"2026-02-30" is no number, date, time with its zone (Z, or +02:00 with the + as %2B), or Guid at position 5`,
		"é eq 'ü' x":                          `Unexpected "x" at position 9`,
		"K eq 'a'; drop":                      `Unexpected ";" at position 8`,
		"\xff eq 1":                           "$filter is not UTF-8",
		strings.Repeat("(", 200) + "K eq 'a'": "Nested deeper than 100 at position 100",
		"length(K) eq 1":                      `There is no function "length" at position 0`,
		"K eq duration'P1D'":                  "The literal of type duration is not offered at position 5",
		"A eq B":                              "A and B are of unknown types and do not compare at position 5",
		"A add 1 eq 2":                        "The operator add is not offered at position 2",
		"Media/any(m:m/A eq 1)":               `"m/A" is not offered: any and all look at values, not at records at position 12`,
		"K eq INF":                            `"INF" is no number, date, time with its zone (Z, or +02:00 with the + as %2B), or Guid at position 5`,
	} {
		e, err := odata.ParseFilter(text, nil)
		checkError(t, text, e, err, http.StatusBadRequest, "$filter", want)
	}
}

func checkError(t *testing.T, text string, read any, err error, status int, target, message string) {
	t.Helper()
	var refusal *odata.Error
	if !errors.As(err, &refusal) {
		t.Errorf("%s: read as %v, error %v", text, read, err)
		return
	}
	if refusal.Message != message || refusal.Status != status || refusal.Target != target {
		t.Errorf("%s: %d %s %s", text, refusal.Status, refusal.Target, refusal.Message)
	}
}

func TestBuiltFiltersReadBack(t *testing.T) {
	keys := []string{"O'Neil", "007", "a b", "x/y", "100%", "#1", "ключ", "A", "a", "", "','"}
	for _, text := range []string{odata.In("K", keys, true), odata.AnyOf("K", keys, true)} {
		e, err := odata.ParseFilter(text, nil)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var got []string
		switch e := e.(type) {
		case odata.Membership:
			for _, v := range e.Values {
				got = append(got, v.Text)
			}
		case odata.Disjunction:
			for _, term := range e {
				got = append(got, term.(odata.Comparison).Right.(odata.Literal).Text)
			}
		}
		if d := cmp.Diff(keys, got); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
	if got, want := odata.In("K", []string{"1", "2"}, false), "K in (1,2)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
