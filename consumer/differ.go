package consumer

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// difference is what a record may be.
type difference string

const (
	isMissing difference = "missing here"
	isStale   difference = "its ModificationTimestamp differs"
	isUnseen  difference = "the producer did not list it"
)

// differences are those between one page of the producer and the replica.
type differences struct {
	*comparison
	since entityevent.Sequence // the local head before the page was asked for
	rows  map[string]listed    // the page

	suspects   []*task               // here and not on the page
	candidates map[string]difference // to be looked at closer
}

// compare finds what differs between a page and the replica. In the order of bytes the records here between
// the last key before the page and its own last one, or the end, belong on the page.
func (c *comparison) compare(ctx context.Context, rows []listed, since entityevent.Sequence, last bool) error {
	d := &differences{comparison: c, since: since, rows: make(map[string]listed, len(rows)), candidates: map[string]difference{}}
	q := entityevent.Query{Resource: c.resource, Gone: true, After: c.at.After}
	for _, row := range rows {
		d.rows[row.key] = row
		if !c.at.Unordered && row.key <= c.at.After {
			c.at.Unordered, c.at.Swept = true, q.After
		}
		c.at.After = row.key
	}
	if len(rows) == 0 && (c.at.Unordered || !last) {
		return nil
	}
	if c.at.Unordered {
		q.After, q.Keys = "", slices.Collect(maps.Keys(d.rows))
	}
	here := make(map[string]bool, len(rows))
	for record, err := range c.Store.Read(ctx, c.view(), q) {
		if err != nil {
			return err
		}
		if !c.at.Unordered && !last && record.Key > c.at.After {
			break
		}
		if _, on := d.rows[record.Key]; on {
			here[record.Key] = true
		}
		switch what := d.judge(record); what {
		case "":
		case isUnseen:
			if d.suspects = append(d.suspects, &task{Ref: record.Ref}); len(d.suspects) == commitRows {
				if err := d.conclude(ctx); err != nil {
					return err
				}
			}
		default:
			d.candidates[record.Key] = what
		}
	}
	for key := range d.rows {
		if !here[key] {
			d.candidates[key] = isMissing
		}
	}
	return d.conclude(ctx)
}

// judge says how a record here differs from the page. One that changed here since the page was asked for
// does not.
func (d *differences) judge(r entityevent.Record) difference {
	row, on := d.rows[r.Key]
	switch {
	case r.Version > d.since:
	case !on && !r.Gone():
		return isUnseen
	case on && r.Gone():
		return isMissing
	case on && row.timed && !row.modified.Equal(r.Modified):
		return isStale
	}
	return ""
}

// conclude looks closer at what seems to differ, counts what does, and sets it aside.
func (d *differences) conclude(ctx context.Context) error {
	lacking, err := d.missing(ctx, d.key, forReconcile, d.suspects)
	if err != nil {
		return err
	}
	for _, t := range lacking {
		d.candidates[t.Key] = isUnseen
	}
	d.suspects = d.suspects[:0]
	if len(d.candidates) == 0 {
		return nil
	}
	if err := d.dismiss(ctx); err != nil {
		return err
	}
	c := entityevent.Commit{Feed: d.Name}
	now := time.Now()
	for _, key := range slices.Sorted(maps.Keys(d.candidates)) {
		what, ref := d.candidates[key], entityevent.Ref{Resource: d.resource, Key: key}
		if err := ref.Validate(); err != nil {
			d.Logger.Warn("a record whose key cannot be stored is not copied", "resource", d.resource, "err", err)
			continue
		}
		d.at.Finding.count(what, key)
		c.Aside = append(c.Aside, entityevent.Setback{Ref: ref, Kind: recheck, Reason: string(what), Tries: 1, NextAt: now})
	}
	clear(d.candidates)
	if d.options.DryRun || len(c.Aside) == 0 {
		return nil
	}
	if _, err := d.Store.Apply(ctx, c); err != nil {
		return err
	}
	wake(d.Feed.apply)
	d.found += len(c.Aside)
	return nil
}

func (f *ReconcileFinding) count(what difference, key string) {
	n, keys := &f.Missing, &f.Examples.Missing
	switch what { //nolint:exhaustive // the others are missing
	case isStale:
		n, keys = &f.Stale, &f.Examples.Stale
	case isUnseen:
		n, keys = &f.Unseen, &f.Examples.Unseen
	}
	if *n++; len(*keys) < examples {
		*keys = append(*keys, key)
	}
}

// dismiss drops the candidates that are no differences: those that events name which are not applied yet,
// those that changed here meanwhile, and those that are set aside already. An event that was applied before
// the first was looked for shows in the second.
func (d *differences) dismiss(ctx context.Context) error {
	busy, err := d.changing(ctx)
	if err != nil {
		return err
	}
	aside, err := d.Store.Aside(ctx, d.Name, time.Time{}, 0)
	if err != nil {
		return err
	}
	for _, s := range aside {
		busy[s.Ref] = true
	}
	var keys []string
	for key := range d.candidates {
		if busy[entityevent.Ref{Resource: d.resource, Key: key}] {
			delete(d.candidates, key)
		} else {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	for record, err := range d.Store.Read(ctx, d.view(), entityevent.Query{Resource: d.resource, Keys: keys, Gone: true}) {
		if err != nil {
			return err
		}
		if d.judge(record) == "" {
			delete(d.candidates, record.Key)
		}
	}
	return nil
}

// changing returns the records that events name which are not applied yet, received or not. It receives
// nothing.
func (f *Feed) changing(ctx context.Context) (map[entityevent.Ref]bool, error) {
	p, err := f.Store.Position(ctx, f.Name)
	if err != nil {
		return nil, err
	}
	refs := map[entityevent.Ref]bool{}
	for after := p.Sequence; len(refs) < takeMost; {
		page, err := f.eventsAfter(ctx, entityevent.Position{}, after, atOnce)
		if err != nil {
			return nil, err
		}
		if page.log != p.Log {
			return nil, errElsewhere
		}
		for _, e := range page.events {
			refs[e.Ref] = true
		}
		if page.next == "" && len(page.events) < f.PageSize || page.through <= after {
			break
		}
		after = page.through
	}
	items, err := f.Store.Take(ctx, f.Name, takeMost)
	if err != nil {
		return nil, err
	}
	for _, i := range items {
		refs[i.Ref] = true
	}
	if len(items) == takeMost || len(refs) >= takeMost {
		return nil, errFarBehind
	}
	return refs, nil
}
