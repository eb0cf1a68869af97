package producer_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// misbehaviours are those of the truth table, a row of each kind.
func misbehaviours() map[string]func(*end) {
	return map[string]func(*end){
		"500": says("500 Internal Server Error"), "502": says("502 Bad Gateway"), "400": says("400 Bad Request"), "404": says("404 Not Found"),
		"401": says("401 Unauthorized"), "403": problem("403 Forbidden", `{"title":"no"}`), "410": says("410 Gone"), "413": says("413 Content Too Large"),
		"429": says("429 Too Many Requests", "Retry-After: 1"), "429-unsaid": says("429 Too Many Requests"), "503-hour": says("503 Service Unavailable", "Retry-After: 3600"),
		"503-year": says("503 Service Unavailable", "Retry-After: 31536000"), "302": says("302 Found", "Location: https://elsewhere.example/hook"),
		"101": hangs("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), "102": drips("", "HTTP/1.1 102 Processing\r\n\r\n", time.Second),
		"silent": hangs(""), "not-read": func(e *end) { <-e.left }, "closed": func(*end) {}, "lost": cut(""), "cut": cut("HTTP/1.1 20"),
		"headers-drip": drips("HTTP/1.1 200 OK\r\nX: ", "x", time.Second), "headers-endless": drips("HTTP/1.1 200 OK\r\n", "X: "+strings.Repeat("y", 1000)+"\r\n", 0),
		"body-drips": drips("HTTP/1.1 500 Odd\r\nContent-Length: 600\r\n\r\n", "x", time.Second), "body-large": large("500 Internal Server Error"),
		"taken-slowly": drips(endless, "1\r\nx\r\n", time.Second), "taken-half-open": once("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
		"garbage": cut("220 mail.example ESMTP\r\n"), "no-number": cut("HTTP/1.1 abc OK\r\n\r\n"),
		"refused": nil, "never-connected": nil, // by the dial
	}
}

// books are what was pushed to each subscriber, by the name of its host.
type books struct {
	next http.RoundTripper
	mu   sync.Mutex
	by   map[string][]entry
}

type entry struct {
	after, through entityevent.Sequence
	events         []entityevent.Sequence
	taken          bool
}

func (b *books) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	events, err := entityevent.ParseEvents(raw)
	if err != nil {
		return nil, err
	}
	e := entry{after: sequence(r, "EntityEvent-After"), through: sequence(r, "EntityEvent-Through")}
	for _, event := range events {
		e.events = append(e.events, event.Sequence)
	}
	resp, err := b.next.RoundTrip(r)
	e.taken = err == nil && resp.StatusCode >= 200 && resp.StatusCode <= 299
	b.mu.Lock()
	defer b.mu.Unlock()
	b.by[r.URL.Host] = append(b.by[r.URL.Host], e)
	return resp, err
}

// check fails unless each push held exactly what happened between its After and its Through, and went on where the last one that
// was taken ended; it returns how far that is.
func (b *books) check(t *testing.T, host string, want []entityevent.Sequence) (through entityevent.Sequence) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for n, e := range b.by[host] {
		from, _ := slices.BinarySearch(want, e.after+1)
		to, _ := slices.BinarySearch(want, e.through+1)
		if e.after != through || e.through <= e.after || !slices.Equal(e.events, want[from:to]) {
			t.Fatalf("%s: push %d is (%d, %d] with %v, after %d was taken", host, n+1, e.after, e.through, e.events, through)
		}
		if e.taken {
			through = e.through
		}
	}
	return through
}

// A hundred subscriptions at 500 events a second, of which thirty misbehave in all the ways of the truth table: meanwhile the
// others get each event at once, in order; and the thirty get all of them once they behave.
func TestPushFanOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all, seconds, perSecond, ticks = 100, 3, 500, 25
		store := openStore(t, t.TempDir())
		kinds := misbehaviours()
		var bad atomic.Bool
		bad.Store(true)
		live := says("200 OK")
		kindOf := func(address string) string { return strings.TrimSuffix(strings.Split(address, ":")[0], ".example") }
		network := &wire{fails: func(ctx context.Context, address string) error {
			if !bad.Load() {
				return nil
			}
			switch kindOf(address) {
			case "refused":
				return refuses(syscall.ECONNREFUSED)(ctx, address)
			case "never-connected":
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}
		network.peer = func(e *end) {
			if peer := kinds[kindOf(e.address)]; peer != nil && bad.Load() {
				peer(e)
			} else {
				live(e)
			}
		}
		ledger := &books{next: producer.ClientOver(network.dial, nil).Transport, by: map[string][]entry{}}
		client := &http.Client{Transport: ledger}
		t.Cleanup(func() { ledger.next.(interface{ CloseIdleConnections() }).CloseIdleConnections() })
		pushers := map[string]*producer.Pusher{}
		begin := func(name string) {
			subscribe(t, store, name)
			p := newPusher(t, store, nil)
			p.HTTP, p.Subscription.Name, p.Subscription.URL = client, name, "http://"+name+".example/hook"
			pushers[name] = p
			start(t, p)
		}
		var good []string
		for kind := range kinds {
			begin(kind)
		}
		for i := len(kinds); i < all; i++ {
			good = append(good, fmt.Sprint("good-", i))
			begin(good[len(good)-1])
		}

		var want []entityevent.Sequence
		for range seconds * ticks {
			want = append(want, put(t, store, entityevent.Local, perSecond/ticks)...)
			synctest.Wait() // no time passes while anything can be done
			last := want[len(want)-1]
			for _, name := range good {
				if through := ledger.check(t, name+".example", want); through != last {
					t.Fatalf("%s stands at %d while others misbehave, the log at %d", name, through, last)
				}
			}
			time.Sleep(time.Second / ticks)
		}
		time.Sleep(5 * time.Minute)
		for kind := range kinds {
			through := ledger.check(t, kind+".example", want)
			if state := stateOf(t, store, kind); state.Cursor != through || through == want[len(want)-1] && !strings.HasPrefix(kind, "taken") {
				t.Errorf("%s was taken through %d, and stands at %d", kind, through, state.Cursor)
			}
		}

		bad.Store(false)
		network.mu.Lock()
		for _, e := range network.ends {
			e.Close()
		}
		network.mu.Unlock()
		for kind := range kinds {
			if err := producer.Resume(t.Context(), store, kind); err != nil {
				t.Fatal(err)
			}
			pushers[kind].Wake()
		}
		want = append(want, put(t, store, entityevent.Local, perSecond)...)
		time.Sleep(time.Hour)
		for name := range pushers {
			if through := ledger.check(t, name+".example", want); through != want[len(want)-1] {
				t.Errorf("%s stands at %d when all behave, the log at %d", name, through, want[len(want)-1])
			}
		}
	})
}
