package consumer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
)

// A page of a load that comes late does not undo what the applier wrote meanwhile: neither a newer
// content, nor one that looks as if nothing had happened because it is what the replica had all along.
func TestLatePageUndoesNothing(t *testing.T) {
	for name, c := range map[string]struct{ onPage, meanwhile int }{
		"newer meanwhile":     {1001, 7},
		"there and back":      {7, 1001},
		"there and elsewhere": {7, 8},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", 10)
				var d *door
				armed := false
				f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
					if !armed || !strings.HasSuffix(r.URL.Path, "/Property") {
						return to(src)(r)
					}
					armed = false
					src.quiet("Property", "P0001", property("P0001", c.onPage))
					page, err := to(src)(r)
					src.put("Property", "P0001", property("P0001", c.meanwhile))
					if w := d.push(pushed(event(11, "Property", "P0001")), chain("log-1/all", 10, 11)...); w.Code != 200 {
						t.Error(w.Code)
					}
					<-time.After(30 * time.Second) // the applier settles it
					return page, err
				}), "Property")
				d = newDoor(t, f)
				f.Poll = "@every 24h"
				stop := run(t, f)
				pass(time.Minute)
				armed = true
				if err := f.Sync(t.Context(), consumer.SyncOptions{Full: true}, nil); err != nil {
					t.Fatal(err)
				}
				pass(time.Minute)
				equal(t, src, f.Store)
				stop()
			})
		})
	}
}

// An answer to the applier is under way when a load begins. The record changed meanwhile, and the load
// goes past that event: the answer does not stay.
func TestLoadBeginsDuringAFetch(t *testing.T) {
	for log, slow := range map[string]time.Duration{"": 12 * time.Second, "log-1/all": time.Second} {
		t.Run("log "+log, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled(log, 10)
				f := newFeed(t, to(src), "Property")
				catchUp(t, f)
				fetched := make(chan struct{})
				late := false
				f = newFeedOn(f.Store, wire(func(r *http.Request) (*http.Response, error) {
					record, err := to(src)(r)
					if strings.Contains(r.URL.Path, "('P0001')") && !late {
						late = true
						close(fetched)
						<-time.After(slow)
					}
					if strings.HasSuffix(r.URL.Path, "/Property") {
						<-time.After(5 * time.Second) // the applier commits before the page is written
					}
					return record, err
				}))
				src.put("Property", "P0001", property("P0001", 7))
				stop := run(t, f)
				<-fetched
				src.put("Property", "P0001", property("P0001", 8))
				if err := f.Sync(t.Context(), consumer.SyncOptions{Full: true}, nil); err != nil {
					t.Fatal(err)
				}
				pass(time.Hour)
				equal(t, src, f.Store)
				stop()
			})
		})
	}
}

// What is pushed before the first load begins waits for it: nobody asks for it at the pace of a producer
// without a log, and the load does not wait behind it.
func TestPushesBeforeTheFirstLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 200)
		answers := false
		var began time.Time
		f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/EntityEvent") {
				if !answers {
					return answer(500, "text/plain", "")(r)
				}
				if began.IsZero() {
					began = time.Now()
				}
			}
			return to(src)(r)
		}), "Property")
		d := newDoor(t, f)
		stop := run(t, f)
		for i := range 117 {
			key := fmt.Sprintf("P%04d", i)
			seq := src.put("Property", key, property(key, 7))
			if w := d.push(pushed(event(seq, "Property", key)), chain("log-1/all", seq-1, seq)...); w.Code != 200 {
				t.Fatal(w.Code)
			}
			pass(100 * time.Millisecond)
		}
		if asked := src.asked("Property"); len(asked) > 0 {
			t.Errorf("asked before the load began: %v", asked)
		}
		if s := status(t, f); s.Loaded || s.Pending != 117 || s.Polling.Failures == 0 {
			t.Errorf("status %+v", s)
		}
		answers = true
		until(t, "all is there", func() bool { s := status(t, f); return s.Loaded && s.Pending == 0 && s.Polling.Failures == 0 })
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the load and what was pending took %s", took)
		}
		equal(t, src, f.Store)
		stop()
	})
}

// What somebody else wrote into the replica after a page was asked for is newer than the page.
func TestLatePageAgainstAnotherWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 10)
		var f *consumer.Feed
		f = newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
			page, err := to(src)(r)
			if strings.HasSuffix(r.URL.Path, "/Property") {
				src.quiet("Property", "P0001", property("P0001", 7))
				write(t, f, "P0001", 7)
			}
			return page, err
		}), "Property")
		catchUp(t, f)
		equal(t, src, f.Store)
	})
}

// An answer to the applier that comes late does not undo what a load wrote meanwhile: the record is
// fetched again.
func TestLateAnswerUndoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 10)
		var f *consumer.Feed
		late := false
		f = newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
			record, err := to(src)(r)
			if strings.Contains(r.URL.Path, "P0001") && !late {
				late = true
				src.quiet("Property", "P0001", property("P0001", 8))
				write(t, f, "P0001", 8)
			}
			return record, err
		}), "Property")
		catchUp(t, f)
		src.put("Property", "P0001", property("P0001", 7))
		catchUp(t, f)
		equal(t, src, f.Store)
	})
}

// write puts a record into the replica, past the feed.
func write(t *testing.T, f *consumer.Feed, key string, price int) {
	t.Helper()
	_, err := f.Store.Apply(t.Context(), entityevent.Commit{Feed: f.Name, Changes: []entityevent.Change{
		{Ref: entityevent.Ref{Resource: "Property", Key: key}, Body: []byte(property(key, price))}}})
	if err != nil {
		t.Error(err)
	}
}

// A page of a load from a replica that is behind its log does not overwrite what is newer here; what stays
// older at the producer is taken in the end.
func TestLoadFromALaggingReplica(t *testing.T) {
	for name, lags := range map[string]bool{"lags": true, "went back": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("", 30)
				f := newFeed(t, to(src), "Property")
				newer := `{"ListingKey":"P0025","ListPrice":7,"ModificationTimestamp":"2026-02-02T03:04:05Z"}`
				src.quiet("Property", "P0025", newer)
				catchUp(t, f)
				asked := false
				f = newFeedOn(f.Store, wire(func(r *http.Request) (*http.Response, error) {
					if !strings.Contains(r.URL.RawQuery, "gt%20'P0019'") {
						return to(src)(r)
					}
					asked = true
					src.quiet("Property", "P0025", property("P0025", 1025))
					resp, err := to(src)(r)
					if lags {
						src.quiet("Property", "P0025", newer)
					}
					return resp, err
				}))
				if err := f.Sync(t.Context(), consumer.SyncOptions{Full: true}, nil); err != nil {
					t.Fatal(err)
				}
				if r := replica(t, f.Store, "Property")["P0025"]; !asked || !strings.Contains(string(r.Body), ":7,") {
					t.Errorf("the older record was taken at once: %s", r.Body)
				}
				if s := status(t, f); s.Recheck != 1 {
					t.Errorf("%+v", s)
				}
				stop := run(t, f)
				pass(30 * time.Minute)
				equal(t, src, f.Store)
				if s := status(t, f); s.Recheck != 0 {
					t.Errorf("%+v", s)
				}
				stop()
			})
		})
	}
}
