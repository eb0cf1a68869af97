package subscription_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/seal"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/subscription"
)

// The clients of these tests. Their tokens are their names; that of the agent's own people is admin.
const (
	whole = "vendor-b" // sees everything
	other = "vendor-c" // does, too
	idx   = "portal"   // sees Property and Media
	owner = "admin"
)

// tokens admits by name. It implements producer.Gate.
type tokens map[string]producer.Client

func (g tokens) Admit(r *http.Request, scope string) (producer.Client, error) {
	name := bearer.FromHeader(r.Header)
	switch client, known := g[name]; {
	case name == owner:
		return producer.Client{Name: owner, Mask: entityevent.Everyone}, nil
	case name == "broken":
		return client, fmt.Errorf("internal text: %w", entityevent.ErrUnavailable)
	case name == "shaken": // the tokens' store fails in between
		return client, map[bool]error{true: entityevent.ErrUnavailable}[scope == bearer.ScopeAdmin]
	case name == "reader":
		return client, fmt.Errorf("%w: it needs the scope %s", producer.ErrForbidden, scope)
	case !known:
		return client, bearer.ErrUnauthorized
	case scope == bearer.ScopeAdmin:
		return client, producer.ErrForbidden
	default:
		return client, nil
	}
}

// pushers notes what it is told.
type pushers struct {
	mu      sync.Mutex
	started []producer.Subscription
	woken   []string
}

func (p *pushers) Start(s producer.Subscription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.started = append(p.started, s)
}

func (p *pushers) Wake(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.woken = append(p.woken, name)
}

// last returns the newest start, and how many there were.
func (p *pushers) last() (s producer.Subscription, starts, wakes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.started); n > 0 {
		s = p.started[n-1]
	}
	return s, len(p.started), len(p.woken)
}

// rig is an API with what it needs.
type rig struct {
	testing.TB
	api     *subscription.API
	store   *sqlite.Store
	pushers *pushers
	clients tokens
	log     bytes.Buffer
	said    strings.Builder // all that was answered
	keep    sync.Mutex      // of said
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return openRig(t, t.TempDir())
}

func openRig(t testing.TB, dir string) *rig {
	t.Helper()
	store, err := sqlite.Open(context.Background(), filepath.Join(dir, "resosync.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	masks, err := store.SetProfiles(t.Context(), []entityevent.Profile{{Name: "idx", Resources: map[string]entityevent.Access{"Property": {}, "Media": {}}}})
	if err != nil {
		t.Fatal(err)
	}
	schema, err := producer.OpenSchema(t.Context(), store, entityevent.Local, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	x := &rig{TB: t, store: store, pushers: &pushers{}, clients: tokens{
		whole: {Name: whole, Mask: entityevent.Everyone},
		other: {Name: other, Mask: entityevent.Everyone},
		idx:   {Name: idx, Profile: "idx", Mask: masks["idx"], Resources: []string{"Property", "Media"}},
	}}
	x.api = &subscription.API{
		Store: store, Gate: x.clients, Schema: schema, Pushers: x.pushers, Root: "https://sync.acme.example",
		Clients:   func(name string) (producer.Client, bool) { c, known := x.clients[name]; return c, known },
		Callbacks: producer.CallbackDialer{AllowCallbacks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		Seal:      seal.New(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))),
		Logger:    slog.New(slog.NewTextHandler(&x.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	return x
}

// answered is an answer.
type answered struct {
	status int
	header http.Header
	body   string
}

// ask sends a request as a client, with headers of the form "Name: value", and checks the exchange against the document.
func (x *rig) ask(client, method, target, body string, headers ...string) answered {
	x.Helper()
	r := httptest.NewRequestWithContext(x.Context(), method, target, strings.NewReader(body))
	if body == "" {
		r.Body = http.NoBody
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	if client != "" {
		r.Header.Set("Authorization", "Bearer "+client)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	described().Handler(x.TB, x.api).ServeHTTP(w, r)
	x.keep.Lock()
	defer x.keep.Unlock()
	fmt.Fprintln(&x.said, w.Code, w.Header(), w.Body)
	return answered{w.Code, w.Header(), w.Body.String()}
}

// callback is a URL that pushes may go to.
const callback = "https://192.0.2.7/hook?key=hidden-query"

// register makes a subscription and returns its UUID.
func (x *rig) register(client, more string) string {
	x.Helper()
	a := x.ask(client, "POST", "/subscriptions", `{"callbackUrl": "`+callback+`", "callbackToken": "hidden-token"`+more+`}`)
	a.want(x, 201)
	return a.member("UUID")
}

func (a answered) want(t testing.TB, status int) string {
	t.Helper()
	if a.status != status {
		t.Fatalf("%d %s, want %d", a.status, a.body, status)
	}
	return a.body
}

// member is the text of a member of the body, "" for none.
func (a answered) member(name string) string {
	var all map[string]any
	d := json.NewDecoder(strings.NewReader(a.body))
	d.UseNumber()
	if d.Decode(&all) != nil || all[name] == nil {
		return ""
	}
	return fmt.Sprint(all[name])
}

// wantRefused wants a problem document with this text in its detail.
func (a answered) wantRefused(t testing.TB, status int, detail string) {
	t.Helper()
	if got := a.member("detail"); a.status != status || !strings.Contains(got, detail) || a.header.Get("Content-Type") != "application/problem+json" || a.member("status") != fmt.Sprint(status) {
		t.Errorf("%d %s %s, want %d that says %q", a.status, a.header.Get("Content-Type"), a.body, status, detail)
	}
}

// put writes records of a resource, and returns the head.
func (x *rig) put(resource string, keys ...string) entityevent.Sequence {
	x.Helper()
	c := entityevent.Commit{Feed: entityevent.Local}
	for _, key := range keys {
		c.Changes = append(c.Changes, entityevent.Change{Ref: entityevent.Ref{Resource: resource, Key: key}, Body: []byte(fmt.Sprintf(`{"%sKey":%q,"X":%d}`, resource, key, next()))})
	}
	outcomes, err := x.store.Apply(x.Context(), c)
	if err != nil {
		x.Fatal(err)
	}
	return outcomes[len(outcomes)-1].Sequence
}

var next = func() func() int {
	var mu sync.Mutex
	n := 0
	return func() int { mu.Lock(); defer mu.Unlock(); n++; return n }
}()

// state is where a subscription stands in the store.
func (x *rig) state(name string) (s producer.SubscriptionState) {
	x.Helper()
	doc, err := x.store.Get(x.Context(), producer.SubscriptionKind, name)
	if err != nil || doc.Version == 0 || json.Unmarshal(doc.Body, &s) != nil {
		x.Fatalf("%s: %v", doc.Body, err)
	}
	return s
}

// move changes where a subscription stands, as its pusher does.
func (x *rig) move(name string, to func(*producer.SubscriptionState)) {
	x.Helper()
	_, err := producer.ChangeState(x.Context(), x.store, name, func(s *producer.SubscriptionState) ([]entityevent.Doc, error) {
		to(s)
		return nil, nil
	})
	if err != nil {
		x.Fatal(err)
	}
}

// count returns how many documents of a kind there are.
func (x *rig) count(kind string) int {
	x.Helper()
	docs, err := x.store.List(x.Context(), kind)
	if err != nil {
		x.Fatal(err)
	}
	return len(docs)
}

// write makes a document, or replaces it.
func (x *rig) write(kind, id string, body any) {
	x.Helper()
	doc, err := x.store.Get(x.Context(), kind, id)
	if err == nil {
		doc.Kind, doc.ID = kind, id
		if doc.Body, err = json.Marshal(body); err == nil {
			_, err = x.store.Apply(x.Context(), entityevent.Commit{Docs: []entityevent.Doc{doc}})
		}
	}
	if err != nil {
		x.Fatal(err)
	}
}

// contended is a store in which somebody else is faster, once.
type contended struct {
	producer.Store
	faster func()
}

func (c *contended) Apply(ctx context.Context, commit entityevent.Commit) ([]entityevent.Outcome, error) {
	if faster := c.faster; faster != nil {
		c.faster = nil
		faster()
	}
	return c.Store.Apply(ctx, commit)
}
