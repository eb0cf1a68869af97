package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/resosync/resosync/entityevent"
)

// testOrder runs writers and readers against each other. Every key is written once, so that no later
// event can repair a lost one. A reader follows the log by Through alone: if a number at or below it
// became visible later, the reader would miss that event and wait for it in vain. Some writers are slow
// over each commit, so that numbers drawn before the transaction would be overtaken.
func testOrder(b *box) {
	const writers, readers, commits = 8, 4, 40
	feeds := []string{feed, "acme"}
	ctx := b.deadline()
	total := map[string]int{}
	for w := range writers {
		for c := range commits {
			total[feeds[w%2]] += 1 + c%3
		}
	}

	var wg sync.WaitGroup
	followed := make([][]entityevent.Event, readers)
	for r := range readers {
		wg.Go(func() { followed[r] = b.follow(ctx, feeds[r%2], total[feeds[r%2]]) })
	}
	for w := range writers {
		body := `{"A":1}`
		if w%4 > 1 {
			body = fmt.Sprintf(`{"A":%q}`, strings.Repeat("x", 200_000))
		}
		wg.Go(func() {
			last := entityevent.Sequence(0)
			for c := range commits {
				var changes []entityevent.Change
				for n := range 1 + c%3 {
					changes = append(changes, put(fmt.Sprintf("%d-%d-%d", w, c, n), body))
				}
				out, err := b.Apply(ctx, entityevent.Commit{Feed: feeds[w%2], Changes: changes})
				if err != nil {
					b.Errorf("apply: %v", err)
					return
				}
				for _, o := range out {
					if o.Err != nil || o.Sequence <= last {
						b.Errorf("sequence %d after %d, %v", o.Sequence, last, o.Err)
					}
					last = o.Sequence
				}
			}
		})
	}
	wg.Wait()
	for r := range readers {
		b.equal(fmt.Sprintf("reader %d", r), followed[r], b.log(feeds[r%2]))
	}
	b.reopen()
	for r := range readers {
		b.equal("after reopening", b.log(feeds[r%2]), followed[r])
	}
	numbers := map[entityevent.Sequence]bool{}
	for _, e := range append(b.log(feeds[0]), b.log(feeds[1])...) {
		if numbers[e.Sequence] {
			b.Errorf("number %d was given out twice", e.Sequence)
		}
		numbers[e.Sequence] = true
	}
}

// follow reads a feed until it has seen so many events.
func (b *box) follow(ctx context.Context, feed string, total int) []entityevent.Event {
	var all []entityevent.Event
	after := entityevent.Sequence(0)
	for len(all) < total {
		p, err := b.Events(ctx, everyone(feed), entityevent.EventQuery{After: after, Limit: 5, Times: true})
		if err != nil {
			b.Errorf("after %d of %d events of %s: %v", len(all), total, feed, err)
			break
		}
		for _, e := range p.Events {
			if e.Sequence <= after || e.Sequence > p.Through {
				b.Errorf("event %d in a page over (%d, %d]", e.Sequence, after, p.Through)
			}
		}
		if p.Through > p.Head || p.Through < after || p.More && len(p.Events) == 0 {
			b.Errorf("page after %d: through %d, head %d, more %v", after, p.Through, p.Head, p.More)
		}
		all = append(all, p.Events...)
		after = p.Through
		if len(all) < total && !p.More {
			if err := b.Wait(ctx, everyone(feed), entityevent.EventQuery{After: after}); err != nil {
				b.Errorf("waiting at %d with %d of %d events of %s: %v", after, len(all), total, feed, err)
				break
			}
		}
	}
	return all
}

func testReadYourWrites(b *box) {
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := range 20 {
				key := fmt.Sprintf("%d-%d", w, n)
				out, err := b.Apply(b.Context(), entityevent.Commit{Feed: feed, Changes: []entityevent.Change{put(key, `{}`)}})
				if err != nil {
					b.Errorf("apply: %v", err)
					return
				}
				p, err := b.Events(b.Context(), everyone(feed), entityevent.EventQuery{After: out[0].Sequence - 1, Limit: 1, Times: true})
				if err != nil || len(p.Events) != 1 || p.Events[0].Key != key || p.Events[0].At.IsZero() {
					b.Errorf("the event of %s is not there: %v, %v", key, p.Events, err)
				}
				for r, err := range b.Read(b.Context(), everyone(feed), entityevent.Query{Resource: "Property", Keys: []string{key}}) {
					if err != nil || r.Version != out[0].Sequence || r.Hash != out[0].Hash {
						b.Errorf("record %s at %d: %v, %v", key, out[0].Sequence, r, err)
					}
				}
			}
		})
	}
	wg.Wait()
}

// testOneCounter: the numbers of one store are unique across its feeds, never given out again after a
// reopen or a removal, and a refused commit leaves at most a gap.
func testOneCounter(b *box) {
	first := b.must(put("1", `{}`)).Sequence
	if first <= 0 {
		b.Fatalf("the first sequence is %d", first)
	}
	other := b.commit(entityevent.Commit{Feed: "acme", Changes: []entityevent.Change{put("1", `{}`)}})[0].Sequence
	gone := b.must(remove("1")).Sequence
	id := b.LogID()
	if id == "" {
		b.Error("the log has no name")
	}
	b.reopen()
	if b.LogID() != id {
		b.Errorf("the log's name changed from %s to %s", id, b.LogID())
	}
	again := b.must(put("1", `{}`)).Sequence
	got := list(first, other, gone, again)
	if !slices.IsSorted(got) || len(slices.Compact(got)) != 4 {
		b.Errorf("sequences %v", got)
	}
	b.equal("events", seqs(b.log(feed)), list(first, gone, again))
	b.equal("events of the other feed", seqs(b.log("acme")), list(other))
	b.equal("head", b.page(everyone("nobody"), entityevent.EventQuery{}).Head, again)
}

func testPages(b *box) {
	var all []entityevent.Sequence
	for n := range 25 {
		c := put(fmt.Sprint(n), `{}`)
		if n%5 == 0 {
			c.Resource = "Media"
		}
		all = append(all, b.must(c).Sequence)
	}
	head := all[24]
	p := b.page(everyone(feed), entityevent.EventQuery{After: all[4], Limit: 10})
	b.equal("page", seqs(p.Events), all[5:15])
	b.equal("through", p.Through, all[14])
	b.equal("more", p.More, true)

	p = b.page(everyone(feed), entityevent.EventQuery{After: all[14], Limit: 10})
	b.equal("the last page", seqs(p.Events), all[15:])
	b.equal("its through", p.Through, head)
	b.equal("its more", p.More, false)

	p = b.page(everyone(feed), entityevent.EventQuery{Filter: b.filter("ResourceName eq 'Media'")})
	b.equal("of one resource", seqs(p.Events), list(all[0], all[5], all[10], all[15], all[20]))
	b.equal("its through", p.Through, head)
	p = b.page(everyone(feed), entityevent.EventQuery{Filter: b.filter("ResourceName in ('Media','Property')"), Limit: 3})
	b.equal("of two resources", seqs(p.Events), all[:3])

	p = b.page(everyone(feed), entityevent.EventQuery{After: all[2], Before: all[6]})
	b.equal("between", seqs(p.Events), all[3:6])
	b.equal("its through", p.Through, all[6]-1)

	p = b.page(everyone(feed), entityevent.EventQuery{After: head})
	b.equal("beyond the head", len(p.Events), 0)
	b.equal("its through", p.Through, head)
	p = b.page(everyone("nobody"), entityevent.EventQuery{})
	b.equal("a feed without events", len(p.Events), 0)
	b.equal("its through", p.Through, head)
	p = b.page(entityevent.View{Feed: feed, Mask: 2}, entityevent.EventQuery{})
	b.equal("a view without events", len(p.Events), 0)
	b.equal("its through", p.Through, head)

	p = b.page(everyone(feed), entityevent.EventQuery{})
	b.equal("default limit", len(p.Events), 25)
}

func testPagesBackwards(b *box) {
	var all []entityevent.Sequence
	for n := range 10 {
		all = append(all, b.must(put(fmt.Sprint(n), `{}`)).Sequence)
	}
	slices.Reverse(all)
	q := entityevent.EventQuery{Order: entityevent.NewestFirst, Limit: 4}
	var got []entityevent.Sequence
	for {
		p := b.page(everyone(feed), q)
		got = append(got, seqs(p.Events)...)
		if !p.More {
			b.equal("the last through", p.Through, entityevent.Sequence(1))
			break
		}
		b.equal("through", p.Through, got[len(got)-1])
		q.Before = p.Through
	}
	b.equal("newest first", got, all)
	p := b.page(everyone(feed), entityevent.EventQuery{Order: entityevent.NewestFirst, After: all[3]})
	b.equal("above a position", seqs(p.Events), all[:3])
}
