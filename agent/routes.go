package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/resosync/resosync/producer"
)

// routes is the agent's HTTP interface. It reads the escaped path itself, because http.ServeMux
// redirects paths such as Property('a//b'), which are keys.
type routes struct {
	odata    http.Handler            // the feed that /odata serves
	feeds    map[string]http.Handler // the others, by name, below /feeds/{name}/odata
	webhooks http.Handler            // pushes to the feeds of the consumer; nil without any
	targets  []string                // names of these feeds
	oauth    http.Handler
	admin    http.Handler
	metrics  http.Handler
	unready  func(context.Context) []reason // what keeps the agent from being ready

	servers []*producer.Server // all that serve a feed
	closing context.Context    // ends when the agent begins to stop, and long work of commands with it
}

// drain answers the requests that are held for news, so that the agent can stop.
func (h *routes) drain() {
	for _, s := range h.servers {
		s.Drain()
	}
}

func (h *routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	if under(path, "/odata") {
		h.odata.ServeHTTP(w, r)
		return
	}
	if rest, ok := strings.CutPrefix(path, "/feeds/"); ok {
		name, below, _ := strings.Cut(rest, "/")
		if feed, ok := h.feeds[name]; ok && under("/"+below, "/odata") {
			feed.ServeHTTP(w, r)
			return
		}
	}
	if under(path, "/webhooks") && h.webhooks != nil {
		if r.Method == http.MethodOptions {
			w.Header().Set("Allow", "POST, OPTIONS")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h.webhooks.ServeHTTP(w, r)
		return
	}
	if strings.TrimSuffix(path, "/") == "/oauth/token" {
		h.oauth.ServeHTTP(w, r)
		return
	}
	if under(path, "/admin") {
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		defer context.AfterFunc(h.closing, func() { cancel(errStopping) })()
		h.admin.ServeHTTP(w, r.WithContext(ctx))
		return
	}
	get := map[string]http.HandlerFunc{"": h.links, "/healthz": alive, "/readyz": h.readiness, "/metrics": h.metrics.ServeHTTP,
		"/openapi.json": serveDescription}[strings.TrimSuffix(path, "/")]
	switch {
	case get == nil:
		problem(w, http.StatusNotFound, "nothing is served at this path; GET / names what is")
	case r.Method == http.MethodOptions:
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		w.WriteHeader(http.StatusNoContent)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		problem(w, http.StatusMethodNotAllowed, "only GET and HEAD")
	default:
		get(w, r)
	}
}

// under says whether path is prefix or below it.
func under(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// links names what this agent serves (HAL), and nothing else: it needs no token.
func (h *routes) links(w http.ResponseWriter, _ *http.Request) {
	type link struct {
		Href string `json:"href"`
		Name string `json:"name,omitempty"`
	}
	links := map[string]any{"self": link{Href: "/"}, "odata": link{Href: "/odata"}, "openapi": link{Href: "/openapi.json"}}
	var hooks []link
	for _, name := range h.targets {
		hooks = append(hooks, link{Href: "/webhooks/" + name, Name: name})
	}
	if hooks != nil {
		links["webhooks"] = hooks
	}
	w.Header().Set("Vary", "Accept")
	answer(w, http.StatusOK, "application/hal+json", map[string]any{"_links": links})
}

func alive(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, "application/json", map[string]string{"status": "alive"})
}

func (h *routes) readiness(w http.ResponseWriter, r *http.Request) {
	if reasons := h.unready(r.Context()); len(reasons) > 0 {
		w.Header().Set("Retry-After", "60")
		texts := texts(reasons)
		document := problemDocument(w, http.StatusServiceUnavailable, strings.Join(texts, "; "))
		document["reasons"] = texts
		answer(w, http.StatusServiceUnavailable, problemType, document)
		return
	}
	answer(w, http.StatusOK, "application/json", map[string]string{"status": "ready"})
}

// answer writes JSON that nobody on the way may keep.
func answer(w http.ResponseWriter, status int, mediaType string, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		status, mediaType, raw = http.StatusInternalServerError, problemType, []byte(`{"title":"Internal Server Error","status":500}`)
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(raw, '\n')) // whoever does not listen any more misses it
}

const problemType = "application/problem+json"

// problem answers with a problem document (RFC 9457).
func problem(w http.ResponseWriter, status int, detail string) {
	answer(w, status, problemType, problemDocument(w, status, detail))
}

// problemDocument names the occurrence by the request, as the log does.
func problemDocument(w http.ResponseWriter, status int, detail string) map[string]any {
	document := map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail}
	if id := w.Header().Get("X-Request-Id"); id != "" {
		document["instance"] = "urn:request-id:" + url.PathEscape(id)
	}
	return document
}
