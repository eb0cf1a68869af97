package consumer

import (
	"context"
	"slices"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// Kinds of setbacks. A newer event of the record retries any of them at once and clears it.
const (
	poison  = "poison"  // an answer that cannot be applied, or no answer for this record
	recheck = "recheck" // a second look, by itself
	held    = "held"    // the brake holds its removal
)

// longest are the longest waits before a record set aside is tried again by itself.
var longest = map[string]time.Duration{poison: poisonBackoff.Max, recheck: looksBack[len(looksBack)-1], held: heldLast}

// Replay makes records that were set aside due now, and wakes Apply; nil: all of them. It returns how many
// there were. What is replayed begins anew with its waits; a removal that the brake holds is not removed
// sooner by it, but is found sooner if it exists after all.
func (f *Feed) Replay(ctx context.Context, refs []entityevent.Ref) (int, error) {
	if err := f.Check(); err != nil {
		return 0, err
	}
	wanted := make(map[entityevent.Ref]bool, len(refs))
	for _, ref := range refs {
		wanted[ref] = true
	}
	now := time.Now()
	n, err := f.reschedule(ctx, func(s *entityevent.Setback) bool {
		if refs != nil && !wanted[s.Ref] {
			return false
		}
		s.Tries, s.NextAt = 0, now
		return true
	})
	if n > 0 {
		wake(f.apply)
	}
	return n, err
}

// overdue makes what waits for longer than its kind ever should, because the clock was set back, wait for
// that long at most.
func (f *Feed) overdue(ctx context.Context) error {
	now := time.Now()
	_, err := f.reschedule(ctx, func(s *entityevent.Setback) bool {
		limit, known := longest[s.Kind]
		if !known || !s.NextAt.After(now.Add(limit)) {
			return false
		}
		s.NextAt = now.Add(limit)
		return true
	})
	return err
}

// reschedule writes anew what change says it changed of all that is set aside. A record that is settled
// meanwhile is looked at once more, which does no harm.
func (f *Feed) reschedule(ctx context.Context, change func(*entityevent.Setback) bool) (int, error) {
	all, err := f.Store.Aside(ctx, f.Name, time.Time{}, 0)
	if err != nil {
		return 0, err
	}
	changed := all[:0]
	for _, s := range all {
		if change(&s) {
			changed = append(changed, s)
		}
	}
	n := 0
	for part := range slices.Chunk(changed, commitRows) {
		if _, err := f.Store.Apply(ctx, entityevent.Commit{Feed: f.Name, Aside: part}); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}
