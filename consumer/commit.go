package consumer

import (
	"context"
	"errors"
	"slices"

	"github.com/resosync/resosync/entityevent"
)

// commitAll writes what is ready, and then the removals.
func (r *round) commitAll(ctx context.Context) error {
	if err := r.commit(ctx); err != nil {
		return err
	}
	slices.Reverse(r.gone) // children first
	r.ready, r.gone = r.gone, nil
	return r.commit(ctx)
}

// commit writes what is ready in one transaction with the end of its events.
func (r *round) commit(ctx context.Context) error {
	tasks := r.ready
	r.ready, r.size = nil, 0
	defer r.close()
	if len(tasks) == 0 {
		return nil
	}
	err := r.write(ctx, tasks)
	for range 3 {
		if !errors.Is(err, entityevent.ErrConflict) {
			break // else another process counted removals meanwhile
		}
		err = r.write(ctx, tasks)
	}
	return err
}

func (r *round) write(ctx context.Context, tasks []*task) error {
	have, err := r.have(ctx, tasks)
	if err != nil {
		return err
	}
	second := map[entityevent.Ref]entityevent.Setback{}
	if r.lagging {
		second = doubt(tasks, have)
	}
	for _, t := range tasks {
		if _, here := have[t.Ref]; here && t.opposed && t.was.Kind != held {
			second[t.Ref] = t.look(secondLook, "absent, while the producer contradicted itself of others")
		}
	}
	b, err := r.brake(ctx, tasks, have, second)
	if err != nil {
		return err
	}
	c := entityevent.Commit{Feed: r.Name, Aside: b.again, Docs: b.docs}
	var owners []*task
	for _, t := range tasks {
		c.Done = append(c.Done, t.settles()...)
		s, doubtful := second[t.Ref]
		hold, braked := b.held[t.Ref]
		switch {
		case t.verdict == wrong:
			c.Aside = append(c.Aside, t.setback(t.err))
			continue
		case doubtful:
			c.Aside = append(c.Aside, s)
			continue
		case braked:
			c.Aside = append(c.Aside, hold)
			continue
		}
		change := entityevent.Change{Ref: t.Ref, Op: entityevent.Put, Body: t.body, UnchangedSince: &t.since}
		if t.verdict == absent {
			change.Op, change.Body = entityevent.Remove, nil
		}
		c.Changes = append(c.Changes, change)
		owners = append(owners, t)
	}
	outcomes, err := r.touched.apply(ctx, r.Store, c, r.begun)
	r.learn(c, err)
	if err != nil {
		return err
	}
	r.settled += len(tasks)
	var invalid entityevent.Commit
	for i, o := range outcomes {
		if errors.Is(o.Err, entityevent.ErrInvalid) {
			invalid.Done = append(invalid.Done, owners[i].settles()...)
			invalid.Aside = append(invalid.Aside, owners[i].poisoned(o.Err))
		}
	}
	if len(invalid.Aside) > 0 {
		err = r.apply(ctx, invalid)
	}
	return err
}
