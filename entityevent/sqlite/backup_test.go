package sqlite_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

// TestBackup copies a store that is written to by several: every copy is whole, and has everything that
// was answered before it was asked for.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "s.db"), sqlite.Options{})
	var answered [4]atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range answered {
		wg.Go(func() {
			for n := int64(1); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				c := entityevent.Commit{Feed: entityevent.Local,
					Changes: []entityevent.Change{put(fmt.Sprint(w), fmt.Sprintf(`{"N":%d}`, n)), put(fmt.Sprint(w, "-", n%50), fmt.Sprintf(`{"N":%d}`, n))},
					Docs:    []entityevent.Doc{{Kind: "n", ID: fmt.Sprint(w), Version: n - 1, Body: json.RawMessage(fmt.Sprint(n))}}}
				if _, err := s.Apply(t.Context(), c); err != nil {
					t.Error(err)
					return
				}
				answered[w].Store(n)
			}
		})
	}
	for n := range 5 {
		var before [len(answered)]int64
		for w := range answered {
			for before[w] = answered[w].Load(); before[w] < int64(n)*20; before[w] = answered[w].Load() {
				if t.Failed() {
					break
				}
			}
		}
		path := filepath.Join(dir, fmt.Sprint("copy", n))
		if err := s.Backup(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		checkCopy(t, path, s.LogID(), before[:])
	}
	close(stop)
	wg.Wait()
	if left, _ := filepath.Glob(filepath.Join(dir, ".copy*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// checkCopy opens a copy and compares its parts with each other.
func checkCopy(t *testing.T, path string, log entityevent.LogID, answered []int64) {
	t.Helper()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	c := open(t, path, sqlite.Options{})
	if c.LogID() != log {
		t.Errorf("the copy's log is %q, want %q", c.LogID(), log)
	}
	p, err := c.Events(t.Context(), everyone, entityevent.EventQuery{Limit: 1_000_000})
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]entityevent.Sequence{}
	for _, e := range p.Events {
		last[e.Key] = e.Sequence
	}
	if n := len(p.Events); n > 0 && p.Events[n-1].Sequence > p.Head {
		t.Errorf("event %d above the head %d", p.Events[n-1].Sequence, p.Head)
	}
	bodies := map[string]string{}
	for r, err := range c.Read(t.Context(), everyone, entityevent.Query{Resource: "Property", Gone: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if last[r.Key] != r.Version {
			t.Errorf("record %s has version %d, its last event is %d", r.Key, r.Version, last[r.Key])
		}
		delete(last, r.Key)
		bodies[r.Key] = string(r.Body)
	}
	if len(last) > 0 {
		t.Errorf("events without a record: %v", last)
	}
	for w, n := range answered {
		d, err := c.Get(t.Context(), "n", fmt.Sprint(w))
		if err != nil {
			t.Fatal(err)
		}
		if d.Version < n || d.Version > 0 && bodies[fmt.Sprint(w)] != fmt.Sprintf(`{"N":%d}`, d.Version) {
			t.Errorf("writer %d: document %d, record %s, want at least %d", w, d.Version, bodies[fmt.Sprint(w)], n)
		}
	}
}

// TestBackupRefuses: what stands in the way stays as it is, and nothing is left of what was not finished.
func TestBackupRefuses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "s.db"), sqlite.Options{})
	apply(t, s, put("1", `{}`))
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), there); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	if got, err := os.ReadFile(there); string(got) != "precious" {
		t.Errorf("the file is now %q, %v", got, err)
	}
	if err := s.Backup(t.Context(), filepath.Join(dir, "s.db")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over the store itself: %v", err)
	}
	if err := s.Backup(t.Context(), filepath.Join(dir, "no", "where")); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, entityevent.ErrUnavailable) {
		t.Errorf("into no folder: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if err := s.Backup(ctx, filepath.Join(dir, "cancelled")); !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 { // s.db, -wal, -shm and there
		t.Errorf("%v, %v", entries, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), filepath.Join(dir, "late")); !errors.Is(err, entityevent.ErrClosed) {
		t.Errorf("of a closed store: %v", err)
	}
}
