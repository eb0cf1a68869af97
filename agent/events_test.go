package main_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

// TestEventsOfALogThatForgot: `events` begins at 0 and comes to the end of a log that forgot something, over as
// many pages as it takes. Who asks for what follows a position below that is told.
func TestEventsOfALogThatForgot(t *testing.T) {
	s := newShell(t)
	s.write("resosync.yaml", producerConfig("127.0.0.1:0"))
	var b strings.Builder
	for i := range 1500 {
		fmt.Fprintf(&b, "{\"OfficeKey\":\"o%d\"}\n", i)
	}
	s.write("a.jsonl", b.String())
	s.must(0, "1,500 new", "import", "--resource", "Office", "a.jsonl")
	store, err := sqlite.Open(t.Context(), filepath.Join(s.dir, "data", "resosync.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	remove := entityevent.Change{Ref: entityevent.Ref{Resource: "Office", Key: "o1499"}, Op: entityevent.Remove}
	if _, err := store.Apply(t.Context(), entityevent.Commit{Feed: "local", Changes: []entityevent.Change{remove}}); err != nil {
		t.Fatal(err)
	}
	if done, err := store.Compact(t.Context(), entityevent.Compaction{Forget: time.Now().Add(time.Hour)}); err != nil || done.Forgotten != 1 {
		t.Fatal(done, err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   string
		status int
		lines  int
		says   string
	}{
		{"events", 0, 1499, ""},
		{"events --limit 1200", 0, 1200, ""},
		{"events --after now", 0, 0, ""}, // what is newest was forgotten
		{"events --after 1501", 0, 0, ""},
		{"events --after 7", 1, 0, "follow each @odata.nextLink"},
	} {
		r := s.run(strings.Fields(c.args)...)
		if n := strings.Count(r.stdout, "\n"); r.status != c.status || n != c.lines || !strings.Contains(r.stderr, c.says) {
			t.Errorf("%s: status %d, %d lines, %s", c.args, r.status, n, r.stderr)
		}
	}
}
