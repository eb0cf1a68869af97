package consumer

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/reply"
)

const (
	// maxEvents bounds the events of one push.
	maxEvents = 100_000
	// pushesAtOnce bounds the pushes of one feed that are read and stored at the same time. A producer
	// has one on its way, and perhaps one that it gave up; more are asked to wait, so that no feed takes
	// the memory, or the turn, of another.
	pushesAtOnce = 4
	// maxPending is the default of Receiver.MaxPending.
	maxPending = 10_000
	// bodyTime is how long a push may take to arrive, from its headers to its end. Producers give up
	// sooner.
	bodyTime = 30 * time.Second
)

// Waits that a producer is asked for when the inbox is full.
const (
	shortestWait = 5 * time.Second
	longestWait  = 300 * time.Second
)

// Receiver answers POST /webhooks/{feed} (RCP-28, Consumers): it stores what is pushed and fetches
// nothing. A 200 means that every event of the push is durably in the inbox, or known already; or that
// the push contradicts the log that the feed follows. Of that one only a mark is stored, as durably: the
// feed stays behind until a poll has read the producer's log to its end, be it this log or another.
//
// What one feed's producer does costs no other feed anything but its share of the processor and the disk:
// each has an inbox of its own that may be full, and at most four pushes under way, each of which has 30
// seconds to arrive. One push holds at most about five times MaxBody: what was sent, decompressed, and the
// events read from it. So all feeds together hold at most 20 × MaxBody each, whatever is sent; a push that
// is not admitted holds nothing.
type Receiver struct {
	Feeds      map[string]*Feed  // by name; required
	Authority  *bearer.Authority // issued the push tokens; required
	MaxBody    int64             // of a push in bytes, before and after decompression. Default 8 MB.
	MaxPending int64             // events pending at which pushes are asked to wait. Default 10,000.
	Root       string            // public URL of the agent, without a slash at its end: for links. Default "".
	Logger     *slog.Logger      // Default: none.
}

// ServeHTTP implements http.Handler. The path ends with the name of the feed; one slash may follow.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	// Also what the server reads and drops of the body of a push that was refused. At the end of the body it
	// lifts the deadline itself. A writer that knows no deadlines is not a connection.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	feed := r.Feeds[feedName(req)]
	if feed == nil {
		refuse(w, req, &reply.Error{Status: http.StatusNotFound, Detail: "no such feed"})
		return
	}
	position, err := r.receive(w, req, feed)
	status := http.StatusOK
	var refusal *reply.Error
	switch {
	case err == nil:
		r.accept(w, req, position)
	case errors.As(err, &refusal):
		status = refusal.Status
		refuse(w, req, refusal)
	default:
		status = http.StatusServiceUnavailable
		if req.Context().Err() == nil {
			feed.storing.note(r.Logger, feed.Name, err)
		}
		refuse(w, req, &reply.Error{Status: status, Detail: "the push cannot be stored at present", Wait: shortestWait})
	}
	feed.stats.push(status)
}

// refuse answers with a problem document. A request that carries no token at all has none that is invalid (RFC 6750, 3.1).
func refuse(w http.ResponseWriter, req *http.Request, refusal *reply.Error) {
	switch refusal.Status {
	case http.StatusUnauthorized:
		challenge := `Bearer realm="resosync"`
		if len(req.Header.Values("Authorization")) > 0 {
			challenge += `, error="invalid_token"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	}
	reply.Refuse(w, refusal)
}

// storing says whether the pushes of a feed can be stored: the first failure and the recovery are logged.
type storing struct {
	mu      sync.Mutex
	trouble Trouble
}

func (s *storing) note(l *slog.Logger, feed string, err error) {
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble.note(l.With("feed", feed), "store pushes", err)
}

// feedName is the last segment of the path.
func feedName(req *http.Request) string {
	path := strings.TrimSuffix(req.URL.Path, "/")
	return path[strings.LastIndexByte(path, '/')+1:]
}

func (r *Receiver) receive(w http.ResponseWriter, req *http.Request, feed *Feed) (entityevent.Position, error) {
	var none entityevent.Position
	if req.Method != http.MethodPost {
		return none, &reply.Error{Status: http.StatusMethodNotAllowed, Detail: "events are sent by POST"}
	}
	if err := feed.Check(); err != nil {
		return none, err
	}
	if err := r.admit(req, feed); err != nil {
		return none, err
	}
	select {
	case feed.pushing <- struct{}{}:
		defer func() { <-feed.pushing }()
	default:
		return none, &reply.Error{Status: http.StatusTooManyRequests, Detail: "too many pushes of this feed at the same time; send one after the other", Wait: shortestWait}
	}
	delivery, err := r.delivery(w, req, feed)
	if err != nil {
		return none, err
	}
	if err := r.room(req.Context(), feed, delivery); err != nil {
		return none, err
	}
	position, err := feed.Store.Receive(req.Context(), delivery)
	switch {
	case errors.Is(err, entityevent.ErrAnotherLog):
		// Which log is the current one only a poll can tell. The store has marked the feed as behind; the
		// poll, or the load that it begins, fetches whatever this push held.
		wake(feed.pull)
	case errors.Is(err, entityevent.ErrInvalid):
		return none, malformed(err)
	case err != nil:
		return none, err
	}
	feed.storing.note(r.Logger, feed.Name, nil)
	feed.stats.pushed.Add(int64(position.Stored))
	if position.Stored > 0 {
		wake(feed.apply)
	}
	if position.Behind() {
		wake(feed.pull)
	}
	return position, nil
}

// admit checks the token, and the label that a push may carry (RCP-28 1.0.1, EntityEventSource).
func (r *Receiver) admit(req *http.Request, feed *Feed) error {
	_, err := r.Authority.Verify(req.Context(), bearer.FromHeader(req.Header), bearer.Push(feed.Name))
	switch {
	case len(req.Header.Values("Authorization")) == 0:
		return &reply.Error{Status: http.StatusUnauthorized, Detail: "a bearer token is wanted"}
	case errors.Is(err, bearer.ErrAudience):
		return &reply.Error{Status: http.StatusForbidden, Detail: "the token is for another feed or route"}
	case errors.Is(err, bearer.ErrUnauthorized):
		return &reply.Error{Status: http.StatusUnauthorized, Detail: "the token is missing, unknown, expired or revoked"}
	case err != nil:
		return err
	}
	for _, name := range []string{"EntityEventSource", "ConsumerLabel"} {
		if label := req.Header.Get(name); label != "" && feed.Label != "" && label != feed.Label {
			return &reply.Error{Status: http.StatusForbidden, Detail: name + " names another feed than this"}
		}
	}
	return nil
}

// delivery reads the body and the headers that say what it covers.
func (r *Receiver) delivery(w http.ResponseWriter, req *http.Request, feed *Feed) (d entityevent.Delivery, err error) {
	if !reply.IsJSON(req.Header.Get("Content-Type")) {
		return d, &reply.Error{Status: http.StatusUnsupportedMediaType, Detail: "send application/json or application/*+json"}
	}
	d = entityevent.Delivery{Feed: feed.Name, Log: entityevent.LogID(req.Header.Get(logHeader))}
	if len(d.Log) > 255 {
		return d, malformed(errors.New(logHeader + " is longer than 255"))
	}
	after, through := req.Header.Get(afterHeader), req.Header.Get(throughHeader)
	if after != "" || through != "" {
		if d.After, err = sequence(req.Header, afterHeader); err != nil {
			return d, malformed(err)
		}
		if d.Through, err = sequence(req.Header, throughHeader); err != nil {
			return d, malformed(err)
		}
		if d.After > d.Through {
			return d, malformed(errors.New(afterHeader + " is above " + throughHeader))
		}
		// Without a log nobody knows whose positions these are.
		d.Chained = d.Log != ""
	}
	body, free, err := r.body(w, req)
	if err != nil {
		return d, err
	}
	defer free()
	if d.Events, err = entityevent.ParseEvents(body); err != nil {
		return d, malformed(err)
	}
	if len(d.Events) > maxEvents {
		return d, &reply.Error{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("more than %d events in one push", maxEvents)}
	}
	for _, e := range d.Events {
		if d.Chained && (e.Sequence <= d.After || e.Sequence > d.Through) {
			return d, malformed(fmt.Errorf("event %d is not between %s and %s", e.Sequence, afterHeader, throughHeader))
		}
	}
	return d, nil
}

// body reads what was sent, decompressed, into a buffer that must be freed. However much it would expand to,
// no more than the limit is read.
func (r *Receiver) body(w http.ResponseWriter, req *http.Request) (text []byte, free func(), err error) {
	limit := r.MaxBody
	if limit <= 0 {
		limit = 8 << 20
	}
	if req.ContentLength > limit { // who waits for a 100 is not told to send it
		return nil, nil, bodyProblem(&http.MaxBytesError{Limit: limit})
	}
	var from io.Reader = http.MaxBytesReader(w, req.Body, limit)
	switch encoding := strings.ToLower(req.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzips.get(from)
		if err != nil {
			return nil, nil, bodyProblem(err)
		}
		defer gzips.put(z)
		from = io.LimitReader(z, limit+1)
	default:
		return nil, nil, &reply.Error{Status: http.StatusUnsupportedMediaType, Detail: "the only Content-Encoding is gzip"}
	}
	buffer := buffers.Get().(*bytes.Buffer)
	buffer.Reset()
	_, err = buffer.ReadFrom(from)
	if err == nil && int64(buffer.Len()) > limit {
		err = &http.MaxBytesError{Limit: limit}
	}
	if err != nil {
		release(buffer)
		return nil, nil, bodyProblem(err)
	}
	return buffer.Bytes(), func() { release(buffer) }, nil
}

func bodyProblem(err error) error {
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return &reply.Error{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("a push has at most %d bytes", large.Limit)}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &reply.Error{Status: http.StatusRequestTimeout, Detail: fmt.Sprintf("the push took more than %v to arrive", bodyTime)}
	}
	return malformed(errors.New("the body cannot be read to its end"))
}

func malformed(err error) error {
	return &reply.Error{Status: http.StatusBadRequest, Detail: err.Error()}
}

// room refuses a push while too much is pending. The wait is how long what is pending will take.
func (r *Receiver) room(ctx context.Context, feed *Feed, d entityevent.Delivery) error {
	most := r.MaxPending
	if most <= 0 {
		most = maxPending
	}
	if len(d.Events) == 0 {
		return nil
	}
	pending, err := feed.Store.Depth(ctx, feed.Name)
	if err != nil || pending < most {
		return err
	}
	wake(feed.apply)
	wait := min(max(feed.state.drain(pending), shortestWait), longestWait)
	return &reply.Error{Status: http.StatusTooManyRequests, Detail: "the inbox is full; send again later", Wait: wait}
}

// accept answers a push that is stored.
func (r *Receiver) accept(w http.ResponseWriter, req *http.Request, p entityevent.Position) {
	h := w.Header()
	if p.Started {
		h.Set(cursorHeader, string(p.Log)+":"+p.Sequence.String())
	}
	h.Set("Vary", "Accept")
	answer := map[string]any{"status": "ok"}
	mediaType := reply.Preferred(req.Header, reply.JSON, reply.HAL)
	if mediaType == reply.HAL {
		answer["_links"] = reply.Links{"self": reply.Link{Href: reply.Href(r.Root, "/webhooks/"+url.PathEscape(feedName(req)))}}
	}
	reply.Write(w, http.StatusOK, mediaType, answer) // the producer that does not hear this sends again, which changes nothing
}

// gzips keeps readers: one costs 40 KB.
var gzips = gzipPool{}

type gzipPool struct{ pool sync.Pool }

func (p *gzipPool) get(from io.Reader) (*gzip.Reader, error) {
	z, ok := p.pool.Get().(*gzip.Reader)
	if !ok {
		return gzip.NewReader(from)
	}
	if err := z.Reset(from); err != nil {
		p.put(z)
		return nil, err
	}
	return z, nil
}

func (p *gzipPool) put(z *gzip.Reader) { p.pool.Put(z) }
