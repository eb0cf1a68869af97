package producer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	writing "github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

func TestRefuse(t *testing.T) {
	for _, c := range []struct {
		err           error
		authorization string
		status        int
		header        string // and its value
		logged        bool
	}{
		{bearer.ErrUnauthorized, "", 401, `Www-Authenticate: Bearer realm="resosync"`, false},
		{fmt.Errorf("x: %w", bearer.ErrUnauthorized), "Bearer x", 401, `Www-Authenticate: Bearer realm="resosync", error="invalid_token"`, false},
		{producer.ErrForbidden, "Bearer x", 403, "", false},
		{bearer.ErrAudience, "Bearer x", 403, "", false},
		{fmt.Errorf("x: %w", entityevent.ErrUnavailable), "Bearer x", 503, "Retry-After: 5", false},
		{errors.New("internal text"), "Bearer x", 503, "Retry-After: 5", true},
		{&writing.Error{Status: 422, Detail: "internal text that is none"}, "Bearer x", 422, "", false},
		{&writing.Error{Status: 503, Detail: "full", Wait: 3e9}, "Bearer x", 503, "Retry-After: 3", false},
	} {
		var log bytes.Buffer
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		w := httptest.NewRecorder()
		producer.Refuse(w, r, c.err, slog.New(slog.NewTextHandler(&log, nil)))
		name, value, _ := strings.Cut(c.header, ": ")
		if w.Code != c.status || w.Header().Get(name) != value || w.Header().Get("Content-Type") != writing.Problem {
			t.Errorf("%v: %d %v", c.err, w.Code, w.Header())
		}
		if c.logged != (log.Len() > 0) || c.logged && strings.Contains(w.Body.String(), "internal") {
			t.Errorf("%v: logged %q, said %s", c.err, log.String(), w.Body)
		}
	}
}

func TestRefuseWhoIsGone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	defer func() {
		if got, _ := recover().(error); !errors.Is(got, http.ErrAbortHandler) {
			t.Errorf("%v", got)
		}
	}()
	producer.Refuse(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil), context.Canceled, nil)
	t.Error("it was answered")
}
