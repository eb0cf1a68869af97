package consumer_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent/bearer"
)

// Whose token a push carries, and how: the status, the challenge, and nothing of the token in what is
// answered or logged.
func TestTokensOfPushes(t *testing.T) {
	d := newDoor(t, newFeed(t, nil, "Property"))
	foreign := newDoor(t, newFeed(t, nil, "Property"))
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d.Logger, d.feed.Logger = logger, logger
	expired, _, err := d.Authority.Issue(t.Context(), bearer.Token{Audience: bearer.Push("mls"), Expires: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	revoked, issued, err := d.Authority.Issue(t.Context(), bearer.Token{Audience: bearer.Push("mls")})
	if err != nil {
		t.Fatal(err)
	}
	if w := d.push(event(1, "Property", "a"), "Authorization", "Bearer "+revoked); w.Code != 200 {
		t.Fatal(w.Code)
	}
	if err := d.Authority.Revoke(t.Context(), issued.ID); err != nil {
		t.Fatal(err)
	}
	const invalid, anonymous = `Bearer realm="resosync", error="invalid_token"`, `Bearer realm="resosync"`
	for name, c := range map[string]struct {
		authorization []string
		status        int
		challenge     string
	}{
		"none":                 {nil, 401, anonymous},
		"empty":                {[]string{""}, 401, invalid},
		"no token":             {[]string{"Bearer"}, 401, invalid},
		"spaces for a token":   {[]string{"Bearer    "}, 401, invalid},
		"another scheme":       {[]string{"Basic " + d.token}, 401, invalid},
		"no scheme":            {[]string{d.token}, 401, invalid},
		"a tab":                {[]string{"Bearer\t" + d.token}, 401, invalid},
		"two headers":          {[]string{"Bearer " + d.token, "Bearer " + d.token}, 401, invalid},
		"good and bad":         {[]string{"Bearer " + d.token, "Bearer forged"}, 401, invalid},
		"a list":               {[]string{"Bearer " + d.token + ", Bearer " + d.token}, 401, invalid},
		"quoted":               {[]string{`Bearer "` + d.token + `"`}, 401, invalid},
		"two tokens":           {[]string{"Bearer " + d.token + " " + d.token}, 401, invalid},
		"cut":                  {[]string{"Bearer " + d.token[:len(d.token)-3]}, 401, invalid},
		"longer":               {[]string{"Bearer " + d.token + "AAAA"}, 401, invalid},
		"huge":                 {[]string{"Bearer " + strings.Repeat(d.token+".", 200)}, 401, invalid},
		"of another agent":     {[]string{"Bearer " + foreign.token}, 401, invalid},
		"expired":              {[]string{"Bearer " + expired}, 401, invalid},
		"revoked":              {[]string{"Bearer " + revoked}, 401, invalid},
		"of the API":           {[]string{"Bearer " + d.issue(t, bearer.API)}, 403, ""},
		"of another feed":      {[]string{"Bearer " + d.issue(t, bearer.Push("other"))}, 403, ""},
		"of a feed like it":    {[]string{"Bearer " + d.issue(t, bearer.Push("mls2"))}, 403, ""},
		"good":                 {[]string{"Bearer " + d.token}, 200, ""},
		"lower case":           {[]string{"bearer " + d.token}, 200, ""},
		"upper case":           {[]string{"BEARER " + d.token}, 200, ""},
		"white space about it": {[]string{"Bearer   " + d.token + "  "}, 200, ""},
	} {
		r := httptest.NewRequest(http.MethodPost, "/webhooks/mls", strings.NewReader(event(7, "Property", "x")))
		r.Header["Authorization"] = c.authorization
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		before := len(inbox(t, d.feed))
		d.ServeHTTP(w, r)
		if w.Code != c.status || w.Header().Get("WWW-Authenticate") != c.challenge {
			t.Errorf("%s: %d %q, want %d %q", name, w.Code, w.Header().Get("WWW-Authenticate"), c.status, c.challenge)
		}
		if c.status != 200 && len(inbox(t, d.feed)) != before {
			t.Errorf("%s: stored", name)
		}
		told := log.String() + w.Body.String()
		for _, value := range c.authorization {
			for _, part := range strings.FieldsFunc(value, func(r rune) bool { return r == '.' || r == ' ' }) {
				if len(part) > 12 && strings.Contains(told, part[:12]) {
					t.Errorf("%s: the token is told: %s", name, told)
				}
			}
		}
	}
	if log.Len() > 0 {
		t.Errorf("strangers fill the log: %s", log.String())
	}
}

// A token ends in the middle of a stream of pushes: at its time, with the leeway, or at once when revoked.
func TestTokenEndsBetweenPushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		defer s.Close()
		d := newDoor(t, newFeedOn(s, nil))
		var err error
		if d.token, _, err = d.Authority.Issue(t.Context(), bearer.Token{Audience: bearer.Push("mls"), Expires: time.Now().Add(10 * time.Minute)}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for n := int64(1); ; n++ {
			w := d.push(event(n, "Property", "a"))
			if w.Code == 401 {
				break
			}
			if w.Code != 200 {
				t.Fatal(w.Code)
			}
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took != 11*time.Minute {
			t.Errorf("refused after %s", took)
		}
	})
}
