package storetest

import (
	"fmt"

	"github.com/resosync/resosync/entityevent"
)

// testReview: a new or changed profile sees what was there before, and hears of what changed for it; to all others
// nothing happens.
func testReview(b *guarded) {
	b.apply(put("a", `{"S":1}`), put("b", `{"S":2}`), put("c", `{"S":1}`), put("d", `{"S":1}`), remove("d"))
	b.set(profile("one", rules{"Property": "S eq 1"}))
	b.wantSees("one")
	everyone := b.head()
	b.news("one", func() { b.review() }, "Property('a')", "Property('c')")
	b.wantSees("one", "Property('a')", "Property('c')")
	b.equal("steps when nothing is left", b.review(), 1)

	// A filter changes: what changed for it is told, and nothing else.
	b.set(profile("one", rules{"Property": "S ge 1 and S le 2"}), profile("two", rules{"Property": "all"}))
	b.news("one", func() { b.review() }, "Property('b')")
	b.equal("told two", b.told("two", 0), []string{"Property('a')", "Property('b')", "Property('c')"})
	b.set(profile("one", rules{"Property": "S eq 2"}), profile("two", rules{"Property": "all"}))
	b.news("one", func() { b.review() }, "Property('a')", "Property('c')")
	b.wantSees("one", "Property('b')")
	b.set(profile("one", rules{"Member": "all"}), profile("two", rules{"Property": "all"}))
	b.news("one", func() { b.review() }, "Property('b')")
	b.wantSees("one")
	b.equal("news for all", b.told("", everyone), []string{})
	b.equal("told two", b.told("two", 0), []string{"Property('a')", "Property('b')", "Property('c')"})
	b.reader("one").catchUp(1)

	// What a write settled the review leaves alone.
	b.set(profile("one", rules{"Property": "S eq 1"}), profile("two", rules{"Property": "all"}))
	b.news("one", func() { b.must(merge("a", `{"X":1}`)) }, "Property('a')")
	b.wantSees("one", "Property('a')")
	b.news("one", func() { b.review() }, "Property('c')")
}

// testReviewLeavesVersions: a review is not news about the content.
func testReviewLeavesVersions(b *guarded) {
	first := b.must(put("a", `{"S":1}`)).Sequence
	since := b.head()
	b.set(active("p"))
	b.review()
	b.equal("version", b.record("a").Version, first)
	b.equal("news", b.told("p", since), []string{"Property('a')"})
	change := put("a", `{"S":2}`)
	change.UnchangedSince = &since
	b.must(change)
	b.wantSees("p")
}

// testReviewWith: children follow their parents through a review, too.
func testReviewWith(b *guarded) {
	b.apply(media("1", "a"), media("2", "b"), media("3", "none"), put("a", `{"S":1}`), put("b", `{"S":2}`))
	b.set(active("p"))
	b.news("p", func() { b.review() }, "Media('1')", "Property('a')")
	b.set(profile("p", rules{"Property": "S eq 2", "Media": "with Property"}))
	b.news("p", func() { b.review() }, "Media('1')", "Property('a')", "Media('2')", "Property('b')")
	b.set(profile("p", rules{"Property": "S eq 2"}))
	b.news("p", func() { b.review() }, "Media('2')")
	b.set(profile("p", rules{"Property": "S eq 2", "Media": "with Property"}))
	b.news("p", func() { b.review() }, "Media('2')")
	b.set(profile("p", rules{"Property": "S eq 2", "Media": "all"}))
	b.news("p", func() { b.review() }, "Media('1')", "Media('3')")
	b.news("p", func() { b.must(merge("b", `{"S":1}`)) }, "Property('b')")
	b.reader("p").catchUp(1)
}

// testReviewManyChildren: children count when a step is bounded.
func testReviewManyChildren(b *guarded) {
	const parents, children = 20, 60
	for i := range parents {
		key := fmt.Sprintf("%02d", i)
		changes := []entityevent.Change{put(key, `{"S":1}`)}
		for n := range children {
			changes = append(changes, media(fmt.Sprint(key, "-", n), key))
		}
		b.apply(changes...)
	}
	b.set(active("p"))
	for more := true; more; {
		before := b.head()
		more = b.step()
		if n := len(b.told("p", before)); n > 1000 {
			b.Fatalf("one step told of %d records", n)
		}
	}
	b.equal("told", len(b.told("p", 0)), parents*(1+children))
	b.reader("p").catchUp(1000)
}

// testReviewFeeds: profiles are for all feeds.
func testReviewFeeds(b *guarded) {
	for _, name := range []string{"acme", "zebra", feed} {
		b.commit(entityevent.Commit{Feed: name, Changes: []entityevent.Change{put("a", `{"S":1}`), put("b", `{"S":2}`), media("1", "a")}})
	}
	b.set(active("p"))
	b.review()
	for _, name := range []string{"acme", "zebra", feed} {
		p := b.page(entityevent.View{Feed: name, Mask: b.masks["p"]}, entityevent.EventQuery{})
		refs := []string{}
		for _, e := range p.Events {
			refs = append(refs, e.Ref.String())
		}
		b.equal("told in feed "+name, refs, []string{"Media('1')", "Property('a')"})
	}
	b.commit(entityevent.Commit{Feed: "acme", Changes: []entityevent.Change{remove("a")}})
	b.wantSees("p", "Property('a')", "Media('1')") // a parent of another feed is another record
}

// testReviewHide: another set of hidden fields concerns every record that the profile sees, and no other.
func testReviewHide(b *guarded) {
	rule := rules{"Property": "S eq 1", "Media": "with Property"}
	b.set(profile("p", rule, "X"), active("q"))
	b.apply(put("a", `{"S":1}`), put("b", `{"S":2}`), put("c", `{"S":1}`), media("1", "a"))
	told := b.head()
	b.set(profile("p", rule, "X", "Y"), active("q"))
	b.news("p", func() { b.review() }, "Property('a')", "Property('c')")
	b.set(profile("p", rule, "Y", "X", "X"), active("q"))
	b.news("p", func() { b.review() })
	b.set(profile("p", rule), active("q"))
	b.news("p", func() { b.review() }, "Property('a')", "Property('c')")
	b.equal("news for q", b.told("q", told), []string{})

	// It is not forgotten by another change before its time, nor while the profile is away.
	b.set(profile("p", rule, "X"), active("q"))
	b.set(profile("p", rules{"Property": "S ge 1", "Media": "with Property"}, "X"), active("q"))
	b.news("p", func() { b.review() }, "Property('a')", "Property('b')", "Property('c')")
	b.set(profile("p", rule, "Y"), active("q"))
	b.set(active("q"))
	b.review()
	b.reopen()
	b.set(profile("p", rule, "Y"), active("q"))
	b.news("p", func() { b.review() }, "Property('a')", "Property('b')", "Property('c')")
	b.set(active("q"))
	b.set(profile("p", rule, "Z"), active("q"))
	b.news("p", func() { b.review() }, "Property('a')", "Property('c')")
	b.equal("news for q", b.told("q", told), []string{})
	b.equal("news for all", b.told("", told), []string{})
}

// testReviewInside: what a profile shows of a resource concerns the records of others in which its records stand.
func testReviewInside(b *guarded) {
	b.set(profile("p", rules{"Property": "all", "Media": "with Property", "Member": "all"}), active("q"))
	inside := `{"S":1,"Media":[{"MediaKey":"m"}],"ListAgent":{"MemberKey":"a"}}`
	b.apply(put("a", inside), put("b", `{"S":1}`), put("c", inside), media("1", "b"))
	told := b.head()
	changed := func(p entityevent.Profile, want ...string) {
		b.Helper()
		b.set(p, active("q"))
		b.news("p", func() { b.review() }, want...)
	}
	both := []string{"Property('a')", "Property('c')"}
	changed(profile("p", rules{"Property": "all", "Member": "all"}), "Property('a')", "Property('c')", "Media('1')")
	changed(profile("p", rules{"Property": "all", "Member": "MemberKey eq 'a'"}), both...)
	changed(profile("p", rules{"Property": "all", "Member": "MemberKey eq 'b'"})) // in others it sees none either way
	changed(profile("p", rules{"Property": "all"}))
	changed(profile("p", rules{"Property": "all", "Office": "all"}), both...) // who knows where there are any
	hides := profile("p", rules{"Property": "all", "Office": "all"})
	hides.Resources["Office"] = entityevent.Access{Hide: []string{"OfficeEmail"}}
	changed(hides, both...)
	changed(hides)

	// It is not forgotten by another change before its time, nor while the profile is away.
	b.set(profile("p", rules{"Property": "all", "Office": "all"}), active("q"))
	changed(profile("p", rules{"Property": "S eq 1", "Office": "all"}), both...)
	b.set(profile("p", rules{"Property": "S eq 1", "Office": "all", "Member": "all"}), active("q"))
	b.set(active("q"))
	b.review()
	b.reopen()
	changed(profile("p", rules{"Property": "S eq 1", "Office": "all", "Member": "all"}), both...)
	b.equal("news for q", b.told("q", told), []string{})
	b.equal("news for all", b.told("", told), []string{})
}

// testReviewInterrupted: whatever comes between its steps, none is left out: a reopen, and other profiles.
func testReviewInterrupted(b *guarded) {
	const records = 1200
	var changes []entityevent.Change
	for i := range records {
		changes = append(changes, put(fmt.Sprintf("%04d", i), fmt.Sprintf(`{"S":%d}`, i%3)))
	}
	b.apply(changes...)
	some := func(name string, status int) entityevent.Profile {
		return profile(name, rules{"Property": fmt.Sprint("S eq ", status)})
	}
	b.set(some("p", 0))
	if steps := b.review(); steps < 3 {
		b.Errorf("%d records in %d steps", records, steps)
	}
	b.equal("told p", len(b.told("p", 0)), records/3)

	b.set(some("p", 1))
	b.step()
	b.step()
	b.reopen()
	b.set(some("p", 1), some("q", 2)) // q begins, p goes on
	b.step()
	b.set(some("p", 1), some("q", 0))
	b.step()
	b.reopen()
	b.set(some("p", 1), some("q", 0))
	b.step()
	b.set(some("p", 2), some("q", 0))
	b.review()
	for name, status := range map[string]int{"p": 2, "q": 0} {
		for i, ref := range b.sees(name) {
			if want := fmt.Sprintf("Property('%04d')", i*3+status); ref != want {
				b.Fatalf("%s sees %s, not %s", name, ref, want)
			}
		}
		r := b.reader(name)
		r.catchUp(100)
		b.equal(name+" has", len(r.has), records/3)
	}
	if n := len(b.everyEvent(feed)); n > records*5 {
		b.Errorf("%d events", n)
	}
}

// testProfileTakenAway: while a profile is away nobody keeps its views; when it is back all of them are right.
func testProfileTakenAway(b *guarded) {
	b.set(active("p"), profile("q", rules{"Property": "all"}))
	b.apply(put("a", `{"S":1}`), put("b", `{"S":1}`), put("c", `{"S":2}`), put("d", `{"S":2}`), put("e", `{"S":1}`), put("f", `{"S":1}`),
		media("1", "a"), media("2", "b"), media("3", "c"), media("5", "e"), media("6", "f"))
	mask := b.masks["p"]
	r := b.reader("p")
	r.catchUp(3)
	b.set(profile("q", rules{"Property": "all"}))
	b.review()
	b.apply(merge("b", `{"S":2}`), merge("c", `{"S":1}`), merge("e", `{"X":1}`), remove("f"), put("g", `{"S":1}`), media("7", "g"))
	b.reopen()
	b.set(active("p"), profile("q", rules{"Property": "all"}))
	b.equal("mask", b.masks["p"], mask)
	b.review()
	b.wantSees("p", "Property('a')", "Property('c')", "Property('e')", "Property('g')",
		"Media('1')", "Media('3')", "Media('5')", "Media('7')")
	r.catchUp(3)
	b.reader("p").catchUp(1)

	// Another profile under the same name, which shows less.
	b.set(profile("q", rules{"Property": "all"}))
	b.set(profile("p", rules{"Member": "all"}), profile("q", rules{"Property": "all"}))
	b.review()
	b.wantSees("p")
	r.catchUp(3)
	b.equal("told of d", r.told[ref("d")], false)

	// One that showed no more of a resource, and went before that was done.
	b.set(active("p"))
	b.review()
	b.set(profile("p", rules{"Property": "S eq 1"}))
	b.set()
	b.review()
	b.set(profile("p", rules{"Property": "S eq 1"}))
	b.review()
	b.wantSees("p", "Property('a')", "Property('c')", "Property('e')", "Property('g')")
	r.catchUp(3)
}
