package main_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestRevokedFollows: whoever revokes a token, or a client, ends the sessions and channels that were got with it, whose
// URLs need no token. One of them is held open meanwhile.
func TestRevokedFollows(t *testing.T) {
	t.Parallel()
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", subscribeConfig(address))
	s.pipe(listings, "import", "--resource", "Property", "-").must(t, 0, "3 new", "import")
	s.agent(address)
	for _, whole := range []bool{false, true} {
		var issued struct {
			Token  string `json:"token"`
			Issued struct {
				ID string `json:"id"`
			} `json:"issued"`
		}
		text := s.must(0, `"token"`, "token", "issue", "--client", "vendor", "--json").stdout
		if err := json.Unmarshal([]byte(text), &issued); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		session, realtime := eared(t, address, issued.Token)
		if status, body, _ := request(t, "GET", address, session+"?last_event=0", "", ""); status != http.StatusOK {
			t.Errorf("%d %s", status, body)
		}
		if _, body, _ := request(t, "GET", address, realtime+"&stream_position=0", "", ""); !strings.Contains(body, "new_change") {
			t.Error(body)
		}
		held := make(chan int)
		go func() {
			status, _, _ := request(t, "GET", address, session+"?last_event=1000", "", "")
			held <- status
		}()
		if whole {
			s.must(0, `revoked client vendor`, "client", "revoke", "vendor")
		} else {
			s.must(0, `revoked`, "token", "revoke", issued.Issued.ID)
		}
		if status := <-held; status != http.StatusNotFound {
			t.Errorf("client %v: who listens is answered %d", whole, status)
		}
		if status, body, _ := request(t, "GET", address, session+"?last_event=0", "", ""); status != http.StatusNotFound {
			t.Errorf("client %v: the session: %d %s", whole, status, body)
		}
		if _, body, _ := request(t, "GET", address, realtime+"&stream_position=0", "", ""); !strings.Contains(body, "reconnect") {
			t.Errorf("client %v: the channel: %s", whole, body)
		}
	}
}

// eared makes a session and a channel, and returns the paths of their events.
func eared(t *testing.T, address, token string) (session, realtime string) {
	t.Helper()
	var made struct{ Token string }
	var channel struct {
		Entries []struct{ URL string }
	}
	for path, into := range map[string]any{"/api/sessions": &made, "/2.0/events": &channel} {
		method := map[string]string{"/api/sessions": "POST", "/2.0/events": "OPTIONS"}[path]
		status, body, _ := request(t, method, address, path, token, "")
		if err := json.Unmarshal([]byte(body), into); err != nil || status != http.StatusOK {
			t.Fatalf("%s %s: %d %s", method, path, status, body)
		}
	}
	return "/api/sessions/" + made.Token + "/events", strings.TrimPrefix(channel.Entries[0].URL, "http://"+address)
}

// TestSuspensionReachesSessions: who listens to a session of a subscription's client hears that it was suspended.
func TestSuspensionReachesSessions(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }))
	t.Cleanup(gone.Close)
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", subscribeConfig(address))
	token := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
	s.agent(address)
	session, _ := eared(t, address, token)
	id := strings.TrimSpace(s.must(0, `^[0-9a-f-]{36}\n`, "subscribe", gone.URL, "--client", "vendor").stdout)
	s.pipe(`{"ListingKey":"1"}`, "import", "--resource", "Property", "-").must(t, 0, "1 new", "import")
	until(t, func() (string, bool) {
		_, body, _ := request(t, "GET", address, session+"?last_event=0", "", "")
		return body, strings.Contains(body, `"type":"status"`) && strings.Contains(body, `"subscription":"`+id+`"`) && strings.Contains(body, `"status":"suspended"`)
	})
}
