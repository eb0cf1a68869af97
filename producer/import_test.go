package producer_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

func (s *service) load(resource, input string) (producer.Summary, error) {
	return producer.Import(s.t.Context(), s.store, s.server.Schema, entityevent.Local, resource, strings.NewReader(input), nil)
}

func TestImportForms(t *testing.T) {
	const lines = "{\"ListingKey\":\"a\",\"S\":\"}{ \\\" ]\"}\n{\"ListingKey\":\"b\"}\r\n\n  {\"ListingKey\":3}  "
	for name, c := range map[string]struct{ resource, input string }{
		"lines":                             {"Property", lines},
		"lines with an end":                 {"Property", lines + "\n"},
		"lines of the context of the first": {"", `{"@reso.context":"urn:reso:metadata:2.0:resource:property","ListingKey":"a","S":"}{ \" ]"}` + "\n{\"ListingKey\":\"b\"}\n{\"ListingKey\":3}"},
		"common format":                     {"", `{"@reso.context":"urn:reso:metadata:2.0:resource:property","value":[{"ListingKey":"a","S":"}{ \" ]"},{"ListingKey":"b"},{"ListingKey":3}]}`},
		"common format, named":              {"Property", " {\n \"x\": {\"y\": [1]},\n \"value\" : [ {\"ListingKey\":\"a\",\"S\":\"}{ \\\" ]\"} ,\n{\"ListingKey\":\"b\"},{\"ListingKey\":3} ] , \"@odata.nextLink\":null } \n"},
		"array":                             {"Property", ` [{"ListingKey":"a","S":"}{ \" ]"},{"ListingKey":"b"},` + "\n" + `{"ListingKey":3}]`},
		"byte order mark":                   {"Property", "\uFEFF" + lines},
		"gzip":                              {"Property", zipped(lines)},
		"two arrays":                        {"Property", `[{"ListingKey":"a","S":"}{ \" ]"}] [] [{"ListingKey":"b"},{"ListingKey":3}]`},
		"common format by lines":            {"", `{"@reso.context":"urn:reso:metadata:2.0:resource:PROPERTY","value":[{"ListingKey":"a","S":"}{ \" ]"}]}` + "\n" + `{"@reso.context":"urn:reso:metadata:1.7:resource:property","value":[{"ListingKey":"b"},{"ListingKey":3}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := inferred(t)
			for _, want := range []producer.Summary{{New: 3}, {Unchanged: 3}} {
				got, err := s.load(c.resource, c.input)
				if d := cmp.Diff(want, got); err != nil || d != "" {
					t.Fatal(err, d)
				}
			}
			if got := s.get("/Property").page(t).column("ListingKey"); got != "3 a b" {
				t.Errorf("%s", got)
			}
			if got := s.get("/Property('a')").want(t, 200); !strings.HasSuffix(got, `,"ListingKey":"a","S":"}{ \" ]"}`) {
				t.Errorf("%s", got)
			}
			if got := s.log(0); len(got) != 3 {
				t.Errorf("%v", got)
			}
		})
	}
	s := inferred(t)
	for input, want := range map[string]producer.Summary{
		"": {}, " \n ": {}, "[]": {}, `{"value":[]}`: {}, `{"ListingKey":"x"}`: {New: 1}, "{\n\"ListingKey\":\n\"x\", \"A\": 1}\n": {Changed: 1},
		`{"ListingKey":"v","value":5}`: {New: 1},
	} {
		s := s
		if want.New > 0 || want.Changed > 0 {
			s = inferred(t)
			s.put("Property", "y", `{}`)
			if want.Changed > 0 {
				s.put("Property", "x", `{}`)
			}
		}
		if got, err := s.load("Property", input); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: %+v %v", input, got, err)
		}
	}
}

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

func TestImportRefusals(t *testing.T) {
	s := inferred(t)
	tooLarge := `{"ListingKey":"big","X":"` + strings.Repeat("x", 8<<20) + `"}`
	got, err := s.load("Property", strings.Join([]string{
		`{"ListingKey":"a"}`, `{"ListingKey":"b"`, `{"City":"X"}`, `{"ListingKey":null}`, `nonsense`, `{"ListingKey":"c","ListingKey":"d"}`,
		`{"ListingKey":"` + strings.Repeat("k", 300) + `"}`, tooLarge, `{"@reso.context":"urn:reso:metadata:2.0:resource:member","ListingKey":"m"}`,
		`{"ListingKey":1.5}`, `[]`, `{"ListingKey":"\u0041","V":1}`, `{"ListingKey":"A","V":2}`, `{"ListingKey":"e","V":1,"V":2}`,
		`{"ListingKey":"su\ud800"}`,
	}, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	var numbers []int
	for _, r := range got.Refusals {
		numbers = append(numbers, r.Record)
		if r.Reason == "" || len(r.Reason) > 300 {
			t.Errorf("%d: %s", r.Record, r.Reason)
		}
	}
	got.Refusals = nil
	if want := (producer.Summary{New: 2, Changed: 1, Refused: 12}); !cmp.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	if d := cmp.Diff([]int{2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 14}, numbers); d != "" { // what the store refuses is known later
		t.Error(d)
	}
	if got, err := s.load("Property", strings.Repeat("{}\n", 500)); err != nil || got.Refused != 500 || len(got.Refusals) != 100 || got.Records() != 500 {
		t.Errorf("%d %d %v", got.Refused, len(got.Refusals), err)
	}
	for input, resource := range map[string]string{
		`{"ListingKey":"x"}`: "", `[{"ListingKey":"x"}]`: "", `{"@reso.context":"urn:reso:metadata:2.0:resource:entityevent","EntityEventSequence":1}`: "", `{"Name":"x"}`: "Acme",
		`{"@reso.context":"urn:reso:metadata:2.0:resource:acme","Name":"x"}`: "", `{"@reso.context":"nonsense","ListingKey":"x"}`: "Property",
	} {
		if got, err := s.load(resource, input); err != nil || got.Refused != 1 || got.Records() != 1 {
			t.Errorf("%s of %s: %+v %v", input, resource, got, err)
		}
	}
}

// TestImportPlacesOfRefusals: a refusal says which record it is, and in which line.
func TestImportPlacesOfRefusals(t *testing.T) {
	s := inferred(t)
	for input, want := range map[string]string{
		"[\n  {\"ListingKey\": \"a\"},\n  {\n    \"x\": 1\n  },\n  {\"x\": 2}\n]":                                        "2:3 3:6",
		`[{"ListingKey":"a"},{"x":1},{"x":2}]`:                                                                           "2:1 3:1",
		"{\"ListingKey\":\"a\"}\n\n{\"x\":1}\n{":                                                                         "3:3 4:4",
		"{\"value\":[{\"ListingKey\":\"a\"}]}\n{\"value\":[{\"ListingKey\":\"b\"},{\"x\":1}]}\n{\"ListingKey\":\"c\"}\n": "3:2",
	} {
		summary, err := s.load("Property", input)
		var places []string
		for _, r := range summary.Refusals {
			places = append(places, fmt.Sprintf("%d:%d", r.Record, r.Line))
		}
		if got := strings.Join(places, " "); err != nil || got != want {
			t.Errorf("%s: %s %v, want %s", input, got, err, want)
		}
	}
}

// TestImportNamesOfKeys: a resource whose key cannot stand in the metadata would stand nowhere.
func TestImportNamesOfKeys(t *testing.T) {
	s := inferred(t)
	got, err := s.load("Boat", `{"Hull Key":"1"}`)
	if err != nil || got.Refused != 1 || !strings.Contains(got.Refusals[0].Reason, `"Hull Key", cannot stand in the metadata`) {
		t.Errorf("%+v %v", got, err)
	}
}

// TestImportTeachesTheSchema: who asks by types after a large import need not wait for it to be looked at.
func TestImportTeachesTheSchema(t *testing.T) {
	s := inferred(t)
	if _, err := s.load("Property", `{"ListingKey":"a","GarageYN":true}`); err != nil {
		t.Fatal(err)
	}
	if kept, err := s.store.Get(t.Context(), "schema", entityevent.Local); err != nil || !strings.Contains(string(kept.Body), `"GarageYN"`) {
		t.Errorf("%v %s", err, kept.Body)
	}
}

// TestImportNamesOfResources: a name that cannot stand in the metadata, or is another's but for its case, is refused
// before anything is read.
func TestImportNamesOfResources(t *testing.T) {
	s := inferred(t)
	s.put("Acme_Deal", "1", `{"Acme_DealKey":"1"}`)
	for name, want := range map[string]string{
		"A(B": "name it by letters", "A/B": "name it by letters", "$metadata": "name it by letters", "Bad Name": "name it by letters", "<x>": "name it by letters", "1a": "name it by letters",
		strings.Repeat("a", 129): "name it by letters",
		"EntityEvent":            "events are not imported", "entityevent": "events are not imported",
		"property": "did you mean Property?", "MEDIA": "did you mean Media?", "acme_deal": "did you mean Acme_Deal?",
		"Property": "", "Acme_Deal": "", "Acme_Deals": "", "Straße": "", "_x": "", strings.Repeat("b", 128): "",
	} {
		in := strings.NewReader(`{"KKey":"1"}`)
		_, err := producer.Import(t.Context(), s.store, s.server.Schema, entityevent.Local, name, in, nil)
		_, _, replaced := s.replace(name, producer.ReplaceOptions{}, nil, "")
		for _, err := range []error{err, replaced} {
			if want == "" && err != nil || want != "" && (!errors.Is(err, entityevent.ErrInvalid) || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
		if want != "" && in.Len() == 0 {
			t.Errorf("%s: the input was read", name)
		}
	}
}

func TestImportBrokenInput(t *testing.T) {
	for input, stored := range map[string]int{
		`nonsense`: 0, `"text"`: 0, `5`: 0, `{"ListingKey":"a"`: 0, `{"ListingKey":"a"} {"ListingKey":"b"}`: 1, `{"ListingKey" "a"}`: 0, `{ListingKey:1}`: 0,
		`[{"ListingKey":"a"},{"ListingKey":"b"`: 1, `[{"ListingKey":"a"},5]`: 1, `[{"ListingKey":"a"} {"ListingKey":"b"}]`: 1, `[{"ListingKey":"a"}`: 1,
		`[{"ListingKey":"a"}] x`: 1, `{"value":[{"ListingKey":"a"}]`: 1, `{"value":[{"ListingKey":"a"}] "x":1}`: 1, `{"value":[null]}`: 0, `{`: 0, `[`: 0, `{"`: 0, `{"a`: 0, `{"a"`: 0, `{"a":`: 0,
		`{"@reso.context":"urn:reso:metadata:2.0:resource:member","value":[{"ListingKey":"a"}]}`: 0, `{"@reso.context":"x","value":[{"ListingKey":"a"}]}`: 0,
	} {
		s := inferred(t)
		got, err := s.load("Property", input)
		if !errors.Is(err, entityevent.ErrInvalid) || got.New != stored {
			t.Errorf("%s: %+v, error %v", input, got, err)
		}
	}
	whole := zipped("{\"ListingKey\":\"a\"}\n")
	damaged := []byte(whole)
	damaged[len(damaged)-6] ^= 1
	for what, input := range map[string]string{"cut": whole[:len(whole)-5], "cut in its header": whole[:5], "with a little after it": whole + "x", "with more after it": whole + strings.Repeat("garbage ", 9), "damaged": string(damaged)} {
		s := inferred(t)
		if _, err := s.load("Property", input); !errors.Is(err, entityevent.ErrInvalid) || !strings.Contains(err.Error(), "gzip") {
			t.Errorf("gzip that is %s: %v", what, err)
		}
	}
}

func TestImportStopsWithTheStore(t *testing.T) {
	s := inferred(t)
	ctx, cancel := context.WithCancel(t.Context())
	var input strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&input, "{\"ListingKey\":\"%d\"}\n", i)
	}
	var seen []int
	got, err := producer.Import(ctx, s.store, s.server.Schema, entityevent.Local, "Property", strings.NewReader(input.String()), func(p producer.Summary) {
		seen = append(seen, p.Records())
		if len(seen) == 2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || got.New != 2000 || fmt.Sprint(seen) != "[1000 2000]" {
		t.Errorf("%+v %v %v", got, seen, err)
	}
	if got := s.get("/Property/$count").want(t, 200); got != "2000" {
		t.Errorf("%s stored", got)
	}
}

func TestImportWithConfiguredMetadata(t *testing.T) {
	s := configured(t)
	got, err := s.load("Property", `{"ListingKey":"a"}`+"\n"+`{"ListingKey":"b","Wings":2}`)
	if err != nil || got.New != 1 || got.Refused != 1 || got.Refusals[0].Reason != `Property has no field Wings` {
		t.Errorf("%+v %v", got, err)
	}
	if got, err = s.load("Teams", `{"TeamKey":"a"}`); err != nil || got.Refused != 1 {
		t.Errorf("%+v %v", got, err)
	}
}

// TestImportNeedsTheMemoryOfABatch reads 64 MB in one value array.
func TestImportNeedsTheMemoryOfABatch(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it imports 64 MB, which the race detector makes slow; run go test ./producer")
	}
	s := inferred(t)
	const records = 40_000
	input := &generator{left: records, filler: strings.Repeat("x", 1600)}
	var peak uint64
	got, err := producer.Import(t.Context(), s.store, s.server.Schema, entityevent.Local, "Property", input, func(p producer.Summary) {
		if p.Records()%5000 != 0 {
			return
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapAlloc)
	})
	if err != nil || got.Unchanged+got.New+got.Changed != records {
		t.Fatal(got, err)
	}
	if peak > 48<<20 {
		t.Errorf("the heap grew to %d MB", peak>>20)
	}
}

// generator is a value array that is made while it is read. Its records repeat, so that the store stays small.
type generator struct {
	left    int
	filler  string
	pending []byte
	begun   bool
}

func (g *generator) Read(p []byte) (int, error) {
	for len(g.pending) == 0 {
		switch {
		case !g.begun:
			g.begun = true
			g.pending = []byte(`{"value":[`)
		case g.left > 0:
			g.left--
			g.pending = fmt.Appendf(nil, `{"ListingKey":"%d","F":"%s"},`, g.left%100, g.filler)
			if g.left == 0 {
				g.pending = append(g.pending[:len(g.pending)-1], "]}"...)
				g.left = -1
			}
		default:
			return 0, io.EOF
		}
	}
	n := copy(p, g.pending)
	g.pending = g.pending[n:]
	return n, nil
}

func FuzzImport(f *testing.F) {
	for _, seed := range []string{`{"ListingKey":"a"}`, `[{"ListingKey":"a"},{"x":[1,"]"]}]`, `{"value":[{"ListingKey":"a"}],"@reso.context":"x"}`, "{\"ListingKey\":\"a\"}\n{\"b\":\n", `{"a\"":{}}`, "{} {}"} {
		f.Add([]byte(seed))
	}
	store := openStore(f, f.TempDir())
	schema, err := producer.OpenSchema(context.Background(), store, entityevent.Local, nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		got, err := producer.Import(t.Context(), store, schema, entityevent.Local, "Property", bytes.NewReader(input), nil)
		if err != nil && !errors.Is(err, entityevent.ErrInvalid) && len(input) > 1 && input[0] != 0x1f {
			t.Fatalf("%+v %v", got, err)
		}
	})
}
