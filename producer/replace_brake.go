package producer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// The brake: see ReplaceOptions.
const (
	brakeKind   = "replaced"
	brakeWindow = time.Hour // how long what was removed counts
	brakeFree   = 100
	brakeShare  = 50
	brakeSmall  = 10
)

// brake is what is known of the removals of one resource, beside this replacement: a document of the store.
type brake struct {
	// Rows is how many records there were before the first replacement that did not come to its end or whose
	// removals are held: what it stored beside them does not make these fewer. 0: there is none.
	Rows    int64         `json:"rows,omitempty"`
	Removed []brakeMinute `json:"removed,omitempty"` // within the window, oldest first

	doc  entityevent.Doc
	rows int64 // before this replacement, and not more than Rows
}

// brakeMinute is what was removed within one minute.
type brakeMinute struct {
	At    time.Time `json:"at"`
	Count int64     `json:"count"`
}

// beginBrake reads the brake of a resource, and keeps how many records there are now until release is called.
func beginBrake(ctx context.Context, store Store, feed, resource string) (*brake, error) {
	b := &brake{}
	var err error
	if b.doc, err = store.Get(ctx, brakeKind, feed+"/"+resource); err == nil && b.doc.Version > 0 {
		err = json.Unmarshal(b.doc.Body, b)
	}
	if err != nil {
		return nil, fmt.Errorf("brake: %w", err)
	}
	if b.rows, err = store.Count(ctx, entityevent.View{Feed: feed, Mask: entityevent.Everyone}, entityevent.Query{Resource: resource}); err != nil {
		return nil, err
	}
	if b.Rows > 0 {
		b.rows = min(b.rows, b.Rows)
	}
	if b.rows == b.Rows {
		return b, nil
	}
	b.Rows = b.rows
	_, err = b.commit(ctx, store, entityevent.Commit{Feed: feed})
	return b, err
}

// holds says why so many records more are not removed, "" if they are.
func (b *brake) holds(missing int64, now time.Time) string {
	b.slide(now)
	var before int64
	for _, m := range b.Removed {
		before += m.Count
	}
	rows, total, with := b.rows+before, missing+before, ""
	if before > 0 {
		with = fmt.Sprintf(", with %d removed within the last hour,", before)
	}
	if total > max(brakeFree, rows/brakeShare) || rows > brakeSmall && 2*total > rows {
		return fmt.Sprintf("that is%s too many of %d to be right by itself: if it is, import it again with --allow-deletes", with, rows)
	}
	return ""
}

// slide forgets what no longer counts. What is in the future, since the clock was set back, counts from now.
func (b *brake) slide(now time.Time) {
	for i := range b.Removed {
		if b.Removed[i].At.After(now) {
			b.Removed[i].At = now.UTC()
		}
	}
	b.Removed = slices.DeleteFunc(b.Removed, func(m brakeMinute) bool { return now.Sub(m.At) > brakeWindow })
}

// note counts what the next commit removes.
func (b *brake) note(n int64, now time.Time) {
	b.slide(now)
	if last := len(b.Removed) - 1; last >= 0 && now.Sub(b.Removed[last].At) < time.Minute {
		b.Removed[last].Count += n
		return
	}
	b.Removed = append(b.Removed, brakeMinute{now.UTC(), n})
}

// release ends a replacement of which nothing is held.
func (b *brake) release(ctx context.Context, store Store) error {
	if b.Rows == 0 {
		return nil
	}
	b.Rows = 0
	_, err := b.commit(ctx, store, entityevent.Commit{})
	return err
}

// commit applies c and writes the brake with it.
func (b *brake) commit(ctx context.Context, store Store, c entityevent.Commit) ([]entityevent.Outcome, error) {
	var err error
	if b.doc.Body, err = json.Marshal(b); err != nil {
		return nil, err
	}
	c.Docs = []entityevent.Doc{b.doc}
	outcomes, err := store.Apply(ctx, c)
	if err == nil {
		b.doc.Version++
	}
	return outcomes, err
}
