package consumer_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
)

const broken = `{"ListingKey":%q,"Twice":1,"Twice":2}`

// What is replayed is fetched as it is now, at once; what is not waits.
func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		f := newFeed(t, to(src), "Property")
		stop := run(t, f)
		pass(time.Minute)
		for _, key := range []string{"P0001", "P0002", "P0003"} {
			src.put("Property", key, fmt.Sprintf(broken, key))
		}
		pass(5 * time.Minute)
		if s := status(t, f); s.Aside != 3 || s.Pending != 0 || int64(s.Sequence) != src.head {
			t.Fatalf("%+v", s)
		}
		for _, key := range []string{"P0001", "P0002", "P0003"} {
			src.quiet("Property", key, property(key, 8))
		}
		n, err := f.Replay(t.Context(), []entityevent.Ref{{Resource: "Property", Key: "P0002"}, {Resource: "Property", Key: "P0004"}})
		if n != 1 || err != nil {
			t.Errorf("%d replayed: %v", n, err)
		}
		pass(time.Second)
		if have := replica(t, f.Store, "Property"); !strings.Contains(string(have["P0002"].Body), ":8,") || status(t, f).Aside != 2 {
			t.Errorf("%s, %+v", have["P0002"].Body, status(t, f))
		}
		if n, err := f.Replay(t.Context(), nil); n != 2 || err != nil {
			t.Errorf("%d replayed: %v", n, err)
		}
		pass(time.Second)
		equal(t, src, f.Store)
		if n, err := f.Replay(t.Context(), nil); n != 0 || err != nil {
			t.Errorf("%d replayed: %v", n, err)
		}
		stop()
	})
}

// A newer event of a record that was set aside brings it up to date at once, whatever its wait was.
func TestNewerEventClearsWhatWasSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		f := newFeed(t, to(src), "Property")
		f.LongPoll = true
		stop := run(t, f)
		src.put("Property", "P0001", fmt.Sprintf(broken, "P0001"))
		pass(8 * time.Hour) // its wait is of hours by now
		src.put("Property", "P0002", fmt.Sprintf(broken, "P0002"))
		pass(time.Second)
		if s := status(t, f); s.Aside != 2 || s.Pending != 0 {
			t.Errorf("%+v", s)
		}
		src.put("Property", "P0001", property("P0001", 8))
		src.remove("Property", "P0002")
		pass(time.Second)
		equal(t, src, f.Store)
		if s := status(t, f); s.Aside != 0 {
			t.Errorf("%+v", s)
		}
		stop()
	})
}

// When a replica that is behind its log is asked again: after half a minute if it answered as if nothing had
// happened, and after 1, 5 and 15 minutes if it answered with what is older than ours.
func TestWhenStaleReplicasAreAskedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		key, body string // as the replica has it; empty: it lacks it
		waits     []time.Duration
	}{
		"unchanged": {"P0001", property("P0001", 1001), []time.Duration{30 * time.Second}},
		"unknown":   {"P9999", "", []time.Duration{30 * time.Second}},
		"older":     {"P0001", dated("P0001", 7, "2025-01-01T00:00:00Z"), []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("", 3)
				var asked []time.Time
				f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
					if strings.Contains(r.URL.Path, c.key) && (len(asked) == 0 || time.Since(asked[len(asked)-1]) > 20*time.Second) {
						asked = append(asked, time.Now())
					}
					return to(src)(r)
				}), "Property")
				stop := run(t, f)
				pass(3 * time.Minute)
				if c.body != "" {
					src.quiet("Property", c.key, c.body)
				}
				src.publish(100, "Property", c.key)
				pass(2 * time.Hour)
				equal(t, src, f.Store)
				if s := status(t, f); s.Recheck+s.Aside != 0 || len(asked) != len(c.waits)+1 {
					t.Fatalf("asked at %s: %+v", asked, s)
				}
				for i, wait := range c.waits {
					if got := asked[i+1].Sub(asked[i]); got < wait || got > wait+lookEvery {
						t.Errorf("asked again after %s, not %s", got, wait)
					}
				}
				stop()
			})
		})
	}
}

// lookEvery is how late something set aside may be looked at.
const lookEvery = 20 * time.Second

// Waits that were noted before the clock was set back end all the same.
func TestClockSetBackParksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		c := entityevent.Commit{Feed: f.Name}
		for i, kind := range []string{"recheck", "held", "poison"} {
			key := fmt.Sprintf("P%04d", i)
			src.quiet("Property", key, property(key, 8))
			c.Aside = append(c.Aside, entityevent.Setback{Ref: entityevent.Ref{Resource: "Property", Key: key}, Kind: kind, Reason: "x", Tries: 1,
				NextAt: time.Now().Add(365 * 24 * time.Hour)})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Apply(ctx) }()
		pass(time.Minute)
		if _, err := f.Store.Apply(t.Context(), c); err != nil { // while it runs
			t.Fatal(err)
		}
		pass(25 * time.Minute)
		if s := status(t, f); s.Recheck+s.Held != 0 || s.Aside != 1 {
			t.Errorf("%+v", s)
		}
		pass(6 * time.Hour)
		equal(t, src, f.Store)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A page of a load from a replica that is behind its log does not bring back at once what was removed; what
// is there in the end is.
func TestLaggingPageBringsNothingBack(t *testing.T) {
	for name, there := range map[string]bool{"lags": false, "is there": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("", 30)
				f := newFeed(t, to(src), "Property")
				catchUp(t, f)
				src.remove("Property", "P0007")
				catchUp(t, f)
				equal(t, src, f.Store)
				lagging := true
				f = newFeedOn(f.Store, wire(func(r *http.Request) (*http.Response, error) {
					if !lagging || !strings.Contains(r.URL.RawQuery, "$orderby=ListingKey") {
						return to(src)(r)
					}
					lagging = false
					src.quiet("Property", "P0007", property("P0007", 1007))
					resp, err := to(src)(r)
					if !there {
						src.drop("Property", "P0007")
					}
					return resp, err
				}))
				if err := f.Sync(t.Context(), consumer.SyncOptions{Full: true}, nil); err != nil {
					t.Fatal(err)
				}
				if _, back := replica(t, f.Store, "Property")["P0007"]; lagging || back {
					t.Errorf("it is back at once: %t", back)
				}
				stop := run(t, f)
				pass(2 * time.Minute)
				equal(t, src, f.Store)
				if s := status(t, f); s.Recheck != 0 {
					t.Errorf("%+v", s)
				}
				stop()
			})
		})
	}
}
