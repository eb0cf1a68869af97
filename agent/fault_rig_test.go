//go:build linux

package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/resosync/resosync/agent/internal/chaos"
)

// TestFaults brings each fault upon a pair of the real binaries, under live writes: nothing acknowledged is
// lost, both processes stay, the side that cannot work is red within 30 s and says what to do, and green
// when it can again; the log says each once; in the end both sides are equal. The scenarios mostly wait,
// and so run all at once, whatever -parallel says.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	var running sync.WaitGroup
	for name, scenario := range map[string]func(*testing.T){
		"disk full under the producer":         diskFullProducer,
		"disk full under the consumer":         diskFullConsumer,
		"producer read-only":                   func(t *testing.T) { readOnly(t, producerSide) },
		"consumer read-only":                   func(t *testing.T) { readOnly(t, consumerSide) },
		"started read-only":                    startedReadOnly,
		"producer stopped for a minute":        func(t *testing.T) { stopped(t, producerSide) },
		"consumer stopped for a minute":        func(t *testing.T) { stopped(t, consumerSide) },
		"clock of the producer, push":          func(t *testing.T) { clockJumps(t, producerSide, true) },
		"clock of the producer, poll":          func(t *testing.T) { clockJumps(t, producerSide, false) },
		"clock of the consumer, push":          func(t *testing.T) { clockJumps(t, consumerSide, true) },
		"clock of the consumer, poll":          func(t *testing.T) { clockJumps(t, consumerSide, false) },
		"half-open push":                       halfOpenPush,
		"half-open poll":                       func(t *testing.T) { halfOpenPoll(t, false) },
		"half-open long poll":                  func(t *testing.T) { halfOpenPoll(t, true) },
		"a network that spoils everything":     spoiled,
		"no network":                           noNetwork,
		"the replica of yesterday":             func(t *testing.T) { yesterday(t, false) },
		"the replica of yesterday, with a WAL": func(t *testing.T) { yesterday(t, true) },
		"two agents":                           twoAgents,
		"newer schema":                         newerSchema,
		"damaged producer":                     func(t *testing.T) { damaged(t, producerSide) },
		"damaged consumer":                     func(t *testing.T) { damaged(t, consumerSide) },
		"producer's store removed":             func(t *testing.T) { removed(t, producerSide) },
		"consumer's store removed":             func(t *testing.T) { removed(t, consumerSide) },
	} {
		running.Go(func() { t.Run(name, scenario) })
	}
	running.Wait()
}

// local is how soon a fault of this machine, and recovery from it, shows in /readyz.
const local = 30 * time.Second

// side is one of a rig's two.
type side int

const (
	producerSide side = iota
	consumerSide
)

// rig is a producer and a consumer as processes, with proxies between them, and a writer.
type rig struct {
	*pair
	odata, push *chaos.Proxy // in front of the producer, and of the consumer
	pushToken   string

	writing  sync.Mutex // held during one write
	acked    map[string]written
	refused  atomic.Int64 // writes that were not acknowledged
	accepted atomic.Int64
	answer   string // the last answer that refused
	stop     chan struct{}
	stopped  chan struct{}
}

// written is what may stand at the producer under a key: what was acknowledged last, or anything sent since.
type written struct {
	last  string
	maybe []string
}

// setup is how a rig differs from the usual one.
type setup struct {
	mount    func(t *testing.T, s side, folder string) // prepares a data folder
	path     func() (string, error)                    // another binary
	env      [2][]string
	noPush   bool
	longPoll bool
	poll     string // Default @every 1s.
	timeout  string // of a push. Default 3s.
	stale    string // Default 10s.
	size     int    // of a record's text. Default 300.
}

var rigs atomic.Int32

// never is the schedule of a feed to which pushes alone bring changes, after its start.
const never = "0 0 1 1 *"

func newRig(t *testing.T, s setup) *rig {
	t.Helper()
	def := func(v *string, d string) {
		if *v == "" {
			*v = d
		}
	}
	if s.poll == never {
		s.stale = "24h"
	}
	def(&s.poll, "@every 1s")
	def(&s.timeout, "3s")
	def(&s.stale, "10s")
	r := &rig{pair: &pair{client: &http.Client{Timeout: 10 * time.Second}, model: map[string]*history{}}, acked: map[string]written{}}
	t.Cleanup(r.client.CloseIdleConnections)
	dir := t.TempDir()
	host := fmt.Sprintf("127.0.%d.1", rigs.Add(1)) // of its own, so that no other takes the port of an agent that is not running
	producerAddr, consumerAddr := net.JoinHostPort(host, "8081"), net.JoinHostPort(host, "8082")
	r.odata, r.push = newChaos(t, producerAddr), newChaos(t, consumerAddr)
	r.writeURL = "http://" + producerAddr + "/odata"
	subscriptions := ""
	if !s.noPush {
		subscriptions = fmt.Sprintf("  subscriptions:\n    - {name: vendor, client: vendor, url: \"%s/webhooks/mls\", token: \"${PUSH_TOKEN}\", timeout: %s}\n", r.push.URL, s.timeout)
	}
	config := [2]string{fmt.Sprintf(`
name: producer
listen: %s
public_url: %s
producer:
  allow_callbacks: [127.0.0.0/8]
  clients:
    - {name: vendor, scopes: [read, write, subscribe]}
%s`, producerAddr, r.odata.URL, subscriptions), fmt.Sprintf(`
name: consumer
listen: %s
consumer:
  feeds:
    - {name: mls, url: "%s/odata", token: "${API_TOKEN}", resources: [Property], poll: "%s", long_poll: %v, stale_after: %s}
`, consumerAddr, r.odata.URL, s.poll, s.longPoll, s.stale)}
	for i, address := range []string{producerAddr, consumerAddr} {
		folder := filepath.Join(dir, []string{"producer", "consumer"}[i])
		if s.mount != nil {
			s.mount(t, side(i), filepath.Join(folder, "data"))
		}
		p := newProcess(t, folder, address, config[i])
		p.path = s.path
		p.env = append(p.env, s.env[i]...)
		if side(i) == producerSide {
			r.producer = p
		} else {
			r.consumer = p
		}
	}
	r.producer.env = append(r.producer.env, "PUSH_TOKEN=unset")
	r.consumer.env = append(r.consumer.env, "API_TOKEN=unset")
	r.token = r.producer.command(t, "token", "issue", "--client", "vendor", "--scope", "read,write")
	r.pushToken = r.consumer.command(t, "token", "issue", "--feed", "mls")
	r.producer.env = append(r.producer.env, "PUSH_TOKEN="+r.pushToken)
	r.consumer.env = append(r.consumer.env, "API_TOKEN="+r.token)

	r.producer.start(t)
	for i := range 30 {
		if err := r.put(t.Context(), fmt.Sprintf("k%d", i), 300); err != nil {
			t.Fatal(err)
		}
	}
	r.consumer.start(t)
	r.waitEqual(t)
	r.green(t, producerSide)
	r.green(t, consumerSide)
	if !eventually(local, func() bool {
		return r.producer.logged("push was not taken") == r.producer.logged("pushes are taken again") // those before the consumer ran were not
	}) {
		t.Fatalf("no push is taken:\n%s", r.producer.tail())
	}
	r.write(t, max(s.size, 300))
	return r
}

func newChaos(t *testing.T, target string) *chaos.Proxy {
	t.Helper()
	p, err := chaos.New(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func (r *rig) process(s side) *process { return []*process{r.producer, r.consumer}[s] }

// write changes records of the producer, twenty a second, until rest.
func (r *rig) write(t *testing.T, size int) {
	r.stop, r.stopped = make(chan struct{}), make(chan struct{})
	stop, stopped := r.stop, r.stopped
	go func() {
		defer close(stopped)
		ticks := time.NewTicker(50 * time.Millisecond)
		defer ticks.Stop()
		for n := 100; ; n++ {
			select {
			case <-stop:
				return
			case <-ticks.C:
			}
			key := fmt.Sprintf("k%d", rand.IntN(min(n, 300)))
			if rand.IntN(40) == 0 { // more of them in an hour would be held
				_ = r.remove(t.Context(), key) // what is refused is counted
			} else {
				_ = r.put(t.Context(), key, size)
			}
		}
	}()
	t.Cleanup(r.rest)
}

// rest ends the writing.
func (r *rig) rest() {
	if r.stop != nil {
		close(r.stop)
		<-r.stopped
		r.stop = nil
	}
}

func (r *rig) put(ctx context.Context, key string, size int) error {
	body := fmt.Sprintf(`{"ListingKey":%q,"ListPrice":%d,"StandardStatus":"Active","PublicRemarks":%q}`,
		key, rand.IntN(1e9), strings.Repeat("x", size))
	return r.send(ctx, http.MethodPut, key, body, mustHash([]byte(body)))
}

func (r *rig) remove(ctx context.Context, key string) error {
	return r.send(ctx, http.MethodDelete, key, "", "")
}

// send makes one write, once.
func (r *rig) send(ctx context.Context, method, key, body, hash string) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	w := r.acked[key]
	w.maybe = append(w.maybe, hash)
	r.acked[key] = w
	status, text, err := r.ask(ctx, method, r.writeURL+"/Property('"+key+"')", r.token, body)
	if err == nil && (status/100 == 2 || status == http.StatusNotFound) {
		r.acked[key] = written{last: hash}
		r.accepted.Add(1)
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%s %s: %d %s", method, key, status, text)
	}
	r.answer = err.Error()
	r.refused.Add(1)
	return err
}

// ask sends a request with a JSON body. text is the answer's header, as far as it matters, and body.
func (r *rig) ask(ctx context.Context, method, url, token, body string) (status int, text string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, "Retry-After: " + resp.Header.Get("Retry-After") + "\n" + string(raw), err
}

// settle ends the writing, waits until both sides are equal and checks that nothing acknowledged was lost.
func (r *rig) settle(t *testing.T) {
	t.Helper()
	r.rest()
	r.waitEqual(t)
	have := r.producer.records(t, "local")
	for key, w := range r.acked {
		found := have["Property/"+key] == w.last
		for _, maybe := range w.maybe {
			found = found || have["Property/"+key] == maybe
		}
		if !found {
			t.Errorf("%s: the last acknowledged write was lost", key)
		}
	}
	if r.accepted.Load() < 20 {
		t.Errorf("only %d writes were acknowledged: nothing was put to the test", r.accepted.Load())
	}
	for _, p := range []*process{r.producer, r.consumer} {
		p.alive(t)
	}
}

// alive checks that the process did not end by itself.
func (p *process) alive(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	cmd := p.cmd
	p.mu.Unlock()
	if cmd == nil || cmd.Process.Signal(syscall.Signal(0)) != nil {
		t.Fatalf("the agent in %s ended:\n%s", p.dir, p.tail())
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WNOHANG, nil); err == nil && pid > 0 {
		t.Fatalf("the agent in %s ended: %v\n%s", p.dir, status, p.tail())
	}
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// terminate sends SIGTERM and checks that the process ends within 10 s.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(ended) }() // how it ends is not judged here
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Errorf("the agent in %s does not stop within 10 s:\n%s", p.dir, p.tail())
		_ = p.cmd.Process.Kill()
		<-ended
	}
	p.mu.Lock()
	p.cmd = nil
	p.mu.Unlock()
}

// refuses runs the agent, which must end at once with status 1 and a text that matches.
func (p *process) refuses(t *testing.T, match string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "run")
	cmd.Dir, cmd.Env = p.dir, p.env
	out, _ := cmd.CombinedOutput() // its status is judged
	if cmd.ProcessState.ExitCode() != 1 || !regexp.MustCompile(match).Match(out) || bytes.Contains(out, []byte("goroutine ")) {
		t.Errorf("run: status %d, want 1 and a text that matches %q:\n%s", cmd.ProcessState.ExitCode(), match, out)
	}
}

// readiness asks /readyz.
func (r *rig) readiness(s side) (status int, detail string) {
	client := http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + r.process(s).address + "/readyz")
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	var body struct{ Detail string }
	raw, _ := io.ReadAll(resp.Body) // what is missing of it does not match
	if json.Unmarshal(raw, &body) != nil {
		return resp.StatusCode, string(raw)
	}
	return resp.StatusCode, body.Detail
}

// turns waits until a side's /readyz answers this status, with a text that matches.
func (r *rig) turns(t *testing.T, s side, want int, match string, within time.Duration) {
	t.Helper()
	begun := time.Now()
	if !eventually(within, func() bool {
		status, detail := r.readiness(s)
		return status == want && regexp.MustCompile(match).MatchString(detail)
	}) {
		status, detail := r.readiness(s)
		t.Fatalf("/readyz of %s answers %d %q after %v, want %d and a text that matches %q\n%s",
			filepath.Base(r.process(s).dir), status, detail, time.Since(begun).Round(time.Second), want, match, r.process(s).tail())
	}
}

func (r *rig) red(t *testing.T, s side, match string) {
	t.Helper()
	r.turns(t, s, http.StatusServiceUnavailable, match, local)
}

func (r *rig) green(t *testing.T, s side) {
	t.Helper()
	r.turns(t, s, http.StatusOK, "", local)
}

// arrives writes one record, and waits until the replica has it.
func (r *rig) arrives(t *testing.T, what string, within time.Duration) {
	t.Helper()
	key := fmt.Sprintf("marker%d", rand.Int64())
	begun := time.Now()
	if !eventually(within, func() bool { return r.put(t.Context(), key, 10) == nil }) {
		t.Fatalf("%s: the producer takes no writes: %s\n%s", what, r.answer, r.producer.tail())
	}
	if !eventually(within-time.Since(begun), func() bool { return r.consumer.has(t, key) }) {
		t.Fatalf("%s: a change did not arrive within %v\nproducer:\n%s\nconsumer:\n%s", what, within, r.producer.tail(), r.consumer.tail())
	}
	t.Logf("%s: a change arrived after %v", what, time.Since(begun).Round(time.Millisecond))
}

// eventually asks until it holds, for this long.
func eventually(within time.Duration, holds func() bool) bool {
	ticks := time.NewTicker(50 * time.Millisecond)
	defer ticks.Stop()
	for deadline := time.After(within); ; {
		if holds() {
			return true
		}
		select {
		case <-deadline:
			return holds()
		case <-ticks.C: // another process; nothing signals
		}
	}
}

// logged counts the lines of the process's log that match.
func (p *process) logged(match string) int {
	return len(regexp.MustCompile(`(?m)^.*`+match+`.*$`).FindAllString(p.output.String(), -1))
}
