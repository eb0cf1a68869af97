package main_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3" // to look into the stores of the processes
)

// binary builds the real program once for all tests of the package.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "resosync-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "resosync")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", &exec.Error{Name: "go build: " + string(out), Err: err}
	}
	return path, nil
})

// process is one agent as a process of its own, in a folder of its own.
type process struct {
	dir, address string
	secure       *http.Client           // asks an agent that serves TLS; nil: it does not
	path         func() (string, error) // of the program; nil: binary
	env          []string
	args         []string // of run
	mu           sync.Mutex
	cmd          *exec.Cmd
	output       *output
}

// output is what a process printed so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// newProcess writes the configuration; start runs it.
func newProcess(t *testing.T, dir, address, config string) *process {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "resosync.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{dir: dir, address: address, env: os.Environ(), output: new(output)}
	t.Cleanup(func() { p.kill(t) })
	return p
}

// program is what the process runs.
func (p *process) program(t *testing.T) string {
	t.Helper()
	build := binary
	if p.path != nil {
		build = p.path
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// command runs one command in the process's folder and returns what it printed.
func (p *process) command(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(p.program(t), args...)
	cmd.Dir, cmd.Env = p.dir, p.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("resosync %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// start runs the agent and waits until it answers.
func (p *process) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(p.program(t), append([]string{"run"}, p.args...)...)
	cmd.Dir, cmd.Env = p.dir, p.env
	p.mu.Lock()
	cmd.Stdout, cmd.Stderr = p.output, p.output
	err := cmd.Start()
	p.cmd = cmd
	p.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	client, scheme := http.DefaultClient, "http://"
	if p.secure != nil {
		client, scheme = p.secure, "https://"
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		resp, err := client.Get(scheme + p.address + "/healthz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the agent in %s does not answer:\n%s", p.dir, p.tail())
		}
	}
}

// kill sends SIGKILL and waits for the end. Killing a dead process does nothing.
func (p *process) kill(t *testing.T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Kill(); err != nil && !strings.Contains(err.Error(), "finished") {
		t.Errorf("kill: %v", err)
	}
	_ = p.cmd.Wait() // its error says that it was killed
	p.cmd = nil
}

// tail is the end of what the process logged.
func (p *process) tail() string {
	text := p.output.String()
	return text[max(0, len(text)-4000):]
}

// sql opens the process's store beside it.
func (p *process) sql(t *testing.T, use func(db *sql.DB)) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(p.dir, "data", "resosync.db")+"?_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	use(db)
}

// records returns the hash of every record that is there.
func (p *process) records(t *testing.T, feed string) map[string]string {
	found := map[string]string{}
	p.sql(t, func(db *sql.DB) {
		scan(t, db, `SELECT resource || '/' || key, body FROM records WHERE feed = '`+feed+`' AND body IS NOT NULL`,
			func(ref, body string) { found[ref] = mustHash([]byte(body)) })
	})
	return found
}

// has says whether a record of the replica is there.
func (p *process) has(t *testing.T, key string) (found bool) {
	p.sql(t, func(db *sql.DB) {
		if err := db.QueryRow(`SELECT EXISTS (SELECT 1 FROM records WHERE feed = 'mls' AND key = ? AND body IS NOT NULL)`, key).Scan(&found); err != nil {
			t.Fatal(err)
		}
	})
	return found
}

// addresses counts those that freeAddress gave out.
var addresses atomic.Int64

// freeAddress returns a loopback address that nobody listens on. Where the machine has more of them than
// 127.0.0.1 its host is given out once, so that no connection of another test takes the port of an agent
// that is not running.
func freeAddress(t *testing.T) string {
	t.Helper()
	n := addresses.Add(1)
	listener, err := net.Listen("tcp", fmt.Sprintf("127.1.%d.%d:0", n/250, n%250+1))
	if err != nil {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// proxy runs a proxy in front of an address: on decides what happens to each request.
func (p *pair) proxy(t *testing.T, target string, on func(*testing.T, http.ResponseWriter, *http.Request, func() (*http.Response, []byte, error))) string {
	transport := &http.Transport{MaxIdleConnsPerHost: 10}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		on(t, w, r, func() (*http.Response, []byte, error) {
			ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
			defer cancel()
			out := r.Clone(ctx)
			out.URL.Scheme, out.URL.Host, out.Host, out.RequestURI = "http", target, target, ""
			resp, err := transport.RoundTrip(out)
			if err != nil {
				return nil, nil, err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return resp, body, err
		})
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL
}
