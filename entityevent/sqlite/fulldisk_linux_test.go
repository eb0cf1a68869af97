package sqlite_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

// smallDisk mounts a file system of so many megabytes.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		t.Skipf("SKIPPED: cannot mount a small file system (%v): run as root with CAP_SYS_ADMIN", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillUp leaves no room at all on a disk.
func fillUp(t *testing.T, dir string) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	f, err := os.OpenFile(ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	f.Close()
	return ballast
}

func wantUnavailable(t *testing.T, err error, words ...string) {
	t.Helper()
	if !errors.Is(err, entityevent.ErrUnavailable) {
		t.Fatalf("%v, want unavailable", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// keysOf reads the records, whole.
func keysOf(t *testing.T, s *sqlite.Store) map[string]string {
	t.Helper()
	got := map[string]string{}
	for r, err := range s.Read(t.Context(), everyone, entityevent.Query{Resource: "Property"}) {
		if err != nil {
			t.Fatal(err)
		}
		got[r.Key] = string(r.Body)
	}
	return got
}

func big(n int) string { return fmt.Sprintf(`{"N":%d,"A":%q}`, n, strings.Repeat("x", 20_000)) }

// TestDiskFills: several write until the disk is full, in the middle of a group. What was answered is there,
// what was not is not, and with room the same store goes on.
func TestDiskFills(t *testing.T) {
	dir := smallDisk(t, 8)
	path := filepath.Join(dir, "s.db")
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, sqlite.Options{})
	var mu sync.Mutex
	want := map[string]string{}
	writeUntil := func(round string, stop func(n int, err error) bool) {
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				for n := 0; ; n++ {
					key, body := fmt.Sprint(round, w, "-", n), big(n)
					_, err := s.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{put(key, body), put(key+"too", body)}})
					if err == nil {
						mu.Lock()
						want[key], want[key+"too"] = body, body
						mu.Unlock()
					}
					if stop(n, err) {
						return
					}
				}
			})
		}
		wg.Wait()
	}
	check := func(s *sqlite.Store) {
		t.Helper()
		got := keysOf(t, s)
		for key, body := range want {
			if got[key] != body {
				t.Fatalf("%s was answered and is lost", key)
			}
		}
		if len(got) != len(want) || len(events(t, s)) != len(want) {
			t.Fatalf("%d records and %d events, %d were answered", len(got), len(events(t, s)), len(want))
		}
	}
	writeUntil("full", func(_ int, err error) bool {
		if err != nil {
			wantUnavailable(t, err, path, "make room")
		}
		return err != nil
	})
	fillUp(t, dir)
	check(s)
	for n, failed := 0, 0; failed < 3; n++ { // some may still fit, into what a checkpoint has set free
		key := fmt.Sprint("late", n)
		_, err := s.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{put(key, big(n))}})
		if err == nil {
			want[key] = big(n)
			continue
		}
		wantUnavailable(t, err, "make room")
		failed++
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	writeUntil("room", func(n int, err error) bool {
		if err != nil {
			t.Errorf("with room: %v", err)
		}
		return n == 1
	})
	check(s)

	// Closed and opened on a disk without room, and with room again.
	fillUp(t, dir)
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	fillUp(t, dir)
	if s, err := sqlite.Open(t.Context(), path, sqlite.Options{}); err != nil {
		wantUnavailable(t, err, path)
		t.Logf("opened on a full disk: %v", err)
	} else {
		check(s)
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	check(open(t, path, sqlite.Options{}))
}

// TestCheckpointOnAFullDisk: the WAL holds what the file has no room for. Nothing that was answered is lost, and
// the checkpoint is made when there is room.
func TestCheckpointOnAFullDisk(t *testing.T) {
	dir := smallDisk(t, 8)
	path := filepath.Join(dir, "s.db")
	var log strings.Builder
	s := open(t, path, sqlite.Options{Logger: textLogger(&log)})
	var want int
	for ; want < 100; want++ {
		apply(t, s, put(fmt.Sprint(want), big(want)))
	}
	before := s.WALSize()
	fillUp(t, dir)
	for range 3 {
		s.Checkpoint()
	}
	if n := strings.Count(log.String(), "checkpoint failed"); n != 1 || !strings.Contains(log.String(), "make room") {
		t.Errorf("logged %d times: %s", n, log.String())
	}
	if got := len(keysOf(t, s)); got != want || s.WALSize() < before {
		t.Errorf("%d records, want %d; the WAL has %d bytes, had %d", got, want, s.WALSize(), before)
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	s.Checkpoint()
	if s.WALSize() != 0 || !strings.Contains(log.String(), "checkpoint works again") {
		t.Errorf("the WAL has %d bytes: %s", s.WALSize(), log.String())
	}
	if got := len(keysOf(t, s)); got != want {
		t.Errorf("%d records, want %d", got, want)
	}
}

// TestTheWALLeavesRoom: little is written over and over, on a disk smaller than the WAL may become. It is
// emptied before there is no room to do so.
func TestTheWALLeavesRoom(t *testing.T) {
	s := open(t, filepath.Join(smallDisk(t, 6), "s.db"), sqlite.Options{})
	for n := range 1000 {
		if _, err := s.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{put("1", big(n))}}); err != nil {
			t.Fatalf("after %d writes: %v", n, err)
		}
	}
}

// TestBackupToAFullDisk: the copy fails and leaves nothing; the store is not unavailable for that.
func TestBackupToAFullDisk(t *testing.T) {
	target := smallDisk(t, 1)
	s := open(t, filepath.Join(t.TempDir(), "s.db"), sqlite.Options{})
	for n := range 100 {
		apply(t, s, put(fmt.Sprint(n), big(n)))
	}
	err := s.Backup(t.Context(), filepath.Join(target, "copy"))
	if err == nil || errors.Is(err, entityevent.ErrUnavailable) || !strings.Contains(err.Error(), "no room") {
		t.Errorf("backup: %v", err)
	}
	if left, err := os.ReadDir(target); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	apply(t, s, put("after", `{}`))
}

// TestReadOnlyFileSystem: the store says what is wrong, and opens when it is mended.
func TestReadOnlyFileSystem(t *testing.T) {
	dir := smallDisk(t, 8)
	path := filepath.Join(dir, "s.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, s, put("1", `{}`))
	copied := filepath.Join(dir, "copied.db")
	if err := s.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mount := func(flags uintptr) {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flags, "size=8m"); err != nil {
			t.Fatal(err)
		}
	}
	mount(syscall.MS_RDONLY)
	for _, path := range []string{path, copied, filepath.Join(dir, "new.db")} {
		_, err = sqlite.Open(t.Context(), path, sqlite.Options{})
		wantUnavailable(t, err, path, "for writing")
	}
	mount(0)
	if got := keysOf(t, open(t, path, sqlite.Options{})); len(got) != 1 {
		t.Errorf("records %v", got)
	}
}
