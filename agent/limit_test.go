package main_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestTooFewFiles: with a limit of open files under which it could not work the agent does not run, and says what to do.
func TestTooFewFiles(t *testing.T) {
	s := newShell(t)
	s.write("resosync.yaml", producerConfig(freeAddress(t)))
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `ulimit -n 64 && exec "$0" run`, path)
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "only 64 files open, and needs 256") || !strings.Contains(string(out), "LimitNOFILE=") {
		t.Errorf("%v: %s", err, out)
	}
}
