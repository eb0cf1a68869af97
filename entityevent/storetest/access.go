package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// testViews: who sees a record is told by its own fields at every write; who saw it once hears of it ever after, and
// who never did hears nothing.
func testViews(b *guarded) {
	b.set(profile("one", rules{"Property": "S eq 1"}), profile("two", rules{"Property": "S eq 2"}), profile("none", nil))
	b.news("one", func() { b.apply(put("a", `{"S":1}`), put("b", `{"S":2}`), put("c", `{"S":3}`)) }, "Property('a')")
	b.equal("news for two", b.told("two", 0), []string{"Property('b')"})
	b.equal("news for all", b.told("", 0), []string{"Property('a')", "Property('b')", "Property('c')"})
	b.wantSees("one", "Property('a')")
	b.wantSees("two", "Property('b')")
	b.wantSees("", "Property('a')", "Property('b')", "Property('c')")

	leave := func() { b.must(merge("a", `{"S":3,"X":1}`)) }
	b.news("one", leave, "Property('a')")
	b.wantSees("one")
	b.news("one", func() { b.must(put("a", `{"S":3,"X":2}`)) }, "Property('a')") // it was seen once
	b.news("two", func() { b.must(merge("a", `{"S":2}`)) }, "Property('a')")
	b.news("one", func() { b.must(merge("a", `{"S":1}`)) }, "Property('a')")
	b.wantSees("one", "Property('a')")
	b.wantSees("two", "Property('b')")
	b.news("two", func() { b.must(remove("a")) }, "Property('a')")
	b.wantSees("one")
	b.news("one", func() { b.must(put("a", `{"S":4}`)) }, "Property('a')")
	b.news("one", func() { b.must(put("c", `{"S":4}`)); b.must(remove("c")) })
	b.news("none", func() { b.must(put("c", `{"S":1}`)) })
	b.equal("told none", b.told("none", 0), []string{})

	r := b.record("a")
	b.equal("views", r.Views, entityevent.Everyone)
	b.equal("seen", r.Seen, entityevent.Everyone|b.masks["one"]|b.masks["two"])
	b.must(remove("a"))
	r = b.record("a")
	b.equal("views of what is gone", r.Views, entityevent.Mask(0))
	b.equal("seen", r.Seen, entityevent.Everyone|b.masks["one"]|b.masks["two"])
	// The mark of a gone record is there for who saw it.
	for name, want := range map[string]int{"one": 1, "none": 0, "": 1} {
		n := 0
		for range b.Read(b.Context(), b.view(name), entityevent.Query{Resource: "Property", Keys: []string{"a"}, Gone: true}) {
			n++
		}
		b.equal("marks for "+name, n, want)
	}
}

// testUnfiltered: a profile sees all of a resource, and nothing of one that it does not name.
func testUnfiltered(b *guarded) {
	b.set(profile("p", rules{"Member": "all"}))
	b.apply(put("a", `{}`), member("m", `{}`), media("i", "a"))
	b.wantSees("p", "Member('m')")
	b.equal("told", b.told("p", 0), []string{"Member('m')"})
}

// testViewsOfEqualContent: content that is equal makes no event, also where profiles are.
func testViewsOfEqualContent(b *guarded) {
	b.set(active("p"))
	b.apply(put("a", `{"S":1,"T":1}`))
	for _, name := range []string{"p", ""} {
		b.news(name, func() { b.apply(put("a", `{"T":1,"S":1}`), merge("a", `{"S":1}`)) })
	}
	b.wantSees("p", "Property('a')")
}

// testWith: a child is seen with its parent, from when the parent is there until it is gone; its events come first,
// and are for those alone for whom something changed.
func testWith(b *guarded) {
	b.set(active("p"), profile("m", rules{"Media": "all"}))
	b.news("p", func() { b.apply(media("1", "a"), media("2", "a"), media("3", "b")) })
	b.equal("orphans are seen by", b.sees("m"), []string{"Media('1')", "Media('2')", "Media('3')"})
	b.wantSees("p")
	arrive := func() { b.must(put("a", `{"S":1}`)) }
	b.news("p", arrive, "Media('1')", "Media('2')", "Property('a')")
	b.wantSees("p", "Property('a')", "Media('1')", "Media('2')")
	all := b.head()
	b.news("p", func() { b.must(merge("a", `{"X":1}`)) }, "Property('a')") // nothing changes for the children
	b.news("p", func() { b.must(merge("a", `{"S":2}`)) }, "Media('1')", "Media('2')", "Property('a')")
	b.wantSees("p")
	b.news("p", func() { b.must(media("4", "a")) }) // its parent is invisible
	b.news("p", func() { b.must(merge("a", `{"S":1}`)) }, "Media('1')", "Media('2')", "Media('4')", "Property('a')")
	b.must(gone(entityevent.Ref{Resource: "Media", Key: "2"}))
	b.news("p", func() { b.must(remove("a")) }, "Media('1')", "Media('4')", "Property('a')")
	b.wantSees("p")
	b.news("p", func() { b.must(put("a", `{"S":1}`)) }, "Media('1')", "Media('4')", "Property('a')")
	b.news("p", func() { b.must(media("2", "a")) }, "Media('2')")
	b.news("p", func() { b.must(put("b", `{"S":2}`)) })
	// To all others nothing happened to the children.
	children := []string{"Media('4')", "Media('2')", "Media('2')"}
	b.equal("news for m", b.told("m", all), children)
	b.equal("news for all", only(b.told("", all), "Media"), children)
	b.reader("p").catchUp(2)
	b.reader("").catchUp(3)
}

func only(refs []string, resource string) []string {
	of := []string{}
	for _, r := range refs {
		if strings.HasPrefix(r, resource) {
			of = append(of, r)
		}
	}
	return of
}

// testWithInOneCommit: parent and children in one commit, in either order, and a parent that changes twice.
func testWithInOneCommit(b *guarded) {
	b.set(active("p"))
	b.apply(put("a", `{"S":1}`), media("1", "a"))
	b.apply(media("2", "b"), put("b", `{"S":1}`))
	// What p would have seen between two changes nobody saw.
	b.news("p", func() { b.apply(media("3", "c"), put("c", `{"S":1}`), merge("c", `{"S":2}`), media("4", "c")) })
	b.equal("who saw c", b.record("c").Seen, entityevent.Everyone)
	b.wantSees("p", "Property('a')", "Property('b')", "Media('1')", "Media('2')")
	b.apply(merge("a", `{"S":2}`), media("5", "a"), media("6", "c"), merge("c", `{"S":1}`))
	b.wantSees("p", "Property('b')", "Property('c')", "Media('2')", "Media('3')", "Media('4')", "Media('6')")
	b.reader("p").catchUp(1)
}

// testWithMoves: a child that goes to another parent is seen with that one.
func testWithMoves(b *guarded) {
	b.set(active("p"))
	b.apply(put("a", `{"S":1}`), put("b", `{"S":2}`), media("1", "a"))
	b.news("p", func() { b.must(media("1", "b")) }, "Media('1')")
	b.wantSees("p", "Property('a')")
	b.news("p", func() { b.must(merge("a", `{"S":2}`)) }, "Property('a')") // not its child any more
	b.news("p", func() { b.must(merge("b", `{"S":1}`)) }, "Media('1')", "Property('b')")
	b.news("p", func() { b.must(media("1", "none")) }, "Media('1')")
	b.wantSees("p", "Property('b')")
	b.news("p", func() { b.must(media("1", "b")) }, "Media('1')")
	// The child of another resource's record of the same key is not theirs.
	other := media("2", "b")
	other.Body = []byte(`{"ResourceRecordKey":"b","ResourceName":"Member"}`)
	b.news("p", func() { b.must(other) })
	b.must(member("b", `{"S":1}`))
	b.wantSees("p", "Property('b')", "Media('1')")
	b.reader("p").catchUp(1)
}

// testWithMany: a parent with 10,000 children.
func testWithMany(b *guarded) {
	b.set(active("p"))
	const children = 10_000
	for i := 0; i < children; {
		var changes []entityevent.Change
		for range 1000 {
			changes = append(changes, media(fmt.Sprintf("%05d", i), "a"))
			i++
		}
		b.apply(changes...)
	}
	for i, status := range []int{1, 2, 1} {
		after := b.head()
		b.must(put("a", fmt.Sprintf(`{"S":%d,"N":%d}`, status, i)))
		told := b.told("p", after)
		b.equal("events", len(told), children+1)
		b.equal("the last event", told[children], "Property('a')")
		b.equal("all it takes for the others", b.told("", after), []string{"Property('a')"})
		n, err := b.Count(b.Context(), b.view("p"), entityevent.Query{Resource: "Media"})
		if err != nil {
			b.Fatal(err)
		}
		b.equal("visible children", n, int64(children*(status%2)))
	}
	after := b.head()
	b.must(remove("a"))
	b.equal("events", len(b.told("p", after)), children+1)
	b.wantSees("p")
}

// testWithForSome: profiles share the views of a parent each for itself.
func testWithForSome(b *guarded) {
	b.set(profile("p", rules{"Property": "S eq 1", "Media": "with Property"}),
		profile("q", rules{"Property": "S ge 1", "Media": "with Property"}),
		profile("r", rules{"Property": "all"}))
	b.apply(media("1", "a"), put("a", `{"S":2}`))
	b.wantSees("q", "Property('a')", "Media('1')")
	b.wantSees("p")
	b.wantSees("r", "Property('a')")
	into := func() { b.must(merge("a", `{"S":1}`)) }
	after := b.head()
	b.news("p", into, "Media('1')", "Property('a')")
	b.equal("news for q", b.told("q", after), []string{"Property('a')"})
	b.equal("news for r", b.told("r", after), []string{"Property('a')"})
	for _, name := range []string{"p", "q", "r", ""} {
		b.reader(name).catchUp(1)
	}
	b.equal("told r", only(b.told("r", 0), "Media"), []string{})
}

// testBitsForEver: a name keeps its bit, and none serves two.
func testBitsForEver(b *guarded) {
	all := map[entityevent.Mask]string{entityevent.Everyone: "everyone"}
	bits := map[string]entityevent.Mask{}
	note := func() {
		for name, m := range b.masks {
			if m <= 0 || m&(m-1) != 0 {
				b.Fatalf("the mask of %s is %x", name, m)
			}
			if other, ok := all[m]; ok && other != name {
				b.Fatalf("%s and %s share a bit", name, other)
			}
			if old, ok := bits[name]; ok && old != m {
				b.Fatalf("%s had %x, now %x", name, old, m)
			}
			all[m], bits[name] = name, m
		}
	}
	some := func(from, to int) (ps []entityevent.Profile) {
		for i := from; i < to; i++ {
			ps = append(ps, profile(fmt.Sprint("p", i), rules{"Property": "all"}))
		}
		return ps
	}
	for _, at := range [][2]int{{0, 3}, {2, 5}, {0, 0}, {0, 1}, {5, 20}, {19, 40}, {3, 62}} {
		b.set(some(at[0], at[1])...)
		note()
		b.reopen()
	}
	b.equal("names", len(bits), entityevent.MaxProfiles)
	before := b.masks
	b.must(put("a", `{}`))
	err := b.trySet(some(60, 63)...)
	if !errors.Is(err, entityevent.ErrInvalid) || !strings.Contains(err.Error(), "p62") {
		b.Fatalf("one more name than there are bits: %v", err)
	}
	b.equal("masks", b.masks, before)
	b.must(put("b", `{}`))
	b.wantSees("p61", "Property('a')", "Property('b')")
	b.wantSees("p3", "Property('a')", "Property('b')")
	b.set(some(0, 62)...)
	note()
}

// testProfilesRefused: what cannot be is refused, and nothing changes.
func testProfilesRefused(b *guarded) {
	b.set(active("p"))
	b.review()
	b.apply(put("a", `{"S":1}`), media("1", "a"))
	now, err := odata.ParseFilter("T gt now()", nil)
	if err != nil {
		b.Fatal(err)
	}
	one := func(name string, access map[string]entityevent.Access) []entityevent.Profile {
		return []entityevent.Profile{{Name: name, Resources: access}}
	}
	for what, ps := range map[string][]entityevent.Profile{
		"now()":             one("p", map[string]entityevent.Access{"Property": {Filter: now}}),
		"two steps":         {profile("p", rules{"Property": "all", "Media": "with Property", "Member": "with Media"})},
		"itself":            {profile("p", rules{"Property": "with Property"})},
		"an unknown parent": {profile("p", rules{"Media": "with Property"})},
		"filter and with":   one("p", map[string]entityevent.Access{"Property": {}, "Media": {With: "Property", Filter: active("").Resources["Property"].Filter}}),
		"no name":           {profile("", rules{"Property": "all"})},
		"a name twice":      {active("p"), active("p")},
		"one of two":        {profile("q", rules{"Property": "all"}), profile("p", rules{"Media": "with Property"})},
	} {
		if err := b.trySet(ps...); !errors.Is(err, entityevent.ErrInvalid) {
			b.Errorf("%s: %v", what, err)
		}
	}
	b.equal("steps of a review", b.review(), 1)
	b.must(merge("a", `{"S":2}`))
	b.wantSees("p")
	b.set(active("p"), active("q"))
	b.equal("the bit of the next name", b.masks["q"], b.masks["p"]<<1)
}

// testProfilesAfterReopen: they count before anybody sets them again.
func testProfilesAfterReopen(b *guarded) {
	b.set(active("p"))
	b.apply(put("a", `{"S":1}`), media("1", "a"))
	b.reopen()
	b.apply(put("b", `{"S":1}`), merge("a", `{"S":2}`))
	b.wantSees("p", "Property('b')")
	docs := b.head()
	b.set(active("p"))
	b.step()
	b.equal("head after the same again", b.head(), docs)
	b.reader("p").catchUp(10)
}

// testReviewWhileWriting: writers and a review at once come to what the profiles say, and nobody waits for the other's
// end.
func testReviewWhileWriting(b *guarded) {
	const writers, each = 4, 30
	ctx := b.deadline()
	b.set(active("p"), profile("q", rules{"Property": "S eq 2"}))
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				key := fmt.Sprint(w, "-", i%7)
				c := entityevent.Commit{Feed: feed, Changes: []entityevent.Change{
					put(key, fmt.Sprintf(`{"S":%d,"N":%d}`, (w+i)%4, i)), media(key, key),
				}}
				if _, err := b.Apply(ctx, c); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range 20 {
		b.set(active("p"), profile("q", rules{"Property": fmt.Sprint("S eq ", i%4)}))
		b.step()
	}
	wg.Wait()
	b.set(active("p"), profile("q", rules{"Property": "S eq 3"}))
	b.review()
	for r, err := range b.Read(ctx, everyone(feed), entityevent.Query{Resource: "Property"}) {
		if err != nil {
			b.Fatal(err)
		}
		want := entityevent.Everyone
		switch status := string(r.Body[len(`{"S":`)]); status {
		case "1":
			want |= b.masks["p"]
		case "3":
			want |= b.masks["q"]
		}
		b.equal("views of "+r.Key, r.Views, want)
	}
	for _, name := range []string{"p", "q", ""} {
		b.reader(name).catchUp(9)
	}
}
