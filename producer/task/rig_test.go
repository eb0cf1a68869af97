package task_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/seal"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/task"
)

// root is the public URL of the agent under test.
const root = "https://mls.example"

// gate admits the clients by their names as tokens; those without the scope read are "writer".
type gate struct {
	mu      sync.Mutex
	clients map[string]producer.Client
}

func (g *gate) Admit(r *http.Request, scope string) (producer.Client, error) {
	client, ok := g.client(bearer.FromHeader(r.Header))
	switch {
	case client.Name == "broken":
		return client, errors.New("tokens: disk on fire")
	case !ok:
		return client, bearer.ErrUnauthorized
	case client.Name == "writer" && scope == bearer.ScopeRead:
		return client, producer.ErrForbidden
	}
	return client, nil
}

func (g *gate) client(name string) (producer.Client, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c, ok := g.clients[name]
	return c, ok
}

func (g *gate) set(c producer.Client) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clients[c.Name] = c
}

func (g *gate) revoke(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.clients, name)
}

// heldReads lets records be read one by one, if hold is called, and fails as often as it is told to.
type heldReads struct {
	*sqlite.Store
	mu      sync.Mutex
	turns   chan error // nil: nothing is held
	refuses int        // commits, and lists of documents
	refused int
}

// refuse makes the next commits and lists fail.
func (h *heldReads) refuse(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuses, h.refused = n, 0
}

func (h *heldReads) fails() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuses == 0 {
		return nil
	}
	h.refuses--
	h.refused++
	return entityevent.ErrUnavailable
}

func (h *heldReads) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	if err := h.fails(); err != nil {
		return nil, err
	}
	return h.Store.Apply(ctx, c)
}

func (h *heldReads) List(ctx context.Context, kind string) ([]entityevent.Doc, error) {
	if err := h.fails(); err != nil {
		return nil, err
	}
	return h.Store.List(ctx, kind)
}

// hold lets nobody read records until it is told.
func (h *heldReads) hold() chan<- error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.turns = make(chan error)
	return h.turns
}

// release holds nothing any more.
func (h *heldReads) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.turns = nil
}

func (h *heldReads) Read(ctx context.Context, v entityevent.View, q entityevent.Query) iter.Seq2[entityevent.Record, error] {
	h.mu.Lock()
	turns := h.turns
	h.mu.Unlock()
	if turns == nil || len(q.Keys) > 0 {
		return h.Store.Read(ctx, v, q)
	}
	return func(yield func(entityevent.Record, error) bool) {
		for r, err := range h.Store.Read(ctx, v, q) {
			select {
			case failed, ok := <-turns:
				if ok && failed != nil {
					yield(entityevent.Record{}, failed)
					return
				}
			case <-ctx.Done():
				yield(entityevent.Record{}, context.Cause(ctx))
				return
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// rig is an agent's tasks over a store.
type rig struct {
	testing.TB
	dir     string
	store   *heldReads
	gate    *gate
	tasks   *task.Tasks
	handler http.Handler
	log     *lines
	end     func() // ends Run, as SIGTERM does
}

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newRig opens a store with profiles: idx sees cheap listings with their media, without PrivateRemarks.
func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{TB: t, dir: t.TempDir(), log: &lines{}}
	r.gate = &gate{clients: map[string]producer.Client{}}
	for _, name := range []string{"alice", "bob", "writer", "broken"} {
		r.gate.set(producer.Client{Name: name, Mask: entityevent.Everyone})
	}
	r.open()
	masks, err := r.store.SetProfiles(t.Context(), []entityevent.Profile{{Name: "idx", Resources: map[string]entityevent.Access{
		"Property": {Filter: filter(t, "ListPrice lt 500"), Hide: []string{"PrivateRemarks"}},
		"Media":    {With: "Property"}, "Member": {Hide: []string{"MemberEmail"}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	r.gate.set(producer.Client{
		Name: "idx", Profile: "idx", Mask: masks["idx"], Resources: []string{"Property", "Media", "Member"},
		Hide: map[string][]string{"Property": {"PrivateRemarks"}, "Member": {"MemberEmail"}}, Inline: map[string]string{"Member": "", "Media": "Property"},
	})
	t.Cleanup(r.close)
	return r
}

func filter(t testing.TB, text string) odata.Expr {
	e, err := odata.ParseFilter(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// open starts the agent.
func (r *rig) open() {
	r.Helper()
	store, err := sqlite.Open(context.Background(), filepath.Join(r.dir, "resosync.db"), sqlite.Options{})
	if err != nil {
		r.Fatal(err)
	}
	r.store = &heldReads{Store: store}
	schema, err := producer.OpenSchema(context.Background(), r.store, entityevent.Local, nil, nil)
	if err != nil {
		r.Fatal(err)
	}
	server := &producer.Server{Store: r.store, Schema: schema, Gate: r.gate, Root: root + "/odata", Prefix: "/odata"}
	r.tasks = &task.Tasks{
		Store: r.store, Gate: r.gate, Server: server, Clients: r.gate.client, Folder: filepath.Join(r.dir, "results"), Root: root, Holds: &producer.Holds{},
		Callbacks: producer.CallbackDialer{AllowCallbacks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		Seal:      seal.New(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))), Logger: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	r.tasks.SetDisk(func() uint64 { return 1 << 40 }, func() uint64 { return 1 << 41 })
	r.handler = document().Handler(r.TB, r.tasks)
	r.end = func() {}
}

// run begins Run.
func (r *rig) run() *rig {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.tasks.Run(ctx) }()
	r.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.Errorf("Run: %v", err)
		}
	})
	return r
}

func (r *rig) close() {
	r.end()
	if err := r.store.Close(); err != nil {
		r.Error(err)
	}
}

// restart ends the agent and starts it again.
func (r *rig) restart() {
	r.close()
	r.open()
}

// put writes a record, or removes it: without a body.
func put(resource, key, body string) entityevent.Change {
	change := entityevent.Change{Ref: entityevent.Ref{Resource: resource, Key: key}, Body: json.RawMessage(body)}
	if body == "" {
		change.Op, change.Body = entityevent.Remove, nil
	}
	return change
}

// apply commits changes.
func (r *rig) apply(changes ...entityevent.Change) {
	r.Helper()
	if len(changes) == 0 {
		return
	}
	outcomes, err := r.store.Apply(context.Background(), entityevent.Commit{Feed: entityevent.Local, Changes: changes})
	for _, o := range outcomes {
		err = errors.Join(err, o.Err)
	}
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) put(resource, key, body string) {
	r.Helper()
	r.apply(put(resource, key, body))
}

// listings writes so many listings of about a size.
func (r *rig) listings(n, size int) {
	r.Helper()
	for from := 0; from < n; from += 1000 {
		c := entityevent.Commit{Feed: entityevent.Local}
		for i := from; i < min(n, from+1000); i++ {
			key := fmt.Sprintf("p%07d", i)
			body := fmt.Sprintf(`{"ListingKey":"%s","ListPrice":%d,"PublicRemarks":%q}`, key, i, strings.Repeat(key, max(1, size/len(key))))
			c.Changes = append(c.Changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: key}, Body: json.RawMessage(body)})
		}
		if _, err := r.store.Apply(context.Background(), c); err != nil {
			r.Fatal(err)
		}
	}
}

type answer struct {
	testing.TB
	status int
	header http.Header
	body   string
}

// do asks as alice, or with another Authorization. Headers are "Name: value".
func (r *rig) do(method, target, body string, headers ...string) answer {
	r.Helper()
	q := httptest.NewRequest(method, target, strings.NewReader(body))
	q.Header.Set("Authorization", "Bearer alice")
	if body != "" {
		q.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		q.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, q)
	return answer{r.TB, w.Code, w.Result().Header, w.Body.String()}
}

func (r *rig) get(target string, headers ...string) answer {
	r.Helper()
	return r.do(http.MethodGet, target, "", headers...)
}

// want checks the status and returns the members of the body.
func (a answer) want(status int) map[string]any {
	a.Helper()
	if a.status != status {
		a.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	members := map[string]any{}
	if a.body != "" && json.Unmarshal([]byte(a.body), &members) != nil {
		return nil
	}
	return members
}

// has checks headers, "Name: value" each; without a value it must be absent.
func (a answer) has(headers ...string) answer {
	a.Helper()
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if got := a.header.Get(name); got != value {
			a.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	return a
}

// create begins a task and returns its path.
func (r *rig) create(body string, headers ...string) string {
	r.Helper()
	a := r.do(http.MethodPost, "/tasks", body, headers...)
	a.want(http.StatusAccepted)
	path, ok := strings.CutPrefix(a.header.Get("Location"), root)
	if !ok {
		r.Fatalf("Location %q", a.header.Get("Location"))
	}
	return path
}

// done waits until a task is done, and returns its members.
func (r *rig) done(path string, headers ...string) map[string]any {
	r.Helper()
	return r.get(path, slices.Concat(headers, []string{"Prefer: wait=120"})...).want(http.StatusOK)
}

var everyone = entityevent.View{Feed: entityevent.Local, Mask: entityevent.Everyone}

func query(resource, key string) entityevent.Query {
	return entityevent.Query{Resource: resource, Keys: []string{key}}
}

// snapshotOf is what is on the disk.
func snapshotOf(t testing.TB, r *rig) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(r.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(path, "-shm") {
			return err
		}
		all[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// restore puts the agent, which does not run, back to what was on the disk.
func (r *rig) restore(files map[string][]byte) {
	r.Helper()
	r.close()
	entries, err := os.ReadDir(r.dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(r.dir, e.Name())))
	}
	for path, text := range files {
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, text, 0o600))
	}
	if err != nil {
		r.Fatal(err)
	}
	r.open()
}
