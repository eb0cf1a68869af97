// Package reply writes the answers of everything that is not OData: JSON, HAL and problem documents (RFC 9457).
// It promises that nobody on the way keeps one, and that no answer is taken for anything but what its media type
// says.
package reply

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// The media types of answers.
const (
	JSON    = "application/json"
	HAL     = "application/hal+json"
	Problem = "application/problem+json"
)

// Write answers with a body as JSON; nil: without one.
func Write(w http.ResponseWriter, status int, mediaType string, body any) {
	w.Header().Set("Cache-Control", "no-store")
	if body == nil {
		w.WriteHeader(status)
		return
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // a URL stays as it is for who reads it without a parser
	if err := encoder.Encode(body); err != nil {
		status, mediaType = http.StatusInternalServerError, Problem
		text.Reset()
		text.WriteString(`{"type":"about:blank","title":"Internal Server Error","status":500}` + "\n")
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes()) // whoever does not listen any more misses it
}

// Link is a link of HAL.
type Link struct {
	Href      string `json:"href"`
	Name      string `json:"name,omitempty"`
	Templated bool   `json:"templated,omitempty"`
}

// Href is a path of the agent as HAL documents have it: without scheme and host, below the path of root, which is the
// agent's public URL, without a slash at its end. So links can be followed through a proxy that takes that path off.
func Href(root, path string) string {
	u, err := url.Parse(root)
	if err != nil {
		return path
	}
	return u.EscapedPath() + path
}

// Links are the _links of a HAL resource: each a Link, or a list of them.
type Links map[string]any

// Serve answers a request by the handler of its method. GET answers HEAD too; OPTIONS and methods without a handler are
// told what there is.
func Serve(w http.ResponseWriter, r *http.Request, methods map[string]http.HandlerFunc) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if handler := methods[method]; handler != nil {
		handler(w, r)
		return
	}
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if methods[method] == nil {
			continue
		}
		if allow = append(allow, method); method == http.MethodGet {
			allow = append(allow, http.MethodHead)
		}
	}
	text := strings.Join(append(allow, http.MethodOptions), ", ")
	w.Header().Set("Allow", text)
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	Refuse(w, &Error{Status: http.StatusMethodNotAllowed, Detail: "Not here: the methods are " + text})
}

// Preferred returns which of the media types the Accept header likes best: of equals the one offered first, which is
// also the answer to none, to one that cannot be read, and to one that wants something else altogether.
func Preferred(h http.Header, offered ...string) string {
	best, most := offered[0], 0.0
	for _, mediaType := range offered {
		if q := quality(h.Values("Accept"), mediaType); q > most {
			best, most = mediaType, q
		}
	}
	return best
}

// quality is how much a media type is wanted (RFC 9110, 12.5.1): the most specific range that has it decides.
func quality(accept []string, mediaType string) float64 {
	kind, _, _ := strings.Cut(mediaType, "/")
	ranges := []string{"*/*", kind + "/*", mediaType}
	q, specific := 0.0, -1
	for _, element := range strings.Split(strings.Join(accept, ","), ",") {
		parts := strings.Split(element, ";")
		if i := slices.Index(ranges, strings.ToLower(strings.TrimSpace(parts[0]))); i > specific {
			q, specific = weight(parts[1:]), i
		}
	}
	return q
}
