package main_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCleanStop sends SIGTERM while a long poll is held, and while a connection is open on which nothing
// was asked: the poll is answered, and the agent ends at once, with status 0.
func TestCleanStop(t *testing.T) {
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", producerConfig(address)+`  allow_callbacks: [127.0.0.0/8]
  subscriptions:
    - {name: gone, client: vendor, url: "http://`+freeAddress(t)+`/webhooks/x", token: abc}
consumer:
  feeds:
    - {name: gone, url: "http://`+freeAddress(t)+`/odata", resources: [Property]}
`)
	token := strings.TrimSpace(s.must(0, `^eyJ`, "token", "issue", "--client", "vendor").stdout)
	agent := s.agent(address)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/odata/EntityEvent?$filter=EntityEventSequence%20gt%200", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Prefer", "wait=60")
	answered := make(chan string, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			answered <- err.Error()
			return
		}
		answered <- string(body)
	}()
	select {
	case text := <-answered:
		t.Fatalf("the poll was not held: %s", text)
	case <-time.After(300 * time.Millisecond):
	}

	unused, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer unused.Close()

	begun := time.Now()
	if err := agent.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if text := <-answered; !strings.Contains(text, `"value":[]`) {
		t.Errorf("the held poll ended with %q, want an empty page", text)
	}
	if err := agent.cmd.Wait(); err != nil {
		t.Errorf("the agent ended with %v:\n%s", err, agent.output.String())
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("the agent took %v to stop", took)
	}
	if log := agent.output.String(); !strings.Contains(log, "msg=stopped") || strings.Contains(log, token) {
		t.Errorf("the log does not say that it stopped, or it holds the token:\n%s", log)
	}
	agent.cmd = nil
}
