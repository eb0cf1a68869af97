package consumer_test

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
)

// hooks is a producer that takes subscriptions by API, as ours does: what it keeps of them, and what happens to the
// requests about them.
type hooks struct {
	src *source

	mu       sync.Mutex
	subs     []*hook
	keys     map[string]int    // Idempotency-Key → subscription, from 1
	payloads map[string]string // … and what was asked with it
	asked    []string          // method and path of the requests about subscriptions
	bodies   []string
	headers  []http.Header
	fates    []fate // of the next requests about subscriptions; none: as it should be
	of       string // the method of these; "": any
	without  bool   // it has no subscriptions
	unknown  int    // the status for those that it does not know. 0: 404.
}

// hook is one subscription.
type hook struct {
	uuid, status, message string
	cursor                int64
	callback, token       string
	label                 string
	batch                 any
	lastError             string
	unread                bool // its callback cannot be read any more
	from                  any  // fromSequence of the last request that has one
}

// fate is what becomes of a request.
type fate func(r *http.Request, serve func() *http.Response) (*http.Response, error)

func newHooks(log string) *hooks {
	return &hooks{src: newSource(log), keys: map[string]int{}, payloads: map[string]string{}}
}

// RoundTrip implements http.RoundTripper.
func (h *hooks) RoundTrip(r *http.Request) (*http.Response, error) {
	serve := func() *http.Response {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		resp := w.Result()
		resp.Request = r
		return resp
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	var next fate
	if strings.HasPrefix(r.URL.Path, "/subscriptions") {
		h.mu.Lock()
		h.asked = append(h.asked, r.Method+" "+r.URL.Path)
		h.headers = append(h.headers, r.Header)
		if len(h.fates) > 0 && cmp.Or(h.of, r.Method) == r.Method {
			next, h.fates = h.fates[0], h.fates[1:]
		}
		h.mu.Unlock()
	}
	if next == nil {
		return serve(), r.Context().Err()
	}
	return next(r, serve)
}

func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/odata") {
		h.src.ServeHTTP(w, r)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.URL.Path == "/" {
		links := `{"_links":{"self":{"href":"/"},"odata":{"href":"/odata"},"subscriptions":{"href":"/subscriptions/"}}}`
		if h.without {
			links = `{"_links":{"self":{"href":"/"},"odata":{"href":"/odata"}}}`
		}
		reply(w, 200, "application/hal+json", links)
		return
	}
	var raw []byte
	if r.Body != nil {
		raw, _ = io.ReadAll(r.Body)
	}
	h.bodies = append(h.bodies, string(raw))
	var body struct {
		CallbackURL, CallbackToken, ConsumerLabel string
		BatchSize, FromSequence                   any
	}
	_ = json.Unmarshal(raw, &body)
	if r.Method == http.MethodPost && r.URL.Path == "/subscriptions" {
		key := r.Header.Get("Idempotency-Key")
		if n := h.keys[key]; n > 0 && key != "" {
			if h.payloads[key] != string(raw) {
				problem(w, 422, "This Idempotency-Key was used for another request")
				return
			}
			h.subs[n-1].answer(w, 200)
			return
		}
		s := &hook{uuid: fmt.Sprintf("00000000-0000-7000-8000-%012d", len(h.subs)+1), status: "active", cursor: h.src.head,
			callback: body.CallbackURL, token: body.CallbackToken, label: body.ConsumerLabel, batch: body.BatchSize}
		if !s.start(w, h.src.head, body.FromSequence) {
			return
		}
		h.subs = append(h.subs, s)
		h.keys[key], h.payloads[key] = len(h.subs), string(raw)
		w.Header().Set("Location", "http://mls.test/subscriptions/"+s.uuid)
		s.answer(w, 201)
		return
	}
	for _, s := range h.subs {
		path, resume := strings.CutSuffix(r.URL.Path, "/resume")
		if path != "/subscriptions/"+s.uuid {
			continue
		}
		switch {
		case resume && s.status == "cancelled", r.Method == http.MethodPatch && s.status == "cancelled":
			problem(w, 403, "It is cancelled")
		case resume && s.unread:
			problem(w, 403, "The callback of this subscription cannot be read with this agent's key any more")
		case resume:
			if s.start(w, h.src.head, body.FromSequence) {
				s.status, s.message, s.lastError = "active", "", ""
				s.answer(w, 202)
			}
		case r.Method == http.MethodGet:
			s.answer(w, 200)
		case r.Method == http.MethodPatch:
			if s.unread || s.callback != body.CallbackURL || s.token != body.CallbackToken {
				s.status, s.message, s.lastError, s.unread = "active", "", "", false
			}
			s.callback, s.token, s.batch = body.CallbackURL, body.CallbackToken, body.BatchSize
			s.answer(w, 200)
		case r.Method == http.MethodDelete:
			s.status = "cancelled"
			w.WriteHeader(http.StatusNoContent)
		}
		return
	}
	problem(w, cmp.Or(h.unknown, 404), "There is no such subscription of yours")
}

func (s *hook) start(w http.ResponseWriter, head int64, from any) bool {
	n, given := from.(float64)
	if given && int64(n) > head {
		problem(w, 422, "fromSequence is above the newest event")
		return false
	}
	if s.from = from; given {
		s.cursor = int64(n)
	}
	return true
}

func (s *hook) answer(w http.ResponseWriter, status int) {
	body, _ := json.Marshal(map[string]any{"UUID": s.uuid, "status": s.status, "mode": "continuous", "cursor": s.cursor, "message": s.message, "lastError": s.lastError,
		"_links": map[string]any{"self": map[string]any{"href": "/subscriptions/" + s.uuid}}})
	reply(w, status, "application/hal+json", string(body))
}

func reply(w http.ResponseWriter, status int, kind, body string) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func problem(w http.ResponseWriter, status int, detail string) {
	body, _ := json.Marshal(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail})
	reply(w, status, "application/problem+json", string(body))
}

// What may become of a request.

func says(status int, detail string, header ...string) fate {
	return func(r *http.Request, _ func() *http.Response) (*http.Response, error) {
		w := httptest.NewRecorder()
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		problem(w, status, detail)
		resp := w.Result()
		resp.Request = r
		return resp, nil
	}
}

// names answers with another UUID than that of what was made.
func names(uuid string) fate {
	return func(r *http.Request, serve func() *http.Response) (*http.Response, error) {
		serve()
		w := httptest.NewRecorder()
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"UUID":%q}`, uuid)
		resp := w.Result()
		resp.Request = r
		return resp, nil
	}
}

// page answers as something on the way does.
func page(status int) fate {
	return func(r *http.Request, _ func() *http.Response) (*http.Response, error) {
		w := httptest.NewRecorder()
		reply(w, status, "text/html", "<html><body>"+http.StatusText(status)+"</body></html>")
		resp := w.Result()
		resp.Request = r
		return resp, nil
	}
}

var errHungUp = errors.New("connection reset by peer")

// unheard lets it be carried out, and loses the answer.
func unheard(_ *http.Request, serve func() *http.Response) (*http.Response, error) {
	serve()
	return nil, errHungUp
}

// unsent loses the request.
func unsent(*http.Request, func() *http.Response) (*http.Response, error) { return nil, errHungUp }

// halfHeard cuts the answer.
func halfHeard(_ *http.Request, serve func() *http.Response) (*http.Response, error) {
	resp := serve()
	resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(resp.Body, 20), breaksOff{}))
	return resp, nil
}

type breaksOff struct{}

func (breaksOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func (h *hooks) fate(f ...fate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fates = append(h.fates, f...)
}

// requests returns those about subscriptions so far, and forgets them.
func (h *hooks) requests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	asked := h.asked
	h.asked = nil
	return asked
}

// open returns the subscriptions that are not cancelled.
func (h *hooks) open() (open []*hook) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subs {
		if s.status != "cancelled" {
			copied := *s
			open = append(open, &copied)
		}
	}
	return open
}

// change changes the newest subscription.
func (h *hooks) change(change func(*hook)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h.subs[len(h.subs)-1])
}

// registering returns a loaded feed that wants to be registered. With the store of another it goes on where that was.
func registering(t *testing.T, h *hooks) *consumer.Feed {
	t.Helper()
	f := newFeed(t, h, "Property")
	f.Label = "IDX Feed 123"
	f.Register = &consumer.Registration{Callback: "https://copy.test/webhooks/mls", Authority: authority(f)}
	catchUp(t, f)
	return f
}

func authority(f *consumer.Feed) *bearer.Authority {
	return &bearer.Authority{Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), Store: f.Store.(entityevent.Store)}
}

// again is the feed after a restart of its agent.
func again(f *consumer.Feed) *consumer.Feed {
	r := *f.Register
	return &consumer.Feed{Name: f.Name, URL: f.URL, Token: f.Token, Resources: f.Resources, Label: f.Label, Store: f.Store, HTTP: f.HTTP, Logger: f.Logger, Register: &r}
}

// keep runs KeepRegistered until stop is called, which waits for it.
func keep(t *testing.T, f *consumer.Feed) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.KeepRegistered(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// keepFor runs it for so long.
func keepFor(t *testing.T, f *consumer.Feed, d time.Duration) {
	t.Helper()
	stop := keep(t, f)
	pass(d)
	stop()
}

// only returns the one open subscription, after it has checked that its token, and no other, is good here.
func only(t *testing.T, h *hooks, f *consumer.Feed) *hook {
	t.Helper()
	open := h.open()
	if len(open) != 1 {
		t.Fatalf("%d subscriptions are open, want 1: %+v", len(open), open)
	}
	token, err := f.Register.Authority.Verify(t.Context(), open[0].token, bearer.Push("mls"))
	if err != nil {
		t.Fatalf("the token that the producer has: %v", err)
	}
	for _, other := range goodTokens(t, f) {
		if other.ID != token.ID {
			t.Errorf("token %s is good too, of %v", other.ID, other.Created)
		}
	}
	return open[0]
}

func goodTokens(t *testing.T, f *consumer.Feed) (good []bearer.Token) {
	t.Helper()
	all, err := f.Register.Authority.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range all {
		if token.Revoked.IsZero() && time.Now().Before(token.Expires) {
			good = append(good, token)
		}
	}
	return good
}

func logTo(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
