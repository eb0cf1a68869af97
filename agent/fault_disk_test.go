//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk mounts 8 MB of memory as the data folder of one side.
func smallDisk(where side) func(*testing.T, side, string) {
	return func(t *testing.T, s side, folder string) {
		if s == where {
			mountMemory(t, folder)
		}
	}
}

func mountMemory(t *testing.T, folder string) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "size=8m,mode=0700"); err != nil {
		t.Skipf("SKIPPED: no tmpfs can be mounted here: %v; run as root, in a container with CAP_SYS_ADMIN", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
}

func remountMemory(t *testing.T, folder string, flags uintptr, options string) {
	t.Helper()
	if err := unix.Mount("tmpfs", folder, "tmpfs", unix.MS_REMOUNT|flags, options); err != nil {
		t.Fatal(err)
	}
}

// diskFullProducer fills the producer's disk by writes, and makes the disk larger.
func diskFullProducer(t *testing.T) {
	r := newRig(t, setup{mount: smallDisk(producerSide), size: 40_000})
	if !eventually(local*2, func() bool { return r.refused.Load() > 0 }) {
		t.Fatal("8 MB never were full")
	}
	r.red(t, producerSide, `the disk is full: make room`)
	status, text, err := r.ask(t.Context(), http.MethodPut, r.writeURL+"/Property('big')", r.token, `{"ListingKey":"big","PublicRemarks":"`+strings.Repeat("x", 1<<20)+`"}`)
	if err != nil || status != http.StatusServiceUnavailable || strings.HasPrefix(text, "Retry-After: \n") {
		t.Errorf("a write without room answers %d %s %v, want 503 and Retry-After", status, text, err)
	}
	if status, text, err := r.ask(t.Context(), http.MethodGet, r.writeURL+"/Property?$top=1", r.token, ""); err != nil || status != http.StatusOK {
		t.Errorf("a read while the disk is full answers %d %s %v", status, text, err)
	}
	r.producer.saysFull(t)
	r.producer.alive(t)
	remountMemory(t, filepath.Join(r.producer.dir, "data"), 0, "size=64m")
	r.green(t, producerSide)
	r.arrives(t, "room was made", local)
	r.settle(t)
	r.producer.saysTurns(t, "store", 3)
}

// diskFullConsumer fills the consumer's disk with a file, and removes it.
func diskFullConsumer(t *testing.T) {
	r := newRig(t, setup{mount: smallDisk(consumerSide)})
	filler := filepath.Join(r.consumer.dir, "data", "filler")
	fill(t, filler)
	r.red(t, consumerSide, `the disk is full: make room`)
	refused := func() bool {
		return r.pushed(t, fmt.Sprintf("big%d", r.accepted.Load())) == http.StatusServiceUnavailable
	}
	if !eventually(local, refused) {
		t.Errorf("a push without room is not answered 503 and Retry-After")
	}
	r.consumer.saysFull(t)
	r.consumer.alive(t)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	r.green(t, consumerSide)
	r.arrives(t, "room was made", local)
	r.settle(t)
	r.green(t, producerSide)
	r.consumer.saysTurns(t, "store", 3)
}

// saysFull waits until the log says that the disk is full. It may say so more than once: what a checkpoint
// sets free is room for a while.
func (p *process) saysFull(t *testing.T) {
	t.Helper()
	if !eventually(local, func() bool { return p.logged(`level=ERROR msg="not ready" about=store .*the disk is full`) > 0 }) {
		t.Errorf("the log does not say that the disk is full:\n%s", p.tail())
	}
}

// pushed pushes events of many keys to the consumer and returns the status; a 503 must name a wait.
func (r *rig) pushed(t *testing.T, key string) int {
	var events []string
	for i := range 500 {
		events = append(events, fmt.Sprintf(`{"EntityEventSequence":%d,"ResourceName":"Property","ResourceRecordKey":"%s-%d"}`, 1<<40+i, key, i))
	}
	status, text, err := r.ask(t.Context(), http.MethodPost, "http://"+r.consumer.address+"/webhooks/mls", r.pushToken,
		`{"@reso.context":"urn:reso:metadata:2.0:resource:entityevent","value":[`+strings.Join(events, ",")+`]}`)
	if err != nil || status == http.StatusServiceUnavailable && strings.HasPrefix(text, "Retry-After: \n") {
		t.Errorf("a push answers %d %s %v", status, text, err)
	}
	return status
}

// fill writes a file until nothing fits any more.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// reason is how the log names what keeps the agent from being ready.
func reason(about string) string {
	if strings.Contains(about, " ") {
		about = `"` + about + `"`
	}
	return " about=" + about + " "
}

// saysOnce checks that the log says once that something keeps the agent from being ready, and once that it
// is over.
func (p *process) saysOnce(t *testing.T, about string) {
	t.Helper()
	p.saysRed(t, about)
	p.saysTurns(t, about, 1)
}

// saysTurns checks that the log names each end of a trouble as often as the trouble, at most so many times.
func (p *process) saysTurns(t *testing.T, about string, most int) {
	t.Helper()
	red, green := `level=ERROR msg="not ready"`+reason(about), `level=INFO msg=recovered`+reason(about)
	if !eventually(local, func() bool { return p.logged(red) > 0 && p.logged(red) == p.logged(green) }) || p.logged(red) > most {
		t.Errorf("the log of %s names the trouble %d times and its end %d times, want both as often, at most %d times:\n%s",
			filepath.Base(p.dir), p.logged(red), p.logged(green), most, p.tail())
	}
	if n := p.logged(`level=(WARN|ERROR)`); n > 12 {
		t.Errorf("the log of %s complains %d times:\n%s", filepath.Base(p.dir), n, p.tail())
	}
}

// saysRed checks that the log says, once, that something keeps the agent from being ready.
func (p *process) saysRed(t *testing.T, about string) {
	t.Helper()
	match := `level=ERROR msg="not ready"` + reason(about)
	if !eventually(local, func() bool { return p.logged(match) > 0 }) || p.logged(match) > 1 {
		t.Errorf("the log of %s names the trouble %d times, want once:\n%s", filepath.Base(p.dir), p.logged(match), p.tail())
	}
}

// realDisk makes the data folder of one side an ext4 on a loop device.
func realDisk(where side) func(*testing.T, side, string) {
	return func(t *testing.T, s side, folder string) {
		if s != where {
			return
		}
		image := folder + ".img"
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, 64<<20); err != nil {
			t.Fatal(err)
		}
		for _, command := range [][]string{{"mkfs.ext4", "-q", image}, {"mount", "-o", "loop,errors=remount-ro", image, folder}} {
			if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
				t.Skipf("SKIPPED: %s: %v %s; it needs root, mkfs.ext4 and a free loop device", strings.Join(command, " "), err, out)
			}
		}
		t.Cleanup(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
	}
}

// readOnly makes a file system do what it does when its disk fails: it becomes read-only under the agent. It
// stays so until it is unmounted and checked, which is why the agent is stopped and started for it.
func readOnly(t *testing.T, s side) {
	r := newRig(t, setup{mount: realDisk(s)})
	p := r.process(s)
	folder := filepath.Join(p.dir, "data")
	if out, err := exec.Command("mount", "-o", "remount,abort", folder).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(folder, "x"), nil, 0o600); err == nil {
		t.Fatal("the file system is not read-only")
	}
	r.red(t, s, `cannot be written: mount the file system`)
	if s == producerSide {
		status, text, err := r.ask(t.Context(), http.MethodPut, r.writeURL+"/Property('k1')", r.token, `{"ListingKey":"k1","ListPrice":1}`)
		if err != nil || status != http.StatusServiceUnavailable || strings.HasPrefix(text, "Retry-After: \n") {
			t.Errorf("a write answers %d %s %v, want 503 and Retry-After", status, text, err)
		}
	} else if status := r.pushed(t, "ro"); status != http.StatusServiceUnavailable {
		t.Errorf("a push answers %d, want 503", status)
	}
	url := "http://" + p.address + "/odata/Property?$top=1"
	if status, text, err := r.ask(t.Context(), http.MethodGet, url, r.token, ""); s == producerSide && (err != nil || status != http.StatusOK) {
		t.Errorf("a read answers %d %s %v", status, text, err)
	}
	p.alive(t)
	p.saysRed(t, "store")

	p.terminate(t)
	if !eventually(local, func() bool { return unix.Unmount(folder, 0) == nil }) {
		t.Fatal("the file system cannot be unmounted: something still has it open")
	}
	_ = exec.Command("e2fsck", "-p", folder+".img").Run() // its status says that it repaired
	if out, err := exec.Command("mount", "-o", "loop", folder+".img", folder).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.start(t)
	r.green(t, s)
	r.arrives(t, "repaired", local)
	r.settle(t)
}

// startedReadOnly starts an agent on a data folder that cannot be written: an empty one, and one with a store.
func startedReadOnly(t *testing.T) {
	dir, address := t.TempDir(), freeAddress(t)
	folder := filepath.Join(dir, "data")
	mountMemory(t, folder)
	p := newProcess(t, dir, address, producerConfig(address))
	refuses := func() {
		t.Helper()
		remountMemory(t, folder, unix.MS_RDONLY, "")
		p.refuses(t, `(?i)read-only file system.*(writ|mount)`)
		remountMemory(t, folder, 0, "")
	}
	refuses()
	p.start(t)
	p.signal(t, syscall.SIGKILL)
	p.kill(t)
	refuses()
	p.start(t)
	p.terminate(t)
	refuses()
	p.start(t)
}
