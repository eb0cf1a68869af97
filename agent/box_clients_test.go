package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBoxClients lets SDKs of Box's API from npm, of three generations, follow a producer's log while it is written,
// through a proxy that holds each exchange to the OpenAPI document. The scripts compare what they see with the log.
func TestBoxClients(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("SKIPPED: the clients of other makers, which are installed together, need node 20 or newer, and it is not installed: apt-get install nodejs npm")
	}
	if _, err := os.Stat(filepath.Join(clients, "node_modules", "box-node-sdk")); err != nil {
		t.Skip("SKIPPED: the clients of other makers are not fetched: make tools")
	}
	for name, script := range map[string][]string{
		"classic":    {"box-classic.mjs"},
		"typescript": {"box-generated.mjs", "box-typescript-sdk-gen"},
		"generated":  {"box-generated.mjs", "box-node-sdk"},
	} {
		t.Run(name, func(t *testing.T) {
			s, address := newShell(t), freeAddress(t)
			proxy, checked := checkingProxy(t, address)
			s.write("resosync.yaml", "name: mls\nlisten: "+address+"\npublic_url: "+proxy+"\nproducer:\n  clients: [{name: vendor, scopes: [read, write, subscribe]}]\n")
			s.write("listings.jsonl", listings)
			s.must(0, `3 new`, "import", "--resource", "Property", "listings.jsonl")
			token := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
			s.agent(address)
			checked.open(t, "http://"+address+"/openapi.json")
			if out := node(t, append(os.Environ(), "URL="+proxy, "TOKEN="+token), script...); !strings.HasSuffix(out, "done\n") {
				t.Errorf("it ended early: %s", out)
			}
		})
	}
}
