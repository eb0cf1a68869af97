package main_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// restored is a pair whose producer is put back to a backup.
type restored struct {
	mls, vendor *process
	write       string
}

func newRestored(t *testing.T) *restored {
	dir, mls, vendor := t.TempDir(), freeAddress(t), freeAddress(t)
	r := &restored{}
	r.mls = newProcess(t, filepath.Join(dir, "mls"), mls, fmt.Sprintf(`name: mls
listen: %s
producer:
  clients: [{name: vendor, scopes: [read, write]}]
  subscriptions:
    - {name: vendor, client: vendor, url: "http://%s/webhooks/mls", token: "${PUSH_TOKEN}"}
  allow_callbacks: [127.0.0.0/8]
`, mls, vendor))
	r.vendor = newProcess(t, filepath.Join(dir, "vendor"), vendor, fmt.Sprintf(`name: vendor
listen: %s
consumer:
  feeds:
    - {name: mls, url: "http://%s/odata", token: "${API_TOKEN}", resources: [Property], poll: "@every 1s"}
`, vendor, mls))
	r.mls.env = append(r.mls.env, "PUSH_TOKEN=none")
	r.vendor.env = append(r.vendor.env, "API_TOKEN=none")
	r.write = r.mls.command(t, "token", "issue", "--client", "vendor")
	r.mls.env = append(r.mls.env, "PUSH_TOKEN="+r.vendor.command(t, "token", "issue", "--feed", "mls"))
	r.vendor.env = append(r.vendor.env, "API_TOKEN="+r.write)
	r.mls.start(t)
	r.vendor.start(t)
	return r
}

// put writes records at the producer.
func (r *restored) put(t *testing.T, price int, keys ...string) {
	t.Helper()
	for _, key := range keys {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, fmt.Sprintf("http://%s/odata/Property('%s')", r.mls.address, key),
			strings.NewReader(fmt.Sprintf(`{"ListingKey":"%s","ListPrice":%d}`, key, price)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+r.write)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode >= 300 {
			t.Fatalf("put %s: %d", key, resp.StatusCode)
		}
	}
}

// level waits until the replica has what the producer has.
func (r *restored) level(t *testing.T) {
	t.Helper()
	until(t, func() (string, bool) {
		want, have := r.mls.records(t, "local"), r.vendor.records(t, "mls")
		return fmt.Sprintf("producer %d records, replica %d\n%s\n%s", len(want), len(have), r.mls.tail(), r.vendor.tail()), maps.Equal(want, have)
	})
}

// until repeats a look at other processes until it finds what it wants.
func until(t *testing.T, look func() (found string, ok bool)) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		found, ok := look()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(found)
		}
	}
}

// end stops an agent as its operator does.
func (p *process) end(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("the agent ended with %v:\n%s", err, p.tail())
	}
	p.cmd = nil
}

// restore does what `resosync backup --help` says, but for log new-id.
func (p *process) restore(t *testing.T, backup string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(p.dir, backup))
	if err == nil {
		err = os.WriteFile(filepath.Join(p.dir, "data", "resosync.db"), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"resosync.db-wal", "resosync.db-shm"} {
		if err := os.Remove(filepath.Join(p.dir, "data", name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

// readyz asks an agent whether it is ready.
func (p *process) readyz(t *testing.T) (status int, body string) {
	t.Helper()
	resp, err := http.Get("http://" + p.address + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// TestRestoreIsNoticed puts a producer back to a backup while its reader knows more. The producer turns red
// and says what to run; when that was run the reader loads anew, and both are equal.
func TestRestoreIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	r := newRestored(t)
	r.put(t, 100, "a", "b", "c", "d", "e")
	r.level(t)
	r.mls.command(t, "backup", "backup.db") // while it runs, from the folder of the caller
	r.put(t, 200, "a", "f", "g")
	r.level(t)

	r.mls.end(t)
	r.mls.restore(t, "backup.db")
	r.mls.start(t)
	until(t, func() (string, bool) {
		status, body := r.mls.readyz(t)
		return body, status == http.StatusServiceUnavailable && strings.Contains(body, "restored from a backup") && strings.Contains(body, "resosync log new-id")
	})
	if text := r.mls.command(t, "status"); !strings.Contains(text, "restored from a backup: ") || !strings.Contains(text, "had read up to 8 when the log ended at 5") || !strings.Contains(text, "resosync log new-id") {
		t.Errorf("status:\n%s", text)
	}
	if got := len(r.vendor.records(t, "mls")); got != 7 {
		t.Errorf("the replica has %d records, want the 7 that it had", got)
	}

	if text := r.mls.command(t, "log", "new-id"); !strings.Contains(text, "numbers go on after 4294967301") {
		t.Errorf("log new-id: %s", text)
	}
	until(t, func() (string, bool) {
		status, body := r.mls.readyz(t)
		return body, status == http.StatusOK
	})
	r.put(t, 300, "b", "h")
	r.level(t)
}

// TestReaderIsDismissed: any reader can claim what proves a restore; it is named, and dismissed for good without a new
// name of the log.
func TestReaderIsDismissed(t *testing.T) {
	t.Parallel()
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", producerConfig(address))
	token := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
	s.must(1, `nothing to dismiss`, "log", "keep-id")
	agent := s.agent(address)
	_, _, header := request(t, http.MethodGet, address, "/odata/EntityEvent", token, "")
	log := header.Get("EntityEvent-Log")
	claim := func() {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/odata/EntityEvent", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("EntityEvent-Cursor", log+":9000000000000")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusGone {
			t.Errorf("a reader that is ahead: %d", resp.StatusCode)
		}
	}
	ready := func(want int) {
		t.Helper()
		until(t, func() (string, bool) {
			status, body := agent.readyz(t)
			if strings.Contains(body, "vendor") {
				t.Errorf("whoever asks is told of a client: %s", body)
			}
			return body, status == want
		})
	}
	claim()
	ready(http.StatusServiceUnavailable)
	s.must(0, `restored from a backup: client vendor had read up to 9000000000000(.|\n)*if no backup was restored, client vendor is wrong: resosync log keep-id`, "status")
	s.must(0, `keeps its name: client vendor`, "log", "keep-id")
	ready(http.StatusOK)
	claim()
	agent.kill(t)
	agent.start(t)
	claim()
	ready(http.StatusOK)
	if _, _, header := request(t, http.MethodGet, address, "/odata/EntityEvent", token, ""); header.Get("EntityEvent-Log") != log {
		t.Errorf("the log is %s, was %s", header.Get("EntityEvent-Log"), log)
	}
}

// TestRestoreWithNumbersUsedAgain is worse: before the reader comes back the restored producer has given its
// lost numbers to other events, so that nothing looks wrong. The name of the log tells all the same.
func TestRestoreWithNumbersUsedAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	r := newRestored(t)
	r.put(t, 100, "a", "b", "c", "d", "e")
	r.level(t)
	r.mls.command(t, "backup", "backup.db")
	r.put(t, 200, "a", "f", "g")
	r.level(t)

	r.vendor.end(t)
	r.mls.end(t)
	r.mls.restore(t, "backup.db")
	r.mls.start(t)
	r.put(t, 400, "c", "x", "y", "z") // numbers 6 to 9, of which the reader has seen 6 to 8
	r.mls.end(t)
	r.mls.command(t, "log", "new-id") // without an agent
	r.mls.start(t)
	r.vendor.start(t)
	r.level(t)
	r.put(t, 500, "d")
	r.level(t)
}
