package main

import (
	"io"
	"net/http"
	"slices"
	"sync"
)

// inProcess carries requests to a handler in this process. Bodies stream in both directions, as over a
// connection, and a request ends with its context.
type inProcess struct {
	handler http.Handler
	running sync.WaitGroup // requests
}

// RoundTrip implements http.RoundTripper.
func (t *inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	in := req.Clone(req.Context())
	in.RequestURI, in.RemoteAddr = req.URL.RequestURI(), "in-process"
	if in.Host == "" {
		in.Host = req.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	reader, writer := io.Pipe()
	w := &pipedResponse{header: http.Header{}, body: writer, started: make(chan struct{})}
	t.running.Go(func() {
		defer in.Body.Close()
		aborted := serveOnce(t.handler, w, in)
		w.WriteHeader(http.StatusOK)
		writer.CloseWithError(aborted)
	})
	select {
	case <-w.started:
	case <-req.Context().Done():
		reader.CloseWithError(req.Context().Err())
		return nil, req.Context().Err()
	}
	return &http.Response{Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: reader, ContentLength: -1, Request: req}, nil
}

// serveOnce calls the handler and returns an error if it aborted its answer, as net/http understands it.
func serveOnce(h http.Handler, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			err = io.ErrUnexpectedEOF
		default:
			panic(p)
		}
	}()
	h.ServeHTTP(w, r)
	return nil
}

// pipedResponse is an http.ResponseWriter whose body goes to the reader of a pipe.
type pipedResponse struct {
	header  http.Header
	body    *io.PipeWriter
	once    sync.Once
	started chan struct{} // closed when status and sent are final
	status  int
	sent    http.Header
}

func (w *pipedResponse) Header() http.Header { return w.header }

func (w *pipedResponse) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, make(http.Header, len(w.header))
		for name, values := range w.header { // in the one spelling that a connection's reader has, too
			w.sent[http.CanonicalHeaderKey(name)] = slices.Clone(values)
		}
		close(w.started)
	})
}

func (w *pipedResponse) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// Flush implements http.Flusher: a pipe holds nothing back.
func (w *pipedResponse) Flush() { w.WriteHeader(http.StatusOK) }
