package producer_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
)

// A subscription that stands where events were forgotten for good does not go on as if nothing was: it is suspended,
// and once it is resumed the subscriber can see the gap. One that began at 0, or stands above them, goes on.
func TestPushBelowWhatWasForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		put(t, store, "local", 3)
		behind := newSubscriber()
		subscribe(t, store, "behind")
		stop := start(t, &producer.Pusher{Store: store, HTTP: &http.Client{Transport: behind},
			Subscription: producer.Subscription{Name: "behind", URL: "https://vendor.example/", Mask: entityevent.Everyone}})
		behind.next(t)
		time.Sleep(time.Second) // its answer arrives
		stop()
		gone := entityevent.Ref{Resource: "Property", Key: "gone"}
		for _, change := range []entityevent.Change{{Ref: gone, Body: []byte(`{}`)}, {Ref: gone, Op: entityevent.Remove}} {
			if _, err := store.Apply(t.Context(), entityevent.Commit{Feed: "local", Changes: []entityevent.Change{change}}); err != nil {
				t.Fatal(err)
			}
		}
		floor := forget(t, store)
		last := put(t, store, "local", 2)

		p := &producer.Pusher{Store: store, HTTP: &http.Client{Transport: behind},
			Subscription: producer.Subscription{Name: "behind", URL: "https://vendor.example/", Mask: entityevent.Everyone}}
		start(t, p)
		fresh := newSubscriber()
		subscribe(t, store, "fresh")
		start(t, &producer.Pusher{Store: store, HTTP: &http.Client{Transport: fresh},
			Subscription: producer.Subscription{Name: "fresh", URL: "https://vendor.example/", Mask: entityevent.Everyone, BatchEvents: 2}})
		time.Sleep(time.Hour)
		synctest.Wait()
		behind.none(t)
		state := stateOf(t, store, "behind")
		if state.Status != producer.Suspended || !strings.Contains(state.Reason, "forgotten") || !strings.Contains(state.Reason, "resosync resume behind") {
			t.Errorf("%+v", state)
		}
		if s := stateOf(t, store, "fresh"); s.Status != producer.Active || s.Cursor != last[1] {
			t.Errorf("the one from 0: %+v", s)
		}
		if len(fresh.got) != 3 {
			t.Errorf("%d pushes from 0", len(fresh.got))
		}

		if err := producer.Resume(t.Context(), store, "behind"); err != nil {
			t.Fatal(err)
		}
		p.Wake()
		wantChain(t, floor, []pushed{behind.next(t)}, last)
		// Events are forgotten that both were told of.
		if _, err := store.Apply(t.Context(), entityevent.Commit{Feed: "local", Changes: []entityevent.Change{{Ref: gone, Body: []byte(`{}`)}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Apply(t.Context(), entityevent.Commit{Feed: "local", Changes: []entityevent.Change{{Ref: gone, Op: entityevent.Remove}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		forget(t, store)
		put(t, store, "local", 1)
		time.Sleep(time.Hour)
		for _, name := range []string{"behind", "fresh"} {
			if s := stateOf(t, store, name); s.Status != producer.Active || s.Cursor <= floor+4 {
				t.Errorf("%+v", s)
			}
		}
	})
}

// forget compacts, with all that is gone, and returns the floor.
func forget(t *testing.T, store *sqlite.Store) entityevent.Sequence {
	t.Helper()
	if done, err := store.Compact(t.Context(), entityevent.Compaction{Forget: time.Now().Add(time.Minute)}); err != nil || done.Forgotten != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	p, err := store.Events(t.Context(), entityevent.View{Feed: "local", Mask: entityevent.Everyone}, entityevent.EventQuery{})
	if err != nil || p.Floor == 0 {
		t.Fatalf("floor %d, %v", p.Floor, err)
	}
	return p.Floor
}
