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
	// heldFirst is how many held removals of a resource are looked at before the others are.
	heldFirst = 5
	// canaries is how many records that nobody suspects are read, to see whether the producer shows any.
	canaries = 5
)

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
	first := true
	for len(tasks) > 0 {
		chunk, rest := r.cut(tasks)
		if first && len(chunk) > heldFirst && !r.allowed {
			chunk, rest = tasks[:heldFirst], tasks[heldFirst:]
		}
		first, tasks = false, rest
		if err := r.fetch(ctx, chunk); err != nil {
			return err
		}
		back, err := r.release(ctx, chunk)
		if err != nil {
			return err
		}
		released := len(r.gone)
		var kept []*task
		for _, t := range chunk {
			if t.verdict == unjudged || t.verdict == absent && !t.released {
				kept = append(kept, t)
			}
		}
		if len(kept) == len(chunk) && !r.allowed {
			kept, tasks = append(kept, tasks...), nil // nor would the others be released
		}
		if err := r.commitAll(ctx); err != nil {
			return err
		}
		if err := r.keep(ctx, kept); err != nil {
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
			if t.released = r.allowed || ok && t.was.Tries > 0; t.released {
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
func (r *round) keep(ctx context.Context, tasks []*task) error {
	if len(tasks) == 0 {
		return nil
	}
	c := entityevent.Commit{Feed: r.Name}
	now := time.Now()
	for _, t := range tasks {
		c.Aside = append(c.Aside, t.keep(now))
	}
	_, err := r.Store.Apply(ctx, c)
	r.settled += len(tasks)
	return err
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
			if _, suspect := r.holds[record.Ref]; suspect || asked[record.Key] {
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
