package reply

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Error is an error that is answered with a problem document. Its detail is for the people of whoever asked: it holds
// no secrets and nothing internal, and says what to do.
type Error struct {
	Status  int
	Detail  string
	Type    string         // a URI. Default about:blank, with the status as title.
	Title   string         // Default the status's.
	Wait    time.Duration  // Retry-After; 0: none
	Members map[string]any // beside those of every problem document
}

func (r *Error) Error() string { return r.Detail }

// Refuse answers with a problem document. It names the occurrence by the request, as the log does.
func Refuse(w http.ResponseWriter, r *Error) {
	h := w.Header()
	if r.Wait > 0 {
		h.Set("Retry-After", Seconds(r.Wait))
	}
	document := map[string]any{}
	for name, value := range r.Members {
		document[name] = value
	}
	document["type"], document["title"], document["status"], document["detail"] = "about:blank", http.StatusText(r.Status), r.Status, r.Detail
	if r.Type != "" {
		document["type"] = r.Type
	}
	if r.Title != "" {
		document["title"] = r.Title
	}
	if id := h.Get("X-Request-Id"); id != "" {
		document["instance"] = "urn:request-id:" + url.PathEscape(id)
	}
	Write(w, r.Status, Problem, document)
}

// Seconds writes a wait as a header has it: whole seconds, at least one.
func Seconds(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}

// weight reads the q of a media range; one that cannot be read counts as none.
func weight(parameters []string) float64 {
	for _, parameter := range parameters {
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		q, err := strconv.ParseFloat(value, 64)
		if err != nil || q < 0 || q > 1 {
			return 0
		}
		return q
	}
	return 1
}

// Read reads a body of JSON, at most limit bytes, into v; members that v does not have are ignored. Its error is an *Error:
// 400, 413 or 415. JSON may also be said to be of one of the other kinds, in lower case.
func Read(r *http.Request, limit int64, v any, others ...string) error {
	if kind := r.Header.Get("Content-Type"); kind != "" && !IsJSON(kind) && !slices.Contains(others, mediaType(kind)) {
		return &Error{Status: http.StatusUnsupportedMediaType, Detail: "The body must be application/json"}
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return &Error{Status: http.StatusUnsupportedMediaType, Detail: "The body must be as it is, without Content-Encoding"}
	}
	raw, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &Error{Status: http.StatusRequestEntityTooLarge, Detail: "The body is larger than " + strconv.FormatInt(limit, 10) + " bytes"}
	case err != nil:
		return &Error{Status: http.StatusBadRequest, Detail: "The body ended early"}
	case !utf8.Valid(raw):
		return &Error{Status: http.StatusBadRequest, Detail: "The body is not UTF-8"}
	}
	if err := json.Unmarshal(raw, v); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) && kind.Field != "" {
			return &Error{Status: http.StatusBadRequest, Detail: "The member " + kind.Field + " may not be a JSON " + kind.Value}
		}
		return &Error{Status: http.StatusBadRequest, Detail: "The body is not a JSON object as it is described in /openapi.json"}
	}
	return nil
}

// IsJSON says whether a Content-Type is application/json or application/*+json. A charset says nothing: JSON is UTF-8
// (RFC 8259, 8.1 and 11), and not a few send a wrong one.
func IsJSON(contentType string) bool {
	kind := mediaType(contentType)
	return kind == JSON || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")
}

func mediaType(contentType string) string {
	kind, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(kind))
}
