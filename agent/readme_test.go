package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeWalk follows the README to the letter: what begins "from an empty folder" is a script of its own, with
// all that comes after it, in an empty folder and on ports that are free.
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
	walks := regexp.MustCompile(`(?m)^## .*from an empty folder$`).Split(string(readme), -1)
	if len(walks) != 3 {
		t.Fatalf("the README has %d walks, and this test knows two", len(walks)-1)
	}
	t.Run("pair", func(t *testing.T) {
		t.Parallel()
		output := walk(t, walks[1])
		contains(t, output, `"ListPrice":449000`, `"ListPrice":439000`, "0 behind")
		if _, after, _ := strings.Cut(output, `"ListPrice":449000`); strings.Contains(after, "610000") {
			t.Error("the removed listing is still in the replica")
		}
		_, after, found := strings.Cut(output, "\nready\n")
		if !found || !strings.Contains(after, `"ListPrice":439000`) {
			t.Error("after the restore the vendor is not ready, or has not what the backup has")
		}
	})
	t.Run("producer", func(t *testing.T) {
		t.Parallel()
		output := walk(t, walks[2])
		contains(t, output, "3 new, 0 changed", "1 new, 1 changed, 1 unchanged", `"ListPrice":449000`)
		// The portal sees one of the two, without what is hidden.
		if !regexp.MustCompile(`"value":\[{[^{}]*"ListingKey":"1002"[^{}]*"City":"Shelbyville"}\]}`).MatchString(output) {
			t.Error("the portal sees something else than its profile")
		}
	})
}

func contains(t *testing.T, output string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(output, want) {
			t.Errorf("the walk's output lacks %s", want)
		}
	}
}

// walk runs the blocks of a text that are scripts, and returns what they print.
func walk(t *testing.T, text string) string {
	t.Helper()
	var script strings.Builder
	script.WriteString("set -euo pipefail\nset -m\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n")
	for _, block := range regexp.MustCompile("(?ms)^( *)```sh\n(.*?)^ *```").FindAllStringSubmatch(text, -1) {
		for line := range strings.SplitSeq(block[2], "\n") {
			script.WriteString(strings.TrimPrefix(line, block[1]) + "\n")
		}
	}
	var ports []string
	for _, port := range []string{"8080", "8081", "8082"} {
		ports = append(ports, "127.0.0.1:"+port, freeAddress(t))
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", strings.NewReplacer(ports...).Replace(script.String()))
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(path)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", out)
		}
	})
	return string(out)
}
