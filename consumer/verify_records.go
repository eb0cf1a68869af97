package consumer

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

const (
	// verifyRead is how many records, there or here, are looked at one by one, and verifyAsks in how many ranges: each
	// takes a request.
	verifyRead, verifyAsks = 2000, 500
	// verifyTries is how often: what changes often is left alone, or equal, in one of them.
	verifyTries = 5
)

// The ways in which a record differs.
const (
	missing = "missing"
	extra   = "extra"
	changed = "changed"
	busy    = "" // it changed meanwhile: whether it differs cannot be said
)

// divided says that the ranges, if there are any, are as small as they get, and few enough for their records to be looked at.
func (v *verification) divided(ctx context.Context, left []differing) (bool, error) {
	records := int64(0)
	for _, d := range left {
		if records += d.records(); d.divisible() || records > verifyRead || len(left) > verifyAsks {
			return false, nil
		}
		if key, err := v.key(ctx, d.resource); err != nil || !key.Quoted {
			return false, err
		}
	}
	return true, nil
}

func (v *verification) key(ctx context.Context, resource string) (keyField, error) {
	return persist(ctx, v, func() (keyField, error) { return v.schema.key(ctx, resource) })
}

// records tells what differs in what is left, record by record if that is not too much, and why.
func (v *verification) records(ctx context.Context, left []differing) error {
	last := map[bool]int{false: 1} // what is sure can be told as it is
	slices.SortStableFunc(left, func(a, b differing) int { return last[a.busy] - last[b.busy] })
	read, asks := int64(0), 0
	for i := range v.result.Resources {
		of := &v.result.Resources[i]
		var looked []differing
		for _, d := range left {
			if d.resource != of.Resource {
				continue
			}
			key, err := v.key(ctx, d.resource)
			switch {
			case err != nil:
				return err
			case key.Quoted && read+d.records() <= verifyRead && asks < verifyAsks: // of numbers, the order is not that of the ranges
				asks++
				read += d.records()
				looked = append(looked, d)
			case d.busy && d.alone():
				of.Busy++
			case d.alone():
				of.tell(d.there.To, d.what())
			case !d.busy:
				of.Ranges = d.join(of.Ranges)
			default:
				of.Unjudged = d.join(of.Unjudged)
			}
		}
		if len(looked) > 0 {
			if err := v.differences(ctx, of, looked); err != nil {
				return err
			}
		}
	}
	return v.explain(ctx)
}

// what says how the one record of a range differs.
func (d differing) what() string {
	switch {
	case d.here.Count == 0:
		return missing
	case d.there.Count == 0:
		return extra
	}
	return changed
}

// tell adds a record that differs. Too many are cut off in the end, when the reasons of all are known.
func (r *VerifiedResource) tell(key, what string) {
	r.Differences++
	r.Differs = append(r.Differs, VerifiedRecord{Key: key, What: what})
}

// join adds a range to others, to the last of them if it goes on there. It ends with a key, not before one.
func (d differing) join(ranges []VerifiedRange) []VerifiedRange {
	d.there.To = behind(d.there.To)
	if n := len(ranges); n > 0 && ranges[n-1].To == d.there.After {
		last := &ranges[n-1]
		last.To, last.There, last.Here = d.there.To, last.There+d.there.Count, last.Here+d.here.Count
		return ranges
	}
	return append(ranges, VerifiedRange{After: d.there.After, To: d.there.To, There: d.there.Count, Here: d.here.Count})
}

// explain says why records differ, as far as the feed knows. What the brake holds may have come while they were looked at.
func (v *verification) explain(ctx context.Context) error {
	aside, err := v.Store.Aside(ctx, v.Name, time.Time{}, 0)
	if err != nil {
		return err
	}
	reasons := make(map[entityevent.Ref]entityevent.Setback, len(aside))
	for _, s := range aside {
		reasons[s.Ref] = s
	}
	for i := range v.result.Resources {
		of := &v.result.Resources[i]
		for j := range of.Differs {
			d := &of.Differs[j]
			s, known := reasons[entityevent.Ref{Resource: of.Resource, Key: d.Key}]
			if !known {
				continue
			}
			d.Reason = reasonOf(s)
			if d.Held = s.Kind == held && d.What == extra; d.Held {
				of.Held++
			}
		}
	}
	return nil
}

// reasonOf is what a setback explains.
func reasonOf(s entityevent.Setback) string {
	if s.Kind == held {
		return s.Reason // begins with that
	}
	what := map[string]string{poison: "set aside", recheck: "waits to be looked at again"}[s.Kind]
	return cmp.Or(what, s.Kind) + ": " + s.Reason
}

// differences tells the records of ranges that differ each time that they are looked at. A look at a record that changed
// meanwhile does not count; what has no other is busy.
func (v *verification) differences(ctx context.Context, of *VerifiedResource, ranges []differing) error {
	var found map[string]string
	for try := range verifyTries {
		now, err := v.look(ctx, ranges)
		if err != nil {
			return err
		}
		if try == 0 {
			found = now
		}
		maps.DeleteFunc(found, func(key, _ string) bool { _, differs := now[key]; return !differs })
		for key := range found {
			found[key] = cmp.Or(now[key], found[key])
		}
		ranges = slices.DeleteFunc(ranges, func(d differing) bool {
			for key := range found {
				if d.there.Holds(key) {
					return false
				}
			}
			return true
		})
		if len(ranges) == 0 {
			break
		}
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if found[key] == busy {
			of.Busy++
			continue
		}
		of.tell(key, found[key])
	}
	return nil
}

// look reads the records of a resource's ranges there, follows the log to its end, and compares them with the copy's.
// What the applier wrote since it began is busy: the copy may have a later content than the one that was read.
func (v *verification) look(ctx context.Context, ranges []differing) (map[string]string, error) {
	written := v.touched.watch()
	defer v.touched.forget(written)
	resource := ranges[0].resource
	key, err := v.key(ctx, resource)
	if err != nil {
		return nil, err
	}
	there := map[string]entityevent.Hash{}
	for _, d := range ranges {
		part, err := persist(ctx, v, func() (map[string]entityevent.Hash, error) { return v.remote(ctx, key, d) })
		if err != nil {
			return nil, err
		}
		maps.Copy(there, part)
	}
	head, err := persist(ctx, v, func() (eventPage, error) { return v.newest(ctx) })
	if err != nil {
		return nil, err
	}
	if _, err := persist(ctx, v, func() (entityevent.Position, error) { return v.level(ctx, head.through) }); err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, d := range ranges {
		err := v.each(ctx, resource, d.there.After, d.there.To, func(r entityevent.Record) error {
			h, ok := there[r.Key]
			delete(there, r.Key)
			switch {
			case !ok:
				found[r.Key] = extra
			case h != r.Hash:
				found[r.Key] = changed
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for key := range there {
		found[key] = missing
	}
	v.touched.forget(written)
	for key := range found {
		if (*written)[entityevent.Ref{Resource: resource, Key: key}] {
			found[key] = busy
		}
	}
	return found, nil
}

// remote reads the hashes of the records that the producer has in a range.
func (v *verification) remote(ctx context.Context, key keyField, d differing) (map[string]entityevent.Hash, error) {
	there := map[string]entityevent.Hash{}
	reader := &fetcher{Feed: v.Feed, errand: forReconcile}
	defer reader.close()
	target := d.resource
	if filter := key.between(d.there.After, d.there.To); filter != "" {
		target += "?$filter=" + odata.EscapeQuery(filter)
	}
	err := reader.query(ctx, target, key.Name, func(k string, body []byte) error {
		if !d.there.Holds(k) {
			return nil // the producer orders the keys by something else than their bytes
		}
		there[k] = hashOf(body)
		return nil
	})
	return there, err
}

// between is a filter for the keys, of those in quotes, above after and not above to; an empty one is no bound.
func (k keyField) between(after, to string) string {
	var filter []string
	if after != "" {
		filter = append(filter, k.Name+" gt "+odata.Quote(after))
	}
	if to != "" {
		filter = append(filter, k.Name+" le "+odata.Quote(to))
	}
	return strings.Join(filter, " and ")
}
