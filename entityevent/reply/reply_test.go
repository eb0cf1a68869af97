package reply_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent/reply"
)

func TestPreferred(t *testing.T) {
	for accept, want := range map[string]string{
		"":                       reply.HAL,
		"*/*":                    reply.HAL,
		"application+json":       reply.HAL,
		"text/html":              reply.HAL,
		"application/json":       reply.JSON,
		"application/JSON;q=0.5": reply.JSON,
		"application/hal+json;q=0.5, application/json;q=0.6":   reply.JSON,
		"application/hal+json;q=0.5, */*;q=0.6":                reply.JSON,
		"application/json;q=0.5, application/*;q=0.4":          reply.JSON,
		"application/json, application/hal+json":               reply.HAL,
		"application/json;q=x":                                 reply.HAL,
		"application/hal+json;q=0, application/*":              reply.JSON,
		"application/json; charset=utf-8; q=0.9, text/*;q=1.0": reply.JSON,
	} {
		if got := reply.Preferred(http.Header{"Accept": {accept}}, reply.HAL, reply.JSON); got != want {
			t.Errorf("%q: %s, want %s", accept, got, want)
		}
	}
}

func TestServe(t *testing.T) {
	methods := map[string]http.HandlerFunc{
		http.MethodGet:  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) },
		http.MethodPost: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) },
	}
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 201, "OPTIONS": 204, "PUT": 405, "BREW": 405} {
		w := httptest.NewRecorder()
		reply.Serve(w, httptest.NewRequest(method, "/", nil), methods)
		if w.Code != want {
			t.Errorf("%s: %d, want %d", method, w.Code, want)
		}
		if allow := w.Header().Get("Allow"); (want == 204 || want == 405) != (allow == "GET, HEAD, POST, OPTIONS") {
			t.Errorf("%s: Allow: %s", method, allow)
		}
	}
}

func TestRefuse(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("X-Request-Id", "a b")
	reply.Refuse(w, &reply.Error{Status: http.StatusTooManyRequests, Detail: "slower", Wait: 1500 * time.Millisecond, Members: map[string]any{"status": "nonsense", "limit": 3}})
	const want = `{"detail":"slower","instance":"urn:request-id:a%20b","limit":3,"status":429,"title":"Too Many Requests","type":"about:blank"}`
	if got := strings.TrimSpace(w.Body.String()); got != want {
		t.Errorf("%s", got)
	}
	if h := w.Header(); w.Code != 429 || h.Get("Content-Type") != reply.Problem || h.Get("Retry-After") != "2" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", w.Code, h)
	}
}

func TestRead(t *testing.T) {
	for coding, want := range map[string]int{"identity": 0, "gzip": 415, "br": 415} { // of what is JSON and of what is not
		for _, body := range []string{`{}`, "\x1f\x8b"} {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
			r.Header.Set("Content-Encoding", coding)
			var refusal *reply.Error
			if err := reply.Read(r, 64, &struct{}{}); want != 0 && (!errors.As(err, &refusal) || refusal.Status != want) || want == 0 && body == `{}` && err != nil {
				t.Errorf("%s: %v", coding, err)
			}
		}
	}
	for _, c := range []struct {
		kind, body string
		want       int // 0: it is taken
	}{
		{"application/json", `{"n": 3, "other": 1}`, 0},
		{"", `{"n": 3}`, 0},
		{"application/vnd.x+json; charset=utf-8", `{"n": 3}`, 0},
		{"text/plain", `{"n": 3}`, 415},
		{"application/json", `{"n": "3"}`, 400},
		{"application/json", `{"n": 3`, 400},
		{"application/json", ``, 400},
		{"application/json", `{"n": 3} {}`, 400},
		{"application/json", `{"n":` + strings.Repeat(" ", 100) + `3}`, 413},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		var into struct {
			N int `json:"n"`
		}
		err := reply.Read(r, 64, &into)
		var refusal *reply.Error
		switch {
		case c.want == 0 && (err != nil || into.N != 3):
			t.Errorf("%s: %v, %d", c.body, err, into.N)
		case c.want != 0 && (!errors.As(err, &refusal) || refusal.Status != c.want):
			t.Errorf("%s %q: %v, want %d", c.kind, c.body, err, c.want)
		}
	}
}

// TestWrite: a URL reads as it is, and what is no JSON is no answer.
func TestWrite(t *testing.T) {
	for _, c := range []struct {
		body             any
		status           int
		mediaType, start string
	}{
		{"https://h/?a=1&b=<x>", 200, reply.JSON, `"https://h/?a=1&b=<x>"` + "\n"},
		{func() {}, 500, reply.Problem, `{"type":"about:blank"`},
	} {
		w := httptest.NewRecorder()
		reply.Write(w, 200, reply.JSON, c.body)
		if h := w.Header(); w.Code != c.status || h.Get("Content-Type") != c.mediaType || h.Get("Cache-Control") != "no-store" || !strings.HasPrefix(w.Body.String(), c.start) {
			t.Errorf("%d %v %s", w.Code, h, w.Body)
		}
	}
}

func TestHref(t *testing.T) {
	for root, want := range map[string]string{
		"": "/tasks/1", "https://h": "/tasks/1", "https://h:8443": "/tasks/1", "https://h/reso": "/reso/tasks/1", "http://h/a%20b/c": "/a%20b/c/tasks/1",
	} {
		if got := reply.Href(root, "/tasks/1"); got != want {
			t.Errorf("%q: %s, want %s", root, got, want)
		}
	}
}
