package main_test

import (
	"bufio"
	"os/exec"
	"testing"
)

// TestFollowLetsAnAgentStart follows a log before any agent runs on it: what is there comes at once, the
// agent can start meanwhile, and what then happens comes too.
func TestFollowLetsAnAgentStart(t *testing.T) {
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", producerConfig(address))
	s.pipe(`{"ListingKey":"1"}`, "import", "--resource", "Property", "-").must(t, 0, "1 new", "import")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	follow := exec.CommandContext(t.Context(), path, "events", "--follow", "--limit", "2")
	follow.Dir = s.dir
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "1\tProperty\t1" {
		t.Fatalf("first line %q, %v", lines.Text(), lines.Err())
	}
	s.agent(address)
	s.pipe(`{"ListingKey":"2"}`, "import", "--resource", "Property", "-").must(t, 0, "1 new", "import")
	if !lines.Scan() || lines.Text() != "2\tProperty\t2" {
		t.Fatalf("second line %q, %v", lines.Text(), lines.Err())
	}
	if err := follow.Wait(); err != nil {
		t.Errorf("it ended with %v, want success at its limit", err)
	}
}
