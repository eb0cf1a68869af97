package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// stripping is a proxy that serves an agent below a path, which it takes off.
func stripping(t *testing.T, path, address string) (root string) {
	t.Helper()
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	forward.FlushInterval = -1
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	mux := http.NewServeMux()
	mux.Handle(path+"/", http.StripPrefix(path, forward))
	proxy := httptest.NewServer(mux)
	t.Cleanup(proxy.Close)
	return proxy.URL + path
}

// TestPublicPath puts either of two agents behind a proxy that takes a path off: whoever came by the public URL can
// follow each link, so that the consumer loads by a snapshot, registers itself and is pushed to.
func TestPublicPath(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	dir, mls, vendor := t.TempDir(), freeAddress(t), freeAddress(t)
	there, here := stripping(t, "/reso", mls), stripping(t, "/vendor/in", vendor)
	r := &registering{restored: &restored{}}
	r.mls = newProcess(t, filepath.Join(dir, "mls"), mls, fmt.Sprintf(`name: mls
listen: %s
public_url: %s
producer:
  clients: [{name: vendor, scopes: [read, write, subscribe]}]
  allow_callbacks: [127.0.0.0/8]
`, mls, there))
	r.vendor = newProcess(t, filepath.Join(dir, "vendor"), vendor, fmt.Sprintf(`name: vendor
listen: %s
public_url: %s
consumer:
  feeds:
    - {name: mls, url: "%s/odata", token: "${API_TOKEN}", resources: [Property], poll: %q, push: {register: true}}
`, vendor, here, there, never))
	r.write = r.mls.command(t, "token", "issue", "--client", "vendor")
	r.vendor.env = append(r.vendor.env, "API_TOKEN="+r.write)
	r.mls.start(t)
	r.put(t, 1, "a")
	r.vendor.start(t)
	r.registered(t)
	r.put(t, 1, "b")
	r.level(t)
	if text := r.vendor.command(t, "verify", "mls"); !strings.Contains(text, "equal") {
		t.Error(text)
	}

	task, err := http.NewRequestWithContext(t.Context(), http.MethodPost, there+"/tasks", strings.NewReader(`{"type":"snapshot"}`))
	if err != nil {
		t.Fatal(err)
	}
	task.Header = http.Header{"Authorization": {"Bearer " + r.write}, "Content-Type": {"application/json"}}
	resp, err := http.DefaultClient.Do(task)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if at := resp.Header.Get("Location"); resp.StatusCode != http.StatusAccepted || !strings.HasPrefix(at, there+"/tasks/") {
		t.Fatalf("%s: %s", resp.Status, at)
	}
	pages := &crawl{t: t, token: r.write, seen: map[string]bool{}}
	pages.follow(there + "/")
	pages.follow(resp.Header.Get("Location"))
	if len(pages.servers) < 2 {
		t.Errorf("servers: %v", pages.servers)
	}
	for _, server := range pages.servers {
		if !strings.HasPrefix(server, "/reso/") {
			t.Errorf("the OpenAPI document has a server %s", server)
		}
	}
	for _, want := range []string{"/", "/odata", "/event-types", "/event-types/Property", "/subscriptions", "/tasks", "/openapi.json"} {
		if !pages.seen[there+want] {
			t.Errorf("no link leads to %s: %v", want, slices.Sorted(maps.Keys(pages.seen)))
		}
	}
}

// crawl asks every link of HAL that leads on from a page.
type crawl struct {
	t     *testing.T
	token string
	seen  map[string]bool

	servers []string // of OpenAPI documents
}

func (c *crawl) follow(page string) {
	c.t.Helper()
	if c.seen[page] {
		return
	}
	c.seen[page] = true
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, page, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Accept", "application/hal+json, */*;q=0.5")
	req.Header.Set("Prefer", "wait=30")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusMethodNotAllowed {
		c.t.Errorf("%s: %d %s", page, resp.StatusCode, body)
	}
	for _, server := range regexp.MustCompile(`"url":"(/[^"]*)"`).FindAllSubmatch(body, -1) {
		c.servers = append(c.servers, string(server[1]))
	}
	if resp.Header.Get("Content-Type") != "application/hal+json" {
		return
	}
	var tree any
	if err := json.Unmarshal(body, &tree); err != nil {
		c.t.Fatal(err)
	}
	for _, href := range hrefs(tree) {
		to, err := resp.Request.URL.Parse(href)
		if err != nil || !strings.HasPrefix(href, "/") {
			c.t.Errorf("%s: a link %s: %v", page, href, err)
			continue
		}
		if !strings.Contains(href, "{") {
			c.follow(to.String())
		}
	}
}

// hrefs are all there are in a document.
func hrefs(v any) (all []string) {
	switch v := v.(type) {
	case map[string]any:
		if href, ok := v["href"].(string); ok {
			all = append(all, href)
		}
		for _, one := range v {
			all = append(all, hrefs(one)...)
		}
	case []any:
		for _, one := range v {
			all = append(all, hrefs(one)...)
		}
	}
	return all
}
