package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/resosync/resosync/entityevent"
)

func testRead(b *box) {
	const n = 700
	var changes []entityevent.Change
	for i := range n {
		changes = append(changes, put(fmt.Sprintf("%04d", i), fmt.Sprintf(`{"N":%d}`, i)))
	}
	changes = append(changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Media", Key: "0001"}, Body: json.RawMessage(`{}`)})
	b.apply(changes...)
	b.commit(entityevent.Commit{Feed: "acme", Changes: []entityevent.Change{put("0001", `{}`)}})
	for i := 0; i < n; i += 10 {
		b.must(remove(fmt.Sprintf("%04d", i)))
	}
	present := n - n/10

	count := func(v entityevent.View, q entityevent.Query) int64 {
		b.Helper()
		c, err := b.Count(b.Context(), v, q)
		if err != nil {
			b.Fatalf("count: %v", err)
		}
		return c
	}
	for _, c := range []struct {
		name string
		q    entityevent.Query
		want int
		all  int64
	}{
		{"all", entityevent.Query{}, present, int64(present)},
		{"with gone ones", entityevent.Query{Gone: true}, n, n},
		{"some", entityevent.Query{Limit: 300}, 300, int64(present)},
		{"above", entityevent.Query{After: "0689", Gone: true}, 10, 10},
		{"above, some", entityevent.Query{After: "0600", Gone: true, Limit: 5}, 5, 99},
		{"above all", entityevent.Query{After: "1"}, 0, 0},
		{"keys", entityevent.Query{Keys: []string{"0003", "0002", "0003", "0010", "x", ""}}, 2, 2},
		{"keys, gone too", entityevent.Query{Keys: []string{"0003", "0002", "0010"}, Gone: true}, 3, 3},
		{"keys, above", entityevent.Query{Keys: []string{"0003", "0002", "0001"}, After: "0001"}, 2, 2},
		{"keys, some", entityevent.Query{Keys: []string{"0003", "0002", "0001"}, Limit: 2}, 2, 3},
		{"another resource", entityevent.Query{Resource: "Media"}, 1, 1},
		{"no such resource", entityevent.Query{Resource: "media"}, 0, 0},
	} {
		got := b.records(feed, c.q)
		b.equal(c.name, len(got), c.want)
		for i := 1; i < len(got); i++ {
			if got[i-1].Key >= got[i].Key {
				b.Errorf("%s: %s before %s", c.name, got[i-1].Key, got[i].Key)
			}
		}
		if c.q.Resource == "" {
			c.q.Resource = "Property"
		}
		b.equal("count "+c.name, count(everyone(feed), c.q), c.all)
	}
	unseen := entityevent.View{Feed: feed, Mask: 6}
	b.equal("another profile", count(unseen, entityevent.Query{Resource: "Property", Gone: true}), int64(0))
	for r, err := range b.Read(b.Context(), unseen, entityevent.Query{Resource: "Property", Gone: true}) {
		b.Fatalf("another profile reads %v, %v", r, err)
	}

	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(b.Context())
	defer cancel(nil)
	seen := 0
	var last error
	for _, err := range b.Read(ctx, everyone(feed), entityevent.Query{Resource: "Property"}) {
		if last = err; err != nil {
			break
		}
		if seen++; seen == 2 {
			cancel(why)
		}
	}
	if seen == present && last == nil || last != nil && !errors.Is(last, why) {
		b.Errorf("a cancelled read yielded %d records and %v", seen, last)
	}
}

// testReadWhileWriting: the caller may write, and read again, while it holds a record; what it holds
// does not change; and no read blocks a writer.
func testReadWhileWriting(b *box) {
	long := strings.Repeat("x", 10_000)
	var changes []entityevent.Change
	for i := range 300 {
		changes = append(changes, put(fmt.Sprintf("%04d", i), fmt.Sprintf(`{"N":%d,"Long":%q}`, i, long)))
	}
	b.apply(changes...)
	n := 0
	var held []entityevent.Record
	for r, err := range b.Read(b.Context(), everyone(feed), entityevent.Query{Resource: "Property"}) {
		if err != nil {
			b.Fatal(err)
		}
		if n%50 == 0 {
			b.must(put(r.Key, `{"N":-1}`))
			b.equal("nested", len(b.records(feed, entityevent.Query{Limit: 3})), 3)
		}
		held = append(held, r)
		n++
	}
	b.equal("records", n, 300)
	for i, r := range held {
		b.equal("held", string(r.Body), fmt.Sprintf(`{"N":%d,"Long":%q}`, i, long))
	}
	// Many readers that never finish, and one writer.
	var wg sync.WaitGroup
	release := make(chan struct{})
	for range 20 {
		started := make(chan struct{})
		wg.Go(func() {
			for range b.Read(b.Context(), everyone(feed), entityevent.Query{Resource: "Property"}) {
				close(started)
				<-release
				break
			}
		})
		<-started
	}
	b.must(put("last", `{}`))
	close(release)
	wg.Wait()
}

func testDocs(b *box) {
	write := func(docs ...entityevent.Doc) error {
		_, err := b.Apply(b.Context(), entityevent.Commit{Docs: docs})
		return err
	}
	get := func(id string) entityevent.Doc {
		b.Helper()
		d, err := b.Get(b.Context(), "kind", id)
		if err != nil {
			b.Fatal(err)
		}
		return d
	}
	doc := func(id string, version int64, body string) entityevent.Doc {
		d := entityevent.Doc{Kind: "kind", ID: id, Version: version}
		if body != "" {
			d.Body = json.RawMessage(body)
		}
		return d
	}
	want := func(what string, err, target error) {
		b.Helper()
		if !errors.Is(err, target) {
			b.Errorf("%s: %v, want %v", what, err, target)
		}
	}
	b.equal("absent", get("a"), doc("a", 0, ""))
	want("new", write(doc("b", 0, `{"v":1}`), doc("a", 0, `{ "v" : 1 }`)), nil)
	b.equal("a new one", get("a"), doc("a", 1, `{ "v" : 1 }`))
	want("new again", write(doc("a", 0, `{"v":2}`)), entityevent.ErrConflict)
	want("write", write(doc("a", 1, `{"v":2}`)), nil)
	want("a stale version", write(doc("a", 1, `{"v":3}`)), entityevent.ErrConflict)
	want("a version from nowhere", write(doc("c", 1, `{}`)), entityevent.ErrConflict)
	want("one stale of two", write(doc("c", 0, `{}`), doc("a", 1, `{}`)), entityevent.ErrConflict)
	b.equal("written", get("a"), doc("a", 2, `{"v":2}`))
	b.equal("nothing of the failed commit", get("c"), doc("c", 0, ""))
	b.reopen()
	docs, err := b.List(b.Context(), "kind")
	want("list", err, nil)
	b.equal("list", docs, []entityevent.Doc{doc("a", 2, `{"v":2}`), doc("b", 1, `{"v":1}`)})
	docs, err = b.List(b.Context(), "other")
	want("list", err, nil)
	b.equal("another kind", len(docs), 0)
	want("stale removal", write(doc("a", 1, "")), entityevent.ErrConflict)
	want("removal", write(doc("a", 2, "")), nil)
	want("second removal", write(doc("a", 2, "")), entityevent.ErrConflict)
	want("removal of none", write(doc("a", 0, "")), nil)
	want("that there is none", write(doc("b", 0, "")), entityevent.ErrConflict)
	b.equal("removed", get("a"), doc("a", 0, ""))
	b.equal("no event", len(b.log(feed)), 0)

	// Of many that read the same version, one wins.
	var wg sync.WaitGroup
	results := make(chan error, 8)
	for n := range 8 {
		wg.Go(func() { results <- write(doc("b", 1, fmt.Sprint(n))) })
	}
	wg.Wait()
	close(results)
	won := 0
	for err := range results {
		if err == nil {
			won++
		} else {
			want("the others", err, entityevent.ErrConflict)
		}
	}
	b.equal("winners", won, 1)
}
