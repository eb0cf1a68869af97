package entityevent_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
)

var update = flag.Bool("update", false, "write the golden files")

func event(s entityevent.Sequence, resource, key string) entityevent.Event {
	return entityevent.Event{Sequence: s, Ref: entityevent.Ref{Resource: resource, Key: key}}
}

// The examples of RCP-27 and RCP-28 in the standards' own words: what we send for the same events means
// the same, and stays byte by byte what it was.
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		file   string
		events []entityevent.Event
		bare   bool
	}{
		{"rcp27-page.json", []entityevent.Event{event(101, "Member", "21"), event(103, "Property", "539"), event(110, "Media", "1239")}, false},
		{"rcp28-one.json", []entityevent.Event{event(1101, "Showing", "235021")}, true},
		{"rcp28-many.json", []entityevent.Event{event(1101, "Property", "235021"), event(1111, "Media", "ABC123")}, false},
	} {
		t.Run(c.file, func(t *testing.T) {
			example, err := os.ReadFile(filepath.Join("..", "testdata", "events", c.file))
			if err != nil {
				t.Fatal(err)
			}
			got, err := entityevent.ParseEvents(example)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.events, got); diff != "" {
				t.Errorf("read: want -, got +\n%s", diff)
			}
			sent := entityevent.AppendEvents(nil, c.events)
			if c.bare {
				sent = c.events[0].AppendBare(nil)
			}
			golden(t, strings.TrimSuffix(c.file, ".json")+".sent.json", append(sent, '\n'))
			if got, err = entityevent.ParseEvents(sent); err != nil || !cmp.Equal(got, c.events) {
				t.Errorf("our own words: %v, %v", got, err)
			}
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("..", "testdata", "events", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: want -, got +\n%s", path, diff)
	}
}

func TestParseEvents(t *testing.T) {
	long := strings.Repeat("é", 255)
	for _, c := range []struct {
		name, in string
		want     []entityevent.Event
	}{
		{"empty value", `{"value":[]}`, nil},
		{"empty value, in full", ` { "@reso.context" : "urn:reso:metadata:2.0:resource:entityevent" , "value" : [ ] } `, nil},
		{"strings", `{"value":[{"EntityEventSequence":"7","ResourceName":"Property","ResourceRecordKey":"007"}]}`,
			[]entityevent.Event{event(7, "Property", "007")}},
		{"numbers", `{"EntityEventSequence":7,"ResourceName":"Property","ResourceRecordKey":539}`,
			[]entityevent.Event{event(7, "Property", "539")}},
		{"older names", `{"EntityEventSequenceNumeric":7,"ResourceName":"Property","ResourceRecordKeyNumeric":539,"ResourceRecordURL":"u"}`,
			[]entityevent.Event{{Sequence: 7, Ref: entityevent.Ref{Resource: "Property", Key: "539"}, URL: "u"}}},
		{"both names", `{"EntityEventSequenceNumeric":"7","EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":"1","ResourceRecordURL":"old","ResourceRecordUrl":"new"}`,
			[]entityevent.Event{{Sequence: 7, Ref: entityevent.Ref{Resource: "P", Key: "1"}, URL: "new"}}},
		{"both keys", `{"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKeyNumeric":1,"ResourceRecordKey":"a"}`,
			[]entityevent.Event{event(7, "P", "a")}},
		{"both keys, one null", `{"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":null,"ResourceRecordKeyNumeric":1}`,
			[]entityevent.Event{event(7, "P", "1")}},
		{"odd beyond a float", `{"EntityEventSequence":9007199254740993,"ResourceName":"P","ResourceRecordKey":"1"}`,
			[]entityevent.Event{event(1<<53+1, "P", "1")}},
		{"the last", `{"EntityEventSequence":"9223372036854775807","ResourceName":"P","ResourceRecordKey":"1"}`,
			[]entityevent.Event{event(math.MaxInt64, "P", "1")}},
		{"others members", `{"FeedTypes":["IDX"],"x":{"EntityEventSequence":9},"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":"1","ResourceRecordUrl":null}`,
			[]entityevent.Event{event(7, "P", "1")}},
		{"context at the end", `{"value":[{"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":"1"}],"@reso.context":"URN:RESO:METADATA:1.7:RESOURCE:ENTITYEVENT"}`,
			[]entityevent.Event{event(7, "P", "1")}},
		{"an odata page", `{"@odata.context":"https://host/odata/$metadata#EntityEvent","value":[{"@odata.id":"x","EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":"1"}],"@odata.nextLink":"y"}`,
			[]entityevent.Event{event(7, "P", "1")}},
		{"escapes", `{"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":"a\/\"\\\u00e9\ud83c\udfe0"}`,
			[]entityevent.Event{event(7, "P", "a/\"\\é\U0001F3E0")}},
		{"escapes that look like half a pair", `{"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":"\\ud800\ufffd\\","x":"\ud800"}`,
			[]entityevent.Event{event(7, "P", "\\ud800\uFFFD\\")}},
		{"as long as may be", `{"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":"` + long + `"}`,
			[]entityevent.Event{event(7, "P", long)}},
	} {
		got, err := entityevent.ParseEvents([]byte(c.in))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: want -, got +\n%s", c.name, diff)
		}
	}
}

// TestParseEventsRefuses: all of it or nothing.
func TestParseEventsRefuses(t *testing.T) {
	good := `{"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":"1"}`
	with := func(member string) string {
		return `{"value":[` + good + `,` + strings.Replace(good, `"EntityEventSequence":7`, member, 1) + `]}`
	}
	bad := map[string]string{
		"nothing":               ``,
		"white space":           ` `,
		"an array":              `[` + good + `]`,
		"null":                  `null`,
		"value null":            `{"value":null}`,
		"value of null":         `{"value":[null]}`,
		"value of numbers":      `{"value":[1]}`,
		"value twice":           `{"value":[],"value":[]}`,
		"text after it":         good + good,
		"cut":                   good[:len(good)-1],
		"an empty object":       `{}`,
		"an error of a server":  `{"error":{"code":"x","message":"y"}}`,
		"another resource":      `{"@reso.context":"urn:reso:metadata:2.0:resource:property","value":[` + good + `]}`,
		"a context of no urn":   `{"@reso.context":"entityevent","value":[` + good + `]}`,
		"a context of a number": `{"@reso.context":7,"value":[]}`,
		"sequence 0":            with(`"EntityEventSequence":0`),
		"a negative one":        with(`"EntityEventSequence":-1`),
		"2^63":                  with(`"EntityEventSequence":9223372036854775808`),
		"2^63 as a string":      with(`"EntityEventSequence":"9223372036854775808"`),
		"a fraction":            with(`"EntityEventSequence":7.5`),
		"a whole fraction":      with(`"EntityEventSequence":7.0`),
		"an exponent":           with(`"EntityEventSequence":1e3`),
		"a plus":                with(`"EntityEventSequence":"+7"`),
		"an underscore":         with(`"EntityEventSequence":"1_000"`),
		"a space":               with(`"EntityEventSequence":" 7"`),
		"an empty sequence":     with(`"EntityEventSequence":""`),
		"a null sequence":       with(`"EntityEventSequence":null`),
		"a boolean":             with(`"EntityEventSequence":true`),
		"no sequence":           with(`"x":1`),
		"two sequences":         with(`"EntityEventSequence":7,"EntityEventSequenceNumeric":8`),
		"two, the other first":  with(`"EntityEventSequenceNumeric":8,"EntityEventSequence":7`),
		"two of the older name": with(`"EntityEventSequenceNumeric":7,"EntityEventSequenceNumeric":7`),
		"two of one name":       with(`"EntityEventSequence":7,"EntityEventSequence":7`),
		"two resources":         with(`"EntityEventSequence":7,"ResourceName":"Q"`),
		"two keys":              with(`"EntityEventSequence":7,"ResourceRecordKey":"2"`),
		"no resource":           `{"EntityEventSequence":7,"ResourceRecordKey":"1"}`,
		"an empty resource":     `{"EntityEventSequence":7,"ResourceName":"","ResourceRecordKey":"1"}`,
		"a resource of lists":   `{"EntityEventSequence":7,"ResourceName":[],"ResourceRecordKey":"1"}`,
		"no key":                `{"EntityEventSequence":7,"ResourceName":"P"}`,
		"a null key":            `{"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":null}`,
		"a zero in a key":       `{"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":"a\u0000"}`,
		"a long key":            `{"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":"` + strings.Repeat("k", 256) + `"}`,
		"a long resource":       `{"EntityEventSequence":7,"ResourceName":"` + strings.Repeat("k", 256) + `","ResourceRecordKey":"1"}`,
		"a long url":            with(`"EntityEventSequence":7,"ResourceRecordUrl":"` + strings.Repeat("k", 8001) + `"`),
		"not UTF-8":             "{\"EntityEventSequence\":7,\"ResourceName\":\"P\",\"ResourceRecordKey\":\"\xff\"}",
		"not UTF-8 elsewhere":   "{\"EntityEventSequence\":7,\"ResourceName\":\"P\",\"ResourceRecordKey\":\"1\",\"x\":\"\xff\"}",
		"half a pair":           `{"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":"\ud800"}`,
		"the other half":        `{"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":"\udc00x"}`,
		"two first halves":      `{"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":"a\ud800\ud800"}`,
		"half a pair and more":  `{"EntityEventSequence":7,"ResourceName":"P","ResourceRecordKey":"\ud83c\udfe0\ud83c\n123456"}`,
		"half in a resource":    `{"EntityEventSequence":7,"ResourceName":"\ud800P","ResourceRecordKey":"1"}`,
		"deeply nested":         `{"x":` + strings.Repeat(`[`, 100_000) + strings.Repeat(`]`, 100_000) + `,"value":[]}`,
	}
	for name, in := range bad {
		got, err := entityevent.ParseEvents([]byte(in))
		if !errors.Is(err, entityevent.ErrInvalid) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}

func TestParseEventsMany(t *testing.T) {
	var in bytes.Buffer
	in.WriteString(`{"value":[`)
	const n = 100_000
	for i := range n {
		if i > 0 {
			in.WriteByte(',')
		}
		fmt.Fprintf(&in, `{"EntityEventSequence":%d,"ResourceName":"Property","ResourceRecordKey":"%d"}`, i+1, i)
	}
	in.WriteString(`]}`)
	got, err := entityevent.ParseEvents(in.Bytes())
	if err != nil || len(got) != n || got[n-1].Sequence != n {
		t.Errorf("%d events, %v", len(got), err)
	}
}

func TestEachRecord(t *testing.T) {
	for _, c := range []struct{ in, context, want string }{
		{`{"A":1}`, "", `{"A":1}`},
		{` {"value":"x"} `, "", `{"value":"x"}`},
		{`{"value":[ {"A":1} , {"B":[2]} ],"@reso.context":"c"}`, "c", `{"A":1}|{"B":[2]}`},
		{`{"value":[]}`, "", ``},
	} {
		var got []string
		context, err := entityevent.EachRecord([]byte(c.in), func(r []byte) error {
			got = append(got, string(r))
			return nil
		})
		if err != nil || context != c.context || strings.Join(got, "|") != c.want {
			t.Errorf("%s: %q, %q, %v", c.in, context, got, err)
		}
	}
	stop := errors.New("stop")
	_, err := entityevent.EachRecord([]byte(`{"value":[{},{}]}`), func([]byte) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("each's error: %v", err)
	}
}

func TestMergeBodies(t *testing.T) {
	for _, c := range []struct{ base, patch, want string }{
		{`{}`, `{}`, `{}`},
		{`{"A":1,"B":2}`, `{"B":3,"C":4}`, `{"A":1,"B":3,"C":4}`},
		{`{"A":1}`, `{"A":null}`, `{"A":null}`},
		{`{"A":{"x":1,"y":2}}`, `{"A":{"x":3}}`, `{"A":{"x":3}}`},
		{`{"A":1}`, `{"\u0041":2}`, `{"A":2}`},
		{` { "A" : 1.50 } `, `{"B":1e400}`, `{"A":1.50,"B":1e400}`},
	} {
		got, err := entityevent.MergeBodies([]byte(c.base), []byte(c.patch))
		if err != nil || string(got) != c.want {
			t.Errorf("%s and %s: %s, %v", c.base, c.patch, got, err)
		}
	}
	for _, c := range [][2]string{
		{`[]`, `{}`}, {`{}`, `[]`}, {`{}`, `null`}, {`{}`, ``}, {`{}`, `{"A":1,"A":2}`}, {`{}`, `{"A":1,"\u0041":2}`},
		{`{"A":1}`, `{"A":2,"A":3}`}, {`{}`, `{}{}`},
	} {
		if got, err := entityevent.MergeBodies([]byte(c[0]), []byte(c[1])); !errors.Is(err, entityevent.ErrInvalid) {
			t.Errorf("%s and %s: %s, %v", c[0], c[1], got, err)
		}
	}
}

func TestMember(t *testing.T) {
	record := []byte(`{"A":"x","B": 1.0 ,"C":{"A":2},"D":null,"\u0045":true,"F":"a\"b"}`)
	for name, want := range map[string]string{"A": `"x"`, "B": `1.0`, "C": `{"A":2}`, "D": `null`, "E": `true`, "a": ``, "F": `"a\"b"`} {
		if got := string(entityevent.Member(record, name)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]string{"A": `x`, "B": `1.0`, "C": ``, "D": ``, "E": ``, "F": `a"b`, "G": ``} {
		if got := entityevent.StringMember(record, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := entityevent.Member([]byte(`[1]`), "A"); got != nil {
		t.Errorf("a member of an array: %s", got)
	}
}
