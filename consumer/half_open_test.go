package consumer_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
)

// A connection that died without an end is found within twice the time for which polls are held, sooner
// where none is, and nothing is asked on it again: with the next request all is well.
func TestHalfOpenConnections(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for name, c := range map[string]struct {
			long   bool
			during string        // the connections die when this is asked for; empty: between two requests
			within time.Duration // the replica has what changed then
		}{
			"held poll":                 {true, "EntityEvent", 60 * time.Second},
			"poll":                      {false, "EntityEvent", 35 * time.Second},
			"fetch":                     {true, "Property", 35 * time.Second},
			"between two requests":      {false, "", 60*time.Second + 35*time.Second},
			"between two requests held": {true, "", 60 * time.Second},
		} {
			t.Run(protocol+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					src := filled("log-1/all", 5)
					net := newPipes()
					var mu sync.Mutex
					armed, answered := false, ""
					stopServer := net.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						mu.Lock()
						answered = r.Proto
						cut := armed && strings.Contains(r.URL.Path, c.during)
						armed = armed && !cut
						mu.Unlock()
						if cut {
							net.stall()
						}
						src.ServeHTTP(w, r)
					}))
					transport := consumer.NewTransport()
					transport.DialContext = net.dial
					transport.Protocols = new(http.Protocols)
					transport.Protocols.SetHTTP1(protocol == "HTTP/1.1")
					transport.Protocols.SetUnencryptedHTTP2(protocol != "HTTP/1.1")
					f := newFeed(t, transport, "Property")
					f.LongPoll = c.long
					stop := run(t, f)
					pass(5*time.Minute + 7*time.Second)
					equal(t, src, f.Store)
					if answered != protocol {
						t.Fatalf("asked over %s", answered)
					}
					before := net.dialled()
					mu.Lock()
					armed = c.during != ""
					mu.Unlock()
					var died time.Time
					if c.during == "" {
						net.stall()
						died = time.Now()
					} else if c.during == "EntityEvent" {
						until(t, "the poll is under way", func() bool { mu.Lock(); defer mu.Unlock(); return !armed })
						died = time.Now()
					}
					src.put("Property", "P0001", property("P0001", 7))
					if died.IsZero() {
						until(t, "the fetch is under way", func() bool { mu.Lock(); defer mu.Unlock(); return !armed })
						died = time.Now()
					}
					until(t, "the change is here", func() bool {
						return strings.Contains(string(replica(t, f.Store, "Property")["P0001"].Body), ":7,")
					})
					if took := time.Since(died); took > c.within {
						t.Errorf("found after %s", took)
					}
					pass(5 * time.Minute)
					for i, conn := range before {
						if !conn.isClosed() {
							t.Errorf("connection %d of before is kept", i)
						}
					}
					if s := status(t, f); s.Polling.Failures != 0 || s.Applying.Failures != 0 || s.Pending != 0 {
						t.Errorf("%+v", s)
					}
					equal(t, src, f.Store)
					stop()
					transport.CloseIdleConnections()
					stopServer()
					pass(time.Minute)
				})
			})
		}
	}
}

// Idle for a day, then one event: positions and connections are still good (HTTP keeps none so long).
func TestIdleForADay(t *testing.T) {
	for _, long := range []bool{false, true} {
		for _, log := range []string{"", "log-1/all"} {
			if testing.Short() && long != (log != "") {
				continue
			}
			t.Run(fmt.Sprintf("log %q, long poll %v", log, long), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					src := filled(log, 5)
					net := newPipes()
					stopServer := net.serve(t, src)
					transport := consumer.NewTransport()
					transport.DialContext = net.dial
					f := newFeed(t, transport, "Property")
					f.LongPoll, f.Poll = long, "@every 15m"
					stop := run(t, f)
					pass(24 * time.Hour)
					src.put("Property", "P0001", property("P0001", 7))
					wait := 16 * time.Minute
					if long && log != "" {
						wait = time.Millisecond
					}
					pass(wait)
					equal(t, src, f.Store)
					if s := status(t, f); s.Sequence < 5 || s.Polling.Failures != 0 || f.Stats().Silent != 0 {
						t.Errorf("%+v %+v", s, f.Stats())
					}
					stop()
					transport.CloseIdleConnections()
					stopServer()
				})
			})
		}
	}
}

// Answers cut at every possible place, and delayed by up to half a minute, are taken whole or not at all.
func TestAnswersCutAnywhereAndDelayed(t *testing.T) {
	for _, log := range []string{"", "log-1/all"} {
		synctest.Test(t, func(t *testing.T) {
			src := filled(log, 30)
			var asked, over atomic.Int64
			net := wire(func(r *http.Request) (*http.Response, error) {
				n := int(asked.Add(1))
				if over.Load() > 0 {
					return to(src)(r)
				}
				time.Sleep(time.Duration(n%29) * time.Second)
				resp, err := to(src)(r)
				if err == nil && n%3 != 0 {
					resp.Body = &limited{ReadCloser: resp.Body, left: n * 37 % 2500}
				}
				return resp, err
			})
			f := newFeed(t, net, "Property")
			stop := run(t, f)
			for i := range 40 {
				pass(5 * time.Minute)
				src.put("Property", fmt.Sprintf("P%04d", i%30), property(fmt.Sprintf("P%04d", i%30), i))
				if i%7 == 0 {
					src.remove("Property", fmt.Sprintf("P%04d", i%30))
				}
				if p := position(t, f); int64(p.Sequence) > src.head {
					t.Fatalf("the cursor is at %d of %d", p.Sequence, src.head)
				}
			}
			over.Store(1)
			pass(12 * time.Hour)
			equal(t, src, f.Store)
			stop()
		})
	}
}

// limited cuts a body.
type limited struct {
	io.ReadCloser
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := l.ReadCloser.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}
