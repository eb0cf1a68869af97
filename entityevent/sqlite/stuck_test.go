package sqlite_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// patient ends a test that would hang.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("stuck for a minute"))
	t.Cleanup(cancel)
	return ctx
}

// TestNobodyIsStuck: calls fail in every way and at every step, many at once. Each is answered; what was
// answered well is there, the rest is not; and who waits is woken.
func TestNobodyIsStuck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	var transactions, failures atomic.Int64
	var quiet atomic.Bool
	s := open(t, path, sqlite.Options{Observe: func(sqlite.Committed) {
		if transactions.Add(1)%37 == 0 && !quiet.Load() {
			failures.Add(1)
			panic("watching goes wrong")
		}
	}})
	db := raw(t, path)
	for _, how := range []string{"ABORT", "FAIL", "ROLLBACK"} {
		run(t, db, `CREATE TRIGGER t`+how+` AFTER INSERT ON records WHEN new.key LIKE '`+how+`%' BEGIN SELECT RAISE(`+how+`, 'no'); END`)
	}
	var commits atomic.Int64
	s.FailCommits(func() bool { return commits.Add(1)%11 == 0 })

	ctx := patient(t)
	waiting := make(chan error, 1)
	go func() { waiting <- s.Wait(ctx, entityevent.View{Feed: "last", Mask: 1}, entityevent.EventQuery{}) }()
	const callers, each = 16, 60
	var mu sync.Mutex
	want := map[string]bool{}
	var wg sync.WaitGroup
	for n := range callers {
		random := rand.New(rand.NewPCG(uint64(n), 1))
		wg.Go(func() {
			for i := range each {
				ctx, cancel := context.WithCancel(ctx)
				key := fmt.Sprintf("%s-%d-%d", []string{"ok", "ok", "ok", "ABORT", "FAIL", "ROLLBACK", "doc"}[random.IntN(7)], n, i)
				c := entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{put("before "+key, `{}`), put(key, `{}`)}}
				if strings.HasPrefix(key, "doc") {
					c.Docs = []entityevent.Doc{{Kind: "k", ID: "1", Version: 7, Body: json.RawMessage(`1`)}}
				}
				late := random.IntN(5) == 0
				if late {
					go cancel()
				}
				err := func() (err error) {
					defer func() {
						if p := recover(); p != nil {
							err = fmt.Errorf("panic: %v", p)
						}
					}()
					if random.IntN(8) == 0 {
						s.Do(ctx, func() { panic("at the disco") })
						return errors.New("the panic is gone")
					}
					_, err = s.Apply(ctx, c)
					return err
				}()
				mu.Lock()
				// Whoever watches goes wrong after the commit, in the goroutine of one of its callers.
				if unknown := err != nil && strings.Contains(err.Error(), "watching"); !unknown {
					want[key] = err == nil
				}
				mu.Unlock()
				cancel()
			}
		})
	}
	wg.Wait()
	quiet.Store(true)
	got := keysOf(t, s)
	for key, answered := range want {
		if _, there := got[key]; there != answered {
			t.Errorf("%s: there %v, answered %v", key, there, answered)
		}
		if _, there := got["before "+key]; there != answered {
			t.Errorf("before %s: there %v, answered %v", key, there, answered)
		}
	}
	if len(events(t, s)) != len(got) {
		t.Errorf("%d events of %d records", len(events(t, s)), len(got))
	}
	if failures.Load() == 0 || commits.Load() < 11 {
		t.Errorf("only %d commits were tried, %d times watching failed", commits.Load(), failures.Load())
	}
	s.FailCommits(func() bool { return false })
	for {
		if _, err := s.Apply(ctx, entityevent.Commit{Feed: "last", Changes: []entityevent.Change{put("1", `{}`)}}); err == nil {
			break
		}
	}
	if err := <-waiting; err != nil {
		t.Errorf("who waits: %v", err)
	}
}

// TestCallEndsItsGoroutine: the others of its group learn that nothing was stored.
func TestCallEndsItsGoroutine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, sqlite.Options{})
	gone := func() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Do(t.Context(), runtime.Goexit)
		}()
		<-done
	}
	gone()
	apply(t, s, put("1", `{}`))
	if got := len(events(t, s)); got != 1 {
		t.Errorf("%d events", got)
	}
}

// TestLockedByAnother: a writer that does not get the lock says who is in its way, and goes on when it has it.
func TestLockedByAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, sqlite.Options{})
	if err := s.WriterPragma("busy_timeout=1"); err != nil {
		t.Fatal(err)
	}
	db := raw(t, path)
	db.SetMaxOpenConns(1)
	run(t, db, `BEGIN IMMEDIATE`)
	_, err := s.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{put("1", `{}`)}})
	wantUnavailable(t, err, path, "another program")
	run(t, db, `ROLLBACK`)
	apply(t, s, put("1", `{}`))
}

// TestReadOnlyConnection: a connection that cannot write is replaced, for the reason may be gone.
func TestReadOnlyConnection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, sqlite.Options{})
	apply(t, s, put("0", `{}`))
	if err := s.WriterPragma("query_only=true"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{put("1", `{}`)}})
	wantUnavailable(t, err, path, "for writing")
	apply(t, s, put("1", `{}`))
	if got := len(events(t, s)); got != 2 {
		t.Errorf("%d events", got)
	}
}

// TestObserve: every transaction is told of once, before its callers are answered.
func TestObserve(t *testing.T) {
	var seen []sqlite.Committed
	s := open(t, filepath.Join(t.TempDir(), "s.db"), sqlite.Options{Observe: func(c sqlite.Committed) { seen = append(seen, c) }})
	apply(t, s, put("1", `{}`), put("2", `{}`), put("1", `{}`))
	if _, err := s.Receive(t.Context(), entityevent.Delivery{Feed: "acme", Events: []entityevent.Event{{Sequence: 1, Ref: entityevent.Ref{Resource: "Property", Key: "1"}}}}); err != nil {
		t.Fatal(err)
	}
	_, conflict := s.Apply(t.Context(), entityevent.Commit{Docs: []entityevent.Doc{{Kind: "k", ID: "1", Version: 1}}})
	if !errors.Is(conflict, entityevent.ErrConflict) {
		t.Fatal(conflict)
	}
	if err := s.WriterPragma("query_only=true"); err != nil {
		t.Fatal(err)
	}
	_, failed := s.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{put("3", `{}`)}})
	wantUnavailable(t, failed)
	for i := range seen {
		if seen[i].Took <= 0 {
			t.Errorf("transaction %d took %v", i, seen[i].Took)
		}
		seen[i].Took = 0
	}
	if len(seen) != 5 {
		t.Fatalf("%+v", seen)
	}
	if !errors.Is(seen[4].Err, entityevent.ErrUnavailable) {
		t.Errorf("the last failed with %v", seen[4].Err)
	}
	seen[4].Err = nil
	for i, want := range []sqlite.Committed{{Calls: 1, Rows: 3, Events: 2}, {Calls: 1, Rows: 1}, {Calls: 1, Rows: 1}, {Calls: 1}, {Calls: 1, Rows: 1}} {
		if seen[i] != want {
			t.Errorf("transaction %d: %+v, want %+v", i, seen[i], want)
		}
	}
}
