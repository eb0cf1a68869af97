// Package storetest holds a store to the contract in package entityevent. Every store passes it, and what
// it checks is what producer and consumer rely on: order and visibility, atomic writes, the rules of a
// delivery, and that all of it survives a reopen.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
)

// Open opens the store in a folder: an empty one in an empty folder, else what an earlier store left
// there. The suite closes it.
type Open func(t *testing.T, dir string) entityevent.Store

// Run runs the suite. Each part has a store of its own.
func Run(t *testing.T, open func(t *testing.T, dir string) entityevent.Store) {
	for _, part := range []struct {
		name string
		run  func(*box)
	}{
		{"Order", testOrder},
		{"ReadYourWrites", testReadYourWrites},
		{"OneCounter", testOneCounter},
		{"Pages", testPages},
		{"PagesBackwards", testPagesBackwards},
		{"EventFilters", testEventFilters},
		{"Wait", testWait},
		{"WaitFilter", testWaitFilter},
		{"WaitRenamed", testWaitRenamed},
		{"WaitManyViews", testWaitManyViews},
		{"CancelledWait", testCancelledWait}, {"WaitEnds", testWaitEnds},
		{"Close", testClose},
		{"Changes", testChanges},
		{"NoOp", testNoOp},
		{"Preconditions", testPreconditions},
		{"LostUpdates", testLostUpdates},
		{"Numbers", testNumbers},
		{"Invalid", testInvalid},
		{"Keys", testKeys},
		{"Unmarked", testUnmarked},
		{"Docs", testDocs},
		{"OneFailsOthersCommit", testOneFailsOthersCommit},
		{"CommitIsAtomic", testCommitIsAtomic},
		{"CancelledApply", testCancelledApply},
		{"Chain", testChain},
		{"BrokenChain", testBrokenChain},
		{"Hints", testHints},
		{"BeforeTheFirstLoad", testBeforeTheFirstLoad},
		{"AnotherLog", testAnotherLog},
		{"Adopt", testAdopt},
		{"Clears", testClears},
		{"Settle", testSettle},
		{"ConflictInRecent", testConflictInRecent},
		{"ReceiveIsAtomic", testReceiveIsAtomic},
		{"ReceiveInvalid", testReceiveInvalid},
		{"ReceiveWhileApplying", testReceiveWhileApplying},
		{"LargeSequences", testLargeSequences},
		{"Done", testDone},
		{"Aside", testAside},
		{"CountAside", testCountAside},
		{"NewLog", testNewLog},
		{"NewLogWhileApplying", testNewLogWhileApplying},
		{"ClockSetBack", testClockSetBack},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(newBox(t, open, t.TempDir())) })
	}
	RunReads(t, open)
	t.Run("Model", func(t *testing.T) { testModel(t, open, nil) })
}

// RunReads is the part of Run that is about Records, for stores that can be made to read in other ways.
func RunReads(t *testing.T, open func(t *testing.T, dir string) entityevent.Store) {
	for _, part := range []struct {
		name string
		run  func(*box)
	}{
		{"Read", testRead},
		{"ReadWhileWriting", testReadWhileWriting},
		{"Queries", testQueries},
		{"TimesOfQueries", testTimesOfQueries},
		{"PagesOfQueries", testPagesOfQueries},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(newBox(t, open, t.TempDir())) })
	}
}

// Backup copies a store that is in use into an empty folder, where Open opens the copy.
type Backup func(s entityevent.Store, dir string) error

// RunBackup holds a store that can be copied while in use to what Run does, of the copy as well.
func RunBackup(t *testing.T, open func(t *testing.T, dir string) entityevent.Store, backup Backup) {
	t.Run("Model", func(t *testing.T) { testModel(t, open, backup) })
	t.Run("Restored", func(t *testing.T) { testRestored(newBox(t, open, t.TempDir()), backup) })
}

// box is a store under test with short ways to use it; any error that the test does not ask for ends it.
type box struct {
	*testing.T
	entityevent.Store
	open Open
	dir  string
}

const feed = entityevent.Local

func newBox(t *testing.T, open Open, dir string) *box {
	b := &box{T: t, open: open, dir: dir, Store: open(t, dir)}
	t.Cleanup(func() {
		if err := b.Store.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

func (b *box) reopen() {
	b.Helper()
	if err := b.Store.Close(); err != nil {
		b.Fatalf("close: %v", err)
	}
	b.Store = b.open(b.T, b.dir)
}

// deadline is a context for what must not take long; a lost event shows as its end.
func (b *box) deadline() context.Context {
	ctx, cancel := context.WithTimeoutCause(b.Context(), time.Minute, errors.New("not done after a minute"))
	b.Cleanup(cancel)
	return ctx
}

func everyone(feed string) entityevent.View {
	return entityevent.View{Feed: feed, Mask: entityevent.Everyone}
}

func ref(key string) entityevent.Ref { return entityevent.Ref{Resource: "Property", Key: key} }

func put(key, body string) entityevent.Change {
	return entityevent.Change{Ref: ref(key), Body: json.RawMessage(body)}
}

func merge(key, body string) entityevent.Change {
	return entityevent.Change{Ref: ref(key), Op: entityevent.Merge, Body: json.RawMessage(body)}
}

func remove(key string) entityevent.Change {
	return entityevent.Change{Ref: ref(key), Op: entityevent.Remove}
}

func (b *box) commit(c entityevent.Commit) []entityevent.Outcome {
	b.Helper()
	out, err := b.Apply(b.Context(), c)
	if err != nil {
		b.Fatalf("apply: %v", err)
	}
	if len(out) != len(c.Changes) {
		b.Fatalf("%d outcomes for %d changes", len(out), len(c.Changes))
	}
	return out
}

func (b *box) apply(changes ...entityevent.Change) []entityevent.Outcome {
	b.Helper()
	return b.commit(entityevent.Commit{Feed: feed, Changes: changes})
}

// must applies one change that has to be accepted.
func (b *box) must(change entityevent.Change) entityevent.Outcome {
	b.Helper()
	out := b.apply(change)[0]
	if out.Err != nil {
		b.Fatalf("%s: %v", change.Ref, out.Err)
	}
	return out
}

func (b *box) page(v entityevent.View, q entityevent.EventQuery) entityevent.Page {
	b.Helper()
	p, err := b.Events(b.Context(), v, q)
	if err != nil {
		b.Fatalf("events: %v", err)
	}
	if p.Log != b.LogID() {
		b.Fatalf("the page names log %q, the store %q", p.Log, b.LogID())
	}
	return p
}

// log reads a whole feed, page by page.
func (b *box) log(feed string) []entityevent.Event {
	b.Helper()
	var all []entityevent.Event
	for after := entityevent.Sequence(0); ; {
		p := b.page(everyone(feed), entityevent.EventQuery{After: after, Limit: 7, Times: true})
		all = append(all, p.Events...)
		if !p.More {
			return all
		}
		after = p.Through
	}
}

func (b *box) records(feed string, q entityevent.Query) []entityevent.Record {
	b.Helper()
	if q.Resource == "" {
		q.Resource = "Property"
	}
	var all []entityevent.Record
	for r, err := range b.Read(b.Context(), everyone(feed), q) {
		if err != nil {
			b.Fatalf("read: %v", err)
		}
		all = append(all, r)
	}
	return all
}

// record reads one record, gone or not.
func (b *box) record(key string) entityevent.Record {
	b.Helper()
	all := b.records(feed, entityevent.Query{Keys: []string{key}, Gone: true})
	if len(all) != 1 {
		b.Fatalf("%d records of key %q", len(all), key)
	}
	return all[0]
}

func (b *box) receive(d entityevent.Delivery) entityevent.Position {
	b.Helper()
	p, err := b.Receive(b.Context(), d)
	if err != nil {
		b.Fatalf("receive: %v", err)
	}
	b.wantPosition(d.Feed, p)
	return p
}

// wantPosition checks what a store says of a feed against what it answered last, and counts the inbox.
func (b *box) wantPosition(feed string, want entityevent.Position) {
	b.Helper()
	want.Stored = 0
	got, err := b.Position(b.Context(), feed)
	if err != nil {
		b.Fatalf("position: %v", err)
	}
	b.equal("position", got, want)
	depth, err := b.Depth(b.Context(), feed)
	if err != nil {
		b.Fatalf("depth: %v", err)
	}
	b.equal("depth", depth, int64(len(b.take(feed))))
}

func (b *box) take(feed string) []entityevent.Item {
	b.Helper()
	items, err := b.Take(b.Context(), feed, 0)
	if err != nil {
		b.Fatalf("take: %v", err)
	}
	return items
}

// pending are the sequences in the inbox.
func (b *box) pending(feed string) []entityevent.Sequence {
	b.Helper()
	seqs := []entityevent.Sequence{}
	for _, i := range b.take(feed) {
		seqs = append(seqs, i.Sequence)
	}
	return seqs
}

func (b *box) aside(feed string, due time.Time) []entityevent.Setback {
	b.Helper()
	all, err := b.Store.Aside(b.Context(), feed, due, 0)
	if err != nil {
		b.Fatalf("aside: %v", err)
	}
	return all
}

func (b *box) equal(what string, got, want any) {
	b.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		b.Fatalf("%s: want -, got +\n%s", what, diff)
	}
}

func seqs(events []entityevent.Event) []entityevent.Sequence {
	out := []entityevent.Sequence{}
	for _, e := range events {
		out = append(out, e.Sequence)
	}
	return out
}

func list(s ...entityevent.Sequence) []entityevent.Sequence { return slices.Clip(s) }
