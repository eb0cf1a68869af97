package consumer_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
)

// granting is a producer that gives tokens for a secret, and takes only the newest.
type granting struct {
	t       *testing.T
	src     http.Handler
	life    int // of a token, in seconds
	given   int
	asked   []time.Time
	refuse  int                   // how many requests for a token are answered so
	with    http.HandlerFunc      // … by this
	current string                // the token that is taken
	spoil   func(r *http.Request) // called for each request with a token
}

func (g *granting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/oauth/token" {
		if strings.Contains(r.Header.Get("Authorization"), "hush") {
			g.t.Error("the secret was sent to the service root")
		}
		if g.spoil != nil {
			g.spoil(r)
		}
		if r.Header.Get("Authorization") != "Bearer "+g.current {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error":{"code":"401","message":"no"}}`))
			return
		}
		g.src.ServeHTTP(w, r)
		return
	}
	g.asked = append(g.asked, time.Now())
	if g.refuse > 0 {
		g.refuse--
		g.with(w, r)
		return
	}
	user, password, ok := r.BasicAuth()
	if !ok { // the other way to send it, which is tried when the first fails
		user, password = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	if user != "us" || password != "hush" || r.Method != http.MethodPost || r.FormValue("grant_type") != "client_credentials" {
		g.t.Errorf("asked for a token with %s %v %v", r.Method, r.Header, r.Form)
	}
	g.given++
	g.current = fmt.Sprintf("token-%d", g.given)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": g.current, "token_type": "Bearer", "expires_in": g.life})
}

func (g *granting) feed(t *testing.T, log *bytes.Buffer) *consumer.Feed {
	f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host != "mls.test" {
			t.Errorf("asked %s", r.URL)
		}
		if r.Body != nil {
			defer r.Body.Close()
		}
		recorder := httptest.NewRecorder()
		g.ServeHTTP(recorder, r)
		resp := recorder.Result()
		resp.Request = r
		return resp, nil
	}), "Property")
	f.Token, f.ClientID, f.ClientSecret, f.TokenURL = "", "us", "hush", "http://mls.test/oauth/token"
	f.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return f
}

// A feed with a secret loads and follows with tokens that it gets: one for many requests, the next before its
// end, and another at once when one is refused before.
func TestClientCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		g := &granting{t: t, src: src, life: 900}
		var log bytes.Buffer
		f := g.feed(t, &log)
		catchUp(t, f)
		equal(t, src, f.Store)
		if g.given != 1 {
			t.Errorf("%d tokens for one load", g.given)
		}
		time.Sleep(900*time.Second - time.Minute + time.Second)
		src.put("Property", "P0001", property("P0001", 7))
		catchUp(t, f)
		if g.given != 2 {
			t.Errorf("%d tokens when the first is about to end, want 2", g.given)
		}
		g.current = "another" // as a revocation does it
		src.put("Property", "P0002", property("P0002", 8))
		catchUp(t, f)
		equal(t, src, f.Store)
		if g.given != 3 {
			t.Errorf("%d tokens after one that was refused, want 3", g.given)
		}
		if strings.Contains(log.String(), "hush") || strings.Contains(log.String(), "token-") {
			t.Errorf("a secret is logged: %s", log.String())
		}
	})
}

// A token that lives for less than the time that is kept free before its end still serves some requests.
func TestShortTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		g := &granting{t: t, src: src, life: 60}
		f := g.feed(t, new(bytes.Buffer))
		catchUp(t, f)
		if g.given != 1 {
			t.Errorf("%d tokens", g.given)
		}
	})
}

// A secret that is refused is asked with once for each of the two ways to send it, and told as what it is; a
// server that fails is asked again, and one that wants no requests gets none meanwhile.
func TestTokenRefusals(t *testing.T) {
	refusal := func(status int, body string, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, c := range map[string]struct {
		with  http.HandlerFunc
		times int
		want  string // part of the error; "": none
		least time.Duration
	}{
		"invalid_client":   {refusal(401, `{"error":"invalid_client","error_description":"hush"}`), 100, "invalid_client", 0},
		"400":              {refusal(400, `{"error":"invalid_client"}`), 100, "401", 0},
		"html":             {refusal(404, `<html>hush`), 100, "404", 0},
		"no token":         {refusal(200, `{"hush":1}`), 100, "token", 0},
		"redirect":         {refusal(307, ``, "Location", "http://elsewhere.test/"), 100, "307", 0},
		"an odd code":      {refusal(401, `{"error":"hush <b>"}`), 100, "no error of OAuth2", 0},
		"forbidden":        {refusal(403, `{"error":"access_denied"}`), 100, "403", 0},
		"fails for a time": {refusal(500, ``), 3, "", 0},
		"wants fewer":      {refusal(429, ``, "Retry-After", "120"), 1, "", 120 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", 2)
				g := &granting{t: t, src: src, life: 900, refuse: c.times, with: c.with}
				var log bytes.Buffer
				f := g.feed(t, &log)
				begun := time.Now()
				err := f.Sync(t.Context(), consumer.SyncOptions{}, nil)
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Fatalf("%v", err)
				}
				if c.want != "" && len(g.asked) > 8 {
					t.Errorf("asked %d times in vain", len(g.asked))
				}
				if took := time.Since(begun); took < c.least {
					t.Errorf("asked again after %v", took)
				}
				if text := log.String() + fmt.Sprint(err); strings.Contains(text, "hush") || strings.Contains(text, "/oauth/token") {
					t.Errorf("told: %s", text)
				}
			})
		})
	}
}

// A token that is refused however new it is costs two requests, not a storm of them.
func TestTokenThatIsNeverTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &granting{t: t, src: filled("log-1/all", 2), life: 900}
		g.spoil = func(*http.Request) { g.current = "none of those" }
		f := g.feed(t, new(bytes.Buffer))
		if err := f.Sync(t.Context(), consumer.SyncOptions{}, nil); err == nil || !strings.Contains(err.Error(), "401") {
			t.Fatalf("%v", err)
		}
		if g.given > 4 {
			t.Errorf("%d tokens", g.given)
		}
	})
}
