package entityevent_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func view(feed string, m entityevent.Mask) entityevent.View {
	return entityevent.View{Feed: feed, Mask: m}
}

// start waits in a goroutine and returns a function that says whether the wait has ended, and how.
func start(ctx context.Context, n *entityevent.Notifier, v entityevent.View, after entityevent.Sequence) func() (bool, error) {
	return startFor(ctx, n, v, entityevent.EventQuery{After: after})
}

func startFor(ctx context.Context, n *entityevent.Notifier, v entityevent.View, q entityevent.EventQuery) func() (bool, error) {
	done := make(chan error, 1)
	go func() {
		_, err := n.Wait(ctx, v, q)
		done <- err
	}()
	return func() (bool, error) {
		synctest.Wait()
		select {
		case err := <-done:
			return true, err
		default:
			return false, nil
		}
	}
}

func TestNotifierMatches(t *testing.T) {
	notice := func(feed string, s entityevent.Sequence, m entityevent.Mask) []entityevent.Notice {
		return []entityevent.Notice{{Feed: feed, Sequence: s, Views: m}}
	}
	for _, c := range []struct {
		name  string
		view  entityevent.View
		after entityevent.Sequence
		news  []entityevent.Notice
		woken bool
	}{
		{"its feed", view("a", 1), 0, notice("a", 1, 1), true},
		{"another feed", view("a", 1), 0, notice("b", 1, 1), false},
		{"another mask", view("a", 2), 0, notice("a", 1, 5), false},
		{"one bit of two", view("a", 6), 0, notice("a", 1, 5), true},
		{"the last bit", view("a", 1<<62), 0, notice("a", 1, 1<<62|1), true},
		{"at the position", view("a", 1), 5, notice("a", 5, 1), false},
		{"above the position", view("a", 1), 5, notice("a", 6, 1), true},
		{"the second of two feeds", view("b", 1), 0, append(notice("a", 1, 1), notice("b", 2, 1)...), true},
		{"a feed between two others", view("b", 1), 0, append(notice("a", 1, 1), append(notice("b", 2, 1), notice("a", 3, 1)...)...), true},
		{"nothing", view("a", 1), 0, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n entityevent.Notifier
				defer n.Close()
				ended := start(t.Context(), &n, c.view, c.after)
				if woken, err := ended(); woken {
					t.Fatalf("ended before the event: %v", err)
				}
				n.Publish(c.news)
				if woken, err := ended(); woken != c.woken || err != nil {
					t.Errorf("woken %v, %v", woken, err)
				}
				// Who comes later gets the same answer without anything new.
				if woken, err := start(t.Context(), &n, c.view, c.after)(); woken != c.woken || err != nil {
					t.Errorf("afterwards: woken %v, %v", woken, err)
				}
			})
		})
	}
}

// TestNotifierFilters: who waits for some events is woken by these alone, and is told what it must look for
// in the log itself.
func TestNotifierFilters(t *testing.T) {
	at := func(s entityevent.Sequence, resource, key string) entityevent.Notice {
		return entityevent.Notice{Feed: "a", Sequence: s, Ref: entityevent.Ref{Resource: resource, Key: key}, Views: 1 + entityevent.Mask(s%2)*2}
	}
	all := []entityevent.Notice{at(1, "Property", "1"), at(2, "Property", "2"), at(3, "Media", "2"), at(4, "Property", `O'"N`)}
	for _, c := range []struct {
		filter string
		mask   entityevent.Mask
		after  entityevent.Sequence
		before entityevent.Sequence
		woken  bool
	}{
		{"ResourceName eq 'Media'", 1, 0, 0, true},
		{"ResourceName eq 'Media'", 2, 0, 0, true},
		{"ResourceName eq 'Media'", 4, 0, 0, false},
		{"ResourceName eq 'Media'", 1, 3, 0, false},
		{"ResourceName eq 'Media'", 1, 0, 3, false},
		{"ResourceName eq 'Media'", 1, 2, 4, true},
		{"ResourceName eq 'Office'", 1, 0, 0, false},
		{"ResourceName in ('Office','Property')", 1, 3, 0, true},
		{"ResourceRecordKey eq '2' and ResourceName eq 'Property'", 1, 0, 0, true},
		{"ResourceRecordKey eq '2' and ResourceName eq 'Property'", 2, 0, 0, false},
		{"ResourceRecordKey eq '3' and ResourceName eq 'Property'", 1, 0, 0, false},
		{"ResourceRecordKey eq 'O''\"N'", 1, 0, 0, true},
		{"not (EntityEventSequence le 3)", 1, 0, 0, true},
		{"not (EntityEventSequence le 4)", 1, 0, 0, false},
		{"ResourceName eq null", 1, 0, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			filter, err := odata.ParseFilter(c.filter, nil)
			if err != nil {
				t.Fatal(err)
			}
			var n entityevent.Notifier
			defer n.Close()
			q := entityevent.EventQuery{After: c.after, Before: c.before, Filter: filter}
			ended := startFor(t.Context(), &n, view("a", c.mask), q)
			synctest.Wait()
			n.Publish(all)
			if woken, err := ended(); woken != c.woken || err != nil {
				t.Errorf("%+v: woken %v, %v", c, woken, err)
			}
			if c.after >= 4 || c.mask == 4 {
				return
			}
			// Who comes later must look: the notifier does not know them all any more.
			if published, err := n.Wait(t.Context(), view("a", c.mask), q); published || err != nil {
				t.Errorf("%+v: afterwards: %v, %v", c, published, err)
			}
		})
	}
}

// TestNotifierLosesNothing: a follower that reads up to a position and then waits there never sleeps
// through an event that came between.
func TestNotifierLosesNothing(t *testing.T) {
	const total, followers = 5000, 8
	var n entityevent.Notifier
	var wg sync.WaitGroup
	for range followers {
		wg.Go(func() {
			for after := entityevent.Sequence(0); after < total; after++ {
				if _, err := n.Wait(t.Context(), view("a", 3), entityevent.EventQuery{After: after}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for s := range entityevent.Sequence(total) {
		n.Publish([]entityevent.Notice{{Feed: "a", Sequence: s + 1, Views: 1 + entityevent.Mask(s%2)}})
	}
	wg.Wait()
	if left := n.Waiting(); left != 0 {
		t.Errorf("%d are left", left)
	}
}

func TestNotifierCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n entityevent.Notifier
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		var ends []func() (bool, error)
		for range 100 {
			ends = append(ends, start(ctx, &n, view("a", 1), 0), start(ctx, &n, view("b", 2), 0))
		}
		stays := start(t.Context(), &n, view("a", 1), 0)
		synctest.Wait()
		if got := n.Waiting(); got != 201 {
			t.Fatalf("%d are waiting", got)
		}
		cancel(why)
		for _, end := range ends {
			if woken, err := end(); !woken || !errors.Is(err, why) {
				t.Fatalf("woken %v, %v", woken, err)
			}
		}
		if got := n.Waiting(); got != 1 {
			t.Errorf("%d are left waiting", got)
		}
		if woken, _ := stays(); woken {
			t.Error("the others' end woke one that stays")
		}
		n.Publish([]entityevent.Notice{{Feed: "a", Sequence: 1, Views: 1}})
		if woken, err := stays(); !woken || err != nil {
			t.Errorf("the one that stays: woken %v, %v", woken, err)
		}
	})
}

func TestNotifierClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n entityevent.Notifier
		ended := start(t.Context(), &n, view("a", 1), 0)
		synctest.Wait()
		n.Close()
		if woken, err := ended(); !woken || !errors.Is(err, entityevent.ErrClosed) {
			t.Errorf("woken %v, %v", woken, err)
		}
		if _, err := n.Wait(t.Context(), view("a", 1), entityevent.EventQuery{}); !errors.Is(err, entityevent.ErrClosed) {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// BenchmarkNotifier publishes to 10,000 waiters who may not see the event.
func BenchmarkNotifier(b *testing.B) {
	var n entityevent.Notifier
	var wg sync.WaitGroup
	for i := range 10_000 {
		wg.Go(func() { n.Wait(b.Context(), view("a", 2<<(i%60)), entityevent.EventQuery{}) })
	}
	for n.Waiting() < 10_000 {
	}
	news := []entityevent.Notice{{Feed: "a", Sequence: 1, Views: 1}}
	for b.Loop() {
		n.Publish(news)
	}
	n.Close()
	wg.Wait()
}

// BenchmarkNotifierFilters publishes a full transaction to 200 filters that nothing matches.
func BenchmarkNotifierFilters(b *testing.B) {
	var n entityevent.Notifier
	var wg sync.WaitGroup
	for i := range 200 {
		filter, err := odata.ParseFilter(fmt.Sprintf("ResourceName eq 'Media' and ResourceRecordKey eq '%d'", i), nil)
		if err != nil {
			b.Fatal(err)
		}
		wg.Go(func() { n.Wait(b.Context(), view("a", 1), entityevent.EventQuery{After: 1 << 40, Filter: filter}) })
	}
	for n.Waiting() < 200 {
	}
	news := make([]entityevent.Notice, 1000)
	for i := range news {
		news[i] = entityevent.Notice{Feed: "a", Sequence: 1<<40 + entityevent.Sequence(i) + 1, Views: 1, Ref: entityevent.Ref{Resource: "Property", Key: "k"}}
	}
	for b.Loop() {
		n.Publish(news)
	}
	n.Close()
	wg.Wait()
}
