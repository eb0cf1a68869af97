package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestPlantedBugs builds the simulation once for each bug, with a copy of one source file in which it is
// planted, and demands that an invariant breaks under the seeds that TestSimulation runs.
func TestPlantedBugs(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: it builds the simulation anew for each planted bug; run it without -short")
	}
	gotool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("SKIPPED: there is no go command here to build the planted bugs with; install Go and add it to the PATH")
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	turns := make(chan struct{}, 2)
	for _, b := range bugs {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			turns <- struct{}{}
			defer func() { <-turns }()
			dir := t.TempDir()
			b.build(t, gotool, root, dir)
			b.hunt(t, dir)
		})
	}
}

// build compiles this package with the bug.
func (b bug) build(t *testing.T, gotool, root, dir string) {
	file := filepath.Join(root, filepath.FromSlash(b.file))
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(source)
	for _, e := range b.edits {
		if n := strings.Count(text, e.old); n != 1 {
			t.Fatalf("%s has %d times what the bug replaces; bring bugs_test.go up to date:\n%s", b.file, n, e.old)
		}
		text = strings.Replace(text, e.old, e.new, 1)
	}
	planted, overlay := filepath.Join(dir, "planted.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{file: planted}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{planted: []byte(text), overlay: replace} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), gotool, "test", "-c", "-overlay", overlay, "-o", filepath.Join(dir, "planted.test"), ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

var (
	broke   = regexp.MustCompile(`invariant "[^"]*"`)
	failing = regexp.MustCompile(`-seed [0-9]+`)
)

// hunt runs seeds until one fails.
func (b bug) hunt(t *testing.T, dir string) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	began := time.Now()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "planted.test"), "-test.run", "^TestSimulation$", "-test.parallel", "2",
		"-seeds", fmt.Sprint(*seeds), "-stop", "1", "-test.v").CombinedOutput()
	if err == nil {
		t.Fatalf("%s: no seed of %d notices it", b.breaks, *seeds)
	}
	invariant := broke.Find(out)
	if invariant == nil {
		t.Fatalf("%s: not noticed by an invariant: %v\n%.3000s", b.breaks, err, out)
	}
	t.Logf("%s: noticed by %s of %s after %v", b.breaks, invariant, failing.Find(out), time.Since(began).Round(time.Second/10))
}
