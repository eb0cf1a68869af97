package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent/reply"
)

// routes is the agent's HTTP interface. It reads the escaped path itself, because http.ServeMux
// redirects paths such as Property('a//b'), which are keys.
type routes struct {
	root     string                  // how others reach the agent
	odata    http.Handler            // the feed that /odata serves
	feeds    map[string]http.Handler // the others, by name, below /feeds/{name}/odata
	ways     []way                   // to follow the log, beside OData
	webhooks http.Handler            // pushes to the feeds of the consumer; nil without any
	targets  []string                // names of these feeds
	oauth    http.Handler
	admin    http.Handler
	metrics  http.Handler
	unready  func(context.Context) []reason // what keeps the agent from being ready

	closing context.Context // ends when the agent begins to stop, and long work of commands with it
}

// way is one to follow the log: what answers a path and all below it.
type way struct {
	path    string
	handler http.Handler
}

// ServeHTTP implements http.Handler. It has little on its stack: requests that wait for news wait below it, by the thousand.
func (h *routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.handler(r.URL.EscapedPath()).ServeHTTP(w, r)
}

// handler returns who answers at a path.
func (h *routes) handler(path string) http.Handler {
	if under(path, "/odata") {
		return h.odata
	}
	if rest, ok := strings.CutPrefix(path, "/feeds/"); ok {
		name, below, _ := strings.Cut(rest, "/")
		if feed, ok := h.feeds[name]; ok && under("/"+below, "/odata") {
			return feed
		}
	}
	for _, way := range h.ways {
		if under(path, way.path) {
			return way.handler
		}
	}
	switch plain := strings.TrimSuffix(path, "/"); {
	case under(path, "/webhooks") && h.webhooks != nil:
		return http.HandlerFunc(h.webhook)
	case plain == "/oauth/token":
		return h.oauth
	case under(path, "/admin"):
		return http.HandlerFunc(h.command)
	default:
		return page(map[string]http.HandlerFunc{"": h.links, "/healthz": alive, "/readyz": h.readiness, "/metrics": h.metrics.ServeHTTP,
			"/openapi.json": h.describe}[plain])
	}
}

// webhook takes a push.
func (h *routes) webhook(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		w.Header().Set("Allow", "POST, OPTIONS")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	h.webhooks.ServeHTTP(w, r)
}

// command does what a command of this program asks for, until the agent begins to stop.
func (h *routes) command(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.closing, func() { cancel(errStopping) })()
	h.admin.ServeHTTP(w, r.WithContext(ctx))
}

// page answers GET; without a handler there is nothing.
func page(get http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if get == nil {
			reply.Refuse(w, &reply.Error{Status: http.StatusNotFound, Detail: "nothing is served at this path; GET / names what is"})
			return
		}
		reply.Serve(w, r, map[string]http.HandlerFunc{http.MethodGet: get})
	}
}

// under says whether path is prefix or below it.
func under(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// links names what this agent serves (HAL), and nothing else: it needs no token.
func (h *routes) links(w http.ResponseWriter, _ *http.Request) {
	link := func(path string) reply.Link { return reply.Link{Href: reply.Href(h.root, path)} }
	links := reply.Links{
		"self": link("/"), "odata": link("/odata"), "event-types": link("/event-types"), "subscriptions": link("/subscriptions"),
		"tasks": link("/tasks"), "events": link("/2.0/events"), "sessions": link("/api/sessions"), "openapi": link("/openapi.json"),
	}
	one := link("/subscriptions/{uuid}")
	one.Templated = true
	links["subscription"] = one
	var hooks []reply.Link
	for _, name := range h.targets {
		hook := link("/webhooks/" + name)
		hook.Name = name
		hooks = append(hooks, hook)
	}
	if hooks != nil {
		links["webhooks"] = hooks
	}
	w.Header().Set("Vary", "Accept")
	reply.Write(w, http.StatusOK, reply.HAL, map[string]any{"_links": links})
}

func alive(w http.ResponseWriter, _ *http.Request) {
	reply.Write(w, http.StatusOK, reply.JSON, map[string]string{"status": "alive"})
}

func (h *routes) readiness(w http.ResponseWriter, r *http.Request) {
	if reasons := texts(h.unready(r.Context())); len(reasons) > 0 {
		reply.Refuse(w, &reply.Error{Status: http.StatusServiceUnavailable, Detail: strings.Join(reasons, "; "), Wait: time.Minute,
			Members: map[string]any{"reasons": reasons}})
		return
	}
	reply.Write(w, http.StatusOK, reply.JSON, map[string]string{"status": "ready"})
}
