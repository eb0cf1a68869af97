package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/resosync/resosync/entityevent"
)

// testOneFailsOthersCommit: of many commits at once, which may share a transaction, those that fail leave
// nothing and harm nobody.
func testOneFailsOthersCommit(b *box) {
	const calls = 96
	var wg sync.WaitGroup
	start := make(chan struct{})
	outcomes := make([][]entityevent.Outcome, calls)
	for n := range calls {
		wg.Go(func() {
			c := entityevent.Commit{
				Feed:    feed,
				Changes: []entityevent.Change{put(fmt.Sprint(n), `{}`), put(fmt.Sprint(n, " too"), `{}`)},
				Docs:    []entityevent.Doc{{Kind: "k", ID: fmt.Sprint(n), Body: json.RawMessage(`1`)}},
			}
			fails := n%3 == 1
			if fails {
				c.Docs = append(c.Docs, entityevent.Doc{Kind: "k", ID: "none", Version: 7, Body: json.RawMessage(`1`)})
			}
			<-start
			out, err := b.Apply(b.Context(), c)
			if fails != errors.Is(err, entityevent.ErrConflict) || !fails && err != nil {
				b.Errorf("commit %d: %v", n, err)
			}
			outcomes[n] = out
		})
	}
	close(start)
	wg.Wait()
	b.reopen()
	events := map[entityevent.Sequence]string{}
	for _, e := range b.log(feed) {
		events[e.Sequence] = e.Key
	}
	for n, out := range outcomes {
		d, err := b.Get(b.Context(), "k", fmt.Sprint(n))
		if err != nil {
			b.Fatal(err)
		}
		found := b.records(feed, entityevent.Query{Keys: []string{fmt.Sprint(n), fmt.Sprint(n, " too")}, Gone: true})
		if n%3 == 1 {
			b.equal("of a failed commit", len(found)+int(d.Version), 0)
			continue
		}
		b.equal("document", d.Version, int64(1))
		b.equal("records", len(found), 2)
		for i, o := range out {
			b.equal("event", events[o.Sequence], []string{fmt.Sprint(n), fmt.Sprint(n, " too")}[i])
			delete(events, o.Sequence)
		}
	}
	b.equal("events of failed commits", len(events), 0)
}

// testCommitIsAtomic: records, inbox, what is set aside and documents stand or fall together.
func testCommitIsAtomic(b *box) {
	b.receive(entityevent.Delivery{Feed: feed, Events: events(5)})
	item := b.take(feed)
	c := entityevent.Commit{
		Feed:    feed,
		Changes: []entityevent.Change{put("5", `{}`)},
		Done:    item,
		Aside:   []entityevent.Setback{{Ref: ref("6"), Kind: "poison"}},
		Docs:    []entityevent.Doc{{Kind: "k", ID: "1", Version: 3, Body: json.RawMessage(`1`)}},
	}
	for range 2 {
		if _, err := b.Apply(b.Context(), c); !errors.Is(err, entityevent.ErrConflict) {
			b.Fatalf("apply: %v", err)
		}
		b.equal("events", len(b.log(feed)), 0)
		b.equal("records", len(b.records(feed, entityevent.Query{Gone: true})), 0)
		b.equal("inbox", b.take(feed), item)
		b.equal("aside", len(b.aside(feed, noDue)), 0)
		b.reopen()
	}
	c.Docs[0].Version = 0
	b.commit(c)
	for range 2 {
		b.equal("events", len(b.log(feed)), 1)
		b.equal("records", len(b.records(feed, entityevent.Query{})), 1)
		b.equal("inbox", len(b.take(feed)), 0)
		b.equal("aside", len(b.aside(feed, noDue)), 1)
		b.reopen()
	}
}

// testCancelledApply: an error means that nothing was stored, and no caller is left waiting.
func testCancelledApply(b *box) {
	ctx, cancel := context.WithCancelCause(b.Context())
	why := errors.New("enough")
	cancel(why)
	_, err := b.Apply(ctx, entityevent.Commit{Feed: feed, Changes: []entityevent.Change{put("x", `{}`)}})
	if !errors.Is(err, why) {
		b.Errorf("a cancelled call returned %v", err)
	}
	const calls = 64
	var wg sync.WaitGroup
	failed := make([]error, calls)
	for n := range calls {
		ctx, cancel := context.WithCancelCause(b.Context())
		wg.Go(func() {
			_, failed[n] = b.Apply(ctx, entityevent.Commit{Feed: feed, Changes: []entityevent.Change{put(fmt.Sprint(n), `{}`)}})
		})
		wg.Go(func() { cancel(why) })
	}
	wg.Wait()
	for n, err := range failed {
		found := len(b.records(feed, entityevent.Query{Keys: []string{fmt.Sprint(n)}}))
		if err != nil && !errors.Is(err, why) || (err == nil) != (found == 1) {
			b.Errorf("call %d returned %v and left %d records", n, err, found)
		}
	}
	b.must(put("afterwards", `{}`))
}
