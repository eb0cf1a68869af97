// Package session serves session events: small lists in memory, each with its own numbers, to which whoever knows the
// session's token adds events and for which he listens by long poll. The log's events that the session's client may see
// are among them.
//
// It promises that a listener who passes the number of the last event that it received sees every number once and in
// order, as long as it is not more than 1,000 events behind. Nothing of it is durable: a session ends with the process,
// after an hour in which nobody asked for it, and with its client.
package session

import (
	"container/list"
	"context"
	_ "embed"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// OpenAPI describes what Sessions answer. It is a document of its own, and a part of the one that the agent serves.
//
//go:embed openapi.json
var OpenAPI []byte

// What there may be of all. An owner is a client, or an address from which anonymous ones come. Where these fill what is
// there for all of them, the sessions go first that were idle longest, of the address that has most.
const (
	kept         = 1000 // events of a session
	idleAfter    = time.Hour
	maxSessions  = 10_000
	maxOwn       = 5_000 // of one client
	maxAnonymous = 2_500 // of all addresses
	maxAddress   = 250   // of one
	maxBytes     = 256 << 20
	ofOwner      = 4   // a quarter of the bytes; all who are anonymous have one together
	ofAddress    = 16  // of that
	maxListeners = 100 // of one session
	maxHearing   = 500 // listeners of one address
	maxBody      = 16 << 10
	maxType      = 255 // characters
	overhead     = 96  // bytes of an event beside its text
)

// Sessions serves /api/sessions and below. Store and Gate are required. Idle sessions cost memory and nothing else: the
// log is read when somebody asks.
type Sessions struct {
	Store producer.Store
	Gate  producer.Gate
	Feed  string // Default entityevent.Local.
	// Anonymous is who makes sessions without a token, and says what they see of the log. nil: nobody.
	Anonymous *producer.Client
	// Address says where a request comes from that has no token. Default: the address of the peer.
	Address  func(*http.Request) string
	MaxBytes int64           // of all posted events; a quarter of it for one client. Default 256 MB.
	Holds    *producer.Holds // of the requests that wait for news; may be shared. Default: its own.
	Logger   *slog.Logger    // Default: discards.

	own producer.Holds

	mu     sync.Mutex
	named  map[string]*session
	order  list.List // of sessions, by their last use
	owners map[owner]*share
	tails  map[entityevent.Mask]*tail
	bytes  int64
	// Of all who are anonymous:
	strangers     int
	strangerBytes int64
}

// owner is who made a session.
type owner struct {
	client    string
	anonymous bool
	address   string // of an anonymous one
}

// share is what an owner has.
type share struct {
	sessions  map[*session]struct{}
	bytes     int64
	listeners int
}

// ServeHTTP implements http.Handler.
func (s *Sessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.EscapedPath(), "/")
	if path == "/api/sessions" {
		reply.Serve(w, r, map[string]http.HandlerFunc{http.MethodPost: s.make})
		return
	}
	below, ok := strings.CutPrefix(path, "/api/sessions/")
	token, rest, _ := strings.Cut(below, "/")
	if !ok || rest != "events" || token == "" {
		reply.Refuse(w, &reply.Error{Status: http.StatusNotFound, Detail: "There is nothing here: POST /api/sessions, and then ask for {token}/events below it"})
		return
	}
	reply.Serve(w, r, map[string]http.HandlerFunc{
		http.MethodGet:  func(w http.ResponseWriter, r *http.Request) { s.listen(w, r, token) },
		http.MethodPost: func(w http.ResponseWriter, r *http.Request) { s.post(w, r, token) },
	})
}

// End ends the sessions of a client. It must be called when the client is revoked: who listens is told that there is no
// such session.
func (s *Sessions) End(client string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if share := s.owners[owner{client: client}]; share != nil {
		for x := range share.sessions {
			s.end(x)
		}
	}
}

// Status appends data as an event of the type status to the sessions of a client, and wakes who listens there. It reads
// the log if there are any.
func (s *Sessions) Status(client string, data any) {
	raw, err := json.Marshal(data)
	if err != nil {
		s.logger().Error("status is not JSON", "client", client, "err", err)
		return
	}
	s.mu.Lock()
	tails := map[*tail]struct{}{}
	if share := s.owners[owner{client: client}]; share != nil {
		for x := range share.sessions {
			tails[x.tail] = struct{}{}
		}
	}
	s.mu.Unlock()
	for t := range tails {
		if err := s.extend(context.Background(), t, anyhow); err != nil { // it comes a little early then, among those of the log
			s.logger().Warn("events of sessions were not read", "err", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if share := s.owners[owner{client: client}]; share != nil {
		for x := range share.sessions {
			s.append(x, posted{kind: `"status"`, data: raw})
		}
	}
}

// Len returns how many sessions there are.
func (s *Sessions) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.named)
}

// Drain ends the long polls that are held, and holds none from then on.
func (s *Sessions) Drain() { s.holds().Drain() }

func (s *Sessions) holds() *producer.Holds {
	if s.Holds == nil {
		return &s.own
	}
	return s.Holds
}

func (s *Sessions) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}
