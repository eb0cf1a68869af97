package sqlite_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// TestFileTakenAway: SQLite would go on writing to a file that nobody will find again.
func TestFileTakenAway(t *testing.T) {
	for _, suffix := range []string{"", "-wal"} {
		for _, how := range []string{"removed", "replaced"} {
			t.Run(how+suffix, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				path := filepath.Join(dir, "s.db")
				s := open(t, path, sqlite.Options{})
				s.CheckAlways()
				apply(t, s, put("1", `{}`))
				aside := filepath.Join(dir, "aside")
				rename(t, path+suffix, aside)
				if how == "replaced" {
					content, err := os.ReadFile(aside)
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path+suffix, content, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				_, err := s.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{put("lost", `{}`)}})
				wantUnavailable(t, err, path, "put it back")
				_, err = s.Count(t.Context(), everyone, entityevent.Query{Resource: "Property"}) // on a new connection
				wantUnavailable(t, err, path, "put it back")
				wantUnavailable(t, s.Backup(t.Context(), filepath.Join(dir, "copy")), path, "put it back")

				rename(t, aside, path+suffix)
				apply(t, s, put("2", `{}`))
				if got := keysOf(t, s); len(got) != 2 || len(events(t, s)) != 2 {
					t.Errorf("put back: records %v, events %v", got, events(t, s))
				}
			})
		}
	}
}

// TestLeftovers: what looks like half of a database is neither used nor destroyed.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	s := open(t, path, sqlite.Options{})
	apply(t, s, put("1", `{}`))
	// As after a kill -9: the WAL has what the file has not.
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "killed.db")+suffix, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	killed := filepath.Join(dir, "killed.db")
	aside := filepath.Join(dir, "aside.db")
	rename(t, killed, aside)
	_, err := sqlite.Open(t.Context(), killed, sqlite.Options{})
	if err == nil || !strings.Contains(err.Error(), "killed.db-wal is there without its database: put the database back beside it, or remove it as well") {
		t.Errorf("a WAL alone: %v", err)
	}
	if _, err := os.Stat(killed); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a database was made beside it: %v", err)
	}
	rename(t, aside, killed)
	if got := keysOf(t, open(t, killed, sqlite.Options{})); len(got) != 1 {
		t.Errorf("with its database: %v", got)
	}

	empty := filepath.Join(dir, "empty.db")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = sqlite.Open(t.Context(), empty, sqlite.Options{})
	wantUnavailable(t, err, empty, "0 bytes", "restore a backup")

	// What a start that was killed left of the making of a new file.
	fresh := filepath.Join(dir, "fresh.db")
	if err := os.WriteFile(fresh+".new", []byte(strings.Repeat("x", 9000)), 0o600); err != nil {
		t.Fatal(err)
	}
	apply(t, open(t, fresh, sqlite.Options{}), put("1", `{}`))
	if _, err := os.Stat(fresh + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// TestDamagedWAL: what stands in the WAL before the damage is whole, what stands behind it is as if it had
// never been written.
func TestDamagedWAL(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	s := open(t, path, sqlite.Options{})
	var sizes []int64
	const commits = 8
	for n := range commits {
		apply(t, s, put(fmt.Sprint(n), fmt.Sprintf(`{"N":%d}`, n)))
		sizes = append(sizes, s.WALSize())
	}
	db, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"garbage", "cut", "longer"} {
		for n := range commits {
			copied := filepath.Join(dir, fmt.Sprint(how, n))
			broken := append([]byte(nil), wal...)
			at := sizes[n] // of the commits 0 to n nothing is touched
			switch how {
			case "garbage":
				for i := at; i < int64(len(broken)); i += 97 {
					broken[i] ^= 0x5a
				}
			case "cut":
				broken = broken[:at+(int64(len(broken))-at)/3]
			case "longer":
				broken = append(broken, broken[:20_000]...)
			}
			if err := errors.Join(os.WriteFile(copied, db, 0o600), os.WriteFile(copied+"-wal", broken, 0o600)); err != nil {
				t.Fatal(err)
			}
			c, err := sqlite.Open(t.Context(), copied, sqlite.Options{})
			if err != nil {
				t.Fatalf("%s after %d: %v", how, n, err)
			}
			got, log := keysOf(t, c), events(t, c)
			if len(got) < n+1 || how == "longer" && len(got) != commits || len(log) != len(got) {
				t.Errorf("%s after %d: %d records, %d events", how, n, len(got), len(log))
			}
			for i, e := range log {
				if e.Key != fmt.Sprint(i) || got[e.Key] != fmt.Sprintf(`{"N":%d}`, i) {
					t.Errorf("%s after %d: event %d is of %s, %s", how, n, i, e.Key, got[e.Key])
				}
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
