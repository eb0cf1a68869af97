package producer_test

import (
	"context"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

// crowded counts the looks at a store, and those who wait.
type crowded struct {
	*sqlite.Store
	arrived     chan struct{}
	left, reads atomic.Int64
}

func (c *crowded) Wait(ctx context.Context, v entityevent.View, q entityevent.EventQuery) error {
	c.arrived <- struct{}{}
	defer c.left.Add(1)
	return c.Store.Wait(ctx, v, q)
}

func (c *crowded) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	c.reads.Add(1)
	return c.Store.Events(ctx, v, q)
}

// crowd is requests on connections that cost this process nothing but the descriptors.
type crowd []int

// gather sends a request n times, each on its own connection.
func gather(t *testing.T, address net.Addr, n int, filter string) crowd {
	t.Helper()
	at := address.(*net.TCPAddr)
	request := "GET /odata/EntityEvent?$filter=" + strings.ReplaceAll(filter, " ", "%20") +
		" HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer all\r\nAccept: application/json\r\nPrefer: wait=120\r\n\r\n"
	c := make(crowd, n)
	for i := range c {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(fd) })
		c[i] = fd
		patience := syscall.Timeval{Sec: 20}
		if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &patience); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: at.Port, Addr: [4]byte(at.IP.To4())}); err != nil {
			t.Fatal(err)
		}
		if _, err := syscall.Write(fd, []byte(request)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// answered fails unless each is answered, with what it waited for.
func (c crowd) answered(t *testing.T, want string) {
	t.Helper()
	buf := make([]byte, 4096)
	for i, fd := range c {
		n, err := syscall.Read(fd, buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 200 ") || !strings.Contains(string(buf[:n]), want) {
			t.Fatalf("%d: %v, %s", i, err, buf[:n])
		}
	}
}

// crowdAt serves on a free port and counts what it costs to hold n requests, in bytes each: what is live on
// the heap and on stacks.
func crowdAt(t *testing.T, h http.Handler, n int, filter string, arrived <-chan struct{}) (address net.Addr, c crowd, bytes float64) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 15 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10} // as the agent's
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-served })
	live := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc + m.StackInuse)
	}
	before := live()
	c = gather(t, l.Addr(), n, filter)
	for range n {
		receive(t, arrived)
	}
	return l.Addr(), c, (live() - before) / float64(n)
}

// TestCrowd: held requests need little more memory than those of a bare handler, are woken by what concerns
// them alone, and those who wait for the same share one look at the log.
func TestCrowd(t *testing.T) {
	const many, few = 1000, 50
	store := &crowded{Store: openStore(t, t.TempDir()), arrived: make(chan struct{}, many+few)}
	put(t, store, entityevent.Local, 3)
	server := bubbleServer(t, store)

	arrived := make(chan struct{}, many)
	_, _, bare := crowdAt(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	}), many, "none", arrived)
	address, property, ours := crowdAt(t, server, many, "EntityEventSequence gt 3 and ResourceName eq 'Property'", store.arrived)
	t.Logf("%.0f bytes for one, of a bare handler %.0f", ours, bare)
	switch {
	case testing.Short():
		t.Log("SKIPPED: how much memory, which the race detector multiplies; run it without -short")
	case ours > 1.5*bare:
		t.Errorf("a held request needs %.0f bytes, more than 1.5 times the %.0f of a bare handler", ours, bare)
	}
	media := gather(t, address, few, "EntityEventSequence gt 3 and ResourceName eq 'Media'")
	for range few {
		receive(t, store.arrived)
	}

	store.reads.Store(0)
	put(t, store, entityevent.Local, 1)
	property.answered(t, `"value":[{"EntityEventSequence":4,"ResourceName":"Property",`)
	if left := store.left.Load(); left != many {
		t.Errorf("%d were woken, want %d", left, many)
	}
	if reads := store.reads.Load(); reads > 10 {
		t.Errorf("%d looks at the log for one event", reads)
	}
	server.Drain()
	media.answered(t, `"value":[]}`)
	if left := store.left.Load(); left != many+few {
		t.Errorf("%d have left, want %d", left, many+few)
	}
}
