package consumer_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
)

// quietFor returns the longest time without an answer to a poll until over says so.
func quietFor(t *testing.T, f *consumer.Feed, over func(consumer.Status) bool) (longest time.Duration) {
	t.Helper()
	for range 1000 {
		s := status(t, f)
		longest = max(longest, time.Since(s.Contact))
		if over(s) {
			return longest
		}
		pass(10 * time.Second)
	}
	t.Fatal("it does not end")
	return 0
}

// At one request a second the records that are only looked at again leave polls their turns.
func TestRechecksStarveNoPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 1200)
		f := newFeed(t, to(src), "Property")
		stop := run(t, f)
		pass(5 * time.Minute)
		equal(t, src, f.Store)
		src.mu.Lock()
		src.rows["Property"] = src.rows["Property"][500:]
		src.mu.Unlock()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = f.Reconcile(ctx, consumer.ReconcileOptions{}, nil)
		}()
		until(t, "something was found", func() bool { return status(t, f).Recheck > 0 })
		start := time.Now()
		if longest := quietFor(t, f, func(s consumer.Status) bool { return s.Recheck == 0 }); longest > 75*time.Second {
			t.Errorf("for %s no poll was answered", longest)
		}
		if took := time.Since(start); took < 5*time.Minute {
			t.Errorf("it took %s, too little to tell", took)
		}
		cancel()
		<-done
		stop()
	})
}

// Nor does what is pending keep polls for long from theirs, and it can be seen to move.
func TestInboxStarvesNoPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 1200)
		f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.RawQuery, "$filter=ListingKey") {
				return noFilter(r)
			}
			return to(src)(r)
		}), "Property")
		stop := run(t, f)
		pass(5 * time.Minute)
		for i := range 1100 {
			key := fmt.Sprintf("P%04d", i)
			src.put("Property", key, property(key, 5))
		}
		until(t, "they are pending", func() bool { return status(t, f).Pending > 900 })
		start, still := time.Now(), time.Duration(0)
		longest := quietFor(t, f, func(s consumer.Status) bool {
			still = max(still, time.Since(s.Moved))
			return s.Pending == 0
		})
		if took := time.Since(start); took < 15*time.Minute {
			t.Errorf("it took %s, too little to tell", took)
		}
		if longest > 3*time.Minute || still > 3*time.Minute {
			t.Errorf("for %s no poll was answered, and for %s nothing moved", longest, still)
		}
		stop()
	})
}

// A producer that wants no more requests and names a wait that is over is asked as rarely as one that names
// none.
func TestHaltThatIsOverIsNoStorm(t *testing.T) {
	for _, header := range []string{"0", "Mon, 01 Jan 1990 00:00:00 GMT"} {
		synctest.Test(t, func(t *testing.T) {
			src := filled("log-1/all", 10)
			var on atomic.Bool
			var n atomic.Int64
			f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
				if on.Load() {
					n.Add(1)
					return halt(header)
				}
				return to(src)(r)
			}), "Property")
			stop := run(t, f)
			pass(5 * time.Minute)
			on.Store(true)
			src.put("Property", "P0001", property("P0001", 5))
			pass(time.Hour)
			if n := n.Load(); n < 3 || n > 30 {
				t.Errorf("Retry-After %s: %d requests in an hour", header, n)
			}
			stop()
		})
	}
}
