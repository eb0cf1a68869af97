package consumer

import (
	"context"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

const (
	// heldWait is how long the brake holds a removal before the producer is asked for the record again.
	heldWait = 15 * time.Minute
	heldLast = heldWait + time.Minute // if it said nothing
	// heldFirst is how many held removals of a resource are looked at before the others are; and as long as
	// the producer says nothing of them, the next so many, a few times.
	heldFirst, heldSamples = 5, 5
	// canaries is how many records that nobody suspects are read, to see whether the producer shows any.
	canaries = 5
)

// holds is what the brake holds, as the applier knows it between its rounds: there may be very much of it,
// and nobody else changes which records they are.
type holds struct {
	of map[entityevent.Ref]entityevent.Setback
	in map[string]int // how many of each resource
}

func (h *holds) drop(ref entityevent.Ref) {
	if _, there := h.of[ref]; there {
		delete(h.of, ref)
		h.in[ref.Resource]--
	}
}

func (h *holds) put(s entityevent.Setback) {
	if h.of == nil {
		h.of, h.in = map[entityevent.Ref]entityevent.Setback{}, map[string]int{}
	}
	h.drop(s.Ref)
	s.Reason = heldReason // once for all
	h.of[s.Ref] = s
	h.in[s.Resource]++
}

// recall makes sure that the applier knows what is held.
func (f *Feed) recall(ctx context.Context) error {
	counts, err := f.Store.CountAside(ctx, f.Name)
	if err != nil || int64(len(f.holds.of)) == counts[held] {
		return err
	}
	all, err := f.heldRemovals(ctx)
	if err != nil {
		return err
	}
	f.holds = holds{}
	for _, s := range all {
		f.holds.put(s)
	}
	return nil
}

// learn follows what a commit made of the holds. After a failure nobody knows.
func (r *round) learn(c entityevent.Commit, err error) {
	if err != nil {
		r.holds = holds{}
		return
	}
	for _, i := range c.Done {
		r.holds.drop(i.Ref)
	}
	for _, s := range c.Aside {
		if r.holds.drop(s.Ref); s.Kind == held {
			r.holds.put(s)
		}
	}
}

// apply commits what has no outcomes to look at.
func (r *round) apply(ctx context.Context, c entityevent.Commit) error {
	c.Feed = r.Name
	_, err := r.Store.Apply(ctx, c)
	r.learn(c, err)
	return err
}

// heldRemovals returns what the brake holds, without asking for more than a number where there is none.
func (f *Feed) heldRemovals(ctx context.Context) (map[entityevent.Ref]entityevent.Setback, error) {
	counts, err := f.Store.CountAside(ctx, f.Name)
	if err != nil || counts[held] == 0 {
		return nil, err
	}
	all, err := f.Store.Aside(ctx, f.Name, time.Time{}, 0)
	if err != nil {
		return nil, err
	}
	holds := make(map[entityevent.Ref]entityevent.Setback, counts[held])
	for _, s := range all {
		if s.Kind == held {
			holds[s.Ref] = s
		}
	}
	return holds, nil
}

// review looks again at removals that are held, all of one resource. One is released when the record is
// absent still, a while after it was held, and the producer shows another record of the resource after
// that, by the same kind of read; or when somebody allowed it. One that is there is brought up to date.
func (r *round) review(ctx context.Context, tasks []*task) error {
	for samples := heldSamples; len(tasks) > 0; {
		chunk, rest := r.cut(tasks)
		if samples > 0 && len(chunk) > heldFirst && !r.allowed {
			chunk, rest = tasks[:heldFirst], tasks[heldFirst:]
		}
		tasks = rest
		if err := r.fetch(ctx, chunk); err != nil {
			return err
		}
		back, err := r.release(ctx, chunk)
		if err != nil {
			return err
		}
		released := len(r.gone)
		var kept, left []*task
		judged := false
		for _, t := range chunk {
			judged = judged || t.verdict != unjudged
			if t.verdict == unjudged || t.verdict == absent && !t.released {
				kept = append(kept, t)
			}
		}
		if samples--; judged {
			samples = 0
		}
		if len(kept) == len(chunk) && samples <= 0 && !r.allowed {
			left, tasks = tasks, nil // nor would the others be released
		}
		if err := r.commitAll(ctx); err != nil {
			return err
		}
		wait := heldWait
		if !judged {
			wait = heldLast // the others are the first next time
		}
		if err := r.keep(ctx, kept, wait); err != nil {
			return err
		}
		if err := r.keep(ctx, left, heldWait); err != nil {
			return err
		}
		if released+back > 0 {
			r.Logger.Info("removals were held", "resource", chunk[0].Resource, "released", released, "there", back)
		}
	}
	return nil
}

// release sorts what was judged into what is ready and what is gone. It returns how many records are there.
func (r *round) release(ctx context.Context, chunk []*task) (back int, err error) {
	shown := map[proof]bool{}
	for _, t := range chunk {
		switch t.verdict {
		case unjudged:
		case absent:
			ok, asked := shown[t.proof]
			if !asked && !r.allowed && t.was.Tries > 0 {
				if ok, err = r.shows(ctx, t); err != nil {
					return back, err
				}
				shown[t.proof] = ok
			}
			// What was replayed may be held for a moment only.
			if t.released = r.allowed || ok && t.was.Tries > 0 && !t.opposed; t.released {
				r.gone = append(r.gone, t)
			}
		default:
			r.ready = append(r.ready, t)
			r.size += len(t.body)
			back++
		}
	}
	return back, nil
}

// keep goes on holding removals.
func (r *round) keep(ctx context.Context, tasks []*task, wait time.Duration) error {
	if len(tasks) == 0 {
		return nil
	}
	var c entityevent.Commit
	for _, t := range tasks {
		s := t.keep()
		s.NextAt = time.Now().Add(wait)
		c.Aside = append(c.Aside, s)
	}
	r.settled += len(tasks)
	return r.apply(ctx, c)
}

// shows says whether the producer returns the content of any record that nobody suspects, in the way in
// which it proved a task's to be absent: of the task's neighbours, or of the first that the replica has.
func (r *round) shows(ctx context.Context, t *task) (bool, error) {
	key, err := r.schema.key(ctx, t.Resource)
	if err != nil {
		return false, err
	}
	asked := map[string]bool{}
	for _, after := range []string{t.Key, ""} {
		for record, err := range r.Store.Read(ctx, r.view(), entityevent.Query{Resource: t.Resource, After: after}) {
			if err != nil {
				return false, err
			}
			if _, suspect := r.holds.of[record.Ref]; suspect || asked[record.Key] {
				continue
			}
			asked[record.Key] = true
			shown, err := r.shown(ctx, key, record.Ref, t.proof)
			if shown || err != nil {
				return shown, err
			}
			if n := len(asked); n == canaries || n == (canaries+1)/2 && after != "" {
				break
			}
		}
	}
	return false, nil
}

// shown reads one record. Its error concerns all requests.
func (r *round) shown(ctx context.Context, key keyField, ref entityevent.Ref, by proof) (bool, error) {
	if by == byQuery {
		there := false
		filter := odata.AnyOf(key.Name, []string{ref.Key}, key.Quoted)
		err := r.query(ctx, ref.Resource+"?$filter="+odata.EscapeQuery(filter)+"&$select="+odata.EscapeQuery(key.Name), key.Name,
			func(k string, _ []byte) error { there = there || k == ref.Key; return nil })
		if err != nil && !concernsAll(err) {
			return false, nil
		}
		return there, err
	}
	a, err := r.get(ctx, odata.KeySegment(ref.Resource, ref.Key, key.Quoted))
	if err != nil {
		if concernsAll(err) {
			return false, err
		}
		return false, nil
	}
	t := &task{Ref: ref}
	r.read(a, key, t)
	return t.verdict == found, nil
}
