package openapitest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// Handler is h, and fails t for each exchange that is not as the document says. An answer that h aborts
// is not looked at.
func (d *Document) Handler(t testing.TB, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := &kept{}
		original := r
		r = r.Clone(r.Context())
		if r.Body != nil {
			r.Body = struct {
				io.Reader
				io.Closer
			}{io.TeeReader(r.Body, sent), r.Body}
		}
		watched := &watcher{ResponseWriter: w}
		h.ServeHTTP(watched, r)
		watched.WriteHeader(http.StatusOK)
		d.report(t, original, sent, &http.Response{StatusCode: watched.status, Header: watched.sent, Request: original}, &watched.body)
	})
}

// Transport is next, and fails t for each exchange that is not as the document says, when its answer was
// read to the end.
func (d *Document) Transport(t testing.TB, next http.RoundTripper) http.RoundTripper {
	return transport{d, t, next}
}

type transport struct {
	*Document
	t    testing.TB
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (d transport) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := &kept{}
	out := r.Clone(r.Context())
	if r.Body != nil {
		out.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, sent), r.Body}
	}
	answer, err := d.next.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	head := *answer
	head.Header, head.Request = answer.Header.Clone(), r
	answer.Body = &reading{ReadCloser: answer.Body, end: func(body *kept) { d.report(d.t, r, sent, &head, body) }}
	return answer, nil
}

func (d *Document) report(t testing.TB, r *http.Request, request *kept, answer *http.Response, body *kept) {
	t.Helper()
	for _, problem := range d.Check(r, request.plain(r.Header), answer, body.plain(answer.Header)) {
		t.Errorf("not as the OpenAPI document says: %s %s answered %d: %s", r.Method, r.URL.RequestURI(), answer.StatusCode, problem)
	}
}

// kept is what was read or written, if it is not too much. A request may still be sent when its answer is there.
type kept struct {
	mu      sync.Mutex
	text    []byte
	tooMuch bool
}

func (k *kept) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tooMuch = k.tooMuch || len(k.text)+len(p) > maxBody; !k.tooMuch {
		k.text = append(k.text, p...)
	}
	return len(p), nil
}

// plain is the body without its Content-Encoding; nil if it is not known.
func (k *kept) plain(h http.Header) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tooMuch {
		return nil
	}
	body := append([]byte{}, k.text...)
	if encoding := strings.ToLower(h.Get("Content-Encoding")); encoding != "gzip" && encoding != "x-gzip" || len(body) == 0 {
		return body
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil
	}
	if body, err = io.ReadAll(io.LimitReader(z, maxBody+1)); err != nil || len(body) > maxBody {
		return nil
	}
	return body
}

// watcher is a ResponseWriter that notes what leaves.
type watcher struct {
	http.ResponseWriter
	status int
	sent   http.Header
	body   kept
}

func (w *watcher) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *watcher) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status, w.sent = status, w.Header().Clone()
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *watcher) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	_, _ = w.body.Write(p)
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (w *watcher) Flush() {
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// reading is a body that is noted while it is read.
type reading struct {
	io.ReadCloser
	body kept
	once sync.Once
	end  func(*kept)
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	_, _ = r.body.Write(p[:n])
	if errors.Is(err, io.EOF) {
		r.once.Do(func() { r.end(&r.body) })
	}
	return n, err
}
