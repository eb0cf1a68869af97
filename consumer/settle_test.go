package consumer_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// On a server that publishes an event with every request no poll comes to an end of the log. An event that
// it publishes below one that was seen is not skipped, and the cursor moves.
func TestLateEventOnABusyServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 5)
		var published atomic.Int64
		var busy atomic.Bool
		f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
			if busy.Load() && strings.Contains(r.URL.RawQuery, "EntityEventSequence%20gt") {
				n := published.Add(1)
				key := fmt.Sprintf("P%04d", 1+n%4)
				src.quiet("Property", key, property(key, 5000+int(n)))
				src.publish(1000+10*n, "Property", key)
				if n%5 == 0 {
					late := fmt.Sprintf("LATE%d", n)
					src.quiet("Property", late, property(late, 1))
					src.publish(1000+10*n-11, "Property", late) // below the one of the page before
				}
			}
			return to(src)(r)
		}), "Property")
		catchUp(t, f)
		busy.Store(true)
		stop := run(t, f)
		pass(2 * time.Minute)
		n := published.Load()
		if p := position(t, f); n < 60 || int64(p.Sequence) < 1000+10*(n-40) {
			t.Errorf("after %d events the cursor is at %d", n, p.Sequence)
		}
		busy.Store(false)
		n = published.Load()
		pass(10 * time.Minute)
		equal(t, src, f.Store)
		if p := position(t, f); int64(p.Sequence) != 1000+10*n || p.Unsettled {
			t.Errorf("after %d events: %+v", n, p)
		}
		stop()
	})
}

// Sync on such a server ends when it is level with the head that it began with.
func TestSyncWithABusyServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 5)
		busy := int64(0)
		f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
			if busy > 0 && strings.Contains(r.URL.RawQuery, "EntityEventSequence%20gt") {
				busy++
				src.publish(1000+busy, "Property", "P0001")
			}
			return to(src)(r)
		}), "Property")
		catchUp(t, f)
		src.put("Property", "P0002", property("P0002", 7))
		busy = 1
		start := time.Now()
		catchUp(t, f)
		if took := time.Since(start); took > 2*time.Minute {
			t.Errorf("it took %s", took)
		}
		equal(t, src, f.Store)
	})
}

// While a page waits for its turn, events may appear below those of the page before it: whether that one
// brought what nobody had seen, or what pushes had named.
func TestLateEventBetweenSlowPages(t *testing.T) {
	for name, c := range map[string]struct {
		wait   string // for the second page, in seconds
		pushed bool
	}{
		"new": {"60", false}, "pushed": {"7", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("", 5)
				f := newFeed(t, to(src), "Property")
				catchUp(t, f)
				hints := entityevent.Delivery{Feed: f.Name}
				for i := range 5 {
					key, seq := fmt.Sprintf("P%04d", i), int64(100+10*i)
					src.quiet("Property", key, property(key, 9))
					src.publish(seq, "Property", key)
					hints.Events = append(hints.Events, entityevent.Event{Sequence: entityevent.Sequence(seq), Ref: entityevent.Ref{Resource: "Property", Key: key}})
				}
				if c.pushed {
					if _, err := f.Store.Receive(t.Context(), hints); err != nil {
						t.Fatal(err)
					}
					pass(5 * time.Second)
				}
				late := false
				f = newFeedOn(f.Store, wire(func(r *http.Request) (*http.Response, error) {
					if !late && strings.Contains(r.URL.RawQuery, "EntityEventSequence%20gt%20120") {
						late = true
						src.quiet("Property", "LATE", property("LATE", 1))
						src.publish(115, "Property", "LATE")
						return answer(429, "application/json", `{"error":{"code":"429"}}`, "Retry-After", c.wait)(r)
					}
					return to(src)(r)
				}))
				f.PageSize = 3
				stop := run(t, f)
				pass(10 * time.Minute)
				if !late {
					t.Fatal("the second page was not asked for")
				}
				equal(t, src, f.Store)
				stop()
			})
		})
	}
}
