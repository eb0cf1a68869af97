// Package box serves the log as Box-style events: a list with a stream position, and a long poll beside it that says
// only that there is something new.
//
// It promises what a poll of EntityEvent does: a stream position is an EntityEventSequence, a list holds every event
// above it that the client may see, in order, and the long poll does not end in silence while there is one. What was
// told stays told: the answers of the long poll are hints, and the list is the truth.
package box

import (
	_ "embed"
	"log/slog"
	"net/http"
	"strings"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// OpenAPI describes what Events answers. It is a document of its own, and a part of the one that the agent serves.
//
//go:embed openapi.json
var OpenAPI []byte

// Events serves /2.0/events, its alias /events and /2.0/realtime; whatever else it is asked for is not found, in that
// API's words. Store, Gate, Root and Name are required.
type Events struct {
	Store  producer.Store
	Gate   producer.Gate
	Feed   string          // Default entityevent.Local.
	Root   string          // absolute URL below which these paths are, without a slash at its end
	Name   string          // of the agent: who made the events
	Holds  *producer.Holds // of the requests that wait for news; may be shared. Default: its own.
	Logger *slog.Logger    // Default: discards.

	own      producer.Holds
	channels channels
}

// ServeHTTP implements http.Handler.
func (e *Events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch strings.TrimSuffix(r.URL.EscapedPath(), "/") {
	case "/2.0/events", "/events":
		e.events(w, r)
	case "/2.0/realtime":
		e.realtime(w, r)
	default:
		Refuse(w, http.StatusNotFound, "There is nothing here but /2.0/events")
	}
}

// End ends the long polls of a client, which are told to reconnect. It must be called when the client is revoked.
func (e *Events) End(client string) { e.channels.end(client) }

// Drain ends the long polls that are held, and holds none from then on.
func (e *Events) Drain() { e.holds().Drain() }

const allow = "GET, HEAD, OPTIONS"

func (e *Events) events(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		e.list(w, r)
	case http.MethodOptions:
		if r.Header.Get("Access-Control-Request-Method") != "" {
			w.Header().Set("Allow", allow)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		e.servers(w, r)
	default:
		notAllowed(w)
	}
}

func notAllowed(w http.ResponseWriter) {
	w.Header().Set("Allow", allow)
	Refuse(w, http.StatusMethodNotAllowed, "Not here: the methods are "+allow)
}

// servers answers where to wait for news.
func (e *Events) servers(w http.ResponseWriter, r *http.Request) {
	client, err := e.Gate.Admit(r, bearer.ScopeSubscribe)
	if err != nil {
		e.fail(w, r, err)
		return
	}
	type server struct {
		Type         string `json:"type"`
		URL          string `json:"url"`
		TTL          string `json:"ttl"` // minutes
		MaxRetries   string `json:"max_retries"`
		RetryTimeout int    `json:"retry_timeout"` // seconds
	}
	reply.Write(w, http.StatusOK, reply.JSON, struct {
		ChunkSize int      `json:"chunk_size"`
		Entries   []server `json:"entries"`
	}{1, []server{{
		Type: "realtime_server", URL: e.Root + "/2.0/realtime?channel=" + e.channels.make(client).name + "&stream_type=all",
		TTL: "10", MaxRetries: "10", RetryTimeout: 610,
	}}})
}

func (e *Events) view(client producer.Client) entityevent.View {
	feed := e.Feed
	if feed == "" {
		feed = entityevent.Local
	}
	return entityevent.View{Feed: feed, Mask: client.Mask}
}

func (e *Events) holds() *producer.Holds {
	if e.Holds == nil {
		return &e.own
	}
	return e.Holds
}
