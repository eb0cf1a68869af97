package simulation

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// feedName is the consumer's name of the producer.
const feedName = "mls"

// replica watches what the consumer's store is told.
type replica struct {
	w  *world
	mu sync.Mutex

	cursor   entityevent.Sequence          // up to here everything was checked
	received map[entityevent.Sequence]bool // of the log that the feed follows
	revision map[entityevent.Ref]int       // the highest that it ever had
	written  map[entityevent.Ref]time.Time // when it last changed
	loose    entityevent.LogID             // if not empty: the producer was restored, and the feed still follows this log
	rows     map[string]int                // records, by resource
	mistakes map[string][]time.Time        // when records were removed that were there
}

// received checks the cursor: every event up to it was received, or is below where the load began.
func (r *replica) receive(d entityevent.Delivery, p entityevent.Position, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case errors.Is(err, entityevent.ErrAnotherLog) || err != nil:
		return
	case d.Adopt:
		r.cursor = p.Sequence
		r.received = map[entityevent.Sequence]bool{}
		if r.loose != "" && d.Log != r.loose {
			r.loose = ""
			r.revision = map[entityevent.Ref]int{}
		}
		return
	}
	for _, e := range d.Events {
		r.received[e.Sequence] = true
	}
	if r.loose != "" || !p.Started {
		return
	}
	for _, e := range r.w.truth.between(r.cursor, p.Sequence) {
		if !r.received[e.Sequence] {
			r.w.violated("the cursor is never ahead", "it is at %d, and event %d of %s was never received", p.Sequence, e.Sequence, e.Ref)
		}
	}
	r.cursor = max(r.cursor, p.Sequence)
}

// served is the name under which a client sees the log.
func (t *truth) served() entityevent.LogID { return t.logID() + "/all" }

func (t *truth) logID() entityevent.LogID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log
}

// apply checks what is written to the replica.
func (r *replica) apply(c entityevent.Commit, outcomes []entityevent.Outcome, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, change := range c.Changes {
		if err != nil || outcomes[i].Err != nil || outcomes[i].Sequence == 0 {
			continue
		}
		now := time.Now()
		switch {
		case outcomes[i].Before.IsZero():
			r.rows[change.Resource]++
		case change.Op == entityevent.Remove:
			r.rows[change.Resource]--
		}
		if change.Op == entityevent.Remove {
			since := r.written[change.Ref].Add(-r.w.plan.lag)
			if !r.w.truth.absentSince(change.Ref, since) && r.loose == "" {
				r.mistake(change.Ref, since)
			}
		} else if rev := revision(change.Body); rev > 0 && r.loose == "" {
			if rev < r.revision[change.Ref] {
				r.w.violated("no record goes back in time", "%s from revision %d to %d", change.Ref, r.revision[change.Ref], rev)
			}
			r.revision[change.Ref] = rev
		}
		r.written[change.Ref] = now
	}
}

// mistake is the removal of a record that is there. It takes a producer that denies it for long, and the
// brake holds all that is above its limit: 100 records or 2 %, or half of more than 10.
func (r *replica) mistake(ref entityevent.Ref, since time.Time) {
	if !r.w.plan.empties {
		r.w.violated("removed only what was removed", "%s was there all the time since %v", ref, since.Sub(epoch))
		return
	}
	now := time.Now()
	r.mistakes[ref.Resource] = append(slices.DeleteFunc(r.mistakes[ref.Resource], func(at time.Time) bool { return now.Sub(at) > time.Hour }), now)
	removed := len(r.mistakes[ref.Resource])
	rows := r.rows[ref.Resource] + removed
	if removed > max(100, rows/50) || rows > 10 && 2*removed > rows {
		r.w.violated("the brake holds", "%d records of %s were removed within an hour by mistake, %d are left", removed, ref.Resource, r.rows[ref.Resource])
	}
}

func revision(body []byte) int {
	var record struct{ Rev int }
	_ = json.Unmarshal(body, &record)
	return record.Rev
}

func (r *replica) snapshot() *replica {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &replica{cursor: r.cursor, loose: r.loose,
		received: maps.Clone(r.received), revision: maps.Clone(r.revision), written: maps.Clone(r.written), rows: maps.Clone(r.rows)}
}

func (r *replica) restore(old *replica) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cursor, r.received, r.revision, r.written = old.cursor, maps.Clone(old.received), maps.Clone(old.revision), maps.Clone(old.written)
	r.rows, r.mistakes = maps.Clone(old.rows), map[string][]time.Time{}
}

// loosen suspends what cannot hold until the feed follows another log than this.
func (r *replica) loosen(log entityevent.LogID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loose = log
}

// witness is a subscriber that remembers all that it ever got.
type witness struct {
	w       *world
	mu      sync.Mutex
	through entityevent.Sequence // everything up to it has arrived
	since   time.Time            // what was sent before is of a log that was set back
}

// push is what one push says.
type push struct {
	log            string
	after, through entityevent.Sequence
	events         []entityevent.Event
}

func parsePush(h http.Header, body []byte) (p push, err error) {
	number := func(name string) entityevent.Sequence {
		n, nerr := strconv.ParseInt(h.Get(name), 10, 64)
		err = errors.Join(err, nerr)
		return entityevent.Sequence(n)
	}
	p.log, p.after, p.through = h.Get("EntityEvent-Log"), number("EntityEvent-After"), number("EntityEvent-Through")
	if err == nil {
		p.events, err = entityevent.ParseEvents(body)
	}
	return p, err
}

// sent checks every push as it leaves: it holds every event of the log in (after, through], in order, and it
// does not begin after what has arrived.
func (w *world) sent(link string, req *http.Request, body []byte) {
	if link == pollLink {
		return
	}
	p, err := parsePush(req.Header, body)
	if err != nil {
		w.violated("a push says what it covers", "%s: %v", link, err)
		return
	}
	want := w.truth.between(p.after, p.through)
	ok := len(want) == len(p.events)
	for i := range min(len(want), len(p.events)) {
		ok = ok && want[i].Sequence == p.events[i].Sequence && want[i].Ref == p.events[i].Ref
	}
	if !ok {
		w.violated("a push holds what it covers", "%s: (%d, %d] has %d events, the push %d", link, p.after, p.through, len(want), len(p.events))
	}
	if got := w.witness.arrived(); link == witnessLink && p.after > got {
		w.violated("no event is skipped", "a push begins after %d, and nothing after %d has arrived", p.after, got)
	}
}

// ServeHTTP takes a push, unless it comes late from a log that was set back since.
func (s *witness) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	var body []byte
	if req.Body != nil {
		body = readAll(req)
	}
	p, err := parsePush(req.Header, body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		http.Error(rw, "malformed", http.StatusBadRequest)
		return
	}
	if sent, err := time.Parse(time.RFC3339Nano, req.Header.Get(sentHeader)); err == nil && !sent.Before(s.since) {
		s.through = max(s.through, p.through)
	}
	rw.WriteHeader(http.StatusNoContent)
}

// created hears where the subscription begins.
func (s *witness) created(c entityevent.Commit, _ []entityevent.Outcome, err error) {
	for _, doc := range c.Docs {
		if err != nil || doc.ID != toWitness || doc.Version > 0 {
			continue
		}
		var state struct{ Cursor entityevent.Sequence }
		_ = json.Unmarshal(doc.Body, &state) // ours
		s.mu.Lock()
		s.through = state.Cursor
		s.mu.Unlock()
	}
}

// back is where a restored subscription stands.
func (s *witness) back(at entityevent.Sequence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.through, s.since = min(s.through, at), time.Now()
}

func (s *witness) arrived() entityevent.Sequence {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.through
}
