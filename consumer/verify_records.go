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
	// verifyRead is how many records, there or here, are looked at one by one.
	verifyRead = 2000
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

// records finds the records that differ in what is left, and why.
func (v *verification) records(ctx context.Context, left []differing) error {
	aside, err := v.Store.Aside(ctx, v.Name, time.Time{}, 0)
	if err != nil {
		return err
	}
	reasons := make(map[entityevent.Ref]string, len(aside))
	for _, s := range aside {
		reasons[s.Ref] = reasonOf(s)
	}
	read := int64(0)
	for _, d := range left {
		key, err := persist(ctx, v, func() (keyField, error) { return v.schema.key(ctx, d.resource) })
		if err != nil {
			return err
		}
		i := slices.IndexFunc(v.result.Resources, func(r VerifiedResource) bool { return r.Resource == d.resource })
		of := &v.result.Resources[i]
		if read += max(d.there.Count, d.here.Count); read > verifyRead || !key.Quoted {
			// Too many; or numbers, whose order is not that of the ranges.
			if d.allBusy() {
				of.Busy += max(d.there.Count, d.here.Count)
				continue
			}
			of.Ranges = append(of.Ranges, VerifiedRange{After: d.there.After, To: d.there.To, There: d.there.Count, Here: d.here.Count})
			continue
		}
		found, err := v.inRange(ctx, key, d)
		if err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(found)) {
			if found[key] == busy {
				of.Busy++
				continue
			}
			of.Differences++
			if len(of.Differs) < verifyListed {
				ref := entityevent.Ref{Resource: d.resource, Key: key}
				of.Differs = append(of.Differs, VerifiedRecord{Key: key, What: found[key], Reason: reasons[ref]})
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

// inRange returns what differs in a range each time that it is looked at, by key. A look at a record that changed
// meanwhile does not count; what has no other is busy.
func (v *verification) inRange(ctx context.Context, key keyField, d differing) (found map[string]string, err error) {
	for try := range verifyTries {
		now, err := persist(ctx, v, func() (map[string]string, error) { return v.look(ctx, key, d) })
		if err != nil {
			return nil, err
		}
		if try == 0 {
			found = now
		}
		maps.DeleteFunc(found, func(key, _ string) bool { _, differs := now[key]; return !differs })
		for key := range found {
			found[key] = cmp.Or(now[key], found[key])
		}
		if len(found) == 0 {
			break
		}
	}
	return found, nil
}

// look reads the records of a range there, follows the log to its end, and compares them with the copy's. What the
// applier wrote since it began is busy: the copy may have a later content than the one that was read.
func (v *verification) look(ctx context.Context, key keyField, d differing) (map[string]string, error) {
	written := v.touched.watch()
	defer v.touched.forget(written)
	there, err := v.remote(ctx, key, d)
	if err != nil {
		return nil, err
	}
	head, err := v.newest(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := v.level(ctx, head.through); err != nil {
		return nil, err
	}
	found := map[string]string{}
	err = v.each(ctx, d.resource, d.there.After, d.there.To, func(r entityevent.Record) error {
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
	for key := range there {
		found[key] = missing
	}
	v.touched.forget(written)
	for key := range found {
		if (*written)[entityevent.Ref{Resource: d.resource, Key: key}] {
			found[key] = busy
		}
	}
	return found, err
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
