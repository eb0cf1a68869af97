package consumer_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

// Records that were brought in without events are in the replica all the same.
func TestRecordsWithoutEventsAreLoaded(t *testing.T) {
	for _, log := range []string{"", "log-1/all"} {
		synctest.Test(t, func(t *testing.T) {
			src := newSource(log)
			for i := range 50 {
				key := fmt.Sprintf("P%04d", i)
				src.quiet("Property", key, property(key, i))
			}
			src.put("Property", "P0007", property("P0007", 9))
			f := newFeed(t, to(src), "Property")
			catchUp(t, f)
			equal(t, src, f.Store)
		})
	}
}

// A rotated URL is no new content, though the newest is kept.
func TestRotatedMediaURL(t *testing.T) {
	for _, log := range []string{"", "log-1/all"} {
		t.Run("log "+log, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"), sqlite.Options{Volatile: map[string][]string{"Media": {"MediaURL"}}})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				media := func(i, signature int) string {
					return fmt.Sprintf(`{"MediaKey":"M%d","ResourceRecordKey":"P1","MediaURL":"https://cdn.test/%d?sig=%d"}`, i, i, signature)
				}
				src := newSource(log)
				for i := range 3 {
					src.put("Media", fmt.Sprintf("M%d", i), media(i, 1))
				}
				f := newFeedOn(s, to(src))
				f.Resources = []string{"Media"}
				catchUp(t, f)
				head := localHead(t, f)
				for i := range 3 {
					src.put("Media", fmt.Sprintf("M%d", i), media(i, 2))
				}
				stop := run(t, f)
				pass(5 * time.Minute)
				stop()
				if err := f.Sync(t.Context(), consumer.SyncOptions{Full: true}, nil); err != nil {
					t.Fatal(err)
				}
				if h := localHead(t, f); h != head {
					t.Errorf("rotated URLs made %d events", h-head)
				}
				if r := replica(t, s, "Media"); len(r) != 3 || !strings.Contains(string(r["M1"].Body), "sig=2") {
					t.Errorf("%s", r["M1"].Body)
				}
			})
		})
	}
}

// An empty or failed expansion in a parent says nothing about the media: they are a resource of their own.
func TestEmptyExpansionRemovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource("log-1/all")
		src.put("Property", "P1", `{"ListingKey":"P1","Media":[{"MediaKey":"M1"},{"MediaKey":"M2"}]}`)
		for _, key := range []string{"M1", "M2", "M3"} {
			src.put("Media", key, fmt.Sprintf(`{"MediaKey":%q,"ResourceRecordKey":"P1"}`, key))
		}
		f := newFeed(t, to(src), "Property", "Media")
		catchUp(t, f)
		for _, expansion := range []string{`[]`, `null`, `{"error":{"code":"500"}}`} {
			src.put("Property", "P1", `{"ListingKey":"P1","Media":`+expansion+`}`)
			catchUp(t, f)
			equal(t, src, f.Store)
			if n := len(replica(t, f.Store, "Media")); n != 3 {
				t.Errorf("%s: %d media of 3 are left", expansion, n)
			}
		}
		src.remove("Property", "P1") // orphans stay until their own events come
		catchUp(t, f)
		equal(t, src, f.Store)
	})
}

// Parents are written first and removed last, in whichever order their events come; orphans are kept.
func TestParentsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource("log-1/all")
		f := newFeed(t, to(src), "Media", "Property", "Member", "Office")
		catchUp(t, f)
		records := map[string]string{"Media": `{"MediaKey":"1","ResourceRecordKey":"1"}`, "Property": `{"ListingKey":"1"}`, "Member": `{"MemberKey":"1"}`, "Office": `{"OfficeKey":"1"}`}
		children := []string{"Media", "Property", "Member", "Office"}
		for _, resource := range children {
			src.put(resource, "1", records[resource])
		}
		src.put("Media", "2", `{"MediaKey":"2","ResourceRecordKey":"nowhere"}`)
		order := func() (resources []string) {
			after := localHead(t, f)
			catchUp(t, f)
			equal(t, src, f.Store)
			p, err := f.Store.Events(t.Context(), entityevent.View{Feed: f.Name, Mask: entityevent.Everyone}, entityevent.EventQuery{After: after})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range p.Events {
				resources = append(resources, e.Resource)
			}
			return slices.Compact(resources)
		}
		if got, want := order(), []string{"Office", "Member", "Property", "Media"}; !slices.Equal(got, want) {
			t.Errorf("written in the order %s", got)
		}
		for i := range children {
			src.remove(children[len(children)-1-i], "1")
		}
		if got := order(); !slices.Equal(got, children) {
			t.Errorf("removed in the order %s", got)
		}
	})
}

// Connections that are cut for one resource hold up the events of no other, whichever comes first.
func TestCutConnectionsOfOneResource(t *testing.T) {
	for _, bad := range []string{"Office", "Media"} {
		t.Run(bad, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", 5)
				f := newFeed(t, to(src), "Office", "Property", "Media")
				f.LongPoll = true
				catchUp(t, f)
				for i := range 50 {
					src.put("Office", fmt.Sprintf("O%d", i), fmt.Sprintf(`{"OfficeKey":"O%d"}`, i))
					src.put("Media", fmt.Sprintf("M%d", i), fmt.Sprintf(`{"MediaKey":"M%d"}`, i))
				}
				reset := script(to(src), 1e9, "/"+bad, func(*http.Request) (*http.Response, error) { return nil, fmt.Errorf("connection reset by peer") })
				f = newFeedOn(f.Store, reset)
				f.LongPoll, f.Resources = true, []string{"Office", "Property", "Media"}
				stop := run(t, f)
				for i := range 10 {
					src.put("Property", "P0001", property("P0001", i))
					pass(time.Minute)
					if body := replica(t, f.Store, "Property")["P0001"].Body; !strings.Contains(string(body), fmt.Sprintf(":%d,", i)) {
						t.Fatalf("change %d waits: %s, %+v", i, body, status(t, f))
					}
				}
				if s := status(t, f); s.Pending != 50 || s.Aside != 0 || s.Applying.Failures == 0 {
					t.Errorf("%+v", s)
				}
				reset.times.Store(0)
				pass(20 * time.Minute)
				equal(t, src, f.Store)
				stop()
			})
		})
	}
}
