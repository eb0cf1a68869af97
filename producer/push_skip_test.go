package producer_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// comeAndGo adds a record that is gone at once, and returns the event that says so.
func comeAndGo(t *testing.T, store entityevent.Log, resource string) (last entityevent.Sequence) {
	t.Helper()
	ref := entityevent.Ref{Resource: resource, Key: fmt.Sprint(keys.next())}
	for _, change := range []entityevent.Change{{Ref: ref, Body: []byte(`{}`)}, {Ref: ref, Op: entityevent.Remove}} {
		outcomes, err := store.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{change}})
		if err != nil {
			t.Fatal(err)
		}
		last = outcomes[0].Sequence
	}
	return last
}

// A subscription for which nothing happened for longer than events are remembered goes on after a restart, whatever it was
// doing: nothing that was forgotten was for it. One that did miss something is told, also if it was suspended all the time.
func TestPushSkipInvisible(t *testing.T) {
	for _, c := range []struct {
		name   string
		status producer.SubscriptionStatus
		missed bool // something that was for it was forgotten
	}{
		{"idle", producer.Active, false},
		{"suspended", producer.Suspended, false},
		{"suspended, and missed something", producer.Suspended, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := openStore(t, t.TempDir())
				s := newSubscriber()
				pusher := func() *producer.Pusher {
					p := newPusher(t, store, s)
					p.Subscription.EventTypes = []string{"Media"}
					return p
				}
				p := pusher()
				doc, err := producer.NewState(p.Subscription, write(t, store, "Media")[0])
				if err != nil {
					t.Fatal(err)
				}
				if _, err := store.Apply(t.Context(), entityevent.Commit{Docs: []entityevent.Doc{doc}}); err != nil {
					t.Fatal(err)
				}
				if c.status == producer.Suspended {
					if _, err := producer.ChangeState(t.Context(), store, "b", func(s *producer.SubscriptionState) ([]entityevent.Doc, error) {
						s.Suspend("by a test")
						return nil, nil
					}); err != nil {
						t.Fatal(err)
					}
				}
				stop := start(t, p)
				synctest.Wait()
				for round := range 2 { // what was missed the first time is not forgotten the second time
					if c.missed && round == 0 {
						comeAndGo(t, store, "Media")
					}
					comeAndGo(t, store, "Property")
					time.Sleep(48 * time.Hour)
					if err := p.SkipInvisible(t.Context()); err != nil {
						t.Fatal(err)
					}
					if _, err := store.Compact(t.Context(), entityevent.Compaction{Forget: time.Now().Add(-24 * time.Hour)}); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				s.none(t)
				stop()
				p = pusher()
				start(t, p)
				if c.status == producer.Suspended {
					synctest.Wait()
					if err := producer.Resume(t.Context(), store, "b"); err != nil {
						t.Fatal(err)
					}
					p.Wake()
				}
				last := write(t, store, "Media")
				time.Sleep(time.Minute)
				if c.missed {
					if got := stateOf(t, store, "b"); got.Status != producer.Suspended || got.Reason == "by a test" {
						t.Errorf("%+v", got)
					}
					s.none(t)
					return
				}
				if got := of(s.next(t)); fmt.Sprint(got) != fmt.Sprint(last) {
					t.Errorf("%v, want %v", got, last)
				}
				s.none(t)
				if got := stateOf(t, store, "b"); got.Status != producer.Active || got.Cursor < last[0] {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// Nothing that waits to be pushed is skipped, and who has nothing to skip is left alone.
func TestPushSkipsNothingElse(t *testing.T) {
	store := openStore(t, t.TempDir())
	p := newPusher(t, store, newSubscriber())
	p.Subscription.EventTypes = []string{"Media"}
	if err := p.SkipInvisible(t.Context()); err != nil {
		t.Errorf("of one that has not begun: %v", err)
	}
	began := write(t, store, "Media")[0]
	doc, err := producer.NewState(p.Subscription, began)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Apply(t.Context(), entityevent.Commit{Docs: []entityevent.Doc{doc}}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		wrote string
		moves entityevent.Sequence
	}{{"Property", 1}, {"Member", 1}, {"Media", 0}, {"Property", 0}} {
		before := stateOf(t, store, "b").Cursor
		write(t, store, step.wrote)
		if err := p.SkipInvisible(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := stateOf(t, store, "b"); got.Cursor != before+step.moves || got.Acknowledged != began {
			t.Errorf("after %s it stands at %d, stood at %d: %+v", step.wrote, got.Cursor, before, got)
		}
	}
}
