package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent/bearer"
)

// TestWhereRequestsComeFrom: who is believed, and what.
func TestWhereRequestsComeFrom(t *testing.T) {
	here := netip.MustParsePrefix("127.0.0.0/8")
	net10 := netip.MustParsePrefix("10.0.0.0/8")
	for _, c := range []struct {
		trusted proxies
		peer    string
		header  string // name: value, one a line
		want    string
		here    bool
	}{
		{nil, "192.0.2.1:50", "", "192.0.2.1", false},
		{nil, "127.0.0.1:50", "", "127.0.0.1", true},
		{nil, "[::1]:50", "", "::1", true},
		{nil, "[::ffff:127.0.0.1]:50", "", "127.0.0.1", true},
		{nil, "[fe80::1%eth0]:50", "", "fe80::1", false},
		{nil, "127.0.0.1:50", "X-Forwarded-For: 127.0.0.1", "127.0.0.1", false}, // a proxy here that nobody named
		{nil, "127.0.0.1:50", "Forwarded: for=127.0.0.1", "127.0.0.1", false},
		{nil, "127.0.0.1:50", "Via: 1.1 x", "127.0.0.1", false},
		{nil, "127.0.0.1:50", "X-Real-Ip: 192.0.2.1", "127.0.0.1", false},
		{proxies{net10}, "192.0.2.1:50", "X-Forwarded-For: 198.51.100.7", "192.0.2.1", false}, // no proxy of ours
		{proxies{net10}, "127.0.0.1:50", "X-Forwarded-For: 198.51.100.7", "127.0.0.1", false},
		{proxies{net10}, "10.0.0.1:50", "X-Forwarded-For: 198.51.100.7", "198.51.100.7", false},
		{proxies{net10}, "10.0.0.1:50", "X-Forwarded-For: 127.0.0.1", "127.0.0.1", false}, // that machine, not this one
		{proxies{net10}, "10.0.0.1:50", "X-Forwarded-For: 203.0.113.9, 198.51.100.7", "198.51.100.7", false},
		{proxies{net10}, "10.0.0.1:50", "X-Forwarded-For: 203.0.113.9, 198.51.100.7, 10.0.0.2", "198.51.100.7", false},
		{proxies{net10}, "10.0.0.1:50", "X-Forwarded-For: 203.0.113.9\nX-Forwarded-For: 198.51.100.7", "198.51.100.7", false},
		{proxies{net10}, "10.0.0.1:50", "X-Forwarded-For: 10.0.0.3, 10.0.0.2", "10.0.0.3", false},
		{proxies{net10}, "10.0.0.1:50", "X-Forwarded-For: [2001:db8::1]:4711", "2001:db8::1", false},
		{proxies{net10}, "10.0.0.1:50", "X-Forwarded-For: nonsense", "10.0.0.1", false},
		{proxies{net10}, "10.0.0.1:50", "X-Forwarded-For: 198.51.100.7, unknown", "10.0.0.1", false},
		{proxies{net10}, "10.0.0.1:50", `Forwarded: for="[2001:db8::1]:4711";proto=https`, "2001:db8::1", false},
		{proxies{net10}, "10.0.0.1:50", "Forwarded: for=203.0.113.9, For=198.51.100.7;by=10.0.0.1", "198.51.100.7", false},
		{proxies{net10}, "10.0.0.1:50", "Forwarded: proto=https", "10.0.0.1", false},
		{proxies{net10}, "10.0.0.1:50", "Forwarded: for=_hidden", "10.0.0.1", false},
		{proxies{net10}, "10.0.0.1:50", "Forwarded: for=198.51.100.7\nX-Forwarded-For: 198.51.100.7", "198.51.100.7", false},
		{proxies{net10}, "10.0.0.1:50", "Forwarded: for=203.0.113.9\nX-Forwarded-For: 198.51.100.7", "10.0.0.1", false}, // one of the two is invented
		{proxies{net10}, "10.0.0.1:50", "X-Real-Ip: 198.51.100.7", "10.0.0.1", false},
		{proxies{net10}, "10.0.0.1:50", "X-Real-Ip: 198.51.100.7\nX-Forwarded-For: 203.0.113.9, 198.51.100.7", "198.51.100.7", false},
		{proxies{net10}, "10.0.0.1:50", "X-Real-Ip: 198.51.100.7\nX-Forwarded-For: 203.0.113.9", "10.0.0.1", false}, // the proxy sets only one of the two
		{proxies{net10}, "10.0.0.1:50", "X-Real-Ip: 198.51.100.7\nForwarded: for=203.0.113.9", "10.0.0.1", false},
		{proxies{net10}, "10.0.0.1:50", "X-Real-Ip: 10.0.0.2\nX-Forwarded-For: 198.51.100.7, 10.0.0.2", "198.51.100.7", false}, // two proxies
		{proxies{net10}, "10.0.0.1:50", "X-Real-Ip: nonsense\nX-Forwarded-For: 198.51.100.7", "10.0.0.1", false},
		{proxies{net10}, "10.0.0.1:50", "X-Real-Ip: 198.51.100.7\nForwarded: for=198.51.100.7", "198.51.100.7", false},
		{proxies{here}, "127.0.0.1:50", "X-Real-Ip: 203.0.113.9\nX-Forwarded-For: 127.0.0.1", "127.0.0.1", false},
		{proxies{here}, "127.0.0.1:50", "X-Forwarded-For: 198.51.100.7", "198.51.100.7", false},
		{proxies{here}, "127.0.0.1:50", "X-Forwarded-For: 127.0.0.1", "127.0.0.1", true},
		{proxies{here}, "127.0.0.1:50", "Via: 1.1 x", "127.0.0.1", false},
		{proxies{here}, "127.0.0.1:50", "", "127.0.0.1", true},
		{proxies{here}, "in-process", "X-Forwarded-For: 127.0.0.1", "", false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.peer
		for _, line := range strings.Split(c.header, "\n") {
			if name, value, ok := strings.Cut(line, ": "); ok {
				r.Header.Add(name, value)
			}
		}
		if got := c.trusted.source(r); got.text() != c.want || got.here != c.here {
			t.Errorf("%v %s %q: %+v, want %s, here %v", c.trusted, c.peer, c.header, got, c.want, c.here)
		}
	}
}

// fronted is an agent behind its front, asked without a network.
type fronted struct {
	*agent
	front  *front
	logged bytes.Buffer
}

func newFronted(t *testing.T, roles string, handler http.Handler) *fronted {
	t.Helper()
	f := &fronted{agent: openAgent(t, roles)}
	logger := slog.New(requestLog{slog.NewJSONHandler(&f.logged, nil)})
	if handler == nil {
		handler = f.routes(t.Context())
	}
	f.front = newFront(f.config, f.gate, logger, handler)
	return f
}

// ask sends a request: "GET /path", with header lines below it, and perhaps a body after an empty one.
func (f *fronted) ask(t *testing.T, text string) *httptest.ResponseRecorder {
	t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	method, path, _ := strings.Cut(lines[0], " ")
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.1:4711"
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		if r.Header.Add(name, value); name == "Peer" {
			r.RemoteAddr = value
		}
	}
	w := httptest.NewRecorder()
	f.front.ServeHTTP(w, r)
	return w
}

func (f *fronted) token(t *testing.T, client string) string {
	t.Helper()
	signed, _, err := f.authority.Issue(t.Context(), bearer.Token{Audience: bearer.API, Client: client, Scopes: f.gate.clients[client].scopes})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// TestPathsAndMethods asks for OPTIONS, wrong methods and slashes everywhere.
func TestPathsAndMethods(t *testing.T) {
	f := newFronted(t, "producer: {clients: [{name: ops, scopes: [read, admin]}]}\n"+oneFeed, nil)
	token := f.token(t, "ops")
	for _, c := range []struct {
		ask    string
		status int
		allow  string
		kind   string
	}{
		{"OPTIONS /", 204, "GET, HEAD, OPTIONS", ""},
		{"OPTIONS /healthz/", 204, "GET, HEAD, OPTIONS", ""},
		{"OPTIONS /metrics", 204, "GET, HEAD, OPTIONS", ""},
		{"OPTIONS /oauth/token", 204, "POST, OPTIONS", ""},
		{"OPTIONS /webhooks/mls", 204, "POST, OPTIONS", ""},
		{"OPTIONS /odata/EntityEvent", 204, "GET, HEAD, OPTIONS", ""},
		{"OPTIONS /admin/status", 204, "GET, HEAD, OPTIONS", ""},
		{"OPTIONS /admin/tokens", 204, "GET, HEAD, POST, OPTIONS", ""},
		{"OPTIONS /admin/tokens/x/", 204, "DELETE, OPTIONS", ""},
		{"POST /admin/status", 405, "GET, HEAD, OPTIONS", "application/problem+json"},
		{"PUT /admin/tokens", 405, "GET, HEAD, POST, OPTIONS", "application/problem+json"},
		{"GET /admin/import", 405, "POST, OPTIONS", "application/problem+json"},
		{"POST /healthz", 405, "GET, HEAD, OPTIONS", "application/problem+json"},
		{"GET /oauth/token", 405, "POST, OPTIONS", "application/json"},
		{"GET /webhooks/mls", 405, "POST", "application/problem+json"},
		{"GET /admin/status/", 200, "", "application/json"},
		{"HEAD /admin/status", 200, "", "application/json"},
		{"GET /admin//status", 404, "", "application/problem+json"},
		{"GET /admin/../admin/status", 404, "", "application/problem+json"},
		{"GET /admin/nothing", 404, "", "application/problem+json"},
		{"GET /admin", 404, "", "application/problem+json"},
		{"GET /healthz//", 404, "", "application/problem+json"},
		{"GET /oauth", 404, "", "application/problem+json"},
		{"POST /oauth/token/", 400, "", "application/json"},
	} {
		peer := "\nPeer: 127.0.0.1:50"
		w := f.ask(t, c.ask+"\nAuthorization: Bearer "+token+peer)
		if strings.Contains(c.ask, "webhooks") && w.Code == 401 { // it has tokens of its own
			t.Errorf("%s: %d", c.ask, w.Code)
		}
		if got := w.Header(); w.Code != c.status || got.Get("Allow") != c.allow || !strings.HasPrefix(got.Get("Content-Type"), c.kind) || got.Get("X-Request-Id") == "" {
			t.Errorf("%s: %d %v %s, want %d Allow: %s %s", c.ask, w.Code, got, w.Body, c.status, c.allow, c.kind)
		}
	}
}

func TestCORS(t *testing.T) {
	const preflight = "\nAccess-Control-Request-Method: PATCH\nAccess-Control-Request-Headers: authorization, if-match"
	for _, c := range []struct {
		origins, ask string
		status       int
		allow        string
		exposes      bool
	}{
		{"https://app.example", "GET /\nOrigin: https://app.example", 200, "https://app.example", true},
		{"https://app.example", "GET /", 200, "", false},
		{"https://app.example", "GET /\nOrigin: https://evil.example", 200, "", false},
		{"https://app.example", "GET /\nOrigin: https://app.example.evil.example", 200, "", false},
		{"https://app.example", "GET /odata/Property\nOrigin: https://app.example", 401, "https://app.example", true},
		{"https://app.example", "GET /nothing\nOrigin: https://app.example", 404, "https://app.example", true},
		{"https://app.example", "GET /" + strings.Repeat("x", maxURI) + "\nOrigin: https://app.example", 414, "https://app.example", true},
		{"https://app.example", "OPTIONS /odata/Property('1')\nOrigin: https://app.example" + preflight, 204, "https://app.example", false},
		{"https://app.example", "OPTIONS /odata/Property('1')\nOrigin: https://evil.example" + preflight, 204, "", false},
		{"https://app.example", "OPTIONS /odata\nOrigin: https://app.example", 401, "https://app.example", true}, // no preflight
		{"*", "GET /\nOrigin: https://any.example", 200, "*", true},
		{"", "GET /\nOrigin: https://any.example", 200, "", false},
		{"", "OPTIONS /odata/Property\nOrigin: https://any.example" + preflight, 204, "", false},
	} {
		roles := "producer: {clients: [{name: vendor}]}\n"
		if c.origins != "" {
			roles += "cors_origins: ['" + c.origins + "']\n"
		}
		w := newFronted(t, roles, nil).ask(t, c.ask)
		h := w.Header()
		if w.Code != c.status || h.Get("Access-Control-Allow-Origin") != c.allow {
			t.Errorf("%s %.60s: %d %v", c.origins, c.ask, w.Code, h)
		}
		if vary := strings.Contains(strings.Join(h.Values("Vary"), ","), "Origin"); vary != (c.origins != "") {
			t.Errorf("%s %.60s: Vary: %v", c.origins, c.ask, h.Values("Vary"))
		}
		if exposes := strings.Contains(h.Get("Access-Control-Expose-Headers"), "EntityEvent-Log"); exposes != c.exposes {
			t.Errorf("%s %.60s: exposes %v", c.origins, c.ask, h)
		}
		if allowed := c.status == 204 && c.allow != ""; allowed != (h.Get("Access-Control-Allow-Headers") == "authorization, if-match") ||
			allowed != strings.Contains(h.Get("Access-Control-Allow-Methods"), "PATCH") || h.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s %.60s: %v", c.origins, c.ask, h)
		}
	}
}

// A client gets its rate, each for itself, and is told when to come again; who waits so long is served.
func TestRateOfClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFronted(t, "producer: {clients: [{name: a, limits: {rate: 2/s}}, {name: b, limits: {rate: 6/m}}, {name: c}]}", nil)
		for client, c := range map[string]struct {
			burst int
			wait  time.Duration
		}{"a": {2, time.Second}, "b": {1, 10 * time.Second}} {
			ask := "GET /odata/EntityEvent\nAuthorization: Bearer " + f.token(t, client)
			for range 3 {
				for i := range c.burst {
					if w := f.ask(t, ask); w.Code != 200 {
						t.Fatalf("%s, request %d: %d %s", client, i, w.Code, w.Body)
					}
				}
				w := f.ask(t, ask)
				if w.Code != 429 || w.Header().Get("Retry-After") != fmt.Sprint(int(c.wait.Seconds())) || !strings.Contains(w.Body.String(), `{"error":{"code":"429"`) {
					t.Fatalf("%s: %d %v %s", client, w.Code, w.Header(), w.Body)
				}
				time.Sleep(c.wait) // as long as it was told; the rest of the burst is back then
				if c.burst > 1 {
					time.Sleep(time.Second)
				}
			}
		}
		free := "GET /odata/EntityEvent\nAuthorization: Bearer " + f.token(t, "c")
		for range 200 {
			if w := f.ask(t, free); w.Code != 200 {
				t.Fatalf("without a limit: %d", w.Code)
			}
		}
	})
}

// Whoever has no token that is accepted is limited by address, in the form of the path, and nobody else with it.
func TestRateOfStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFronted(t, "producer: {clients: [{name: vendor}]}\n"+oneFeed, nil)
		good := "\nAuthorization: Bearer " + f.token(t, "vendor")
		form := map[string]string{"GET /odata": `"code":"429"`, "POST /oauth/token": `"error":"temporarily_unavailable"`, "GET /admin/status": `"status":429`, "POST /webhooks/mls": `"status":429`}
		for range strangerBurst / 2 {
			if a, b := f.ask(t, "GET /odata\nAuthorization: Bearer guess"), f.ask(t, "POST /webhooks/mls\nAuthorization: Bearer guess"); a.Code != 401 || b.Code != 401 {
				t.Fatalf("%d, %d", a.Code, b.Code)
			}
		}
		for ask, want := range form {
			if w := f.ask(t, ask+"\nPeer: 192.0.2.1:9999"); w.Code != 429 || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: %d %v %s", ask, w.Code, w.Header(), w.Body)
			}
		}
		for ask, want := range map[string]int{"GET /odata" + good: 200, "GET /": 200, "GET /healthz": 200, "GET /odata\nPeer: 192.0.2.2:1": 401} {
			if w := f.ask(t, ask); w.Code != want {
				t.Errorf("%s: %d, want %d", ask, w.Code, want)
			}
		}
		time.Sleep(time.Second / strangerRate)
		if a, b := f.ask(t, "GET /odata"), f.ask(t, "GET /odata"); a.Code != 401 || b.Code != 429 {
			t.Errorf("after the wait: %d, %d", a.Code, b.Code)
		}
		// One network of IPv6 is one address, and no number of addresses takes more memory.
		for i := range strangerBurst + 1 {
			w := f.ask(t, fmt.Sprintf("GET /odata\nPeer: [2001:db8::%x]:1", i+1))
			if want := map[bool]int{false: 401, true: 429}[i == strangerBurst]; w.Code != want {
				t.Fatalf("address %d of the network: %d", i, w.Code)
			}
		}
		for i := range strangers + 100 {
			f.front.rates.stranger(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		}
		if n := len(f.front.rates.byPrefix); n != strangers || f.front.rates.used.Len() != n {
			t.Errorf("%d addresses are remembered", n)
		}
	})
}

// A panic is an answer in the form of the path and one line of the log; an answer that had begun is cut off.
func TestPanics(t *testing.T) {
	f := newFronted(t, "producer: {clients: [{name: vendor}]}\naccess_log: true\n", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("begun") {
			fmt.Fprint(w, "a part")
		}
		if r.URL.Query().Has("abort") {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("ETag", "x")
		panic("SECRET reason")
	}))
	for path, want := range map[string]string{"/odata/x": `{"error":{"code":"500"`, "/feeds/mls/odata": `{"error":{"code":"500"`, "/x": `"status":500`,
		"/oauth/token": `"error":"temporarily_unavailable"`} {
		f.logged.Reset()
		w := f.ask(t, "GET "+path)
		id := w.Header().Get("X-Request-Id")
		if w.Code != 500 || !strings.Contains(w.Body.String(), want) || strings.Contains(w.Body.String(), "SECRET") || w.Header().Get("ETag") != "" || id == "" {
			t.Errorf("%s: %d %v %s", path, w.Code, w.Header(), w.Body)
		}
		lines := strings.Split(strings.TrimSpace(f.logged.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], `"level":"ERROR"`) || !strings.Contains(lines[0], "SECRET reason") || !strings.Contains(lines[0], `"request_id":"`+id) ||
			!strings.Contains(lines[1], `"status":500`) {
			t.Errorf("%s logged %s", path, f.logged.String())
		}
	}
	for ask, errors := range map[string]int{"GET /odata/x?begun": 1, "GET /odata/x?abort": 0, "GET /odata/x?begun&abort": 0} {
		f.logged.Reset()
		func() {
			defer func() {
				switch got := recover(); got {
				case http.ErrAbortHandler:
				default:
					t.Errorf("%s ends with %v: whoever asked takes a part for the whole", ask, got)
				}
			}()
			f.ask(t, ask)
		}()
		if n := strings.Count(f.logged.String(), `"ERROR"`); n != errors || !strings.Contains(f.logged.String(), `"aborted":true`) {
			t.Errorf("%s logged %s", ask, f.logged.String())
		}
	}
}

func TestRequestIDsAndAccessLog(t *testing.T) {
	f := newFronted(t, "producer: {clients: [{name: vendor}]}\naccess_log: true\ntrusted_proxies: [10.0.0.0/8]\n", nil)
	token := f.token(t, "vendor")
	seen := map[string]bool{}
	for _, c := range []struct {
		ask, id string // id "": a new one
		line    map[string]any
	}{
		{"GET /odata/EntityEvent?$top=1&key=SECRET\nAuthorization: Bearer " + token, "", map[string]any{"method": "GET", "path": "/odata/EntityEvent", "status": 200.0, "client": "vendor", "address": "192.0.2.1"}},
		{"GET /odata/Property('a%2F%0Ab')\nAuthorization: Bearer SECRET\nX-Request-Id: theirs", "", map[string]any{"path": "/odata/Property('a%2F%0Ab')", "status": 401.0, "client": ""}},
		{"GET /healthz\nPeer: 10.0.0.1:1\nX-Request-Id: theirs-7\nX-Forwarded-For: 198.51.100.7", "theirs-7", map[string]any{"address": "198.51.100.7", "status": 200.0}},
		{"GET /healthz\nPeer: 10.0.0.1:1\nX-Request-Id: a b", "", map[string]any{"address": "10.0.0.1"}},
		{"GET /healthz\nPeer: 10.0.0.1:1\nX-Request-Id: " + strings.Repeat("x", 129), "", nil},
		{"HEAD /healthz", "", map[string]any{"method": "HEAD", "status": 200.0}},
	} {
		f.logged.Reset()
		w := f.ask(t, c.ask)
		id := w.Header().Get("X-Request-Id")
		if c.id != "" && id != c.id || c.id == "" && (len(id) < 20 || len(id) > 40) || seen[id] {
			t.Errorf("%s: X-Request-Id %q", c.ask, id)
		}
		seen[id] = true
		var line map[string]any
		if err := json.Unmarshal(f.logged.Bytes(), &line); err != nil || line["msg"] != "request" || line["request_id"] != id || line["duration"] == nil {
			t.Errorf("%s: %v in %s", c.ask, err, f.logged.String())
		}
		for key, want := range c.line {
			if line[key] != want {
				t.Errorf("%s: %s is %v, want %v", c.ask, key, line[key], want)
			}
		}
		if line["bytes"] != float64(w.Body.Len()) || strings.Contains(f.logged.String(), "SECRET") || strings.Contains(f.logged.String(), token) {
			t.Errorf("%s: %d bytes; %s", c.ask, w.Body.Len(), f.logged.String())
		}
	}
	quiet := newFronted(t, "producer: {clients: [{name: vendor}]}", nil)
	quiet.ask(t, "GET /healthz")
	if quiet.logged.Len() > 0 {
		t.Errorf("logged by default: %s", quiet.logged.String())
	}
}

// The id of a request stands in whatever is logged with its context, and in nothing else.
func TestLogsNameTheRequest(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(requestLog{slog.NewTextHandler(&out, nil)}).With("feed", "mls").WithGroup("g")
	logger.ErrorContext(context.WithValue(t.Context(), visitKey{}, &visit{id: "one"}), "failed")
	logger.InfoContext(t.Context(), "other")
	if lines := strings.Split(out.String(), "\n"); !strings.Contains(lines[0], "request_id=one") || !strings.Contains(lines[0], "feed=mls") || strings.Contains(lines[1], "request_id") {
		t.Error(out.String())
	}
}

// TestTokenEndpoint: RFC 6749, 2.3.1, 4.4 and 5.2, case by case.
func TestTokenEndpoint(t *testing.T) {
	f := newFronted(t, "producer: {clients: [{name: v, scopes: [read, subscribe]}, {name: w}, {name: 'x.y', scopes: [read]}]}", nil)
	secret := func(client string) string {
		s, err := f.authority.NewSecret(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	good, gone, dotted := secret("v"), secret("gone"), secret("x.y")
	const form = "POST /oauth/token\nContent-Type: application/x-www-form-urlencoded"
	basic := func(user, password string) string {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.SetBasicAuth(user, password)
		return "\nAuthorization: " + r.Header.Get("Authorization")
	}
	mine := "client_id=v&client_secret=" + good
	for i, c := range []struct {
		ask    string
		status int
		want   string // error, or scope
	}{
		{form + "\n\ngrant_type=client_credentials&" + mine, 200, "read subscribe"},
		{form + "; charset=UTF-8\n\ngrant_type=client_credentials&" + mine, 200, "read subscribe"},
		{form + basic("v", good) + "\n\ngrant_type=client_credentials", 200, "read subscribe"},
		{form + basic("v", good) + "\n\ngrant_type=client_credentials&client_id=v&scope=", 200, "read subscribe"},
		{form + basic("x%2Ey", dotted) + "\n\ngrant_type=client_credentials", 200, "read"},
		{form + "\n\ngrant_type=client_credentials&scope=read&" + mine, 200, "read"},
		{form + "\n\ngrant_type=client_credentials&scope=write+subscribe+subscribe&" + mine, 200, "subscribe"},
		{form + "\n\ngrant_type=client_credentials&scope=write&" + mine, 400, "invalid_scope"},
		{form + "\n\ngrant_type=client_credentials&scope=%22&" + mine, 400, "invalid_scope"},
		{form + "\n\ngrant_type=client_credentials&unknown=x&" + mine, 200, "read subscribe"},
		{form + "\n\n" + mine, 400, "invalid_request"},
		{form + "\n\ngrant_type=&" + mine, 400, "invalid_request"},
		{form + "\n\ngrant_type=password&username=a&password=b&" + mine, 400, "unsupported_grant_type"},
		{form + "\n\ngrant_type=client_credentials&grant_type=client_credentials&" + mine, 400, "invalid_request"},
		{form + "\n\ngrant_type=client_credentials&scope=read&scope=read&" + mine, 400, "invalid_request"},
		{form + "\n\ngrant_type=client_credentials&x=%zz&" + mine, 400, "invalid_request"},
		{form + "\n\n", 401, "invalid_client"},
		{form + "\n\ngrant_type=client_credentials", 401, "invalid_client"},
		{form + "\n\ngrant_type=client_credentials&client_id=v", 401, "invalid_client"},
		{form + "\n\ngrant_type=client_credentials&client_id=v&client_secret=" + dotted, 401, "invalid_client"},
		{form + "\n\ngrant_type=client_credentials&client_id=w&client_secret=" + good, 401, "invalid_client"}, // has none
		{form + "\n\ngrant_type=client_credentials&client_id=gone&client_secret=" + gone, 401, "invalid_client"},
		{form + basic("v", dotted) + "\n\ngrant_type=client_credentials", 401, "invalid_client"},
		{form + basic("", "") + "\n\ngrant_type=client_credentials", 401, "invalid_client"},
		{form + basic("%zz", good) + "\n\ngrant_type=client_credentials", 401, "invalid_client"},
		{form + "\nAuthorization: Bearer x\n\ngrant_type=client_credentials", 401, "invalid_client"},
		{form + basic("v", good) + "\n\ngrant_type=client_credentials&" + mine, 400, "invalid_request"},    // both
		{form + basic("v", "wrong") + "\n\ngrant_type=client_credentials&" + mine, 400, "invalid_request"}, // both
		{form + basic("v", good) + "\n\ngrant_type=client_credentials&client_id=w", 400, "invalid_request"},
		{form + basic("v", good) + basic("v", good) + "\n\ngrant_type=client_credentials", 400, "invalid_request"},
		{"POST /oauth/token?" + mine + "\nContent-Type: application/x-www-form-urlencoded\n\ngrant_type=client_credentials", 400, "invalid_request"},
		{"POST /oauth/token\nContent-Type: application/json\n\n{}", 400, "invalid_request"},
		{"POST /oauth/token\n\ngrant_type=client_credentials&" + mine, 400, "invalid_request"},
		{form + "\n\nx=" + strings.Repeat("x", maxTokenRequest), 413, "invalid_request"},
	} {
		w := f.ask(t, fmt.Sprintf("%s\nPeer: 10.0.%d.1:1%s", strings.SplitN(c.ask, "\n\n", 2)[0], i, c.ask[len(strings.SplitN(c.ask, "\n\n", 2)[0]):]))
		var body map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Errorf("%s: %v in %s", c.ask, err, w.Body)
		}
		h := w.Header()
		if w.Code != c.status || h.Get("Cache-Control") != "no-store" || h.Get("Pragma") != "no-cache" || h.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %v %s", c.ask, w.Code, h, w.Body)
		}
		if challenged := strings.HasPrefix(h.Get("WWW-Authenticate"), "Basic "); challenged != (c.status == 401) {
			t.Errorf("%s: WWW-Authenticate: %s", c.ask, h.Get("WWW-Authenticate"))
		}
		for _, s := range []string{good, gone, dotted} {
			if strings.Contains(w.Body.String(), s) || strings.Contains(f.logged.String(), s) {
				t.Errorf("%s: a secret is shown", c.ask)
			}
		}
		if c.status != 200 {
			if body["error"] != c.want || body["error_description"] == "" || body["access_token"] != nil {
				t.Errorf("%s: %s, want %s", c.ask, w.Body, c.want)
			}
			continue
		}
		if body["scope"] != c.want || body["token_type"] != "Bearer" || body["expires_in"] != 900.0 || len(body) != 4 {
			t.Errorf("%s: %s", c.ask, w.Body)
		}
		if w := f.ask(t, fmt.Sprintf("GET /odata/EntityEvent\nAuthorization: Bearer %s", body["access_token"])); (w.Code == 200) != strings.Contains(c.want, "read") {
			t.Errorf("%s: what it got is answered %d", c.ask, w.Code)
		}
	}
	_ = f.store.Close()
	w := f.ask(t, form+"\nPeer: 10.1.1.1:1\n\ngrant_type=client_credentials&"+mine)
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "temporarily_unavailable") {
		t.Errorf("without a store: %d %s", w.Code, w.Body)
	}
}

// A body that ends in an error of its own is nobody's slowness.
func TestBrokenBodiesAreNotLate(t *testing.T) {
	f := newFronted(t, "producer: {clients: [{name: vendor}]}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	r := httptest.NewRequest(http.MethodPost, "/odata/x", io.MultiReader(strings.NewReader("a"), errorReader{}))
	w := httptest.NewRecorder()
	f.front.ServeHTTP(w, r)
	if w.Code != 400 {
		t.Errorf("%d", w.Code)
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errors.New("cut off") }

// TestRevokedMeanwhile: what was found of a token when a request came counts once: whoever is held is looked at anew
// before he is told anything.
func TestRevokedMeanwhile(t *testing.T) {
	var f *fronted
	var again error
	f = newFronted(t, "producer:\n  clients: [{name: vendor}]\n", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := f.gate.Admit(r, bearer.ScopeRead); err != nil {
			t.Error(err)
		}
		if _, err := f.authority.RevokeClient(t.Context(), "vendor"); err != nil {
			t.Error(err)
		}
		_, again = f.gate.Admit(r, bearer.ScopeRead)
	}))
	f.ask(t, "GET /odata/EntityEvent\nAuthorization: Bearer "+f.token(t, "vendor"))
	if !errors.Is(again, bearer.ErrUnauthorized) {
		t.Errorf("admitted after the revocation: %v", again)
	}
}
