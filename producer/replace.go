package producer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// Replacement makes resources equal to what is imported: a record that no input holds becomes gone. Each
// record of the inputs is marked as it is stored, and in the end what has no mark is removed, so that the
// memory is that of one batch, whatever the number of records. An end that is never reached removes
// nothing. Other resources are not touched, those of children neither.
//
// A record that changed after the beginning by another way is not removed: the inputs are older than it.
type Replacement struct {
	importer  importer
	store     ReplacementStore
	pass      int64
	since     entityevent.Sequence // the head at the beginning
	unread    int                  // records that were refused and that nobody can name
	broken    error                // why an input could not be read to its end
	resources map[string]*replaced // that the inputs are of
}

// replaced are the records that the inputs have of a resource.
type replaced struct {
	held  int    // all, the refused ones that can be named among them
	brake *brake // nil: it was not read yet
}

// ReplacementStore is what a Replacement needs of a store.
type ReplacementStore interface {
	Store
	entityevent.Passes
}

// ErrReplacing says that another Replacement is under way: there is one at a time, for the marks of two would mix.
var ErrReplacing = errors.New("another import replaces records now: wait until it ends")

// Removal is what became of the records of a resource that no input holds.
type Removal struct {
	Resource string `json:"resource"`
	Gone     int64  `json:"gone"`
	// Held is how many were not removed, because they are too many (see ReplaceOptions) or because something of
	// the inputs could not be read.
	Held   int64  `json:"held"`
	Reason string `json:"reason,omitempty"` // why they are held, and what to do
}

// ReplaceOptions are how to end a Replacement.
type ReplaceOptions struct {
	// AllowDeletes removes however many records are missing. Default: if a resource would lose, with what other
	// replacements removed within an hour, more than 100 and more than one of 50 of its records, or more than half of more
	// than 10, or if the inputs have no record of it, all of them stay.
	AllowDeletes bool
}

// BeginReplacement begins to replace records of a feed by those of inputs. Records that do not say their
// resource are of the given one, and then nothing but that is replaced; with "" the resources are those that
// the inputs name. Whoever begins must call Close.
func BeginReplacement(ctx context.Context, store ReplacementStore, schema *Schema, feed, resource string) (*Replacement, error) {
	if err := checkResource(ctx, schema, resource); err != nil {
		return nil, fmt.Errorf("replace: %w", err)
	}
	if !schema.replacing.TryLock() {
		return nil, ErrReplacing
	}
	head, err := store.Events(ctx, entityevent.View{Feed: feed, Mask: entityevent.Everyone}, entityevent.EventQuery{Order: entityevent.NewestFirst, Limit: 1})
	if err != nil {
		schema.replacing.Unlock()
		return nil, fmt.Errorf("replace: %w", err)
	}
	r := &Replacement{store: store, pass: time.Now().UnixMicro(), since: head.Head, resources: map[string]*replaced{}}
	r.importer = importer{ctx: ctx, store: store, schema: schema, feed: feed, resource: resource, keys: map[string]string{}, replacement: r}
	r.named(resource)
	return r, nil
}

// Close ends the replacement, removing nothing.
func (r *Replacement) Close() { r.importer.schema.replacing.Unlock() }

// Import stores the records of one more input, as the function Import does.
func (r *Replacement) Import(in io.Reader, progress func(Summary)) (Summary, error) {
	r.importer.progress = progress
	summary, err := r.importer.input(in)
	r.broken = errors.Join(r.broken, err)
	return summary, err
}

// Finish removes the records of the resources that no input held. Without an input that was read to its
// end it removes nothing and returns the reason.
func (r *Replacement) Finish(o ReplaceOptions) ([]Removal, error) {
	switch {
	case r.broken != nil:
		return nil, fmt.Errorf("nothing was removed: %w", r.broken)
	case len(r.resources) == 0:
		return nil, errors.New("nothing was removed: no input names a resource")
	}
	var removals []Removal
	for _, resource := range slices.Sorted(maps.Keys(r.resources)) {
		removal, err := r.sweep(resource, o)
		removals = append(removals, removal)
		if err != nil {
			return removals, fmt.Errorf("replace %s: %w", resource, err)
		}
	}
	return removals, nil
}

// sweep removes the records of a resource that have no mark.
func (r *Replacement) sweep(resource string, o ReplaceOptions) (Removal, error) {
	i := &r.importer
	removal := Removal{Resource: resource}
	b, err := r.brakeOf(resource)
	if err != nil {
		return removal, err
	}
	missing, err := r.unmarked(resource, func([]string) error { return nil })
	if err != nil {
		return removal, err
	}
	if removal.Reason = r.holds(resource, b, missing, o); removal.Reason != "" {
		removal.Held = missing
		return removal, nil
	}
	_, err = r.unmarked(resource, func(keys []string) error {
		changes := make([]entityevent.Change, len(keys))
		for n, key := range keys {
			changes[n] = entityevent.Change{Ref: entityevent.Ref{Resource: resource, Key: key}, Op: entityevent.Remove, UnchangedSince: &r.since}
		}
		if !o.AllowDeletes {
			b.note(int64(len(keys)), time.Now())
		}
		outcomes, err := b.commit(i.ctx, i.store, entityevent.Commit{Feed: i.feed, Changes: changes})
		for _, outcome := range outcomes {
			if outcome.Sequence > 0 {
				removal.Gone++
			}
		}
		return err
	})
	if err == nil {
		err = b.release(i.ctx, i.store)
	}
	return removal, err
}

// holds says why records of a resource are not removed, "" if they are.
func (r *Replacement) holds(resource string, b *brake, missing int64, o ReplaceOptions) string {
	switch {
	case missing == 0:
		return ""
	case r.unread == 1:
		return "a record of the input could not be read, and it may be one of these: correct the input"
	case r.unread > 1:
		return fmt.Sprintf("%d records of the input could not be read, and these may be among them: correct the input", r.unread)
	case o.AllowDeletes:
		return ""
	case r.resources[resource].held == 0:
		return "the input has no record of it, and to remove all is hardly right: if it is, import it again with --allow-deletes"
	}
	return b.holds(missing, time.Now())
}

// brakeOf returns the brake of a resource that the inputs are of. It must be called before the first of its records
// is stored.
func (r *Replacement) brakeOf(resource string) (*brake, error) {
	of, i := r.named(resource), &r.importer
	if of.brake == nil {
		b, err := beginBrake(i.ctx, i.store, i.feed, resource)
		if err != nil {
			return nil, err
		}
		of.brake = b
	}
	return of.brake, nil
}

// begin notes what there was before the inputs of all resources that they are of so far. A nil Replacement notes
// nothing.
func (r *Replacement) begin() error {
	if r == nil {
		return nil
	}
	for resource := range r.resources {
		if _, err := r.brakeOf(resource); err != nil {
			return err
		}
	}
	return nil
}

// unmarked calls each with the keys of the records that have no mark, batch by batch, and counts them.
func (r *Replacement) unmarked(resource string, each func(keys []string) error) (n int64, err error) {
	var batch []string
	for key, err := range r.store.Unmarked(r.importer.ctx, r.importer.feed, resource, r.pass) {
		if err != nil {
			return n, err
		}
		n++
		if batch = append(batch, key); len(batch) < importRows {
			continue
		}
		if err := each(batch); err != nil {
			return n, err
		}
		batch = batch[:0]
	}
	if len(batch) == 0 {
		return n, nil
	}
	return n, each(batch)
}

// mark marks a record as one of the inputs. A nil Replacement marks nothing.
func (r *Replacement) mark(c *entityevent.Change) {
	if r != nil {
		c.Pass = r.pass
		r.named(c.Resource).held++
	}
}

// named notes that the inputs are of a resource.
func (r *Replacement) named(resource string) *replaced {
	if r == nil || resource == "" {
		return nil
	}
	of := r.resources[resource]
	if of == nil {
		of = &replaced{}
		r.resources[resource] = of
	}
	return of
}
