package main_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent/openapitest"
)

const clients = "../testdata/clients"

// TestOtherMakersClients lets OData clients from npm read, filter, page and write a producer with the metadata of
// testdata, through a proxy that holds each exchange to the OpenAPI document. The scripts compare what they get
// with what was imported.
func TestOtherMakersClients(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("SKIPPED: the clients of other makers, which are installed together, need node 20 or newer, and it is not installed: apt-get install nodejs npm")
	}
	if _, err := os.Stat(filepath.Join(clients, "node_modules")); err != nil {
		t.Skip("SKIPPED: the clients of other makers are not fetched: make tools")
	}
	metadata, err := filepath.Abs("../testdata/metadata.xml")
	if err != nil {
		t.Fatal(err)
	}
	s, address := newShell(t), freeAddress(t)
	node(t, nil, "data.mjs", s.dir)
	proxy, checked := checkingProxy(t, address)
	s.write("resosync.yaml", producerConfig(address)+"  metadata: "+metadata+"\npublic_url: "+proxy+"\n")
	for resource, n := range map[string]string{"Property": "250 new", "Member": "3 new", "Media": "30 new"} {
		s.must(0, n, "import", "--resource", resource, resource+".jsonl")
	}
	token := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "writer").stdout)
	secret := strings.TrimSpace(s.must(0, ".", "client", "secret", "writer").stdout)
	s.agent(address)
	checked.open(t, "http://"+address+"/openapi.json")

	env := append(os.Environ(), "URL="+proxy, "TOKEN="+token, "CLIENT=writer", "SECRET="+secret)
	for _, script := range []string{"odata-query.mjs", "o.mjs", "odata-client.mjs"} {
		t.Run(strings.TrimSuffix(script, ".mjs"), func(t *testing.T) {
			if out := node(t, env, script); !strings.HasSuffix(out, "done\n") {
				t.Errorf("it ended early: %s", out)
			}
		})
	}
}

// node runs a script of the clients.
func node(t *testing.T, env []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Dir, cmd.Env = clients, env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("node %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// checking holds what passes a proxy to an OpenAPI document.
type checking struct {
	proxy    *httputil.ReverseProxy
	server   *httptest.Server
	document *openapitest.Document
	handler  http.Handler // nil until the document is read
}

// checkingProxy runs a proxy in front of an agent that need not run yet, and returns its URL.
func checkingProxy(t *testing.T, address string) (string, *checking) {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	c := &checking{proxy: &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: address})
		r.Out.URL.RawQuery = r.In.URL.RawQuery // a proxy in Go takes out what has a semicolon, as $expand may
	}, ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
		if r.Context().Err() == nil { // the client is there
			t.Errorf("proxy: %s %s: %v", r.Method, r.URL.Path, err)
		}
		panic(http.ErrAbortHandler)
	}}}
	c.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.handler.ServeHTTP(w, r) }))
	t.Cleanup(func() {
		c.server.Close()
		transport.CloseIdleConnections()
	})
	return c.server.URL, c
}

// open reads the document that the agent itself serves. The proxy closes before that agent ends: a client may leave
// with a request held.
func (c *checking) open(t *testing.T, at string) {
	t.Helper()
	t.Cleanup(c.server.Close)
	resp, err := http.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if c.document, err = openapitest.Open(text); err != nil {
		t.Fatal(err)
	}
	c.handler = c.document.Handler(t, c.proxy)
}
