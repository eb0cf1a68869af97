package sqlite_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/sqlite"
)

func open(t *testing.T, path string, o sqlite.Options) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// raw opens the file as any other program would.
func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+path+"?_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func run(t *testing.T, db *sql.DB, query string) {
	t.Helper()
	if _, err := db.Exec(query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func put(key, body string) entityevent.Change {
	return entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: key}, Body: json.RawMessage(body)}
}

func apply(t *testing.T, s *sqlite.Store, changes ...entityevent.Change) []entityevent.Outcome {
	t.Helper()
	out, err := s.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range out {
		if o.Err != nil {
			t.Fatalf("%s: %v", changes[i].Ref, o.Err)
		}
	}
	return out
}

func filter(t *testing.T, text string) odata.Expr {
	t.Helper()
	e, err := odata.ParseFilter(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var everyone = entityevent.View{Feed: entityevent.Local, Mask: entityevent.Everyone}

func events(t *testing.T, s *sqlite.Store) []entityevent.Event {
	t.Helper()
	p, err := s.Events(t.Context(), everyone, entityevent.EventQuery{Limit: 100_000, Times: true})
	if err != nil {
		t.Fatal(err)
	}
	return p.Events
}

// TestDurable reads the pragmas back: 2 is FULL.
func TestDurable(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), sqlite.Options{ReadConns: 3})
	for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal"} {
		got, err := s.Pragma(pragma)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, []string{want, want, want, want}) {
			t.Errorf("%s is %v on the writer and three readers, want %s everywhere", pragma, got, want)
		}
	}
}

func TestFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data #1?%41 'x'")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "resosync.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, s, put("1", `{}`))
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the WAL is still there after close: %v", err)
	}
	if _, err := sqlite.Open(t.Context(), filepath.Join(dir, "no", "such.db"), sqlite.Options{}); err == nil {
		t.Error("a store in a folder that is not there")
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, raw(t, path), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`)
	_, err = sqlite.Open(t.Context(), path, sqlite.Options{})
	if err == nil || !strings.Contains(err.Error(), "version 999") || !strings.Contains(err.Error(), "newer resosync") {
		t.Errorf("open: %v", err)
	}
}

func TestVolatile(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), sqlite.Options{Volatile: map[string][]string{"Property": {"MediaURL"}}})
	made := apply(t, s, put("1", `{"A":1,"MediaURL":"x?sig=1"}`))[0]
	if again := apply(t, s, put("1", `{"A":1,"MediaURL":"x?sig=2"}`))[0]; again.Sequence != 0 || again.Hash != made.Hash {
		t.Errorf("a rotated URL made event %d", again.Sequence)
	}
	rotate := put("1", `{"MediaURL":"x?sig=3"}`)
	rotate.Op = entityevent.Merge
	if again := apply(t, s, rotate)[0]; again.Sequence != 0 {
		t.Errorf("a merged URL made event %d", again.Sequence)
	}
	for r, err := range s.Read(t.Context(), everyone, entityevent.Query{Resource: "Property"}) {
		if err != nil || string(r.Body) != `{"A":1,"MediaURL":"x?sig=3"}` || r.Version != made.Sequence {
			t.Errorf("the record is %s at %d, %v", r.Body, r.Version, err)
		}
	}
	if got := len(events(t, s)); got != 1 {
		t.Errorf("%d events", got)
	}
}

// TestTriggers: people hang triggers on records. One on body fires when the body changes and at no other
// time.
func TestTriggers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, sqlite.Options{})
	db := raw(t, path)
	run(t, db, `CREATE TABLE ledger (key TEXT, body TEXT)`)
	run(t, db, `CREATE TRIGGER i AFTER INSERT ON records BEGIN INSERT INTO ledger VALUES (new.key, new.body); END`)
	run(t, db, `CREATE TRIGGER u AFTER UPDATE OF body ON records BEGIN INSERT INTO ledger VALUES (new.key, new.body); END`)
	pass := put("1", `{"A":1}`)
	pass.Pass = 7
	gone := put("1", ``)
	gone.Op, gone.Body = entityevent.Remove, nil
	merge := put("1", `{"A":1}`)
	merge.Op = entityevent.Merge
	for _, c := range []entityevent.Change{put("1", `{"A":1}`), put("1", ` {"A": 1}`), pass, merge, put("1", `{"A":2}`), gone, gone} {
		apply(t, s, c)
	}
	rows, err := db.Query(`SELECT coalesce(body, 'gone'), typeof(body) FROM ledger`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var body, kind string
		if err := rows.Scan(&body, &kind); err != nil {
			t.Fatal(err)
		}
		got = append(got, body+" "+kind)
	}
	if want := []string{`{"A":1} text`, `{"A":2} text`, `gone null`}; !slices.Equal(got, want) {
		t.Errorf("the ledger has %q, want %q", got, want)
	}
	var mark int64
	if err := db.QueryRow(`SELECT pass FROM records`).Scan(&mark); err != nil || mark != 7 {
		t.Errorf("pass %d, %v", mark, err)
	}
}

// hold stops the writer, calls arrive, waits until they stand in the queue, and lets the writer go.
func hold(t *testing.T, s *sqlite.Store, path string, calls ...func()) {
	t.Helper()
	db := raw(t, path)
	db.SetMaxOpenConns(1)
	run(t, db, `BEGIN IMMEDIATE`)
	var wg sync.WaitGroup
	wg.Go(func() { apply(t, s, put("leader", `{}`)) })
	for !s.Leading() {
		runtime.Gosched()
	}
	for i, c := range calls {
		for s.Queued() < i {
			runtime.Gosched()
		}
		wg.Go(c)
	}
	for s.Queued() < len(calls) {
		runtime.Gosched()
	}
	run(t, db, `ROLLBACK`)
	wg.Wait()
}

// TestGroup: calls that wait for the writer share a transaction, and each stands or falls by itself.
func TestGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, sqlite.Options{})
	conflict := func() {
		_, err := s.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{put("lost", `{}`)},
			Docs: []entityevent.Doc{{Kind: "k", ID: "1", Version: 5}}})
		if !errors.Is(err, entityevent.ErrConflict) {
			t.Errorf("a stale document: %v", err)
		}
	}
	panics := func() {
		defer func() {
			if p := recover(); p != "at the disco" {
				t.Errorf("recovered %v", p)
			}
		}()
		s.Do(t.Context(), func() { panic("at the disco") })
		t.Error("the panic is gone")
	}
	hold(t, s, path, func() { apply(t, s, put("1", `{}`)) }, conflict, panics, func() { apply(t, s, put("2", `{}`)) }, conflict)
	got := events(t, s)
	keys := []string{}
	for i, e := range got {
		keys = append(keys, e.Key)
		if i > 0 && e.Sequence != got[i-1].Sequence+1 {
			t.Errorf("the numbers of failed calls were not given back: %v", got)
		}
	}
	if want := []string{"leader", "1", "2"}; !slices.Equal(keys, want) {
		t.Fatalf("events of %v, want %v", keys, want)
	}
	if !got[1].At.Equal(got[2].At) {
		t.Error("the calls did not share a transaction")
	}
	func() {
		defer func() { recover() }()
		s.Do(t.Context(), func() { panic("alone") })
	}()
	apply(t, s, put("3", `{}`))
}

// TestFullDisk: an error that ends the whole transaction fails every call in it and stores nothing.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, sqlite.Options{})
	apply(t, s, put("0", `{}`))
	if err := s.WriterPragma("max_page_count=1"); err != nil { // not below what it has
		t.Fatal(err)
	}
	long := fmt.Sprintf(`{"A":%q}`, strings.Repeat("x", 100_000))
	try := func(key, body string) func() {
		return func() {
			out, err := s.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{put(key, body)}})
			if err == nil {
				t.Errorf("%s was stored: %v", key, out)
			}
		}
	}
	hold(t, s, path, try("1", `{}`), try("2", long), try("3", `{}`))
	if got := len(events(t, s)); got != 2 {
		t.Errorf("%d events, want those before and of the leader", got)
	}
	if err := s.WriterPragma("max_page_count=1000000"); err != nil {
		t.Fatal(err)
	}
	apply(t, s, put("1", `{}`), put("2", long))
	if got := events(t, s); len(got) != 4 || got[3].Sequence != 4 {
		t.Errorf("events %v", got)
	}
}

// TestBoundedPage: a reader who may see nothing of a long log gets an empty page that says how far it
// looked, and goes on from there.
func TestBoundedPage(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), sqlite.Options{})
	var head entityevent.Sequence
	for n := 0; n < 60_000; {
		var changes []entityevent.Change
		for range 10_000 {
			n++
			changes = append(changes, put(fmt.Sprint(n), `{}`))
		}
		head = apply(t, s, changes...)[9_999].Sequence
	}
	q := entityevent.EventQuery{}
	stranger := entityevent.View{Feed: entityevent.Local, Mask: 4}
	p, err := s.Events(t.Context(), stranger, q)
	if err != nil || len(p.Events) > 0 || !p.More || p.Through <= 0 || p.Through >= head {
		t.Fatalf("%d events, through %d, more %v, %v", len(p.Events), p.Through, p.More, err)
	}
	q.After = p.Through
	if p, err = s.Events(t.Context(), stranger, q); err != nil || p.More || p.Through != head {
		t.Fatalf("through %d, more %v, %v", p.Through, p.More, err)
	}
	q = entityevent.EventQuery{Order: entityevent.NewestFirst, Filter: filter(t, "ResourceName eq 'Media'")}
	if p, err = s.Events(t.Context(), everyone, q); err != nil || !p.More || p.Through <= 1 {
		t.Fatalf("newest first: through %d, more %v, %v", p.Through, p.More, err)
	}
	q.Before = p.Through
	if p, err = s.Events(t.Context(), everyone, q); err != nil || p.More || p.Through != 1 {
		t.Fatalf("newest first: through %d, more %v, %v", p.Through, p.More, err)
	}
}

// TestPlans: no hot query reads a table from end to end or sorts.
func TestPlans(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), sqlite.Options{})
	for _, query := range sqlite.HotQueries() {
		steps, err := s.Plan(query)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		for _, step := range steps {
			scan := strings.HasPrefix(step, "SCAN") && !strings.Contains(step, "subquery") && !strings.Contains(step, "json_each")
			if scan || strings.Contains(step, "TEMP B-TREE") || strings.Contains(step, "MATERIALIZE") {
				t.Errorf("%s\n%s", query, strings.Join(steps, "\n"))
			}
		}
	}
}

// TestWALIsBounded: reads that overlap without a gap keep SQLite's own checkpoints from emptying the WAL.
func TestWALIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, sqlite.Options{})
	const limit = 4 << 20
	s.SetWALLimit(limit)
	apply(t, s, put("0", `{}`))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				for _, err := range s.Read(t.Context(), everyone, entityevent.Query{Resource: "Property", Limit: 200}) {
					if err != nil {
						t.Error(err)
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	body := strings.Repeat("x", 50_000)
	for n := range 500 {
		apply(t, s, put(fmt.Sprint(n%100), fmt.Sprintf(`{"N":%d,"A":%q}`, n, body)))
	}
	close(stop)
	wg.Wait()
	info, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(limit + 64*60_000 + 1<<20); info.Size() > most {
		t.Errorf("the WAL has %d bytes, want at most %d", info.Size(), most)
	}
}
