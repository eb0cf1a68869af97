package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net"
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

// way is how a consumer comes to the records.
type way struct {
	name, path string // of the service root
	producer   string // more of its configuration
}

// The feed that /odata serves is copied by snapshots, as tasks are of that one. Another is read by pages.
var ways = []way{
	{name: "snapshot", path: "/odata"},
	{name: "pages", path: "/feeds/local/odata", producer: "  feed: none\nconsumer:\n  feeds: [{name: none, url: \"http://127.0.0.1:9/odata\", resources: [Property]}]\n"},
}

// catchUp measures how an empty consumer process copies the records of a producer process, in each way.
func (b *bench) catchUp(ctx context.Context) error {
	binary, err := b.build(ctx)
	if err != nil {
		return err
	}
	limit, err := b.rawCopy(ctx)
	if err != nil {
		return err
	}
	title("catch-up: an empty consumer process copies %d records of %d bytes (limit: raw inserts of the records and events, 1000 a transaction)", b.records, len(body(1, 0)))
	for _, w := range ways {
		if err := b.catchUpBy(ctx, binary, w, limit); err != nil {
			return fmt.Errorf("by %s: %w", w.name, err)
		}
	}
	return nil
}

func (b *bench) catchUpBy(ctx context.Context, binary string, w way, limit float64) error {
	producerAddr, err := freeAddress()
	if err != nil {
		return err
	}
	consumerAddr, err := freeAddress()
	if err != nil {
		return err
	}
	producer, err := b.agent(binary, producerAddr, fmt.Sprintf("name: p\nlisten: %s\nproducer:\n  clients: [{name: c, scopes: [read]}]\n%s", producerAddr, w.producer))
	if err != nil {
		return err
	}
	defer producer.end()
	consumer, err := b.agent(binary, consumerAddr, fmt.Sprintf("name: c\nlisten: %s\nconsumer:\n  feeds:\n    - {name: p, url: \"http://%s%s\", token: \"${TOKEN}\", resources: [Property]}\n", consumerAddr, producerAddr, w.path))
	if err != nil {
		return err
	}
	defer consumer.end()
	if err := os.Mkdir(filepath.Join(producer.dir, "data"), 0o700); err != nil {
		return err
	}
	store, err := sqlite.Open(ctx, filepath.Join(producer.dir, "data", "resosync.db"), sqlite.Options{})
	if err != nil {
		return err
	}
	err = fill(ctx, store, b.records, b.records, body)
	if closeErr := store.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	issue := exec.CommandContext(ctx, binary, "token", "issue", "--client", "c")
	issue.Dir = producer.dir
	token, err := issue.Output()
	if err != nil {
		return fmt.Errorf("token issue: %w", err)
	}
	consumer.env = append(consumer.env, "TOKEN="+strings.TrimSpace(string(token)))
	if err := producer.start(ctx); err != nil {
		return err
	}
	if err := producer.learn(ctx, w.path, strings.TrimSpace(string(token))); err != nil {
		return err
	}
	start := time.Now()
	if err := consumer.start(ctx); err != nil {
		return err
	}
	took, err := consumer.await(ctx, b.records, start)
	if err != nil {
		return err
	}
	producerUse, err := producer.stop()
	if err != nil {
		return err
	}
	consumerUse, err := consumer.stop()
	if err != nil {
		return err
	}
	if said := fmt.Sprintf("snapshot=%t", w.name == "snapshot"); !strings.Contains(consumer.log.String(), said) {
		return fmt.Errorf("the records came another way: %s", consumer.log.String())
	}
	line("by "+w.name+": records copied, from the start of the consumer", float64(b.records)/took.Seconds(), limit, "records/s")
	for _, u := range []struct {
		name string
		usage
	}{{"producer", producerUse}, {"consumer", consumerUse}} {
		fmt.Printf("  %-52s %12.3f CPU-ms per record, peak memory %d MB\n", u.name+" process", u.cpu.Seconds()*1000/float64(b.records), u.peak>>20)
	}
	fmt.Printf("  %-52s %12.3f CPU-ms per record\n", "both", (producerUse.cpu+consumerUse.cpu).Seconds()*1000/float64(b.records))
	return nil
}

// rawCopy inserts as many records and events as the consumer will, and returns how many a second.
func (b *bench) rawCopy(ctx context.Context) (float64, error) {
	dir, err := b.folder()
	if err != nil {
		return 0, err
	}
	db, _, err := openRaw(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	var spent time.Duration
	for n := 0; n < b.records; n += 1000 {
		took, err := rawInsert(ctx, db, n, 1000)
		if err != nil {
			return 0, err
		}
		spent += took
	}
	return float64(b.records) / spent.Seconds(), nil
}

// agent is a process of the real binary.
type agent struct {
	binary, dir, address string
	env                  []string
	cmd                  *exec.Cmd
	log                  bytes.Buffer
}

// usage is what a process used: processor time and peak resident memory in bytes.
type usage struct {
	cpu  time.Duration
	peak int64
}

func (b *bench) agent(binary, address, config string) (*agent, error) {
	dir, err := b.folder()
	if err != nil {
		return nil, err
	}
	return &agent{binary: binary, dir: dir, address: address, env: os.Environ()}, os.WriteFile(filepath.Join(dir, "resosync.yaml"), []byte(config), 0o600)
}

func (a *agent) start(ctx context.Context) error {
	a.cmd = exec.CommandContext(ctx, a.binary, "run")
	a.cmd.Dir, a.cmd.Env, a.cmd.Stdout, a.cmd.Stderr = a.dir, a.env, &a.log, &a.log
	if err := a.cmd.Start(); err != nil {
		return err
	}
	for range 1000 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.address+"/healthz", http.NoBody)
		if err != nil {
			return err
		}
		if resp, err := (&http.Client{Timeout: time.Second}).Do(req); err == nil {
			return resp.Body.Close()
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("the agent does not answer: %s", a.log.String())
}

// learn lets the producer infer its schema, as it does when records come in by its own doors.
func (a *agent) learn(ctx context.Context, path, token string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.address+path+"/$metadata", http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("$metadata: %s", resp.Status)
	}
	return nil
}

// await waits until the replica holds n records, and returns how long that took.
func (a *agent) await(ctx context.Context, n int, start time.Time) (time.Duration, error) {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(a.dir, "data", "resosync.db")+"?mode=ro&_busy_timeout=5000")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	for time.Since(start) < 5*time.Minute {
		var have int
		if err := db.QueryRowContext(ctx, `SELECT coalesce(max(rowid), 0) FROM records`).Scan(&have); err == nil && have >= n {
			took := time.Since(start)
			err := db.QueryRowContext(ctx, `SELECT count(*) FROM records WHERE body IS NOT NULL`).Scan(&have)
			if err == nil && have != n {
				err = fmt.Errorf("the replica has %d records, want %d", have, n)
			}
			return took, err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return 0, fmt.Errorf("not level after 5 minutes: %s", a.log.String())
}

// stop ends the process cleanly and returns what it used.
func (a *agent) stop() (usage, error) {
	var u usage
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.cmd.Process.Pid))
	if err == nil {
		if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			u.peak = kb << 10
		}
	}
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return u, err
	}
	if err := a.cmd.Wait(); err != nil {
		return u, fmt.Errorf("%w: %s", err, a.log.String())
	}
	u.cpu = a.cmd.ProcessState.UserTime() + a.cmd.ProcessState.SystemTime()
	a.cmd = nil
	return u, nil
}

// end kills the process if it still runs.
func (a *agent) end() {
	if a.cmd != nil {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
	}
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens for a moment only
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
