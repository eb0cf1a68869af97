package session_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/session"
)

// TestNewest: a session keeps the newest 1,000 events of the log and of those that were posted, and each its number.
func TestNewest(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	events := s.open("all")
	s.post(events, `"first"`)
	seqs := put(t, s.store, "Property", 999)
	if all := s.get(events, 0); len(all) != 1000 || all[0].Number != 1 || string(all[0].Data) != `"first"` || all[999].Number != 1000 {
		t.Fatalf("%d events", len(all))
	}
	n := s.post(events, `"second"`)
	all := s.get(events, 0)
	if len(all) != 1000 || all[0].Number != 2 || n != 1001 || all[999].Number != n || texts(all[:1]) != fmt.Sprintf("2:log=%d", seqs[0]) {
		t.Fatalf("%d events from %d", len(all), all[0].Number)
	}
	for i := range 1500 {
		if got := s.post(events, fmt.Sprint(i)); got != n+1+int64(i) {
			t.Fatalf("post %d has the number %d", i, got)
		}
	}
	all = s.get(events, 5)
	for i, e := range all {
		if want := n + 1500 - 999 + int64(i); e.Number != want || string(e.Data) != fmt.Sprint(500+i) {
			t.Fatalf("%d: %s, want %d", i, texts(all[i:i+1]), want)
		}
	}
	if got := s.get(events, n+1499); len(all) != 1000 || texts(got) != fmt.Sprintf("%d:note=1499", n+1500) {
		t.Errorf("%d events, %s", len(all), texts(got))
	}
}

// TestFarBehind: numbers count as if each event had come at once, also where many of them were never looked at.
func TestFarBehind(t *testing.T) {
	store := openStore(t)
	masks, err := store.SetProfiles(t.Context(), []entityevent.Profile{{Name: "idx", Resources: map[string]entityevent.Access{"Media": {}}}})
	if err != nil {
		t.Fatal(err)
	}
	counted := &counting{Store: store}
	s := &session.Sessions{Store: counted, Gate: gate{masks["idx"]}}
	open := func(client string) string {
		r := httptest.NewRequest(http.MethodPost, "/api/sessions", http.NoBody)
		r.Header.Set("Authorization", "Bearer "+client)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return eventsOf(t, w.Body.String())
	}
	put(t, store, "Media", 3)
	old, idx := open("all"), open("idx")
	seen := put(t, store, "Media", 2)
	for range 30 {
		put(t, store, "Property", 1000)
	}
	seqs := put(t, store, "Property", 1)
	reads := counted.reads.Load()
	all := parse(t, ask(t, s, "GET", old+"?last_event=0", "").Body.String())
	if len(all) != 1000 || all[999].Number != 30_003 || texts(all[999:]) != fmt.Sprintf("30003:log=%d", seqs[0]) || all[0].Number != 29_004 {
		t.Errorf("%d events, %s", len(all), texts(all[max(len(all)-1, 0):]))
	}
	if n := counted.reads.Load() - reads; n > 4 {
		t.Errorf("%d reads of the log", n)
	}
	if got, want := texts(parse(t, ask(t, s, "GET", idx+"?last_event=0", "").Body.String())), fmt.Sprintf("1:log=%d 2:log=%d", seen[0], seen[1]); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	seqs = put(t, store, "Property", 1)
	if got, want := texts(parse(t, ask(t, s, "GET", old+"?last_event=30003", "").Body.String())), fmt.Sprintf("30004:log=%d", seqs[0]); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// anybody admits whoever names itself.
type anybody struct{}

func (anybody) Admit(r *http.Request, _ string) (producer.Client, error) {
	return producer.Client{Name: bearer.FromHeader(r.Header), Mask: entityevent.Everyone}, nil
}

// still is a store of an empty log.
type still struct{ producer.Store }

func (still) Events(context.Context, entityevent.View, entityevent.EventQuery) (entityevent.Page, error) {
	return entityevent.Page{}, nil
}

// bare asks without a network.
func bare(h http.Handler, method, target, client, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if client != "" {
		r.Header.Set("Authorization", "Bearer "+client)
	}
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestNumberOfSessions has a bound, for each client and for all; who ended makes room, and so do anonymous ones.
func TestNumberOfSessions(t *testing.T) {
	s := newStrange()
	open := func(client string) *httptest.ResponseRecorder {
		return bare(document().Handler(t, s), "POST", "/api/sessions", client, "")
	}
	fill := func(client string) {
		t.Helper()
		for i := range 2500 {
			if w := bare(s, "POST", "/api/sessions", client, ""); w.Code != 200 {
				t.Fatalf("%q %d: %d %s", client, i, w.Code, w.Body)
			}
		}
	}
	fill("a")
	if w := open("a"); w.Code != 429 || !lasts(w, time.Hour) || !strings.Contains(w.Body.String(), "2500") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	fill("b")
	fill("c")
	strangers := s.open(t, "192.0.2.1", 100)
	fill("d")
	if s.Len() != 10_000 || s.lives(strangers[99]) {
		t.Errorf("%d sessions", s.Len())
	}
	if w := open("e"); w.Code != 503 || !lasts(w, time.Hour) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	s.End("b")
	fill("e")
	if w := open("f"); w.Code != 503 || s.Len() != 10_000 {
		t.Errorf("%d, %d sessions", w.Code, s.Len())
	}
}

// lasts says whether an answer tells to wait for about so long.
func lasts(w *httptest.ResponseRecorder, d time.Duration) bool {
	n, err := strconv.Atoi(w.Header().Get("Retry-After"))
	return err == nil && n <= int(d.Seconds()) && n > int(d.Seconds()*0.9)
}

// strange are Sessions for those without a token, who come from the address that an Authorization of theirs would name.
type strange struct {
	*session.Sessions
	from string
}

func newStrange() *strange {
	s := &strange{Sessions: &session.Sessions{Store: still{}, Gate: anybody{}, Anonymous: &producer.Client{Mask: entityevent.Everyone}, MaxBytes: 64 << 20}}
	s.Address = func(*http.Request) string { return s.from }
	return s
}

// open makes sessions from an address, and returns their paths.
func (s *strange) open(t *testing.T, from string, n int) (all []string) {
	t.Helper()
	s.from = from
	for range n {
		w := bare(s, "POST", "/api/sessions", "", "")
		if w.Code != 200 {
			t.Fatalf("%s: %d %s", from, w.Code, w.Body)
		}
		all = append(all, eventsOf(t, w.Body.String()))
	}
	return all
}

// lives says whether there is such a session, without using it more than by a HEAD.
func (s *strange) lives(path string) bool { return bare(s, "HEAD", path, "", "").Code == 200 }

// TestAnonymousSessionsMakeRoom: no address takes the room of others; who asks for one more loses its own idlest, and when
// all room is taken, the address that has most does.
func TestAnonymousSessionsMakeRoom(t *testing.T) {
	s := newStrange()
	one := s.open(t, "198.51.100.1", 1)[0]
	many := s.open(t, "192.0.2.0", 252)
	if s.lives(many[0]) || s.lives(many[1]) || !s.lives(many[2]) || s.Len() != 251 {
		t.Errorf("%d sessions", s.Len())
	}
	for i := range 8 {
		s.open(t, fmt.Sprint("192.0.2.", 10+i), 250)
	}
	s.open(t, "192.0.2.99", 249)
	if s.Len() != 2500 {
		t.Errorf("%d sessions", s.Len())
	}
	newcomer := s.open(t, "203.0.113.1", 1)[0]
	if !s.lives(newcomer) || !s.lives(one) || s.Len() != 2500 {
		t.Errorf("%d sessions", s.Len())
	}
	if !s.lives(many[2]) { // that was used since
		t.Error("not the idlest one went")
	}
}

// TestListenersKeepAnonymousSessions: one that is listened to does not make room.
func TestListenersKeepAnonymousSessions(t *testing.T) {
	parked := park(openStore(t))
	s := serve(t, parked, gate{})
	s.sessions.Anonymous = &producer.Client{Mask: entityevent.Everyone}
	open := func() string {
		a := s.do("POST", "/api/sessions", "")
		return eventsOf(t, a.body)
	}
	first := open()
	heard := s.listen(parked, first)
	second := open()
	for range 249 {
		open()
	}
	if a := s.do("HEAD", second, ""); a.status != 404 {
		t.Errorf("the idle one: %d", a.status)
	}
	s.post(first, `1`)
	if a := receive(t, heard); a.status != 200 || !strings.Contains(a.body, `"number":1`) {
		t.Errorf("the other: %d %s", a.status, a.body)
	}
}

// TestAnonymousMemory: an address fills its own share; when all of them are full, those that have most make room.
func TestAnonymousMemory(t *testing.T) {
	s := newStrange() // 16 MB of anonymous ones, 1.6 MB of an address
	body := `{"type":"t","data":"` + strings.Repeat("x", 16_000) + `"}`
	fill := func(from string) (last *httptest.ResponseRecorder, posted int) {
		path := s.open(t, from, 1)[0]
		for {
			if last = bare(s, "POST", path, "", body); last.Code != 200 {
				return last, posted
			}
			posted++
		}
	}
	const most = 16 << 20 / 10 / 16_000
	for i := range 40 {
		if w, n := fill(fmt.Sprint("192.0.2.", i)); w.Code != 429 || !lasts(w, time.Hour) || n > most || n < most*9/10 {
			t.Fatalf("address %d: %d %v after %d", i, w.Code, w.Header(), n)
		}
	}
	if n := s.Len(); n < 9 || n > 11 {
		t.Errorf("%d sessions are left", n)
	}
}

// TestMemory has a bound, for each client and for all; sessions that end give theirs back.
func TestMemory(t *testing.T) {
	s := &session.Sessions{Store: still{}, Gate: anybody{}, MaxBytes: 16 << 20}
	body := `{"type":"t","data":"` + strings.Repeat("x", 16_000) + `"}`
	fill := func(client string) (status, posted int) {
		for {
			events := eventsOf(t, bare(s, "POST", "/api/sessions", client, "").Body.String())
			for range 100 {
				if w := bare(s, "POST", events, client, body); w.Code != 200 {
					w = bare(document().Handler(t, s), "POST", events, client, body)
					if !lasts(w, time.Hour) || w.Header().Get("Content-Type") != "application/problem+json" {
						t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
					}
					return w.Code, posted
				}
				posted++
			}
		}
	}
	const most = 4 << 20 / 16_000
	for _, client := range []string{"a", "b", "c", "d"} {
		if status, posted := fill(client); status != 429 || posted > most || posted < most*9/10 {
			t.Errorf("%s: %d after %d", client, status, posted)
		}
	}
	if status, posted := fill("e"); status != 503 || posted > most/5 {
		t.Errorf("of all: %d after %d", status, posted)
	}
	s.End("a")
	if status, posted := fill("a"); status < 429 || posted < most*9/10 {
		t.Errorf("after the end of others: %d after %d", status, posted)
	}
}

// TestListenersAreLimited, those of one session and those of all that is held here.
func TestListenersAreLimited(t *testing.T) {
	parked := park(openStore(t))
	s := serve(t, parked, gate{})
	events, other := s.open("all"), s.open("all")
	var held []chan answer
	for range 100 {
		held = append(held, s.listen(parked, events))
	}
	if a := s.do("GET", events, ""); a.status != 429 || a.header.Get("Retry-After") != "30" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	s.sessions.Drain()
	for _, h := range held {
		receive(t, h)
	}
	s.sessions.Holds = &producer.Holds{Most: 1}
	one := s.listen(parked, events)
	for target, want := range map[string]int{other: 429, s.open("other"): 503} {
		a := s.do("GET", target, "")
		if a.status != want || a.header.Get("Retry-After") != "30" || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%d %v %s", a.status, a.header, a.body)
		}
	}
	s.post(events, `1`)
	receive(t, one)
	if n := s.sessions.Holds.Len(); n != 0 {
		t.Errorf("%d are held", n)
	}
}

// TestListenersOfAnAddress: an address may have a tenth of the listeners of those without a token, who may have a quarter of
// all.
func TestListenersOfAnAddress(t *testing.T) {
	parked := park(openStore(t))
	s := serve(t, parked, gate{})
	from := ""
	s.sessions.Anonymous, s.sessions.Holds = &producer.Client{Mask: entityevent.Everyone}, &producer.Holds{Most: 80} // 20 and 2
	s.sessions.Address = func(*http.Request) string { return from }
	var full string
	for i := range 10 {
		from = fmt.Sprint("192.0.2.", i)
		full = eventsOf(t, s.do("POST", "/api/sessions", "").body)
		s.listen(parked, full)
		s.listen(parked, full)
		if a := s.do("GET", full, ""); a.status != 429 || a.header.Get("Retry-After") != "30" {
			t.Fatalf("the third of an address: %d %s", a.status, a.body)
		}
	}
	from = "203.0.113.1"
	if a := s.do("GET", eventsOf(t, s.do("POST", "/api/sessions", "").body), ""); a.status != 503 || a.header.Get("Retry-After") != "30" {
		t.Errorf("of an eleventh address: %d %s", a.status, a.body)
	}
	client := s.listen(parked, s.open("all"))
	if n := s.sessions.Len(); n != 12 { // to listen ends nobody's session
		t.Errorf("%d sessions", n)
	}
	s.sessions.Drain()
	receive(t, client)
}

// broken is a store that cannot do its work.
type broken struct {
	producer.Store
	err error
}

func (b broken) Events(context.Context, entityevent.View, entityevent.EventQuery) (entityevent.Page, error) {
	return entityevent.Page{}, fmt.Errorf("disk at /secret/path: %w", b.err)
}

// TestUnavailable: nothing is half done, and nothing internal is told.
func TestUnavailable(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	events := s.open("all")
	healthy := s.sessions.Store
	s.sessions.Store = broken{healthy, entityevent.ErrUnavailable}
	for _, c := range []struct{ method, target, body string }{{"POST", "/api/sessions", ""}, {"GET", events, ""}, {"POST", events, `{"type":"t","data":1}`}} {
		a := s.do(c.method, c.target, c.body, "Authorization: Bearer all")
		if a.status != 503 || a.header.Get("Retry-After") != "5" || strings.Contains(a.body, "secret") {
			t.Errorf("%s %s: %d %v %s", c.method, c.target, a.status, a.header, a.body)
		}
	}
	s.sessions.Status("all", 1) // is not lost
	s.sessions.Store = healthy
	if got := texts(s.get(events, 0)); got != "1:status=1" || s.sessions.Len() != 1 {
		t.Errorf("%s, %d sessions", got, s.sessions.Len())
	}
}

// TestLogKnowsNoToken: what fails here is logged without the session's token.
func TestLogKnowsNoToken(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	events := s.open("all")
	var logged strings.Builder
	s.sessions.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	s.sessions.Store = broken{s.sessions.Store, errors.New("odd")}
	for method, body := range map[string]string{"GET": "", "POST": `{"type":"t","data":1}`} {
		if a := s.do(method, events, body); a.status != 503 {
			t.Errorf("%s: %d %s", method, a.status, a.body)
		}
	}
	if token := strings.Split(events, "/")[3]; strings.Count(logged.String(), "odd") != 2 || strings.Contains(logged.String(), token) {
		t.Errorf("logged: %s", &logged)
	}
}
