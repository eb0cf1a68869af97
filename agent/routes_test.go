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
	s.write("resosync.yaml", producerConfig(address)+`consumer:
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
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != c.status || !strings.HasPrefix(got, c.contentType) {
			t.Errorf("%s %s: %d %s, want %d %s: %s", c.method, c.path, resp.StatusCode, got, c.status, c.contentType, body)
		}
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
