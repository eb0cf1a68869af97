package producer_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// inTurns begins a subscription of a client whose pushes take turns.
func inTurns(t *testing.T, store producer.Store, turns *producer.Turns, client, name string, s *subscriber) *producer.Pusher {
	t.Helper()
	subscribe(t, store, name)
	p := newPusher(t, store, s)
	p.Turns, p.Subscription.Client, p.Subscription.Name, p.Subscription.Timeout, p.Subscription.BatchEvents = turns, client, name, time.Minute, 1
	start(t, p)
	return p
}

// TestTurnsOfTheStuck: pushes that are not answered, of one client or several, leave turns to all others. Those of the same
// client come in order, and have their whole time when they do.
func TestTurnsOfTheStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, turns := openStore(t, t.TempDir()), &producer.Turns{Most: 8}
		put(t, store, entityevent.Local, 1)
		many := func(client string, n int, always reply) *subscriber {
			s := newSubscriber()
			s.always = always
			for i := range n {
				inTurns(t, store, turns, client, fmt.Sprint(client, "-", i), s)
			}
			synctest.Wait()
			return s
		}
		tried := func(client string) (n int) {
			synctest.Wait()
			for i := range 10 {
				if stateOf(t, store, fmt.Sprint(client, "-", i)).Attempts > 0 {
					n++
				}
			}
			return n
		}
		a, b := many("a", 10, silent), many("b", 10, silent)
		if len(a.got) != 4 || len(b.got) != 2 {
			t.Fatalf("%d and %d pushes are under way, want 4 and 2", len(a.got), len(b.got))
		}
		if good := many("good", 100, nil); len(good.got) != 100 {
			t.Errorf("%d of 100 that answer were pushed to", len(good.got))
		}
		time.Sleep(time.Minute)
		if a, b := tried("a"), tried("b"); a != 4 || b != 2 {
			t.Errorf("after their time %d and %d failed, want 4 and 2", a, b)
		}
		time.Sleep(time.Minute - time.Millisecond)
		if a, b := tried("a"), tried("b"); a != 4 || b != 2 {
			t.Errorf("those that came next have failed before their time: %d and %d", a, b)
		}
		time.Sleep(time.Hour)
		if a, b := tried("a"), tried("b"); a != 10 || b != 10 {
			t.Errorf("%d and %d came at last, want all", a, b)
		}
	})
}

// TestTurnsWait: while a push waits for its turn its position is stored, and what is cancelled then is not pushed.
func TestTurnsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, turns := openStore(t, t.TempDir()), &producer.Turns{Most: 2} // one for each client
		events := put(t, store, entityevent.Local, 2)
		slow, stuck := newSubscriber(after(time.Second)), newSubscriber()
		stuck.always = silent
		p := inTurns(t, store, turns, "a", "slow", slow)
		synctest.Wait()
		inTurns(t, store, turns, "a", "stuck", stuck)
		time.Sleep(2 * time.Second)
		slow.next(t)
		stuck.next(t)
		if got := stateOf(t, store, "slow"); got.Cursor != events[0] {
			t.Errorf("it stands at %d while it waits for its turn, want %d", got.Cursor, events[0])
		}
		if _, err := producer.ChangeState(t.Context(), store, "slow", func(s *producer.SubscriptionState) ([]entityevent.Doc, error) {
			s.Cancel("enough")
			return nil, nil
		}); err != nil {
			t.Fatal(err)
		}
		p.Wake()
		time.Sleep(time.Hour)
		slow.none(t)
		free := newSubscriber()
		inTurns(t, store, turns, "b", "free", free)
		free.next(t)
		free.next(t)
	})
}

// after answers after a time.
func after(d time.Duration) reply {
	return func(http.ResponseWriter, *http.Request, pushed) { time.Sleep(d) }
}

// TestConnectionEndsWithItsPush: one that is not there when the push has to end, or that still greets, is given up with it:
// it would take a file beside those of the pushes that come next.
func TestConnectionEndsWithItsPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		put(t, store, entityevent.Local, 1)
		var connecting atomic.Int64
		network := &wire{fails: func(ctx context.Context, address string) error {
			connecting.Add(1)
			if address == "never.example:443" {
				<-ctx.Done()
				connecting.Add(-1)
			}
			return ctx.Err()
		}, peer: func(e *end) {
			e.gone()
			connecting.Add(-1)
		}}
		for _, name := range []string{"never", "silent"} {
			subscribe(t, store, name)
			p := newPusher(t, store, nil)
			p.HTTP, p.Subscription.Name, p.Subscription.URL, p.Subscription.Timeout = network.client(t, nil), name, "https://"+name+".example/", time.Second
			start(t, p)
		}
		synctest.Wait()
		if n := connecting.Load(); n != 2 {
			t.Fatalf("%d connections begin, want 2", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := connecting.Load(); n != 0 {
			t.Errorf("%d connections are left of pushes that ended", n)
		}
	})
}
