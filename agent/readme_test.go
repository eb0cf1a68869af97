package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeWalk follows the README's walk to the letter, in an empty folder, on ports that are free.
func TestReadmeWalk(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: the walk needs %s, and it is not installed: apt-get install %s", tool, tool)
		}
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString("set -euo pipefail\nset -m\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n")
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		for line := range strings.SplitSeq(block[1], "\n") {
			script.WriteString(strings.TrimPrefix(line, "   ") + "\n")
		}
	}
	text := strings.NewReplacer("127.0.0.1:8080", freeAddress(t), "127.0.0.1:8081", freeAddress(t)).Replace(script.String())
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", text)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(path)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	output := string(out)
	for _, want := range []string{`"ListPrice":449000`, `"ListPrice":439000`, "0 behind"} {
		if !strings.Contains(output, want) {
			t.Errorf("the walk's output lacks %s", want)
		}
	}
	if _, after, _ := strings.Cut(output, `"ListPrice":449000`); strings.Contains(after, "610000") {
		t.Error("the removed listing is still in the replica")
	}
	_, after, found := strings.Cut(output, "\nready\n")
	if !found || !strings.Contains(after, `"ListPrice":439000`) {
		t.Error("after the restore the vendor is not ready, or has not what the backup has")
	}
	if t.Failed() {
		t.Log(output)
	}
}
