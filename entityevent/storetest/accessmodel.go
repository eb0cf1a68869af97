package storetest

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// testAccessModel runs random writes, profiles, steps of reviews, compactions and reopens against the store, and lets
// clients follow meanwhile. Plain Go says who may see what.
func testAccessModel(t *testing.T, open Open) {
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "access")
		if err != nil {
			t.Fatal(err)
		}
		m := &accessMachine{
			guarded: newGuarded(&box{T: t, open: open, dir: dir, Store: open(t, dir)}), r: r, readers: map[string]*reader{},
			records: map[entityevent.Ref]map[string]any{}, could: map[string]map[entityevent.Ref]bool{}, heldTo: map[string]bool{},
		}
		defer func() {
			if err := m.Store.Close(); err != nil {
				r.Fatal(err)
			}
		}()
		r.Repeat(map[string]func(*rapid.T){
			"":        m.note,
			"write":   m.write,
			"write 2": m.write,
			"set":     m.setProfiles,
			"step":    func(*rapid.T) { m.reviewed = !m.step() },
			"review":  m.reviewAll,
			"compact": m.compactSome,
			"follow":  m.follow,
			"reopen":  func(*rapid.T) { m.reopen() },
		})
		m.reviewAll(r)
		m.finish()
	})
}

func (m *accessMachine) reviewAll(r *rapid.T) {
	for m.reviewed = false; !m.reviewed; m.note(r) {
		m.reviewed = !m.step()
	}
	m.check()
}

type accessMachine struct {
	*guarded
	r        *rapid.T
	profiles map[string]rules
	records  map[entityevent.Ref]map[string]any
	reviewed bool // every view is what the profiles say
	readers  map[string]*reader
	could    map[string]map[entityevent.Ref]bool // what a profile ever could see, "" for none
	heldTo   map[string]bool                     // profiles that were ever set
}

var (
	accessNames   = []string{"p", "q", "r"}
	accessFilters = []string{"all", "S eq 1", "S ge 1", "S ne 1", "S eq null or S eq 2", "T eq 'x'", "not (T eq 'x') and S eq 1"}
)

func (m *accessMachine) setProfiles(r *rapid.T) {
	m.profiles = map[string]rules{}
	var all []entityevent.Profile
	for _, name := range accessNames {
		if rapid.IntRange(0, 3).Draw(r, "has "+name) == 0 {
			continue
		}
		mine := rules{}
		var hide []string
		if rapid.IntRange(0, 4).Draw(r, "properties") > 0 {
			mine["Property"] = rapid.SampledFrom(accessFilters).Draw(r, "filter")
			hide = rapid.SampledFrom([][]string{nil, {"X"}}).Draw(r, "hide")
			if rapid.IntRange(0, 2).Draw(r, "with") > 0 {
				mine["Media"] = "with Property"
			}
		} else if rapid.Bool().Draw(r, "media") {
			mine["Media"] = rapid.SampledFrom(accessFilters[:4]).Draw(r, "filter")
		}
		m.profiles[name], m.heldTo[name] = mine, true
		all = append(all, profile(name, mine, hide...))
	}
	m.set(all...)
	m.reviewed = false
	for name := range m.readers {
		if name != "" && m.profiles[name] == nil {
			continue
		}
		m.readers[name].view = m.view(name)
	}
}

func (m *accessMachine) write(r *rapid.T) {
	var c entityevent.Commit
	c.Feed = feed
	for range rapid.IntRange(1, 5).Draw(r, "changes") {
		ref := entityevent.Ref{Resource: rapid.SampledFrom([]string{"Property", "Media"}).Draw(r, "resource"), Key: rapid.SampledFrom([]string{"1", "2", "3"}).Draw(r, "key")}
		body := map[string]any{"S": rapid.IntRange(0, 2).Draw(r, "S"), "T": rapid.SampledFrom([]string{"x", "y"}).Draw(r, "T")}
		if ref.Resource == "Media" {
			body["ResourceRecordKey"] = rapid.SampledFrom([]string{"1", "2", "9"}).Draw(r, "parent")
		}
		ch := entityevent.Change{Ref: ref, Op: entityevent.Op(rapid.SampledFrom([]int{0, 0, 1, 1, 2}).Draw(r, "op"))}
		old := m.records[ref]
		switch {
		case ch.Op == entityevent.Remove:
			delete(m.records, ref)
		case ch.Op == entityevent.Merge && old == nil:
			continue
		case ch.Op == entityevent.Merge:
			for name := range body {
				if rapid.Bool().Draw(r, "leaves "+name) {
					body[name] = old[name]
				}
			}
			fallthrough
		default:
			m.records[ref] = body
		}
		if ch.Op != entityevent.Remove {
			text, err := json.Marshal(body)
			if err != nil {
				r.Fatal(err)
			}
			ch.Body = text
		}
		c.Changes = append(c.Changes, ch)
	}
	for _, o := range m.commit(c) {
		if o.Err != nil {
			r.Fatal(o.Err)
		}
	}
}

func (m *accessMachine) compactSome(r *rapid.T) {
	var c entityevent.Compaction
	if rapid.IntRange(0, 2).Draw(r, "forget") == 0 {
		c.Forget = time.Now().Add(time.Hour)
		for _, reader := range m.readers {
			if !reader.chain.IsZero() && reader.chain.Before(c.Forget) { // what goes while one reads from 0 it has to be told
				c.Forget = reader.chain
			}
		}
	}
	m.compact(c)
	counts := map[entityevent.Ref]int{}
	for _, e := range m.page(everyone(feed), entityevent.EventQuery{Limit: 1000}).Events {
		counts[e.Ref]++
	}
	for ref, n := range counts {
		if n > 1 || c.Forget.After(time.Now()) && m.records[ref] == nil {
			r.Fatalf("%d events of %s are left, %v", n, ref, m.records[ref])
		}
	}
	if n := len(m.everyEvent(feed)); n > len(counts)*(1+len(m.heldTo)) {
		r.Fatalf("%d events of %d records are left, with %d profiles", n, len(counts), len(m.heldTo))
	}
}

// note remembers who can see what.
func (m *accessMachine) note(*rapid.T) {
	m.inEachView(func(name string, _ entityevent.View) {
		for ref := range m.reader(name).may() {
			if m.could[name] == nil {
				m.could[name] = map[entityevent.Ref]bool{}
			}
			m.could[name][ref] = true
		}
	})
}

func (m *accessMachine) inEachView(do func(name string, v entityevent.View)) {
	do("", everyone(feed))
	for _, name := range accessNames {
		if m.profiles[name] != nil {
			do(name, m.view(name))
		}
	}
}

// follow lets a client read some pages: one that goes on, or one that begins.
func (m *accessMachine) follow(r *rapid.T) {
	m.inEachView(func(name string, v entityevent.View) {
		c := m.readers[name]
		if c == nil || rapid.IntRange(0, 9).Draw(r, "begins") == 0 {
			c = m.reader(name)
			m.readers[name] = c
		}
		c.guarded, c.view = m.guarded, v
		for range rapid.IntRange(0, 4).Draw(r, "pages") {
			if _, err := c.page(m.Context(), rapid.IntRange(1, 4).Draw(r, "limit")); err != nil {
				r.Fatal(err)
			}
		}
	})
}

// check compares every record's views with what the profiles say, and its version with the log.
func (m *accessMachine) check() {
	newest := map[entityevent.Ref]entityevent.Sequence{}
	for _, e := range m.page(everyone(feed), entityevent.EventQuery{Limit: 100_000}).Events {
		newest[e.Ref] = e.Sequence
	}
	n := 0
	for _, resource := range []string{"Property", "Media"} {
		for _, record := range m.box.records(feed, entityevent.Query{Resource: resource, Gone: true}) {
			if record.Version != newest[record.Ref] {
				m.r.Fatalf("%s has version %d, its newest event is %d", record.Ref, record.Version, newest[record.Ref])
			}
			if record.Gone() {
				continue
			}
			n++
			want := entityevent.Everyone
			for name := range m.profiles {
				if m.shows(name, record.Ref) {
					want |= m.masks[name]
				}
			}
			ours := entityevent.Everyone
			for _, mask := range m.masks {
				ours |= mask
			}
			if record.Views&ours != want {
				m.r.Fatalf("%s %s: views %x, want %x of %v", record.Ref, record.Body, record.Views, want, m.profiles)
			}
		}
	}
	if n != len(m.records) {
		m.r.Fatalf("%d records, want %d", n, len(m.records))
	}
}

func (m *accessMachine) shows(name string, ref entityevent.Ref) bool {
	rule, body := m.profiles[name][ref.Resource], m.records[ref]
	switch {
	case rule == "" || body == nil:
		return false
	case rule == "all":
		return true
	case rule == "with Property":
		return m.shows(name, entityevent.Ref{Resource: "Property", Key: body["ResourceRecordKey"].(string)})
	}
	filter, err := odata.ParseFilter(rule, nil)
	if err != nil {
		m.r.Fatal(err)
	}
	return odata.Holds(filter, func(name string) []byte {
		text, err := json.Marshal(body[name])
		if err != nil {
			m.r.Fatal(err)
		}
		return text
	})
}

// finish lets everybody catch up, and those who begin now: each has what it may see, and was told of nothing else.
func (m *accessMachine) finish() {
	m.inEachView(func(name string, v entityevent.View) {
		old := m.readers[name]
		if old == nil {
			old = m.reader(name)
		}
		old.guarded, old.view = m.guarded, v
		for _, c := range []*reader{old, m.reader(name)} {
			for more := true; more; {
				var err error
				if more, err = c.page(m.Context(), 3); err != nil {
					m.r.Fatal(err)
				}
			}
			if d := diff(c.may(), c.has); d != "" {
				m.r.Fatalf("%s, may see -, has +\n%s", name, d)
			}
			for ref := range c.told {
				if name != "" && !m.could[name][ref] {
					m.r.Fatalf("%s was told of %s, which it never could see", name, ref)
				}
			}
		}
	})
	if !slices.IsSortedFunc(m.everyEvent(feed), func(a, b entityevent.Event) int { return int(a.Sequence - b.Sequence) }) {
		m.r.Fatal(fmt.Errorf("events out of order"))
	}
}
