package main_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dockerfile reads what stands after a word at the beginning of a line of the Dockerfile.
func dockerfile(t *testing.T, pattern string) string {
	t.Helper()
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(pattern).FindSubmatch(text)
	if m == nil {
		t.Fatalf("the Dockerfile has no %s", pattern)
	}
	return string(m[1])
}

// TestImageWithoutEngine runs what the image holds as the image runs it, where no container engine answers:
// the binary built with the Dockerfile's flags, alone on a read-only root, as its user, with only /data to
// write to. It becomes healthy by the image's health check and stops within 10 s.
func TestImageWithoutEngine(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: a read-only root takes mounting, and chroot, which only root may; run it as root, or make image where an engine answers")
	}
	root := t.TempDir()
	data, bin := filepath.Join(root, "data"), filepath.Join(root, "usr", "local", "bin")
	for _, folder := range []string{data, bin} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// -trimpath would compile SQLite once more, and changes paths only.
	flags := []string{"build", "-tags", dockerfile(t, `-tags (\S+)`), "-ldflags", strings.ReplaceAll(dockerfile(t, `-ldflags "([^"]*)"`), "${VERSION}", "image"),
		"-o", filepath.Join(bin, "resosync"), "."}
	build := exec.Command("go", flags...)
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(flags, " "), err, out)
	}
	if info, err := os.Stat(filepath.Join(bin, "resosync")); err != nil || info.Size() > 40_000_000 {
		t.Errorf("the binary: %v, %v; want less than 40 MB", info, err)
	}
	const user = 65532
	if got := dockerfile(t, `(?m)^USER (\S+)$`); got != "65532:65532" {
		t.Errorf("the image's user is %s", got)
	}
	if err := os.Chown(data, user, user); err != nil {
		t.Fatal(err)
	}
	mount := func(folder string, flags uintptr) {
		t.Helper()
		if err := unix.Mount(folder, folder, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("SKIPPED: this machine does not let root mount (%v); run it where it may, or make image where an engine answers", err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
				t.Errorf("unmount %s: %v", folder, err)
			}
		})
		if err := unix.Mount("", folder, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
			t.Skipf("SKIPPED: this machine does not let root remount (%v); run it where it may, or make image where an engine answers", err)
		}
	}
	mount(root, unix.MS_RDONLY)
	mount(data, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC)

	command := func(args ...string) *exec.Cmd {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		t.Cleanup(cancel)
		c := exec.CommandContext(ctx, "/usr/local/bin/resosync", args...)
		c.Dir, c.Env = dockerfile(t, `(?m)^WORKDIR (/data)$`), []string{"HOSTNAME=image"}
		c.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: user, Gid: user}}
		return c
	}
	must := func(status int, match string, args ...string) {
		t.Helper()
		out, err := command(args...).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		result{status: 0, stdout: string(out)}.must(t, 0, match, strings.Join(args, " "))
		if got := exit != nil; got != (status != 0) {
			t.Errorf("%s: %v, want status %d\n%s", strings.Join(args, " "), err, status, out)
		}
	}
	check := strings.Fields(strings.NewReplacer(`"`, "", ",", "").Replace(dockerfile(t, `(?m)^HEALTHCHECK .* CMD \["/usr/local/bin/resosync", (.*)\]$`)))
	must(0, `^resosync image `, "version")
	must(1, `read-only file system`, "-c", "/resosync.yaml", "init", "--producer")
	must(0, `Wrote resosync.yaml`, "init", "--producer")
	address := freeAddress(t)
	config, err := os.ReadFile(filepath.Join(data, "resosync.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "resosync.yaml"), bytes.ReplaceAll(config, []byte("127.0.0.1:8080"), []byte(address)), 0o600); err != nil {
		t.Fatal(err)
	}
	must(1, `no agent runs`, check...)

	var log bytes.Buffer
	agent := command(dockerfile(t, `(?m)^CMD \["(run)"\]$`))
	agent.Stdout, agent.Stderr = &log, &log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill() })
	waitFor(t, "http://"+address+"/readyz")
	must(0, `^ready\n$`, check...)
	listings := command("import", "--resource", "Property", "-")
	listings.Stdin = strings.NewReader(`{"ListingKey":"1"}`)
	if out, err := listings.CombinedOutput(); err != nil || !strings.Contains(string(out), "1 new") {
		t.Errorf("import: %v\n%s", err, out)
	}
	must(0, `backup.db: `, "backup", "backup.db") // also without a folder for temporary files
	waitFor(t, "http://"+address+"/metrics")      // also without /proc

	begun := time.Now()
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil || time.Since(begun) > 10*time.Second {
		t.Errorf("the agent ended with %v after %v:\n%s", err, time.Since(begun), log.String())
	}
	must(1, `not ready`, check...)
}

// TestUnit has systemd look at the unit, and say how much of the machine it leaves to the agent.
func TestUnit(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("SKIPPED: it needs systemd-analyze, which is not installed: apt-get install systemd")
	}
	text, err := os.ReadFile("../.deploy/resosync.service")
	if err != nil {
		t.Fatal(err)
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "resosync.service")
	if err := os.WriteFile(unit, bytes.ReplaceAll(text, []byte("/usr/local/bin/resosync"), []byte(path)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", unit).CombinedOutput(); err != nil || strings.Contains(string(out), "resosync.service:") {
		t.Errorf("verify: %v\n%s", err, out)
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", unit).CombinedOutput()
	if err != nil {
		t.Errorf("security: %v, want an exposure of at most 2.0\n%s", err, out)
	}
}
