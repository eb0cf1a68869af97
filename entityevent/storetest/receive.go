package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
)

var noDue time.Time

// events of records whose keys are their sequences.
func events(sequences ...entityevent.Sequence) []entityevent.Event {
	var out []entityevent.Event
	for _, s := range sequences {
		out = append(out, entityevent.Event{Sequence: s, Ref: ref(s.String())})
	}
	return out
}

func adopt(log entityevent.LogID, through entityevent.Sequence) entityevent.Delivery {
	return entityevent.Delivery{Feed: feed, Log: log, Adopt: true, Through: through}
}

func chain(after, through entityevent.Sequence, sequences ...entityevent.Sequence) entityevent.Delivery {
	return entityevent.Delivery{
		Feed: feed, Log: "log", Chained: true, After: after, Through: through, Events: events(sequences...),
	}
}

func at(s entityevent.Sequence) entityevent.Position {
	return entityevent.Position{Log: "log", Sequence: s, Started: true}
}

func stored(p entityevent.Position, n int) entityevent.Position { p.Stored = n; return p }

func marked(p entityevent.Position, marked, cleared int64) entityevent.Position {
	p.Marked, p.Cleared = marked, cleared
	return p
}

func testChain(b *box) {
	b.wantPosition(feed, entityevent.Position{})
	b.equal("begins", b.receive(adopt("log", 10)), at(10))
	b.equal("in chain", b.receive(chain(10, 15, 12, 15)), stored(at(15), 2))
	b.equal("a repeat", b.receive(chain(10, 15, 12, 15)), at(15))
	b.equal("a repeat with more at its end", b.receive(chain(10, 18, 12, 15, 18)), stored(at(18), 1))
	b.equal("an empty page up to the head", b.receive(chain(18, 30)), at(30))
	b.equal("an old page", b.receive(chain(10, 15, 12, 15)), at(30))
	b.equal("from the start again", b.receive(chain(0, 31, 5, 12, 31)), stored(at(31), 1))
	b.equal("inbox", b.pending(feed), list(12, 15, 18, 31))
	b.reopen()
	b.wantPosition(feed, at(31))
	b.equal("inbox", b.pending(feed), list(12, 15, 18, 31))
	b.commit(entityevent.Commit{Feed: feed, Done: b.take(feed)})
	b.equal("a repeat of what was applied", b.receive(chain(10, 31, 12, 15, 18, 31)), at(31))
	b.equal("inbox", len(b.take(feed)), 0)
}

// testBrokenChain: a push of 500 never moves the cursor past 400 to 499 that were never pushed.
func testBrokenChain(b *box) {
	b.receive(adopt("log", 10))
	b.equal("broken", b.receive(chain(12, 20, 13, 20)), marked(stored(at(10), 2), 1, 0))
	b.equal("is behind", b.receive(chain(12, 20, 13, 20)).Behind(), true)
	b.reopen()
	b.wantPosition(feed, marked(at(10), 2, 0))
	b.equal("inbox", b.pending(feed), list(13, 20))
	b.commit(entityevent.Commit{Feed: feed, Done: b.take(feed)})

	// The poll that heals it brings 11, and 13 and 20 again, which were applied meanwhile.
	heal := chain(10, 25, 11, 13, 20, 25)
	heal.Clears = 2
	b.equal("healed", b.receive(heal), marked(stored(at(25), 2), 2, 2))
	b.equal("inbox", b.pending(feed), list(11, 25))
	b.equal("in chain again", b.receive(chain(25, 26, 26)), marked(stored(at(26), 1), 2, 2))
	b.equal("one beyond", b.receive(chain(27, 28, 28)), marked(stored(at(26), 1), 3, 2))
}

// testHints: events of a producer that sends no positions are stored and move nothing.
func testHints(b *box) {
	hint := entityevent.Delivery{Feed: feed, Log: "log", Events: events(12, 11)}
	b.receive(adopt("log", 10))
	b.equal("a hint", b.receive(hint), marked(stored(at(10), 2), 1, 0))
	b.equal("a repeat", b.receive(hint), marked(at(10), 2, 0))
	b.commit(entityevent.Commit{Feed: feed, Done: b.take(feed)})
	b.equal("a repeat of what was applied", b.receive(hint), marked(at(10), 3, 0))
	b.equal("the page with it", b.receive(chain(10, 13, 11, 12, 13)), marked(stored(at(13), 1), 3, 0))
	b.equal("inbox", b.pending(feed), list(13))

	nameless := entityevent.Delivery{Feed: feed, Chained: true, After: 13, Through: 14, Events: events(14)}
	b.equal("a chain without a log", b.receive(nameless), marked(stored(at(13), 1), 4, 0))
	b.equal("inbox", b.pending(feed), list(13, 14))
}

func testBeforeTheFirstLoad(b *box) {
	b.equal("stored", b.receive(chain(10, 15, 12, 15)), entityevent.Position{Stored: 2})
	other := chain(3, 4, 4)
	other.Log = "another"
	b.equal("of any log", b.receive(other), entityevent.Position{Stored: 1})
	b.equal("a repeat", b.receive(chain(10, 15, 12, 15)), entityevent.Position{})
	b.reopen()
	b.equal("inbox", b.pending(feed), list(4, 12, 15))
	b.equal("begins", b.receive(adopt("log", 13)), at(13))
	b.equal("inbox", b.pending(feed), list(4, 12, 15))
	b.equal("goes on", b.receive(chain(13, 16, 15, 16)), stored(at(16), 1))
}

func testAnotherLog(b *box) {
	b.receive(adopt("log", 10))
	other := chain(10, 15, 12, 15)
	other.Log = "another"
	other.Docs = []entityevent.Doc{{Kind: "k", ID: "1", Body: json.RawMessage(`1`)}}
	p, err := b.Receive(b.Context(), other)
	if !errors.Is(err, entityevent.ErrAnotherLog) {
		b.Errorf("another log: %v", err)
	}
	b.equal("nothing moved", p, marked(at(10), 1, 0))
	b.reopen()
	b.wantPosition(feed, marked(at(10), 1, 0))
	b.equal("inbox", len(b.take(feed)), 0)
	d, err := b.Get(b.Context(), "k", "1")
	if err != nil || d.Version != 0 {
		b.Errorf("the document was written: %v, %v", d, err)
	}
}

func testAdopt(b *box) {
	b.receive(adopt("log", 10))
	b.receive(chain(10, 12, 11, 12))
	b.receive(chain(20, 25, 25))
	b.equal("the same log again", b.receive(adopt("log", 12)), marked(at(12), 1, 1))
	b.equal("keeps what is pending", b.pending(feed), list(11, 12, 25))

	p := at(3)
	p.Log = "another"
	b.equal("another log", b.receive(adopt("another", 3)), marked(p, 1, 1))
	b.equal("drops it", len(b.take(feed)), 0)
	d := chain(3, 25, 25) // a number that was remembered of the old log, for another record
	d.Log, d.Events[0].Key = "another", "other"
	p.Sequence = 25
	b.equal("goes on", b.receive(d), marked(stored(p, 1), 1, 1))
	b.reopen()
	b.wantPosition(feed, marked(p, 1, 1))

	d = adopt("third", 40)
	d.Events = events(39, 41)
	p.Log, p.Sequence = "third", 40
	b.equal("with events", b.receive(d), marked(stored(p, 1), 1, 1))
	b.equal("inbox", b.pending(feed), list(41))
}

// testClears: a mark that came while the poll was under way stays.
func testClears(b *box) {
	b.receive(adopt("log", 10))
	b.receive(chain(11, 12, 12))
	read := b.receive(chain(11, 12, 12)).Marked
	b.receive(chain(14, 15, 15)) // while the poll is under way
	d := chain(10, 12, 11, 12)
	d.Clears = read
	p := b.receive(d)
	b.equal("marked meanwhile", p, marked(stored(at(12), 1), 3, 2))
	b.equal("behind", p.Behind(), true)
	d = chain(12, 15, 13, 15)
	d.Clears = p.Marked
	p = b.receive(d)
	b.equal("caught up", p, marked(stored(at(15), 1), 3, 3))
	b.equal("behind", p.Behind(), false)
	d.Clears = 2
	b.equal("an old one", b.receive(d), marked(at(15), 3, 3))
	d = chain(17, 18, 18)
	d.Clears = 3
	b.equal("a broken chain clears nothing", b.receive(d), marked(stored(at(15), 1), 4, 3))
}

// testReceiveIsAtomic: events, cursor and documents stand or fall together.
func testReceiveIsAtomic(b *box) {
	b.receive(adopt("log", 10))
	d := chain(10, 15, 12, 15)
	d.Docs = []entityevent.Doc{{Kind: "k", ID: "1", Version: 1, Body: json.RawMessage(`1`)}}
	for range 2 {
		if _, err := b.Receive(b.Context(), d); !errors.Is(err, entityevent.ErrConflict) {
			b.Fatalf("receive: %v", err)
		}
		b.wantPosition(feed, at(10))
		b.equal("inbox", len(b.take(feed)), 0)
		b.reopen()
	}
	d.Docs[0].Version = 0
	b.equal("now", b.receive(d), stored(at(15), 2))
}

func testReceiveInvalid(b *box) {
	b.receive(adopt("log", 10))
	bad := map[string]entityevent.Delivery{
		"sequence 0":         chain(10, 15, 0, 12),
		"a negative one":     chain(10, 15, 12, -1),
		"negative positions": chain(-1, 15, 12),
		"turned round":       chain(15, 10, 12),
	}
	long := chain(10, 15, 12)
	long.Events[0].Key = strings.Repeat("k", 256)
	bad["a long key"] = long
	nameless := chain(10, 15, 12)
	nameless.Events[0].Resource = ""
	bad["no resource"] = nameless
	url := chain(10, 15, 12)
	url.Events[0].URL = strings.Repeat("u", 8001)
	bad["a long url"] = url
	nowhere := chain(10, 15, 12)
	nowhere.Feed = ""
	bad["no feed"] = nowhere
	for name, d := range bad {
		if _, err := b.Receive(b.Context(), d); !errors.Is(err, entityevent.ErrInvalid) {
			b.Errorf("%s: %v", name, err)
		}
	}
	b.wantPosition(feed, at(10))
	b.equal("inbox", len(b.take(feed)), 0)
}

// testReceiveWhileApplying runs both sides of the inbox and the log against each other.
func testReceiveWhileApplying(b *box) {
	const pages, size = 40, 25
	ctx := b.deadline()
	b.receive(adopt("log", 0))
	var wg sync.WaitGroup
	wg.Go(func() {
		for p := range entityevent.Sequence(pages) {
			var page []entityevent.Sequence
			for n := range entityevent.Sequence(size) {
				page = append(page, p*size+n+1)
			}
			for range 2 { // every one is repeated
				if _, err := b.Receive(ctx, chain(p*size, (p+1)*size, page...)); err != nil {
					b.Errorf("receive: %v", err)
				}
			}
		}
	})
	applied := map[entityevent.Sequence]bool{}
	for len(applied) < pages*size && ctx.Err() == nil {
		items, err := b.Take(ctx, feed, 17)
		if err != nil {
			b.Fatal(err)
		}
		var changes []entityevent.Change
		for _, i := range items {
			if applied[i.Sequence] {
				b.Errorf("%d came again after it was done", i.Sequence)
			}
			applied[i.Sequence] = true
			changes = append(changes, put(i.Key, `{}`))
		}
		b.commit(entityevent.Commit{Feed: feed, Changes: changes, Done: items})
	}
	wg.Wait()
	b.wantPosition(feed, at(pages*size))
	b.equal("applied", len(applied), pages*size)
	b.equal("events", len(b.log(feed)), pages*size)
}

func testLargeSequences(b *box) {
	const big = entityevent.Sequence(1)<<53 + 1
	b.receive(adopt("log", big-1))
	b.equal("odd beyond a float", b.receive(chain(big-1, big, big)), stored(at(big), 1))
	b.equal("its neighbour", b.receive(chain(big, big+1, big+1)), stored(at(big+1), 1))
	b.equal("the last", b.receive(chain(big, math.MaxInt64, math.MaxInt64)), stored(at(math.MaxInt64), 1))
	b.reopen()
	b.equal("inbox", b.pending(feed), list(big, big+1, math.MaxInt64))
	b.equal("in (big, …]", b.receive(chain(0, math.MaxInt64, big, math.MaxInt64)), at(math.MaxInt64))
	p := b.page(everyone(feed), entityevent.EventQuery{After: math.MaxInt64})
	b.equal("events after all", len(p.Events), 0)
}

// testDone: settling an item removes exactly it, and what a refused change would have settled stays.
func testDone(b *box) {
	b.receive(adopt("log", 0))
	d := chain(0, 9, 1, 2, 3, 4, 5)
	d.Events[4].Ref = ref("1") // two events of one record
	d.Events[2].URL = "https://example.org/Property('3')"
	b.receive(d)
	items := b.take(feed)
	b.equal("an item", items[2], entityevent.Item{Sequence: 3, Ref: ref("3"), URL: "https://example.org/Property('3')"})
	first, err := b.Take(b.Context(), feed, 2)
	if err != nil {
		b.Fatal(err)
	}
	b.equal("the oldest", first, items[:2])

	stale := put("2", `{}`)
	stale.Only = entityevent.Present
	out := b.commit(entityevent.Commit{Feed: feed, Done: items[:3], Changes: []entityevent.Change{put("1", `{}`), stale, put("3", `{`)}})
	b.equal("refused", out[0].Err == nil && out[1].Err != nil && out[2].Err != nil, true)
	b.equal("kept", b.pending(feed), list(2, 3, 4, 5))

	// Another event of a settled record stays; an item that is not there is nothing.
	wrong := slices.Clone(items[3:4])
	wrong[0].Key = "another"
	b.commit(entityevent.Commit{Feed: feed, Done: append(wrong, items[0], entityevent.Item{Sequence: 77, Ref: ref("7")})})
	b.equal("kept", b.pending(feed), list(2, 3, 4, 5))
	b.commit(entityevent.Commit{Feed: "acme", Done: items})
	b.equal("of another feed", b.pending(feed), list(2, 3, 4, 5))
	b.commit(entityevent.Commit{Feed: feed, Done: items})
	b.wantPosition(feed, at(9))
	b.equal("done", len(b.take(feed)), 0)
}

func testAside(b *box) {
	now := time.Date(2024, 1, 2, 3, 4, 5, 678000, time.UTC)
	back := func(key, kind string, tries int, next time.Time) entityevent.Setback {
		return entityevent.Setback{Ref: ref(key), Kind: kind, Reason: "it's " + kind, Tries: tries, NextAt: next}
	}
	never := back("1", "poison", 1, time.Time{})
	soon := back("2", "recheck", 2, now)
	later := back("3", "held", 3, now.Add(time.Minute))
	tied := back("0", "held", 1, now)
	b.receive(entityevent.Delivery{Feed: feed, Events: events(1, 2, 3)})
	items := b.take(feed)
	b.commit(entityevent.Commit{Feed: feed, Done: items, Aside: []entityevent.Setback{later, never, soon, tied}})
	b.reopen()
	b.equal("aside", b.aside(feed, noDue), []entityevent.Setback{never, tied, soon, later})
	b.equal("due", b.aside(feed, now), []entityevent.Setback{tied, soon})
	b.equal("not yet", len(b.aside(feed, now.Add(-time.Microsecond))), 0)
	b.equal("of another feed", len(b.aside("acme", noDue)), 0)
	some, err := b.Store.Aside(b.Context(), feed, now, 1)
	if err != nil {
		b.Fatal(err)
	}
	b.equal("limited", some, []entityevent.Setback{tied})

	// Again, with another reason: one row per record.
	soon.Kind, soon.Tries, soon.NextAt = "held", 3, now.Add(time.Hour)
	b.commit(entityevent.Commit{Feed: feed, Done: items[1:2], Aside: []entityevent.Setback{soon}})
	b.equal("again", b.aside(feed, noDue), []entityevent.Setback{never, tied, later, soon})

	// A refused change leaves it; a settled one clears it, with or without an item.
	refused := put("1", `{`)
	b.commit(entityevent.Commit{Feed: feed, Changes: []entityevent.Change{refused}, Done: items[:1]})
	b.equal("refused", b.aside(feed, noDue), []entityevent.Setback{never, tied, later, soon})
	b.commit(entityevent.Commit{Feed: feed, Changes: []entityevent.Change{put("1", `{}`)}, Done: items[:1]})
	b.equal("settled", b.aside(feed, noDue), []entityevent.Setback{tied, later, soon})
	b.commit(entityevent.Commit{Feed: feed, Done: []entityevent.Item{{Ref: ref("0")}}})
	b.equal("without an item", b.aside(feed, noDue), []entityevent.Setback{later, soon})
	b.commit(entityevent.Commit{Feed: feed, Changes: []entityevent.Change{put("3", `{}`)}})
	b.equal("a change alone", b.aside(feed, noDue), []entityevent.Setback{later, soon})
}

func testCountAside(b *box) {
	count := func(feed string, want map[string]int64) {
		b.Helper()
		got, err := b.Store.CountAside(b.Context(), feed)
		if err != nil {
			b.Fatal(err)
		}
		b.equal("aside by kind", got, want)
	}
	count(feed, map[string]int64{})
	var setbacks []entityevent.Setback
	for i, kind := range []string{"held", "poison", "held", "recheck", "held"} {
		setbacks = append(setbacks, entityevent.Setback{Ref: ref(fmt.Sprint(i)), Kind: kind})
	}
	b.commit(entityevent.Commit{Feed: feed, Aside: setbacks})
	b.commit(entityevent.Commit{Feed: "acme", Aside: setbacks[:1]})
	b.reopen()
	count(feed, map[string]int64{"held": 3, "poison": 1, "recheck": 1})
	count("acme", map[string]int64{"held": 1})
	b.commit(entityevent.Commit{Feed: feed, Done: []entityevent.Item{{Ref: ref("0")}, {Ref: ref("1")}}})
	setbacks[3].Kind = "held"
	b.commit(entityevent.Commit{Feed: feed, Aside: setbacks[3:4]})
	count(feed, map[string]int64{"held": 3})
}
