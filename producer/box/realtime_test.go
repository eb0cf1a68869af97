package box_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/box"
)

const (
	newChange  = `{"version":1,"message":"new_change"}`
	reconnect  = `{"version":1,"message":"reconnect"}`
	maxRetries = `{"version":1,"message":"max_retries"}`
)

// TestServers is the exact form of what OPTIONS answers.
func TestServers(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	for _, path := range []string{"/2.0/events", "/events", "/events/"} {
		a := s.do("OPTIONS", path)
		const want = `^\{"chunk_size":1,"entries":\[\{"type":"realtime_server","url":"https://sync.example/agent/2.0/realtime\?channel=[A-Z2-7]{26}&stream_type=all","ttl":"10","max_retries":"10","retry_timeout":610\}\]\}$`
		if a.status != 200 || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" || !regexp.MustCompile(want).MatchString(a.body) {
			t.Errorf("%s: %d %v %s", path, a.status, a.header, a.body)
		}
		p := s.do("OPTIONS", path, "Access-Control-Request-Method: GET", "Authorization: ")
		if p.status != 204 || p.body != "" || p.header.Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("%s: preflight: %d %v %s", path, p.status, p.header, p.body)
		}
	}
	if a := s.do("OPTIONS", "/2.0/realtime", "Authorization: "); a.status != 204 || a.header.Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("OPTIONS of the realtime url: %d %v", a.status, a.header)
	}
	if one, other := s.channel(), s.channel(); one == other {
		t.Error("two streams share a channel")
	}
}

// TestRealtime: what is there is told at once, and each answer closes its connection.
func TestRealtime(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	seqs := put(t, s.store, "Property", 2)
	for _, after := range []string{"0", seqs[0].String()} {
		a := s.do("GET", s.channel()+"&stream_position="+after, "Authorization: ") // the channel is the credential
		if a.status != 200 || a.body != newChange || !a.close || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("after %s: %d %v %s", after, a.status, a.header, a.body)
		}
	}
	for _, of := range []string{"", "?channel=", "?channel=AAAAAAAAAAAAAAAAAAAAAAAAAA", "?stream_position=0"} {
		if a := s.do("GET", "/2.0/realtime"+of, "Authorization: "); a.status != 200 || a.body != reconnect || !a.close {
			t.Errorf("unknown channel %s: %d %s", of, a.status, a.body)
		}
	}
	if a := s.do("HEAD", s.channel()); a.status != 200 || a.body != "" || a.header.Get("Content-Length") != "" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD: %d %s", a.status, a.body)
	}
}

// parking tells when a request waits.
type parking struct {
	entityevent.Store
	arrive chan entityevent.EventQuery
}

func park(store entityevent.Store) *parking {
	return &parking{store, make(chan entityevent.EventQuery, 100)}
}

func (p *parking) Wait(ctx context.Context, v entityevent.View, q entityevent.EventQuery) error {
	p.arrive <- q
	return p.Store.Wait(ctx, v, q)
}

// hold asks the realtime url, and returns when the request waits.
func (s *service) hold(p *parking, target string) (answered chan answer, after entityevent.Sequence) {
	s.t.Helper()
	answered = make(chan answer, 1)
	go func() {
		a, err := s.try(s.t.Context(), "GET", target)
		if err != nil {
			a.body = err.Error()
		}
		answered <- a
	}()
	return answered, receive(s.t, p.arrive).After
}

func receive[T any](t testing.TB, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
	}
	return v
}

// TestHeld: a request is answered by what its client sees, and by nothing else; now is when it arrives.
func TestHeld(t *testing.T) {
	store := openStore(t)
	masks, err := store.SetProfiles(t.Context(), []entityevent.Profile{{Name: "idx", Resources: map[string]entityevent.Access{"Media": {}}}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, store, "Media", 3)
	parked := park(store)
	s := serve(t, parked, gate{masks["idx"]})
	const idx = "Authorization: Bearer idx"
	for _, position := range []string{"", "&stream_position=now", "&stream_position="} {
		head := put(t, store, "Property", 1)[0]
		held, after := s.hold(parked, s.channel(idx)+position)
		if after != head {
			t.Errorf("%q waits for what follows %d, want %d", position, after, head)
		}
		put(t, store, "Property", 1)
		select {
		case a := <-held:
			t.Fatalf("told of what it may not see: %s", a.body)
		default:
		}
		put(t, store, "Media", 1)
		if a := receive(t, held); a.status != 200 || a.body != newChange || !a.close {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	other, _ := s.hold(parked, s.channel()+"&stream_position=1000000")
	s.events.Drain()
	if a := receive(t, other); a.body != reconnect {
		t.Errorf("drained: %s", a.body)
	}
}

// TestUses: a channel serves for one use and ten retries.
func TestUses(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	put(t, s.store, "Property", 1)
	channel := s.channel()
	for i := range 15 {
		want := newChange
		if i > 10 {
			want = maxRetries
		}
		if a := s.do("GET", channel+"&stream_position=0"); a.status != 200 || a.body != want || !a.close {
			t.Errorf("use %d: %d %s", i+1, a.status, a.body)
		}
	}
}

// TestUsesOfNoChannel: who asks the same url again and again, though it serves no more, is told so.
func TestUsesOfNoChannel(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	ended := s.channel()
	s.events.End("all")
	for _, target := range []string{ended, "/2.0/realtime?channel=AAAAAAAAAAAAAAAAAAAAAAAAAA"} {
		for i := range 13 {
			want := reconnect
			if i > 10 {
				want = maxRetries
			}
			if a := s.do("GET", target); a.body != want {
				t.Errorf("use %d: %s", i+1, a.body)
			}
		}
	}
	before := live()
	for i := range 20_000 {
		ask(t, s.events, "GET", fmt.Sprintf("/2.0/realtime?channel=%026d", i))
		ask(t, s.events, "GET", "/2.0/realtime?channel="+strings.Repeat("x", 1000))
	}
	if grown := live() - before; grown > 1<<20 {
		t.Errorf("guesses hold %d bytes", grown)
	}
}

// TestRevoked: a client that was revoked learns nothing more, neither by what it held nor by its channels.
func TestRevoked(t *testing.T) {
	store := openStore(t)
	parked := park(store)
	s := serve(t, parked, gate{})
	kept := s.channel("Authorization: Bearer other")
	idle, held := s.channel(), s.channel()
	answered, _ := s.hold(parked, held)
	others, _ := s.hold(parked, kept)
	s.events.End("all")
	if a := receive(t, answered); a.status != 200 || a.body != reconnect {
		t.Errorf("held: %d %s", a.status, a.body)
	}
	put(t, store, "Property", 1)
	if a := receive(t, others); a.body != newChange {
		t.Errorf("another client: %s", a.body)
	}
	for _, channel := range []string{idle, held} {
		if a := s.do("GET", channel+"&stream_position=0"); a.body != reconnect {
			t.Errorf("%s", a.body)
		}
	}
}

// revoking revokes a client when its wait has ended, before it is answered.
type revoking struct {
	entityevent.Store
	revoke func()
}

func (v revoking) Wait(ctx context.Context, view entityevent.View, q entityevent.EventQuery) error {
	err := v.Store.Wait(ctx, view, q)
	v.revoke()
	return err
}

func TestRevokedAtTheLastMoment(t *testing.T) {
	store := openStore(t)
	put(t, store, "Property", 1)
	var s *service
	s = serve(t, revoking{store, func() { s.events.End("all") }}, gate{})
	if a := s.do("GET", s.channel()+"&stream_position=0"); a.body != reconnect {
		t.Errorf("%s", a.body)
	}
}

// ask asks a handler that is not served, in the time of a bubble.
func ask(t testing.TB, h http.Handler, method, target string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, http.NoBody).WithContext(t.Context())
	r.Header.Set("Authorization", "Bearer all")
	w := httptest.NewRecorder()
	document().Handler(t, h).ServeHTTP(w, r)
	return w
}

// TestTimes: a request is held for 20 s, but not beyond the ten minutes of its channel.
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := newEvents(openStore(t), gate{})
		open := func() string {
			return strings.TrimPrefix(channelOf(t, ask(t, events, "OPTIONS", "/2.0/events").Body.String()), root)
		}
		first, second := open(), open()
		began := time.Now()
		w := ask(t, events, "GET", first)
		if took := time.Since(began); strings.TrimSpace(w.Body.String()) != reconnect || took > 20*time.Second || took < 18*time.Second {
			t.Errorf("%s after %s", w.Body, took)
		}
		time.Sleep(10*time.Minute - time.Since(began) - 5*time.Second)
		began = time.Now()
		w = ask(t, events, "GET", second)
		if took := time.Since(began); strings.TrimSpace(w.Body.String()) != reconnect || took != 5*time.Second {
			t.Errorf("at the end of the channel: %s after %s", w.Body, took)
		}
		began = time.Now()
		for _, channel := range []string{first, second} {
			w = ask(t, events, "GET", channel+"&stream_position=0")
			if took := time.Since(began); strings.TrimSpace(w.Body.String()) != reconnect || took != 0 {
				t.Errorf("after the end of the channel: %s after %s", w.Body, took)
			}
		}
	})
}

// TestRevokedAtOnce: what a revoked client held ends then, not with the next event or at the end of its time.
func TestRevokedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := newEvents(openStore(t), gate{})
		channel := strings.TrimPrefix(channelOf(t, ask(t, events, "OPTIONS", "/2.0/events").Body.String()), root)
		began := time.Now()
		time.AfterFunc(5*time.Second, func() { events.End("all") })
		w := ask(t, events, "GET", channel)
		if took := time.Since(began); strings.TrimSpace(w.Body.String()) != reconnect || took != 5*time.Second {
			t.Errorf("%s after %s", w.Body, took)
		}
	})
}

// TestTooManyHeld: who would be too many is told when to come back.
func TestTooManyHeld(t *testing.T) {
	parked := park(openStore(t))
	s := serve(t, parked, gate{})
	s.events.Holds = &producer.Holds{Most: 1}
	first, _ := s.hold(parked, s.channel())
	a := s.do("GET", s.channel())
	if a.status != 503 || a.header.Get("Retry-After") != "30" || !strings.Contains(a.body, `"code":"unavailable"`) {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	s.events.Holds.Drain()
	receive(t, first)
}

// TestChannelsAreBounded: however many a client opens, it keeps the newest, those of others stay, and the memory of all
// has a bound.
func TestChannelsAreBounded(t *testing.T) {
	store := openStore(t)
	put(t, store, "Property", 1)
	events := newEvents(store, gate{})
	open := func(client string) string {
		r := httptest.NewRequest(http.MethodOptions, "/2.0/events", http.NoBody)
		r.Header.Set("Authorization", "Bearer "+client)
		w := httptest.NewRecorder()
		events.ServeHTTP(w, r)
		return strings.TrimPrefix(channelOf(t, w.Body.String()), root)
	}
	told := func(channel string) string {
		return strings.TrimSpace(ask(t, events, "GET", channel+"&stream_position=0").Body.String())
	}
	other, first := open("other"), open("all")
	before := live()
	for range 30_000 {
		open("all")
	}
	if grown := live() - before; grown > 4<<20 {
		t.Errorf("30,000 channels hold %d bytes", grown)
	}
	last := open("all")
	for channel, want := range map[string]string{first: reconnect, last: newChange, other: newChange} {
		if got := told(channel); got != want {
			t.Errorf("%s: %s, want %s", channel, got, want)
		}
	}
}

// many admits whoever names itself.
type many struct{}

func (many) Admit(r *http.Request, _ string) (producer.Client, error) {
	return producer.Client{Name: r.URL.Query().Get("client"), Mask: entityevent.Everyone}, nil
}

// TestChannelsOfManyClients: when there are too many of all clients, the oldest of whoever has most end.
func TestChannelsOfManyClients(t *testing.T) {
	store := openStore(t)
	put(t, store, "Property", 1)
	events := &box.Events{Store: store, Gate: many{}, Root: root, Name: "acme-mls"}
	open := func(client string) string {
		w := httptest.NewRecorder()
		events.ServeHTTP(w, httptest.NewRequest(http.MethodOptions, "/2.0/events?client="+url.QueryEscape(client), http.NoBody))
		return strings.TrimPrefix(channelOf(t, w.Body.String()), root)
	}
	small := open("small")
	var firsts []string
	for c := range 11 {
		firsts = append(firsts, open(fmt.Sprint("big", c)))
		for range 1899 {
			open(fmt.Sprint("big", c))
		}
	}
	ended := 0
	for _, first := range firsts {
		if w := ask(t, events, "GET", first+"&stream_position=0"); strings.TrimSpace(w.Body.String()) == reconnect {
			ended++
		}
	}
	if ended == 0 {
		t.Error("20,900 channels are open")
	}
	if w := ask(t, events, "GET", small+"&stream_position=0"); strings.TrimSpace(w.Body.String()) != newChange {
		t.Errorf("of a client with one: %s", w.Body)
	}
}

// live is what is on the heap after a collection, in bytes.
func live() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
