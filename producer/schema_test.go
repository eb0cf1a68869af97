package producer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/producer"
)

// TestNobodyElseDecidesTheTypes: of two servers of the same records one is asked for $metadata all the time, and they
// answer alike.
func TestNobodyElseDecidesTheTypes(t *testing.T) {
	t.Parallel()
	values := []string{"null", "1", "2.5", `"text"`, `""`, "true", `"2026-01-01"`, `"2026-02-01"`, `"2026-03-01T00:00:00Z"`, `["a"]`, "[]", `{"MediaKey":"i","Order":1}`, `[{"MediaKey":"i","Order":1}]`}
	names := []string{"N", "D", "Media", "Acme", "X_Notes"}
	queries := []string{
		"", "?$top=50", "", "?$filter=N eq null", "?$filter=N ne null", "?$filter=D ge 2026-01-15", "?$filter=D eq null", "?$filter=D eq 'text'", "?$filter=N gt 1", "?$orderby=N", "?$orderby=D desc", "?$filter=N/any(n:n eq 'a')",
		"/$count?$filter=D lt 2026-02-02T00:00:00Z", "?$filter=ModificationTimestamp eq null&$orderby=N desc,ListingKey", "?$select=N,Acme", "?$select=X_Notes/Order", "?$expand=Media($filter=Order eq 1)",
		"?$expand=Acme", "?$expand=X_Notes($orderby=MediaKey)", "('KEY')/Acme", "('KEY')/X_Notes", "('KEY')/Media?$filter=Order lt 2", "('KEY')/N", "?$filter=Media/any(m:m/Order eq 1)", "?$filter=Acme/Order eq 1",
		"?$format=application/json;odata.metadata=none;IEEE754Compatible=true", "('KEY')?$format=application/json;odata.metadata=none;IEEE754Compatible=true",
	}
	portal := shownTo{producer.Client{Name: "portal", Profile: "idx", Mask: entityevent.Everyone, Resources: []string{"Property", "Media"}, Inline: map[string]string{"Property": "", "Media": ""}}}
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		asked, alone := inferred(t), inferred(t)
		alone.server.Gate, asked.server.Gate = portal, portal
		for n := range 40 {
			key := fmt.Sprint("k", n) // each its own: what a record was before, nobody can know who did not look then
			body := fmt.Sprintf(`{"ListingKey":"%s","%s":%s}`, key, names[random.IntN(len(names))], values[random.IntN(len(values))])
			resource := "Property"
			if random.IntN(20) == 0 {
				resource, body = "Acme", `{"AcmeKey":"`+key+`"}`
			}
			for _, s := range []*service{asked, alone} {
				s.put(resource, key, body)
			}
			asked.get("/$metadata", "Authorization: Bearer all").want(t, 200)
			target := strings.ReplaceAll("/Property"+queries[random.IntN(len(queries))], "KEY", fmt.Sprint("k", n-random.IntN(min(n+1, 3))))
			for _, who := range []string{"all", "portal"} {
				want, got := asked.get(target, "Authorization: Bearer "+who, bare), alone.get(target, "Authorization: Bearer "+who, bare)
				if d := cmp.Diff(fmt.Sprint(want.status, want.body), fmt.Sprint(got.status, got.body)); d != "" {
					t.Fatalf("seed %d, %s asks %s after %s: %s", seed, who, target, body, d)
				}
			}
		}
	}
}

// looking counts how often the log is looked at, and the records that are read by key.
type looking struct {
	entityevent.Store
	events atomic.Int64
}

func (l *looking) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	l.events.Add(1)
	return l.Store.Events(ctx, v, q)
}

// TestTypesCostNothingWhereNothingIsNew: a filter looks at each record once, however many ask at once, and at nothing
// while nobody writes. What is always known is not waited for.
func TestTypesCostNothingWhereNothingIsNew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := openStore(t, dir)
	l := &looking{Store: store}
	s := serve(t, l, nil)
	ask := func(target string) { s.get(target).want(t, 200) }
	looks := func(what string, want int64) {
		t.Helper()
		if n := l.events.Swap(0); n != want {
			t.Errorf("%s: the log was looked at %d times, want %d", what, n, want)
		}
	}
	for i := range 9 {
		s.put("Property", fmt.Sprint(i), fmt.Sprintf(`{"ListingKey":"%d","N":%d}`, i, i))
	}
	ask("/Property?$filter=ListingKey gt '5' and ModificationTimestamp eq null&$orderby=ModificationTimestamp,ListingKey desc")
	ask("/Property('1')")
	ask("/Property?$expand=Media($filter=ModificationTimestamp ne null)")
	looks("what is always known", 0)
	ask("/Property?$filter=N gt 5")
	looks("the first", 1)
	for range 5 {
		ask("/Property?$filter=N gt 5&$orderby=N")
	}
	s.do("GET", "/Property?$filter=Nothing eq 1", "").want(t, 400)
	s.do("GET", "/Nothing", "").want(t, 404)
	looks("nothing is new", 0)
	s.put("Member", "m", `{"MemberKey":"m","N":"x"}`)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if a, err := s.try(t.Context(), "GET", "/Member?$filter=N eq 'x'", ""); err != nil || a.status != 200 {
				t.Error(err, a)
			}
		})
	}
	all.Wait()
	looks("20 at once", 1)
	if _, err := store.Apply(t.Context(), entityevent.Commit{Feed: "other", Changes: []entityevent.Change{{Ref: entityevent.Ref{Resource: "Property", Key: "1"}, Body: []byte(`{"N":"x"}`)}}}); err != nil {
		t.Fatal(err)
	}
	ask("/Property?$filter=N gt 5")
	looks("another feed", 0)
}

// TestTypesAfterARestart: the schema as it was kept may be older than the records, and then knows where it stands.
func TestTypesAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := openStore(t, dir)
	first := serve(t, store, nil)
	first.put("Property", "a", `{"ListingKey":"a","N":1}`)
	first.get("/$metadata").want(t, 200)
	first.put("Property", "b", `{"ListingKey":"b","N":"x"}`)
	if _, err := store.Apply(t.Context(), entityevent.Commit{Feed: "other", Changes: []entityevent.Change{{Ref: entityevent.Ref{Resource: "Property", Key: "1"}, Body: []byte(`{}`)}}}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	l := &looking{Store: openStore(t, dir)}
	s := serve(t, l, nil)
	for range 3 {
		if got := s.get("/Property?$filter=N eq null").page(t).column("ListingKey"); got != "" {
			t.Errorf("N is null of %s", got)
		}
	}
	if n := l.events.Load(); n != 1 {
		t.Errorf("the log was looked at %d times", n)
	}
}

// TestTypesOfWhomNobodyWaitsFor: who gives up waiting for others to look at many records is answered, or gone, at once.
func TestTypesOfWhomNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	blocked := &blockedEvents{Store: openStore(t, t.TempDir()), entered: make(chan struct{}, 1), leave: make(chan struct{})}
	schema, err := producer.OpenSchema(t.Context(), blocked, entityevent.Local, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- schema.Grow(t.Context()) }()
	<-blocked.entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := schema.Grow(ctx); err == nil {
		t.Error("it grew for somebody who is gone")
	}
	close(blocked.leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type blockedEvents struct {
	entityevent.Store
	entered, leave chan struct{}
}

func (b *blockedEvents) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	b.entered <- struct{}{}
	<-b.leave
	return b.Store.Events(ctx, v, q)
}

// TestNamesOfRecordsAndMembers: what a record brings under a name that no metadata may have is stored and served, and
// spoils neither the service document nor $metadata.
func TestNamesOfRecordsAndMembers(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	const body = `{"a b":1,"a/b":2,"$x":3,"1a":4,"a-b":5,"City":"Ulm"}`
	s.do("PUT", "/Property('x')", body).want(t, 201)
	s.put("Bad Name", "x", `{"BadKey":"x"}`)
	s.put("A(B", "x", `{"AKey":"x"}`)
	read, err := metadata.Read(strings.NewReader(s.get("/$metadata").want(t, 200)))
	if err != nil || read.Check() != nil {
		t.Fatal(err, read.Check())
	}
	if d := cmp.Diff([]string{"EntityEvent", "Property"}, read.Resources()); d != "" {
		t.Error(d)
	}
	if n := len(read.Type("Property").Fields); n != 2 {
		t.Errorf("%d fields", n)
	}
	if got := s.get("/", bare).want(t, 200); got != `{"value":[{"name":"EntityEvent","kind":"EntitySet","url":"EntityEvent"},{"name":"Property","kind":"EntitySet","url":"Property"}]}` {
		t.Error(got)
	}
	if got := s.get("/Property('x')", bare).want(t, 200); got != `{"ListingKey":"x",`+body[1:] {
		t.Error(got)
	}
	if got := s.get("/Bad%20Name('x')", bare).want(t, 200); got != `{"BadKey":"x"}` {
		t.Error(got)
	}
}
