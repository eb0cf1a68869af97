package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/config"
)

// fakeConn is a connection from an address.
type fakeConn struct {
	net.Conn
	from   net.TCPAddr
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr { return &c.from }
func (c *fakeConn) Close() error         { c.closed = true; return nil }

// TestConnsAreBounded: of too many connections the one is closed that was at rest longest, of the address that has most at
// rest, and none on which a request is under way.
func TestConnsAreBounded(t *testing.T) {
	var logged lockedBuffer
	s := &conns{most: 6, logger: slog.New(slog.NewTextHandler(&logged, nil))}
	all := map[string]*fakeConn{}
	come := func(name, ip string) {
		all[name] = &fakeConn{from: net.TCPAddr{IP: net.ParseIP(ip), Port: len(all) + 1}}
		s.note(all[name], http.StateNew)
	}
	closed := func() string {
		var names []string
		for _, name := range []string{"a1", "a2", "a3", "b1", "b2", "c1", "d1", "e1", "f1"} {
			if c := all[name]; c != nil && c.closed {
				names = append(names, name)
			}
		}
		return strings.Join(names, " ")
	}
	a, b := "192.0.2.1", "2001:db8::"
	come("a1", a)
	come("a2", a)
	come("a3", "::ffff:"+a)
	come("b1", b+"1")
	come("b2", b+"2") // of one network
	s.note(all["a1"], http.StateActive)
	for _, name := range []string{"a3", "a2"} {
		s.note(all[name], http.StateActive)
		s.note(all[name], http.StateIdle)
	}
	come("c1", "192.0.2.3")
	s.note(all["b1"], http.StateActive)
	if got := closed(); got != "" {
		t.Fatalf("closed %s of %d", got, s.most)
	}
	come("d1", "192.0.2.4")
	if got := closed(); got != "a3" {
		t.Fatalf("closed %s", got)
	}
	s.note(all["a3"], http.StateActive) // it was asked something in the same moment
	s.note(all["a3"], http.StateClosed)
	for _, name := range []string{"a2", "b2", "c1", "d1"} {
		s.note(all[name], http.StateActive)
	}
	come("e1", "192.0.2.5") // no other is at rest
	if got := closed(); got != "a3 e1" || len(s.open) != s.most {
		t.Fatalf("%d are open, closed %s", len(s.open), got)
	}
	for _, name := range []string{"a1", "a2", "b1", "b2"} {
		s.note(all[name], http.StateClosed)
	}
	if text := logged.String(); strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "fewer again") {
		t.Error(text)
	}
	s.close()
	come("f1", "192.0.2.6")
	if !all["f1"].closed {
		t.Error("one that came late is open")
	}
}

// TestConnsThatWait: a connection whose request waits for its peer is closed as an idle one is, after the idle ones of its
// address, and not while another request on it is being answered.
func TestConnsThatWait(t *testing.T) {
	s := &conns{most: 5, logger: slog.New(slog.DiscardHandler)}
	come := func(ip string) *fakeConn {
		c := &fakeConn{from: net.TCPAddr{IP: net.ParseIP(ip)}}
		s.note(c, http.StateNew)
		return c
	}
	ask := func(c *fakeConn) { s.note(c, http.StateActive); s.tell(c, 1, 0) }
	var a [5]*fakeConn
	for i := range a {
		a[i] = come("192.0.2.1")
		ask(a[i])
	}
	for _, i := range []int{3, 1, 0, 2} {
		s.tell(a[i], 0, 1)
	}
	s.tell(a[3], 0, -1) // the body goes on
	s.tell(a[1], 1, 0)  // HTTP/2: another request
	s.tell(a[4], -1, 0)
	s.note(a[4], http.StateIdle)
	for i, want := range []int{4, 0} {
		c := come(fmt.Sprintf("192.0.2.%d", 10+i))
		ask(c)
		if !a[want].closed || c.closed {
			t.Fatalf("%d is open, or the newest is not", want)
		}
	}
	s.tell(a[1], -1, 0)
	for _, want := range []int{2, 1} { // that waits while another request on it is answered no more
		if come("192.0.2.1"); !a[want].closed || a[3].closed {
			t.Errorf("%d is open, or one that is answered is not", want)
		}
	}
	s.tell(a[3], 0, 1)
	if s.close(); a[3].closed {
		t.Error("a request was cut by the end")
	}
	s.note(a[3], http.StateIdle)
	s.tell(a[3], 0, -1) // late: the peer gave it up
	s.tell(a[3], -1, 0)
	if come("192.0.2.1"); s.open[a[3]].rest == nil {
		t.Error("an idle one is not at rest")
	}
}

// TestBodiesThatWait: whoever leaves requests without the rest of their bodies does not keep another from being answered, nor
// cuts one whose body arrives, or that is held.
func TestBodiesThatWait(t *testing.T) {
	for _, c := range []struct {
		path    string
		version int
	}{{"/", 1}, {"/", 2}, {"/refused", 1}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener, _ := behindFront(t, &config.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/refused" {
						http.Error(w, "", http.StatusForbidden)
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					if r.URL.Path == "/held" {
						time.Sleep(time.Minute)
					}
				})
				ask := func(ip, path string, body io.Reader) error {
					client := listener.over(t, c.version)
					client.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return listener.dialFrom(ctx, ip) }
					if first, err := client.Get("http://agent/"); err == nil {
						first.Body.Close()
					}
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://agent"+path, body)
					if err != nil {
						return err
					}
					resp, err := client.Do(req)
					if err == nil {
						resp.Body.Close()
					}
					return err
				}
				slow := func(wait time.Duration) *slowBody {
					b := &slowBody{wait: wait, bytes: 2000, left: 40_000, first: 1, gone: make(chan struct{}), once: new(sync.Once)}
					t.Cleanup(func() { b.Close() })
					return b
				}
				const busy = "192.0.2.1"
				kept := make(chan error, 2)
				go func() { kept <- ask(busy, "/held", http.NoBody) }()
				go func() { kept <- ask(busy, "/", slow(time.Second)) }()
				for range mostInFront - 2 {
					go func() { _ = ask(busy, c.path, slow(time.Hour)) }()
				}
				time.Sleep(2 * grace)
				synctest.Wait()
				for i := range 2 * mostInFront {
					ip := busy // as behind a proxy
					if i < mostInFront-3 {
						ip = fmt.Sprintf("192.0.2.%d", 10+i)
					}
					if err := ask(ip, "/", http.NoBody); err != nil {
						t.Errorf("newcomer %d: %v", i, err)
					}
					synctest.Wait()
				}
				for range cap(kept) {
					if err := <-kept; err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestWhenABodyWaits: a request waits for its peer once the body is a second late, and until more of it comes.
func TestWhenABodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waits atomic.Int32
		arrive := func(b *pacedBody, n int, after time.Duration) (waited bool) {
			r, w := io.Pipe()
			b.ReadCloser = r
			go func() {
				time.Sleep(after)
				waited = waits.Load() == 1
				_, _ = w.Write(make([]byte, n))
			}()
			_, _ = b.Read(make([]byte, n))
			synctest.Wait()
			if waits.Load() != 0 {
				t.Error("it waits though more came")
			}
			return waited
		}
		control := http.NewResponseController(httptest.NewRecorder())
		b := &pacedBody{control: control, tell: func(_, n int) { waits.Add(int32(n)) }, credit: patience, most: patience}
		for i, c := range []struct {
			bytes int
			after time.Duration
			want  bool
		}{{4096, 900 * time.Millisecond, false}, {4096, 900 * time.Millisecond, false}, {1, 900 * time.Millisecond, false}, {1, 900 * time.Millisecond, true}, {4096, 50 * time.Millisecond, true}, {1, 900 * time.Millisecond, false}} {
			if got := arrive(b, c.bytes, c.after); got != c.want {
				t.Errorf("%d: %v", i, got)
			}
		}
	})
}

// TestConnsOfAServer: whoever leaves connections open, asked or not, does not keep another from being answered, nor cuts one
// whose request is held.
func TestConnsOfAServer(t *testing.T) {
	released := make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-released
		}
	}))
	s := &conns{most: 5, logger: slog.New(slog.DiscardHandler)}
	s.attend(server.Config)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	defer release()
	client := func() *http.Client {
		transport := server.Client().Transport.(*http.Transport).Clone()
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	held, err := client().Get(server.URL + "/held")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if i%2 == 0 {
			silent, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
		}
		resp, err := client().Get(server.URL)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		resp.Body.Close()
	}
	s.mu.Lock()
	n := len(s.open)
	s.mu.Unlock()
	if n > s.most {
		t.Errorf("%d are open", n)
	}
	release()
	if _, err := bufio.NewReader(held.Body).ReadByte(); fmt.Sprint(err) != "EOF" {
		t.Errorf("the held one ended with %v", err)
	}
	held.Body.Close()
}
