package session_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/session"
)

// TestListeners: each listener of a session is woken by what is posted there or happens in the log, and nobody else is.
func TestListeners(t *testing.T) {
	store := openStore(t)
	masks, err := store.SetProfiles(t.Context(), []entityevent.Profile{{Name: "idx", Resources: map[string]entityevent.Access{"Media": {}}}})
	if err != nil {
		t.Fatal(err)
	}
	parked := park(store)
	s := serve(t, parked, gate{masks["idx"]})
	one, other, idx := s.open("all"), s.open("all"), s.open("idx")
	s.post(one, `"before"`)
	listeners := []chan answer{s.listen(parked, one), s.listen(parked, one+"?last_event=1"), s.listen(parked, one+"?last_event=")}
	others, narrow := s.listen(parked, other+"?last_event=0"), s.listen(parked, idx+"?last_event=0")

	s.post(one, `"now"`)
	for _, l := range listeners {
		if a := receive(t, l); a.status != 200 || a.body != `[{"type":"note","data":"now","number":2}]` {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	stays(t, others)
	seqs := put(t, store, "Property", 1)
	if got, want := texts(parse(t, receive(t, others).body)), fmt.Sprintf("1:log=%d", seqs[0]); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	stays(t, narrow)
	seqs = put(t, store, "Media", 1)
	if got, want := texts(parse(t, receive(t, narrow).body)), fmt.Sprintf("1:log=%d", seqs[0]); got != want {
		t.Errorf("%s, want %s", got, want)
	}

	ahead := s.listen(parked, one+"?last_event=5") // such a number was never given: it waits for the next
	s.post(one, `5`)                               // after two of the log
	stays(t, ahead)
	s.post(one, `6`)
	if a := receive(t, ahead); a.body != `[{"type":"note","data":6,"number":6}]` {
		t.Errorf("%s", a.body)
	}
	last := s.listen(parked, one)
	s.sessions.Drain()
	if a := receive(t, last); a.status != 200 || a.body != "[]" {
		t.Errorf("drained: %d %s", a.status, a.body)
	}
}

// TestHeld: a listener to whom nothing happens gets an empty list after 30 s.
func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &session.Sessions{Store: openStore(t), Gate: gate{}}
		events := eventsOf(t, ask(t, s, "POST", "/api/sessions", "").Body.String())
		for _, query := range []string{"", "?last_event=0"} {
			began := time.Now()
			w := ask(t, s, "GET", events+query, "")
			if took := time.Since(began); w.Code != 200 || w.Body.String() != "[]\n" || took > 30*time.Second || took < 27*time.Second {
				t.Errorf("%d %s after %s", w.Code, w.Body, took)
			}
		}
	})
}

// ask asks a handler that is not served, in the time of a bubble.
func ask(t testing.TB, h http.Handler, method, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body)).WithContext(t.Context())
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer all")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestIdle: a session ends after an hour in which nobody asked for it, whatever happens in the log and to its client.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t)
		s := &session.Sessions{Store: store, Gate: gate{}}
		open := func() string { return eventsOf(t, ask(t, s, "POST", "/api/sessions", "").Body.String()) }
		idle, posted, listened := open(), open(), open()
		const almost = time.Hour - time.Minute
		for range 3 {
			time.Sleep(almost)
			s.Status("all", "x")
			put(t, store, "Property", 1)
			if w := ask(t, s, "POST", posted, `{"type":"t","data":1}`); w.Code != 200 {
				t.Errorf("posted: %d", w.Code)
			}
			if w := ask(t, s, "GET", listened, ""); w.Code != 200 {
				t.Errorf("listened: %d", w.Code)
			}
		}
		for _, method := range []string{"GET", "POST"} {
			if w := ask(t, s, method, idle, `{"type":"t","data":1}`); w.Code != 404 {
				t.Errorf("idle: %d", w.Code)
			}
		}
		if n := s.Len(); n != 2 {
			t.Errorf("%d sessions", n)
		}
		time.Sleep(2 * time.Hour)
		ask(t, s, "GET", idle, "")
		if n := s.Len(); n != 0 {
			t.Errorf("%d sessions", n)
		}
	})
}

// counting counts the calls of a store.
type counting struct {
	producer.Store
	reads, waits, counts atomic.Int64
}

func (c *counting) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	c.reads.Add(1)
	return c.Store.Events(ctx, v, q)
}

func (c *counting) CountEvents(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (int64, error) {
	c.counts.Add(1)
	return c.Store.CountEvents(ctx, v, q)
}

func (c *counting) Wait(ctx context.Context, v entityevent.View, q entityevent.EventQuery) error {
	c.waits.Add(1)
	return c.Store.Wait(ctx, v, q)
}

func (c *counting) calls() int64 { return c.reads.Load() + c.waits.Load() + c.counts.Load() }

// TestIdleSessionsCostMemoryOnly: what happens in the log concerns none of 1,000 sessions until somebody asks, and the
// listeners of 1,000 others, whom one event wakes, read it once.
func TestIdleSessionsCostMemoryOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: openStore(t)}
		s := &session.Sessions{Store: store, Gate: gate{}}
		open := func() string { return eventsOf(t, ask(t, s, "POST", "/api/sessions", "").Body.String()) }
		open()
		before := live()
		idle := make([]string, 1000)
		for i := range idle {
			idle[i] = open()
		}
		each := (live() - before) / 1000
		t.Logf("a session that is idle: %d bytes", each)
		if each > 2048 {
			t.Errorf("a session that is idle: %d bytes", each)
		}
		calls := store.calls()
		put(t, store, "Property", 50)
		time.Sleep(50 * time.Minute)
		put(t, store, "Property", 1)
		synctest.Wait()
		if n := store.calls() - calls; n != 0 {
			t.Errorf("%d calls of the store for sessions that are idle", n)
		}

		answers := make(chan string, 1000)
		for _, events := range idle {
			go func() { answers <- texts(parse(t, ask(t, s, "GET", events, "").Body.String())) }()
		}
		synctest.Wait()
		calls = store.calls()
		time.Sleep(20 * time.Second)
		if n := store.calls() - calls; n != 0 {
			t.Errorf("%d calls of the store for listeners to whom nothing happens", n)
		}
		seq := put(t, store, "Property", 1)[0]
		for range idle {
			if got, want := <-answers, fmt.Sprintf("52:log=%d", seq); got != want {
				t.Fatalf("%s, want %s", got, want)
			}
		}
		if n := store.calls() - calls; n != 1 {
			t.Errorf("one event was read %d times for 1,000 listeners", n)
		}
	})
}

// live is what is on the heap after a collection, in bytes.
func live() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestEnd: a session ends with its client. Who listens is told that it is gone, and nothing else.
func TestEnd(t *testing.T) {
	store := openStore(t)
	parked := park(store)
	s := serve(t, parked, gate{})
	one, two, other := s.open("all"), s.open("all"), s.open("other")
	listener, others := s.listen(parked, one), s.listen(parked, other)
	s.sessions.End("all")
	s.sessions.End("nobody")
	if a := receive(t, listener); a.status != 404 || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("listener: %d %s", a.status, a.body)
	}
	for _, events := range []string{one, two} {
		if a := s.do("GET", events+"?last_event=0", ""); a.status != 404 {
			t.Errorf("GET: %d %s", a.status, a.body)
		}
		if a := s.do("POST", events, `{"type":"t","data":1}`); a.status != 404 {
			t.Errorf("POST: %d %s", a.status, a.body)
		}
	}
	stays(t, others)
	s.post(other, `1`)
	if a := receive(t, others); a.status != 200 {
		t.Errorf("of another client: %d %s", a.status, a.body)
	}
}

// revoking admits a client the first time only.
type revoking struct{ asked atomic.Int64 }

func (g *revoking) Admit(r *http.Request, scope string) (producer.Client, error) {
	if g.asked.Add(1) > 1 {
		r.Header.Set("Authorization", "Bearer x")
	}
	return gate{}.Admit(r, scope)
}

// TestRevokedWhileItBegins: no session outlives a client that was revoked while it made one.
func TestRevokedWhileItBegins(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	s.sessions.Gate = &revoking{}
	if a := s.do("POST", "/api/sessions", "", "Authorization: Bearer all"); a.status != 401 || s.sessions.Len() != 0 {
		t.Errorf("%d %s, %d sessions", a.status, a.body, s.sessions.Len())
	}
}

// TestStatus: what becomes of a client's subscriptions is told in each of its sessions, in its place among the rest.
func TestStatus(t *testing.T) {
	store := openStore(t)
	parked := park(store)
	s := serve(t, parked, gate{})
	s.sessions.Status("all", "nobody listens")
	one, two, other := s.open("all"), s.open("all"), s.open("other")
	seqs := put(t, store, "Property", 2)
	s.sessions.Status("all", map[string]string{"subscription": "b", "status": "suspended"})
	seqs = append(seqs, put(t, store, "Property", 1)...)
	for _, events := range []string{one, two} {
		want := fmt.Sprintf(`1:log=%d 2:log=%d 3:status={"status":"suspended","subscription":"b"} 4:log=%d`, seqs[0], seqs[1], seqs[2])
		if got := texts(s.get(events, 0)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got, want := texts(s.get(other, 0)), fmt.Sprintf(`1:log=%d 2:log=%d 3:log=%d`, seqs[0], seqs[1], seqs[2]); got != want {
		t.Errorf("of another client: %s, want %s", got, want)
	}
	listener, others := s.listen(parked, one), s.listen(parked, other)
	s.sessions.Status("all", "active")
	if a := receive(t, listener); a.body != `[{"type":"status","data":"active","number":5}]` {
		t.Errorf("%s", a.body)
	}
	stays(t, others)
	s.sessions.Status("all", func() {}) // no JSON: nothing happens
	if got := len(s.get(two, 4)); got != 1 {
		t.Errorf("%d events", got)
	}
}

// TestStatusesTakeNoRoom: however often something becomes of a client's subscriptions, and however many sessions are told,
// it takes neither memory for each of them nor what others may post.
func TestStatusesTakeNoRoom(t *testing.T) {
	s := &session.Sessions{Store: still{}, Gate: anybody{}, MaxBytes: 1 << 20}
	open := func(client string) string {
		return eventsOf(t, bare(s, "POST", "/api/sessions", client, "").Body.String())
	}
	var told string
	for range 1000 {
		told = open("a")
	}
	before := live()
	for i := range 1500 {
		s.Status("a", fmt.Sprint(i, strings.Repeat("x", 255)))
	}
	if grown := live() - before; grown > 2<<20 {
		t.Errorf("%d bytes of 1,500 statuses for 1,000 sessions", grown)
	}
	for _, client := range []string{"a", "b"} {
		if w := bare(s, "POST", open(client), "", `{"type":"t","data":1}`); w.Code != 200 {
			t.Errorf("%s may not post: %d %s", client, w.Code, w.Body)
		}
	}
	all := parse(t, bare(s, "GET", told+"?last_event=0", "", "").Body.String())
	if len(all) != 1000 || all[0].Number != 501 || all[999].Number != 1500 || !strings.HasPrefix(string(all[999].Data), `"1499x`) {
		t.Errorf("%d events", len(all))
	}
}

// ending is a gate that ends a client's sessions as the client is revoked, between the two looks at it.
type ending struct {
	revoking
	sessions *session.Sessions
}

func (g *ending) Admit(r *http.Request, scope string) (producer.Client, error) {
	if g.asked.Load() > 0 {
		g.sessions.End("all")
	}
	return g.revoking.Admit(r, scope)
}

// TestEndedWhileItBegins: a session that ended with its client is not ended again by who made it.
func TestEndedWhileItBegins(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	s.sessions.Gate = &ending{sessions: s.sessions}
	if a := s.do("POST", "/api/sessions", "", "Authorization: Bearer all"); a.status != 401 || s.sessions.Len() != 0 {
		t.Errorf("%d %s, %d sessions", a.status, a.body, s.sessions.Len())
	}
}
