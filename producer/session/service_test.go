package session_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/session"
)

// gate admits the tokens "all" and "other" (see everything), and "idx" (sees what its profile does); "reader" lacks the
// scope.
type gate struct{ idx entityevent.Mask }

func (g gate) Admit(r *http.Request, scope string) (producer.Client, error) {
	client := producer.Client{Name: bearer.FromHeader(r.Header), Mask: entityevent.Everyone}
	switch client.Name {
	case "all", "other":
	case "idx":
		client.Mask = g.idx
	case "reader":
		return client, producer.ErrForbidden
	default:
		return client, bearer.ErrUnauthorized
	}
	if scope != bearer.ScopeSubscribe {
		return client, producer.ErrForbidden
	}
	return client, nil
}

func openStore(t testing.TB) *sqlite.Store {
	t.Helper()
	store, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "resosync.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

var keys atomic.Int64

// put writes n new records of a resource and returns the sequences of their events.
func put(t testing.TB, store entityevent.Log, resource string, n int) []entityevent.Sequence {
	t.Helper()
	c := entityevent.Commit{Feed: entityevent.Local}
	for range n {
		key := fmt.Sprint("k", keys.Add(1))
		c.Changes = append(c.Changes, entityevent.Change{Ref: entityevent.Ref{Resource: resource, Key: key}, Body: []byte(`{"Key":"` + key + `"}`)})
	}
	outcomes, err := store.Apply(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	sequences := make([]entityevent.Sequence, n)
	for i, o := range outcomes {
		if sequences[i] = o.Sequence; o.Err != nil {
			t.Fatal(o.Err)
		}
	}
	return sequences
}

// service are Sessions over a store, behind a real listener.
type service struct {
	t        testing.TB
	store    entityevent.Store
	sessions *session.Sessions
	http     *httptest.Server
}

func serve(t testing.TB, store entityevent.Store, g gate) *service {
	t.Helper()
	s := &service{t: t, store: store, sessions: &session.Sessions{Store: store, Gate: g}}
	s.http = httptest.NewServer(document().Handler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "request-1")
		s.sessions.ServeHTTP(w, r)
	})))
	t.Cleanup(s.http.Close)
	return s
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request; headers are "Name: value".
func (s *service) do(method, target, body string, headers ...string) answer {
	s.t.Helper()
	a, err := s.try(s.t.Context(), method, target, body, headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *service) try(ctx context.Context, method, target, body string, headers ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.http.URL+target, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		if name, value, ok := strings.Cut(h, ": "); ok {
			r.Header.Set(name, value)
		}
	}
	response, err := s.http.Client().Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, strings.TrimSpace(string(text))}, err
}

// open makes a session of a client, and returns the path of its events.
func (s *service) open(client string) string {
	s.t.Helper()
	return eventsOf(s.t, s.do("POST", "/api/sessions", "", "Authorization: Bearer "+client).body)
}

func eventsOf(t testing.TB, body string) string {
	t.Helper()
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(body), &made); err != nil || made.Token == "" {
		t.Fatalf("%v: %s", err, body)
	}
	return "/api/sessions/" + made.Token + "/events"
}

// post posts an event and returns its number.
func (s *service) post(events, data string) int64 {
	s.t.Helper()
	a := s.do("POST", events, `{"type":"note","data":`+data+`}`)
	var e event
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.status != 200 {
		s.t.Fatalf("%d, %v: %s", a.status, err, a.body)
	}
	return e.Number
}

type event struct {
	Type   string
	Data   json.RawMessage
	Number int64
}

// get returns the events after a number.
func (s *service) get(events string, last int64) []event {
	s.t.Helper()
	return parse(s.t, s.do("GET", fmt.Sprint(events, "?last_event=", last), "").body)
}

func parse(t testing.TB, body string) (all []event) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return all
}

// texts are events in short: type, number, and the sequence of those of the log, the data of others.
func texts(all []event) string {
	var b strings.Builder
	for _, e := range all {
		var of struct{ EntityEventSequence entityevent.Sequence }
		if data := string(e.Data); e.Type != "entity_event" {
			fmt.Fprintf(&b, "%d:%s=%s ", e.Number, e.Type, data)
		} else if json.Unmarshal(e.Data, &of) == nil {
			fmt.Fprintf(&b, "%d:log=%d ", e.Number, of.EntityEventSequence)
		}
	}
	return strings.TrimSpace(b.String())
}

// parking tells when a request waits.
type parking struct {
	entityevent.Store
	arrive chan entityevent.EventQuery
}

func park(store entityevent.Store) *parking {
	return &parking{store, make(chan entityevent.EventQuery, 10_000)}
}

func (p *parking) Wait(ctx context.Context, v entityevent.View, q entityevent.EventQuery) error {
	p.arrive <- q
	return p.Store.Wait(ctx, v, q)
}

// listen asks for the events of a session, and returns when the request waits.
func (s *service) listen(p *parking, target string) chan answer {
	s.t.Helper()
	answered := make(chan answer, 1)
	go func() {
		a, err := s.try(s.t.Context(), "GET", target, "")
		if err != nil {
			a.body = err.Error()
		}
		answered <- a
	}()
	receive(s.t, p.arrive)
	return answered
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

// stays fails if a request was answered.
func stays(t testing.TB, answered chan answer) {
	t.Helper()
	select {
	case a := <-answered:
		t.Fatalf("answered: %d %s", a.status, a.body)
	default:
	}
}
