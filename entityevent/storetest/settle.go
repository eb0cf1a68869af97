package storetest

import (
	"errors"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// testSettle: a producer without a log id may publish 11 after 12. Moving to 12 at once would lose 11.
func testSettle(b *box) {
	const settle = 10 * time.Second
	// The store's clock cannot be later than these.
	begin := time.Now().Add(time.Hour)
	page := func(second int, after, through entityevent.Sequence, sequences ...entityevent.Sequence) entityevent.Delivery {
		d := chain(after, through, sequences...)
		d.Log, d.Settle, d.Asked = "", settle, begin.Add(time.Duration(second)*time.Second)
		return d
	}
	pos := func(s entityevent.Sequence, unsettled bool) entityevent.Position {
		p := at(s)
		p.Log, p.Unsettled = "", unsettled
		return p
	}
	b.receive(adopt("", 10))
	b.equal("just seen", b.receive(page(0, 10, 12, 12)), stored(pos(10, true), 1))
	b.equal("not yet settled", b.receive(page(9, 10, 12, 12)), pos(10, true))
	b.equal("a late one", b.receive(page(9, 10, 12, 11, 12)), stored(pos(10, true), 1))
	b.reopen()
	b.equal("the late one is not settled", b.receive(page(12, 10, 12, 11, 12)), pos(10, true))
	b.equal("a new one", b.receive(page(18, 10, 14, 11, 12, 14)), stored(pos(10, true), 1))
	b.equal("two of three", b.receive(page(19, 10, 14, 11, 12, 14)), pos(12, true))
	b.equal("up to the last event, not to through", b.receive(page(40, 12, 17, 14)), pos(14, false))
	b.equal("nothing new", b.receive(page(50, 14, 14)), pos(14, false))
	b.equal("inbox", b.pending(feed), list(11, 12, 14))

	// A hint counts from when it came, and is not stored again with its page.
	hint := entityevent.Delivery{Feed: feed, Events: events(16, 18)}
	b.equal("a hint", b.receive(hint), marked(stored(pos(14, false), 2), 1, 0))
	b.equal("seen long ago", b.receive(page(60, 14, 17, 16, 17)), marked(stored(pos(16, true), 1), 1, 0))
	b.equal("settled", b.receive(page(70, 16, 18, 17, 18)), marked(pos(18, false), 1, 0))
}

// testConflictInRecent: another record under a number that was seen before proves another numbering.
func testConflictInRecent(b *box) {
	for _, log := range []entityevent.LogID{"", "log"} {
		b.receive(adopt(log, 10))
		b.receive(entityevent.Delivery{Feed: feed, Log: log, Events: events(12)})
		before, err := b.Position(b.Context(), feed)
		if err != nil {
			b.Fatal(err)
		}
		d := chain(10, 13, 11, 12, 13)
		d.Log, d.Events[1].Key = log, "another"
		p, err := b.Receive(b.Context(), d)
		if !errors.Is(err, entityevent.ErrAnotherLog) {
			b.Errorf("log %q: %v", log, err)
		}
		before.Marked++
		b.equal("nothing moved", p, before)
		b.wantPosition(feed, before)
		b.equal("inbox", b.pending(feed), list(12))
		b.commit(entityevent.Commit{Feed: feed, Done: b.take(feed)})
	}
}

// testClockSetBack: what was stamped in the hour that comes again does not wait for its end.
func testClockSetBack(b *box) {
	begin := time.Now().Add(time.Hour)
	page := func(second int) entityevent.Position {
		d := chain(10, 12, 12)
		d.Log, d.Settle, d.Asked = "", 10*time.Second, begin.Add(time.Duration(second)*time.Second)
		d.After, d.Through = 10, 12
		p := b.receive(d)
		p.Stored = 0
		return p
	}
	unsettled, settled := at(10), at(12)
	unsettled.Log, unsettled.Unsettled, settled.Log = "", true, ""
	b.receive(adopt("", 10))
	b.equal("seen", page(3600), unsettled)
	b.equal("an hour back: it counts as seen now", page(0), unsettled)
	b.reopen()
	b.equal("not yet settled", page(9), unsettled)
	b.equal("settled", page(10), settled)
}
