package producer_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// Two failures with long halts between them are not a day of failure.
func TestPushHaltsBetweenFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		want := put(t, store, "local", 2)
		s := newSubscriber(status(500))
		for range 10 {
			s.script = append(s.script, status(503, "Retry-After", "36000"), status(500))
		}
		refusals := len(s.script)
		start(t, newPusher(t, store, s))
		for range refusals {
			s.next(t)
		}
		wantChain(t, 0, []pushed{s.next(t)}, want)
	})
}

// One that takes every second push fills no log; one that then takes none for long is told of.
func TestPushComplainsOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		s := newSubscriber()
		p := newPusher(t, store, s)
		p.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		stop := start(t, p)
		for range 10 {
			s.mu.Lock()
			s.script = []reply{status(500)}
			s.mu.Unlock()
			put(t, store, entityevent.Local, 1)
			s.next(t)
			s.next(t)
		}
		s.mu.Lock()
		s.always = status(500)
		s.mu.Unlock()
		put(t, store, entityevent.Local, 1)
		for began := time.Now(); time.Since(began) < time.Hour; {
			s.next(t)
		}
		s.mu.Lock()
		s.always = nil
		s.mu.Unlock()
		s.next(t)
		synctest.Wait()
		stop()
		if no, again := strings.Count(logged.String(), "push was not taken"), strings.Count(logged.String(), "pushes are taken again"); no != 6 || again != 6 {
			t.Errorf("%d and %d lines: %s", no, again, logged.String())
		}
	})
}

// A subscriber that asks for a short wait again and again gets longer ones, and is asked still.
func TestPushShortHaltsGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		want := put(t, store, entityevent.Local, 2)
		s := newSubscriber()
		s.always = status(429, "Retry-After", "1")
		start(t, newPusher(t, store, s))
		began, last, n := time.Now(), time.Time{}, 0
		for ; time.Since(began) < 24*time.Hour; n++ {
			p := s.next(t)
			if wait := p.at.Sub(last); n > 0 && (wait < time.Second || wait > time.Minute) {
				t.Errorf("push %d came after %v", n+1, wait)
			}
			last = p.at
		}
		if n > 24*60+20 {
			t.Errorf("%d pushes in a day", n)
		}
		if got := stateOf(t, store, "b"); got.Status != producer.Active || !got.FailingSince.IsZero() {
			t.Errorf("%+v", got)
		}
		s.mu.Lock()
		s.always, s.script = nil, []reply{status(500)}
		s.mu.Unlock()
		failed, taken := s.next(t), s.next(t)
		wantChain(t, 0, []pushed{taken}, want)
		if wait := taken.at.Sub(failed.at); wait > 2*time.Second { // what was asked for is no failure before
			t.Errorf("the first failure waits %v", wait)
		}
	})
}

// A subscriber that halts for weeks never counts as failing; without Retry-After the waits grow.
func TestPushHaltIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		want := put(t, store, "local", 2)
		s := newSubscriber()
		s.always = status(429)
		start(t, newPusher(t, store, s))
		began := time.Now()
		n := 0
		for ; time.Since(began) < 14*24*time.Hour; n++ {
			s.next(t)
		}
		if got := stateOf(t, store, "b"); got.Status != producer.Active || !got.FailingSince.IsZero() {
			t.Errorf("%+v", got)
		}
		if n > 14*24*8+20 {
			t.Errorf("%d pushes in two weeks", n)
		}
		s.mu.Lock()
		s.always = nil
		s.mu.Unlock()
		wantChain(t, 0, []pushed{s.next(t)}, want)
	})
}

func TestPushRefusedSuspends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		want := put(t, store, "local", 2)
		s := newSubscriber()
		s.always = func(w http.ResponseWriter, r *http.Request, _ pushed) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"title":"token expired","detail":"%s of %s is old"}`, r.Header.Get("Authorization"), r.URL)
		}
		p := newPusher(t, store, s)
		p.Logger = slog.New(slog.NewJSONHandler(&logged, nil))
		stop := start(t, p)
		first, second, third := s.next(t), s.next(t), s.next(t)
		if a, b := second.at.Sub(first.at), third.at.Sub(second.at); a != time.Minute || b != time.Minute {
			t.Errorf("retries after %v and %v, want a minute each", a, b)
		}
		time.Sleep(48 * time.Hour)
		s.none(t)
		got := stateOf(t, store, "b")
		const remedy = "token expired: Bearer [redacted] of [redacted] is old; when that is mended, run: resosync resume b"
		if got.Status != producer.Suspended || !strings.HasSuffix(got.Reason, remedy) || got.Cursor != 0 || !strings.Contains(logged.String(), remedy) {
			t.Errorf("%+v\n%s", got, logged.String())
		}

		// Resumed, it goes on from its cursor; Wake makes it so at once.
		s.mu.Lock()
		s.always = nil
		s.mu.Unlock()
		if err := producer.Resume(t.Context(), store, "b"); err != nil {
			t.Fatal(err)
		}
		resumed := time.Now()
		p.Wake()
		again := s.next(t)
		if again.at != resumed {
			t.Errorf("went on %v after Wake", again.at.Sub(resumed))
		}
		wantChain(t, 0, []pushed{again}, want)
		stop()
		doc, err := store.Get(t.Context(), producer.SubscriptionKind, "b")
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{logged.String(), string(doc.Body), got.Reason, got.LastError} {
			if strings.Contains(text, "hidden-") {
				t.Errorf("a secret is in %s", text)
			}
		}
	})
}

// A suspended subscription whose callback or token was corrected in the configuration is tried again.
func TestPushAnotherTokenResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		want := put(t, store, "local", 2)
		s := newSubscriber(status(410))
		stop := start(t, newPusher(t, store, s))
		s.next(t)
		synctest.Wait()
		stop()
		stop = start(t, newPusher(t, store, s))
		time.Sleep(time.Hour)
		s.none(t) // a restart alone changes nothing
		stop()
		p := newPusher(t, store, s)
		p.Subscription.Token = "another"
		start(t, p)
		wantChain(t, 0, []pushed{s.next(t)}, want)
	})
}

func TestPushFailingForADaySuspends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		put(t, store, "local", 2)
		s := newSubscriber()
		s.always = lost
		start(t, newPusher(t, store, s))
		began := time.Now()
		n := 0
		var last, longest time.Duration
		for stateOf(t, store, "b").Status != producer.Suspended {
			at := s.next(t).at.Sub(began)
			longest, last = max(longest, at-last), at
			n++
			synctest.Wait()
		}
		if last < 24*time.Hour || last > 24*time.Hour+15*time.Minute || longest > 15*time.Minute || n < 96 || n > 250 {
			t.Errorf("suspended after %v and %d pushes, at most %v apart", last, n, longest)
		}
		time.Sleep(48 * time.Hour)
		s.none(t)
		if got := stateOf(t, store, "b"); !strings.Contains(got.Reason, "24h") || got.Cursor != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// A subscriber that takes three events at a time gets all of them.
func TestPushHalvesTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		want := put(t, store, "local", 100)
		refusedPushes := 0
		var taken []pushed
		s := newSubscriber()
		s.always = func(w http.ResponseWriter, _ *http.Request, p pushed) {
			if len(p.events) > 3 {
				refusedPushes++
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
			taken = append(taken, p)
		}
		start(t, newPusher(t, store, s))
		time.Sleep(time.Hour)
		synctest.Wait()
		wantChain(t, 0, taken, want)
		if refusedPushes > len(taken) {
			t.Errorf("%d pushes were refused for %d taken: it grows back too fast", refusedPushes, len(taken))
		}
	})
}

func TestPushGrowsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		put(t, store, "local", 200)
		s := newSubscriber(status(413))
		p := newPusher(t, store, s)
		p.Subscription.BatchEvents = 10
		start(t, p)
		time.Sleep(time.Hour)
		synctest.Wait()
		var sizes []int
		for len(s.got) > 0 {
			sizes = append(sizes, len(s.next(t).events))
		}
		if sizes[0] != 10 || sizes[1] != 5 || !slices.IsSorted(sizes[1:len(sizes)-1]) || !slices.Contains(sizes[1:], 10) {
			t.Errorf("%v: want it to grow slowly from 5 to 10", sizes)
		}
		if got := stateOf(t, store, "b"); got.BatchLimit != 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestPushOneEventTooLargeSuspends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		put(t, store, "local", 8)
		s := newSubscriber()
		s.always = status(413)
		start(t, newPusher(t, store, s))
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(s.got); n != 4 {
			t.Errorf("%d pushes, want of 8, 4, 2 and 1", n)
		}
		if got := stateOf(t, store, "b"); got.Status != producer.Suspended || !strings.Contains(got.Reason, "one event") || got.Cursor != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// While the store fails nothing is pushed twice as fast, and afterwards it goes on.
func TestPushOutlivesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		broken := &breaking{Store: store, err: errAiling}
		var logged bytes.Buffer
		s := newSubscriber()
		p := newPusher(t, broken, s)
		p.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		stop := start(t, p)
		want := put(t, store, "local", 3)
		time.Sleep(time.Hour)
		s.none(t)
		broken.mu.Lock()
		broken.err = nil
		broken.mu.Unlock()
		mended := time.Now()
		wantChain(t, 0, []pushed{s.next(t)}, want)
		if took := time.Since(mended); took > 10*time.Second {
			t.Errorf("it went on %v after the store did", took)
		}
		time.Sleep(time.Second)
		stop()
		if text := logged.String(); strings.Count(text, "waits for the store") != 1 || strings.Count(text, "goes on") != 1 {
			t.Errorf("logged %s", text)
		}
	})
}

type breaking struct {
	producer.Store
	counter
	err error
}

func (b *breaking) Get(ctx context.Context, kind, id string) (entityevent.Doc, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return entityevent.Doc{}, b.err
	}
	return b.Store.Get(ctx, kind, id)
}
