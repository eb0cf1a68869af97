package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/resosync/resosync/entityevent"
)

// testModel runs random operations against the store and against plain Go that says what they mean, and
// compares everything that can be read after each. Reopening is one of the operations, and where there is a
// way to make backups, going back to one.
func testModel(t *testing.T, open Open, backup Backup) {
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "model")
		if err != nil {
			t.Fatal(err)
		}
		m := &machine{box: &box{T: t, open: open, dir: dir, Store: open(t, dir)}, model: newModel(), r: r, copy: backup}
		defer func() {
			if err := m.Store.Close(); err != nil {
				r.Fatal(err)
			}
		}()
		operations := map[string]func(*rapid.T){
			"":        m.check,
			"apply":   m.apply,
			"receive": m.receive,
			"settle":  m.settle,
			"adopt":   m.adopt,
			"done":    m.done,
			"new log": m.newLog,
			"reopen":  func(*rapid.T) { m.reopen() },
		}
		if backup != nil {
			operations["backup"], operations["restore"] = m.backup, m.restore
		}
		r.Repeat(operations)
	})
}

// machine drives a store and its model.
type machine struct {
	*box
	*model
	r *rapid.T

	copy    Backup
	saved   *model               // as of the backup, nil: there is none
	where   string               // its folder
	highest entityevent.Sequence // that any log of this run gave out
}

var (
	modelFeeds = rapid.SampledFrom([]string{feed, "acme"})
	modelKeys  = rapid.SampledFrom([]string{"1", "01", "a", "A", "O'Neil"})
	modelBody  = rapid.SampledFrom([]string{`{}`, `{"A":1}`, `{"A":2}`, `{"B":1,"A":1}`, `{"A":1,"B":1}`, `{"A":1.0}`, `{"B":2}`, `{"A`})
	modelLogs  = rapid.SampledFrom([]entityevent.LogID{"", "x", "y"})
	modelSeqs  = rapid.Int64Range(1, 12)
)

func (m *machine) apply(r *rapid.T) {
	c := entityevent.Commit{Feed: modelFeeds.Draw(r, "feed")}
	for range rapid.IntRange(1, 4).Draw(r, "changes") {
		ch := entityevent.Change{
			Ref:  ref(modelKeys.Draw(r, "key")),
			Op:   entityevent.Op(rapid.IntRange(0, 2).Draw(r, "op")),
			Only: entityevent.Existence(rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(r, "only")),
			Pass: int64(rapid.IntRange(0, 2).Draw(r, "pass")),
		}
		if ch.Op != entityevent.Remove {
			ch.Body = json.RawMessage(modelBody.Draw(r, "body"))
		}
		switch rapid.IntRange(0, 5).Draw(r, "condition") {
		case 0:
			ch.IfHash = m.model.record(c.Feed, ch.Ref).Hash
		case 1:
			ch.IfHash = entityevent.Hash{1}
		case 2:
			since := entityevent.Sequence(rapid.Int64Range(0, int64(m.head)).Draw(r, "since"))
			ch.UnchangedSince = &since
		}
		c.Changes = append(c.Changes, ch)
	}
	for _, item := range m.inbox[c.Feed] {
		if rapid.Bool().Draw(r, "done") {
			c.Done = append(c.Done, item)
		}
	}
	if rapid.IntRange(0, 3).Draw(r, "aside") == 0 {
		c.Aside = []entityevent.Setback{{
			Ref: ref(modelKeys.Draw(r, "key")), Kind: rapid.SampledFrom([]string{"held", "poison"}).Draw(r, "kind"), Tries: rapid.IntRange(0, 3).Draw(r, "tries"),
			NextAt: time.Unix(rapid.Int64Range(1, 5).Draw(r, "next"), 0).UTC(),
		}}
	}
	c.Docs = m.drawDocs(r)
	out, err := m.Apply(m.Context(), c)
	want, wantErr := m.model.apply(c)
	m.sameError(err, wantErr)
	if err != nil {
		return
	}
	for i := range out {
		m.sameError(out[i].Err, want[i].Err)
		if (out[i].Sequence > 0) != (want[i].Sequence > 0) {
			r.Fatalf("%+v: sequence %d, want %d", c.Changes[i], out[i].Sequence, want[i].Sequence)
		}
		if out[i].Sequence > 0 {
			m.assign(c.Feed, want[i].Sequence, out[i].Sequence)
		}
		out[i].Sequence, want[i].Sequence, out[i].Err, want[i].Err = 0, 0, nil, nil
	}
	m.same("outcomes", out, want)
}

func (m *machine) drawDocs(r *rapid.T) []entityevent.Doc {
	if rapid.IntRange(0, 3).Draw(r, "docs") > 0 {
		return nil
	}
	d := entityevent.Doc{Kind: "k", ID: rapid.SampledFrom([]string{"1", "2"}).Draw(r, "doc"),
		Version: rapid.Int64Range(0, 3).Draw(r, "version")}
	if rapid.Bool().Draw(r, "current") {
		d.Version = m.docs[d.ID].Version
	}
	if rapid.IntRange(0, 3).Draw(r, "removed") > 0 {
		d.Body = json.RawMessage(fmt.Sprint(rapid.IntRange(0, 9).Draw(r, "doc body")))
	}
	return []entityevent.Doc{d}
}

func (m *machine) drawEvents(r *rapid.T) []entityevent.Event {
	var out []entityevent.Event
	last := int64(0)
	for range rapid.IntRange(0, 4).Draw(r, "events") {
		last += modelSeqs.Draw(r, "step")
		key := fmt.Sprint(last)
		if rapid.IntRange(0, 20).Draw(r, "odd") == 0 {
			key = "odd"
		}
		out = append(out, entityevent.Event{Sequence: entityevent.Sequence(last), Ref: ref(key)})
	}
	return out
}

func (m *machine) receive(r *rapid.T) {
	d := entityevent.Delivery{
		Feed: modelFeeds.Draw(r, "feed"), Log: modelLogs.Draw(r, "log"), Chained: rapid.Bool().Draw(r, "chained"),
		Events: m.drawEvents(r), Docs: m.drawDocs(r),
	}
	if rapid.Bool().Draw(r, "own log") {
		d.Log = m.cursor(d.Feed).Log
	}
	if d.Chained {
		d.After = entityevent.Sequence(modelSeqs.Draw(r, "after") - 1)
		if rapid.Bool().Draw(r, "in chain") {
			d.After = m.cursor(d.Feed).Sequence
		}
		d.Through = d.After + entityevent.Sequence(modelSeqs.Draw(r, "through"))
		d.Clears = rapid.Int64Range(0, 3).Draw(r, "clears")
	}
	m.deliver(d)
}

// settle is a poll of a producer without a log id. The model's time is what it was asked at.
func (m *machine) settle(r *rapid.T) {
	m.seconds = max(0, m.seconds+rapid.IntRange(-8, 16).Draw(r, "seconds")) // clocks are set back, too
	after := m.cursor(feed).Sequence
	m.deliver(entityevent.Delivery{
		Feed: feed, Log: m.cursor(feed).Log, Chained: true, After: after,
		Through: after + entityevent.Sequence(modelSeqs.Draw(r, "through")),
		Events:  m.drawEvents(r), Settle: 10 * time.Second, Asked: m.now(),
	})
}

func (m *machine) adopt(r *rapid.T) {
	m.deliver(entityevent.Delivery{
		Feed: modelFeeds.Draw(r, "feed"), Log: modelLogs.Draw(r, "log"), Adopt: true,
		Through: entityevent.Sequence(modelSeqs.Draw(r, "through")), Events: m.drawEvents(r), Docs: m.drawDocs(r),
	})
}

func (m *machine) deliver(d entityevent.Delivery) {
	got, err := m.Receive(m.Context(), d)
	want, wantErr := m.model.receive(d)
	m.sameError(err, wantErr)
	if err == nil || errors.Is(err, entityevent.ErrAnotherLog) {
		m.same("position", got, want)
	}
}

func (m *machine) done(r *rapid.T) {
	name := modelFeeds.Draw(r, "feed")
	c := entityevent.Commit{Feed: name}
	if items := m.inbox[name]; len(items) > 0 {
		c.Done = items[:rapid.IntRange(1, len(items)).Draw(r, "items")]
	} else {
		c.Done = []entityevent.Item{{Ref: ref(modelKeys.Draw(r, "key"))}}
	}
	_, err := m.Apply(m.Context(), c)
	_, wantErr := m.model.apply(c)
	m.sameError(err, wantErr)
}

func (m *machine) newLog(*rapid.T) {
	before := m.LogID()
	log, err := m.NewLog(m.Context())
	m.sameError(err, nil)
	if log == before || log != m.LogID() {
		m.r.Fatalf("log %q after %q; the store says %q", log, before, m.LogID())
	}
	m.head += entityevent.Restart
}

func (m *machine) backup(r *rapid.T) {
	dir, err := os.MkdirTemp(m.TempDir(), "backup")
	if err != nil {
		r.Fatal(err)
	}
	if err := m.copy(m.Store, dir); err != nil {
		r.Fatal(err)
	}
	m.saved, m.where = m.model.clone(), dir
}

// restore goes on from the backup, as whoever restores one is told to. No number comes again.
func (m *machine) restore(r *rapid.T) {
	if m.saved == nil {
		r.Skip("no backup")
	}
	m.highest = max(m.highest, m.head)
	if err := m.Store.Close(); err != nil {
		r.Fatal(err)
	}
	seconds := m.seconds // time is not restored
	m.model, m.dir = m.saved, m.where
	m.saved, m.seconds = nil, seconds
	m.Store = m.open(m.T, m.dir)
	m.check(r)
	for m.head <= m.highest { // once, unless there was a new log since the backup
		m.newLog(r)
	}
}

func (m *machine) same(what string, got, want any) {
	m.r.Helper()
	if diff := diff(want, got); diff != "" {
		m.r.Fatalf("%s: want -, got +\n%s", what, diff)
	}
}

func (m *machine) sameError(got, want error) {
	m.r.Helper()
	if want == nil && got != nil || !errors.Is(got, want) {
		m.r.Fatalf("error %v, want %v", got, want)
	}
}

// check compares everything that can be read.
func (m *machine) check(*rapid.T) {
	for _, name := range []string{feed, "acme"} {
		m.same("events", refs(m.box.log(name)), refs(m.events[name]))
		m.same("records", m.box.records(name, entityevent.Query{Gone: true}), m.wantRecords(name))
		m.same("inbox", m.box.take(name), m.inbox[name])
		m.same("aside", m.box.aside(name, noDue), m.wantAside(name))
		kinds, err := m.CountAside(m.Context(), name)
		m.sameError(err, nil)
		m.same("aside by kind", kinds, m.countAside(name))
		want := m.cursor(name).Position
		want.Stored = 0
		m.box.wantPosition(name, want)
	}
	docs, err := m.List(m.Context(), "k")
	m.sameError(err, nil)
	m.same("documents", docs, m.wantDocs())
}
