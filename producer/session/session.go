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

const (
	kept         = 1000 // events of a session
	idleAfter    = time.Hour
	maxSessions  = 10_000
	maxBytes     = 256 << 20
	maxListeners = 100 // of one session
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
	MaxBytes int64           // of all posted events. Default 256 MB.
	Holds    *producer.Holds // of the requests that wait for news; may be shared. Default: its own.
	Logger   *slog.Logger    // Default: discards.

	own producer.Holds

	mu     sync.Mutex
	named  map[string]*session
	order  list.List // of sessions, by their last use
	owners map[owner]*share
	tails  map[entityevent.Mask]*tail

	all       load
	strangers load // of that, what all who are anonymous have
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

// Status tells all sessions of a client of data, in an event of the type status, and wakes who listens there. It reads the
// log if there are any. The event is kept once for all of them, and is none of those that were posted.
func (s *Sessions) Status(client string, data any) {
	raw, err := json.Marshal(data)
	if err != nil {
		s.logger().Error("status is not JSON", "client", client, "err", err)
		return
	}
	s.mu.Lock()
	all := s.toldTo(client)
	s.mu.Unlock()
	for _, of := range all {
		if err := s.extend(context.Background(), of.tail, anyhow); err != nil { // it comes a little early then, among those of the log
			s.logger().Warn("events of sessions were not read", "err", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.toldTo(client) {
		of.add(event{kind: `"status"`, data: raw})
	}
	if share := s.owners[owner{client: client}]; share != nil {
		for x := range share.sessions {
			x.wake()
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
