package consumer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// How long an exchange may go without one byte; what is silent for longer is a half-open connection. A
// producer that was asked to hold a request may be silent for as long as it holds it.
const (
	silence     = 30 * time.Second
	heldSilence = longPoll + 15*time.Second
)

// maxAnswer bounds an answer, decompressed.
const maxAnswer = 48 << 20

var (
	errOrigin = errors.New("the producer leads to another origin than the feed's url; it is not followed, and the token is not sent there")
	errSilent = errors.New("the producer fell silent")
	errLarge  = fmt.Errorf("the answer is larger than %d MB", maxAnswer>>20)
)

// exchange carries out one attempt of a request, whole: it keeps the producer's pace, sends the token to
// the feed's origin and nothing to any other, and reads the answer to its end, so that a cut answer is
// an error like any other of the network, before anybody saw half of it.
type exchange struct {
	next     http.RoundTripper
	origin   string
	identity *identity
	pace     *pace
	errand   errand
}

// RoundTrip implements http.RoundTripper. The body of its answer is in memory, whole.
func (x *exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := x.open(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body := buffers.Get().(*bytes.Buffer)
	body.Reset()
	if resp.ContentLength > 0 && resp.ContentLength <= maxAnswer {
		body.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	_, err = body.ReadFrom(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && body.Len() > maxAnswer {
		err = errLarge
	}
	if err != nil {
		release(body)
		return nil, err
	}
	resp.Body = &whole{Reader: bytes.NewReader(body.Bytes()), buffer: body}
	return resp, nil
}

// open is RoundTrip up to the body, which is still to be read, and to be closed. While nobody reads it, silence
// counts against it.
func (x *exchange) open(req *http.Request) (*http.Response, error) {
	if origin(req.URL) != x.origin {
		return nil, errOrigin
	}
	token, err := x.identity.get(req.Context(), x.errand)
	if err != nil {
		return nil, err
	}
	resp, err := x.once(req, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !x.identity.refused(req.Context(), token) {
		return resp, err
	}
	resp.Body.Close() // it ended before its time: one new token, once
	if token, err = x.identity.get(req.Context(), x.errand); err != nil {
		return nil, err
	}
	if req.GetBody != nil {
		req = req.Clone(req.Context())
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	return x.once(req, token)
}

// once sends a request with a token, "" for none.
func (x *exchange) once(req *http.Request, token string) (*http.Response, error) {
	if isOfTask(req.Context()) {
		if err := x.pace.waitForTasks(req.Context()); err != nil {
			return nil, err
		}
	}
	if err := x.pace.wait(req.Context(), x.errand); err != nil {
		return nil, err
	}
	if sent, ok := req.Context().Value(came{}).(*atomic.Bool); ok {
		sent.Store(true)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	req = req.Clone(ctx)
	limit := silence
	if strings.Contains(req.Header.Get("Prefer"), "wait=") {
		limit = heldSilence
	}
	quiet := time.AfterFunc(limit, func() {
		x.pace.stats.silent.Add(1)
		// Connections die together: the next attempt takes a new one, and none of the others that lie idle.
		if t, pooled := x.next.(interface{ CloseIdleConnections() }); pooled {
			t.CloseIdleConnections()
		}
		cancel(errSilent)
	})
	end := func() {
		quiet.Stop()
		cancel(nil)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := x.next.RoundTrip(req)
	if err != nil {
		err = causeOf(ctx, err)
		end()
		return nil, err
	}
	if x.pace.saw(resp, concernOf(req)) {
		x.pace.note(ctx)
	}
	resp.Body = &heard{ReadCloser: resp.Body, ctx: ctx, quiet: quiet, end: end}
	return resp, nil
}

// causeOf prefers the reason for which we gave up to what the connection made of it.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// heard is a body that puts off the end of its exchange whenever something arrives.
type heard struct {
	io.ReadCloser
	ctx   context.Context // the exchange's, for the reason why it ended
	quiet *time.Timer
	end   func()
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	if n > 0 {
		h.quiet.Reset(silence)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = causeOf(h.ctx, err)
	}
	return n, err
}

func (h *heard) Close() error {
	defer h.end()
	return h.ReadCloser.Close()
}

// whole is a body that was read already.
type whole struct {
	*bytes.Reader
	buffer *bytes.Buffer
	once   sync.Once
}

// Close gives the buffer back: nothing may use its bytes afterwards.
func (w *whole) Close() error {
	w.once.Do(func() { release(w.buffer) })
	return nil
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// release keeps a buffer for the next answer, unless it is so large that it would only lie about.
func release(b *bytes.Buffer) {
	if b.Cap() <= 8<<20 {
		buffers.Put(b)
	}
}

// origin is scheme, host and port (RFC 6454), with the port written out.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}
