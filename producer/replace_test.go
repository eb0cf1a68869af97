package producer_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// replace runs a replacement of the inputs, with what happens before its end.
func (s *service) replace(resource string, o producer.ReplaceOptions, before func(), inputs ...string) ([]producer.Summary, []producer.Removal, error) {
	s.t.Helper()
	r, err := producer.BeginReplacement(s.t.Context(), s.store, s.server.Schema, entityevent.Local, resource)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	var summaries []producer.Summary
	for _, in := range inputs {
		summary, err := r.Import(strings.NewReader(in), nil)
		if err != nil && !errors.Is(err, entityevent.ErrInvalid) {
			return nil, nil, err
		}
		summaries = append(summaries, summary)
	}
	if before != nil {
		before()
	}
	removals, err := r.Finish(o)
	return summaries, removals, err
}

// lines are n records of Property, from a first number on.
func lines(first, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"ListingKey\":\"%06d\",\"V\":1}\n", first+i)
	}
	return b.String()
}

func TestReplace(t *testing.T) {
	s := inferred(t)
	for _, resource := range []string{"Property", "Media"} {
		for _, key := range []string{"a", "b", "c", "d"} {
			s.put(resource, key, `{"V":1,"`+map[string]string{"Property": "ListingKey", "Media": "MediaKey"}[resource]+`":"`+key+`"}`)
		}
	}
	at := entityevent.Sequence(len(s.log(0)))
	// Two inputs make one whole. What is missing goes last, and nothing else moves.
	summaries, removals, err := s.replace("", producer.ReplaceOptions{}, nil,
		`{"@reso.context":"urn:reso:metadata:2.0:resource:property","value":[{"ListingKey":"a","V":1},{"ListingKey":"b","V":2}]}`,
		`{"@reso.context":"urn:reso:metadata:2.0:resource:property","ListingKey":"e","V":1}`)
	if d := cmp.Diff([]producer.Summary{{Changed: 1, Unchanged: 1}, {New: 1}}, summaries); err != nil || d != "" {
		t.Fatal(err, d)
	}
	if d := cmp.Diff([]producer.Removal{{Resource: "Property", Gone: 2}}, removals); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{`"Property" "b"`, `"Property" "e"`, `"Property" "c"`, `"Property" "d"`}, s.log(at)); d != "" {
		t.Error(d)
	}
	if got := s.get("/Property").page(t).column("ListingKey"); got != "a b e" {
		t.Errorf("%s", got)
	}
	if got := s.get("/Media").page(t).column("MediaKey"); got != "a b c d" {
		t.Errorf("%s", got)
	}
	// Again: nothing.
	_, removals, err = s.replace("Property", producer.ReplaceOptions{}, nil, `[{"ListingKey":"e","V":1},{"ListingKey":"b","V":2},{"ListingKey":"a","V":1}]`)
	if d := cmp.Diff([]producer.Removal{{Resource: "Property"}}, removals); err != nil || d != "" || len(s.log(at)) != 4 {
		t.Error(err, d, s.log(at))
	}
	// An empty array of a resource is all of it, if that is allowed; other resources are not in it.
	_, removals, err = s.replace("", producer.ReplaceOptions{AllowDeletes: true}, nil, `{"@reso.context":"urn:reso:metadata:2.0:resource:media","value":[]}`)
	if d := cmp.Diff([]producer.Removal{{Resource: "Media", Gone: 4}}, removals); err != nil || d != "" {
		t.Error(err, d)
	}
	if got := s.get("/Property").page(t).column("ListingKey"); got != "a b e" {
		t.Errorf("%s", got)
	}
}

// TestReplaceKeeps what is not surely missing.
func TestReplaceKeeps(t *testing.T) {
	none := []producer.Removal{{Resource: "Property", Held: 4, Reason: "the input has no record of it, and to remove all is hardly right: if it is, import it again with --allow-deletes"}}
	gone := zipped("{\"ListingKey\":\"a\"}\n{\"ListingKey\":\"b\"}\n")
	for name, c := range map[string]struct {
		resource string
		inputs   []string
		before   func(*service)
		options  producer.ReplaceOptions
		left     string
		want     []producer.Removal
		err      string
	}{
		"a line that is no JSON": {resource: "Property", inputs: []string{`{"ListingKey":"a"}` + "\n{\"ListingKey\":\"b\"\n"}, options: producer.ReplaceOptions{AllowDeletes: true},
			left: "a b c d", want: []producer.Removal{{Resource: "Property", Held: 3, Reason: "a record of the input could not be read, and it may be one of these: correct the input"}}},
		"two records without a key": {resource: "Property", inputs: []string{`[{"ListingKey":"a"},{"V":1},{"V":2}]`}, left: "a b c d",
			want: []producer.Removal{{Resource: "Property", Held: 3, Reason: "2 records of the input could not be read, and these may be among them: correct the input"}}},
		"a record without a key": {resource: "Property", inputs: []string{`[{"ListingKey":"a"},{"V":1}]`}, left: "a b c d",
			want: []producer.Removal{{Resource: "Property", Held: 3, Reason: "a record of the input could not be read, and it may be one of these: correct the input"}}},
		"a record with its key twice": {resource: "Property", inputs: []string{`[{"ListingKey":"a"},{"ListingKey":"b","ListingKey":"c"}]`}, left: "a b c d",
			want: []producer.Removal{{Resource: "Property", Held: 3, Reason: "a record of the input could not be read, and it may be one of these: correct the input"}}},
		"one that is too large": {resource: "Property", inputs: []string{`[{"ListingKey":"a"},{"ListingKey":"b","X":"` + strings.Repeat("x", 8<<20) + `"}]`}, left: "a b c d",
			want: []producer.Removal{{Resource: "Property", Held: 3, Reason: "a record of the input could not be read, and it may be one of these: correct the input"}}},
		"a line that is too large": {resource: "Property", inputs: []string{`{"ListingKey":"a"}` + "\n" + `{"ListingKey":"b","X":"` + strings.Repeat("x", 8<<20) + `"}`}, left: "a b c d",
			want: []producer.Removal{{Resource: "Property", Held: 3, Reason: "a record of the input could not be read, and it may be one of these: correct the input"}}},
		"of another resource": {resource: "Property", inputs: []string{`{"ListingKey":"a"}` + "\n" + `{"@reso.context":"urn:reso:metadata:2.0:resource:member","MemberKey":"b"}`}, left: "a b c d",
			want: []producer.Removal{{Resource: "Property", Held: 3, Reason: "a record of the input could not be read, and it may be one of these: correct the input"}}},
		"input that is cut off":            {resource: "Property", inputs: []string{`[{"ListingKey":"a"}`}, options: producer.ReplaceOptions{AllowDeletes: true}, left: "a b c d", err: "nothing was removed: import: invalid JSON in line 1: the input ends in the middle"},
		"a later input that is cut off":    {resource: "Property", inputs: []string{`[{"ListingKey":"a"}]`, `{"value":[`}, left: "a b c d", err: "nothing was removed: import: invalid JSON in line 1: the input ends in the middle"},
		"an earlier input that is cut off": {resource: "Property", inputs: []string{`{"value":[`, `[{"ListingKey":"a"}]`}, left: "a b c d", err: "nothing was removed: import: invalid JSON in line 1: the input ends in the middle"},
		"gzip that is cut off":             {resource: "Property", inputs: []string{strings.TrimSuffix(gone, gone[len(gone)-3:])}, left: "a b c d", err: "nothing was removed: import: invalid gzip: it is cut off, or something else follows its end"},
		"an empty file":                    {resource: "Property", inputs: []string{""}, left: "a b c d", want: none},
		"an empty array":                   {resource: "Property", inputs: []string{"[]"}, left: "a b c d", want: none},
		"an empty array of the resource":   {inputs: []string{`{"@reso.context":"urn:reso:metadata:2.0:resource:property","value":[]}`}, left: "a b c d", want: none},
		"empty files":                      {resource: "Property", inputs: []string{"\n", "[]", zipped("")}, left: "a b c d", want: none},
		"nothing of one of two resources":  {resource: "", inputs: []string{`{"@reso.context":"urn:reso:metadata:2.0:resource:member","value":[{"MemberKey":"m"}]}`, `{"@reso.context":"urn:reso:metadata:2.0:resource:property","value":[]}`}, left: "a b c d", want: append([]producer.Removal{{Resource: "Member"}}, none...)},
		"an empty file, allowed":           {resource: "Property", inputs: []string{""}, options: producer.ReplaceOptions{AllowDeletes: true}, left: "", want: []producer.Removal{{Resource: "Property", Gone: 4}}},
		"an empty file beside another":     {resource: "Property", inputs: []string{"", `{"ListingKey":"a"}`}, left: "a", want: []producer.Removal{{Resource: "Property", Gone: 3}}},
		"no resource":                      {inputs: []string{`[]`}, left: "a b c d", err: "nothing was removed: no input names a resource"},
		"what is refused but named": {resource: "Property", inputs: []string{`{"ListingKey":"a","V":2}` + "\n" + `{"ListingKey":"b","ListPrice":-1}` + "\n" + `{"ListingKey":"c","A":{"B":1,"B":2}}` + "\n" + `{"ListingKey":"x","ListPrice":-1}`},
			left: "a b c", want: []producer.Removal{{Resource: "Property", Gone: 1}}},
		"what changed meanwhile": {resource: "Property", inputs: []string{`[{"ListingKey":"a"},{"ListingKey":"b"}]`}, before: func(s *service) {
			s.do("PATCH", "/Property('c')", `{"V":9}`).want(s.t, 204)
			s.do("POST", "/Property", `{"ListingKey":"n"}`).want(s.t, 201)
		}, left: "a b c n", want: []producer.Removal{{Resource: "Property", Gone: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := inferred(t)
			for _, key := range []string{"a", "b", "c", "d"} {
				s.put("Property", key, `{"V":1,"ListingKey":"`+key+`"}`)
			}
			before := func() {}
			if c.before != nil {
				before = func() { c.before(s) }
			}
			_, removals, err := s.replace(c.resource, c.options, before, c.inputs...)
			if d := cmp.Diff(c.want, removals); d != "" {
				t.Error(d)
			}
			if got := fmt.Sprint(err); err != nil && got != c.err || err == nil && c.err != "" {
				t.Errorf("error %q, want %q", got, c.err)
			}
			if got := s.get("/Property").page(t).column("ListingKey"); got != c.left {
				t.Errorf("left are %s, not %s", got, c.left)
			}
		})
	}
}

func TestReplaceBrake(t *testing.T) {
	for _, c := range []struct {
		rows, missing, fresh int
		held                 bool
	}{
		{10, 10, 0, true}, {10, 9, 0, false}, {10, 10, 1, false}, {11, 5, 0, false}, {11, 6, 0, true}, {12, 6, 0, false}, {200, 100, 0, false}, {250, 101, 0, true}, {250, 100, 0, false},
		{5500, 110, 0, false}, {5500, 111, 0, true},
		{11, 6, 5000, true}, {150, 101, 6000, true}, // what is new does not hide what goes
		{11, 0, 0, false}, {0, 0, 5, false},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			s := inferred(t)
			if _, err := s.load("Property", lines(0, c.rows)); err != nil {
				t.Fatal(err)
			}
			input := strings.ReplaceAll(lines(c.missing, c.rows-c.missing), `"V":1`, `"V":2`) + lines(1e5, c.fresh)
			for _, allow := range []bool{false, true} {
				summaries, removals, err := s.replace("Property", producer.ReplaceOptions{AllowDeletes: allow}, nil, input)
				if err != nil {
					t.Fatal(err)
				}
				want := producer.Removal{Resource: "Property", Gone: int64(c.missing)}
				wantSummary := producer.Summary{New: c.fresh, Changed: c.rows - c.missing}
				switch {
				case c.held && !allow:
					want.Held, want.Gone = want.Gone, 0
				case allow && !c.held:
					want.Gone = 0 // they went before
				}
				if allow {
					wantSummary = producer.Summary{Unchanged: c.fresh + c.rows - c.missing}
				}
				if d := cmp.Diff([]producer.Removal{want}, removals, cmpopts.IgnoreFields(producer.Removal{}, "Reason")); d != "" || c.held && !allow != strings.Contains(removals[0].Reason, "--allow-deletes") {
					t.Errorf("allow %v: %s %s", allow, d, removals[0].Reason)
				}
				if d := cmp.Diff([]producer.Summary{wantSummary}, summaries); d != "" {
					t.Error(d)
				}
			}
			if got := s.get("/Property/$count").want(t, 200); got != fmt.Sprint(c.rows-c.missing+c.fresh) {
				t.Errorf("%s are left", got)
			}
		})
	}
}

// TestReplaceAlone: the marks of two would mix.
func TestReplaceAlone(t *testing.T) {
	s := inferred(t)
	first, err := producer.BeginReplacement(t.Context(), s.store, s.server.Schema, entityevent.Local, "Property")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.replace("Property", producer.ReplaceOptions{}, nil); !errors.Is(err, producer.ErrReplacing) {
		t.Errorf("a second one: %v", err)
	}
	first.Close()
	if _, _, err := s.replace("Property", producer.ReplaceOptions{}, nil, "[]"); err != nil {
		t.Errorf("after the first: %v", err)
	}
}

// TestReplaceWithConfiguredMetadata holds records to the schema, and keeps what it refuses.
func TestReplaceWithConfiguredMetadata(t *testing.T) {
	s := configured(t)
	s.put("Property", "b", `{"ListingKey":"b","City":"B"}`)
	summaries, removals, err := s.replace("Property", producer.ReplaceOptions{}, nil,
		`{"ListingKey":"a","ListPrice":"1","Wings":2,"City":5,"YearBuilt":1.5}`+"\n"+`{"ListingKey":"b","City":5}`+"\n"+`{"ListingKey":7}`+"\n"+`{"ListingKey":"c"}`)
	want := []producer.Refusal{
		{Record: 1, Line: 1, Reason: "ListPrice is a number of at most 14 digits, 2 of them after the point (Edm.Decimal); Property has no field Wings; City is a text of at most 50 characters (Edm.String); and 1 more"},
		{Record: 2, Line: 2, Reason: "City is a text of at most 50 characters (Edm.String)"},
		{Record: 3, Line: 3, Reason: "ListingKey is a text of at most 255 characters (Edm.String)"},
	}
	if d := cmp.Diff([]producer.Summary{{New: 1, Refused: 3, Refusals: want}}, summaries); d != "" || err != nil {
		t.Error(err, d)
	}
	if d := cmp.Diff([]producer.Removal{{Resource: "Property"}}, removals); d != "" {
		t.Error(d)
	}
}

// TestReplaceNeedsTheMemoryOfABatch replaces many records by themselves, and then by half of them.
func TestReplaceNeedsTheMemoryOfABatch(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it imports 200,000 records twice, which the race detector makes slow; run go test ./producer")
	}
	s := inferred(t)
	const records = 100_000
	var peak uint64
	look := func(p producer.Summary) {
		if p.Records()%20_000 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	}
	replace := func(in io.Reader, o producer.ReplaceOptions) (producer.Summary, []producer.Removal) {
		t.Helper()
		r, err := producer.BeginReplacement(t.Context(), s.store, s.server.Schema, entityevent.Local, "Property")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		summary, err := r.Import(in, look)
		if err != nil {
			t.Fatal(err)
		}
		removals, err := r.Finish(o)
		if err != nil {
			t.Fatal(err)
		}
		look(producer.Summary{})
		return summary, removals
	}
	if got, _ := replace(&numbered{to: records}, producer.ReplaceOptions{}); got.New != records {
		t.Errorf("%+v", got)
	}
	got, removals := replace(&numbered{to: records, step: 2}, producer.ReplaceOptions{AllowDeletes: true})
	if d := cmp.Diff([]producer.Removal{{Resource: "Property", Gone: records / 2}}, removals); got.Unchanged != records/2 || d != "" {
		t.Errorf("%+v %s", got, d)
	}
	if peak > 48<<20 {
		t.Errorf("the heap grew to %d MB", peak>>20)
	}
}

// numbered makes lines while they are read: the records of numbers from 0 up.
type numbered struct {
	at, to, step int
	pending      []byte
}

func (c *numbered) Read(p []byte) (int, error) {
	if len(c.pending) == 0 {
		if c.at >= c.to {
			return 0, io.EOF
		}
		c.pending = fmt.Appendf(c.pending[:0], "{\"ListingKey\":\"%07d\",\"City\":\"%s\"}\n", c.at, "somewhere")
		c.at += max(c.step, 1)
	}
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}
