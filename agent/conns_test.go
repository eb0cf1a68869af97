package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
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
	s.note(all["a2"], http.StateActive)
	s.note(all["a2"], http.StateIdle) // after a3
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
	server.Config.ConnState = s.note
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
