package entityevent_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
)

// wantInvalid is what a reader may refuse with: shortly, and for no other reason.
func wantInvalid(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, entityevent.ErrInvalid) {
		t.Fatalf("another error than ErrInvalid: %v", err)
	}
	if len(err.Error()) > 2000 {
		t.Fatalf("an error of %d bytes", len(err.Error()))
	}
}

func FuzzParseEvents(f *testing.F) {
	for _, seed := range []string{
		`{"@reso.context":"urn:reso:metadata:2.0:resource:entityevent","value":[{"EntityEventSequence":1101,"ResourceName":"Property","ResourceRecordKey":"235021"}]}`,
		`{"EntityEventSequenceNumeric":"9223372036854775807","ResourceName":"P","ResourceRecordKeyNumeric":7,"ResourceRecordURL":"\ud83c\udfe0"}`,
		`{"value":[]}`, `{"value":null}`, `[[[[`, `{"a":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		events, err := entityevent.ParseEvents(in)
		if err != nil {
			if events != nil {
				t.Fatalf("%d events with %v", len(events), err)
			}
			wantInvalid(t, err)
			return
		}
		if !json.Valid(in) || len(events)*len(`{"EntityEventSequence":1}`) > len(in) {
			t.Fatalf("%d events of %d bytes, JSON %v", len(events), len(in), json.Valid(in))
		}
		for _, e := range events {
			if err := e.Validate(); err != nil {
				t.Fatal(err)
			}
			again, err := entityevent.ParseEvents(e.AppendBare(nil))
			if err != nil || len(again) != 1 || again[0] != e {
				t.Fatalf("%v came back as %v, %v", e, again, err)
			}
		}
		again, err := entityevent.ParseEvents(entityevent.AppendEvents(nil, events))
		if err != nil || !cmp.Equal(again, events) && len(events) > 0 {
			t.Fatalf("%v came back as %v, %v", events, again, err)
		}
	})
}

func FuzzReadPage(f *testing.F) {
	for _, seed := range []string{
		`{"@odata.context":"x","value":[{"K":"1","A":[1,{"b":null}]},{"K":7},{}],"@odata.nextLink":"https://host/p?$skiptoken=2"}`,
		`{"value":[{"K":"\ud83c\udfe0","\u004b":2}]}`, `{"value":[{"K":true}]}`, `{"value":[]} x`, `{"error":{"code":"404"}}`, `<html>`,
		`{"@nextLink":null,"value":[{"K":null}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		type row struct{ key, record string }
		var rows []row
		next, err := entityevent.ReadPage(in, "K", func(key string, record []byte) error {
			rows = append(rows, row{key, string(record)})
			return nil
		})
		if err != nil {
			wantInvalid(t, err)
			return
		}
		if !json.Valid(in) || len(next) > len(in) {
			t.Fatalf("accepted what is not JSON, or made a nextLink of %d bytes", len(next))
		}
		// The records are those of the other reader of the format, with the keys of the other reader of members.
		var others []row
		if _, err := entityevent.EachRecord(in, func(record []byte) error {
			others = append(others, row{entityevent.StringMember(record, "K"), string(record)})
			return nil
		}); err == nil && !reflect.DeepEqual(rows, others) {
			t.Fatalf("%q against %q", rows, others)
		}
		for _, r := range rows {
			if !json.Valid([]byte(r.record)) {
				t.Fatalf("a record that is not JSON: %q", r.record)
			}
		}
	})
}

func FuzzMergeBodies(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"A":1,"B":[2]}`, `{"B":3.0,"C":{"x":null}}`}, {`{}`, `{"A":null}`}, {`{"\u0041":1}`, `{"A":2}`}, {`{"A":1e999}`, `{"":""}`}, {`[`, `{`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, base, patch []byte) {
		got, err := entityevent.MergeBodies(base, patch)
		if err != nil {
			wantInvalid(t, err)
			return
		}
		if len(got) > len(base)+len(patch) {
			t.Fatalf("%d bytes of %d and %d", len(got), len(base), len(patch))
		}
		// It holds the members of both, those of the patch where they meet, in the words they were written in.
		want := map[string]string{}
		members := func(raw []byte, to map[string]string) {
			if err := entityevent.EachMember(raw, func(name string, value []byte) error {
				to[name] = string(value)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		members(base, want)
		members(patch, want)
		merged := map[string]string{}
		members(got, merged)
		if !reflect.DeepEqual(merged, want) {
			t.Fatalf("%q and %q made %q", base, patch, got)
		}
		again, err := entityevent.MergeBodies(got, patch)
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("merged again: %q, %v", again, err)
		}
	})
}

// TestHostileInput is read in a time that grows with its length alone, and refused or read whole.
func TestHostileInput(t *testing.T) {
	const many = 200_000
	deep := func(open, end string) string {
		return `{"x":` + strings.Repeat(open, many) + "1" + strings.Repeat(end, many) + `,"value":[]}`
	}
	repeated := `{"A":1` + strings.Repeat(`,"A":1`, many) + `}`
	var wide strings.Builder
	wide.WriteString(`{"value":[],"A":1`)
	for n := range many {
		fmt.Fprintf(&wide, `,"A%d":1`, many-n)
	}
	wide.WriteString("}")
	for name, c := range map[string]struct {
		in                            string
		events, page, record, members bool // whether it is accepted
	}{
		"arrays in arrays":   {in: deep("[", "]")},
		"objects in objects": {in: deep(`{"x":`, "}")},
		"never closed":       {in: strings.Repeat("[", many)},
		"never closed, too":  {in: strings.Repeat(`{"value":[`, many)},
		"escapes":            {in: `{"x":"` + strings.Repeat(`\u0041`, many) + `","value":[]}`, events: true, page: true, record: true, members: true},
		"backslashes":        {in: `{"x":"` + strings.Repeat(`\\`, many), record: false},
		"a huge number":      {in: `{"value":[],"x":` + strings.Repeat("9", many) + `}`, events: true, page: true, record: true, members: true},
		"a huge exponent":    {in: `{"value":[],"x":1e` + strings.Repeat("9", many) + `}`, events: true, page: true, record: true, members: true},
		"a huge sequence":    {in: `{"EntityEventSequence":` + strings.Repeat("9", many) + `,"ResourceName":"P","ResourceRecordKey":"1"}`, record: true, members: true},
		"one name":           {in: repeated},
		"many names":         {in: wide.String(), events: true, page: true, record: true, members: true},
		"not UTF-8":          {in: `{"value":[],"x":"` + strings.Repeat("\xff", many) + `"}`},
		"zeros":              {in: strings.Repeat("\x00", many)},
	} {
		check := func(what string, accepted bool, err error) {
			t.Helper()
			switch {
			case accepted && err != nil:
				t.Errorf("%s, %s: %v", name, what, err)
			case !accepted:
				if err == nil {
					t.Errorf("%s, %s: accepted", name, what)
				} else {
					wantInvalid(t, err)
				}
			}
		}
		in := []byte(c.in)
		_, err := entityevent.ReadPage(in, "x", func(string, []byte) error { return nil })
		check("a page", c.page, err)
		_, err = entityevent.Canonicalize(in)
		check("a record", c.record, err)
		_, err = entityevent.MergeBodies(in, []byte(`{}`))
		check("a merge", c.members, err)
		if !c.events {
			_, err = entityevent.ParseEvents(in)
			check("events", false, err)
		}
	}
}

// TestSequences: each is read exactly, as a number and as a string, or refused.
func TestSequences(t *testing.T) {
	for text, want := range map[string]entityevent.Sequence{
		`1`: 1, `"1"`: 1, `9007199254740992`: 1 << 53, `9007199254740993`: 1<<53 + 1, `"9007199254740993"`: 1<<53 + 1,
		`9223372036854775807`: 1<<63 - 1, `"9223372036854775807"`: 1<<63 - 1, `"\u0037"`: 7,
		`0`: 0, `"0"`: 0, `-0`: 0, `-1`: 0, `"-1"`: 0, `-9223372036854775808`: 0, `9223372036854775808`: 0, `"9223372036854775808"`: 0,
		`18446744073709551617`: 0, `1e19`: 0, `"1e19"`: 0, `10000000000000000000`: 0, `1.0`: 0, `"1.0"`: 0, `1e3`: 0, `1E0`: 0, `7.5`: 0, `0x7`: 0,
		`"0x7"`: 0, `"1_000"`: 0, `"1,000"`: 0, `"+7"`: 0, `" 7"`: 0, `"7 "`: 0, `""`: 0, `"seven"`: 0, `07`: 0, `+7`: 0, `.5`: 0,
		`NaN`: 0, `Infinity`: 0, `null`: 0, `true`: 0, `[7]`: 0, `{"x":7}`: 0, `"٧"`: 0,
	} {
		for _, name := range []string{"EntityEventSequence", "EntityEventSequenceNumeric"} {
			got, err := entityevent.ParseEvents([]byte(`{"` + name + `":` + text + `,"ResourceName":"P","ResourceRecordKey":"1"}`))
			switch {
			case want == 0 && (!errors.Is(err, entityevent.ErrInvalid) || got != nil):
				t.Errorf("%s %s: %v, %v", name, text, got, err)
			case want > 0 && (err != nil || len(got) != 1 || got[0].Sequence != want):
				t.Errorf("%s %s: %v, %v, want %d", name, text, got, err, want)
			case want > 0 && !strings.Contains(string(got[0].AppendJSON(nil)), fmt.Sprintf(`"EntityEventSequence":%d,`, want)):
				t.Errorf("%s %s is written as %s", name, text, got[0].AppendJSON(nil))
			}
		}
	}
}
