package consumer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
)

// fault changes an answer of the producer once, or as long as it says so.
type fault struct {
	next  wire
	on    func(r *http.Request) bool
	times atomic.Int32
	make  func(r *http.Request) (*http.Response, error)
}

func (f *fault) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.times.Load() > 0 && f.on(r) {
		f.times.Add(-1)
		return f.make(r)
	}
	return f.next(r)
}

// script returns a network on which the first answers to targets that contain a text are made by hand.
func script(next wire, times int32, target string, answer func(r *http.Request) (*http.Response, error)) *fault {
	f := &fault{next: next, make: answer, on: func(r *http.Request) bool {
		return strings.Contains(r.URL.RequestURI(), target)
	}}
	f.times.Store(times)
	return f
}

func answer(status int, kind, body string, header ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", kind)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.WriteString(body)
		resp := w.Result()
		resp.Request = r
		return resp, nil
	}
}

// cut ends an answer in its middle: with an error of the connection, or as if that were all.
func cut(next wire, failure error) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		resp, err := next(r)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		half := io.Reader(bytes.NewReader(body[:len(body)/2]))
		if failure != nil {
			half = io.MultiReader(half, failing{failure})
		}
		resp.Body = io.NopCloser(half)
		resp.ContentLength = -1
		return resp, err
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func filled(log string, n int) *source {
	s := newSource(log)
	for i := range n {
		s.put("Property", fmt.Sprintf("P%04d", i), property(fmt.Sprintf("P%04d", i), 1000+i))
	}
	return s
}

func TestCutPageIsFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 50)
		f := newFeed(t, nil, "Property")
		net := script(to(src), 2, "gt%20'P0019'", cut(to(src), io.ErrUnexpectedEOF))
		f.HTTP.Transport = net
		catchUp(t, f)
		equal(t, src, f.Store)
	})
}

func TestCutPageThatLooksWholeIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 50)
		f := newFeed(t, nil, "Property")
		f.HTTP.Transport = script(to(src), 1, "gt%20'P0019'", cut(to(src), nil))
		if err := f.Sync(t.Context(), consumer.SyncOptions{}, nil); err == nil {
			t.Error("a page that is no JSON was taken")
		}
		if n := len(replica(t, f.Store, "Property")); n != 20 {
			t.Errorf("%d records after the first page of 20 and half a second one", n)
		}
		pass(time.Minute) // the resource is left alone for a while
		catchUp(t, f)
		equal(t, src, f.Store)
		if first := src.asked("Property?$orderby=ListingKey%20asc"); len(first) != 1 {
			t.Errorf("the load began anew: %q", first)
		}
	})
}

func TestTooManyRequestsIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 50)
		f := newFeed(t, nil, "Property")
		start := time.Now()
		var refusedAt, nextAt time.Time
		refuse := script(to(src), 1, "gt%20'P0019'", func(r *http.Request) (*http.Response, error) {
			refusedAt = time.Now()
			return answer(429, "application/json", `{"error":{"code":"429"}}`, "Retry-After", "90")(r)
		})
		f.HTTP.Transport = wire(func(r *http.Request) (*http.Response, error) {
			if !refusedAt.IsZero() && nextAt.IsZero() {
				nextAt = time.Now()
			}
			return refuse.RoundTrip(r)
		})
		catchUp(t, f)
		equal(t, src, f.Store)
		if wait := nextAt.Sub(refusedAt); wait < 90*time.Second {
			t.Errorf("asked again %s after a Retry-After of 90 s; began %s before", wait, refusedAt.Sub(start))
		}
	})
}

// What proves nothing removes nothing.
func TestNoRemovalWithoutProof(t *testing.T) {
	jsonError := `{"error":{"code":"1","message":"no"}}`
	for name, made := range map[string]func(*http.Request) (*http.Response, error){
		"400": answer(400, "application/json", jsonError), "401": answer(401, "application/json", jsonError),
		"403": answer(403, "application/json", jsonError), "429": answer(429, "application/json", jsonError, "Retry-After", "3"),
		"500": answer(500, "application/json", jsonError), "503": answer(503, "text/html", "<html>"),
		"HTML 404":              answer(404, "text/html", "<html>no"),
		"404 that is no error":  answer(404, "application/json", `{"value":[]}`),
		"200 of HTML":           answer(200, "text/html", "<html>sign in</html>"),
		"200 with an empty one": answer(200, "application/json", `{}`),
		"network":               func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", 3)
				f := newFeed(t, nil, "Property")
				f.HTTP.Transport = to(src)
				catchUp(t, f)
				src.put("Property", "P0001", property("P0001", 7))
				src.put("Property", "P0002", property("P0002", 7))
				outage := script(to(src), 1e6, "/Property", made)
				f2 := newFeedOn(f.Store, outage)
				stop := run(t, f2)
				pass(20 * time.Minute)
				if n := len(replica(t, f.Store, "Property")); n != 3 {
					t.Errorf("%d records of 3 are left", n)
				}
				s := status(t, f2)
				if judged := name == "200 with an empty one"; !judged && (s.Pending != 2 || s.Aside != 0) || judged && s.Aside != 2 {
					t.Errorf("the events do not stay: %+v", s)
				}
				outage.times.Store(0)
				pass(2 * time.Hour) // the back-off may have become that long
				equal(t, src, f.Store)
				stop()
			})
		})
	}
}

func newFeedOn(s consumer.Store, network http.RoundTripper) *consumer.Feed {
	return &consumer.Feed{Name: "mls", URL: "http://mls.test/odata", Token: "sesame", Resources: []string{"Property"},
		Store: s, HTTP: &http.Client{Transport: network}}
}

func TestRemovedRecord(t *testing.T) {
	for _, log := range []string{"", "log-1/all"} {
		t.Run("log "+log, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled(log, 5)
				f := newFeed(t, to(src), "Property")
				catchUp(t, f)
				src.remove("Property", "P0002")
				src.put("Property", "P0003", property("P0003", 5))
				src.remove("Property", "P0004")
				catchUp(t, f)
				equal(t, src, f.Store)
			})
		})
	}
}

// A server whose route for single records answers HTML is asked by key-only queries, twice.
func TestRemovalByKeyOnlyQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		f := newFeed(t, script(to(src), 1e6, "/Property('", answer(404, "text/html", "<html>")), "Property")
		catchUp(t, f)
		src.remove("Property", "P0002")
		src.put("Property", "P0003", property("P0003", 5))
		catchUp(t, f)
		equal(t, src, f.Store)
		if n := len(src.asked("$select=ListingKey")); n != 2 {
			t.Errorf("%d key-only queries", n)
		}
	})
}

func TestTokenStaysAtItsOrigin(t *testing.T) {
	for name, lead := range map[string]func(*http.Request) (*http.Response, error){
		"redirect": answer(302, "text/html", "", "Location", "http://elsewhere.test/odata/Property"),
		"port":     answer(307, "text/html", "", "Location", "http://mls.test:81/odata/Property"),
		"scheme":   answer(307, "text/html", "", "Location", "https://mls.test/odata/Property"),
		"nextLink": answer(200, "application/json", `{"value":[],"@odata.nextLink":"http://elsewhere.test/odata/Property?$skip=1"}`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", 3)
				net := script(to(src), 1, "/Property", lead)
				var log bytes.Buffer
				f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
					if r.URL.Host != "mls.test" || r.URL.Scheme != "http" {
						t.Errorf("asked %s with %q", r.URL.Host, r.Header.Get("Authorization"))
					} else if r.Header.Get("Authorization") != "Bearer sesame" {
						t.Errorf("asked its own producer without the token")
					}
					return net.RoundTrip(r)
				}), "Property")
				f.Logger = slog.New(slog.NewTextHandler(&log, nil))
				err := f.Sync(t.Context(), consumer.SyncOptions{}, nil)
				if err == nil || !strings.Contains(err.Error(), "another origin") {
					t.Errorf("%v", err)
				}
				if text := log.String() + fmt.Sprint(err); strings.Contains(text, "sesame") || strings.Contains(text, "elsewhere") {
					t.Errorf("a token or url is told: %s", text)
				}
			})
		})
	}
}

func TestErrorsAndLogsTellNoSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := newFeed(t, wire(func(*http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("dial: refused")
		}), "Property")
		f.URL = "http://user:open@mls.test/odata/very-private"
		f.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		err := f.Sync(t.Context(), consumer.SyncOptions{}, nil)
		stop := run(t, f)
		pass(time.Hour)
		st := status(t, f)
		stop()
		text := log.String() + fmt.Sprint(err) + fmt.Sprintf("%+v", st)
		for _, secret := range []string{"sesame", "open", "very-private"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s is told: %s", secret, text)
			}
		}
		if err == nil || strings.Count(log.String(), "failing") != 1 {
			t.Errorf("one line about the failure is wanted: %v\n%s", err, log.String())
		}
	})
}

// A connection that neither answers nor ends is given up.
func TestSilentProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 3)
		f := newFeed(t, script(to(src), 1, "/EntityEvent", func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}), "Property")
		start := time.Now()
		catchUp(t, f)
		equal(t, src, f.Store)
		if took := time.Since(start); took > time.Minute {
			t.Errorf("noticed after %s", took)
		}
	})
}

// A page of something in between is asked for again, and so is what that says is JSON.
func TestUnexpectedContentIsFetchedAgain(t *testing.T) {
	for name, made := range map[string]func(*http.Request) (*http.Response, error){
		"HTML": answer(200, "text/html", "<html>sign in</html>"),
		"JSON": answer(200, "text/html", `{"value":[]}`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", 3)
				f := newFeed(t, script(to(src), 1, "/Property", made), "Property")
				catchUp(t, f)
				equal(t, src, f.Store)
			})
		})
	}
}

// One 404, even in JSON, is not enough: it may come from a replica that does not have the record yet.
func TestOneAbsentAnswerRemovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 3)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		src.put("Property", "P0001", property("P0001", 7))
		f = newFeedOn(f.Store, script(to(src), 1, "/Property('P0001')", answer(404, "application/json", `{"error":{"code":"404"}}`)))
		catchUp(t, f)
		equal(t, src, f.Store)
		if v := replica(t, f.Store, "Property")["P0001"].Version; v != 4 {
			t.Errorf("its last event is %d: it was removed in between", v)
		}
	})
}

// Addresses that are too long for the producer are made shorter.
func TestAddressTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 3)
		short := &fault{next: to(src), make: answer(414, "text/html", "<html>"), on: func(r *http.Request) bool {
			return len(r.URL.RequestURI()) > 200
		}}
		short.times.Store(1e6)
		f := newFeed(t, short, "Property")
		catchUp(t, f)
		for i := range 40 {
			key := fmt.Sprintf("P%04d", i)
			src.put("Property", key, property(key, 5))
		}
		catchUp(t, f)
		equal(t, src, f.Store)
		if n := len(src.asked("Property?$filter")); n < 4 || n > 10 {
			t.Errorf("%d batches", n)
		}
	})
}

func TestRecordThatCannotBeAppliedBlocksNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 3)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		src.put("Property", "P0001", `{"ListingKey":"P0001","Twice":1,"Twice":2}`)
		src.put("Property", "P0002", property("P0002", 9))
		stop := run(t, f)
		pass(time.Second)
		if s := status(t, f); s.Aside != 1 || s.Pending != 0 {
			t.Errorf("%+v", s)
		}
		if r := replica(t, f.Store, "Property")["P0002"]; !strings.Contains(string(r.Body), ":9,") {
			t.Errorf("P0002 is %s", r.Body)
		}
		src.quiet("Property", "P0001", property("P0001", 8))
		pass(2 * time.Minute)
		equal(t, src, f.Store)
		if s := status(t, f); s.Aside != 0 {
			t.Errorf("it is still set aside: %+v", s)
		}
		stop()
	})
}

// One resource that the producer refuses holds up neither the load nor the events of the others.
func TestResourceThatIsNotOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 3)
		f := newFeed(t, to(src), "Property", "Showing")
		stop := run(t, f)
		pass(time.Minute)
		src.put("Showing", "S1", `{"ShowingKey":"S1"}`)
		src.put("Property", "P0002", property("P0002", 9))
		pass(2 * time.Minute)
		equal(t, src, f.Store)
		s := status(t, f)
		if s.Loaded || s.Polling.Failures == 0 || !strings.Contains(s.Polling.Error, "Showing") {
			t.Errorf("the trouble is not told: %+v", s)
		}
		stop()
	})
}
