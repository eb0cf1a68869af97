package producer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// loopback lets pushes reach the servers of these tests.
func loopback() producer.CallbackDialer {
	return producer.CallbackDialer{AllowCallbacks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
}

func newPusher(t testing.TB, store producer.Store, s *subscriber) *producer.Pusher {
	t.Helper()
	return &producer.Pusher{
		Store: store,
		HTTP:  &http.Client{Transport: s},
		Subscription: producer.Subscription{
			Name: "b", Client: "vendor-b", Mask: entityevent.Everyone, URL: "https://b.example/webhooks/acme?key=hidden-query", Token: "hidden-token", Label: "IDX Feed 123",
		},
	}
}

func TestPushOverTheWire(t *testing.T) {
	store := openStore(t, t.TempDir())
	s := newSubscriber()
	server := httptest.NewServer(s)
	defer server.Close()
	put(t, store, "local", 3) // before the subscription: the first load's part
	subscribed := put(t, store, "local", 1)[0]

	p := newPusher(t, store, s)
	client := loopback().Client()
	p.HTTP, p.Subscription.URL, p.UserAgent = client, server.URL+"/webhooks/acme", "resosync/1.2.3"
	p.Subscription.BatchEvents = 4
	stop := start(t, p)
	waitFor(t, func() bool { states, _ := producer.Subscriptions(t.Context(), store); return len(states) == 1 })

	want := append(put(t, store, "local", 10), put(t, store, "local", 1)...)
	var pushes []pushed
	for n := 0; n < len(want); {
		pushes = append(pushes, s.next(t))
		n += len(pushes[len(pushes)-1].events)
	}
	wantChain(t, subscribed, pushes, want)
	for name, value := range map[string]string{
		"Content-Type":      "application/json",
		"Accept":            "application/hal+json, application/problem+json;q=0.9, application/json;q=0.8",
		"Authorization":     "Bearer hidden-token",
		"EntityEventSource": "IDX Feed 123",
		"ConsumerLabel":     "IDX Feed 123",
		"EntityEvent-Log":   string(store.LogID()) + "/all",
		"User-Agent":        "resosync/1.2.3",
	} {
		if got := pushes[0].header.Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	last := want[len(want)-1]
	waitFor(t, func() bool { return stateOf(t, store, "b").Cursor == last })
	if got := stateOf(t, store, "b"); got.Acknowledged != last || got.Status != producer.Active || got.SucceededAt.IsZero() {
		t.Errorf("%+v", got)
	}
	stop()
	client.CloseIdleConnections()
}

func waitFor(t testing.TB, done func() bool) {
	t.Helper()
	for tick := time.NewTicker(time.Millisecond); !done(); {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("it did not come")
		}
	}
}

// fixed is a log of these events.
type fixed struct {
	producer.Store
	events []entityevent.Event
}

func (f fixed) Events(_ context.Context, _ entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	last := f.events[len(f.events)-1].Sequence
	page := entityevent.Page{Through: last, Head: last}
	for _, e := range f.events {
		if e.Sequence > q.After && len(page.Events) < q.Limit {
			page.Events = append(page.Events, e)
			page.Through = e.Sequence
		}
	}
	return page, nil
}

// The bodies of RCP-28's own examples.
func TestPushGolden(t *testing.T) {
	event := func(seq entityevent.Sequence, resource, key string) entityevent.Event {
		return entityevent.Event{Sequence: seq, Ref: entityevent.Ref{Resource: resource, Key: key}}
	}
	for name, c := range map[string]struct {
		batch  int
		events []entityevent.Event
	}{
		"value": {500, []entityevent.Event{event(1101, "Property", "235021"), event(1111, "Media", "ABC123")}},
		"bare":  {1, []entityevent.Event{event(1101, "Showing", "235021")}},
	} {
		t.Run(name, func(t *testing.T) {
			store := openStore(t, t.TempDir())
			subscribe(t, store, "b")
			s := newSubscriber()
			p := newPusher(t, fixed{store, c.events}, s)
			p.Subscription.BatchEvents = c.batch
			start(t, p)
			golden, err := os.ReadFile("testdata/push/" + name + ".json")
			if err != nil {
				t.Fatal(err)
			}
			var want bytes.Buffer
			if err := json.Compact(&want, golden); err != nil {
				t.Fatal(err)
			}
			if got := s.next(t).body; got != want.String() {
				t.Errorf("%s\nwant %s", got, &want)
			}
		})
	}
}

// Numbers beyond 2^53 are exact in headers and bodies, and gaps between them mean nothing.
func TestPushSequencesAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		want := []entityevent.Sequence{3, 1<<53 + 1, 1<<53 + 3, 1<<62 + 1}
		var events []entityevent.Event
		for _, n := range want {
			events = append(events, entityevent.Event{Sequence: n, Ref: entityevent.Ref{Resource: "Property", Key: n.String()}})
		}
		s := newSubscriber()
		p := newPusher(t, fixed{store, events}, s)
		p.Subscription.BatchEvents = 2
		stop := start(t, p)
		first, second := s.next(t), s.next(t)
		time.Sleep(time.Second)
		stop()
		wantChain(t, 0, []pushed{first, second}, want)
		if first.header.Get("EntityEvent-Through") != "9007199254740993" || !strings.Contains(second.body, `"EntityEventSequence":4611686018427387905,`) {
			t.Errorf("%v %s", first.header, second.body)
		}
		if got := stateOf(t, store, "b"); got.Cursor != want[3] {
			t.Errorf("%+v", got)
		}
	})
}

func TestPushKeepsBatchesSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		want := put(t, store, "local", 100)
		s := newSubscriber()
		p := newPusher(t, store, s)
		p.Subscription.BatchBytes = 1000
		start(t, p)
		synctest.Wait()
		var pushes []pushed
		for len(s.got) > 0 {
			pushes = append(pushes, s.next(t))
			if n := len(pushes[len(pushes)-1].body); n > 1000 {
				t.Errorf("a push has %d bytes", n)
			}
		}
		wantChain(t, 0, pushes, want)
		if len(pushes) > 15 {
			t.Errorf("%d pushes: they are far from full", len(pushes))
		}
	})
}

func TestPushPassesInvisibleEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		s := newSubscriber()
		stop := start(t, newPusher(t, store, s))
		first := put(t, store, "local", 2)
		synctest.Wait()
		put(t, store, "other", 700)
		time.Sleep(time.Minute) // the bubble's clock
		hidden := put(t, store, "other", 1)
		last := put(t, store, "local", 1)
		synctest.Wait()
		stop()
		var pushes []pushed
		for len(s.got) > 0 {
			pushes = append(pushes, s.next(t))
		}
		wantChain(t, 0, pushes, append(first, last...))
		if got := stateOf(t, store, "b"); got.Cursor < hidden[0] {
			t.Errorf("the cursor is %d: it did not pass the invisible events up to %d", got.Cursor, hidden[0])
		}
	})
}

func TestPushComesAgain(t *testing.T) {
	for name, answer := range map[string]reply{
		"reply lost": lost, "silence": silent, "500": status(500), "302": status(302, "Location", "https://elsewhere.example/"), "404": status(404),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := openStore(t, t.TempDir())
				subscribe(t, store, "b")
				want := put(t, store, "local", 5)
				s := newSubscriber(answer, answer)
				start(t, newPusher(t, store, s))
				first, second, third := s.next(t), s.next(t), s.next(t)
				if first.body != second.body || first.after != second.after || first.through != second.through || second.body != third.body {
					t.Errorf("%s\n%s\n%s", first.body, second.body, third.body)
				}
				wantChain(t, 0, []pushed{third}, want)
				synctest.Wait()
				s.none(t)
				time.Sleep(time.Second)
				if got := stateOf(t, store, "b"); got.Attempts != 0 || got.LastError != "" || !got.FailingSince.IsZero() || got.Cursor != want[4] {
					t.Errorf("after the success: %+v", got)
				}
			})
		})
	}
}

// What was read ahead of a push that failed is not pushed in its place.
func TestPushComesAgainBeforeWhatFollows(t *testing.T) {
	for name, answer := range map[string]reply{"reply lost": lost, "500": status(500), "429": status(429), "413": status(413)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := openStore(t, t.TempDir())
				subscribe(t, store, "b")
				want := put(t, store, "local", 50)
				s := newSubscriber(nil, answer, nil, nil, answer)
				p := newPusher(t, store, s)
				p.Subscription.BatchEvents = 5
				start(t, p)
				time.Sleep(time.Minute)
				synctest.Wait()
				var taken []pushed
				for n := 1; len(s.got) > 0; n++ {
					if p := s.next(t); n != 2 && n != 5 {
						taken = append(taken, p)
					}
				}
				wantChain(t, 0, taken, want)
			})
		})
	}
}

// A batch whose answer was lost comes again with what was written meanwhile at its end.
func TestPushComesAgainWithMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		want := put(t, store, "local", 2)
		s := newSubscriber(lost)
		start(t, newPusher(t, store, s))
		s.next(t)
		want = append(want, put(t, store, "local", 2)...)
		wantChain(t, 0, []pushed{s.next(t)}, want)
	})
}

// After a crash at any point pushes may come again; none is skipped.
func TestPushAfterCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		want := put(t, store, "local", 500)
		seen := map[entityevent.Sequence]bool{}
		for round := 1; !seen[want[len(want)-1]]; round++ {
			mortal := &mortal{Store: store}
			s := newSubscriber()
			last, taken := stateOf(t, store, "b").Acknowledged, 0
			s.always = func(_ http.ResponseWriter, _ *http.Request, p pushed) {
				if p.after != last {
					t.Errorf("a push goes on after %d, the one before ended at %d", p.after, last)
				}
				for _, e := range p.events {
					seen[e.Sequence] = true
				}
				last = p.through
				time.Sleep(40 * time.Millisecond) // so that some positions are written and some are not
				if taken++; taken == round {
					mortal.kill()
				}
			}
			p := newPusher(t, mortal, s)
			p.Subscription.BatchEvents = 20
			stop := start(t, p)
			time.Sleep(2 * time.Second)
			stop()
			from := stateOf(t, store, "b").Cursor
			if slices.ContainsFunc(want, func(n entityevent.Sequence) bool { return n <= from && !seen[n] }) {
				t.Fatalf("the cursor is %d, ahead of what was pushed", from)
			}
		}
		for _, n := range want {
			if !seen[n] {
				t.Errorf("%d was skipped", n)
			}
		}
	})
}

// mortal is a store of a process that can be killed: nothing is written or read from then on.
type mortal struct {
	producer.Store
	dead atomic.Bool
}

func (m *mortal) kill() { m.dead.Store(true) }

func (m *mortal) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	if m.dead.Load() {
		return nil, errors.New("killed")
	}
	return m.Store.Apply(ctx, c)
}

func (m *mortal) Get(ctx context.Context, kind, id string) (entityevent.Doc, error) {
	if m.dead.Load() {
		return entityevent.Doc{}, errors.New("killed")
	}
	return m.Store.Get(ctx, kind, id)
}

func TestPushNewSubscriptionBeginsAtTheHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		head := put(t, store, "local", 5)[4]
		s := newSubscriber()
		start(t, newPusher(t, store, s))
		synctest.Wait()
		s.none(t)
		if got := stateOf(t, store, "b"); got.Cursor != head || got.Acknowledged != head || got.Status != producer.Active {
			t.Errorf("%+v, want it at %d", got, head)
		}
		wantChain(t, head, nil, nil)
		want := put(t, store, "local", 1)
		wantChain(t, head, []pushed{s.next(t)}, want)
	})
}

// While pushing, positions are written now and then; when idle, within 100 ms.
func TestPushWritesPositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		counted := &counting{Store: store}
		s := newSubscriber()
		p := newPusher(t, counted, s)
		p.Subscription.BatchEvents = 1
		start(t, p)
		synctest.Wait()
		before := counted.writes.count()
		last := put(t, store, "local", 300)[299]
		synctest.Wait() // no time passes in the bubble while there is something to do
		if n := counted.writes.count() - before; n > 1 {
			t.Errorf("%d writes while pushing", n)
		}
		time.Sleep(110 * time.Millisecond)
		synctest.Wait()
		if got := stateOf(t, store, "b"); got.Cursor != last {
			t.Errorf("110 ms later the position is %d, want %d", got.Cursor, last)
		}
		if n := counted.writes.count() - before; n > 2 {
			t.Errorf("%d writes for one rest", n)
		}
	})
}

type counting struct {
	producer.Store
	writes counter
}

func (c *counting) Apply(ctx context.Context, commit entityevent.Commit) ([]entityevent.Outcome, error) {
	c.writes.next()
	return c.Store.Apply(ctx, commit)
}

func TestPushRefusesWhatCannotWork(t *testing.T) {
	store := openStore(t, t.TempDir())
	for _, sub := range []producer.Subscription{
		{}, {Name: "b"}, {Name: "b", URL: "/webhooks?hidden"}, {Name: "b", URL: "ftp://b.example/?hidden"}, {Name: "b", URL: "https://%zz/?hidden"},
	} {
		err := (&producer.Pusher{Store: store, Subscription: sub}).Run(t.Context())
		if err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%+v: %v", sub, err)
		}
	}
}
