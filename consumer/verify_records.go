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
	// verifyTries is how often: what changes all the time is equal in one of them.
	verifyTries = 5
)

// The ways in which a record differs.
const (
	missing = "missing"
	extra   = "extra"
	changed = "changed"
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
		key, err := v.schema.key(ctx, d.resource)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(v.result.Resources, func(r VerifiedResource) bool { return r.Resource == d.resource })
		of := &v.result.Resources[i]
		if read += max(d.there.Count, d.here.Count); read > verifyRead || !key.Quoted {
			// Too many; or numbers, whose order is not that of the ranges.
			of.Ranges = append(of.Ranges, VerifiedRange{After: d.there.After, To: d.there.To, There: d.there.Count, Here: d.here.Count})
			continue
		}
		found, err := v.inRange(ctx, key, d)
		if err != nil {
			return err
		}
		of.Differences += int64(len(found))
		for _, key := range slices.Sorted(maps.Keys(found)) {
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
	what := map[string]string{poison: "set aside", held: "its removal is held", recheck: "waits to be looked at again"}[s.Kind]
	return cmp.Or(what, s.Kind) + ": " + s.Reason
}

// inRange returns what differs in a range each time that it is looked at, by key.
func (v *verification) inRange(ctx context.Context, key keyField, d differing) (found map[string]string, err error) {
	for try := range verifyTries {
		now, err := v.look(ctx, key, d)
		if err != nil {
			return nil, err
		}
		if try == 0 {
			found = now
		}
		maps.DeleteFunc(found, func(key, _ string) bool { return now[key] == "" })
		if len(found) == 0 {
			break
		}
	}
	return found, nil
}

// look reads the records of a range there, follows the log to its end, and compares them with the copy's.
func (v *verification) look(ctx context.Context, key keyField, d differing) (map[string]string, error) {
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
		content, err := entityevent.Canonicalize(body)
		there[k] = content.Hash // of what no copy can keep: none
		if err != nil {
			there[k] = entityevent.Hash{}
		}
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
