package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// testCompact: the newest event of every record stays, of gone ones too, and nothing else.
func testCompact(b *guarded) {
	b.equal("of an empty log", b.compact(entityevent.Compaction{}), entityevent.Compacted{})
	const records, rounds = 40, 60
	for n := range rounds {
		var changes []entityevent.Change
		for i := range records {
			if (i+n)%3 > 0 {
				changes = append(changes, put(fmt.Sprint(i), fmt.Sprintf(`{"N":%d}`, n)))
			} else if i%2 == 0 {
				changes = append(changes, remove(fmt.Sprint(i)))
			}
		}
		b.apply(changes...)
	}
	before, content := b.log(feed), b.records(feed, entityevent.Query{Gone: true})
	newest := map[entityevent.Ref]entityevent.Event{}
	for _, e := range before {
		newest[e.Ref] = e
	}
	half := b.reader("")
	for range 30 {
		if _, err := half.page(b.Context(), 20); err != nil {
			b.Fatal(err)
		}
	}
	done := b.compact(entityevent.Compaction{})
	b.equal("dropped", done, entityevent.Compacted{Events: int64(len(before) - records)})
	for range 2 {
		after := b.log(feed)
		b.equal("events", len(after), records)
		for _, e := range after {
			b.equal("the newest of "+e.Key, e, newest[e.Ref])
		}
		b.equal("records", b.records(feed, entityevent.Query{Gone: true}), content)
		b.equal("floor", b.page(everyone(feed), entityevent.EventQuery{}).Floor, entityevent.Sequence(0))
		b.reader("").catchUp(7)
		b.equal("the second time", b.compact(entityevent.Compaction{}), entityevent.Compacted{})
		b.reopen()
	}
	half.guarded = b
	half.catchUp(20)
	b.must(put("1", `{"N":"new"}`))
	b.equal("dropped", b.compact(entityevent.Compaction{}), entityevent.Compacted{Events: 1})
	half.catchUp(20)
}

// testCompactForProfiles: what a profile alone was told supersedes nothing for the others, and is superseded by what
// all are told.
func testCompactForProfiles(b *guarded) {
	b.apply(put("a", `{"S":1}`), put("a", `{"S":1,"X":1}`), put("b", `{"S":2}`), put("c", `{"S":1}`), remove("c"), put("d", `{"S":1}`))
	p := func(status int) entityevent.Profile {
		return profile("p", rules{"Property": fmt.Sprint("S eq ", status)})
	}
	q := func(status int) entityevent.Profile {
		return profile("q", rules{"Property": fmt.Sprint("S eq ", status)})
	}
	b.set(p(1))
	b.review()
	b.set(p(1), q(1))
	b.review()
	b.set(p(2), q(1))
	b.review()
	b.must(merge("d", `{"X":1}`))
	for range 2 {
		b.compact(entityevent.Compaction{})
		b.equal("news for all", b.told("", 0), []string{"Property('a')", "Property('b')", "Property('c')", "Property('d')"})
		b.equal("news for p", b.told("p", 0), []string{"Property('a')", "Property('b')", "Property('d')"})
		b.equal("news for q", b.told("q", 0), []string{"Property('a')", "Property('d')"})
		// a: for all, q and p. b: for all and p. c: gone. d: all.
		b.equal("events", len(b.everyEvent(feed)), 7)
		for _, name := range []string{"p", "q", ""} {
			b.reader(name).catchUp(1)
		}
		b.reopen()
	}
	b.set(p(3), q(1))
	b.review()
	b.compact(entityevent.Compaction{})
	b.equal("events", len(b.everyEvent(feed)), 7)
	b.reader("p").catchUp(1)
	b.apply(put("a", `{}`), put("b", `{}`), put("d", `{}`))
	b.compact(entityevent.Compaction{})
	b.equal("events", len(b.everyEvent(feed)), 4)
	for _, name := range []string{"p", "q", ""} {
		b.reader(name).catchUp(1)
	}
}

func testCompactFeeds(b *guarded) {
	for i := range 20 {
		for _, name := range []string{"acme", feed, "zebra"} {
			b.commit(entityevent.Commit{Feed: name, Changes: []entityevent.Change{put("a", fmt.Sprint(`{"N":`, i, `}`)), put(fmt.Sprint(i), `{}`)}})
		}
	}
	b.equal("dropped", b.compact(entityevent.Compaction{}).Events, int64(3*19))
	for _, name := range []string{"acme", feed, "zebra"} {
		b.equal("events of "+name, len(b.log(name)), 21)
	}
}

// testCompactCancelled: what was dropped is told, the rest is left for the next time.
func testCompactCancelled(b *guarded) {
	const changes = 5000
	for n := 0; n < changes; {
		var some []entityevent.Change
		for range 1000 {
			n++
			some = append(some, put("a", fmt.Sprint(`{"N":`, n, `}`)))
		}
		b.apply(some...)
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(b.Context())
	cancel(why)
	done, err := b.Store.(entityevent.Compactor).Compact(ctx, entityevent.Compaction{})
	if !errors.Is(err, why) || done != (entityevent.Compacted{}) {
		b.Fatalf("a cancelled call: %+v, %v", done, err)
	}
	ctx, cancel = context.WithCancelCause(b.Context())
	stop := make(chan struct{})
	go func() { // as soon as something was dropped
		defer close(stop)
		for b.Context().Err() == nil {
			p, err := b.Events(b.Context(), everyone(feed), entityevent.EventQuery{Limit: 1})
			if err != nil || len(p.Events) == 0 || p.Events[0].Sequence > 1 {
				break
			}
		}
		cancel(why)
	}()
	done, err = b.Store.(entityevent.Compactor).Compact(ctx, entityevent.Compaction{})
	<-stop
	if err != nil && !errors.Is(err, why) {
		b.Fatal(err)
	}
	left := len(b.log(feed))
	b.equal("told and left", int64(left)+done.Events, int64(changes))
	done = b.compact(entityevent.Compaction{})
	b.equal("dropped by the next", done.Events, int64(left-1))
	b.equal("events", len(b.log(feed)), 1)
}

// testCompactWhilePaging: who pages by position while all is rewritten and compacted comes to the final state, and
// sees numbers rise only.
func testCompactWhilePaging(b *guarded) {
	const records, rounds = 120, 40
	b.set(active("p"))
	ctx := b.deadline()
	write := func(n int) {
		var changes []entityevent.Change
		for i := range records {
			key := fmt.Sprint((i*7 + n) % records)
			changes = append(changes, put(key, fmt.Sprintf(`{"S":%d,"N":%d}`, (i+n)%3, n)))
			if i%5 == 0 {
				changes = append(changes, media(key, fmt.Sprint((i+n)%records)))
			}
		}
		if _, err := b.Apply(ctx, entityevent.Commit{Feed: feed, Changes: changes}); err != nil {
			b.Error(err)
		}
	}
	write(0)
	var readers []*reader
	for _, name := range []string{"p", "p", "", ""} {
		readers = append(readers, b.reader(name))
	}
	done := make(chan struct{})
	var wg, busy sync.WaitGroup
	for i, r := range readers {
		wg.Go(func() {
			for {
				if _, err := r.page(ctx, 3+5*i); err != nil {
					b.Error(err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for range 2 {
		busy.Go(func() {
			for {
				if _, err := b.Store.(entityevent.Compactor).Compact(ctx, entityevent.Compaction{}); err != nil {
					b.Error(err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for n := range rounds {
		write(n)
	}
	close(done)
	wg.Wait()
	busy.Wait()
	for _, r := range readers {
		r.catchUp(50)
	}
	b.compact(entityevent.Compaction{})
	for _, r := range readers {
		fresh := b.reader(r.name)
		fresh.catchUp(11)
		b.equal("from 0", fresh.has, r.has)
	}
}

// testCompactAndWait: who waits at a position whose neighbours are gone is woken by what is news to it, after a
// reopen, too.
func testCompactAndWait(b *guarded) {
	b.set(active("p"))
	b.apply(put("a", `{"S":1}`), put("b", `{"S":1}`), put("c", `{"S":1}`))
	second := b.must(put("b", `{"S":1,"N":1}`)).Sequence
	b.apply(put("a", `{"S":1,"N":1}`), remove("c"))
	head := b.head()
	for range 2 {
		b.compact(entityevent.Compaction{})
		for _, after := range []entityevent.Sequence{0, 2, second, head - 1} {
			for _, v := range []entityevent.View{everyone(feed), b.view("p")} {
				if err := b.Wait(b.deadline(), v, entityevent.EventQuery{After: after}); err != nil {
					b.Fatalf("after %d: %v", after, err)
				}
			}
		}
		b.reopen()
	}
	woken := make(chan error, 2)
	ctx := b.deadline()
	go func() { woken <- b.Wait(ctx, everyone(feed), entityevent.EventQuery{After: head}) }()
	go func() { woken <- b.Wait(ctx, b.view("p"), entityevent.EventQuery{After: head}) }()
	b.must(put("x", `{"S":2}`))
	b.compact(entityevent.Compaction{})
	b.must(put("a", `{"S":2}`))
	for range 2 {
		if err := <-woken; err != nil {
			b.Fatal(err)
		}
	}
}

// testForget: the marks and last events of long-gone records go, and whoever stood before them can know.
func testForget(b *guarded) {
	b.apply(put("a", `{}`), put("b", `{}`), put("c", `{}`), put("d", `{}`))
	b.must(remove("a"))
	forgotten := b.must(remove("b")).Sequence
	b.commit(entityevent.Commit{Feed: "acme", Changes: []entityevent.Change{put("z", `{}`)}})
	b.must(remove("c"))
	events := b.log(feed)
	line := events[len(events)-1].At // when c went: it was not gone before

	b.equal("off by default", b.compact(entityevent.Compaction{}), entityevent.Compacted{Events: 3})
	b.equal("before anything was gone", b.compact(entityevent.Compaction{Forget: line.Add(-time.Hour)}), entityevent.Compacted{})
	b.equal("floor", b.page(everyone(feed), entityevent.EventQuery{}).Floor, entityevent.Sequence(0))
	b.equal("dropped", b.compact(entityevent.Compaction{Forget: line}), entityevent.Compacted{Forgotten: 2})
	for range 2 {
		b.equal("news", b.told("", 0), []string{"Property('d')", "Property('c')"})
		b.equal("records", len(b.records(feed, entityevent.Query{Gone: true})), 2)
		for _, q := range []entityevent.EventQuery{{}, {After: forgotten, Limit: 1}, {Order: entityevent.NewestFirst}, {After: 1 << 60}} {
			b.equal("floor", b.page(everyone(feed), q).Floor, forgotten)
			b.equal("floor of another feed", b.page(everyone("acme"), q).Floor, entityevent.Sequence(0))
		}
		b.reader("").catchUp(1)
		b.reopen()
	}
	b.equal("the second time", b.compact(entityevent.Compaction{Forget: line}), entityevent.Compacted{})
	b.equal("all", b.compact(entityevent.Compaction{Forget: time.Now().Add(time.Hour)}), entityevent.Compacted{Forgotten: 1})
	b.equal("news", b.told("", 0), []string{"Property('d')"})
	if floor := b.page(everyone(feed), entityevent.EventQuery{}).Floor; floor <= forgotten {
		b.Errorf("the floor is %d after %d", floor, forgotten)
	}
}

// testForgetComesBack: a record that was forgotten is new when it comes back, to those as well who saw it once.
func testForgetComesBack(b *guarded) {
	b.set(active("p"), profile("q", rules{"Property": "S eq 2"}))
	b.apply(put("a", `{"S":1}`), put("a", `{"S":2}`), remove("a"), put("b", `{"S":1}`), remove("b"), put("b", `{"S":1}`))
	behind := b.reader("p")
	if _, err := behind.page(b.Context(), 1); err != nil {
		b.Fatal(err)
	}
	future := entityevent.Compaction{Forget: time.Now().Add(time.Hour)}
	b.equal("forgotten", b.compact(future).Forgotten, int64(1))
	b.equal("told p", b.told("p", 0), []string{"Property('b')"})
	b.equal("told q", b.told("q", 0), []string{})
	change := put("a", `{"S":3}`)
	change.Only = entityevent.New
	o := b.must(change)
	b.equal("before", o.Before, entityevent.Hash{})
	r := b.record("a")
	b.equal("seen", r.Seen, entityevent.Everyone)
	b.equal("told p", b.told("p", 0), []string{"Property('b')"})
	b.equal("news for all", b.told("", 0), []string{"Property('b')", "Property('a')"})
	// Whoever was behind learns from the floor that it must begin anew.
	behind.catchUp(10)
	b.reader("p").catchUp(10)
}

// testForgetWhileWriting: a record that comes back while it is forgotten is there, with its event.
func testForgetWhileWriting(b *guarded) {
	const writers, each = 4, 60
	ctx := b.deadline()
	done := make(chan struct{})
	var wg, busy sync.WaitGroup
	busy.Go(func() {
		for {
			if _, err := b.Store.(entityevent.Compactor).Compact(ctx, entityevent.Compaction{Forget: time.Now().Add(time.Hour)}); err != nil {
				b.Error(err)
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				key := fmt.Sprint(w, "-", i%3)
				for _, change := range []entityevent.Change{put(key, fmt.Sprintf(`{"N":%d}`, i)), remove(key), put(key, fmt.Sprintf(`{"M":%d}`, i))} {
					if _, err := b.Apply(ctx, entityevent.Commit{Feed: feed, Changes: []entityevent.Change{change}}); err != nil {
						b.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	close(done)
	busy.Wait()
	b.equal("records", len(b.records(feed, entityevent.Query{})), writers*3)
	b.reader("").catchUp(5)
	b.compact(entityevent.Compaction{Forget: time.Now().Add(time.Hour)})
	b.equal("events", len(b.everyEvent(feed)), writers*3)
	b.reader("").catchUp(5)
}

// testForgetNothingElse: what waits, was received or set aside of a forgotten record stays, as do documents.
func testForgetNothingElse(b *guarded) {
	b.receive(adopt("theirs", 1))
	b.receive(entityevent.Delivery{Feed: feed, Log: "theirs", Chained: true, After: 1, Through: 2,
		Events: []entityevent.Event{{Sequence: 2, Ref: ref("a")}, {Sequence: 9, Ref: ref("a")}}})
	b.commit(entityevent.Commit{
		Feed: feed, Changes: []entityevent.Change{put("a", `{}`)},
		Aside: []entityevent.Setback{{Ref: ref("a"), Kind: "held", Reason: "x"}},
		Docs:  []entityevent.Doc{{Kind: "k", ID: "1", Body: []byte(`1`)}},
	})
	b.must(remove("a"))
	position, err := b.Position(b.Context(), feed)
	if err != nil {
		b.Fatal(err)
	}
	pending, aside := b.pending(feed), b.aside(feed, time.Time{})
	b.equal("forgotten", b.compact(entityevent.Compaction{Forget: time.Now().Add(time.Hour)}).Forgotten, int64(1))
	b.wantPosition(feed, position)
	b.equal("pending", b.pending(feed), pending)
	b.equal("set aside", b.aside(feed, time.Time{}), aside)
	d, err := b.Get(b.Context(), "k", "1")
	if err != nil || d.Version != 1 {
		b.Fatalf("document %+v, %v", d, err)
	}
	b.equal("records", len(b.records(feed, entityevent.Query{Gone: true})), 0)
	// What comes again above the cursor is known still.
	again := b.receive(entityevent.Delivery{Feed: feed, Log: "theirs", Chained: true, After: 2, Through: 10,
		Events: []entityevent.Event{{Sequence: 9, Ref: ref("a")}}})
	b.equal("stored", again.Stored, 0)
}
