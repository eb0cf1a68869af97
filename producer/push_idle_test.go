package producer_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// touched counts every call of a store but Wait.
type touched struct {
	producer.Store
	calls, waits atomic.Int64
}

func (s *touched) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	s.calls.Add(1)
	return s.Store.Events(ctx, v, q)
}

func (s *touched) Get(ctx context.Context, kind, id string) (entityevent.Doc, error) {
	s.calls.Add(1)
	return s.Store.Get(ctx, kind, id)
}

func (s *touched) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	s.calls.Add(1)
	return s.Store.Apply(ctx, c)
}

func (s *touched) Wait(ctx context.Context, v entityevent.View, q entityevent.EventQuery) error {
	s.waits.Add(1)
	return s.Store.Wait(ctx, v, q)
}

// A thousand subscriptions for which nothing happens ask the store for nothing in a day, though others are busy: some have
// nothing to push, some are not asked for what happens, some are halted, some suspended.
func TestPushIdleCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		idle := &touched{Store: store}
		const each = 250
		halts, gone := newSubscriber(), newSubscriber()
		halts.always, gone.always = status(429, "Retry-After", "86400"), status(410)
		quiet := newSubscriber()
		begin := func(name, feed string, s *subscriber, from entityevent.Sequence, types ...string) {
			p := newPusher(t, idle, s)
			p.Subscription.Name, p.Subscription.Feed, p.Subscription.EventTypes = name, feed, types
			doc, err := producer.NewState(p.Subscription, from)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := store.Apply(t.Context(), entityevent.Commit{Docs: []entityevent.Doc{doc}}); err != nil {
				t.Fatal(err)
			}
			start(t, p)
		}
		head := put(t, store, entityevent.Local, 3)[2]
		for i := range each {
			begin(fmt.Sprint("other feed ", i), "other", quiet, head)
			begin(fmt.Sprint("other types ", i), entityevent.Local, quiet, head, "Media", "Member")
			begin(fmt.Sprint("halted ", i), entityevent.Local, halts, 0)
			begin(fmt.Sprint("suspended ", i), entityevent.Local, gone, 0)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(halts.got) != each || len(gone.got) != each {
			t.Fatalf("%d are halted, %d suspended", len(halts.got), len(gone.got))
		}

		busy := newSubscriber()
		p := newPusher(t, store, busy)
		p.Subscription.Name = "busy"
		start(t, p)
		synctest.Wait()
		before, waits := idle.calls.Load(), idle.waits.Load()
		for range 23 {
			put(t, store, entityevent.Local, 10)
			time.Sleep(time.Hour)
		}
		synctest.Wait()
		if calls, again := idle.calls.Load()-before, idle.waits.Load()-waits; calls != 0 || again != 0 || len(busy.got) == 0 {
			t.Errorf("%d calls of the store, %d new waits, in a day of idleness", calls, again)
		}
		quiet.none(t)

		// And they are there still.
		write(t, store, "Media")
		for range each {
			quiet.next(t)
		}
	})
}

// Memory is all that idle subscriptions cost: each takes as much as a few goroutines that do nothing but wait.
func TestPushIdleMemory(t *testing.T) {
	const many = 1000
	measure := func(begin func(i int) (end func())) uint64 {
		used := func() uint64 {
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapInuse + m.StackInuse
		}
		before := used()
		var ends []func()
		for i := range many {
			ends = append(ends, begin(i))
		}
		after := used()
		for _, end := range ends {
			end()
		}
		return (max(after, before) - before) / many
	}
	bare := measure(func(int) func() {
		ended, wait := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			<-wait
		}()
		return func() { close(wait); <-ended }
	})
	store := openStore(t, t.TempDir())
	head := put(t, store, entityevent.Local, 1)[0]
	waiting := &touched{Store: store}
	s := newSubscriber()
	client := &http.Client{Transport: s}
	one := measure(func(i int) func() {
		p := newPusher(t, waiting, s)
		p.HTTP, p.Subscription.Name = client, fmt.Sprint("s", i)
		doc, err := producer.NewState(p.Subscription, head)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Apply(t.Context(), entityevent.Commit{Docs: []entityevent.Doc{doc}}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() {
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		waitFor(t, func() bool { return waiting.waits.Load() > int64(i) })
		return func() { stop(); running.Wait() }
	})
	t.Logf("an idle subscription takes %d bytes, a goroutine that waits %d", one, bare)
	if one > 16*max(bare, 2048) {
		t.Errorf("an idle subscription takes %d bytes, more than 16 goroutines that wait take (%d each)", one, bare)
	}
}

// A suspended subscription waits for Wake alone, and then takes over what was changed.
func TestPushSuspendedWaitsForWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		want := put(t, store, entityevent.Local, 2)
		s := newSubscriber(status(410))
		p := newPusher(t, store, s)
		start(t, p)
		s.next(t)
		synctest.Wait()
		if err := producer.Resume(t.Context(), store, "b"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Hour)
		s.none(t)
		woken := time.Now()
		p.Wake()
		again := s.next(t)
		if !again.at.Equal(woken) {
			t.Errorf("went on %v after Wake", again.at.Sub(woken))
		}
		wantChain(t, 0, []pushed{again}, want)
	})
}

// Who waited at the end of the log while events were forgotten that were not for it misses none, however old its position is.
func TestPushIdleMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		s := newSubscriber()
		p := newPusher(t, store, s)
		p.Subscription.EventTypes = []string{"Media"}
		start(t, p)
		synctest.Wait() // it begins at the head
		write(t, store, "Media")
		s.next(t)
		time.Sleep(time.Second)
		write(t, store, "Member") // what the position is above from here on would be forgotten
		gone := entityevent.Ref{Resource: "Property", Key: "gone"}
		for _, change := range []entityevent.Change{{Ref: gone, Body: []byte(`{}`)}, {Ref: gone, Op: entityevent.Remove}} {
			if _, err := store.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{change}}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(48 * time.Hour)
		if _, err := store.Compact(t.Context(), entityevent.Compaction{Forget: time.Now().Add(-24 * time.Hour)}); err != nil {
			t.Fatal(err)
		}
		last := write(t, store, "Media")
		if got := of(s.next(t)); len(got) != 1 || got[0] != last[0] {
			t.Errorf("%v, want %v", got, last)
		}
		time.Sleep(time.Second)
		if got := stateOf(t, store, "b"); got.Status != producer.Active || got.Cursor < last[0] {
			t.Errorf("%+v", got)
		}
	})
}
