package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// testWait: a wait ends when there is something for its view, and not for less.
func testWait(b *box) {
	ctx := b.deadline()
	first := b.must(put("0", `{}`)).Sequence
	if err := b.Wait(ctx, everyone(feed), entityevent.EventQuery{}); err != nil {
		b.Fatalf("something exists already: %v", err)
	}
	b.reopen()
	if err := b.Wait(ctx, everyone(feed), entityevent.EventQuery{After: first - 1}); err != nil {
		b.Fatalf("something exists since before the store was opened: %v", err)
	}
	after := first
	for n := range 50 {
		woken := make(chan error, 1)
		go func() { woken <- b.Wait(ctx, everyone(feed), entityevent.EventQuery{After: after}) }()
		b.commit(entityevent.Commit{Feed: "acme", Changes: []entityevent.Change{put(fmt.Sprint(n), `{}`)}})
		b.must(put("0", `{}`)) // nothing changes
		seq := b.must(put(fmt.Sprint("new", n), `{}`)).Sequence
		if err := <-woken; err != nil {
			b.Fatal(err)
		}
		after = seq
	}
	// A position above the head waits for what comes after it.
	woken := make(chan error, 1)
	go func() { woken <- b.Wait(ctx, everyone(feed), entityevent.EventQuery{After: after + 2}) }()
	for n := range 3 {
		b.must(put(fmt.Sprint("more", n), `{}`))
	}
	if err := <-woken; err != nil {
		b.Fatal(err)
	}
}

// testWaitManyViews: whoever is woken finds an event of its view, and everybody is.
func testWaitManyViews(b *box) {
	ctx := b.deadline()
	var wg sync.WaitGroup
	for n := range 200 {
		name := fmt.Sprint("feed", n%10)
		wg.Go(func() {
			if err := b.Wait(ctx, everyone(name), entityevent.EventQuery{}); err != nil {
				b.Errorf("%s: %v", name, err)
				return
			}
			p, err := b.Events(ctx, everyone(name), entityevent.EventQuery{Limit: 1})
			if err != nil || len(p.Events) == 0 {
				b.Errorf("%s: woken for nothing (%v)", name, err)
			}
		})
	}
	for n := range 10 {
		b.commit(entityevent.Commit{Feed: fmt.Sprint("feed", n), Changes: []entityevent.Change{put("1", `{}`)}})
	}
	wg.Wait()
}

// testWaitEnds: at its end a wait says so, and what comes later is nobody's.
func testWaitEnds(b *box) {
	ctx := b.deadline()
	end := make(chan time.Time, 1)
	var waits sync.WaitGroup
	for after := range entityevent.Sequence(3) {
		waits.Go(func() {
			if err := b.Wait(ctx, everyone(feed), entityevent.EventQuery{After: after, End: end}); !errors.Is(err, entityevent.ErrEnded) {
				b.Errorf("a wait at its end returned %v", err)
			}
		})
		end <- time.Now()
		waits.Wait()
	}
	b.must(put("1", `{}`))
	if err := b.Wait(ctx, everyone(feed), entityevent.EventQuery{End: end}); err != nil {
		b.Errorf("something exists already: %v", err)
	}
}

func testCancelledWait(b *box) {
	why := errors.New("enough")
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancelCause(b.Context())
	for range 100 {
		wg.Go(func() {
			if err := b.Wait(ctx, everyone(feed), entityevent.EventQuery{}); !errors.Is(err, why) {
				b.Errorf("a cancelled wait returned %v", err)
			}
		})
	}
	cancel(why)
	wg.Wait()
	b.must(put("1", `{}`))
	if err := b.Wait(b.deadline(), everyone(feed), entityevent.EventQuery{}); err != nil {
		b.Error(err)
	}
}

// testClose: waits end, and later calls say so.
func testClose(b *box) {
	s := b.open(b.T, b.TempDir())
	woken := make(chan error, 1)
	go func() { woken <- s.Wait(b.Context(), everyone(feed), entityevent.EventQuery{}) }()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	if err := <-woken; !errors.Is(err, entityevent.ErrClosed) {
		b.Errorf("a wait at close returned %v", err)
	}
	_, err := s.Apply(b.Context(), entityevent.Commit{Feed: feed, Changes: []entityevent.Change{put("1", `{}`)}})
	if !errors.Is(err, entityevent.ErrClosed) {
		b.Errorf("apply on a closed store returned %v", err)
	}
	if _, err := s.Events(b.Context(), everyone(feed), entityevent.EventQuery{}); !errors.Is(err, entityevent.ErrClosed) {
		b.Errorf("events of a closed store returned %v", err)
	}
}
