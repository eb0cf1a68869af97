package consumer_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// flood appends events of records that are not there.
func (s *source) flood(resource string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range n {
		s.head++
		key := fmt.Sprintf("F%05d", i)
		body := fmt.Sprintf(`{"EntityEventSequence":%d,"ResourceName":%q,"ResourceRecordKey":%q}`, s.head, resource, key)
		s.events = append(s.events, row{key: key, seq: s.head, body: json.RawMessage(body)})
	}
}

// However many events of a resource that fails stand before one of another, that one is applied, and
// none of the others is lost.
func TestFailingResourceBlocksNoOther(t *testing.T) {
	const events = 20_500
	for name, made := range map[string]func(*http.Request) (*http.Response, error){
		"403": answer(403, "application/json", `{"error":{"code":"403","message":"no"}}`),
		"504": answer(504, "text/html", "<html>"),
		"cut": func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset by peer") },
	} {
		if testing.Short() && name != "504" {
			continue // so many events take a while
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", 3)
				f := newFeed(t, to(src), "Property", "Media")
				catchUp(t, f)
				src.flood("Media", events)
				src.put("Property", "P0001", property("P0001", 7))
				f = newFeedOn(f.Store, script(to(src), 1e6, "/Media", made))
				f.Resources = []string{"Property", "Media"}
				f.PageSize = 1001 // the source counts pages of 1000 as the last
				stop := run(t, f)
				until(t, "P0001 is applied", func() bool {
					return strings.Contains(string(replica(t, f.Store, "Property")["P0001"].Body), ":7,")
				})
				aside, err := f.Store.Aside(t.Context(), f.Name, time.Time{}, 0)
				if s := status(t, f); err != nil || int(s.Pending)+len(aside) != events {
					t.Errorf("%d are set aside: %v, %+v", len(aside), err, s)
				}
				stop()
			})
		})
	}
}

// What was set aside and makes the producer hang is given up soon, so that news do not wait for it.
func TestHangingRetryDelaysNewsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 6)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		bad := []string{"P0001", "P0002", "P0003", "P0004"}
		for _, key := range bad {
			src.put("Property", key, `{"ListingKey":"`+key+`","Twice":1,"Twice":2}`)
		}
		var hangs atomic.Bool
		hung := make(chan bool, 1000)
		f = newFeedOn(f.Store, wire(func(r *http.Request) (*http.Response, error) {
			if target := r.URL.RequestURI(); hangs.Load() && strings.Contains(target, "/Property") && !strings.Contains(target, "P0005") {
				hung <- true
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return to(src)(r)
		}))
		f.LongPoll = true
		stop := run(t, f)
		pass(time.Second)
		if s := status(t, f); s.Aside != len(bad) || s.Pending != 0 {
			t.Fatalf("%+v", s)
		}
		hangs.Store(true)
		for range 5 {
			<-hung
			start := time.Now()
			src.put("Property", "P0005", property("P0005", int(start.Unix())))
			until(t, "the news are applied", func() bool {
				return strings.Contains(string(replica(t, f.Store, "Property")["P0005"].Body), fmt.Sprint(start.Unix()))
			})
			if took := time.Since(start); took > 45*time.Second {
				t.Errorf("news took %s", took)
			}
		}
		hangs.Store(false)
		for _, key := range bad {
			src.quiet("Property", key, property(key, 8))
		}
		pass(24 * time.Hour)
		equal(t, src, f.Store)
		if s := status(t, f); s.Aside != 0 || s.Pending != 0 {
			t.Errorf("%+v", s)
		}
		stop()
	})
}

// Records of a resource that the producer refuses are asked for ever more rarely, also when nothing else
// is asked for.
func TestRetriesOfARefusedResourceGetRarer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 3)
		f := newFeed(t, to(src), "Property", "Media")
		catchUp(t, f)
		var asked atomic.Int64
		f = newFeedOn(f.Store, script(to(src), 1e6, "/Media", func(r *http.Request) (*http.Response, error) {
			asked.Add(1)
			return answer(403, "application/json", `{"error":{"code":"403"}}`)(r)
		}))
		f.Resources = []string{"Property", "Media"}
		src.flood("Media", 50)
		src.put("Property", "P0001", property("P0001", 7))
		stop := run(t, f)
		pass(24 * time.Hour)
		first := asked.Swap(0)
		pass(24 * time.Hour)
		if second := asked.Load(); second == 0 || second > 1000 || second > first {
			t.Errorf("%d requests on the first day, %d on the second", first, second)
		}
		if s := status(t, f); s.Aside != 50 || s.Pending != 0 {
			t.Errorf("%+v", s)
		}
		stop()
	})
}
