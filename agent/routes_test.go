package main_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRoutes asks a running relay for every kind of path, without redirects.
func TestRoutes(t *testing.T) {
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", strings.Replace(producerConfig(address), "name: vendor", "name: vendor, scopes: [read, subscribe]", 1)+`consumer:
  feeds:
    - {name: up, url: "http://`+freeAddress(t)+`/odata", resources: [Property]}
`)
	s.pipe(`{"ListingKey":"a//b"}`+"\n"+`{"ListingKey":"a/../b"}`+"\n", "import", "--resource", "Property", "-").must(t, 0, "2 new", "import")
	read := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
	push := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--feed", "up").stdout)
	s.agent(address)
	admin, err := os.ReadFile(filepath.Join(s.dir, "data", "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, c := range []struct {
		method, path, token string
		status              int
		contentType         string
	}{
		{"GET", "/", "", 200, "application/hal+json"},
		{"HEAD", "/", "", 200, "application/hal+json"},
		{"OPTIONS", "/", "", 204, ""},
		{"POST", "/", "", 405, "application/problem+json"},
		{"GET", "/healthz", "", 200, "application/json"},
		{"GET", "/healthz/", "", 200, "application/json"},
		{"GET", "/readyz", "", 200, "application/json"}, // a feed may be without contact for a while
		{"GET", "/nothing", "", 404, "application/problem+json"},
		{"GET", "/odatax", "", 404, "application/problem+json"},
		{"GET", "/event-types", read, 200, "application/hal+json"},
		{"GET", "/event-types/", read, 200, "application/hal+json"},
		{"GET", "/subscriptions", "", 401, "application/problem+json"},
		{"GET", "/subscriptions", push, 403, "application/problem+json"},
		{"GET", "/subscriptions/", read, 200, "application/hal+json"},
		{"PATCH", "/subscriptions", read, 405, "application/problem+json"},
		{"OPTIONS", "/subscriptions", read, 204, ""},
		{"GET", "/subscriptions/none", read, 404, "application/problem+json"},
		{"GET", "/subscriptionsx", read, 404, "application/problem+json"},
		{"POST", "/tasks", "", 401, "application/problem+json"},
		{"GET", "/tasks/none", read, 404, "application/problem+json"},
		{"OPTIONS", "/2.0/events", read, 200, "application/json"},
		{"OPTIONS", "/events/", read, 200, "application/json"},
		{"GET", "/2.0/events/?stream_position=0", read, 200, "application/json"},
		{"GET", "/2.0/users/me", read, 404, "application/json"},
		{"GET", "/2.0/events", "", 401, "application/json"},
		{"GET", "/2.0/realtime?channel=none", "", 200, "application/json"},
		{"POST", "/api/sessions", "", 401, "application/problem+json"},
		{"POST", "/api/sessions/", read, 200, "application/json"},
		{"GET", "/api/sessions/none/events", "", 404, "application/problem+json"},
		{"GET", "/api", "", 404, "application/problem+json"},
		{"GET", "/odata", "", 401, "application/json"},
		{"GET", "/odata", push, 403, "application/json"},
		{"GET", "/odata/", read, 200, "application/json"},
		{"POST", "/odata/Property", read, 403, "application/json"},
		{"GET", "/odata/Property('a//b')", read, 200, "application/json"},
		{"GET", "/odata/Property('a/../b')", read, 200, "application/json"},
		{"GET", "/odata/Property('a%2F%2Fb')", read, 200, "application/json"},
		{"GET", "/odata/Property('c')", read, 404, "application/json"},
		{"GET", "/feeds/up/odata/EntityEvent", read, 200, "application/json"},
		{"POST", "/feeds/up/odata/Property", read, 405, "application/json"},
		{"GET", "/feeds/down/odata/EntityEvent", read, 404, "application/problem+json"},
		{"GET", "/feeds/local/odata", read, 404, "application/problem+json"}, // it is at /odata
		{"POST", "/webhooks/up", "", 401, "application/problem+json"},
		{"POST", "/webhooks/up", push, 200, "application/json"},
		{"POST", "/webhooks/down", push, 404, "application/problem+json"},
		{"GET", "/admin/status", "", 401, "application/problem+json"},
		{"GET", "/admin/status", read, 403, "application/problem+json"},
		{"GET", "/admin/status", push, 403, "application/problem+json"},
		{"GET", "/admin/status", strings.TrimSpace(string(admin)), 200, "application/json"},
		{"GET", "/admin/status", strings.Repeat("0", 64), 401, "application/problem+json"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+address+c.path, strings.NewReader(`{"value":[]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if c.token != "" {
			req.Header.Set("Authorization", "Bearer "+c.token)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if c.path == "/" && c.method == "GET" {
			sameLinks(t, body)
		}
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != c.status || !strings.HasPrefix(got, c.contentType) {
			t.Errorf("%s %s: %d %s, want %d %s: %s", c.method, c.path, resp.StatusCode, got, c.status, c.contentType, body)
		}
	}
}

// sameLinks compares the links of the root with those that there are.
func sameLinks(t *testing.T, body []byte) {
	t.Helper()
	const want = `{"_links":{"event-types":{"href":"/event-types"},"events":{"href":"/2.0/events"},"odata":{"href":"/odata"},"openapi":{"href":"/openapi.json"},` +
		`"self":{"href":"/"},"sessions":{"href":"/api/sessions"},"subscription":{"href":"/subscriptions/{uuid}","templated":true},` +
		`"subscriptions":{"href":"/subscriptions"},"tasks":{"href":"/tasks"},"webhooks":[{"href":"/webhooks/up","name":"up"}]}}`
	if got := strings.TrimSpace(string(body)); got != want {
		t.Errorf("the root's links: %s\nwant %s", got, want)
	}
}

// TestRefusalsOfTheFront are in the form of the path, whatever refuses.
func TestRefusalsOfTheFront(t *testing.T) {
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", strings.Replace(producerConfig(address), "name: vendor", "name: vendor, scopes: [read, subscribe], limits: {rate: 1/h}", 1))
	token := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
	s.agent(address)
	request(t, "GET", address, "/event-types", token, "") // the one of this hour
	long := strings.Repeat("x", 40_000)
	for path, form := range map[string]string{
		"/2.0/events": `"type":"error"`, "/events": `"type":"error"`, "/2.0/realtime": `"type":"error"`, "/odata/Property": `"error":{`,
		"/subscriptions": `"type":"about:blank"`, "/event-types": `"type":"about:blank"`, "/tasks": `"type":"about:blank"`, "/api/sessions": `"type":"about:blank"`,
	} {
		if status, text, _ := request(t, "GET", address, path+"?x="+long, token, ""); status != http.StatusRequestURITooLong || !strings.Contains(text, form) {
			t.Errorf("%s: %d %s", path, status, text)
		}
		if path == "/2.0/realtime" {
			continue // who knows its URL may ask
		}
		status, text, header := request(t, "GET", address, path, token, "")
		if status != http.StatusTooManyRequests || header.Get("Retry-After") == "" || !strings.Contains(text, form) {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if _, text, header := request(t, "GET", address, "/2.0/events", token, ""); !strings.Contains(text, `"code":"too_many_requests"`) || !strings.Contains(text, `"request_id":"`+header.Get("X-Request-Id")+`"`) {
		t.Errorf("%s", text)
	}
}

// TestRevokedClient takes a client out of the configuration: its token ends with it.
func TestRevokedClient(t *testing.T) {
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", producerConfig(address))
	read := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
	s.write("resosync.yaml", strings.Replace(producerConfig(address), "name: vendor", "name: another", 1))
	s.agent(address)
	s.must(1, "token", "events", "--url", "http://"+address+"/odata", "--token", read)
}
