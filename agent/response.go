package main

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// patience is how long a peer may keep the agent waiting: for the next 64 KB of an answer to be taken, or for
// a body to arrive at more than bodyPace. A request that is held, or an import that takes its time, waits on
// our side and is not cut.
const (
	patience  = 30 * time.Second
	piece     = 64 << 10
	bodyPace  = 1 << 10     // bytes a second
	grace     = time.Second // which a body may be behind it without making the request one that waits
	lingering = 5 * time.Second
)

// response is an http.ResponseWriter that counts, and gives up a peer who does not take the answer.
type response struct {
	http.ResponseWriter
	control  *http.ResponseController
	request  *http.Request
	patience time.Duration
	vary     string // added to Vary
	incoming *pacedBody
	tell     func(asked, waits int)

	status int // 0: nothing was sent yet
	bytes  int64
	cut    bool // the connection must not go on
	mute   bool // what the handler writes is dropped: another answer was given
	set    time.Time
}

func newResponse(w http.ResponseWriter, r *http.Request, patience time.Duration) *response {
	tell := tellOf(r)
	tell(1, 0)
	return &response{ResponseWriter: w, control: http.NewResponseController(w), request: r, patience: patience, tell: tell}
}

// Unwrap suits http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter. If the body did not arrive in time that is the answer, whatever
// the handler made of it.
func (w *response) WriteHeader(status int) {
	if w.status != 0 || w.mute {
		return
	}
	if late := w.incoming; late != nil && late.late && status >= 400 && status != http.StatusRequestTimeout {
		late.late = false
		w.Header().Del("Retry-After")
		refuseAs(w, w.request, http.StatusRequestTimeout, "The body did not arrive in time")
		w.mute = true
		return
	}
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.status = status
	}
	if w.vary != "" {
		w.Header().Add("Vary", w.vary)
	}
	if (status == http.StatusRequestTimeout || status == http.StatusRequestEntityTooLarge) && w.request.ProtoMajor == 1 {
		w.Header().Set("Connection", "close") // the rest of the body is not read
	}
	w.begin()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter. Each piece has its own time, so that an answer may take long and none
// of it for ever.
func (w *response) Write(p []byte) (n int, err error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.mute {
		return len(p), nil
	}
	for {
		w.begin()
		var m int
		m, err = w.ResponseWriter.Write(p[n:min(len(p), n+piece)])
		if n += m; err != nil || n >= len(p) {
			break
		}
	}
	w.bytes += int64(n)
	w.done()
	return n, err
}

// FlushError suits http.ResponseController.
func (w *response) FlushError() error {
	if w.mute {
		return nil
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.begin()
	defer w.done()
	return w.control.Flush()
}

// begin gives the peer its time to take what is written next. A connection that knows no deadlines has no peer.
func (w *response) begin() {
	if now := time.Now(); now.Sub(w.set) > w.patience/30 {
		w.set = now
		_ = w.control.SetWriteDeadline(now.Add(w.patience))
	}
}

// done ends the time: a stream of HTTP/2 would be reset at its end though nothing is written.
func (w *response) done() {
	if w.request.ProtoMajor >= 2 {
		w.set = time.Time{}
		_ = w.control.SetWriteDeadline(time.Time{})
	}
}

// end bounds what the server does after the handler: it sends what is buffered, and drops what is left of the
// body: until then such a request waits for its peer. Before the next request it lifts both deadlines.
func (w *response) end() {
	now := time.Now()
	_ = w.control.SetWriteDeadline(now.Add(w.patience))
	if w.incoming != nil && !w.incoming.ended {
		_ = w.control.SetReadDeadline(now.Add(min(lingering, w.patience)))
		if w.request.ProtoMajor == 1 {
			w.tell(0, 1)
			return
		}
	}
	w.tell(-1, 0)
}

// body is the request's body, given up when it does not arrive. Webhooks have a limit of their own, and a
// command of this machine may send what comes slowly out of a pipe.
func (w *response) body(r *http.Request) io.ReadCloser {
	path := r.URL.EscapedPath()
	if r.Body == nil || r.Body == http.NoBody {
		return r.Body
	}
	w.incoming = &pacedBody{ReadCloser: r.Body, control: w.control, tell: w.tell, credit: w.patience, most: w.patience}
	w.incoming.unbounded = under(path, "/webhooks") || under(path, "/admin")
	return w.incoming
}

// errLateBody is what the reader of a body gets that did not arrive.
var errLateBody = errors.New("the body did not arrive in time")

// pacedBody gives a body a credit of time. Waiting for it costs, what arrives earns at bodyPace, and what the
// reader does meanwhile is free.
type pacedBody struct {
	io.ReadCloser
	control      *http.ResponseController
	tell         func(asked, waits int)
	credit, most time.Duration
	unbounded    bool
	late, ended  bool
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if b.unbounded {
		n, err := b.ReadCloser.Read(p)
		b.ended = b.ended || err != nil
		return n, err
	}
	begun := time.Now()
	_ = b.control.SetReadDeadline(begun.Add(b.credit))
	waits := time.AfterFunc(b.credit-b.most+grace, func() { b.tell(0, 1) })
	n, err := b.ReadCloser.Read(p)
	if !waits.Stop() {
		b.tell(0, -1)
	}
	_ = b.control.SetReadDeadline(time.Time{}) // else it would end a request that is held, too
	b.credit = min(b.credit-time.Since(begun)+time.Duration(n)*time.Second/bodyPace, b.most)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		b.late, err = true, errLateBody
	}
	b.ended = b.ended || err != nil && !b.late
	return n, err
}
