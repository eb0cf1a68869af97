package main_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestHALClients lets a HAL client and a poller of long-running operations from npm use subscriptions and tasks,
// through a proxy that holds each exchange to the OpenAPI document, and holds what is pushed meanwhile to it too.
func TestHALClients(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("SKIPPED: the clients of other makers, which are installed together, need node 20 or newer, and it is not installed: apt-get install nodejs npm")
	}
	if _, err := os.Stat(filepath.Join(clients, "node_modules", "ketting")); err != nil {
		t.Skip("SKIPPED: the clients of other makers are not fetched: make tools")
	}
	metadata, err := filepath.Abs("../testdata/metadata.xml")
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"ketting.mjs", "core-lro.mjs"} {
		t.Run(strings.TrimSuffix(script, ".mjs"), func(t *testing.T) {
			t.Parallel()
			s, address := newShell(t), freeAddress(t)
			node(t, nil, "data.mjs", s.dir)
			proxy, checked := checkingProxy(t, address)
			s.write("resosync.yaml", "name: mls\nlisten: "+address+"\npublic_url: "+proxy+"\nproducer:\n  metadata: "+metadata+`
  clients: [{name: vendor, scopes: [read, subscribe]}]
  allow_callbacks: [127.0.0.0/8]
`)
			for resource, n := range map[string]string{"Property": "250 new", "Member": "3 new", "Media": "30 new"} {
				s.must(0, n, "import", "--resource", resource, resource+".jsonl")
			}
			token := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
			s.agent(address)
			checked.open(t, "http://"+address+"/openapi.json")

			sink := &sink{t: t, document: checked}
			callback := httptest.NewServer(sink)
			t.Cleanup(callback.Close)
			env := append(os.Environ(), "URL="+proxy, "TOKEN="+token, "CALLBACK="+callback.URL, "RESULTS="+filepath.Join(s.dir, "data", "results"))
			if out := node(t, env, script); !strings.HasSuffix(out, "done\n") {
				t.Errorf("it ended early: %s", out)
			}
			if script == "ketting.mjs" && sink.received() == 0 {
				t.Error("nothing was pushed")
			}
		})
	}
}

// sink takes what is pushed.
type sink struct {
	t        testing.TB
	document *checking
	mu       sync.Mutex
	pushes   int
}

func (s *sink) received() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pushes
}

func (s *sink) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the producer was stopped
	}
	for _, problem := range s.document.document.Callback("createSubscription", "events", r, body) {
		s.t.Errorf("a push is not as the OpenAPI document says: %s\n%s", problem, body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushes++
}
