package box

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// codes are what that API calls a status.
var codes = map[int]string{
	http.StatusBadRequest:          "bad_request",
	http.StatusUnauthorized:        "unauthorized",
	http.StatusForbidden:           "forbidden",
	http.StatusNotFound:            "not_found",
	http.StatusMethodNotAllowed:    "method_not_allowed",
	http.StatusRequestTimeout:      "request_timeout",
	http.StatusGone:                "gone",
	http.StatusRequestURITooLong:   "uri_too_long",
	http.StatusTooManyRequests:     "too_many_requests",
	http.StatusInternalServerError: "internal_server_error",
	http.StatusServiceUnavailable:  "unavailable",
}

// Refuse answers with an error as that API words it. The message says what to do, and holds nothing internal.
func Refuse(w http.ResponseWriter, status int, message string) {
	code := codes[status]
	if code == "" {
		code = "bad_request"
	}
	reply.Write(w, status, reply.JSON, struct {
		Type      string `json:"type"`
		Status    int    `json:"status"`
		Code      string `json:"code"`
		Message   string `json:"message"`
		RequestID string `json:"request_id"`
	}{"error", status, code, message, w.Header().Get("X-Request-Id")})
}

// fail answers with what an error means to the asker. An answer to one who is gone is aborted.
func (e *Events) fail(w http.ResponseWriter, r *http.Request, err error) {
	var known *reply.Error
	refusal := producer.RefusalOf(err)
	switch {
	case refusal.Status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", producer.Challenge(r))
	case refusal.Status != http.StatusServiceUnavailable || errors.As(err, &known):
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler)
	case !errors.Is(err, entityevent.ErrUnavailable): // that one the store's own door reports
		e.logger().ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	if refusal.Wait > 0 {
		w.Header().Set("Retry-After", reply.Seconds(refusal.Wait))
	}
	Refuse(w, refusal.Status, refusal.Detail)
}

func (e *Events) logger() *slog.Logger {
	if e.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return e.Logger
}
