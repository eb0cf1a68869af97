//go:build linux

package main_test

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/resosync/resosync/agent/internal/chaos"
)

var storeFiles = []string{"resosync.db", "resosync.db-wal", "resosync.db-shm"}

// copyStore copies the files of a store, those that there are, and removes the others at the target.
func copyStore(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range storeFiles {
		raw, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			err = os.RemoveAll(filepath.Join(to, name))
		} else if err == nil {
			err = os.WriteFile(filepath.Join(to, name), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// yesterday replaces the consumer's store by an older copy of it: one of a store that was closed, or of one
// that died with a WAL beside it.
func yesterday(t *testing.T, withWAL bool) {
	r := newRig(t, setup{poll: never}) // pushes must bring it about
	data, old := filepath.Join(r.consumer.dir, "data"), t.TempDir()
	end := func() {
		if withWAL {
			r.consumer.kill(t)
		} else {
			r.consumer.terminate(t)
		}
	}
	end()
	copyStore(t, data, old)
	if info, err := os.Stat(filepath.Join(old, "resosync.db-wal")); withWAL && (err != nil || info.Size() == 0) {
		t.Fatalf("there is no WAL to leave over: %v", err)
	}
	r.consumer.start(t)
	before := r.accepted.Load()
	r.arrives(t, "a day", local)
	if !eventually(local, func() bool { return r.accepted.Load() > before+50 }) {
		t.Fatal("too little happened in a day")
	}
	end()
	copyStore(t, old, data)
	r.odata.Set(chaos.Faults{chaos.Lose: 1}) // so that pushes come first
	taken := r.push.Counts()[""]
	r.consumer.start(t)
	if !eventually(local, func() bool { return r.push.Counts()[""] > taken+20 }) {
		t.Fatalf("no pushes arrive:\n%s", r.producer.tail())
	}
	r.odata.Set(nil)
	r.arrives(t, "yesterday's copy", local)
	r.green(t, producerSide)
	r.green(t, consumerSide)
	r.settle(t)
}

// twoAgents starts a second agent on a data folder.
func twoAgents(t *testing.T) {
	r := newRig(t, setup{})
	for _, p := range []*process{r.producer, r.consumer} {
		p.refuses(t, `in use by .resosync run. \(process \d+\): stop it`)
		p.signal(t, syscall.SIGSTOP)
		begun := time.Now()
		p.refuses(t, `in use by .resosync run. \(process \d+\): stop it`)
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("beside a stopped agent it takes %v to refuse", took)
		}
		p.signal(t, syscall.SIGCONT)
		p.kill(t)
		p.start(t) // at once: the lock ended with the process
	}
	r.arrives(t, "after all", local)
	r.settle(t)
}

// newerSchema starts the agent on a store of a later version.
func newerSchema(t *testing.T) {
	dir, address := t.TempDir(), freeAddress(t)
	p := newProcess(t, dir, address, producerConfig(address))
	p.start(t)
	p.terminate(t)
	p.sql(t, func(db *sql.DB) {
		mustExec(t, db, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
	})
	p.refuses(t, `schema is version 9999.* use a newer resosync`)
	p.sql(t, func(db *sql.DB) { mustExec(t, db, `DELETE FROM goose_db_version WHERE version_id = 9999`) })
	p.start(t)
}

// damaged overwrites most of a store's file under the running agent.
func damaged(t *testing.T, s side) {
	r := newRig(t, setup{size: 3000})
	p := r.process(s)
	path := filepath.Join(p.dir, "data", "resosync.db")
	if !eventually(local, func() bool { return r.accepted.Load() > 150 }) {
		t.Fatal("too few records")
	}
	r.rest()
	r.waitEqual(t)
	before := p.records(t, []string{"local", "mls"}[s])
	var backup string
	if s == producerSide {
		backup = filepath.Join(p.dir, "backup.db")
		p.command(t, "backup", backup)
	}
	p.sql(t, func(db *sql.DB) { mustExec(t, db, `PRAGMA wal_checkpoint(TRUNCATE)`) })
	spoil(t, path)
	r.write(t, 300)

	// Whoever reads it all gets what is right, or no answer.
	feed := "http://" + p.address + "/odata/Property?$top=500"
	token := r.token
	if s == consumerSide {
		token = adminToken(t, p)
	}
	status, text, err := r.ask(t.Context(), http.MethodGet, feed, token, "")
	if err == nil && status == http.StatusOK {
		for ref := range before {
			_, key, _ := strings.Cut(ref, "/")
			if !strings.Contains(text, `"`+key+`"`) {
				t.Errorf("a read of the damaged store leaves out %s", key)
			}
		}
	}
	r.red(t, s, `(?i)damaged.*(backup|remove)`)
	r.rest()
	p.alive(t)
	p.saysRed(t, "store")

	// What it says to do.
	p.terminate(t)
	for _, name := range storeFiles {
		if err := os.RemoveAll(filepath.Join(p.dir, "data", name)); err != nil {
			t.Fatal(err)
		}
	}
	if s == producerSide {
		if err := os.Rename(backup, path); err != nil {
			t.Fatal(err)
		}
		p.command(t, "log", "new-id")
		clear(r.acked) // what was written since the backup is lost with the disk
	}
	p.start(t)
	r.write(t, 300)
	r.arrives(t, "restored", time.Minute)
	r.green(t, s)
	r.settle(t)
}

// spoil overwrites every page but the first.
func spoil(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	const page = 8192
	noise := make([]byte, info.Size()-page)
	_, _ = rand.Read(noise) // never fails
	if _, err := f.WriteAt(noise, page); err != nil {
		t.Fatal(err)
	}
}

func adminToken(t *testing.T, p *process) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(p.dir, "data", "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// removed removes the store under the running agent, and puts it back as it was.
func removed(t *testing.T, s side) {
	r := newRig(t, setup{})
	p := r.process(s)
	data, away := filepath.Join(p.dir, "data"), t.TempDir()
	for _, name := range storeFiles {
		if err := os.Rename(filepath.Join(data, name), filepath.Join(away, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.red(t, s, `(?i)(removed|replaced|gone|moved).*(stop|start|restore)`)
	p.alive(t)
	r.rest()
	p.kill(t)
	for _, name := range storeFiles {
		if err := os.Rename(filepath.Join(away, name), filepath.Join(data, name)); err != nil {
			t.Fatal(err)
		}
	}
	p.start(t)
	r.green(t, s)
	r.write(t, 300)
	r.arrives(t, "put back", local)
	r.settle(t)
}
