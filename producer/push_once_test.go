package producer_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// onceOnly is a pusher of the one delivery.
func onceOnly(t *testing.T, store producer.Store, s *subscriber) *producer.Pusher {
	p := newPusher(t, store, s)
	p.Subscription.Mode = producer.OnlyOnce
	return p
}

// wantOver fails unless the subscription is cancelled with its one delivery, and nothing more is pushed, whatever happens.
func wantOver(t *testing.T, store producer.Store, last entityevent.Sequence) {
	t.Helper()
	put(t, store, entityevent.Local, 1)
	s := newSubscriber()
	if err := onceOnly(t, store, s).Run(t.Context()); err != nil {
		t.Error(err)
	}
	s.none(t)
	got := stateOf(t, store, "b")
	if got.Status != producer.Cancelled || got.Cursor != last || got.Acknowledged != last || !strings.Contains(got.Reason, "acknowledged, through "+last.String()) {
		t.Errorf("%+v", got)
	}
}

// The status line acknowledges: who is stopped while the rest of the answer comes has delivered, and is over.
func TestPushOnlyOnceStoppedInTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		last := put(t, store, entityevent.Local, 2)[1]
		slow := &wire{peer: drips("HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n", "x", time.Second)}
		p := onceOnly(t, store, nil)
		p.HTTP, p.Subscription.URL = slow.client(t, nil), "http://b.example/hook"
		stop := start(t, p)
		time.Sleep(5 * time.Second)
		if len(slow.tried()) != 1 || stateOf(t, store, "b").Status != producer.Active {
			t.Fatalf("%d pushes, %+v", len(slow.tried()), stateOf(t, store, "b"))
		}
		stop()
		wantOver(t, store, last)
	})
}

// counted is a store whose process is killed before its nth commit from here on, or that refuses that one alone.
type counted struct {
	producer.Store
	counter
	nth    int64
	killed bool
}

func (c *counted) Apply(ctx context.Context, commit entityevent.Commit) ([]entityevent.Outcome, error) {
	if n := c.counter.next(); n == c.nth || n > c.nth && c.killed {
		return nil, entityevent.ErrUnavailable
	}
	return c.Store.Apply(ctx, commit)
}

// Whichever commit is the first that a killed process does not make, or the only one that the store refuses: all pushes are
// the same delivery, whose end was stored before.
func TestPushOnlyOnceBetweenCommits(t *testing.T) {
	for _, killed := range []bool{false, true} {
		for nth := range int64(6) {
			t.Run(fmt.Sprintf("killed %v, commit %d", killed, nth+1), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := openStore(t, t.TempDir())
					subscribe(t, store, "b")
					put(t, store, entityevent.Local, 3)
					s := newSubscriber(status(500), lost)
					s.always = func(_ http.ResponseWriter, _ *http.Request, p pushed) {
						if got := stateOf(t, store, "b"); got.BatchEnd != p.through {
							t.Errorf("tried through %d, stored %+v", p.through, got)
						}
					}
					stop := start(t, onceOnly(t, &counted{Store: store, nth: nth + 1, killed: killed}, s))
					time.Sleep(time.Hour)
					put(t, store, entityevent.Local, 1)
					time.Sleep(time.Hour)
					stop()
					if err := onceOnly(t, store, s).Run(t.Context()); err != nil {
						t.Error(err)
					}
					first := s.next(t)
					for len(s.got) > 0 {
						if again := s.next(t); again.body != first.body || again.through != first.through {
							t.Errorf("through %d, and then through %d: %s", first.through, again.through, again.body)
						}
					}
					last := first.through
					wantOver(t, store, last)
				})
			})
		}
	}
}

// A state from which only the cancellation is missing is that of a delivery that was acknowledged.
func TestPushOnlyOnceDeliveredBefore(t *testing.T) {
	store := openStore(t, t.TempDir())
	last := put(t, store, entityevent.Local, 2)[1]
	doc := entityevent.Doc{Kind: producer.SubscriptionKind, ID: "b",
		Body: fmt.Appendf(nil, `{"name":"b","status":"active","cursor":%d,"acknowledged":%[1]d,"batch_end":%[1]d}`, last)}
	if _, err := store.Apply(t.Context(), entityevent.Commit{Docs: []entityevent.Doc{doc}}); err != nil {
		t.Fatal(err)
	}
	wantOver(t, store, last)
}

// What was forgotten before it was delivered is not delivered: the end of that delivery is none.
func TestPushOnlyOnceForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		began := put(t, store, entityevent.Local, 1)[0]
		s := newSubscriber(status(500))
		p := onceOnly(t, store, s)
		doc, err := producer.NewState(p.Subscription, began)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Apply(t.Context(), entityevent.Commit{Docs: []entityevent.Doc{doc}}); err != nil {
			t.Fatal(err)
		}
		gone := entityevent.Ref{Resource: "Property", Key: "gone"}
		for _, change := range []entityevent.Change{{Ref: gone, Body: []byte(`{}`)}, {Ref: gone, Op: entityevent.Remove}} {
			if _, err := store.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{change}}); err != nil {
				t.Fatal(err)
			}
		}
		stop := start(t, p)
		s.next(t)
		synctest.Wait()
		stop()
		floor := forget(t, store)
		stop = start(t, onceOnly(t, store, s))
		time.Sleep(time.Minute)
		stop()
		if got := stateOf(t, store, "b"); got.Status != producer.Suspended || got.Cursor != floor {
			t.Fatalf("%+v", got)
		}
		last := put(t, store, entityevent.Local, 1)
		if err := producer.Resume(t.Context(), store, "b"); err != nil {
			t.Fatal(err)
		}
		if err := onceOnly(t, store, s).Run(t.Context()); err != nil {
			t.Error(err)
		}
		if got := of(s.next(t)); fmt.Sprint(got) != fmt.Sprint(last) {
			t.Errorf("%v, want %v", got, last)
		}
		wantOver(t, store, last[0])
	})
}

// What answers make of the one delivery: the same rules as for all others, and the first acknowledgement ends it.
func TestPushOnlyOnceTruthTable(t *testing.T) {
	for code, want := range map[int]string{
		200: "cancelled", 202: "cancelled", 204: "cancelled", 299: "cancelled",
		302: "again", 308: "again", 400: "again", 404: "again", 409: "again", 500: "again", 502: "again",
		401: "again", 403: "again", 429: "again", 503: "again",
		413: "halved", 410: "suspended",
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := openStore(t, t.TempDir())
				subscribe(t, store, "b")
				last := put(t, store, entityevent.Local, 2)[1]
				s := newSubscriber(status(code, "Retry-After", "60"))
				start(t, onceOnly(t, store, s))
				first := s.next(t)
				synctest.Wait()
				put(t, store, entityevent.Local, 1)
				time.Sleep(time.Hour)
				state := stateOf(t, store, "b")
				switch want {
				case "cancelled", "suspended":
					s.none(t)
					if string(state.Status) != want || (state.Acknowledged == last) != (want == "cancelled") {
						t.Errorf("%+v", state)
					}
					return
				case "halved":
					last--
				}
				again := s.next(t)
				s.none(t)
				if again.through != last || again.after != first.after || want == "again" && again.body != first.body {
					t.Errorf("through %d, and again through %d, want %d", first.through, again.through, last)
				}
				if state.Status != producer.Cancelled || state.Acknowledged != last {
					t.Errorf("%+v", state)
				}
			})
		})
	}
}
