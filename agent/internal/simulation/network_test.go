package simulation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent/retry"
)

// The links of the network.
const (
	pollLink    = "poll"    // the consumer asks the producer
	pushLink    = "push"    // the producer pushes to the consumer
	witnessLink = "witness" // and to one whose whole task is to watch
)

// network carries requests between nodes, or fails to.
type network struct {
	w        *world
	weather  []episode
	logless  bool // drops the headers that only our producers send
	hosts    map[string]func(context.Context, *http.Request) (*reply, error)
	mu       sync.Mutex
	patience map[string]time.Time // by link: the other side wants no request before
	cached   map[string]*reply    // old answers, by URL
	denied   map[string]time.Time // when it was last denied that a record exists
}

// reply is a whole answer.
type reply struct {
	status int
	header http.Header
	body   []byte
	cut    int // bytes after which the connection breaks; 0: none
}

// sentHeader says when a request left, for who watches.
const sentHeader = "Simulation-Sent"

// transport is a client's end of a link, of one life.
type transport struct {
	*network
	life *life
	link string
}

var (
	errRefused = errors.New("connection refused")
	errReset   = errors.New("connection reset by peer")
)

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		req.Body.Close()
	}
	what := " " + t.link + " " + req.Method + " " + req.URL.RequestURI() + " " + req.Header.Get("Prefer") + req.Header.Get("EntityEvent-After") + "-" + req.Header.Get("EntityEvent-Through")
	if name, ok := req.Context().Value(worker{}).(string); ok {
		what = " " + name + what
	}
	if t.life.gone() {
		return nil, errCrashed
	}
	t.checkPatience(what)
	t.w.sent(t.link, req, body)
	f := t.fault(t.link, req, what)
	t.w.note(t.life.name + what + f.String())
	if err := t.life.await(req.Context(), what, atNetwork); err != nil {
		return nil, err
	}
	got, err := t.carry(req, body, f, what)
	if err == nil {
		err = t.life.await(req.Context(), what+" back", atNetwork)
	}
	if err != nil {
		t.w.note(t.life.name + what + ": " + result(err))
		return nil, err
	}
	t.w.note(fmt.Sprintf("%s%s: %d, %d bytes", t.life.name, what, got.status, len(got.body)))
	t.heed(got)
	return got.response(req), nil
}

// carry sends a request through the weather and returns what comes back.
func (t *transport) carry(req *http.Request, body []byte, f fault, what string) (*reply, error) {
	ctx, sent := req.Context(), time.Now()
	if err := retry.Sleep(ctx, f.delay); err != nil && f.kind != late {
		return nil, err
	}
	switch f.kind {
	case refuse:
		return nil, errRefused
	case resetBefore:
		return nil, errReset
	case lose:
		return nil, t.nothing(ctx)
	case answer:
		return f.reply, nil
	case stale:
		if old := t.old(req); old != nil {
			return old, nil
		}
	case duplicate:
		t.w.behind.Go(func() {
			// Nobody waits for the second answer.
			if retry.Sleep(t.w.context(), between(t.w.dice("duplicate"+what), time.Millisecond, 2*time.Minute)) == nil {
				_, _ = t.deliver(t.w.context(), req, body, sent, what+" again")
			}
		})
	case late:
		t.w.behind.Go(func() {
			if retry.Sleep(t.w.context(), between(t.w.dice("late"+what), 10*time.Second, 3*time.Minute)) == nil {
				_, _ = t.deliver(t.w.context(), req, body, sent, what+" late")
			}
		})
		return nil, t.nothing(ctx)
	default: // what happens to the answer
	}
	got, err := t.deliver(ctx, req, body, sent, what)
	if err != nil {
		return nil, err
	}
	switch f.kind {
	case resetAfter:
		return nil, errReset
	case loseReply:
		return nil, t.nothing(ctx)
	case truncate:
		got.cut = 1 + len(got.body)/2
	case shorten:
		got.body = got.body[:len(got.body)/2]
	case deny:
		got = t.deny(req, got)
	default: // it arrived as it was sent
	}
	t.keep(req, got)
	return got, nil
}

// nothing is what comes of a request that is lost: in the end, a broken connection.
func (t *transport) nothing(ctx context.Context) error {
	if err := retry.Sleep(ctx, 10*time.Minute); err != nil {
		return err
	}
	return errReset
}

// deliver hands a request to its host and waits for the answer. When the client goes, the host hears of it.
func (t *transport) deliver(ctx context.Context, req *http.Request, body []byte, sent time.Time, what string) (*reply, error) {
	host := t.hosts[req.URL.Host]
	in := httptest.NewRequestWithContext(ctx, req.Method, req.URL.String(), bytes.NewReader(body))
	in.Header = req.Header.Clone()
	in.Header.Set(sentHeader, sent.UTC().Format(time.RFC3339Nano))
	if t.logless && t.link != witnessLink {
		for name := range in.Header {
			if strings.HasPrefix(name, "Entityevent-") {
				delete(in.Header, name)
			}
		}
	}
	if err := retry.Sleep(ctx, between(t.w.dice("way"+what), time.Millisecond, 40*time.Millisecond)); err != nil {
		return nil, err
	}
	got, err := host(ctx, in)
	if err != nil {
		return nil, err
	}
	if t.logless && t.link != witnessLink {
		for name := range got.header {
			if strings.HasPrefix(name, "Entityevent-") {
				delete(got.header, name)
			}
		}
	}
	return got, nil
}

// to is the host that a node is: what answers is its present life.
func (n *node) host(ctx context.Context, in *http.Request) (*reply, error) {
	l := n.alive()
	if l == nil || !l.enter() {
		return nil, errRefused
	}
	hctx, cancel := context.WithCancelCause(l.ctx)
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	type outcome struct {
		got *reply
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		defer l.leave()
		defer stop()
		defer cancel(nil)
		got, err := serve(l.handler, in.WithContext(hctx))
		if l.gone() {
			err = errReset
		}
		done <- outcome{got, err}
	}()
	select {
	case o := <-done:
		return o.got, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// serve calls a handler and returns its whole answer, or an error if it aborted it.
func serve(h http.Handler, in *http.Request) (got *reply, err error) {
	defer func() {
		if p := recover(); p != nil {
			if e, ok := p.(error); !ok || !errors.Is(e, http.ErrAbortHandler) {
				panic(p)
			}
			got, err = nil, errReset
		}
	}()
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, in)
	r := recorder.Result()
	header := http.Header{} // as it is read from a connection
	for name, values := range r.Header {
		header[http.CanonicalHeaderKey(name)] = values
	}
	return &reply{status: r.StatusCode, header: header, body: recorder.Body.Bytes()}, nil
}

// checkPatience holds a client to what it was asked: no request before the time of Retry-After.
func (t *transport) checkPatience(what string) {
	t.mu.Lock()
	until := t.patience[t.link]
	t.mu.Unlock()
	if now := time.Now(); now.Before(until) {
		t.w.violated("Retry-After is respected", "%s%s comes %v too early", t.life.name, what, until.Sub(now))
	}
}

// heed notes what a client is asked to wait, as it receives it.
func (t *transport) heed(got *reply) {
	if got.status != http.StatusTooManyRequests && got.status != http.StatusServiceUnavailable {
		return
	}
	if wait, ok := retry.After(got.header.Get("Retry-After"), time.Now()); ok && !t.life.gone() {
		t.asked(t.link, time.Now().Add(min(wait, 24*time.Hour)))
	}
}

func (n *network) asked(link string, until time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.patience[link] = until
}

// keep remembers answers that a cache may hold although it must not.
func (n *network) keep(req *http.Request, got *reply) {
	if !strings.Contains(req.URL.Path, "/EntityEvent") || got.status != http.StatusOK || got.cut > 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.cached) < 500 {
		if _, kept := n.cached[req.URL.String()]; !kept {
			n.cached[req.URL.String()] = got
		}
	}
}

func (n *network) old(req *http.Request) *reply {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cached[req.URL.String()]
}

func (r *reply) response(req *http.Request) *http.Response {
	var body io.Reader = bytes.NewReader(r.body)
	if r.cut > 0 {
		body = io.MultiReader(bytes.NewReader(r.body[:min(r.cut, len(r.body))]), broken{})
	}
	return &http.Response{
		StatusCode: r.status, Status: http.StatusText(r.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: r.header.Clone(), Body: io.NopCloser(body), ContentLength: -1, Request: req,
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
