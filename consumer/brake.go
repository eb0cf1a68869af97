package consumer

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// kindBrake is the kind of the brake's documents: one of each resource of a feed, under feed/resource.
const kindBrake = "brake"

const (
	// brakeWindow is how long what was removed counts.
	brakeWindow = time.Hour
	// Within it the brake lets so many removals of a resource through, or one of so many records, whichever
	// is more; but of a resource that is not small no more than half.
	brakeFree  = 100
	brakeShare = 50
	brakeSmall = 10
	// recount is how often the records of a large resource are counted.
	recount     = time.Minute
	recountFree = 10_000 // and a resource of no more as often as it matters

	heldReason = "its removal is held, as one of too many in an hour; it is removed when the producer still lacks it while it shows others, or by: resosync reconcile --allow-deletes"
)

// brakeState is what the brake knows of one resource. It is written in the commit of the removals that it
// counts. It counts what is about to be removed: a removal that is refused because the record changed at
// the last moment counts all the same.
type brakeState struct {
	Rows    int64         `json:"rows"`    // the replica has no fewer records
	Counted time.Time     `json:"counted"` // when that was all of them; zero: never
	Window  []brakeMinute `json:"window"`  // oldest first
	// Suspect is the local head before the removals that went through until the brake began to hold. When
	// a record turns out to be there whose removal was held, they are looked at again; when all that
	// was held went rightly, the next hold begins anew. nil: there are none.
	Suspect *entityevent.Sequence `json:"suspect,omitempty"`
	Proven  time.Time             `json:"proven,omitzero"` // when the producer last proved a removal that was held
}

// brakeMinute is what happened within one minute. What is held counts like what was removed, so that the
// brake stays on; what is released was proven twice and counts no more.
type brakeMinute struct {
	At      time.Time            `json:"at"`
	Removed int64                `json:"removed"`
	Held    int64                `json:"held"`
	Head    entityevent.Sequence `json:"head"` // the local one, before
}

// slide forgets what no longer counts. A minute in the future, before the clock was set back, counts from
// now.
func (s *brakeState) slide(now time.Time) {
	this := now.UTC().Truncate(time.Minute)
	for i := range s.Window {
		if s.Window[i].At.After(this) {
			s.Window[i].At = this
		}
	}
	s.Window = slices.DeleteFunc(s.Window, func(m brakeMinute) bool { return now.Sub(m.At) > brakeWindow+time.Minute })
}

func (s *brakeState) sum() (removed, held int64) {
	for _, m := range s.Window {
		removed += m.Removed
		held += m.Held
	}
	return removed, held
}

// note counts in the present minute.
func (s *brakeState) note(now time.Time, head entityevent.Sequence, removed, held int64) {
	this := now.UTC().Truncate(time.Minute)
	if n := len(s.Window); n == 0 || !s.Window[n-1].At.Equal(this) {
		s.Window = append(s.Window, brakeMinute{At: this, Head: head})
	}
	m := &s.Window[len(s.Window)-1]
	m.Removed += removed
	m.Held += held
	s.Rows -= removed
}

// allows says whether so many more may be removed, if the resource has rows records, of which exact says
// that there are no more.
func (s *brakeState) allows(n int64, exact bool) bool {
	removed, held := s.sum()
	rows, total := s.Rows+removed, removed+held+n
	if total > max(brakeFree, rows/brakeShare) {
		return false
	}
	return 2*total <= max(rows, brakeSmall+1) || exact && rows <= brakeSmall
}

func (f *Feed) brakeState(ctx context.Context, resource string) (brakeState, entityevent.Doc, error) {
	var s brakeState
	doc, err := f.document(ctx, kindBrake, f.Name+"/"+resource, &s)
	return s, doc, err
}

// braked is what the brake makes of a batch.
type braked struct {
	held  map[entityevent.Ref]entityevent.Setback // not to be removed
	docs  []entityevent.Doc                       // to write with the others
	again []entityevent.Setback                   // removed before, to be looked at again
}

// brake decides which removals of a batch wait. A batch that would cross the limit waits as a whole: one
// fault may have made all of its answers. Only removals of records that are here count.
func (r *round) brake(ctx context.Context, tasks []*task, have map[entityevent.Ref]entityevent.Record, doubtful map[entityevent.Ref]entityevent.Setback) (b braked, err error) {
	b.held = map[entityevent.Ref]entityevent.Setback{}
	removals, back := map[string][]*task{}, map[string]bool{}
	for _, t := range tasks {
		_, here := have[t.Ref]
		_, doubted := doubtful[t.Ref]
		switch {
		case t.verdict == absent && here && !doubted:
			removals[t.Resource] = append(removals[t.Resource], t)
		case t.verdict == found && t.was.Kind == held:
			back[t.Resource] = true
			removals[t.Resource] = append(removals[t.Resource], []*task{}...)
		}
	}
	for _, resource := range slices.Sorted(maps.Keys(removals)) {
		if err := r.brakeResource(ctx, resource, removals[resource], back[resource], &b); err != nil {
			return b, err
		}
	}
	return b, nil
}

func (r *round) brakeResource(ctx context.Context, resource string, removals []*task, back bool, b *braked) error {
	s, doc, err := r.brakeState(ctx, resource)
	if err != nil {
		return err
	}
	now := time.Now()
	s.slide(now)
	changed := false
	var fresh []*task
	for _, t := range removals {
		switch {
		case t.released:
			s.Rows--
			if !r.allowed {
				s.Proven = now.UTC()
			}
			changed = true
		case t.was.Kind == held: // it waits already
			b.held[t.Ref] = t.was
		default:
			fresh = append(fresh, t)
		}
	}
	if n := int64(len(fresh)); n > 0 {
		changed = true
		allowed, err := r.allows(ctx, resource, &s, n, now)
		if err != nil {
			return err
		}
		if allowed {
			s.note(now, fresh[0].since, n, 0)
		} else {
			r.hold(resource, &s, fresh, now, b)
		}
	}
	if back && s.Suspect != nil {
		changed = true
		again, err := r.removedSince(ctx, resource, *s.Suspect)
		if err != nil {
			return err
		}
		b.again = append(b.again, again...)
		s.Suspect = nil
	}
	if changed {
		b.docs = append(b.docs, with(doc, s))
	}
	return nil
}

// allows asks the state, and counts the resource if it cannot tell. While removals are held of which the
// producer proves none, nothing more goes: it may lack its records for longer than the window.
func (r *round) allows(ctx context.Context, resource string, s *brakeState, n int64, now time.Time) (bool, error) {
	if age := now.Sub(s.Proven); r.holds.in[resource] > 0 && (age < 0 || age > heldWait) {
		return false, nil
	}
	if s.allows(n, false) {
		return true, nil
	}
	if age := now.Sub(s.Counted); s.Rows <= recountFree || age < 0 || age >= recount {
		rows, err := r.Store.Count(ctx, r.view(), entityevent.Query{Resource: resource})
		if err != nil {
			return false, err
		}
		s.Rows, s.Counted = rows, now.UTC()
	}
	return s.allows(n, true), nil
}

func (r *round) hold(resource string, s *brakeState, tasks []*task, now time.Time, b *braked) {
	if r.holds.in[resource] == 0 {
		s.Suspect = nil
		if i := slices.IndexFunc(s.Window, func(m brakeMinute) bool { return m.Removed > 0 }); i >= 0 {
			s.Suspect = &s.Window[i].Head
		}
		r.Logger.Warn("too many records are gone at once; removals are held", "resource", resource, "count", len(tasks))
	}
	s.note(now, tasks[0].since, 0, int64(len(tasks)))
	for _, t := range tasks {
		b.held[t.Ref] = t.keep()
	}
}

// keep holds the removal of a task's record, or goes on holding it.
func (t *task) keep() entityevent.Setback {
	tries := 1
	if t.was.Kind == held {
		tries = t.was.Tries + 1
	}
	return entityevent.Setback{Ref: t.Ref, Kind: held, Reason: heldReason, Tries: tries, NextAt: time.Now().Add(heldWait)}
}

// removedSince returns the records of a resource that were removed after a position of the local log and
// are not back.
func (r *round) removedSince(ctx context.Context, resource string, after entityevent.Sequence) ([]entityevent.Setback, error) {
	var again []entityevent.Setback
	seen := map[string]bool{}
	ofResource := odata.Comparison{
		Left: odata.Field{Path: "ResourceName", Of: odata.Type{Kind: odata.String}}, Op: odata.Eq, Right: odata.Literal{Kind: odata.String, Text: resource},
	}
	for {
		page, err := r.Store.Events(ctx, r.view(), entityevent.EventQuery{After: after, Filter: ofResource, Limit: commitRows})
		if err != nil {
			return nil, err
		}
		q := entityevent.Query{Resource: resource, Gone: true}
		for _, e := range page.Events {
			if !seen[e.Key] {
				seen[e.Key] = true
				q.Keys = append(q.Keys, e.Key)
			}
		}
		if len(q.Keys) > 0 {
			for record, err := range r.Store.Read(ctx, r.view(), q) {
				if err != nil {
					return nil, err
				}
				if record.Gone() {
					again = append(again, entityevent.Setback{Ref: record.Ref, Kind: recheck, Tries: 1, NextAt: time.Now(),
						Reason: "removed while the producer lacked others that are there"})
				}
			}
		}
		if !page.More {
			return again, nil
		}
		after = page.Through
	}
}
