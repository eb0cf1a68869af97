package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/resosync/resosync/entityevent/sqlite"
)

// process is a server in a process of its own: an agent, or a bare handler.
type process struct {
	cmd   *exec.Cmd
	root  string // of its URLs
	token string // of an agent, for everything
	other string // of another client, to read
	log   *os.File
}

const agentConfig = `
name: bench
listen: %s
producer:
  metadata: %s
  clients:
    - {name: bench, scopes: [read, write]}
    - {name: other, scopes: [read]}
`

// build builds the program, once.
func (b *bench) build(ctx context.Context) (string, error) {
	program := filepath.Join(b.dir, "resosync")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./agent").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return program, nil
}

// producer fills a store and runs the program on it. The schema is that of a document, as an MLS has it.
func (b *bench) producer(ctx context.Context, fill func(*sqlite.Store) error) (_ *process, err error) {
	dir, err := b.folder()
	if err != nil {
		return nil, err
	}
	program, err := b.build(ctx)
	if err != nil {
		return nil, err
	}
	schema, err := filepath.Abs("testdata/metadata.xml")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "resosync.yaml"), fmt.Appendf(nil, agentConfig, address, schema), 0o600); err != nil {
		return nil, err
	}
	token, err := issue(ctx, program, dir, "--client", "bench", "--scope", "read,write")
	if err != nil {
		return nil, err
	}
	other, err := issue(ctx, program, dir, "--client", "other", "--scope", "read")
	if err != nil {
		return nil, err
	}
	store, err := sqlite.Open(ctx, filepath.Join(dir, "data", "resosync.db"), sqlite.Options{})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(fill(store), store.Close()); err != nil {
		return nil, err
	}
	p, err := start(ctx, dir, address, program, "run")
	if err == nil {
		p.token, p.other = token, other
	}
	return p, err
}

// issue returns a token of a client.
func issue(ctx context.Context, program, dir string, of ...string) (string, error) {
	command := exec.CommandContext(ctx, program, append([]string{"token", "issue"}, of...)...)
	command.Dir = dir
	token, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("resosync token issue: %w: %s", err, token)
	}
	return strings.TrimSpace(string(token)), nil
}

// bareServer runs this program as the bare handler, which answers every request with the bytes of a file.
func (b *bench) bareServer(ctx context.Context, answer []byte) (*process, error) {
	dir, err := b.folder()
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "answer")
	if err := os.WriteFile(file, answer, 0o600); err != nil {
		return nil, err
	}
	return start(ctx, dir, address, program, "-bare", address, "-answer", file)
}

// start runs a server and waits until it answers.
func start(ctx context.Context, dir, address, program string, args ...string) (_ *process, err error) {
	p := &process{root: "http://" + address}
	if p.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	p.cmd = exec.Command(program, args...) //nolint:noctx // stop ends it
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, p.log.Close())
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.root+"/healthz", http.NoBody)
		if err != nil {
			return nil, errors.Join(err, p.stop())
		}
		if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p, nil
			}
		}
	}
	said, _ := os.ReadFile(p.log.Name())
	return nil, errors.Join(fmt.Errorf("%s does not answer: %s", program, said), context.Cause(ctx), p.stop())
}

// stop ends the process as an operator would.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case err := <-done:
		return errors.Join(err, p.log.Close())
	case <-time.After(20 * time.Second):
		return errors.Join(errors.New("it does not stop"), p.cmd.Process.Kill(), <-done, p.log.Close())
	}
}

// cpu is the time that the process computed so far. The kernel counts in ticks of 10 ms.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold spaces. User and system time are the 14th and 15th field.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// memory is what the process occupies, in bytes.
func (p *process) memory() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	var kb int64
	if _, err := fmt.Sscanf(after, "%d kB", &kb); err != nil {
		return 0, fmt.Errorf("VmRSS: %w", err)
	}
	return kb << 10, nil
}

// get reads an answer of the server.
func (p *process) get(ctx context.Context, target string) ([]byte, error) {
	text, _, err := p.do(ctx, http.MethodGet, target, "", http.StatusOK)
	return text, err
}

// write creates a record.
func (p *process) write(ctx context.Context, resource, field, key string) error {
	_, _, err := p.do(ctx, http.MethodPut, "/odata/"+resource+"('"+key+"')", `{"`+field+`":"`+key+`"}`, http.StatusCreated)
	return err
}

// head is the newest event; of a bare handler, 0.
func (p *process) head(ctx context.Context) (string, error) {
	if p.token == "" {
		return "0", nil
	}
	_, header, err := p.do(ctx, http.MethodGet, "/odata/EntityEvent?$top=1&$orderby=EntityEventSequence%20desc", "", http.StatusOK)
	return header.Get("EntityEvent-Through"), err
}

func (p *process) do(ctx context.Context, method, target, body string, status int) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.root+target, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != status {
		err = fmt.Errorf("%s %s: %s: %.300s", method, target, resp.Status, text)
	}
	return text, resp.Header, err
}

// drop sends a request and drops the answer.
func drop(transport http.RoundTripper, req *http.Request) error {
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %.100s: %s", req.Method, req.URL, resp.Status)
	}
	return err
}
