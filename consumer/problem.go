package consumer

import (
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// problem is a refusal, written as RFC 9457 has it. Its detail is for the producer's people: it holds no
// secrets and nothing internal.
type problem struct {
	status int
	detail string
	wait   time.Duration // Retry-After; 0: none
	// anonymous: the request carries no token at all, so none is invalid (RFC 6750, 3.1).
	anonymous bool
}

func (p *problem) Error() string { return p.detail }

func (p *problem) write(w http.ResponseWriter) {
	h := w.Header()
	switch p.status {
	case http.StatusUnauthorized:
		challenge := `Bearer realm="resosync"`
		if !p.anonymous {
			challenge += `, error="invalid_token"`
		}
		h.Set("WWW-Authenticate", challenge)
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodPost)
	}
	if p.wait > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.wait.Seconds()))))
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(p.status)
	document := map[string]any{"type": "about:blank", "title": http.StatusText(p.status), "status": p.status, "detail": p.detail}
	if id := h.Get("X-Request-Id"); id != "" { // the name of the request, if it has one
		document["instance"] = "urn:request-id:" + url.PathEscape(id)
	}
	// Encoding plain strings cannot fail, and a producer that is gone cannot be told.
	_ = json.NewEncoder(w).Encode(document)
}
