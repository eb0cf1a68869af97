package consumer_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
)

// A producer that makes snapshots is copied by them, and no page is asked for: compressed over a network, as it is on
// this machine.
func TestLoadBySnapshot(t *testing.T) {
	for host, encoding := range map[string]string{"mls.test": "gzip", "127.0.0.1:8080": "identity"} {
		t.Run(host, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := making(2500)
				m.put("Member", "M1", `{"MemberKey":"M1","MemberFullName":"Ann"}`)
				m.polls = 3
				f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
					if strings.HasSuffix(r.URL.Path, "/result") && r.Header.Get("Accept-Encoding") != encoding {
						t.Errorf("Accept-Encoding %q", r.Header.Get("Accept-Encoding"))
					}
					if r.Header.Get("Authorization") != "Bearer sesame" {
						t.Errorf("%s without the token", r.URL.Path)
					}
					return to(m)(r)
				}), "Property", "Member")
				f.URL = "http://" + host + "/odata"
				catchUp(t, f)
				equal(t, m.source, f.Store)
				if pages := append(m.asked("Property?"), m.asked("Member?")...); len(pages) != 0 {
					t.Errorf("pages were asked for: %v", pages)
				}
				if n := m.tasks(t); n != 2 {
					t.Errorf("%d tasks", n)
				}
				if polls := m.asked("GET /tasks/0"); len(polls) != 3+1+1 {
					t.Errorf("asked: %v", polls)
				}
			})
		})
	}
}

// A producer without a log id, or whose links are those of another service, is asked for no task.
func TestNoSnapshotOffered(t *testing.T) {
	for name, links := range map[string]string{
		"no links":          `{}`,
		"no tasks":          `{"_links":{"odata":{"href":"/odata"}}}`,
		"another service":   `{"_links":{"odata":{"href":"/feeds/x/odata"},"tasks":{"href":"/tasks"}}}`,
		"without a service": `{"_links":{"tasks":{"href":"/tasks"}}}`,
		"another origin":    `{"_links":{"odata":{"href":"/odata"},"tasks":{"href":"http://evil.test/tasks"}}}`,
		"no JSON":           `<html>`,
		"a list":            `[]`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := making(50)
				m.answer = func(w http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path == "/" {
						hal(w, 200, links)
					}
					return r.URL.Path == "/"
				}
				f := newFeed(t, to(m), "Property")
				catchUp(t, f)
				equal(t, m.source, f.Store)
				if n := m.tasks(t); n != 0 {
					t.Errorf("%d tasks", n)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		m := making(50)
		m.log = ""
		f := newFeed(t, to(m), "Property")
		catchUp(t, f)
		equal(t, m.source, f.Store)
		if asked := m.asked("GET /"); len(asked) != 0 {
			t.Errorf("a producer without a log id is asked for %v", asked)
		}
	})
}

// What is of no use is not used: the load goes on by another snapshot or by pages, and soon ends.
func TestUselessSnapshots(t *testing.T) {
	path := func(method, suffix string, do http.HandlerFunc) func(m *maker) {
		return func(m *maker) {
			m.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != method || !strings.HasPrefix(r.URL.Path, "/tasks") || !strings.HasSuffix(r.URL.Path, suffix) {
					return false
				}
				do(w, r)
				return true
			}
		}
	}
	refuse := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			declined(w, status, "no")
		}
	}
	outcome := func(do func(*made)) func(*maker) { return func(m *maker) { m.outcome = do } }
	told := func(name string, value any) func(*maker) {
		return outcome(func(task *made) { task.done[name] = value })
	}
	result := func(do func([]byte) []byte) func(*maker) {
		return outcome(func(task *made) { task.result = do(task.result) })
	}
	for name, set := range map[string]func(*maker){
		"not for this client": path("POST", "/tasks", refuse(403)),
		"not there":           path("POST", "/tasks", refuse(404)),
		"too many":            path("POST", "/tasks", refuse(429)),
		"broken":              path("POST", "/tasks", refuse(500)),
		"no location":         path("POST", "/tasks", func(w http.ResponseWriter, _ *http.Request) { hal(w, 202, "{}") }),
		"not accepted":        path("POST", "/tasks", func(w http.ResponseWriter, _ *http.Request) { hal(w, 200, "{}") }),
		"a page":              path("POST", "/tasks", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }),
		"elsewhere": path("POST", "/tasks", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://evil.test/1")
			hal(w, 202, "{}")
		}),
		"forgotten":              path("GET", "", refuse(404)),
		"failed":                 path("GET", "", refuse(422)),
		"neither":                path("GET", "", func(w http.ResponseWriter, _ *http.Request) { hal(w, 200, `{"status":"succeeded"}`) }),
		"no document":            path("GET", "", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }),
		"result gone":            path("GET", "/result", refuse(404)),
		"result refused":         path("GET", "/result", refuse(403)),
		"no such range":          path("GET", "/result", refuse(416)),
		"another log":            told("log", "log-2/all"),
		"older":                  told("sequence", 1),
		"before its beginning":   told("through", 1),
		"one more than it says":  told("count", 1499),
		"one less than it says":  told("count", 1501),
		"a result elsewhere":     told("href", "http://evil.test/result"),
		"made at another time":   outcome(func(task *made) { task.headers["EntityEvent-Through"] = "1501" }),
		"cut at a line":          result(func(b []byte) []byte { return b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1] }),
		"cut in a line":          result(func(b []byte) []byte { return b[:len(b)-10] }),
		"empty":                  result(func([]byte) []byte { return nil }),
		"no records":             result(func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("ListingKey"), []byte("Key")) }),
		"of another resource":    result(func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(":property"), []byte(":media")) }),
		"a page in the place":    result(func([]byte) []byte { return []byte("<html>\n") }),
		"encoded as nobody asks": func(m *maker) { m.outcome = func(task *made) { task.headers["Content-Encoding"] = "br" } },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := making(1500)
				set(m)
				f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
					if r.URL.Host != "mls.test" {
						t.Errorf("asked %s", r.URL.Host)
					}
					return to(m)(r)
				}), "Property")
				start := time.Now()
				catchUp(t, f)
				equal(t, m.source, f.Store)
				if took := time.Since(start); took > time.Minute {
					t.Errorf("it took %s", took)
				}
				if n := len(m.made); n > 2 {
					t.Errorf("%d tasks", n)
				}
				if len(m.asked("Property?")) != 2 {
					t.Errorf("the pages were asked for by %v", m.asked("Property?"))
				}
				if s := status(t, f); s.Aside+s.Recheck+s.Held != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// A second snapshot is taken where the first was lost, as the producer says of it.
func TestAnotherSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(1500)
		m.outcome = func(task *made) { task.dropped = task == m.made[0] }
		f := newFeed(t, to(m), "Property")
		var log bytes.Buffer
		f.Logger = slog.New(slog.NewTextHandler(&log, nil))
		catchUp(t, f)
		equal(t, m.source, f.Store)
		if !strings.Contains(log.String(), "its result: the producer answered 404 Not Found: there is no such task") {
			t.Errorf("the log does not say what the producer said:\n%s", log.String())
		}
		if n := m.tasks(t); n != 2 || len(m.asked("Property?")) != 0 {
			t.Errorf("%d tasks, pages %v", n, m.asked("Property?"))
		}
	})
}

// damage changes a byte in the midst of what is sent.
func TestDamagedSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(1500)
		f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
			resp, err := to(m)(r)
			if strings.HasSuffix(r.URL.Path, "/result") {
				body, _ := io.ReadAll(resp.Body)
				body[len(body)/2] ^= 0x55
				resp.Body = io.NopCloser(bytes.NewReader(body))
			}
			return resp, err
		}), "Property")
		catchUp(t, f)
		equal(t, m.source, f.Store)
		if len(m.asked("Property?")) == 0 || m.tasks(t) != 2 {
			t.Error("it was taken")
		}
	})
}

// cutting ends every download after so many bytes.
func cutting(next wire, at int64, downloads *[]http.Header) wire {
	return func(r *http.Request) (*http.Response, error) {
		resp, err := next(r)
		if err == nil && strings.HasSuffix(r.URL.Path, "/result") {
			*downloads = append(*downloads, r.Header.Clone())
			if body, _ := io.ReadAll(resp.Body); int64(len(body)) > at {
				resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:at]), cutShort{}))
			} else {
				resp.Body = io.NopCloser(bytes.NewReader(body))
			}
		}
		return resp, err
	}
}

type cutShort struct{}

func (cutShort) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// A download that is cut goes on where it was, by the bytes of what was read and on condition that it is the same; not
// one byte too many is asked for.
func TestSnapshotGoesOnAfterCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(5000)
		var downloads []http.Header
		f := newFeed(t, cutting(to(m), 160<<10, &downloads), "Property")
		f.URL = "http://127.0.0.1/odata"
		catchUp(t, f)
		equal(t, m.source, f.Store)
		if m.tasks(t) != 1 || len(m.asked("Property?")) != 0 {
			t.Errorf("%d tasks, pages %v", len(m.made), m.asked("Property?"))
		}
		want := len(m.made[0].result)/(145<<10) + 1
		if len(downloads) < 3 || len(downloads) > want {
			t.Errorf("%d downloads of 160 KB each for %d bytes", len(downloads), len(m.made[0].result))
		}
		for i, h := range downloads[1:] {
			if !strings.HasPrefix(h.Get("Range"), "bytes=") || h.Get("If-Range") != `"task-0"` {
				t.Errorf("download %d: %v", i+1, h)
			}
		}
	})
}

// What was compressed and is cut goes on without compression.
func TestCompressedSnapshotGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(5000)
		var downloads []http.Header
		cutOnce := cutting(to(m), 15<<10, &downloads)
		f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
			if len(downloads) > 0 {
				if strings.HasSuffix(r.URL.Path, "/result") {
					downloads = append(downloads, r.Header.Clone())
				}
				return to(m)(r)
			}
			return cutOnce(r)
		}), "Property")
		catchUp(t, f)
		equal(t, m.source, f.Store)
		if m.tasks(t) != 1 || len(m.asked("Property?")) != 0 || len(downloads) != 2 {
			t.Fatalf("%d tasks, pages %v, %d downloads", len(m.made), m.asked("Property?"), len(downloads))
		}
		if h := downloads[1]; h.Get("Accept-Encoding") != "identity" || h.Get("Range") == "" {
			t.Errorf("%v", h)
		}
	})
}

// One that is always cut before anything comes through, or begins anew each time, is given up for pages.
func TestSnapshotAlwaysCut(t *testing.T) {
	for name, at := range map[string]int64{"nothing": 0, "no ranges": 100 << 10} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := making(3000)
				var downloads []http.Header
				next := cutting(to(m), at, &downloads)
				f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
					r = r.Clone(r.Context())
					r.Header.Del("Range")
					return next(r)
				}), "Property")
				f.URL, m.root = "http://127.0.0.1/odata", "http://127.0.0.1/odata"
				stop := run(t, f)
				until(t, "the feed is loaded", func() bool { return status(t, f).Loaded })
				stop()
				equal(t, m.source, f.Store)
				if n := len(downloads); n > 30 || m.tasks(t) != 2 || len(m.asked("Property?")) == 0 {
					t.Errorf("%d downloads of %d tasks, and pages %v", n, len(m.made), m.asked("Property?"))
				}
			})
		})
	}
}

// A record that changes while a snapshot is made or read is what it is last, though its line is of before: here the
// applier settles the change before the line is written, in the same process or in one that ends.
func TestLateLineUndoesNothing(t *testing.T) {
	const removed = -1
	for name, c := range map[string]struct{ inLine, meanwhile int }{
		"newer meanwhile":     {1001, 7},
		"there and back":      {7, 1001},
		"there and elsewhere": {7, 8},
		"removed":             {1001, removed},
	} {
		for i := range 8 {
			restart, full, chained := i&1 > 0, i&2 > 0, i&4 > 0
			t.Run(fmt.Sprintf("%s, restart %t, full %t, chained %t", name, restart, full, chained), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := making(10)
					dead, late := false, 0
					var f *consumer.Feed
					network := wire(func(r *http.Request) (*http.Response, error) {
						if dead {
							return nil, errors.New("the process ends")
						}
						if !strings.HasSuffix(r.URL.Path, "/result") || late == 0 {
							return to(m)(r)
						}
						late--
						result, err := to(m)(r)
						if c.meanwhile == removed {
							m.remove("Property", "P0001")
						} else {
							m.put("Property", "P0001", property("P0001", c.meanwhile))
						}
						seq := m.head
						headers := []string{"EntityEvent-Log", "log-1/all"}
						if chained { // else the cursor stays below what is applied
							headers = chain("log-1/all", seq-1, seq)
						}
						if w := newDoor(t, f).push(pushed(event(seq, "Property", "P0001")), headers...); w.Code != 200 {
							t.Error(w.Code)
						}
						<-time.After(30 * time.Second) // the applier settles it
						if dead = restart; dead {
							return nil, errors.New("the process ends")
						}
						return result, err
					})
					f = newFeed(t, network, "Property")
					f.Poll = "@every 24h"
					if full {
						catchUp(t, f)
						pass(2 * time.Hour)
					}
					late = 1
					m.between = func() { m.quiet("Property", "P0001", property("P0001", c.inLine)) }
					stop := run(t, f)
					err := f.Sync(t.Context(), consumer.SyncOptions{Full: full}, nil)
					stop()
					if restart {
						if err == nil {
							t.Fatal("nothing was cut")
						}
						if p := status(t, f).Pending; p != 0 {
							t.Fatalf("%d events pending", p)
						}
						dead = false
						f = newFeedOn(f.Store, network)
						err = f.Sync(t.Context(), consumer.SyncOptions{}, nil)
					}
					if err != nil {
						t.Fatal(err)
					}
					if n := len(m.made); n > 2 {
						t.Errorf("%d tasks", n)
					}
					equal(t, m.source, f.Store)
				})
			})
		}
	}
}

// A load by a snapshot that is cut before any call of the store and before any request goes on in another process,
// and asks for no more than it needs.
func TestSnapshotCutAnywhere(t *testing.T) {
	for name, full := range map[string]bool{"first": false, "full": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for at := int64(1); ; at += stride(1) {
					m := making(45)
					m.polls = 1
					store := open(t, t.TempDir())
					if full {
						if err := newFeedOn(store, to(m)).Sync(t.Context(), consumer.SyncOptions{}, nil); err != nil {
							t.Fatal(err)
						}
						m.drop("Property", "P0007")
						m.quiet("Property", "P0008", property("P0008", 8))
					}
					g := &guillotine{Store: store, network: to(m), left: at}
					err := newFeedOn(g, wire(g.roundTrip)).Sync(t.Context(), consumer.SyncOptions{Full: full}, nil)
					whole := g.left >= 0
					if !whole && err == nil {
						t.Errorf("cut at %d: no error", at)
					}
					m.put("Property", "P0003", property("P0003", 7))
					m.remove("Property", "P0004")
					again := newFeedOn(store, to(m))
					err = again.Sync(t.Context(), consumer.SyncOptions{Full: full && !loading(t, again)}, nil)
					equal(t, m.source, store)
					if cerr := store.Close(); cerr != nil || err != nil || t.Failed() {
						t.Fatalf("cut at %d: %v", at, errors.Join(err, cerr))
					}
					if n := len(m.made); n > 4 {
						t.Fatalf("cut at %d: %d tasks", at, n)
					}
					if whole {
						if at < 15 {
							t.Errorf("it was over after %d calls", at)
						}
						return
					}
				}
			})
		})
	}
}

// A full load by a snapshot asks again for what is not in it, and sets aside what no store can keep.
func TestFullLoadBySnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(1200)
		f := newFeed(t, to(m), "Property")
		catchUp(t, f)
		pass(2 * time.Hour)
		m.drop("Property", "P0100")
		m.quiet("Property", "P0200", property("P0200", 1))
		m.quiet("Property", "P0300", `{"ListingKey":"P0300","ListPrice":1,"ListPrice":2}`)
		if err := f.Sync(t.Context(), consumer.SyncOptions{Full: true}, nil); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		have := replica(t, f.Store, "Property")
		if len(have) != 1199 || !strings.Contains(string(have["P0200"].Body), `"ListPrice":1,`) || have["P0100"].Body != nil {
			t.Errorf("%d records, %s", len(have), have["P0200"].Body)
		}
		set, err := f.Store.Aside(t.Context(), "mls", time.Time{}, 0)
		if err != nil || len(set) != 1 || set[0].Ref != (entityevent.Ref{Resource: "Property", Key: "P0300"}) {
			t.Errorf("set aside: %v, %v", set, err)
		}
		if len(m.made) != 2 || len(m.asked("Property?$skiptoken")) != 0 {
			t.Errorf("%d tasks", len(m.made))
		}
	})
}
