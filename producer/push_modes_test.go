package producer_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// write stores new records of these resources, one after another.
func write(t testing.TB, store entityevent.Log, resources ...string) []entityevent.Sequence {
	t.Helper()
	var c entityevent.Commit
	c.Feed = entityevent.Local
	for _, resource := range resources {
		c.Changes = append(c.Changes, entityevent.Change{
			Ref: entityevent.Ref{Resource: resource, Key: fmt.Sprint(keys.next())}, Body: []byte(`{}`),
		})
	}
	outcomes, err := store.Apply(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	var sequences []entityevent.Sequence
	for _, o := range outcomes {
		sequences = append(sequences, o.Sequence)
	}
	return sequences
}

// of are the sequences of pushes.
func of(pushes ...pushed) (sequences []entityevent.Sequence) {
	for _, p := range pushes {
		for _, e := range p.events {
			sequences = append(sequences, e.Sequence)
		}
	}
	return sequences
}

// A push of some event types alone promises nothing of those in between; who gets all of them has the promise.
func TestPushOfSomeEventTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		s := newSubscriber()
		p := newPusher(t, store, s)
		p.Subscription.EventTypes = []string{"Member", "O'Neil"}
		p.Subscription.BatchEvents = 3
		stop := start(t, p)
		want := write(t, store, "Property", "Member", "Media", "O'Neil", "Property", "Member", "Member", "Property")
		want = []entityevent.Sequence{want[1], want[3], want[5], want[6]}
		first, second := s.next(t), s.next(t)
		if got := of(first, second); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		for _, p := range []pushed{first, second} {
			for _, name := range []string{"EntityEvent-After", "EntityEvent-Through"} {
				if p.header.Values(name) != nil {
					t.Errorf("it has %s", name)
				}
			}
			if p.header.Get("EntityEvent-Log") != string(store.LogID())+"/all" {
				t.Error(p.header)
			}
		}
		synctest.Wait()
		write(t, store, "Property", "Media")
		time.Sleep(time.Hour)
		s.none(t)
		last := write(t, store, "Property", "Member")
		if got := of(s.next(t)); len(got) != 1 || got[0] != last[1] {
			t.Errorf("got %v, want %d", got, last[1])
		}
		stop()
		if got := stateOf(t, store, "b"); got.Cursor < last[1] {
			t.Errorf("%+v", got)
		}
	})
}

// The end of the one delivery is stored before it is first tried. Until it is taken the same comes again, over a crash and a
// resumption too, whatever happens to the log; then the subscription is cancelled, in the write of its position.
func TestPushOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		store := openStore(t, dir)
		subscribe(t, store, "b")
		want := put(t, store, entityevent.Local, 3)
		process := &mortal{Store: store}
		once := func(store producer.Store, s *subscriber) *producer.Pusher {
			p := newPusher(t, store, s)
			p.Subscription.Mode, p.Subscription.Secret = producer.OnlyOnce, "a secret of bytes"
			return p
		}
		s := newSubscriber(status(500))
		s.always = func(_ http.ResponseWriter, _ *http.Request, p pushed) {
			if got := stateOf(t, store, "b"); got.BatchEnd != p.through {
				t.Errorf("tried through %d, stored %+v", p.through, got)
			}
			process.kill() // it is taken, and nobody knows
		}
		stop := start(t, once(process, s))
		first := s.next(t)
		put(t, store, entityevent.Local, 4)
		second := s.next(t)
		synctest.Wait()
		stop()
		if got := stateOf(t, store, "b"); got.Status != producer.Active || got.Cursor != 0 {
			t.Fatalf("%+v", got)
		}

		s = newSubscriber(lost, status(410))
		store = openStore(t, dir)
		p := once(store, s)
		ended := make(chan error, 1)
		go func() { ended <- p.Run(t.Context()) }()
		third, fourth := s.next(t), s.next(t)
		time.Sleep(100 * time.Hour)
		s.none(t)
		put(t, store, entityevent.Local, 1)
		if err := producer.Resume(t.Context(), store, "b"); err != nil {
			t.Fatal(err)
		}
		p.Wake()
		fifth := s.next(t)
		for i, again := range []pushed{second, third, fourth, fifth} {
			if again.body != first.body || again.after != first.after || again.through != first.through || again.header.Get("webhook-id") != first.header.Get("webhook-id") {
				t.Errorf("repeat %d: %v %s\nfirst: %v %s", i+1, again.header, again.body, first.header, first.body)
			}
		}
		wantChain(t, 0, []pushed{fifth}, want)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		got := stateOf(t, store, "b")
		if got.Status != producer.Cancelled || got.Cursor != want[2] || got.Acknowledged != want[2] || got.Since.IsZero() || !strings.Contains(got.Reason, "acknowledged, through "+want[2].String()) {
			t.Errorf("%+v", got)
		}
		if err := producer.Resume(t.Context(), store, "b"); err != nil {
			t.Fatal(err)
		}
		if err := once(store, s).Run(t.Context()); err != nil {
			t.Error(err)
		}
		s.none(t)
	})
}

// What only-once does when the subscriber finds it too large, when somebody changes the state while it is on its way, when the
// store cannot take the end at once, and when somebody wants another position.
func TestPushOnlyOnceUnderway(t *testing.T) {
	change := func(t *testing.T, store producer.Store, to func(*producer.SubscriptionState)) {
		if _, err := producer.ChangeState(t.Context(), store, "b", func(s *producer.SubscriptionState) ([]entityevent.Doc, error) {
			to(s)
			return nil, nil
		}); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		name   string
		during func(*testing.T, *breaking) // the last push
		script []reply
		pushes []int // how many events each has
		then   producer.SubscriptionStatus
	}{
		{name: "too large", script: []reply{status(413), status(413)}, pushes: []int{8, 4, 2}, then: producer.Cancelled},
		{name: "resumed meanwhile", during: func(t *testing.T, store *breaking) {
			change(t, store, (*producer.SubscriptionState).Resume)
		}, pushes: []int{8}, then: producer.Cancelled},
		{name: "cancelled meanwhile", during: func(t *testing.T, store *breaking) {
			change(t, store, func(s *producer.SubscriptionState) { s.Cancel("by its owner") })
		}, pushes: []int{8}, then: producer.Cancelled},
		{name: "replayed meanwhile", during: func(t *testing.T, store *breaking) {
			change(t, store, func(s *producer.SubscriptionState) { s.Replay(4) })
		}, pushes: []int{8, 4}, then: producer.Cancelled},
		{name: "the store is away", during: func(_ *testing.T, store *breaking) {
			fail := func(err error) {
				store.mu.Lock()
				defer store.mu.Unlock()
				store.err = err
			}
			fail(entityevent.ErrUnavailable)
			time.AfterFunc(time.Hour, func() { fail(nil) })
		}, pushes: []int{8}, then: producer.Cancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &breaking{Store: openStore(t, t.TempDir())}
				subscribe(t, store.Store, "b")
				put(t, store.Store, entityevent.Local, 8)
				once := sync.OnceFunc(func() {
					if c.during != nil {
						c.during(t, store)
					}
				})
				s := newSubscriber(c.script...)
				s.always = func(http.ResponseWriter, *http.Request, pushed) { once() }
				p := newPusher(t, store, s)
				p.Subscription.Mode = producer.OnlyOnce
				if err := p.Run(t.Context()); err != nil {
					t.Error(err)
				}
				var sizes []int
				for len(s.got) > 0 {
					sizes = append(sizes, len(s.next(t).events))
				}
				if got := stateOf(t, store.Store, "b"); fmt.Sprint(sizes) != fmt.Sprint(c.pushes) || got.Status != c.then {
					t.Errorf("%v, want %v; %+v", sizes, c.pushes, got)
				}
			})
		})
	}
}

// HAL has the same members, and beside them what it asks for; our own parser reads both.
func TestPushHAL(t *testing.T) {
	for _, batch := range []int{1, 500} {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := openStore(t, t.TempDir())
				const id = "019ac0de-0000-7000-8000-000000000001"
				subscribe(t, store, id)
				s, plain := newSubscriber(), newSubscriber()
				p, other := newPusher(t, store, s), newPusher(t, store, plain)
				p.Subscription.Name, p.Subscription.Protocol, p.Subscription.Self, p.Subscription.BatchEvents = id, producer.HAL, "/subscriptions/"+id, batch
				subscribe(t, store, "b")
				other.Subscription.BatchEvents = batch
				want := put(t, store, entityevent.Local, 3)
				start(t, p)
				start(t, other)
				synctest.Wait()
				var pushes []pushed
				for len(s.got) > 0 {
					got, without := s.next(t), plain.next(t)
					pushes = append(pushes, got)
					const start = `{"@reso.context":"urn:reso:metadata:2.0:resource:entityevent",`
					added := `"_links":{"self":{"href":"/subscriptions/` + id + `"}},"UUID":"` + id + `",`
					if expected := strings.Replace(without.body, start, start+added, 1); got.body != expected || got.body == without.body {
						t.Errorf("%s\nwant %s", got.body, expected)
					}
					if kind := got.header.Get("Content-Type"); kind != "application/json" {
						t.Error(kind)
					}
				}
				wantChain(t, 0, pushes, want)
			})
		})
	}
}

// The URLs of records are those that EntityEvent itself has.
func TestPushRecordURLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		s := newSubscriber()
		p := newPusher(t, store, s)
		p.Subscription.RecordURLs = "https://sync.acme.example/odata"
		start(t, p)
		keys := []string{"1", "O'Neil", "007", "a b/c%#?", "ü", `"\`, strings.Repeat("ü", 255)}
		c := entityevent.Commit{Feed: entityevent.Local}
		for _, key := range keys {
			c.Changes = append(c.Changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: key}, Body: []byte(`{}`)})
		}
		if _, err := store.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		got := s.next(t)
		want := []string{"('1')", "('O''Neil')", "('007')", "('a%20b%2Fc%25%23%3F')", "('%C3%BC')", "('%22%5C')", "('" + strings.Repeat("%C3%BC", 255) + "')"}
		for i, e := range got.events {
			if e.Key != keys[i] || e.URL != "https://sync.acme.example/odata/Property"+want[i] {
				t.Errorf("%q: %s", e.Key, e.URL)
			}
		}
		if len(got.events) != len(keys) {
			t.Errorf("%d events", len(got.events))
		}
	})
}

// Signatures are those that the library of Standard Webhooks accepts. A repeat has the id of the first attempt; what is
// asked for anew has another.
func TestPushSignature(t *testing.T) {
	raw := "the bytes of a secret, as they are"
	marked := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	for name, c := range map[string]struct {
		secret string
		check  func() (*standardwebhooks.Webhook, error)
	}{
		"whsec_": {"whsec_" + marked, func() (*standardwebhooks.Webhook, error) { return standardwebhooks.NewWebhook("whsec_" + marked) }},
		"base64": {marked, func() (*standardwebhooks.Webhook, error) { return standardwebhooks.NewWebhook(marked) }},
		"raw":    {raw, func() (*standardwebhooks.Webhook, error) { return standardwebhooks.NewWebhookRaw([]byte(raw)) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				verifier, err := c.check()
				if err != nil {
					t.Fatal(err)
				}
				store := openStore(t, t.TempDir())
				subscribe(t, store, "b")
				put(t, store, entityevent.Local, 3)
				s := newSubscriber(status(500), status(503, "Retry-After", "3600"))
				p := newPusher(t, store, s)
				p.Subscription.Secret = c.secret
				start(t, p)
				var pushes []pushed
				for range 3 {
					pushes = append(pushes, s.next(t))
				}
				put(t, store, entityevent.Local, 1)
				pushes = append(pushes, s.next(t))
				synctest.Wait()
				if _, err := producer.ChangeState(t.Context(), store, "b", func(s *producer.SubscriptionState) ([]entityevent.Doc, error) {
					s.Replay(0)
					return nil, nil
				}); err != nil {
					t.Fatal(err)
				}
				p.Wake()
				pushes = append(pushes, s.next(t))
				ids := map[string]int{}
				for i, p := range pushes {
					if err := verifier.VerifyIgnoringTimestamp([]byte(p.body), p.header); err != nil {
						t.Errorf("push %d: %v: %v", i+1, err, p.header)
					}
					if verifier.VerifyIgnoringTimestamp([]byte(p.body+" "), p.header) == nil {
						t.Error("another body passes")
					}
					if at := fmt.Sprint(p.at.Unix()); p.header.Get("webhook-timestamp") != at {
						t.Errorf("%s, want %s", p.header.Get("webhook-timestamp"), at)
					}
					ids[p.header.Get("webhook-id")]++
				}
				if first := pushes[0].header.Get("webhook-id"); len(ids) != 3 || ids[first] != 3 {
					t.Errorf("%v", ids)
				}
			})
		})
	}
}

func TestCheckSecret(t *testing.T) {
	for secret, ok := range map[string]bool{
		"": true, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw": true, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw": true, "plain bytes": true, strings.Repeat("ü", 100): true,
		"whsec_hidden!": false, "whsec_": false, "short": false, "hidden\nline of a secret": false, strings.Repeat("!", 2000): false, "whsec_aGlk": false, "\xff\xfe hidden bytes": false,
	} {
		err := producer.CheckSecret(secret)
		if (err == nil) != ok || err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: %v", secret, err)
		}
	}
}

// A subscriber that repeats what is secret in its answer does not get it stored, however it writes it.
func TestPushSecretIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		put(t, store, entityevent.Local, 1)
		const key = "aGlkZGVuLXNlY3JldC1oaWRkZW4="
		s := newSubscriber(func(w http.ResponseWriter, _ *http.Request, _ pushed) {
			w.WriteHeader(http.StatusGone)
			fmt.Fprintf(w, `{"detail":"is it whsec_%s or %s? aB3dE7z, SE%%2BCRET%%3D99x, SE+CRET=99x or /aB3dE7z?a=1&amp;key=SE%%2BCRET%%3D99x"}`, key, key)
		})
		p := newPusher(t, store, s)
		p.Subscription.Secret = "whsec_" + key
		p.Subscription.URL = "http://b.example/aB3dE7z?a=1&key=SE%2BCRET%3D99x"
		start(t, p)
		s.next(t)
		synctest.Wait()
		doc, err := store.Get(t.Context(), producer.SubscriptionKind, "b")
		if err != nil || strings.Contains(string(doc.Body), key) || !strings.Contains(string(doc.Body), "is it [redacted] or [redacted]? [redacted], [redacted], [redacted] or [redacted]\"") {
			t.Errorf("%v %s", err, doc.Body)
		}
	})
}

// Changed tells each change of the status once, by whomever, also one that was made while no Pusher ran.
func TestPushTellsChangesOfStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		var told []string
		tells := func(s *subscriber) *producer.Pusher {
			p := newPusher(t, store, s)
			p.Changed = func(now producer.SubscriptionState) {
				if stored := stateOf(t, store, "b"); stored.Status != now.Status {
					t.Errorf("told %s, stored %s", now.Status, stored.Status)
				}
				told = append(told, string(now.Status))
			}
			return p
		}
		doc, err := producer.NewState(newPusher(t, store, nil).Subscription, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Apply(t.Context(), entityevent.Commit{Docs: []entityevent.Doc{doc}}); err != nil {
			t.Fatal(err)
		}
		put(t, store, entityevent.Local, 1)
		change := func(to func(*producer.SubscriptionState)) {
			if _, err := producer.ChangeState(t.Context(), store, "b", func(s *producer.SubscriptionState) ([]entityevent.Doc, error) {
				to(s)
				return nil, nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		s := newSubscriber(status(500), status(410))
		p := tells(s)
		stop := start(t, p)
		s.next(t)
		s.next(t)
		synctest.Wait()
		change((*producer.SubscriptionState).Resume)
		p.Wake()
		s.next(t)
		time.Sleep(time.Second)
		change(func(s *producer.SubscriptionState) { s.Suspend("the client is gone") })
		p.Wake()
		synctest.Wait()
		stop()
		change((*producer.SubscriptionState).Resume)
		p = tells(s)
		stop = start(t, p)
		synctest.Wait()
		change(func(s *producer.SubscriptionState) { s.Cancel("enough") })
		p.Wake()
		synctest.Wait()
		stop()
		if want := []string{"suspended", "active", "suspended", "active", "cancelled"}; !slices.Equal(told, want) {
			t.Errorf("%v, want %v", told, want)
		}
	})
}

// What ChangeState's caller adds is stored with the state or not at all, and its error changes nothing.
func TestChangeState(t *testing.T) {
	store := openStore(t, t.TempDir())
	subscribe(t, store, "b")
	calls := 0
	state, err := producer.ChangeState(t.Context(), meddling{store, 2, new(counter)}, "b", func(s *producer.SubscriptionState) ([]entityevent.Doc, error) {
		calls++
		s.Replay(7)
		return []entityevent.Doc{{Kind: "test", ID: "1", Body: json.RawMessage(`{}`)}}, nil
	})
	if beside, _ := store.Get(t.Context(), "test", "1"); err != nil || calls != 3 || state.Cursor != 7 || state.Replays != 1 || beside.Version != 1 || stateOf(t, store, "b").Cursor != 7 {
		t.Errorf("%d calls, %v, %+v, %+v", calls, err, state, beside)
	}
	if _, err := producer.ChangeState(t.Context(), store, "b", func(s *producer.SubscriptionState) ([]entityevent.Doc, error) {
		s.Cancel("")
		return nil, http.ErrNoCookie
	}); err != http.ErrNoCookie || stateOf(t, store, "b").Status != producer.Active { //nolint:errorlint // it is returned as it is
		t.Error(err)
	}
}
