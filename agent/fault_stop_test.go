//go:build linux

package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/resosync/resosync/agent/internal/chaos"
)

// stopped stops a side as a debugger or a frozen machine does, for a minute and longer than a push may take.
func stopped(t *testing.T, s side) {
	r := newRig(t, setup{})
	p := r.process(s)
	p.signal(t, syscall.SIGSTOP)
	minute := time.After(time.Minute) // the fault itself
	t.Cleanup(func() { _ = p.cmd.Process.Signal(syscall.SIGCONT) })
	if s == producerSide {
		r.red(t, consumerSide, `feed mls`)
		r.consumer.saysRed(t, "poll mls")
	}
	<-minute
	if s == consumerSide {
		r.green(t, producerSide)
	}
	p.signal(t, syscall.SIGCONT)
	r.arrives(t, "going on", 20*time.Second)
	r.green(t, producerSide)
	r.green(t, consumerSide)
	r.settle(t)
}

// clocked builds the program with a clock that a file sets wrong: no hook of its own, but two files laid over
// its sources make the runtime ask them for the time.
var clocked = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "resosync-test-")
	if err != nil {
		return "", err
	}
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(here, "clock.go"):      filepath.Join(here, "testdata", "clock", "clock.go.txt"),
		filepath.Join(here, "clock_amd64.s"): filepath.Join(here, "testdata", "clock", "clock_amd64.s.txt"),
	}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "resosync")
	out, err := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-ldflags=-checklinkname=0", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", &exec.Error{Name: "go build: " + string(out), Err: err}
	}
	return path, nil
})

// clock is the wrong clock of one process.
type clock struct{ page []byte }

func newClock(t *testing.T) (c clock, env []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(path, make([]byte, 8), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if c.page, err = unix.Mmap(int(f.Fd()), 0, 8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(c.page) })
	return c, []string{"RESOSYNC_TEST_CLOCK=" + path}
}

// set makes the clock wrong by d.
func (c clock) set(d time.Duration) {
	atomic.StoreInt64((*int64)(unsafe.Pointer(&c.page[0])), int64(d/time.Second))
}

// clockJumps sets one side's clock back an hour, and forward again, while changes flow; then back while the
// sender waits for its next try, and once more so with that side ended in between. By push alone, or by poll
// alone.
func clockJumps(t *testing.T, s side, push bool) {
	if runtime.GOARCH != "amd64" {
		t.Skip("SKIPPED: the wrong clock is written in assembly for amd64; run the tests there")
	}
	c, env := newClock(t)
	_, otherEnv := newClock(t) // stays right
	o := setup{path: clocked, noPush: !push}
	if push {
		o.poll = never // what arrives was pushed
	}
	o.env[s], o.env[1-s] = env, otherEnv
	r := newRig(t, o)
	through := r.odata
	if push {
		through = r.push
	}
	for _, jump := range []struct {
		name  string
		to    time.Duration
		ended bool
	}{{"back", -time.Hour, false}, {"forward", 0, true}} {
		c.set(jump.to)
		r.arrives(t, "set "+jump.name, 15*time.Second)

		c.set(jump.to + time.Hour) // a wait is noted at a time that then is an hour away
		through.Set(chaos.Faults{chaos.Refuse: 1})
		before := through.Counts()[chaos.Refuse]
		if !eventually(local, func() bool { return through.Counts()[chaos.Refuse] > before+1 }) {
			t.Fatal("nothing was refused")
		}
		if jump.ended {
			r.process(s).kill(t)
		}
		c.set(jump.to)
		through.Set(nil)
		if jump.ended {
			r.process(s).start(t)
		}
		r.arrives(t, "set back in a wait", 15*time.Second)
	}
	r.green(t, producerSide)
	r.green(t, consumerSide)
	r.settle(t)
}
