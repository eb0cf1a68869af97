package simulation

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// workload is the MLS: it changes records, at random.
type workload struct {
	w    *world
	r    *rand.Rand
	rev  int
	keys int
}

// strange are parts of keys that are easy to get wrong.
var strange = []string{"", "", "", "", "O'Neil", "a b", "a//b", "50%", "#1", "ü", "A", "a", "007", "?x=1&y", "''"}

func (m *workload) ref() entityevent.Ref {
	m.keys++
	resource := resources[[]int{0, 0, 0, 0, 1, 1, 2, 2, 3}[m.r.IntN(9)]]
	return entityevent.Ref{Resource: resource, Key: fmt.Sprintf("%s%d", strange[m.r.IntN(len(strange))], m.keys)}
}

// existing draws a record that there is, or else a new one.
func (m *workload) existing() entityevent.Ref {
	if refs := m.w.truth.refs(); len(refs) > 0 {
		return refs[m.r.IntN(len(refs))]
	}
	return m.ref()
}

// body is new content. That of an Office has no revision and comes back to what it was.
func (m *workload) body(ref entityevent.Ref) json.RawMessage {
	if ref.Resource == "Office" && m.w.plan.lag == 0 {
		return fmt.Appendf(nil, `{"OfficeKey":%s,"Status":%q}`, quote(ref.Key), []string{"Active", "Inactive"}[m.r.IntN(2)])
	}
	m.rev++
	note := ""
	if m.r.IntN(20) == 0 {
		note = strings.Repeat("n", m.r.IntN(3000))
	}
	return fmt.Appendf(nil, `{%q:%s,"Rev":%d,"Note":%q,"Status":"Active","ModificationTimestamp":%q}`,
		keyField[ref.Resource], quote(ref.Key), m.rev, note, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"))
}

func quote(key string) []byte {
	text, _ := json.Marshal(key)
	return text
}

// change draws one change.
func (m *workload) change() entityevent.Change {
	c := entityevent.Change{Ref: m.existing()}
	switch n := m.r.IntN(20); {
	case n < 6:
		c.Ref = m.ref()
		c.Body = m.body(c.Ref)
		if m.r.IntN(3) == 0 {
			c.Only = entityevent.New
		}
	case n < 11:
		c.Body = m.body(c.Ref)
	case n < 14:
		c.Op, c.Body = entityevent.Merge, m.merge(c.Ref)
	case n < 17:
		c.Op = entityevent.Remove
	case n < 18: // the same again, in another order
		if f := m.w.truth.get(c.Ref); f.body != "" {
			c.Body = json.RawMessage(" " + f.body)
			break
		}
		c.Body = m.body(c.Ref)
	case n < 19: // bound to what is there
		c.Body, c.IfHash = m.body(c.Ref), m.w.truth.get(c.Ref).hash
	default: // refused
		c.Body, c.Only = m.body(c.Ref), entityevent.New
	}
	return c
}

func (m *workload) merge(ref entityevent.Ref) json.RawMessage {
	if ref.Resource == "Office" && m.w.plan.lag == 0 {
		return json.RawMessage(`{"Status":"Merged"}`)
	}
	m.rev++
	return fmt.Appendf(nil, `{"Rev":%d,"Status":"Pending","ModificationTimestamp":%q}`, m.rev, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"))
}

func (m *workload) commit(changes int) entityevent.Commit {
	c := entityevent.Commit{Feed: entityevent.Local}
	for range changes {
		c.Changes = append(c.Changes, m.change())
	}
	return c
}

// run works until a time.
func (m *workload) run(until time.Time) {
	for time.Now().Before(until) && !m.w.failed() {
		switch n := m.r.IntN(10); {
		case n < 4:
			m.write(m.commit(1))
		case n < 7:
			m.write(m.commit(1 + m.r.IntN(8)))
		case n < 8:
			m.write(m.commit(20 + m.r.IntN(60)))
		default:
			m.burst()
		}
		if !m.w.patient(m.gap()) {
			return
		}
	}
}

func (m *workload) gap() time.Duration {
	switch n := m.r.IntN(20); {
	case n < 9:
		return between(m.r, 0, 100*time.Millisecond)
	case n < 15:
		return between(m.r, 0, 20*time.Second)
	case n < 19:
		return between(m.r, 0, 5*time.Minute)
	}
	return between(m.r, 0, m.w.plan.longestGap)
}

// write waits for the producer and writes. Whether it was done is for the store to say: see truth.
func (m *workload) write(commits ...entityevent.Commit) {
	l := m.w.producer.await(m.w.ctx)
	if l == nil || !l.enter() {
		return
	}
	defer l.leave()
	var group sync.WaitGroup
	for i, c := range commits {
		d := &door{Store: l.store, life: l, who: fmt.Sprintf("mls %d", i), applied: m.w.truth.committed}
		if len(commits) > 1 { // while the first is committed the others gather, to share the next transaction
			d.turn = time.Duration(1+i) * 10 * time.Microsecond
		}
		group.Go(func() {
			// What comes of it stands in the truth.
			_, _ = d.Apply(l.ctx, c)
		})
	}
	group.Wait()
}

// burst writes at once, from several sides, on records of their own: some are refused as a whole, and one
// record is fought for.
func (m *workload) burst() {
	taken := map[entityevent.Ref]bool{}
	var commits []entityevent.Commit
	for range 2 + m.r.IntN(8) {
		c := m.commit(1 + m.r.IntN(4))
		c.Changes = slices.DeleteFunc(c.Changes, func(ch entityevent.Change) bool { return taken[ch.Ref] })
		for _, ch := range c.Changes {
			taken[ch.Ref] = true
		}
		if m.r.IntN(3) == 0 { // a document that is not at this version: all of it is refused
			c.Docs = []entityevent.Doc{{Kind: "simulation", ID: "none", Version: 7, Body: json.RawMessage(`{}`)}}
		}
		commits = append(commits, c)
	}
	if ref := m.existing(); !taken[ref] && ref.Resource != "Office" && m.w.truth.get(ref).body != "" {
		hash := m.w.truth.get(ref).hash
		for range 2 {
			commits = append(commits, entityevent.Commit{Feed: entityevent.Local,
				Changes: []entityevent.Change{{Ref: ref, Body: m.body(ref), IfHash: hash}}})
		}
	}
	m.write(commits...)
}
