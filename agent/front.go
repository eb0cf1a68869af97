package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer/box"
)

// maxURI is how long path and query of a request may be, in bytes: URLs of 16 KB, with room for escapes.
const maxURI = 32 << 10

// maxLink is how long a nextLink may be: it is what was asked, and a place.
const maxLink = maxURI + 16<<10

// front stands between the connections and what answers: it knows who asks, keeps a connection from being
// held by one who does not read or send, lets pages of other origins ask, counts and limits requests, and
// names each of them. What a command serves to itself does not come through it.
type front struct {
	next     http.Handler
	gate     gate
	proxies  proxies
	origins  origins
	rates    *rates
	patience time.Duration // how long a peer may keep us waiting
	logger   *slog.Logger
	access   *slog.Logger // nil: no access log
}

func newFront(c *config.Config, g gate, logger *slog.Logger, next http.Handler) *front {
	f := &front{next: next, gate: g, proxies: c.TrustedProxies, origins: c.CORSOrigins, rates: newRates(c), patience: patience, logger: logger}
	if c.AccessLog {
		f.access = logger
	}
	return f
}

// visit is one request, before anything answers it.
type visit struct {
	id     string
	source        // where it comes from
	client string // who asks, by the token; "" without one that is accepted
	looked *look  // what the token is; nil: nobody looked
	begun  time.Time
}

type visitKey struct{}

// visitOf returns the visit of a request's context; nil for one that came without a connection.
func visitOf(ctx context.Context) *visit {
	v, _ := ctx.Value(visitKey{}).(*visit)
	return v
}

func (f *front) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	v := &visit{begun: time.Now(), source: f.proxies.source(r)}
	v.id = requestID(r, v.trusted)
	r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
	w := newResponse(rw, r, f.patience)
	r.Body = w.body(r)
	w.Header().Set("X-Request-Id", v.id)
	defer func() {
		fault := recover()
		f.survive(w, r, fault)
		if w.end(); fault == nil && w.status == 0 {
			w.status = http.StatusOK // the server says so
		}
		f.note(w, r, fault)
		if w.cut {
			panic(http.ErrAbortHandler)
		}
	}()
	f.serve(w, r, v)
}

func (f *front) serve(w *response, r *http.Request, v *visit) {
	if f.origins.admit(w, r) {
		return // a preflight
	}
	if n := len(r.RequestURI); n > maxLink || n > maxURI && !strings.Contains(r.RequestURI, "$skiptoken=") {
		refuseAs(w, r, http.StatusRequestURITooLong, fmt.Sprintf("The URL is longer than %d bytes: ask for fewer keys at a time", maxURI))
		return
	}
	if wait := f.rates.wait(f.gate, r, v); wait > 0 {
		w.Header().Set("Retry-After", wholeSeconds(wait))
		refuseAs(w, r, http.StatusTooManyRequests, "Too many requests: ask again after the time in Retry-After")
		return
	}
	f.next.ServeHTTP(w, r)
}

// survive turns a panic into an answer, and says once what it was. The process goes on, as net/http's own
// handling would have it, but whoever asked is told, and the log names the request.
func (f *front) survive(w *response, r *http.Request, fault any) {
	switch fault {
	case nil:
		return
	case http.ErrAbortHandler:
		w.cut = true
		return
	}
	f.logger.ErrorContext(r.Context(), "a handler panicked", "method", r.Method, "path", logged(r), "err", fmt.Sprint(fault), "stack", string(debug.Stack()))
	if w.status != 0 {
		w.cut = true // a part of an answer must not look like a whole one
		return
	}
	refuseAs(w, r, http.StatusInternalServerError, "Something is wrong here. The log tells more under the X-Request-Id of this answer")
}

// note writes the line of the access log. The path may hold keys; the query, which may hold more, is left out.
func (f *front) note(w *response, r *http.Request, fault any) {
	if f.access == nil {
		return
	}
	v := visitOf(r.Context())
	attrs := []any{"method", r.Method, "path", logged(r), "status", w.status, "bytes", w.bytes, "duration", time.Since(v.begun).Round(time.Microsecond),
		"client", v.client, "address", v.text()}
	if fault != nil {
		attrs = append(attrs, "aborted", true)
	}
	f.access.InfoContext(r.Context(), "request", attrs...)
}

// secret is what looks like the token of a session, or most of it.
var secret = regexp.MustCompile(`[A-Z2-7]{20,}`)

// logged is the path of a request for the log: without the token of a session, which is good however the rest is spelled.
func logged(r *http.Request) string {
	if path := secret.ReplaceAllString(r.URL.Path, "…"); path != r.URL.Path {
		return path
	}
	return r.URL.EscapedPath()
}

// requestID is what a request is called: by a proxy that is believed, or a new name.
func requestID(r *http.Request, trusted bool) string {
	given := r.Header.Get("X-Request-Id")
	if trusted && given != "" && len(given) <= 128 && !strings.ContainsFunc(given, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return given
	}
	return rand.Text()
}

// refuseAs answers with an error in the form of the request's path.
func refuseAs(w http.ResponseWriter, r *http.Request, status int, message string) {
	h := w.Header()
	for _, of := range []string{"Content-Length", "Content-Encoding", "ETag", "Location", "Preference-Applied"} { // of another answer
		h.Del(of)
	}
	path := r.URL.EscapedPath()
	_, below, _ := strings.Cut(strings.TrimPrefix(path, "/feeds/"), "/")
	switch {
	case under(path, "/odata"), strings.HasPrefix(path, "/feeds/") && under("/"+below, "/odata"):
		h.Set("Cache-Control", "no-store")
		if h.Get("OData-Version") == "" {
			h.Set("OData-Version", "4.01")
		}
		odata.WriteError(w, &odata.Error{Status: status, Message: message})
	case under(path, "/2.0"), under(path, "/events"):
		h.Set("Cache-Control", "no-store")
		box.Refuse(w, status, message)
	case under(path, "/oauth"):
		oauthError(w, status, oauthCode(status), message)
	default:
		reply.Refuse(w, &reply.Error{Status: status, Detail: message})
	}
}
