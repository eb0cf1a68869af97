package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// sweep asks the producer, by keys alone, for the records that the replica has of a resource. What it
// does not return is a suspicion and no more: the record is set aside for the applier to look at.
func (l *loader) sweep(ctx context.Context) error {
	for {
		var tasks []*task
		q := entityevent.Query{Resource: l.resource, After: l.at.After, Limit: l.KeyBatch}
		for record, err := range l.Store.Read(ctx, l.view(), q) {
			if err != nil {
				return err
			}
			tasks = append(tasks, &task{Ref: record.Ref})
		}
		if len(tasks) == 0 {
			return nil
		}
		missing, err := l.missing(ctx, l.key, forLoad, tasks)
		if err != nil {
			return err
		}
		var holds map[entityevent.Ref]entityevent.Setback
		if len(missing) > 0 {
			if holds, err = l.heldRemovals(ctx); err != nil {
				return err
			}
		}
		l.state.loaded(l.resource, 0) // the producer answers, though it lists nothing new
		l.at.After = tasks[len(tasks)-1].Key
		c := entityevent.Commit{Feed: l.Name, Docs: []entityevent.Doc{with(l.doc, l.at)}}
		for _, t := range missing {
			if _, waits := holds[t.Ref]; waits {
				continue // the brake's own look is to come
			}
			c.Aside = append(c.Aside, entityevent.Setback{Ref: t.Ref, Kind: recheck,
				Reason: "the producer did not list it", Tries: 1, NextAt: time.Now()})
		}
		if _, err := l.Store.Apply(ctx, c); err != nil {
			return err
		}
		l.doc.Version++
		if len(missing) > 0 {
			wake(l.apply)
		}
	}
}

// missing returns the tasks, all of one resource, whose records the producer does not list.
func (f *Feed) missing(ctx context.Context, key keyField, e errand, tasks []*task) ([]*task, error) {
	lister := &fetcher{Feed: f, errand: e, fields: "&$select=" + odata.EscapeQuery(key.Name)}
	defer lister.close()
	var missing []*task
	for len(tasks) > 0 {
		var chunk []*task
		chunk, tasks = lister.cut(tasks)
		keys, err := lister.list(ctx, key, chunk)
		if err != nil {
			return nil, err
		}
		for _, t := range chunk {
			if _, listed := keys[t.Key]; !listed {
				missing = append(missing, t)
			}
		}
	}
	return missing, nil
}

// list asks for several keys in the best way that the producer understands; if it understands only
// single reads, those that it does not refuse count as listed.
func (f *fetcher) list(ctx context.Context, key keyField, tasks []*task) (map[string][]byte, error) {
	start, _ := f.tongue.get(tasks[0].Resource)
	for w := start; w < bySingle; w++ {
		keys, err := f.batch(ctx, w, key, tasks)
		if err == nil || concernsAll(err) {
			return keys, err
		}
	}
	keys := make(map[string][]byte, len(tasks))
	for _, t := range tasks {
		_, err := f.get(ctx, odata.KeySegment(t.Resource, t.Key, key.Quoted))
		var r *refusal
		switch {
		case err == nil:
			keys[t.Key] = nil
		case concernsAll(err) || !errors.As(err, &r):
			return nil, err
		}
		f.close()
	}
	return keys, nil
}
