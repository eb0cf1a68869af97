package producer_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// TestImportKeysOfUnknownResources: by a wrong key, different records would become one.
func TestImportKeysOfUnknownResources(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  producer.Summary
		keys  string // of the records in the store
		says  string // of the first refusal
	}{
		"named after the resource": {
			[]string{`{"ListingKey":"L1","MyShowingKey":"S1"}`, `{"ListingKey":"L1","MyShowingKey":"S2"}`}, producer.Summary{New: 2}, "S1 S2", ""},
		"the only one":       {[]string{`{"ListingKey":"L1","x@Key":1}`, `{"ListingKey":"L2"}`}, producer.Summary{New: 2}, "L1 L2", ""},
		"not clear":          {[]string{`{"ListingKey":"L1","AgentKey":"A1"}`, `{"Name":"x"}`}, producer.Summary{Refused: 2}, "", "ListingKey, AgentKey): name its key in producer.keys"},
		"not clear at first": {[]string{`{"AKey":"1","BKey":"2"}`, `{"BKey":"3"}`, `{"AKey":"1","BKey":"4"}`}, producer.Summary{New: 2, Refused: 1}, "3 4", "not clear"},
		"a better one later": {[]string{`{"ListingKey":"L1"}`, `{"ListingKey":"L1","MyShowingKey":"S2"}`}, producer.Summary{New: 1, Refused: 1}, "L1", "have the key ListingKey"},
		"a refused first":    {[]string{`{"ListingKey":null}`, `{"ListingKey":"L1","MyShowingKey":"S2"}`}, producer.Summary{New: 1, Refused: 1}, "S2", "ListingKey is a string"},
	} {
		for _, joined := range []bool{true, false} { // one import, or one for each record
			s := inferred(t)
			var sum producer.Summary
			imports := c.lines
			if joined {
				imports = []string{strings.Join(c.lines, "\n")}
			}
			for _, input := range imports {
				got, err := s.load("MyShowing", input)
				if err != nil {
					t.Fatal(err)
				}
				sum.New, sum.Changed, sum.Unchanged, sum.Refused = sum.New+got.New, sum.Changed+got.Changed, sum.Unchanged+got.Unchanged, sum.Refused+got.Refused
				sum.Refusals = append(sum.Refusals, got.Refusals...)
			}
			if c.says != "" && !strings.Contains(sum.Refusals[0].Reason, c.says) {
				t.Errorf("%s: %v", name, sum.Refusals)
			}
			sum.Refusals = nil
			var keys []string
			for r, err := range s.store.Read(t.Context(), entityevent.View{Feed: entityevent.Local, Mask: entityevent.Everyone}, entityevent.Query{Resource: "MyShowing"}) {
				if err != nil {
					t.Fatal(err)
				}
				keys = append(keys, r.Key)
			}
			if got := strings.Join(keys, " "); got != c.keys || !cmp.Equal(sum, c.want) {
				t.Errorf("%s (one import: %v): %+v, keys %s", name, joined, sum, got)
			}
		}
	}
}

// TestKeyOfAnImportIsKept: what a record's values alone would say does not move the key.
func TestKeyOfAnImportIsKept(t *testing.T) {
	dir := t.TempDir()
	store := openStore(t, dir)
	s := serve(t, store, nil)
	if got, err := s.load("Acme", `{"BKey":"1","A":"1"}`+"\n"+`{"BKey":"2","A":"1","CKey":"2"}`); err != nil || got.New != 2 {
		t.Fatal(got, err)
	}
	s = serve(t, store, nil) // as after a restart
	if got, err := s.load("Acme", `{"CKey":"3","BKey":"4"}`); err != nil || got.New != 1 {
		t.Fatal(got, err)
	}
	s.get("/Acme('4')").want(t, 200)
	if name, _, _ := s.server.Schema.KeyField("Acme"); name != "BKey" {
		t.Errorf("key %s", name)
	}
}

// TestKeysThatLookLikeNumbers: an inferred key is text, whatever its values look like.
func TestKeysThatLookLikeNumbers(t *testing.T) {
	s := inferred(t)
	s.put("Bar", "1", `{"BarKey":1}`)
	for _, target := range []string{"/Bar('1')", "/Bar(1)"} {
		if got := s.get(target).want(t, 200); !strings.HasSuffix(got, `"BarKey":1}`) {
			t.Errorf("%s: %s", target, got)
		}
	}
	for _, key := range []string{"007", "+7", "-0", "7", "9223372036854775808"} {
		got := s.do("PUT", "/Bar('"+key+"')", `{"A":1}`).want(t, 201)
		if !strings.HasSuffix(got, `"BarKey":"`+key+`","A":1}`) {
			t.Errorf("%s: %s", key, got)
		}
		s.get("/Bar('"+key+"')").want(t, 200)
	}
	for _, filter := range []string{"BarKey+in+('1','007')", "BarKey+eq+'007'+or+BarKey+eq+'1'"} {
		if got := s.get("/Bar?$filter=" + filter).page(t).column("BarKey"); got != "007 1" {
			t.Errorf("%s: %s", filter, got)
		}
	}
	c := configured(t) // where the key is a number
	if got := c.do("PUT", "/OpenHouse('007')", `{"ListingKey":"k"}`).want(t, 400); !strings.Contains(got, "OpenHouseKey is a whole number") {
		t.Errorf("%s", got)
	}
}

// fullDisk reads and does not write.
type fullDisk struct {
	entityevent.Store
	full bool
}

func (f *fullDisk) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	if f.full {
		return nil, errDisk
	}
	return f.Store.Apply(ctx, c)
}

func TestSchemaIsReadFromAFullDisk(t *testing.T) {
	store := &fullDisk{Store: openStore(t, t.TempDir())}
	s := serve(t, store, nil)
	var log strings.Builder
	s.server.Schema.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s.put("Acme", "1", `{"AcmeKey":"1"}`)
	store.full = true
	for range 2 {
		if got := s.get("/$metadata").want(t, 200); !strings.Contains(got, "AcmeKey") {
			t.Errorf("%s", got)
		}
		if got := s.get("/").page(t).column("name"); got != "EntityEvent Acme" {
			t.Errorf("resources %s", got)
		}
		s.get("/Acme('1')").want(t, 200)
	}
	if n := strings.Count(log.String(), "schema not saved"); n != 1 {
		t.Errorf("logged %d times: %s", n, log.String())
	}
	store.full = false
	s.get("/$metadata").want(t, 200)
	if !strings.Contains(log.String(), "schema saved again") {
		t.Errorf("%s", log.String())
	}
	again, err := producer.OpenSchema(t.Context(), store, entityevent.Local, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if name, _, ok := again.KeyField("Acme"); name != "AcmeKey" || !ok {
		t.Errorf("nothing was saved once it could be: %s", name)
	}
}
