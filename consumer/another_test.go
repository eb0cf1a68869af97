package consumer_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// become makes a source be another one under the same name, as after a restore.
func (s *source) become(other *source, log string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log, s.rows, s.events, s.head = log, other.rows, other.events, other.head
}

// rename gives the log another name, as `resosync log new-id` does.
func (s *source) rename(log string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log, s.head = log, s.head+1<<32
}

// refusing answers as our producer does to a reader that is ahead of its log: 410.
func refusing(src *source) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cursor := r.Header.Get("EntityEvent-Cursor"); cursor != "" {
			log, n, _ := strings.Cut(cursor, ":")
			at, err := strconv.ParseInt(n, 10, 64)
			src.mu.Lock()
			ahead := err != nil || log == src.log && at > src.head
			src.mu.Unlock()
			if ahead {
				jsonError(w, http.StatusGone, "restored from a backup")
				return
			}
		}
		src.ServeHTTP(w, r)
	})
}

// A producer that was restored from a backup, before its log got a new name: it is said, once, what to do;
// nothing is removed or taken; and with the new name everything comes right by itself, within a poll.
func TestRestoredProducer(t *testing.T) {
	for name, serve := range map[string]func(*source) http.Handler{
		"head below the cursor": func(s *source) http.Handler { return s },
		"410":                   refusing,
	} {
		t.Run(name, func(t *testing.T) {
			for _, long := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					src := filled("log-1/all", 300)
					f := newFeed(t, to(serve(src)), "Property")
					f.LongPoll = long
					stop := run(t, f)
					pass(10 * time.Minute)
					equal(t, src, f.Store)
					backup := filled("log-1/all", 250)
					src.become(backup, "log-1/all")
					src.put("Property", "P0007", property("P0007", 1)) // under a number that we know
					pass(6 * time.Hour)
					s := status(t, f)
					if !strings.Contains(s.Polling.Error, "log new-id") || s.Sequence != 300 || s.Log != "log-1/all" {
						t.Errorf("%+v", s)
					}
					if n := len(replica(t, f.Store, "Property")); n != 300 {
						t.Errorf("%d records are served of the 300 before", n)
					}
					if s.Polling.Since.IsZero() || time.Since(s.Polling.Since) < 5*time.Hour {
						t.Errorf("the trouble is not told as one: %+v", s.Polling)
					}
					src.rename("log-2/all")
					pass(2 * time.Minute)
					equal(t, src, f.Store)
					if s := status(t, f); s.Log != "log-2/all" || s.Polling.Failures != 0 {
						t.Errorf("%+v", s)
					}
					stop()
				})
			}
		})
	}
}

// A producer that was restored, and gave numbers out again up to and beyond ours before anybody asked.
func TestNumbersReusedBeforeAnybodyNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 300)
		f := newFeed(t, to(refusing(src)), "Property")
		f.Poll = "@every 30m"
		d := newDoor(t, f)
		stop := run(t, f)
		pass(time.Minute)
		equal(t, src, f.Store)
		src.become(filled("log-1/all", 250), "log-1/all")
		for i := range 80 { // 251 to 330
			key := fmt.Sprintf("P%04d", i)
			n := src.put("Property", key, property(key, 7))
			w := d.push(pushed(event(n, "Property", key)), chain("log-1/all", n-1, n)...)
			if w.Code != 200 || n <= 300 && w.Header().Get("EntityEvent-Cursor") != "log-1/all:300" {
				t.Errorf("push of %d: %d %v", n, w.Code, w.Header())
			}
		}
		src.remove("Property", "P0100")
		pass(2 * time.Hour)
		if s := status(t, f); s.Sequence != 331 {
			t.Errorf("%+v", s)
		}
		src.rename("log-2/all")
		pass(31 * time.Minute)
		equal(t, src, f.Store)
		stop()
	})
}

// A producer that forgot what follows our position says 410 too: only a load makes us whole.
func TestForgottenPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 30)
		var forgot atomic.Bool
		f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
			if forgot.Load() && strings.Contains(r.URL.RawQuery, "gt%2030&") {
				return answer(410, "application/json", `{"error":{"code":"410","message":"below the floor"}}`)(r)
			}
			return to(src)(r)
		}), "Property")
		catchUp(t, f)
		forgot.Store(true)
		src.quiet("Property", "P0001", property("P0001", 7)) // its event was forgotten
		src.put("Property", "P0002", property("P0002", 7))
		stop := run(t, f)
		pass(3 * time.Minute)
		equal(t, src, f.Store)
		if s := status(t, f); s.Sequence != 31 || s.Polling.Failures != 0 {
			t.Errorf("%+v", s)
		}
		stop()
	})
}

// A 410 of anybody on the way proves nothing.
func TestGoneOfSomethingElse(t *testing.T) {
	for kind, body := range map[string]string{"text/html": "<html>gone", "application/json": `{"message":"gone"}`} {
		synctest.Test(t, func(t *testing.T) {
			src := filled("log-1/all", 30)
			f := newFeed(t, script(to(src), 4, "EntityEvent?$filter", answer(410, kind, body)), "Property")
			stop := run(t, f)
			pass(time.Hour)
			equal(t, src, f.Store)
			if n := len(src.asked("Property")); n != 1 {
				t.Errorf("loaded %d times", n)
			}
			stop()
		})
	}
}

// Two servers with logs of their own behind one address: it is loaded again once an hour at most, it is
// said, and what is served never shrinks by it.
func TestTwoServersBehindOneAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := filled("log-a/all", 200), filled("log-b/all", 200)
		for i := range 60 { // their logs differ, their records are the same
			key := fmt.Sprintf("P%04d", i)
			b.put("Property", key, property(key, 1000+i))
		}
		var n atomic.Int64
		f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
			if n.Add(1)%2 == 0 {
				return to(a)(r)
			}
			return to(b)(r)
		}), "Property")
		stop := run(t, f)
		pass(time.Minute)
		told := false
		for range 300 {
			pass(time.Minute)
			told = told || strings.Contains(status(t, f).Polling.Error, "the url of one")
			if n := len(replica(t, f.Store, "Property")); n != 200 {
				t.Fatalf("%d records of 200 are served", n)
			}
		}
		if !told {
			t.Error("nobody is told")
		}
		loads := 0
		for _, target := range append(a.asked("Property?"), b.asked("Property?")...) {
			if target == "Property?" {
				loads++
			}
		}
		if loads < 3 || loads > 1+6 { // the first one, and one for each hour that began
			t.Errorf("loaded %d times in five hours", loads)
		}
		stop()
	})
}

// Without a log id a number that names another record than before is the proof, be it polled or pushed.
func TestNumberOfAnotherRecord(t *testing.T) {
	for _, pushes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			src := filled("", 20)
			f := newFeed(t, to(src), "Property")
			d := newDoor(t, f)
			stop := run(t, f)
			pass(5*time.Minute + 2*time.Second)
			src.put("Property", "P0001", property("P0001", 7)) // 21
			if pushes {
				d.push(event(21, "Property", "P0001"))
				pass(time.Second)
			} else {
				until(t, "21 is seen and not settled", func() bool { return position(t, f).Unsettled })
			}
			restored := filled("", 20)
			restored.put("Property", "P0009", property("P0009", 8)) // 21
			src.become(restored, "")
			if pushes {
				if w := d.push(event(21, "Property", "P0009")); w.Code != 200 {
					t.Errorf("%d", w.Code)
				}
			}
			pass(10 * time.Minute)
			equal(t, src, f.Store)
			if n := len(src.asked("Property?$orderby=ListingKey%20asc")); n < 2 {
				t.Errorf("loaded %d times", n)
			}
			stop()
		})
	}
}

// The hour between two loads for another log is an hour, though the clock was set back or the process
// restarts.
func TestHourBetweenLoadsAndTheClock(t *testing.T) {
	for name, c := range map[string]struct {
		stamp time.Duration // of the last load, from now
		wait  time.Duration // until the next
	}{
		"half an hour ago":      {-30 * time.Minute, 30 * time.Minute},
		"two hours ago":         {-2 * time.Hour, 0},
		"in an hour":            {time.Hour, time.Hour},
		"in a year":             {365 * 24 * time.Hour, time.Hour},
		"never":                 {0, 0},
		"a millisecond in time": {time.Millisecond, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, t.TempDir())
				defer s.Close()
				src := filled("log-1/all", 20)
				catchUp(t, newFeedOn(s, to(src)))
				pass(3 * time.Hour)
				if c.stamp != 0 {
					doc, err := s.Get(t.Context(), "load", "mls")
					if err != nil {
						t.Fatal(err)
					}
					var body map[string]any
					if err := json.Unmarshal(doc.Body, &body); err != nil {
						t.Fatal(err)
					}
					body["resynced"] = time.Now().Add(c.stamp)
					doc.Body, _ = json.Marshal(body)
					doc.Kind, doc.ID = "load", "mls"
					if _, err := s.Apply(t.Context(), entityevent.Commit{Docs: []entityevent.Doc{doc}}); err != nil {
						t.Fatal(err)
					}
				}
				src.become(filled("log-2/all", 15), "log-2/all")
				start := time.Now()
				until(t, "it is loaded again", func() bool {
					stop := run(t, newFeedOn(s, to(src))) // a restart every few minutes
					pass(3 * time.Minute)
					stop()
					p, err := s.Position(t.Context(), "mls")
					return err != nil || p.Log == "log-2/all"
				})
				if took := time.Since(start); took < c.wait || took > c.wait+4*time.Minute {
					t.Errorf("loaded after %s, want %s", took, c.wait)
				}
			})
		})
	}
}

// Polls say where the feed stands, in the words of the producer's log, and nothing on the way may keep
// their answers.
func TestPollsNameTheCursor(t *testing.T) {
	for log, want := range map[string]string{"log-1/all": "log-1/all:5", "": ""} {
		synctest.Test(t, func(t *testing.T) {
			var last atomic.Pointer[http.Request]
			src := filled(log, 5)
			f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
				if strings.Contains(r.URL.RequestURI(), "EntityEvent?$filter") {
					last.Store(r)
				}
				if r.Header.Get("Cache-Control") != "no-cache" {
					t.Errorf("%s may be answered by a cache", r.URL)
				}
				return to(src)(r)
			}), "Property")
			stop := run(t, f)
			pass(10 * time.Minute)
			if r := last.Load(); r == nil || r.Header.Get("EntityEvent-Cursor") != want {
				t.Errorf("log %q: %v", log, r.Header)
			}
			stop()
		})
	}
}

// cache replays answers to the requests that it knows, as a broken proxy does.
type cache struct {
	next   wire
	header func(h http.Header, kept time.Duration) // what it makes of the headers of an answer that it kept
	on     atomic.Bool
	kept   map[string]*httptest.ResponseRecorder
	at     map[string]time.Time
	lock   chan struct{}
}

func newCache(h http.Handler, header func(http.Header, time.Duration)) *cache {
	c := &cache{header: header, kept: map[string]*httptest.ResponseRecorder{}, at: map[string]time.Time{}, lock: make(chan struct{}, 1)}
	c.next = func(r *http.Request) (*http.Response, error) {
		c.lock <- struct{}{}
		defer func() { <-c.lock }()
		key := r.URL.String()
		w := c.kept[key]
		if w == nil || !c.on.Load() {
			w = httptest.NewRecorder()
			w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
			h.ServeHTTP(w, r)
			c.kept[key], c.at[key] = w, time.Now()
		}
		resp := replay(w, r)
		c.header(resp.Header, time.Since(c.at[key]))
		return resp, nil
	}
	return c
}

// replay answers as before.
func replay(w *httptest.ResponseRecorder, r *http.Request) *http.Response {
	return &http.Response{StatusCode: w.Code, Header: w.Header().Clone(), Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())), ContentLength: -1, Request: r}
}

// A cache on the way that keeps pages of the log, though told not to: what it repeats is no contact with
// the producer, moves nothing back and loses nothing, and when it is gone all comes right.
func TestCachedPagesAreNoContact(t *testing.T) {
	for name, header := range map[string]func(http.Header, time.Duration){
		"Age": func(h http.Header, kept time.Duration) {
			h.Set("Age", strconv.Itoa(int(kept.Seconds())))
			h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
		},
		"Date": func(http.Header, time.Duration) {},
	} {
		for _, log := range []string{"", "log-1/all"} {
			t.Run(name+" "+log, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					src := filled(log, 5)
					c := newCache(src, header)
					f := newFeed(t, c.next, "Property")
					stop := run(t, f)
					pass(10 * time.Minute)
					c.on.Store(true)
					pass(time.Minute)
					src.put("Property", "P0001", property("P0001", 7))
					contact := time.Now()
					pass(2 * time.Hour)
					s := status(t, f)
					if s.Contact.After(contact) || s.Polling.Failures == 0 || !strings.Contains(s.Polling.Error, "cache") {
						t.Errorf("%+v", s)
					}
					c.on.Store(false)
					pass(20 * time.Minute)
					equal(t, src, f.Store)
					if s := status(t, f); s.Polling.Failures != 0 {
						t.Errorf("%+v", s)
					}
					stop()
				})
			})
		}
	}
}

// An old page in place of any answer, at random, and answers to other questions: the cursor never goes
// back, and at the end both are equal.
func TestOldPagesMoveNothingBack(t *testing.T) {
	for _, log := range []string{"", "log-1/all"} {
		synctest.Test(t, func(t *testing.T) {
			src := filled(log, 30)
			var old []*httptest.ResponseRecorder
			lock := make(chan struct{}, 1)
			var n atomic.Int64
			f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
				if !strings.HasSuffix(r.URL.Path, "/EntityEvent") {
					return to(src)(r)
				}
				w := httptest.NewRecorder()
				src.ServeHTTP(w, r)
				lock <- struct{}{}
				defer func() { <-lock }()
				if n := n.Add(1); n > 5 && n%3 == 0 && n < 2000 {
					w = old[int(n*7)%len(old)]
				} else {
					old = append(old, w)
				}
				return replay(w, r), nil
			}), "Property")
			stop := run(t, f)
			last := entityevent.Sequence(0)
			logs := map[entityevent.LogID]bool{}
			for i := range 120 {
				pass(time.Minute)
				key := fmt.Sprintf("P%04d", i%30)
				src.put("Property", key, property(key, i))
				p := position(t, f)
				logs[p.Log] = true
				if p.Sequence < last && log != "" {
					t.Fatalf("the cursor went from %d to %d", last, p.Sequence)
				}
				last = p.Sequence
				if int64(last) > src.head {
					t.Fatalf("the cursor is at %d of %d", last, src.head)
				}
			}
			n.Store(1 << 30)
			pass(2 * time.Hour)
			equal(t, src, f.Store)
			if s := status(t, f); s.Polling.Failures != 0 || s.Pending != 0 {
				t.Errorf("%+v", s)
			}
			stop()
		})
	}
}
