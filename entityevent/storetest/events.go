package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// eventFields are what a filter of events may name.
var eventFields = odata.Fields{
	"EntityEventSequence": {Kind: odata.Int}, "ResourceName": {Kind: odata.String}, "ResourceRecordKey": {Kind: odata.String},
}

// filter reads a filter of events.
func (b *box) filter(text string) odata.Expr {
	b.Helper()
	e, err := odata.ParseFilter(text, eventFields)
	if err != nil {
		b.Fatalf("%s: %v", text, err)
	}
	return e
}

var eventFilters = []string{
	"ResourceName eq 'Media'", "ResourceName ne 'Media'", "ResourceName in ('Media','Office')", "ResourceName eq 'media'",
	"ResourceRecordKey eq 'Ä''9'", "contains(ResourceRecordKey,'1')", "startswith(tolower(ResourceRecordKey),'ä')", "endswith(ResourceRecordKey,'%')",
	"not (ResourceName eq 'Media' or contains(ResourceRecordKey,'_'))", "toupper(ResourceName) eq 'MEDIA' and ResourceRecordKey gt '1'",
	"ResourceRecordKey lt ResourceName", "ResourceRecordKey ge 'k' and ResourceRecordKey le 'k2'", "EntityEventSequence in (2,3,5,7,11)",
	"EntityEventSequence ne 3", "EntityEventSequence gt 4.5 or ResourceName eq 'Office'", "not (EntityEventSequence le 9)",
	"ResourceName eq null", "not (ResourceName gt null)", "ResourceName ne null", "true", "false", "contains(ResourceName,'e') eq true",
}

// testEventFilters: whatever the filter, the events are those for which it holds.
func testEventFilters(b *box) {
	for n := range 24 {
		c := put([]string{"k", "1", "Ä'9", "a_b", "50%", "ÄB"}[n%6]+fmt.Sprint(n), `{}`)
		if n%6 == 2 || n%6 == 4 {
			c.Key = c.Key[:len(c.Key)-len(fmt.Sprint(n))]
			c.Body = fmt.Appendf(nil, `{"N":%d}`, n)
		}
		c.Resource = []string{"Property", "Media", "Office", "Media", "Member"}[n%5]
		b.must(c)
	}
	all := b.log(feed)
	for _, text := range eventFilters {
		filter := b.filter(text)
		want := slices.DeleteFunc(slices.Clone(all), func(e entityevent.Event) bool { return !odata.Holds(filter, e.Member) })
		q := entityevent.EventQuery{Filter: filter}
		p := b.page(everyone(feed), q)
		b.equal(text, seqs(p.Events), seqs(want))
		b.equal(text+": through", p.Through, p.Head)
		n, err := b.CountEvents(b.Context(), everyone(feed), q)
		if err != nil || n != int64(len(want)) {
			b.Errorf("%s: counts %d, %v; want %d", text, n, err, len(want))
		}
		var got []entityevent.Sequence // page by page, newest first
		q.Order, q.Limit = entityevent.NewestFirst, 2
		for more := true; more; {
			p := b.page(everyone(feed), q)
			got = append(got, seqs(p.Events)...)
			if len(p.Events) > 2 {
				b.Fatalf("%s: a page of %d", text, len(p.Events))
			}
			more, q.Before = p.More, p.Through
		}
		slices.Reverse(got)
		b.equal(text+": newest first", got, append([]entityevent.Sequence(nil), seqs(want)...))
	}
	n, err := b.CountEvents(b.Context(), everyone(feed), entityevent.EventQuery{After: all[3].Sequence, Before: all[9].Sequence, Limit: 2})
	if err != nil || n != 5 {
		b.Errorf("between two: counts %d, %v", n, err)
	}
	if n, err = b.CountEvents(b.Context(), entityevent.View{Feed: feed, Mask: 2}, entityevent.EventQuery{}); n != 0 || err != nil {
		b.Errorf("a view without events: counts %d, %v", n, err)
	}
}

// testWaitFilter: a wait ends with an event that is asked for, wherever it comes from, and with no other.
func testWaitFilter(b *box) {
	ctx := b.deadline()
	media := func(key string) entityevent.Change {
		c := put(key, `{}`)
		c.Resource = "Media"
		return c
	}
	wanted := b.filter("ResourceName eq 'Media' and contains(ResourceRecordKey,'y')")
	first := b.must(media("yes")).Sequence
	b.must(put("y", `{}`))
	if err := b.Wait(ctx, everyone(feed), entityevent.EventQuery{Filter: wanted}); err != nil {
		b.Fatalf("something exists already: %v", err)
	}
	b.reopen()
	if err := b.Wait(ctx, everyone(feed), entityevent.EventQuery{After: first - 1, Filter: wanted}); err != nil {
		b.Fatalf("something exists since before the store was opened: %v", err)
	}
	for n, c := range []struct {
		above, below entityevent.Sequence // relative to the head
		filter       odata.Expr
		at           entityevent.Sequence // the event that ends the wait; 0: none does
	}{
		{0, 0, wanted, 13}, {4, 0, wanted, 13}, {1000, 0, wanted, 0}, {0, 3, wanted, 0}, {0, 14, wanted, 13}, {10, 12, nil, 11}, {12, 0, nil, 13},
	} {
		q := entityevent.EventQuery{After: first + c.above, Filter: c.filter}
		if c.below > 0 {
			q.Before = first + c.below
		}
		woken := make(chan error, 1)
		waiting, cancel := context.WithCancel(ctx)
		go func() { woken <- b.Wait(waiting, everyone(feed), q) }()
		for k := range entityevent.Sequence(13) {
			select {
			case err := <-woken:
				b.Fatalf("%d: ended by event %d: %v", n, k, err)
			default:
			}
			change := put(fmt.Sprint("y", n, k), `{}`)
			if k == 12 {
				change = media(change.Key)
			}
			b.must(change)
			if k+1 == c.at {
				if err := <-woken; err != nil {
					b.Fatalf("%d: %v", n, err)
				}
				woken <- nil
				break
			}
		}
		cancel()
		if err := <-woken; (err == nil) != (c.at > 0) {
			b.Errorf("%d: %v", n, err)
		}
		first = b.page(everyone(feed), entityevent.EventQuery{}).Head
	}
}

// testWaitRenamed: a wait goes on in a log that has another name.
func testWaitRenamed(b *box) {
	ctx := b.deadline()
	first := b.must(put("0", `{}`)).Sequence
	for _, filter := range []odata.Expr{nil, b.filter("contains(ResourceRecordKey,'new')")} {
		woken := make(chan error, 1)
		go func() { woken <- b.Wait(ctx, everyone(feed), entityevent.EventQuery{After: first, Filter: filter}) }()
		if _, err := b.NewLog(ctx); err != nil {
			b.Fatal(err)
		}
		select {
		case err := <-woken:
			b.Fatalf("a new name is no event: %v", err)
		default:
		}
		next := b.must(put("new"+strings.Repeat("x", int(first%7)), fmt.Sprintf(`{"N":%d}`, first))).Sequence
		if err := <-woken; err != nil {
			b.Fatal(err)
		}
		if p := b.page(everyone(feed), entityevent.EventQuery{After: first, Filter: filter}); len(p.Events) != 1 || p.Events[0].Sequence != next {
			b.Errorf("woken for %v", p.Events)
		}
		first = next
	}
}
