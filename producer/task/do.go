package task

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/digest"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/retry"
	"github.com/resosync/resosync/producer"
)

// do does a task, whose turn it is, once.
func (t *Tasks) do(ctx context.Context, k *task) {
	defer func() {
		t.mu.Lock()
		k.cancel = nil
		t.mu.Unlock()
		t.signal()
	}()
	s, _ := t.look(k)
	client, ok := t.Clients(s.Client)
	k.progress.Store(0)
	err := t.change(ctx, k, func(s *state) error {
		switch {
		case s.Status != pending:
			return errUnchanged
		case !ok:
			s.end(cancelled, "Its client is no longer in the configuration")
		case s.Attempts >= maxAttempts:
			s.end(failed, fmt.Sprintf("It was cut short %d times: ask again, or for fewer resources", s.Attempts))
		default:
			s.Status = running
			s.Attempts++
		}
		return nil
	})
	if errors.Is(err, errUnchanged) || errors.Is(err, errNoTask) {
		return
	}
	if err != nil {
		t.postpone(k, whileBad)
		return
	}
	if s, _ = t.look(k); s.Status != running {
		t.logger().WarnContext(ctx, "task ended", "task", k.id, "type", s.Type, "client", s.Client, "status", s.Status)
		return
	}
	begun := time.Now()
	made, err := t.perform(ctx, k, s, client)
	t.settle(ctx, k, func(s *state) error { return t.conclude(ctx, k, s, made, err) })
	s, _ = t.look(k)
	if s.Status != succeeded {
		err = errors.Join(err, t.remove(k.id))
		t.logger().WarnContext(ctx, "task did not succeed", "task", k.id, "type", s.Type, "client", s.Client, "status", s.Status, "attempt", s.Attempts, "err", err)
		return
	}
	t.logger().InfoContext(ctx, "task ended", "task", k.id, "type", s.Type, "client", s.Client, "status", s.Status, "records", made.Count, "took", time.Since(begun))
}

func (t *Tasks) postpone(k *task, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k.notUntil = time.Now().Add(d)
}

// conclude says what a run makes of the task. One that ended with the agent does not count.
func (t *Tasks) conclude(ctx context.Context, k *task, s *state, made outcome, err error) error {
	switch {
	case s.over():
		return errUnchanged
	case err == nil:
		s.Outcome = made
		s.end(succeeded, "")
	case ctx.Err() != nil:
		s.Status = pending
		s.Attempts--
	case isFull(err):
		s.end(failed, "The producer's disk has too little room for the result: ask again later, or for fewer resources")
	case errors.Is(err, errResult):
		s.end(failed, "The producer could not write the result: ask again later")
	case s.Attempts >= maxAttempts:
		s.end(failed, fmt.Sprintf("The producer could not read all records, %d times: its log says which and why, so ask its people; until then read pages", s.Attempts))
	default:
		s.Status = pending
		t.postpone(k, retry.Backoff{}.Delay(s.Attempts))
	}
	return nil
}

// pageRecords is how many records are read at a time. Between two pages others have their turn.
const pageRecords = 1000

// run is one run of a task.
type run struct {
	*task
	ranges []askedRange
	shown  *producer.Snapshot
	file   *resultWriter
	done   int64 // records
	total  int64 // records, as far as they can be foreseen
}

// perform writes the result of a task.
func (t *Tasks) perform(ctx context.Context, k *task, s state, client producer.Client) (o outcome, err error) {
	r := &run{task: k, shown: t.Server.Snapshot(client)}
	o.Sight = sight(client)
	if r.ranges, err = t.ranges(ctx, k, s); err != nil {
		return o, err
	}
	if o.Sequence, o.Log, err = r.shown.Head(ctx); err != nil {
		return o, err
	}
	if r.file, err = t.createResult(t.path(k.id), func() error { return t.makeRoom(ctx, s.Client, r.file.written()) }); err != nil {
		return o, err
	}
	defer r.file.drop() // of what is finished there is nothing left to be dropped
	resources, err := r.plan(ctx, s)
	if err != nil {
		return o, err
	}
	found := map[string]digest.Resource{}
	for _, resource := range resources {
		if s.Type == snapshot {
			err = r.lines(ctx, resource)
		} else {
			found[resource], err = r.digest(ctx, resource)
		}
		if err != nil {
			return o, err
		}
	}
	through, log, err := r.shown.Head(ctx)
	if err == nil && log != o.Log {
		err = errors.New("the log was named anew meanwhile")
	}
	if err != nil {
		return o, err
	}
	o.Through, o.Count = through, r.done
	if s.Type == digests {
		if err := json.NewEncoder(r.file).Encode(digest.Digest{Log: o.Log, Sequence: o.Sequence, Through: o.Through, Resources: found}); err != nil {
			return o, err
		}
	}
	return o, r.file.finish()
}

// plan returns the resources to read, parents first.
func (r *run) plan(ctx context.Context, s state) ([]string, error) {
	names := slices.Clone(s.Resources)
	for _, of := range r.ranges {
		if !slices.Contains(names, of.Resource) {
			names = append(names, of.Resource)
		}
		r.total += digest.RangeRecords
	}
	if len(names) == 0 {
		all, err := r.shown.Resources(ctx)
		if err != nil {
			return nil, err
		}
		names = all
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(metadata.Rank(a), metadata.Rank(b)), cmp.Compare(a, b))
	})
	for _, name := range names {
		if slices.ContainsFunc(r.ranges, func(of askedRange) bool { return of.Resource == name }) {
			continue
		}
		n, err := r.shown.Count(ctx, name)
		if err != nil {
			return nil, err
		}
		r.total += n
	}
	return names, nil
}

// read counts records that were read, and lets others have their turn.
func (r *run) read(n int) {
	r.done += int64(n)
	percent := min(99, 100*r.done/max(1, r.total)) // records may come meanwhile
	r.progress.Store(percent)
	runtime.Gosched()
}

var newline = []byte{'\n'}

// lines writes the records of a resource.
func (r *run) lines(ctx context.Context, resource string) error {
	last := ""
	for {
		n, err := r.shown.Lines(ctx, resource, last, pageRecords, func(key string, line []byte) error {
			last = key
			if _, err := r.file.Write(line); err != nil {
				return err
			}
			_, err := r.file.Write(newline)
			return err
		})
		if r.read(n); err != nil || n < pageRecords {
			return err
		}
	}
}

// digest makes the digest of a resource: by the ranges that are asked for, or of all.
func (r *run) digest(ctx context.Context, resource string) (digest.Resource, error) {
	b := digest.New()
	var asked []digest.Range
	for _, of := range r.ranges {
		if of.Resource == resource {
			asked = append(asked, digest.Range{After: of.After, To: of.To})
		}
	}
	if asked == nil {
		err := r.hashes(ctx, resource, b, digest.Range{})
		return b.Resource(), err
	}
	b, err := digest.Over(asked)
	for _, of := range asked {
		if err == nil {
			err = r.hashes(ctx, resource, b, of)
		}
	}
	if err != nil {
		return digest.Resource{}, err
	}
	return b.Resource(), nil
}

// errPast ends the page that reaches beyond a range.
var errPast = errors.New("beyond the range")

// hashes adds the records of a range to a digest.
func (r *run) hashes(ctx context.Context, resource string, b *digest.Builder, of digest.Range) error {
	last := of.After
	for {
		n, err := r.shown.Hashes(ctx, resource, last, pageRecords, func(key string, h entityevent.Hash) error {
			if !of.Holds(key) {
				return errPast
			}
			last = key
			return b.Add(key, h)
		})
		r.read(n)
		if errors.Is(err, errPast) {
			return nil
		}
		if err != nil || n < pageRecords {
			return err
		}
	}
}
