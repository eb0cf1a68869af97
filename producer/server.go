package producer

import (
	"errors"
	"hash"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/odata"
)

// Client is who asks.
type Client struct {
	Name    string
	Profile string           // the access profile; "" without one
	Mask    entityevent.Mask // what it may see
	// Resources are, for a client with a Profile, those that the profile names. The others are neither in its metadata
	// nor led to, whether they have records or not, unless its log names some: those of the configured schema and of the
	// Data Dictionary are empty for it, so that who asks for them all goes on, and all else is not there.
	Resources []string
	// Hide are the fields that it does not know, by resource: none of its answers has them, and it cannot
	// ask for them.
	Hide map[string][]string
	// Inline are, for a client with a Profile, the resources whose records it sees also where they stand in the
	// records of another, each with the only one in which it does ("": in any). Records of the others it sees
	// by themselves alone.
	Inline map[string]string
	// Rules is, for a client with a Profile, what names all that the profile says: when it is another text, other records
	// may be seen than before.
	Rules string
}

// Gate decides who may ask.
type Gate interface {
	// Admit returns the client that sent r, which must have the scope (bearer.ScopeRead or another):
	// bearer.ErrUnauthorized without a token that is accepted, ErrForbidden or bearer.ErrAudience with one
	// that does not allow this, and any other error when it cannot tell.
	Admit(r *http.Request, scope string) (Client, error)
}

// ErrForbidden says that the client is known and may not do this.
var ErrForbidden = errors.New("the token does not allow this")

// Limits of requests and answers.
const (
	defaultPage = 100
	maxPage     = 5000
	maxURL      = 64 << 10 // bytes of path and query
	defaultBody = 8 << 20
	maxWait     = 120 // seconds
)

// Server serves one feed of a store as an OData service root: the records, the EntityEvent resource
// (RCP-27) and the metadata, and if it is Writable the write API (RCP-10). Store, Schema, Gate and Root are
// required.
//
// An event can be read as soon as its write was answered. A write is answered after it is durable.
// Collections are written while they are read; when reading fails in the middle the connection is
// aborted, so that nobody takes a part for the whole.
type Server struct {
	Store    Store
	Schema   *Schema
	Gate     Gate
	Root     string       // absolute URL of the service root, without a slash at its end
	Prefix   string       // the service root's path in requests, as /odata
	Feed     string       // Default entityevent.Local.
	Writable bool         // only the feed entityevent.Local may be written
	MaxBody  int64        // of a write, in bytes. Default 8 MB.
	Holds    *Holds       // of the requests that wait for news; may be shared. Default: its own.
	Logger   *slog.Logger // Default: discards.

	own    Holds
	shares shares
	tagKey tagKey
	merges sync.Mutex // of merges that met others
	told   told

	// The requests that an unavailable store failed since the last one that it did not; a full disk fails
	// the writes alone.
	readsFailed, writesFailed atomic.Int64
}

// Drain answers the requests that are held for news now, many of them over two seconds, and holds none from
// then on. It does not wait for them: http.Server.Shutdown does, and it suits http.Server.RegisterOnShutdown.
func (s *Server) Drain() { s.holds().Drain() }

func (s *Server) holds() *Holds {
	if s.Holds == nil {
		return &s.own
	}
	return s.Holds
}

// ServeHTTP implements http.Handler. It must be called before any mux, for they clean paths, and
// Property('a//b') is a key.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	version, err := negotiate(r.Header)
	w.Header().Set("OData-Version", version)
	if err == nil {
		if err = s.answer(w, r, version); err == nil {
			s.recovered(r)
		}
	}
	if err != nil {
		s.refuse(w, r, err)
	}
}

// negotiate returns the version of the response (OData 4.01 Protocol, 8.2.6 and 8.2.7).
func negotiate(h http.Header) (string, error) {
	version := "4.01"
	for _, name := range [...]string{"OData-Version", "OData-MaxVersion"} { // the later one decides
		switch strings.TrimSpace(h.Get(name)) {
		case "4.0":
			version = "4.0"
		case "4.01":
			version = "4.01"
		case "":
		default:
			return version, badRequest(name, "The versions of OData here are 4.0 and 4.01")
		}
	}
	return version, nil
}

// exchange is one request and its answer.
type exchange struct {
	*Server
	w       http.ResponseWriter
	r       *http.Request
	path    odata.Path
	client  Client
	view    entityevent.View
	options odata.Options
	prefer  preferences
	version string // of OData
	format  format
	gzip    bool      // the answer may be compressed
	paused  *pause    // the request is held; nil: it is not
	tagger  hash.Hash // of secret entity tags; nil: they are the records' hashes
}

// serve answers a request, in x. It returns an error only if nothing was written yet.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, version string, x *exchange) error {
	if len(r.URL.RawQuery)+len(r.URL.Path) > maxURL {
		return &odata.Error{Status: http.StatusRequestURITooLong, Message: "The URL is too long: ask for fewer keys at a time"}
	}
	below, ok := strings.CutPrefix(r.URL.EscapedPath(), s.Prefix)
	if !ok || below != "" && below[0] != '/' {
		return notFound("There is nothing here")
	}
	path, err := odata.ParsePath(below)
	if err != nil {
		return err
	}
	x.Server, x.w, x.r, x.path, x.prefer, x.version = s, w, r, path, parsePrefer(r.Header), version
	allow := x.allowed()
	allows := slices.Contains(allow, r.Method)
	scope := bearer.ScopeRead
	if allows && writes(r.Method) {
		scope = bearer.ScopeWrite
	}
	if x.client, err = s.Gate.Admit(r, scope); err != nil {
		return err
	}
	x.view = entityevent.View{Feed: s.feed(), Mask: x.client.Mask}
	if path.Resource == "$batch" && r.Method == http.MethodPost {
		return notOffered("", "$batch is not offered: send the requests one by one, over one connection")
	}
	if !allows || r.Method == http.MethodOptions {
		w.Header().Set("Allow", strings.Join(allow, ", "))
	}
	switch {
	case !allows:
		return &odata.Error{Status: http.StatusMethodNotAllowed, Message: "Not here: the methods are " + strings.Join(allow, ", ")}
	case r.Method == http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	x.format = formatOf("", r.Header)
	x.gzip = AcceptsGzip(r.Header)
	if writes(r.Method) {
		return x.write()
	}
	w.Header().Set("Vary", "Accept, Accept-Encoding")
	if x.options, err = odata.ParseOptions(r.URL.RawQuery); err != nil {
		return err
	}
	return x.read()
}

func writes(method string) bool {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return true
	}
	return false
}

// allowed returns the methods of the path.
func (x *exchange) allowed() []string {
	allow := []string{http.MethodGet, http.MethodHead, http.MethodOptions}
	p := x.path
	if !x.Writable || x.feed() != entityevent.Local || p.Resource == "" || p.Resource[0] == '$' ||
		p.Resource == eventResource || len(p.Rest) > 0 {
		return allow
	}
	if p.Key == nil {
		return append(allow, http.MethodPost)
	}
	return append(allow, http.MethodPut, http.MethodPatch, http.MethodDelete)
}

// read answers GET and HEAD.
func (x *exchange) read() error {
	p := x.path
	if err := x.checkFormat(); err != nil {
		return err
	}
	switch {
	case p.Resource == "":
		return x.service()
	case p.Resource[0] == '$':
		if p.Resource != "$metadata" || p.Key != nil || len(p.Rest) > 0 {
			return notFound("There is nothing here but $metadata")
		}
		return x.metadata()
	case p.Resource == eventResource:
		return x.events()
	}
	return x.records()
}

// checkFormat reads $format, which beats Accept.
func (x *exchange) checkFormat() error {
	if x.options.Format == "" {
		return nil
	}
	offered := "application/json"
	switch {
	case x.path.Resource == "$metadata":
		offered = "application/xml"
	case len(x.path.Rest) > 0 && x.path.Rest[len(x.path.Rest)-1] == "$count":
		offered = "text/plain"
	}
	asked, _, _ := strings.Cut(x.options.Format, ";")
	asked = strings.ToLower(strings.TrimSpace(asked))
	_, short, _ := strings.Cut(offered, "/")
	if asked != offered && asked != short && (offered != "text/plain" || asked != "json" && asked != "application/json") {
		return notOffered("$format", "The only format here is "+offered)
	}
	x.format = formatOf(x.options.Format, nil)
	return nil
}

func (s *Server) feed() string {
	if s.Feed == "" {
		return entityevent.Local
	}
	return s.Feed
}

func (s *Server) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}

// refuse answers with an error. No internal text leaves with it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var refusal *odata.Error
	switch {
	case errors.As(err, &refusal):
	case errors.Is(err, bearer.ErrUnauthorized):
		w.Header().Set("WWW-Authenticate", Challenge(r))
		err = &odata.Error{Status: http.StatusUnauthorized, Message: "A valid bearer token is needed"}
	case errors.Is(err, ErrForbidden), errors.Is(err, bearer.ErrAudience):
		err = &odata.Error{Status: http.StatusForbidden, Message: "The token does not allow this"}
	case errors.Is(err, entityevent.ErrInvalid):
		err = &odata.Error{Status: http.StatusBadRequest, Message: err.Error()}
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // the client is gone
	default:
		if !errors.Is(err, entityevent.ErrUnavailable) || s.failed(r).Add(1) == 1 {
			s.logger().ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		}
		w.Header().Set("Retry-After", "5")
		w.Header().Del("Preference-Applied")
		err = &odata.Error{Status: http.StatusServiceUnavailable, Message: "The store cannot answer now. Try again."}
	}
	odata.WriteError(w, err)
}

// failed counts the failures of requests like r.
func (s *Server) failed(r *http.Request) *atomic.Int64 {
	if writes(r.Method) {
		return &s.writesFailed
	}
	return &s.readsFailed
}

// recovered says that the store does again what it did not do before r.
func (s *Server) recovered(r *http.Request) {
	if failed := s.failed(r); failed.Load() > 0 {
		n := failed.Swap(0)
		s.logger().InfoContext(r.Context(), "the store answers requests again", "method", r.Method, "attempts", n)
	}
}

// abort ends an answer that has begun and cannot be completed.
func (s *Server) abort(r *http.Request, err error) {
	if r.Context().Err() == nil {
		s.logger().ErrorContext(r.Context(), "answer cut off", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	panic(http.ErrAbortHandler)
}

func badRequest(target, message string) error {
	return &odata.Error{Status: http.StatusBadRequest, Target: target, Message: message}
}

func notFound(message string) error {
	return &odata.Error{Status: http.StatusNotFound, Message: message}
}

func notOffered(target, message string) error {
	return &odata.Error{Status: http.StatusNotImplemented, Target: target, Message: message}
}
