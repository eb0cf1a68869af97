package producer

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/reply"
)

// RefusalOf is what an error means to whoever asked for something that is not OData. No internal text leaves with it.
func RefusalOf(err error) *reply.Error {
	var refusal *reply.Error
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, bearer.ErrUnauthorized):
		return &reply.Error{Status: http.StatusUnauthorized, Detail: "A valid bearer token is needed"}
	case errors.Is(err, ErrForbidden), errors.Is(err, bearer.ErrAudience):
		return &reply.Error{Status: http.StatusForbidden, Detail: "The token does not allow this"}
	}
	return &reply.Error{Status: http.StatusServiceUnavailable, Detail: "The store cannot answer now. Try again.", Wait: 5 * time.Second}
}

// Refuse answers r with a problem document, and logs an error that is not the asker's. An answer to one who is gone is
// aborted.
func Refuse(w http.ResponseWriter, r *http.Request, err error, logger *slog.Logger) {
	refusal := RefusalOf(err)
	switch refusal.Status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", Challenge(r))
	case http.StatusServiceUnavailable:
		var known *reply.Error
		if errors.As(err, &known) {
			break
		}
		if r.Context().Err() != nil {
			panic(http.ErrAbortHandler) // the client is gone
		}
		if logger != nil && !errors.Is(err, entityevent.ErrUnavailable) { // that one the store's own door reports
			logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		}
	}
	reply.Refuse(w, refusal)
}

// Challenge is the WWW-Authenticate of a request that is not admitted (RFC 6750, 3).
func Challenge(r *http.Request) string {
	text := `Bearer realm="resosync"`
	if r.Header.Get("Authorization") != "" {
		text += `, error="invalid_token"`
	}
	return text
}
