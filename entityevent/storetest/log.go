package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/resosync/resosync/entityevent"
)

// testNewLog: another name and numbers that nobody can have seen, at once and after a reopen.
func testNewLog(b *box) {
	first := b.LogID()
	b.must(put("1", `{}`))
	last := b.must(put("2", `{}`)).Sequence
	before := b.log(feed)
	records := b.records(feed, entityevent.Query{})
	p := b.receive(entityevent.Delivery{Feed: "acme", Log: "theirs", Adopt: true, Through: 7})

	log, err := b.NewLog(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if log == first || log == "" || b.LogID() != log {
		b.Fatalf("log %q, then %q; the store says %q", first, log, b.LogID())
	}
	for range 2 {
		page := b.page(everyone(feed), entityevent.EventQuery{})
		b.equal("log of a page", page.Log, log)
		if page.Head < last+entityevent.Restart || page.Through != page.Head {
			b.Fatalf("head %d through %d, the old log ended at %d", page.Head, page.Through, last)
		}
		b.equal("events", b.log(feed), before)
		b.equal("records", b.records(feed, entityevent.Query{}), records)
		b.wantPosition("acme", p)
		b.reopen()
		b.equal("log after a reopen", b.LogID(), log)
	}
	if seq := b.must(put("3", `{}`)).Sequence; seq <= last+entityevent.Restart {
		b.Fatalf("event %d, the old log ended at %d", seq, last)
	}
	again, err := b.NewLog(b.Context())
	if err != nil || again == log || again == first {
		b.Fatalf("log %q after %q and %q, %v", again, log, first, err)
	}
}

// testNewLogWhileApplying: of what is appended and read meanwhile, no event of the old log has a number
// above one of the new, and a page is of one log.
func testNewLogWhileApplying(b *box) {
	const writers, each, logs = 6, 20, 3
	ctx := b.deadline()
	var wg sync.WaitGroup
	var mu sync.Mutex
	names := []entityevent.LogID{b.LogID()}
	heads := map[entityevent.LogID][2]entityevent.Sequence{} // the lowest and the highest that a page of it named
	done := make(chan struct{})
	for n := range writers {
		wg.Go(func() {
			for i := range each {
				c := entityevent.Commit{Feed: feed, Changes: []entityevent.Change{put(fmt.Sprint(n, "-", i), `{}`)},
					Docs: []entityevent.Doc{{Kind: "k", ID: fmt.Sprint(n, "-", i), Version: int64(i % 2), Body: json.RawMessage(`1`)}}}
				b.Apply(ctx, c) // every second one is refused
			}
		})
	}
	wg.Go(func() {
		for range logs {
			log, err := b.NewLog(ctx)
			if err != nil {
				b.Error(err)
			}
			names = append(names, log)
		}
	})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				p, err := b.Events(ctx, everyone(feed), entityevent.EventQuery{Order: entityevent.NewestFirst, Limit: 1})
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				h, ok := heads[p.Log]
				if !ok {
					h[0] = p.Head
				}
				heads[p.Log] = [2]entityevent.Sequence{min(h[0], p.Head), max(h[1], p.Head)}
				mu.Unlock()
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	wg.Wait()
	close(done)
	readers.Wait()
	b.equal("the log", b.LogID(), names[logs])
	last := entityevent.Sequence(-1)
	for i, name := range names {
		h, ok := heads[name]
		if !ok {
			continue // nobody looked in its time
		}
		if h[0] <= last || h[0] < entityevent.Restart*entityevent.Sequence(i) {
			b.Errorf("log %d had the heads %v, the one before it reached %d", i, h, last)
		}
		last = h[1]
		delete(heads, name)
	}
	b.equal("pages of logs that never were", len(heads), 0)
	all := b.log(feed)
	b.equal("events", len(all), writers*each/2)
	for i := 1; i < len(all); i++ {
		if all[i].Sequence <= all[i-1].Sequence {
			b.Errorf("event %d after %d", all[i].Sequence, all[i-1].Sequence)
		}
	}
}

// testRestored: what happens when a backup takes the place of the store, with and without NewLog.
func testRestored(b *box, backup Backup) {
	b.receive(adopt("theirs", 10))
	b.must(put("1", `{}`))
	dir := b.TempDir()
	if err := backup(b.Store, dir); err != nil {
		b.Fatal(err)
	}
	lost := b.must(put("2", `{}`)).Sequence
	old := b.LogID()
	restored := newBox(b.T, b.open, dir)
	restored.equal("log before NewLog", restored.LogID(), old)
	restored.equal("a number that comes again", restored.must(put("3", `{}`)).Sequence, lost) // what NewLog is for
	log, err := restored.NewLog(restored.Context())
	if err != nil || log == old {
		b.Fatalf("log %q, %v", log, err)
	}
	if next := restored.must(put("4", `{}`)).Sequence; next <= lost+entityevent.Restart {
		b.Errorf("event %d, the old log reached %d", next, lost)
	}
	// A reader of the old log gets nothing wrong: what it is shown is above what it has seen, and of another log.
	p := restored.page(everyone(feed), entityevent.EventQuery{After: lost})
	restored.equal("log of a page", p.Log, log)
	restored.equal("events above what was lost", len(p.Events), 1)
	// And one that follows it through Receive learns of the other log without losing its place.
	follower := newBox(b.T, b.open, b.TempDir())
	follower.receive(entityevent.Delivery{Feed: feed, Log: old, Adopt: true, Through: lost})
	d := entityevent.Delivery{Feed: feed, Log: p.Log, Chained: true, After: lost, Through: p.Through, Events: p.Events}
	at, err := follower.Receive(follower.Context(), d)
	if !errors.Is(err, entityevent.ErrAnotherLog) || at.Sequence != lost || !at.Behind() {
		b.Errorf("at %+v, %v", at, err)
	}
	follower.equal("stored", len(follower.take(feed)), 0)
	// The other copies of the store are as they were.
	restored.wantPosition(feed, entityevent.Position{Log: "theirs", Sequence: 10, Started: true})
	testReceiveIsAtomic(restored)
}
