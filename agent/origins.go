package main

import (
	"net/http"
	"slices"
)

// origins are those whose pages may ask from a browser (CORS); "*": all. Tokens are never sent by a browser
// on its own, so that no page asks in the name of somebody else.
type origins []string

// exposed are the headers that scripts may read, beside those that they always may.
const exposed = "Accept-Ranges, Content-Range, ETag, EntityEvent-After, EntityEvent-Cursor, EntityEvent-Log, EntityEvent-Through, EntityId, Link, Location, OData-Version, Preference-Applied, Retry-After, WWW-Authenticate, X-Request-Id"

// admit says in the answer who may read it, and answers a preflight.
func (o origins) admit(w *response, r *http.Request) (preflight bool) {
	h, origin := w.Header(), r.Header.Get("Origin")
	preflight = r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
	if len(o) > 0 {
		w.vary = "Origin"
	}
	allowed := ""
	switch {
	case origin == "":
	case slices.Contains(o, "*"):
		allowed = "*"
	case slices.Contains(o, origin):
		allowed = origin
	}
	if allowed != "" {
		h.Set("Access-Control-Allow-Origin", allowed)
	}
	if !preflight {
		if allowed != "" {
			h.Set("Access-Control-Expose-Headers", exposed)
		}
		return false
	}
	h.Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	if allowed != "" {
		h.Set("Access-Control-Allow-Methods", h.Get("Allow"))
		if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
			h.Set("Access-Control-Allow-Headers", asked) // what they may do is the token's to say
		}
		h.Set("Access-Control-Max-Age", "600")
		h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	}
	w.WriteHeader(http.StatusNoContent)
	return true
}
