package producer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
)

// pushed is one push as a subscriber got it.
type pushed struct {
	at             time.Time
	header         http.Header
	body           string
	events         []entityevent.Event
	after, through entityevent.Sequence
	undocumented   []string // what the OpenAPI document does not say so
}

// reply answers one push.
type reply func(w http.ResponseWriter, r *http.Request, p pushed)

func status(code int, header ...string) reply {
	return func(w http.ResponseWriter, _ *http.Request, _ pushed) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// lost takes the push and drops the answer.
func lost(http.ResponseWriter, *http.Request, pushed) { panic(http.ErrAbortHandler) }

// silent never answers.
func silent(_ http.ResponseWriter, r *http.Request, _ pushed) { <-r.Context().Done() }

// subscriber answers pushes by its script, one reply each, then by always, which is 200 if nil. It is a
// handler, and a transport without sockets for tests in a bubble.
type subscriber struct {
	mu     sync.Mutex
	script []reply
	always reply
	got    chan pushed
}

func newSubscriber(script ...reply) *subscriber {
	return &subscriber{script: script, got: make(chan pushed, 100_000)}
}

func (s *subscriber) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p := pushed{at: time.Now(), header: r.Header.Clone(), body: string(body), undocumented: document().Webhook("events", r, body)}
	if p.events, err = entityevent.ParseEvents(body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.after, p.through = sequence(r, "EntityEvent-After"), sequence(r, "EntityEvent-Through")
	s.mu.Lock()
	answer := s.always
	if len(s.script) > 0 {
		answer, s.script = s.script[0], s.script[1:]
	}
	s.mu.Unlock()
	s.got <- p
	if answer != nil {
		answer(w, r, p)
	}
}

func sequence(r *http.Request, name string) entityevent.Sequence {
	n, err := strconv.ParseInt(r.Header.Get(name), 10, 64)
	if err != nil {
		return -1
	}
	return entityevent.Sequence(n)
}

func (s *subscriber) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	done := make(chan any)
	go func() {
		defer func() { done <- recover() }()
		s.ServeHTTP(rec, r)
	}()
	select {
	case aborted := <-done:
		if aborted != nil {
			return nil, io.ErrUnexpectedEOF
		}
		return rec.Result(), nil
	case <-r.Context().Done():
		<-done
		return nil, r.Context().Err()
	}
}

// next returns the next push.
func (s *subscriber) next(t *testing.T) pushed {
	t.Helper()
	select {
	case p := <-s.got:
		for _, problem := range p.undocumented {
			t.Errorf("a push is not as the OpenAPI document says: %s", problem)
		}
		return p
	case <-time.After(100 * time.Hour): // of a bubble; in real time the test's limit comes first
		t.Fatal("no push came")
		return pushed{}
	}
}

// none fails if a push came meanwhile.
func (s *subscriber) none(t *testing.T) {
	t.Helper()
	select {
	case p := <-s.got:
		t.Fatalf("a push came: %s", p.body)
	default:
	}
}

func openStore(t testing.TB, dir string) *sqlite.Store {
	t.Helper()
	store, err := sqlite.Open(context.Background(), filepath.Join(dir, "resosync.db"), sqlite.Options{})
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

// put writes n new records and returns the sequences of their events.
func put(t testing.TB, store entityevent.Log, feed string, n int) []entityevent.Sequence {
	t.Helper()
	c := entityevent.Commit{Feed: feed}
	for range n {
		key := strconv.Itoa(int(keys.next()))
		c.Changes = append(c.Changes, entityevent.Change{
			Ref:  entityevent.Ref{Resource: "Property", Key: key},
			Body: []byte(`{"ListingKey":"` + key + `"}`),
		})
	}
	outcomes, err := store.Apply(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	sequences := make([]entityevent.Sequence, n)
	for i, o := range outcomes {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		sequences[i] = o.Sequence
	}
	return sequences
}

// keys are never used twice, so that a later event cannot stand for a lost one.
var keys counter

type counter struct {
	mu sync.Mutex
	n  int64
}

func (c *counter) next() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

func (c *counter) count() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// start runs p until the returned function is called, which waits for its end.
func start(t testing.TB, p *producer.Pusher) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// subscribe stores the state of a subscription that stands at 0.
func subscribe(t testing.TB, store producer.Store, name string) {
	t.Helper()
	doc := entityevent.Doc{Kind: producer.SubscriptionKind, ID: name, Body: fmt.Appendf(nil, `{"name":%q,"status":"active"}`, name)}
	if _, err := store.Apply(context.Background(), entityevent.Commit{Docs: []entityevent.Doc{doc}}); err != nil {
		t.Fatal(err)
	}
}

func stateOf(t testing.TB, store entityevent.Docs, name string) producer.SubscriptionState {
	t.Helper()
	states, err := producer.Subscriptions(context.Background(), store)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if s.Name == name {
			return s
		}
	}
	t.Fatal(errors.New("no state of " + name))
	return producer.SubscriptionState{}
}

// wantChain fails unless the events of the pushes are exactly these, in order, and each After is the
// Through of the push before.
func wantChain(t testing.TB, from entityevent.Sequence, pushes []pushed, want []entityevent.Sequence) {
	t.Helper()
	var got []entityevent.Sequence
	for _, p := range pushes {
		if p.after != from {
			t.Errorf("a push goes on after %d, the one before ended at %d", p.after, from)
		}
		for _, e := range p.events {
			if e.Sequence <= p.after || e.Sequence > p.through {
				t.Errorf("event %d is not in (%d, %d]", e.Sequence, p.after, p.through)
			}
			got = append(got, e.Sequence)
		}
		from = p.through
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}
