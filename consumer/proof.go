package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// serves asks, once until confirm, whether the producer has the resource at all: one that does not know it
// answers for each of its records as if that one were gone. It is no failure that a producer which has
// single reads only refuses to list them.
func (f *fetcher) serves(ctx context.Context, key keyField, resource string) error {
	if err, asked := f.offered[resource]; asked {
		return err
	}
	a, err := f.get(ctx, resource+"?$top=1&$select="+odata.EscapeQuery(key.Name))
	if err == nil {
		if _, err = entityevent.ReadPage(a.Body, key.Name, func(string, []byte) error { return nil }); err != nil {
			err = fmt.Errorf("whether the producer has %s at all is unknown: %w: %w", resource, errUnexpected, err)
		}
	}
	var r *refusal
	switch refuses := errors.As(err, &r); {
	case err == nil, refused(err, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented):
		err = nil
	case refused(err, http.StatusNotFound, http.StatusGone):
		if !r.Proper {
			err = nil // there is no such route, though there is one for its records
			break
		}
		err = fmt.Errorf("the producer does not know %s, so that it proves nothing about its records; check the url and the feed's resources: %w", resource, err)
	case !refuses || concernsAll(err):
		return err
	default:
		err = fmt.Errorf("whether the producer has %s at all is unknown: %w", resource, err)
	}
	if f.offered == nil {
		f.offered = map[string]error{}
	}
	f.offered[resource] = err
	return err
}

// confirm asks again whether the producer has the resource, after the answers by which its records are
// absent: one that loses it in the midst of a round answers for each of them as if that one were gone.
func (f *fetcher) confirm(ctx context.Context, key keyField, tasks []*task) error {
	resource := tasks[0].Resource
	if _, asked := f.offered[resource]; !asked || !slices.ContainsFunc(tasks, func(t *task) bool { return t.verdict == absent }) {
		return nil
	}
	delete(f.offered, resource)
	err := f.serves(ctx, key, resource)
	for _, t := range tasks {
		if err != nil && t.verdict == absent {
			t.verdict, t.err = unjudged, err
		}
	}
	if err != nil && concernsAll(err) {
		return err
	}
	return nil
}

// proveAbsent asks twice for the key alone, after an answer that may be of a wrong route. Only a query
// that completes and is empty counts.
func (f *fetcher) proveAbsent(ctx context.Context, key keyField, t *task, reason error) error {
	filter := odata.AnyOf(key.Name, []string{t.Key}, key.Quoted)
	target := t.Resource + "?$filter=" + odata.EscapeQuery(filter) + "&$select=" + odata.EscapeQuery(key.Name)
	for range 2 {
		there := false
		err := f.query(ctx, target, key.Name, func(k string, _ []byte) error {
			if k != t.Key {
				return errUnfiltered
			}
			there = true
			return nil
		})
		switch {
		case err != nil && concernsAll(err):
			return err
		case err != nil:
			t.err = fmt.Errorf("%w; asked for its key alone: %w", reason, err)
			return nil
		case there:
			t.err = reason
			return nil
		}
	}
	t.verdict, t.proof = absent, byQuery
	return nil
}
