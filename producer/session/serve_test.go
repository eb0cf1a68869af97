package session_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// TestRows are the exact forms of what is answered.
func TestRows(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	for _, path := range []string{"/api/sessions", "/api/sessions/"} {
		a := s.do("POST", path, "", "Authorization: Bearer all")
		if h := a.header; a.status != 200 || h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" ||
			!regexp.MustCompile(`^\{"token":"[A-Z2-7]{26}"\}$`).MatchString(a.body) {
			t.Errorf("%s: %d %v %s", path, a.status, h, a.body)
		}
	}
	events := s.open("all")
	a := s.do("POST", events, `{"type": "status", "data": "paused"}`) // without a token: the URL is the credential
	if h := a.header; a.status != 200 || h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || a.body != `{"type":"status","data":"paused","number":1}` {
		t.Errorf("%d %v %s", a.status, h, a.body)
	}
	put(t, s.store, "Property", 1)
	s.do("POST", events, `{"type": "a \"b\"", "data": {"x": [1, null]}, "number": 70, "more": 1}`)
	want := fmt.Sprintf(`[{"type":"status","data":"paused","number":1},`+
		`{"type":"entity_event","data":{"EntityEventSequence":1,"ResourceName":"Property","ResourceRecordKey":"k%d"},"number":2},`+
		`{"type":"a \"b\"","data":{"x":[1,null]},"number":3}]`, keys.Load())
	for _, path := range []string{events, events + "/"} {
		a = s.do("GET", path+"?last_event=0", "")
		if h := a.header; a.status != 200 || h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || a.body != want {
			t.Errorf("%d %v %s", a.status, h, a.body)
		}
	}
	if got := texts(s.get(events, 2)); got != `3:a "b"={"x":[1,null]}` {
		t.Errorf("after 2: %s", got)
	}
	for _, query := range []string{"", "?last_event=0", "?last_event=99"} { // never held
		if a := s.do("HEAD", events+query, ""); a.status != 200 || a.body != "" {
			t.Errorf("HEAD %s: %d %s", query, a.status, a.body)
		}
	}
	for target, allow := range map[string]string{"/api/sessions": "POST, OPTIONS", events: "GET, HEAD, POST, OPTIONS"} {
		if a := s.do("OPTIONS", target, ""); a.status != 204 || a.header.Get("Allow") != allow || a.body != "" {
			t.Errorf("OPTIONS %s: %d %v", target, a.status, a.header)
		}
		if a := s.do("DELETE", target, ""); a.status != 405 || a.header.Get("Allow") != allow {
			t.Errorf("DELETE %s: %d %v", target, a.status, a.header)
		}
	}
}

// TestContentTypes are those under which an event is taken.
func TestContentTypes(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	events := s.open("all")
	for i, kind := range []string{"application/json", "application/json; charset=utf8", "application/cloudevents+json", "text/plain;charset=UTF-8", "Text/Plain"} {
		a := s.do("POST", events, `{"type":"status","data":"running"}`, "Content-Type: "+kind)
		if want := fmt.Sprintf(`{"type":"status","data":"running","number":%d}`, i+1); a.status != 200 || a.body != want {
			t.Errorf("%q: %d %s", kind, a.status, a.body)
		}
	}
}

// TestProblems are problem documents.
func TestProblems(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	events := s.open("all")
	for _, c := range []struct {
		method, target, header, body string
		status                       int
		name, value                  string
	}{
		{"POST", "/api/sessions", "", "", 401, "WWW-Authenticate", `Bearer realm="resosync"`},
		{"POST", "/api/sessions", "Authorization: Bearer x", "", 401, "WWW-Authenticate", `Bearer realm="resosync", error="invalid_token"`},
		{"POST", "/api/sessions", "Authorization: Bearer reader", "", 403, "", ""},
		{"GET", "/api/sessions", "", "", 405, "Allow", "POST, OPTIONS"},
		{"GET", "/api/sessions/x/events", "", "", 404, "", ""},
		{"GET", "/api/sessions/x/events?last_event=0", "", "", 404, "", ""},
		{"POST", "/api/sessions/x/events", "", `{"type":"t","data":1}`, 404, "", ""},
		{"POST", "/api/sessions/x/events", "", `{`, 404, "", ""},
		{"GET", "/api/sessions/x", "", "", 404, "", ""},
		{"GET", "/api/sessions//events", "", "", 404, "", ""},
		{"GET", events + "/1", "", "", 404, "", ""},
		{"GET", events + "?last_event=x", "", "", 400, "", ""},
		{"GET", events + "?last_event=-1", "", "", 400, "", ""},
		{"GET", events + "?last_event=9223372036854775808", "", "", 400, "", ""},
		{"POST", events, "", ``, 400, "", ""},
		{"POST", events, "", `{"type":"t","data":1`, 400, "", ""},
		{"POST", events, "", `{"type":"t","data":1}{}`, 400, "", ""},
		{"POST", events, "", `[]`, 400, "", ""},
		{"POST", events, "", `null`, 400, "", ""},
		{"POST", events, "", `"t"`, 400, "", ""},
		{"POST", events, "", `{"data":1}`, 400, "", ""},
		{"POST", events, "", `{"type":"t"}`, 400, "", ""},
		{"POST", events, "", `{"type":5,"data":1}`, 400, "", ""},
		{"POST", events, "", `{"type":null,"data":1}`, 400, "", ""},
		{"POST", events, "", `{"type":"","data":1}`, 400, "", ""},
		{"POST", events, "", `{"type":"` + strings.Repeat("t", 256) + `","data":1}`, 400, "", ""},
		{"POST", events, "", "{\"type\":\"t\",\"data\":\"\xff\"}", 400, "", ""},
		{"POST", events, "", "{\"type\":\"\xff\",\"data\":1}", 400, "", ""},
		{"POST", events, "", `{"type":"\ud800","data":1}`, 400, "", ""},
		{"POST", events, "", `{"type":"t","data":"` + strings.Repeat("x", 16<<10) + `"}`, 413, "", ""},
		{"POST", events, "Content-Type: text/html", `{"type":"t","data":1}`, 415, "", ""},
		{"POST", events, "Content-Encoding: gzip", `{"type":"t","data":1}`, 415, "", ""},
	} {
		a := s.do(c.method, c.target, c.body, c.header)
		var got struct {
			Type, Title, Detail, Instance string
			Status                        int
		}
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Errorf("%s %s %s: %v: %s", c.method, c.target, c.body, err, a.body)
		}
		if a.status != c.status || got.Status != c.status || got.Type != "about:blank" || got.Title == "" || got.Detail == "" || got.Instance != "urn:request-id:request-1" ||
			a.header.Get("Content-Type") != "application/problem+json" || c.name != "" && a.header.Get(c.name) != c.value {
			t.Errorf("%s %s %.200s: %d %v %s", c.method, c.target, c.body, a.status, a.header, a.body)
		}
	}
	if n := s.post(events, "1"); n != 1 {
		t.Errorf("what was refused has a number: the first is %d", n)
	}
}

// TestAnonymous: without a token only where it is configured, and with the eyes that are configured.
func TestAnonymous(t *testing.T) {
	store := openStore(t)
	masks, err := store.SetProfiles(t.Context(), []entityevent.Profile{{Name: "idx", Resources: map[string]entityevent.Access{"Media": {}}}})
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, store, gate{})
	s.sessions.Anonymous = &producer.Client{Mask: masks["idx"]}
	a := s.do("POST", "/api/sessions", "")
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	events := eventsOf(t, a.body)
	put(t, store, "Property", 3)
	seen := put(t, store, "Media", 1)
	if got, want := texts(s.get(events, 0)), fmt.Sprintf("1:log=%d", seen[0]); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if a := s.do("POST", "/api/sessions", "", "Authorization: Bearer x"); a.status != 401 {
		t.Errorf("with a token that is not accepted: %d", a.status)
	}
	s.sessions.End("") // ends clients, and no anonymous ones
	if got := len(s.get(events, 0)); got != 1 {
		t.Errorf("%d events", got)
	}
}

// TestDataComesAsItWasPosted, in meaning and with all its digits.
func TestDataComesAsItWasPosted(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	events := s.open("all")
	for _, data := range []string{
		`"text"`, `null`, `true`, `0`, `-0.0`, `9007199254740993`, `123456789012345678901234567890`, `1.10`, `1e-400`, `""`, `[]`, `{}`,
		`{"b":1,"a":2,"b":3}`, `"<&>"`, `"\u003c\u2028\ud83d\ude00\ud800"`, `"` + "é\u2028" + `"`, strings.Repeat("[", 500) + strings.Repeat("]", 500),
	} {
		n := s.post(events, " "+data+" ")
		if got := s.get(events, n-1); len(got) != 1 || string(got[0].Data) != data || got[0].Number != n {
			t.Errorf("%s became %s", data, texts(got))
		}
	}
}
