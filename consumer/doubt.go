package consumer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// secondLook is when an answer is asked for again that may have come from a replica behind its log.
const secondLook = 30 * time.Second

// looksBack are the waits before a record is read again that went back in time.
var looksBack = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute}

// doubt says which answers of a producer without a log id are to be asked for once more before they
// count: one that changes nothing though an event said so, an unknown record that is absent, and a record
// older than the one we have.
func doubt(tasks []*task, have map[entityevent.Ref]entityevent.Record) map[entityevent.Ref]entityevent.Setback {
	again := map[entityevent.Ref]entityevent.Setback{}
	for _, t := range tasks {
		local, known := have[t.Ref]
		switch t.verdict { //nolint:exhaustive // the other verdicts leave nothing to doubt
		case absent:
			if !known && t.was.Kind != recheck {
				again[t.Ref] = t.look(secondLook, "unknown here and absent at the producer")
			}
		case found:
			content, err := entityevent.Canonicalize(t.body)
			if err != nil || !known {
				continue
			}
			if content.Hash == local.Hash {
				if t.was.Kind != recheck && t.was.Kind != held {
					again[t.Ref] = t.look(secondLook, "unchanged though an event named it")
				}
				continue
			}
			reason := older(content, local)
			if reason == "" || t.was.Tries >= len(looksBack) && t.was.Reason == reason {
				continue // the last two agree
			}
			again[t.Ref] = t.look(looksBack[min(t.was.Tries, len(looksBack)-1)], reason)
		}
	}
	return again
}

// older says by which content a record goes back in time, "" if it does not.
func older(content entityevent.Content, local entityevent.Record) string {
	if content.Modified.IsZero() || !content.Modified.Before(local.Modified) {
		return ""
	}
	return fmt.Sprintf("older than here: content %.12s of %s", content.Hash, content.Modified.Format(time.RFC3339))
}

func (t *task) look(after time.Duration, reason string) entityevent.Setback {
	tries := 1
	if t.was.Kind == recheck {
		tries = t.was.Tries + 1
	}
	return entityevent.Setback{Ref: t.Ref, Kind: recheck, Reason: reason, Tries: tries, NextAt: time.Now().Add(after)}
}

// have reads what the replica has of the tasks' records: of all that answers may be older than, and of what
// may be removed.
func (r *round) have(ctx context.Context, tasks []*task) (map[entityevent.Ref]entityevent.Record, error) {
	keys := map[string][]string{}
	for _, t := range tasks {
		if !r.lagging && t.verdict != absent {
			continue
		}
		keys[t.Resource] = append(keys[t.Resource], t.Key)
	}
	have := make(map[entityevent.Ref]entityevent.Record, len(tasks))
	for _, resource := range slices.Sorted(maps.Keys(keys)) { // in one order, for a simulation to repeat
		for record, err := range r.Store.Read(ctx, r.view(), entityevent.Query{Resource: resource, Keys: keys[resource]}) {
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", resource, err)
			}
			record.Body = nil
			have[record.Ref] = record
		}
	}
	return have, nil
}
