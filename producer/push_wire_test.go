package producer_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
)

// crossing is a listener of the wire, so that a real http.Server answers.
type crossing struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (c crossing) Accept() (net.Conn, error) {
	select {
	case conn := <-c.conns:
		return conn, nil
	case <-c.closed:
		return nil, net.ErrClosed
	}
}

func (c crossing) Close() error   { return nil }
func (c crossing) Addr() net.Addr { return &net.TCPAddr{} }

// served is a wire with an http.Server at its end.
func served(t *testing.T, server *http.Server) *wire {
	t.Helper()
	c := crossing{make(chan net.Conn), make(chan struct{})}
	go func() { _ = server.Serve(c) }() // it ends with the listener
	t.Cleanup(func() { close(c.closed); server.Close() })
	return &wire{peer: func(e *end) {
		c.conns <- e.Conn
		<-e.left
	}}
}

// Nothing happens for a day, and everybody in between has forgotten the connection. The next event is
// pushed at once.
func TestPushAfterADayOfIdleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		s := newSubscriber()
		net := served(t, &http.Server{Handler: s, IdleTimeout: time.Minute})
		p := newPusher(t, store, nil)
		p.HTTP, p.Subscription.URL = net.client(t, nil), "http://b.example/hook"
		stop := start(t, p)
		want := put(t, store, "local", 1)
		pushes := []pushed{s.next(t)}
		for range 3 {
			time.Sleep(24 * time.Hour)
			want = append(want, put(t, store, "local", 3)...)
			began := time.Now()
			pushes = append(pushes, s.next(t))
			if took := time.Since(began); took > time.Millisecond {
				t.Errorf("pushed after %v", took)
			}
		}
		time.Sleep(time.Second)
		stop()
		wantChain(t, 0, pushes, want)
		if stats := p.Stats(); stats.Retries > 0 || stats.Events != 10 || stats.Batches["acknowledged"] != 4 {
			t.Errorf("%+v", stats)
		}
	})
}

// The same for who polls, through a server that holds each poll for half a minute.
func TestLongPollAfterADayOfIdleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		at := put(t, store, "local", 1)[0]
		net := served(t, &http.Server{Handler: bubbleServer(t, store), IdleTimeout: time.Minute})
		client := net.client(t, nil)
		poll := func() (string, string) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://p.example/odata/EntityEvent?last_event="+at.String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer all")
			r.Header.Set("Prefer", "wait=30")
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatal(err, resp.Status)
			}
			return string(body), resp.Header["Entityevent-Through"][0]
		}
		began, polls := time.Now(), 0
		for time.Since(began) < 24*time.Hour-time.Minute {
			if body, through := poll(); !strings.HasSuffix(body, `"value":[]}`) || through != at.String() {
				t.Fatalf("through %s: %s", through, body)
			}
			polls++
		}
		if polls < 24*120-2 || polls > (24*120)*10/9 {
			t.Errorf("%d polls in a day", polls)
		}
		next := make(chan entityevent.Sequence, 1)
		time.AfterFunc(10*time.Second, func() { next <- put(t, store, "local", 1)[0] })
		began = time.Now()
		_, through := poll()
		if took := time.Since(began); took != 10*time.Second || through != (<-next).String() {
			t.Errorf("%s came after %v", through, took)
		}
	})
}

// A kept connection whose other end vanished without a word costs one push its time, and is not used again.
func TestPushOnAHalfOpenConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		net := &wire{}
		var connections atomic.Int64
		net.peer = func(e *end) {
			if connections.Add(1) == 1 {
				once("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")(e)
			} else {
				says("200 OK")(e)
			}
		}
		p := newPusher(t, store, nil)
		p.HTTP, p.Subscription.URL = net.client(t, nil), "http://b.example/hook"
		start(t, p)
		put(t, store, "local", 1)
		time.Sleep(time.Second)
		last := put(t, store, "local", 1)[0]
		time.Sleep(15*time.Second + time.Second + 200*time.Millisecond)
		if got := stateOf(t, store, "b"); got.Cursor != last || connections.Load() != 2 || len(net.tried()) != 3 {
			t.Errorf("%+v after %d pushes on %d connections", got, len(net.tried()), connections.Load())
		}
	})
}

// The client of pushes sends a push once: when to send it again is the policy's to say, also for a
// connection that was kept and then closed without an answer.
func TestPushIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		var requests []time.Time
		net := &wire{peer: func(e *end) {
			for n := 0; e.request() != nil; n++ {
				requests = append(requests, time.Now())
				if n > 0 {
					return
				}
				_, _ = io.WriteString(e, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}}
		p := newPusher(t, store, nil)
		p.HTTP, p.Subscription.URL = net.client(t, nil), "http://b.example/hook"
		stop := start(t, p)
		put(t, store, "local", 1)
		time.Sleep(time.Second)
		put(t, store, "local", 1)
		time.Sleep(time.Minute)
		stop()
		if len(requests) != 3 || requests[2].Sub(requests[1]) < time.Second/2 {
			t.Errorf("%v", requests)
		}
		if stats := p.Stats(); stats.Retries != 1 || stats.Batches["failed"] != 1 || stats.Events != 2 {
			t.Errorf("%+v", stats)
		}
	})
}

// Fifty subscribers that hang in every way there is, and five that answer: those get each event at once,
// though all share one client, one host name and a store that can do one thing at a time. While a push
// hangs its pusher is in no call of the store.
func TestPushDeadSubscribersDelayNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "resosync.db"), sqlite.Options{ReadConns: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		busy := &busyStore{Store: store}
		live := newSubscriber()
		network := &wire{fails: func(ctx context.Context, address string) error {
			if address == "b.example:1" {
				<-ctx.Done()
			}
			return ctx.Err()
		}}
		network.peer = func(e *end) {
			if e.address == "b.example:2" { // it does not read
				<-e.left
				return
			}
			for r := e.request(); r != nil; r = e.request() {
				switch r.URL.Path {
				case "/live":
					live.ServeHTTP(httptest.NewRecorder(), r)
					_, _ = io.WriteString(e, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				case "/silent":
					e.gone()
				case "/drips":
					drip(e, "HTTP/1.1 200 OK\r\nX: ", "x", time.Second)
				case "/body":
					drip(e, "HTTP/1.1 500 No\r\nContent-Length: 9999\r\n\r\n", "x", time.Second)
				}
			}
		}
		client := network.client(t, nil)
		subscribeTo := func(name, url string) {
			subscribe(t, store, name)
			p := newPusher(t, busy, nil)
			p.HTTP, p.Subscription.Name, p.Subscription.URL = client, name, url
			start(t, p)
		}
		for i := range 10 {
			for kind, url := range map[string]string{
				"never connected": "http://b.example:1/", "never read": "http://b.example:2/", "silent": "http://b.example/silent",
				"drips": "http://b.example/drips", "slow body": "http://b.example/body",
			} {
				subscribeTo(fmt.Sprint(kind, i), url)
			}
		}
		const answering = 5
		for i := range answering {
			subscribeTo(fmt.Sprint("live", i), "http://b.example/live")
		}
		for range 40 {
			began := time.Now()
			want := put(t, store, "local", 1)[0]
			for range answering {
				if p := live.next(t); p.through != want || time.Since(began) > 0 {
					t.Fatalf("%d came after %v, want %d at once", p.through, time.Since(began), want)
				}
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if n := busy.calls.Load(); n != 0 {
				t.Fatalf("%d calls of the store are under way while pushes hang", n)
			}
		}
	})
}

// busyStore counts the calls that are under way, but waits for news.
type busyStore struct {
	producer.Store
	calls atomic.Int64
}

func (b *busyStore) enter() func() {
	b.calls.Add(1)
	return func() { b.calls.Add(-1) }
}

func (b *busyStore) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	defer b.enter()()
	return b.Store.Events(ctx, v, q)
}

func (b *busyStore) Get(ctx context.Context, kind, id string) (entityevent.Doc, error) {
	defer b.enter()()
	return b.Store.Get(ctx, kind, id)
}

func (b *busyStore) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	defer b.enter()()
	return b.Store.Apply(ctx, c)
}

func (b *busyStore) Read(ctx context.Context, v entityevent.View, q entityevent.Query) iter.Seq2[entityevent.Record, error] {
	defer b.enter()()
	return b.Store.Read(ctx, v, q)
}
