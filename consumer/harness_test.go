package consumer_test

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(document().Covering(m)) }

// open opens a store in a folder of the test, closed at its end.
func open(t *testing.T, dir string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(dir, "test.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newFeed returns a feed over a network in memory, and a store that is closed with the test.
func newFeed(t *testing.T, network http.RoundTripper, resources ...string) *consumer.Feed {
	t.Helper()
	s := open(t, t.TempDir())
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &consumer.Feed{Name: "mls", URL: "http://mls.test/odata", Token: "sesame", Resources: resources, Store: s,
		HTTP: &http.Client{Transport: network}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func catchUp(t *testing.T, f *consumer.Feed) {
	t.Helper()
	if err := f.Sync(t.Context(), consumer.SyncOptions{}, nil); err != nil {
		t.Fatal(err)
	}
}

// run runs Follow and Apply until stop is called, which waits for both.
func run(t *testing.T, f *consumer.Feed) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- f.Follow(ctx) }()
	go func() { done <- f.Apply(ctx) }()
	return func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
}

// replica reads all records of a feed.
func replica(t *testing.T, s consumer.Store, resource string) map[string]entityevent.Record {
	t.Helper()
	out := map[string]entityevent.Record{}
	view := entityevent.View{Feed: "mls", Mask: entityevent.Everyone}
	for r, err := range s.Read(t.Context(), view, entityevent.Query{Resource: resource}) {
		if err != nil {
			t.Fatal(err)
		}
		out[r.Key] = r
	}
	return out
}

// equal compares every record of the source with the replica, by hash and count.
func equal(t *testing.T, src *source, s consumer.Store) {
	t.Helper()
	src.mu.Lock()
	defer src.mu.Unlock()
	for resource := range src.keys {
		have := replica(t, s, resource)
		if len(have) != len(src.rows[resource]) {
			t.Errorf("%s: %d records, the source has %d", resource, len(have), len(src.rows[resource]))
		}
		for _, r := range src.rows[resource] {
			content, err := entityevent.Canonicalize(r.body)
			if err != nil {
				t.Fatal(err)
			}
			if got := have[r.key]; got.Hash != content.Hash {
				t.Errorf("%s('%s') differs:\n%.300s\n%.300s", resource, r.key, got.Body, content.Body)
			}
		}
	}
}

func position(t *testing.T, f *consumer.Feed) entityevent.Position {
	t.Helper()
	p, err := f.Store.Position(t.Context(), f.Name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func status(t *testing.T, f *consumer.Feed) consumer.Status {
	t.Helper()
	s, err := f.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pass lets the time of a bubble go by, and everything happen that then happens.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// until lets time go by until something holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 3600 {
		if holds() {
			return
		}
		pass(time.Second)
	}
	t.Fatalf("not within an hour: %s", what)
}
