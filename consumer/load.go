package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/retry"
)

const (
	// loadAtOnce is how many resources are loaded in parallel from a producer that sends a log id.
	loadAtOnce = 2
)

// partial says that some resources could not be loaded, for reasons of their own. The others were, and
// the feed can be followed.
type partial struct{ err error }

func (p *partial) Error() string { return p.err.Error() }
func (p *partial) Unwrap() error { return p.err }

// hold takes a lock that respects ctx.
func hold(ctx context.Context, lock chan struct{}) error {
	select {
	case lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// load completes the feed's load, from wherever it stopped; it begins the first one. It does nothing for
// a feed whose resources are all loaded.
func (f *Feed) load(ctx context.Context) error {
	if err := hold(ctx, f.loading); err != nil {
		return err
	}
	defer func() { <-f.loading }()
	if f.complete {
		return nil
	}
	state, doc, err := f.loadState(ctx)
	if err != nil {
		return err
	}
	if state.Pass == 0 {
		if err := f.begin(ctx, state, doc); err != nil {
			return err
		}
	}
	return f.finish(ctx)
}

// reload begins another load and completes it. The replica is served meanwhile.
func (f *Feed) reload(ctx context.Context) error {
	if err := hold(ctx, f.loading); err != nil {
		return err
	}
	defer func() { <-f.loading }()
	state, doc, err := f.loadState(ctx)
	if err == nil {
		err = f.begin(ctx, state, doc)
	}
	if err == nil {
		err = f.finish(ctx)
	}
	return err
}

// begin notes the producer's head and lets the feed follow its log from there. Only what is read after
// that counts, so a change during the load has an event after the head. What the applier is fetching
// counts no more: it may have changed below the head, and no event would say so.
func (f *Feed) begin(ctx context.Context, state loadState, doc entityevent.Doc) error {
	head, err := f.newest(ctx)
	if err != nil {
		return err
	}
	if head.log == "" {
		// What it publishes late, below the head, is readable by then.
		if err := retry.Sleep(ctx, f.Settle); err != nil {
			return err
		}
	}
	f.complete = false
	state.Pass++
	state.Begun, state.Done = time.Now(), false
	f.touched.overtake()
	_, err = f.Store.Receive(ctx, entityevent.Delivery{Feed: f.Name, Log: head.log, Adopt: true, Chained: true,
		Through: head.through, Docs: []entityevent.Doc{with(doc, state)}})
	if err != nil {
		return err
	}
	wake(f.apply) // what was pushed before a first load
	f.again.clear()
	f.Logger.Info("load begins", "pass", state.Pass, "seq", head.through)
	return nil
}

// finish loads the resources that the present pass has not loaded.
func (f *Feed) finish(ctx context.Context) error {
	state, doc, err := f.loadState(ctx)
	if err != nil {
		return err
	}
	left, err := f.unloaded(ctx, state.Pass)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		if err := f.again.left(); err != nil {
			return &partial{err}
		}
		if err := f.loadAll(ctx, state.Pass, left); err != nil {
			return err
		}
	}
	f.complete = true
	if state.Done && state.Loaded {
		return nil
	}
	state.Done, state.Loaded = true, true
	if _, err = f.save(ctx, doc, state); err == nil {
		f.Logger.Info("load complete", "pass", state.Pass, "took", time.Since(state.Begun).Round(time.Millisecond))
	}
	return err
}

// unloaded lists what the pass has to load, parents first. The checkpoints of resources that the feed
// no longer copies are dropped, and what is set aside of them: their events are not applied, so they start
// anew if they come back.
func (f *Feed) unloaded(ctx context.Context, pass int64) ([]string, error) {
	docs, err := f.Store.List(ctx, kindLoad)
	if err != nil {
		return nil, err
	}
	var dropped []entityevent.Doc
	for _, d := range docs {
		if resource, ours := strings.CutPrefix(d.ID, f.Name+"/"); ours && !f.wanted[resource] {
			dropped = append(dropped, entityevent.Doc{Kind: kindLoad, ID: d.ID, Version: d.Version})
		}
	}
	if len(dropped) > 0 {
		if _, err := f.Store.Apply(ctx, entityevent.Commit{Feed: f.Name, Docs: dropped}); err != nil {
			return nil, err
		}
	}
	if err := f.dropAside(ctx); err != nil {
		return nil, err
	}
	var left []string
	for _, resource := range slices.Sorted(maps.Keys(f.wanted)) { // in one order, for a simulation to repeat
		c, _, err := f.checkpoint(ctx, resource)
		if err != nil {
			return nil, err
		}
		if c.Pass != pass || !c.Done {
			left = append(left, resource)
		}
	}
	slices.SortFunc(left, func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	return left, nil
}

// dropAside forgets what was set aside of resources that the feed no longer copies: nobody looks at it again.
func (f *Feed) dropAside(ctx context.Context) error {
	counts, err := f.Store.CountAside(ctx, f.Name)
	if err != nil || len(counts) == 0 {
		return err
	}
	all, err := f.Store.Aside(ctx, f.Name, time.Time{}, 0)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(s entityevent.Setback) bool { return f.wanted[s.Resource] })
	if len(all) == 0 {
		return nil
	}
	return f.alone(ctx, func(r *round) error {
		for part := range slices.Chunk(all, commitRows) {
			var c entityevent.Commit
			for _, s := range part {
				c.Done = append(c.Done, entityevent.Item{Ref: s.Ref})
			}
			if err := r.apply(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// loadAll loads resources, several at once if the producer says itself when it wants less.
func (f *Feed) loadAll(ctx context.Context, pass int64, resources []string) error {
	position, err := f.Store.Position(ctx, f.Name)
	if err != nil {
		return err
	}
	f.client.pace.named(position.Log != "")
	f.state.load(true)
	defer f.state.load(false)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(1)
	if position.Log != "" {
		group.SetLimit(loadAtOnce)
	}
	failures := make([]error, len(resources))
	for i, resource := range resources {
		group.Go(func() error {
			l := &loader{Feed: f, resource: resource, pass: pass, named: position.Log != ""}
			err := l.run(ctx)
			if err == nil {
				return nil
			}
			err = fmt.Errorf("load %s: %w", resource, err)
			if ctx.Err() != nil || concernsAll(err) {
				return err
			}
			failures[i] = err
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := errors.Join(failures...); err != nil {
		f.again.failed(err)
		return &partial{err}
	}
	f.again.clear()
	return nil
}
