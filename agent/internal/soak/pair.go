package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/resosync/resosync/agent/internal/chaos"
)

// pair is the two agents, the other subscriber, the proxies between them, and what befell them.
type pair struct {
	producer, consumer  *process
	odata, push, pushed *chaos.Proxy // in front of the producer, the consumer and the sink
	sink                *sink
	token               string
	client              *http.Client

	writing sync.RWMutex // read-locked during a write; locked: the writers pause
	begun   time.Time
	writes  atomic.Int64

	removals              atomic.Int64
	kills, stops, freezes int
}

// process is one agent.
type process struct {
	name, dir, address, binary string
	env                        []string
	log                        *os.File
	cmd                        *exec.Cmd
}

func newPair(ctx context.Context, binary, dir string) (p *pair, err error) {
	if binary, err = filepath.Abs(binary); err != nil {
		return nil, err
	}
	p = &pair{begun: time.Now(), client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.sink, err = newSink(); err != nil {
		return nil, err
	}
	host := "127.0.0.1"
	if runtime.GOOS == "linux" {
		host = "127.0.0.2" // there no connection of anybody takes the port of an agent that was killed
	}
	var addresses [2]string
	for i := range addresses {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, "0")) //nolint:noctx // it ends at once
		if err != nil {
			return nil, err
		}
		addresses[i] = listener.Addr().String()
		_ = listener.Close() // the agent listens there next
	}
	for proxy, target := range map[**chaos.Proxy]string{&p.odata: addresses[0], &p.push: addresses[1], &p.pushed: p.sink.address} {
		if *proxy, err = chaos.New(target); err != nil {
			return nil, err
		}
	}
	if p.producer, err = newProcess(binary, filepath.Join(dir, "producer"), addresses[0], fmt.Sprintf(producerConfig, addresses[0], p.odata.URL, p.push.URL, p.pushed.URL)); err != nil {
		return nil, err
	}
	if p.consumer, err = newProcess(binary, filepath.Join(dir, "consumer"), addresses[1], fmt.Sprintf(consumerConfig, addresses[1], p.odata.URL)); err != nil {
		return nil, err
	}
	p.producer.env, p.consumer.env = append(os.Environ(), "PUSH_TOKEN=unset"), append(os.Environ(), "API_TOKEN=unset")
	if p.token, err = p.producer.command(ctx, "token", "issue", "--client", "vendor", "--scope", "read,write"); err != nil {
		return nil, err
	}
	push, err := p.consumer.command(ctx, "token", "issue", "--feed", "mls")
	if err != nil {
		return nil, err
	}
	p.producer.env = append(p.producer.env, "PUSH_TOKEN="+push)
	p.consumer.env = append(p.consumer.env, "API_TOKEN="+p.token)
	for _, one := range []*process{p.producer, p.consumer} {
		if err := one.start(ctx); err != nil {
			return nil, err
		}
	}
	return p, nil
}

const producerConfig = `
name: producer
listen: %s
public_url: %s
producer:
  allow_callbacks: [127.0.0.0/8]
  clients:
    - {name: vendor, scopes: [read, write, subscribe]}
  subscriptions:
    - {name: agent, client: vendor, url: "%s/webhooks/mls", token: "${PUSH_TOKEN}", timeout: 5s}
    - {name: sink, client: vendor, url: "%s/", token: "sink", timeout: 5s}
`

const consumerConfig = `
name: consumer
listen: %s
consumer:
  feeds:
    - {name: mls, url: "%s/odata", token: "${API_TOKEN}", resources: [Property], long_poll: true, poll: "@every 5s"}
`

func newProcess(binary, dir, address, config string) (*process, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "resosync.yaml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	return &process{name: filepath.Base(dir), dir: dir, address: address, binary: binary, log: log}, err
}

func (p *process) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, p.binary, args...)
	cmd.Dir, cmd.Env = p.dir, p.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("resosync %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// start runs the agent and waits until it answers.
func (p *process) start(ctx context.Context) error {
	p.cmd = exec.Command(p.binary, "run") //nolint:noctx // it is killed, or stopped, but not by ctx
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = p.dir, p.env, p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	client := http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/healthz", nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("the %s does not answer", p.name)
}

// alive says whether the agent did not end by itself.
func (p *process) alive() error {
	if err := p.cmd.Process.Signal(syscall.Signal(0)); err != nil {
		return fmt.Errorf("the %s ended by itself: %w", p.name, err)
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WNOHANG, nil); err == nil && pid > 0 {
		return fmt.Errorf("the %s ended by itself, with status %d", p.name, status.ExitStatus())
	}
	return nil
}

func (p *process) kill() {
	if p != nil && p.cmd != nil {
		_ = p.cmd.Process.Kill() // it may have ended
		_ = p.cmd.Wait()
	}
}

// close ends everything.
func (p *pair) close() error {
	p.producer.kill()
	p.consumer.kill()
	var errs []error
	for _, proxy := range []*chaos.Proxy{p.odata, p.push, p.pushed} {
		if proxy != nil {
			errs = append(errs, proxy.Close())
		}
	}
	if p.sink != nil {
		errs = append(errs, p.sink.server.Close())
	}
	p.client.CloseIdleConnections()
	return errors.Join(errs...)
}

// spoil sets the faults of all proxies.
func (p *pair) spoil(f chaos.Faults) {
	for _, proxy := range []*chaos.Proxy{p.odata, p.push, p.pushed} {
		proxy.Set(f)
	}
}

// befall waits a little, and lets something happen.
func (p *pair) befall(ctx context.Context, random *rand.Rand, kills bool) error {
	if err := sleep(ctx, time.Duration(2000+random.IntN(4000))*time.Millisecond); err != nil {
		return err
	}
	victim := []*process{p.producer, p.consumer}[random.IntN(2)]
	switch event := random.IntN(4); {
	case event == 0 && kills || event == 1 && kills:
		p.kills++
		if err := victim.alive(); err != nil {
			return err
		}
		victim.kill()
		return victim.start(ctx)
	case event == 2:
		p.stops++
		if err := victim.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		err := sleep(ctx, time.Duration(1000+random.IntN(8000))*time.Millisecond)
		return errors.Join(err, victim.cmd.Process.Signal(syscall.SIGCONT))
	case event == 3:
		p.freezes++
		[]*chaos.Proxy{p.odata, p.push, p.pushed}[random.IntN(3)].Freeze()
	}
	return errors.Join(p.producer.alive(), p.consumer.alive())
}

func (p *pair) summary() string {
	befell := map[chaos.Fault]int{}
	for _, proxy := range []*chaos.Proxy{p.odata, p.push, p.pushed} {
		for fault, n := range proxy.Counts() {
			befell[fault] += n
		}
	}
	well := befell[""]
	delete(befell, "")
	return fmt.Sprintf("%d writes, %d requests well, %v, %d kills, %d stops, %d half-open", p.writes.Load(), well, befell, p.kills, p.stops, p.freezes)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
