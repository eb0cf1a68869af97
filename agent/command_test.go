package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// shell runs commands of the real binary in one folder and remembers everything that they printed.
type shell struct {
	t       *testing.T
	dir     string
	printed bytes.Buffer
}

// result is what a command did.
type result struct {
	status         int
	stdout, stderr string
}

func newShell(t *testing.T) *shell { return &shell{t: t, dir: t.TempDir()} }

func (s *shell) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shell) run(args ...string) result {
	s.t.Helper()
	return s.pipe("", args...)
}

func (s *shell) pipe(stdin string, args ...string) result {
	s.t.Helper()
	path, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = s.dir, strings.NewReader(stdin), &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("resosync %s: %v", strings.Join(args, " "), err)
	}
	s.printed.Write(out.Bytes())
	s.printed.Write(errs.Bytes())
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// must runs a command that must end with the status and print texts that match, on either stream.
func (s *shell) must(status int, match string, args ...string) result {
	s.t.Helper()
	r := s.run(args...)
	r.must(s.t, status, match, "resosync "+strings.Join(args, " "))
	return r
}

// await repeats a command until it prints what matches.
func (s *shell) await(match string, args ...string) {
	s.t.Helper()
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for deadline := time.After(20 * time.Second); ; {
		r := s.run(args...)
		if regexp.MustCompile(match).MatchString(r.stdout) {
			return
		}
		select {
		case <-deadline:
			r.must(s.t, 0, match, "resosync "+strings.Join(args, " "))
		case <-ticks.C:
		}
	}
}

func (r result) must(t *testing.T, status int, match, what string) {
	t.Helper()
	if r.status != status || !regexp.MustCompile(match).MatchString(r.stdout+r.stderr) {
		t.Fatalf("%s: status %d, want %d and output that matches %q; stdout:\n%s\nstderr:\n%s", what, r.status, status, match, r.stdout, r.stderr)
	}
}

// waitFor waits until the URL answers 200.
func waitFor(t *testing.T, url string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for ticks := time.NewTicker(20 * time.Millisecond); ; {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				ticks.Stop()
				return
			}
		}
		select {
		case <-deadline:
			t.Fatalf("%s does not answer", url)
		case <-ticks.C:
		}
	}
}

// agent runs an agent beside the shell's commands.
func (s *shell) agent(address string) *process {
	s.t.Helper()
	p := &process{dir: s.dir, address: address, env: os.Environ(), output: new(output)}
	p.start(s.t)
	s.t.Cleanup(func() { p.kill(s.t) })
	return p
}

const listings = `{"ListingKey":"1","ListPrice":100.00,"StandardStatus":"Active"}
{"ListingKey":"O'Neil/2","ListPrice":200.00,"StandardStatus":"Active"}
{"ListingKey":"3","ListPrice":300.00,"StandardStatus":"Active"}
`

func producerConfig(address string) string {
	return fmt.Sprintf("name: mls\nlisten: %s\nproducer:\n  clients:\n    - {name: vendor}\n    - {name: writer, scopes: [read, write]}\n", address)
}

// TestCommandsWithAndWithoutAgent runs the same commands twice: by themselves, and while an agent runs.
func TestCommandsWithAndWithoutAgent(t *testing.T) {
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("agent=%v", running), func(t *testing.T) {
			s, address := newShell(t), freeAddress(t)
			s.write("resosync.yaml", producerConfig(address))
			s.write("listings.jsonl", listings)
			s.write("bad.jsonl", listings+"{\"ListingKey\":\"4\",\n")
			if running {
				s.agent(address)
			}
			s.must(0, `ok +configuration: .*\nok +store `, "check")
			s.must(0, `3 new, 0 changed, 0 unchanged, 0 refused`, "import", "--resource", "Property", "listings.jsonl")
			s.must(0, `0 new, 0 changed, 3 unchanged, 0 refused`, "import", "--resource", "Property", "listings.jsonl")
			s.must(1, `bad.jsonl:4: `, "import", "--resource", "Property", "bad.jsonl")
			s.pipe(strings.ReplaceAll(listings, "100.00", "110.00"), "import", "--resource", "Property", "-").
				must(t, 0, `0 new, 1 changed, 2 unchanged, 0 refused`, "import -")
			s.must(1, `nothing.jsonl`, "import", "nothing.jsonl")

			s.must(0, `^1\tProperty\t1\n2\tProperty\tO'Neil/2\n3\tProperty\t3\n4\tProperty\t1\n$`, "events")
			s.must(0, `^4\tProperty\t1\n$`, "events", "--after", "3")
			s.must(0, `^2\tProperty\tO'Neil/2\n$`, "events", "--after", "1", "--limit", "1")
			s.must(0, `^$`, "events", "--after", "now")
			s.must(0, `^{"EntityEventSequence":4,"ResourceName":"Property","ResourceRecordKey":"1","ResourceRecordUrl":"http://`+address+`/odata/Property\('1'\)"}\n$`, "events", "--after", "3", "--json")

			token := strings.TrimSpace(s.must(0, `^eyJ[\w.-]+\n$`, "token", "issue", "--client", "vendor").stdout)
			s.printed.Reset()
			s.must(1, `no client "nobody"`, "token", "issue", "--client", "nobody")
			s.must(1, `does not give client "vendor" the scope "write"`, "token", "issue", "--client", "vendor", "--scope", "write")
			s.must(1, `no feed "acme"`, "token", "issue", "--feed", "acme")
			s.must(0, `client vendor +read +.* good`, "token", "list")
			var tokens []struct{ ID string }
			if err := json.Unmarshal([]byte(s.must(0, `^\[`, "token", "list", "--json").stdout), &tokens); err != nil || len(tokens) != 1 {
				t.Fatalf("token list --json: %v: %v", tokens, err)
			}
			if running {
				s.must(0, `^1\t`, "events", "--url", "http://"+address+"/odata", "--token", token)
			}
			s.must(0, `revoked`, "token", "revoke", tokens[0].ID)
			s.must(1, `no such token`, "token", "revoke", "nonsense")
			s.must(0, `client vendor +read +.* revoked`, "token", "list")
			if running {
				s.must(1, `token`, "events", "--url", "http://"+address+"/odata", "--token", token)
			}

			state := "not running"
			if running {
				state = "running at http://" + address
			}
			s.must(0, `^mls: `+state+`(.|\n)*head 4\nrecords of local: 3 Property\n`, "status")
			s.must(0, `"head": 4`, "status", "--json")

			admin, err := os.ReadFile(filepath.Join(s.dir, "data", "admin.token"))
			if err != nil {
				t.Fatal(err)
			}
			for what, secret := range map[string]string{"API token": token, "admin token": strings.TrimSpace(string(admin))} {
				if strings.Contains(s.printed.String(), secret) {
					t.Errorf("a command printed the %s:\n%s", what, s.printed.String())
				}
			}
			for _, name := range []string{"admin.token", "signing.key", "resosync.db", "lock"} {
				info, err := os.Stat(filepath.Join(s.dir, "data", name))
				if err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("data/%s: %v, %v; want mode 0600", name, info, err)
				}
			}
			if info, err := os.Stat(filepath.Join(s.dir, "data")); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("data: %v, %v; want mode 0700", info, err)
			}
		})
	}
}

func TestUsageErrorsEndWithTwo(t *testing.T) {
	s := newShell(t)
	for _, args := range [][]string{
		{}, {"bogus"}, {"--bogus"}, {"run", "surplus"}, {"status", "--bogus"}, {"token"}, {"token", "bogus"}, {"token", "revoke"},
		{"token", "issue"}, {"token", "issue", "--client", "a", "--feed", "b"}, {"import"}, {"events", "--after", "-1"},
		{"demo", "--records", "1"}, {"init"}, {"-c"},
	} {
		s.must(2, `See resosync.* --help`, args...)
	}
	s.must(2, `did you mean "status"`, "statsu")
	s.must(0, `resosync demo`, "--help")
	s.must(0, `^resosync `, "version")
	s.must(0, `"version"`, "version", "--json")
}

func TestConfigurationErrors(t *testing.T) {
	s := newShell(t)
	s.must(1, `resosync init`, "status")
	s.write("resosync.yaml", "name: mls\nlisten: 127.0.0.1:0\nproducer:\n  customers: []\n")
	for _, command := range []string{"check", "run", "status"} {
		s.must(1, `4:3|line 4`, command)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "data")); err == nil {
		t.Error("a refused configuration made a data folder")
	}
}

func TestSecondAgentRefuses(t *testing.T) {
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", producerConfig(address))
	s.write("other.yaml", producerConfig(freeAddress(t)))
	s.agent(address)
	s.must(1, `in use by .resosync run. \(process \d+\)`, "run", "-c", "other.yaml")
}

func TestDemo(t *testing.T) {
	s := newShell(t)
	s.must(0, `"result": "equal"`, "demo", "--records", "200", "--for", "2s", "--json")
	s.must(1, `(?s)differs: ListPrice is .*\ndifferent\n`, "demo", "--records", "200", "--for", "500ms", "--tamper")
	s.must(0, `(?s)\nequal\n`, "demo", "--records", "50", "--for", "0s", "--data", "kept")
	s.must(0, `exact as of|at \d+, 0 behind`, "status", "-c", "kept/consumer.yaml")
	s.must(1, `is not empty`, "demo", "--data", "kept")
}

func (s *shell) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// head is the newest sequence of the shell's agent.
func (s *shell) head() string {
	s.t.Helper()
	var now struct{ Head json.Number }
	if err := json.Unmarshal([]byte(s.must(0, `"head"`, "status", "--json").stdout), &now); err != nil {
		s.t.Fatal(err)
	}
	return now.Head.String()
}
