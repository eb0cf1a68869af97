package consumer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
)

// A producer that wants no tasks for an hour is copied by pages and followed meanwhile, over a restart too, and is not
// asked for tasks before; who asks for a digest is told why it waits.
func TestRefusedTasksConcernTasksAlone(t *testing.T) {
	for _, code := range []int{429, 503} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := making(1500)
				tasks := func() int {
					m.desk.Lock()
					defer m.desk.Unlock()
					return len(m.made)
				}
				n := &hitch{next: to(m), method: "POST", path: "/tasks", fail: declining(code, "3600"), left: 1}
				f := newFeed(t, wire(n.RoundTrip), "Property") // two resources may both ask before the first is refused
				start := time.Now()
				catchUp(t, f)
				equal(t, m.source, f.Store)
				if took := time.Since(start); took > time.Minute || n.failed != 1 || tasks() != 0 {
					t.Errorf("loaded after %s, %d refused, %d tasks", took, n.failed, tasks())
				}
				troubles := make(chan string, 10_000)
				verified := make(chan error, 1)
				go func() {
					v, err := f.Verify(t.Context(), func(p consumer.VerifyProgress) { troubles <- p.Trouble })
					if err == nil && !v.Equal {
						err = fmt.Errorf("not equal: %+v", v)
					}
					verified <- err
				}()
				pass(10 * time.Minute)
				var told string
				for len(troubles) > 0 {
					told = <-troubles
				}
				if !strings.Contains(told, "wants no requests for tasks before") || !strings.Contains(told, "not now") {
					t.Errorf("it is said to wait as %q", told)
				}
				for i, f := range []*consumer.Feed{f, newFeedOn(f.Store, wire(n.RoundTrip))} {
					m.put("Property", fmt.Sprint("new", i), property(fmt.Sprint("new", i), i))
					start = time.Now()
					catchUp(t, f)
					equal(t, m.source, f.Store)
					if s := status(t, f); !s.Halted.IsZero() || time.Since(start) > time.Second {
						t.Errorf("halted until %s, a change was here after %s", s.Halted, time.Since(start))
					}
				}
				if tasks() != 0 {
					t.Errorf("%d tasks within the hour", tasks())
				}
				if err := <-verified; err != nil || tasks() == 0 {
					t.Errorf("verify: %v with %d tasks", err, tasks())
				}
			})
		})
	}
}

// What the producer says of the log or of records is of all requests: also tasks wait. If it said it first of tasks,
// the next request is told so, and no other follows.
func TestRefusalOfAllRequests(t *testing.T) {
	for what, path := range map[string]string{"the log": "/EntityEvent", "a page": "/Property", "a task": "/tasks"} {
		for _, log := range []string{"log-1/all", ""} {
			t.Run(what+" "+log, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := making(50)
					m.log = log
					m.answer = func(w http.ResponseWriter, r *http.Request) bool { // an older or another producer without snapshots
						if what == "a page" && r.Method == http.MethodPost {
							declined(w, 403, "no")
							return true
						}
						return false
					}
					var until time.Time
					within := 0
					f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
						switch now := time.Now(); {
						case until.IsZero() && strings.HasSuffix(r.URL.Path, path):
							until = now.Add(10 * time.Minute)
							return declining(429, "600")(r)
						case now.Before(until):
							within++
							return declining(429, fmt.Sprint(int(until.Sub(now).Seconds())))(r)
						}
						return to(m)(r)
					}), "Property")
					if what == "a task" && log == "" {
						return // it is asked for none
					}
					start := time.Now()
					catchUp(t, f)
					equal(t, m.source, f.Store)
					most := 0
					if what == "a task" {
						most = 1
					}
					if took := time.Since(start); took < 10*time.Minute || within > most {
						t.Errorf("%d requests within the halt, which took %s", within, took)
					}
				})
			})
		}
	}
}
