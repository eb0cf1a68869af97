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

func TestPollsOnSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		f := newFeed(t, to(src), "Property")
		f.Poll = "@every 5m"
		stop := run(t, f)
		pass(time.Second)
		equal(t, src, f.Store)
		src.put("Property", "P0001", property("P0001", 7))
		pass(4 * time.Minute)
		if r := replica(t, f.Store, "Property")["P0001"]; strings.Contains(string(r.Body), ":7,") {
			t.Error("polled before its time")
		}
		pass(2 * time.Minute)
		equal(t, src, f.Store)
		stop()
	})
}

func TestLongPollFollowsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		f := newFeed(t, to(src), "Property")
		f.LongPoll, f.Poll = true, "@every 24h"
		stop := run(t, f)
		pass(time.Hour)
		for i := range 3 {
			src.put("Property", "P0001", property("P0001", i))
			pass(time.Millisecond)
			equal(t, src, f.Store)
			pass(47 * time.Second)
		}
		if n := len(src.asked("EntityEvent")); n > 200 {
			t.Errorf("%d polls in an hour: they are not held", n)
		}
		if s := status(t, f); time.Since(s.Level) > 31*time.Second {
			t.Errorf("last known to be level at %s, now %s", s.Level, time.Now())
		}
		stop()
	})
}

// A server that does not hold polls is polled on the schedule, and not in a loop.
func TestLongPollOfAServerThatDoesNotHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 5)
		f := newFeed(t, to(src), "Property")
		f.LongPoll = true
		stop := run(t, f)
		pass(time.Hour)
		if n := len(src.asked("EntityEvent")); n > 130 {
			t.Errorf("%d polls in an hour", n)
		}
		stop()
	})
}

// A change during the first load, to a page that was read already, is in the replica afterwards.
func TestChangeDuringFirstLoad(t *testing.T) {
	for _, log := range []string{"", "log-1/all"} {
		t.Run("log "+log, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled(log, 1500)
				changed := false
				f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
					resp, err := to(src)(r)
					if !changed && strings.Contains(r.URL.RequestURI(), "/Property") {
						changed = true
						src.put("Property", "P0003", property("P0003", 1))
						src.remove("Property", "P0004")
						src.put("Property", "P9999", property("P9999", 1))
					}
					return resp, err
				}), "Property")
				f.Rate = 1e6
				catchUp(t, f)
				equal(t, src, f.Store)
			})
		})
	}
}

// A load that was interrupted goes on at the page where it stopped, in another process.
func TestLoadGoesOnAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 100)
		f := newFeed(t, script(to(src), 100, "gt%20'P0059'", answer(500, "text/html", "<html>")), "Property")
		if err := f.Sync(t.Context(), consumer.SyncOptions{}, nil); err == nil {
			t.Fatal("no error")
		}
		if n := len(replica(t, f.Store, "Property")); n != 60 {
			t.Fatalf("%d records of the first 60", n)
		}
		f = newFeedOn(f.Store, to(src))
		catchUp(t, f)
		equal(t, src, f.Store)
		if n := len(src.asked("Property?$orderby=ListingKey%20asc")); n != 1 {
			t.Errorf("the first page was asked for %d times", n)
		}
	})
}

// A nextLink that the producer no longer knows begins the resource anew.
func TestLoadWithAnExpiredLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 100)
		src.noFilter = true
		f := newFeed(t, script(to(src), 1, "skip=60", answer(410, "application/json", `{"error":{"code":"1"}}`)), "Property")
		catchUp(t, f)
		equal(t, src, f.Store)
	})
}

func TestNextLinksInACircle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 100)
		src.noFilter = true
		f := newFeed(t, script(to(src), 1e6, "skip=60", answer(200, "application/json",
			`{"value":[],"@odata.nextLink":"http://mls.test/odata/Property?$skip=60"}`)), "Property")
		if err := f.Sync(t.Context(), consumer.SyncOptions{}, nil); err == nil || !strings.Contains(err.Error(), "circle") {
			t.Error(err)
		}
	})
}

// An event that a producer without a log id publishes below one that was seen already is not skipped.
func TestEventPublishedOutOfOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 5)
		f := newFeed(t, to(src), "Property")
		f.Poll = "@every 5m"
		stop := run(t, f)
		pass(time.Minute)
		src.quiet("Property", "P0001", property("P0001", 7))
		src.quiet("Property", "P0002", property("P0002", 7))
		src.publish(12, "Property", "P0002")
		pass(5 * time.Minute)
		if p := position(t, f); p.Sequence != 12 {
			t.Fatalf("the cursor is at %d", p.Sequence)
		}
		src.publish(20, "Property", "P0001")
		until(t, "event 20 is seen", func() bool { return position(t, f).Unsettled })
		pass(2 * time.Second)
		src.quiet("Property", "P0003", property("P0003", 7))
		src.publish(15, "Property", "P0003") // late, but within the time that it has
		pass(time.Minute)
		equal(t, src, f.Store)
		if p := position(t, f); p.Sequence != 20 {
			t.Errorf("the cursor is at %d", p.Sequence)
		}
		stop()
	})
}

// A producer that was restored from a backup names another log: everything is loaded again, and what it
// no longer has goes.
func TestAnotherLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 300)
		f := newFeed(t, to(src), "Property")
		stop := run(t, f)
		pass(time.Minute)
		equal(t, src, f.Store)
		restored := filled("log-2/all", 250)
		restored.quiet("Property", "P0007", property("P0007", 1))
		src.mu.Lock()
		src.log, src.rows, src.events, src.head = "log-2/all", restored.rows, restored.events, restored.head
		src.mu.Unlock()
		pass(3 * time.Minute)
		equal(t, src, f.Store)
		src.mu.Lock()
		src.log = "log-3/all"
		src.mu.Unlock()
		src.put("Property", "P0008", property("P0008", 1))
		pass(30 * time.Minute)
		if s := status(t, f); s.Log != "log-2/all" || !strings.Contains(s.Polling.Error, "another log") {
			t.Errorf("loaded twice in an hour, or said nothing: %+v", s)
		}
		pass(time.Hour)
		equal(t, src, f.Store)
		if s := status(t, f); s.Log != "log-3/all" || s.Polling.Failures != 0 {
			t.Errorf("%+v", s)
		}
		stop()
	})
}

// Without a log id, a head below the cursor is the sign.
func TestProducerWithoutLogSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 60)
		f := newFeed(t, to(src), "Property")
		stop := run(t, f)
		pass(10 * time.Minute)
		equal(t, src, f.Store)
		restored := filled("", 30)
		src.mu.Lock()
		src.rows, src.events, src.head = restored.rows, restored.events, restored.head
		src.mu.Unlock()
		pass(20 * time.Minute)
		equal(t, src, f.Store)
		stop()
	})
}

// The applier reads again what a producer without a log id answered as if nothing had happened.
func TestAnswerOfALaggingReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 3)
		f := newFeed(t, to(src), "Property")
		stop := run(t, f)
		pass(5*time.Minute + 7*time.Second)  // between two polls
		src.publish(10, "Property", "P0001") // its content follows after the answer
		src.publish(11, "Property", "P0009") // as does the record
		until(t, "both wait for a second look", func() bool { return status(t, f).Recheck == 2 })
		src.quiet("Property", "P0001", property("P0001", 7))
		src.quiet("Property", "P0009", property("P0009", 7))
		pass(time.Minute)
		equal(t, src, f.Store)
		if s := status(t, f); s.Recheck != 0 {
			t.Errorf("%+v", s)
		}
		stop()
	})
}

func TestRecordThatGoesBackInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 3)
		f := newFeed(t, to(src), "Property")
		stop := run(t, f)
		pass(5 * time.Minute)
		old := `{"ListingKey":"P0001","ListPrice":1,"ModificationTimestamp":"2025-01-02T03:04:05Z"}`
		src.put("Property", "P0001", old)
		pass(3 * time.Minute)
		if r := replica(t, f.Store, "Property")["P0001"]; strings.Contains(string(r.Body), ":1,") {
			t.Error("the older record was taken at once")
		}
		pass(30 * time.Minute)
		equal(t, src, f.Store) // the producer insists
		stop()
	})
}

// A resource that leaves the feed and comes back is loaded anew: its events were ignored meanwhile.
func TestResourceThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		src.put("Office", "O1", `{"OfficeKey":"O1"}`)
		src.put("Office", "O2", `{"OfficeKey":"O2"}`)
		f := newFeed(t, to(src), "Property", "Office")
		catchUp(t, f)
		equal(t, src, f.Store)
		f = newFeedOn(f.Store, to(src))
		catchUp(t, f)
		src.put("Office", "O1", `{"OfficeKey":"O1","OfficeName":"x"}`)
		src.remove("Office", "O2")
		catchUp(t, f)
		if s := status(t, f); s.Pending != 0 {
			t.Errorf("events of a resource that is not copied stay: %+v", s)
		}
		f = newFeedOn(f.Store, to(src))
		f.Resources = []string{"Property", "Office"}
		catchUp(t, f)
		catchUp(t, f)
		equal(t, src, f.Store)
	})
}

func TestSyncFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 2500)
		f := newFeed(t, to(src), "Property")
		var last consumer.Progress
		if err := f.Sync(t.Context(), consumer.SyncOptions{}, func(p consumer.Progress) { last = p }); err != nil {
			t.Fatal(err)
		}
		if last.Records != 2500 || last.Pending != 0 {
			t.Errorf("%+v", last)
		}
		before := replica(t, f.Store, "Property")["P0001"].Version
		src.quiet("Property", "P0002", property("P0002", 1)) // without an event: only a full one sees it
		if err := f.Sync(t.Context(), consumer.SyncOptions{Full: true}, nil); err != nil {
			t.Fatal(err)
		}
		equal(t, src, f.Store)
		if after := replica(t, f.Store, "Property")["P0001"].Version; after != before {
			t.Errorf("an equal record got an event: %d, then %d", before, after)
		}
	})
}

// Keys that need quoting, escaping, or both.
func TestAwkwardKeys(t *testing.T) {
	for name, limit := range map[string]func(*source){
		"in": func(*source) {}, "or": func(s *source) { s.noIn = true }, "single": func(s *source) { s.noFilter = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := newSource("log-1/all")
				limit(src)
				f := newFeed(t, to(src), "Property")
				catchUp(t, f)
				for i, key := range []string{"O'Neil", "007", "a b", "a/b", "a/../b", "100%", "#1", "ß–☃", "KEY", "key", "a+b", "a&b", "(x),", "%27"} {
					src.put("Property", key, property(key, i))
				}
				catchUp(t, f)
				equal(t, src, f.Store)
				src.remove("Property", "a/../b")
				src.remove("Property", "O'Neil")
				catchUp(t, f)
				equal(t, src, f.Store)
			})
		})
	}
}

// A batch in which one record breaks the producer does not hold up the others.
func TestRecordThatBreaksTheProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 50)
		f := newFeed(t, script(to(src), 1e6, "'P0013'", answer(500, "application/json", `{"error":{"code":"500"}}`)), "Property")
		f.LongPoll = true
		stop := run(t, f)
		pass(time.Minute)
		for i := range 50 {
			key := fmt.Sprintf("P%04d", i)
			src.put("Property", key, property(key, 5))
		}
		pass(2 * time.Minute)
		if s := status(t, f); s.Aside != 1 || s.Pending != 0 {
			t.Errorf("%+v", s)
		}
		// What is tried again and fails holds up nothing that comes meanwhile.
		for i := range 100 {
			pass(20 * time.Second)
			src.put("Property", "P0001", property("P0001", i))
			pass(4 * time.Second) // a request that fails is repeated for so long
			if r := replica(t, f.Store, "Property")["P0001"]; !strings.Contains(string(r.Body), fmt.Sprintf(":%d,", i)) {
				t.Fatalf("change %d is late: %s", i, r.Body)
			}
		}
		f.HTTP.Transport.(*fault).times.Store(0)
		pass(6 * time.Hour)
		equal(t, src, f.Store)
		stop()
	})
}

// After a crash between receiving and applying, another process finds what was received.
func TestCrashBetweenReceiveAndApply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		src := filled("log-1/all", 5)
		catchUp(t, newFeedOn(s, to(src)))
		at := src.put("Property", "P0001", property("P0001", 7))
		p, err := s.Receive(t.Context(), entityevent.Delivery{Feed: "mls", Log: "log-1/all", Chained: true, After: 5, Through: entityevent.Sequence(at),
			Events: []entityevent.Event{{Sequence: entityevent.Sequence(at), Ref: entityevent.Ref{Resource: "Property", Key: "P0001"}}}})
		if err != nil || p.Stored != 1 {
			t.Fatal(p, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
		defer s.Close()
		stop := run(t, newFeedOn(s, to(src)))
		pass(time.Second)
		equal(t, src, s)
		stop()
	})
}
