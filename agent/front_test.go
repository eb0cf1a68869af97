package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/entityevent/bearer"
)

// pipes is a listener in memory: its connections know deadlines, and hold nothing back.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (l *pipes) dial(ctx context.Context) (net.Conn, error) { return l.dialFrom(ctx, "192.0.2.1") }

// pipe is a connection from an address.
type pipe struct {
	net.Conn
	from net.TCPAddr
}

func (p *pipe) RemoteAddr() net.Addr { return &p.from }

func (l *pipes) dialFrom(ctx context.Context, ip string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- &pipe{there, net.TCPAddr{IP: net.ParseIP(ip)}}:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

const mostInFront = 8

// behindFront serves a handler with an agent's own server, in memory, on few connections.
func behindFront(t *testing.T, c *config.Config, handler http.HandlerFunc) (*pipes, *bytes.Buffer) {
	t.Helper()
	var logged bytes.Buffer
	logger := slog.New(requestLog{slog.NewTextHandler(&logged, nil)})
	a := openAgent(t, "producer: {clients: [{name: vendor}]}")
	server, err := newServer(c, newFront(c, a.gate, logger, handler), logger)
	if err != nil {
		t.Fatal(err)
	}
	(&conns{most: mostInFront, logger: logger}).attend(server)
	listener := newPipes()
	ended := make(chan struct{})
	go func() { _ = server.Serve(listener); close(ended) }()
	t.Cleanup(func() { _ = server.Close(); <-ended })
	return listener, &logged
}

// over asks by HTTP/1 or by HTTP/2 with prior knowledge.
func (l *pipes) over(t *testing.T, version int) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.dial(ctx) }, Protocols: new(http.Protocols),
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}}
	transport.Protocols.SetHTTP1(version == 1)
	transport.Protocols.SetUnencryptedHTTP2(version == 2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// slowBody gives some bytes after each of its waits.
type slowBody struct {
	wait  time.Duration
	bytes int
	left  int
	first int // at once
	gone  chan struct{}
	once  *sync.Once
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if b.first > 0 {
		n := min(len(p), b.first)
		b.first -= n
		return n, nil
	}
	select {
	case <-time.After(b.wait):
	case <-b.gone:
		return 0, net.ErrClosed
	}
	n := min(len(p), b.left, b.bytes)
	b.left -= n
	return n, nil
}

func (b *slowBody) Close() error {
	b.once.Do(func() { close(b.gone) })
	return nil
}

var bothVersions = map[string]int{"HTTP/1.1": 1, "HTTP/2": 2}

// What comes too slowly, or not at all, is answered 408 in the form of the path; what comes at a sensible pace, or
// is read slowly by us, takes as long as it takes.
func TestSlowSenders(t *testing.T) {
	for name, version := range bothVersions {
		for _, c := range []struct {
			about, path string
			body        slowBody
			pause       time.Duration // of the handler, after each read
			want        int
		}{
			{"silent", "/odata/Property", slowBody{wait: time.Hour, bytes: 1, left: 10}, 0, 408},
			{"a byte now and then", "/odata/Property", slowBody{wait: 20 * time.Second, bytes: 1, left: 100}, 0, 408},
			{"in the form of a problem", "/x", slowBody{wait: 20 * time.Second, bytes: 1, left: 100}, 0, 408},
			{"slow and steady", "/odata/Property", slowBody{wait: time.Second, bytes: 2000, left: 200_000}, 0, 200},
			{"much at once, and then silent", "/odata/Property", slowBody{wait: time.Hour, bytes: 1, left: 10, first: 1 << 20}, 0, 408},
			{"an import that takes its time", "/odata/Property", slowBody{wait: 20 * time.Second, bytes: 4096, left: 80_000}, time.Minute, 200},
			{"a command of this machine", "/admin/import", slowBody{wait: time.Minute, bytes: 1, left: 5}, 0, 200},
		} {
			t.Run(name+" "+c.about, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					listener, _ := behindFront(t, &config.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, func(w http.ResponseWriter, r *http.Request) {
						for p := make([]byte, 4096); ; time.Sleep(c.pause) {
							if _, err := r.Body.Read(p); errors.Is(err, io.EOF) {
								return
							} else if err != nil {
								http.Error(w, "what a handler makes of it", http.StatusBadRequest)
								return
							}
						}
					})
					body := c.body
					body.gone, body.once = make(chan struct{}), new(sync.Once)
					defer body.Close()
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://agent"+c.path, &body)
					if err != nil {
						t.Fatal(err)
					}
					begun := time.Now()
					resp, err := listener.over(t, version).Do(req)
					if err != nil {
						t.Fatal(err)
					}
					text, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode != c.want {
						t.Fatalf("%d after %v: %s", resp.StatusCode, time.Since(begun), text)
					}
					if c.want == 408 && (time.Since(begun) > 2*patience || strings.HasPrefix(c.path, "/odata") != strings.Contains(string(text), `"error"`)) {
						t.Errorf("after %v: %s", time.Since(begun), text)
					}
				})
			})
		}
	}
}

// A reader who takes nothing is cut off; one who takes a little all the time, and one who was made to wait for
// two minutes, get everything.
func TestSlowReaders(t *testing.T) {
	const size = 4 << 20
	for name, version := range bothVersions {
		for _, c := range []struct {
			about      string
			held       time.Duration
			wait       time.Duration // before each 32 KB
			stops, cut bool
		}{
			{"held for two minutes", 2 * time.Minute, 0, false, false},
			{"slow", 0, 10 * time.Second, false, false},
			{"stopped", 0, 0, true, true},
		} {
			t.Run(name+" "+c.about, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					gave := make(chan error, 1)
					listener, _ := behindFront(t, &config.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, func(w http.ResponseWriter, r *http.Request) {
						_, err := w.Write([]byte("x"))
						_ = http.NewResponseController(w).Flush()
						time.Sleep(c.held)
						if err == nil {
							_, err = w.Write(make([]byte, size-1))
						}
						if err == nil {
							err = http.NewResponseController(w).Flush()
						}
						gave <- cmpErr(err, r.Context().Err())
					})
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://agent/", nil)
					if err != nil {
						t.Fatal(err)
					}
					resp, err := listener.over(t, version).Do(req)
					if err != nil {
						t.Fatal(err)
					}
					defer resp.Body.Close()
					total := 0
					for p := make([]byte, 32<<10); ; time.Sleep(c.wait) {
						if c.stops && total > 100_000 {
							time.Sleep(10 * time.Minute)
						}
						n, err := io.ReadFull(resp.Body, p)
						if total += n; err != nil {
							break
						}
					}
					if err := <-gave; (err != nil) != c.cut || (total == size) == c.cut {
						t.Errorf("%d bytes arrived, and the handler was told %v", total, err)
					}
				})
			})
		}
	}
}

func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// A connection goes on after each: a deadline of one request is none of the next.
func TestDeadlinesEndWithTheirRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener, _ := behindFront(t, &config.Config{}, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			time.Sleep(119 * time.Second) // as long as a poll is held
			if r.Context().Err() != nil {
				t.Error("the request ended while it was held")
			}
			fmt.Fprintln(w, "held")
		})
		client := listener.over(t, 1)
		client.Transport.(*http.Transport).ExpectContinueTimeout = time.Hour
		for range 3 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://agent/odata/x", strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Expect", "100-continue") // the server writes before the handler does
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(text) != "held\n" || err != nil {
				t.Fatalf("%s, %v", text, err)
			}
			time.Sleep(time.Minute) // between two requests
		}
	})
}

// Who holds connections open without asking loses them.
func TestConnectionsWithoutRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener, _ := behindFront(t, &config.Config{}, func(http.ResponseWriter, *http.Request) { t.Error("it was asked") })
		for _, text := range []string{"", "GET / HTTP/1.1\r\nHost: x\r\nX-A: ", "G"} {
			conn, err := listener.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if _, err := io.WriteString(conn, text); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, conn)
			if took := time.Since(begun); took > headerTimeout {
				t.Errorf("%q: open for %v", text, took)
			}
			conn.Close()
		}
	})
}

// Every limit of a request has its status, in the form of the path.
func TestRequestLimits(t *testing.T) {
	a := openAgent(t, "producer: {clients: [{name: vendor, scopes: [read, write]}]}\n"+oneFeed)
	issue := func(token bearer.Token) string {
		signed, _, err := a.authority.Issue(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	writer := issue(bearer.Token{Audience: bearer.API, Client: "vendor", Scopes: []string{"write"}})
	pusher := issue(bearer.Token{Audience: bearer.Push("mls"), Client: "mls"})
	server := httptest.NewUnstartedServer(nil)
	real, err := newServer(a.config, newFront(a.config, a.gate, slog.New(slog.DiscardHandler), a.routes(t.Context())), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server.Config = real
	server.Start()
	defer server.Close()
	long := strings.Repeat("x", maxURI)
	const announced = "Content-Length: 99000000000\r\nExpect: 100-continue\r\n\r\n" // answered without a 100
	for _, c := range []struct {
		request string
		want    string
		body    string
	}{
		{"GET /odata/Property?$filter=" + long + " HTTP/1.1\r\nHost: x\r\n\r\n", "414", `{"error":{"code":"414"`},
		{"GET /odata/Property?$filter=" + long + "&$skiptoken=x HTTP/1.1\r\nHost: x\r\n\r\n", "401", `"401"`},
		{"GET /odata/Property?$skiptoken=" + strings.Repeat("x", maxLink) + " HTTP/1.1\r\nHost: x\r\n\r\n", "414", `"code":"414"`},
		{"GET /" + long + " HTTP/1.1\r\nHost: x\r\n\r\n", "414", `"status":414`},
		{"POST /oauth/token?" + long + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "414", `"error":"invalid_request"`},
		{"GET /odata?x=" + strings.Repeat("x", 16<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "401", `"401"`},
		{"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "404", `"status":404`},
		{"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", maxHeaderBytes+8192) + "\r\n\r\n", "431", ""},
		{"POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 20_000), "413", `"error":"invalid_request"`},
		{"POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n" + announced, "413", `"error":"invalid_request"`},
		{"POST /odata/Property HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer " + writer + "\r\n" + announced, "413", `"code":"413"`},
		{"POST /webhooks/mls HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer " + pusher + "\r\n" + announced, "413", `"status":413`},
	} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(conn, c.request) }()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		conn.Close()
		if !strings.HasPrefix(resp.Status, c.want) || !strings.Contains(string(text), c.body) {
			t.Errorf("%.40s: %s %s, want %s %s", c.request, resp.Status, text, c.want, c.body)
		}
		if c.want != "431" && resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("%.40s: no X-Request-Id", c.request)
		}
	}
}

// TestLogHidesSessions: no spelling of its path brings a session's token into the log; keys and UUIDs stay.
func TestLogHidesSessions(t *testing.T) {
	const token = "ABCDEFGHIJKLMNOPQRSTUVWX27"
	for path, want := range map[string]string{
		"/api/sessions/" + token + "/events":                  "/api/sessions/…/events",
		"//api/sessions/" + token + "/events":                 "//api/sessions/…/events",
		"/api//sessions/" + token:                             "/api//sessions/…",
		"/API/%73essions/" + token + ").":                     "/API/sessions/…).",
		"/api/sessions/%41" + token[1:]:                       "/api/sessions/…",
		"/api/sessions/" + token[:25]:                         "/api/sessions/…",
		"/api/sessions":                                       "/api/sessions",
		"/odata/Property('A%2FB')":                            "/odata/Property('A%2FB')",
		"/subscriptions/0197a2b4-2222-7777-8888-aaaabbbbcccc": "/subscriptions/0197a2b4-2222-7777-8888-aaaabbbbcccc",
	} {
		if got := logged(httptest.NewRequest(http.MethodGet, "http://agent"+path, http.NoBody)); got != want {
			t.Errorf("%s is logged as %s, want %s", path, got, want)
		}
	}
}
