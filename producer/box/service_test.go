package box_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/box"
)

const root = "https://sync.example/agent"

// gate admits the tokens "all" (sees everything), "idx" (sees what its profile does); "reader" lacks the scope.
type gate struct{ idx entityevent.Mask }

func (g gate) Admit(r *http.Request, scope string) (producer.Client, error) {
	client := producer.Client{Name: bearer.FromHeader(r.Header), Mask: entityevent.Everyone}
	switch client.Name {
	case "all", "other":
	case "idx":
		client.Mask = g.idx
	case "reader":
		return client, producer.ErrForbidden
	case "down":
		return client, fmt.Errorf("tokens: %w", entityevent.ErrUnavailable)
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

// service is an Events over a store, behind a real listener.
type service struct {
	t      testing.TB
	store  entityevent.Store
	events *box.Events
	http   *httptest.Server
}

func newEvents(store producer.Store, g gate) *box.Events {
	return &box.Events{Store: store, Gate: g, Root: root, Name: "acme-mls"}
}

// named gives a request its name, as the agent's front does.
func named(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "request-1")
		h.ServeHTTP(w, r)
	})
}

func serve(t testing.TB, store entityevent.Store, g gate) *service {
	t.Helper()
	s := &service{t: t, store: store, events: newEvents(store, g)}
	s.http = httptest.NewServer(document().Handler(t, named(s.events)))
	t.Cleanup(s.http.Close)
	return s
}

type answer struct {
	status int
	header http.Header
	body   string
	close  bool // the connection was closed
}

// do sends a request; headers are "Name: value".
func (s *service) do(method, target string, headers ...string) answer {
	s.t.Helper()
	a, err := s.try(s.t.Context(), method, target, headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *service) try(ctx context.Context, method, target string, headers ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.http.URL+target, http.NoBody)
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Authorization", "Bearer all")
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
	return answer{response.StatusCode, response.Header, strings.TrimSpace(string(text)), response.Close}, err
}

// channel returns the path and query of a realtime url.
func (s *service) channel(headers ...string) string {
	s.t.Helper()
	return channelOf(s.t, s.do("OPTIONS", "/2.0/events", headers...).body)
}

func channelOf(t testing.TB, body string) string {
	t.Helper()
	var servers struct {
		Entries []struct{ URL string }
	}
	if err := json.Unmarshal([]byte(body), &servers); err != nil || len(servers.Entries) != 1 {
		t.Fatalf("%v: %s", err, body)
	}
	at, err := url.Parse(servers.Entries[0].URL)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(servers.Entries[0].URL, root+"/2.0/realtime?") {
		t.Fatalf("url %s", at)
	}
	return strings.TrimPrefix(servers.Entries[0].URL, root)
}

// list reads events.
func (s *service) list(query string, headers ...string) (l list) {
	s.t.Helper()
	a := s.do("GET", "/2.0/events"+query, headers...)
	if err := json.Unmarshal([]byte(a.body), &l); err != nil || a.status != 200 {
		s.t.Fatalf("%s: %d, %v: %s", query, a.status, err, a.body)
	}
	if l.ChunkSize != len(l.Entries) {
		s.t.Errorf("%s: chunk_size %d of %d entries", query, l.ChunkSize, len(l.Entries))
	}
	return l
}

type list struct {
	ChunkSize int                  `json:"chunk_size"`
	Next      entityevent.Sequence `json:"next_stream_position"`
	Entries   []struct {
		ID     string `json:"event_id"`
		Source struct {
			Sequence entityevent.Sequence `json:"EntityEventSequence"`
			Resource string               `json:"ResourceName"`
		}
	}
}

// sequences are those of its entries.
func (l list) sequences() []entityevent.Sequence {
	all := []entityevent.Sequence{}
	for _, e := range l.Entries {
		all = append(all, e.Source.Sequence)
	}
	return all
}
