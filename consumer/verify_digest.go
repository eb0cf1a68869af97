package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/digest"
	"github.com/resosync/resosync/entityevent/retry"
)

// digest has the producer make a digest, and returns it when the copy has followed the log to where it was made. One
// that is lost or cancelled meanwhile is begun once more, in each round.
func (v *verification) digest(ctx context.Context, j job) (digest.Digest, error) {
	d, err := v.fetchDigest(ctx, j)
	if refused(err, http.StatusNotFound, http.StatusUnprocessableEntity) && !errors.Is(err, ErrNoDigest) && v.lost < v.progress.Round {
		v.lost = v.progress.Round
		v.Logger.Warn("a digest is begun once more", "err", err)
		d, err = v.fetchDigest(ctx, j)
	}
	if err != nil {
		return d, err
	}
	position, err := persist(ctx, v, func() (entityevent.Position, error) { return v.level(ctx, d.Through) })
	if err == nil && entityevent.LogID(d.Log) != position.Log {
		err = fmt.Errorf("%w: the digest is of another log than the one followed; run the command again", entityevent.ErrAnotherLog)
	}
	v.result.Through = max(v.result.Through, d.Through)
	return d, err
}

// fetchDigest has the producer make a digest, and drop it when it was read.
func (v *verification) fetchDigest(ctx context.Context, j job) (d digest.Digest, err error) {
	c := v.client.as(forReconcile)
	task, err := persist(ctx, v, func() (string, error) { return v.begin(ctx, c, j) })
	if errors.Is(err, errJob) {
		v.links.forget()
		return d, v.unable(err)
	}
	if err != nil {
		return d, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), verifyEnd)
		defer cancel()
		c.end(ctx, task)
	}()
	done, err := persist(ctx, v, func() (finished, error) { return c.await(ctx, task, func() { v.say(v.progress) }) })
	if errors.Is(err, errJob) {
		return d, v.instead(err)
	}
	if err != nil {
		return d, err
	}
	a, err := persist(ctx, v, func() (*answer, error) { return c.send(ofTask(ctx), http.MethodGet, done.Href, nil, nil) })
	if err != nil {
		return d, err
	}
	if err := a.decode(&d); err != nil {
		return d, fmt.Errorf("a digest: %w", err)
	}
	return d, nil
}

// begin asks for a task. What was sent is waited for a moment longer than ctx lives: nobody else can tell the producer
// that the task is no longer needed.
func (v *verification) begin(ctx context.Context, c *client, j job) (string, error) {
	var sent atomic.Bool
	asking, cancel := context.WithCancelCause(context.WithValue(context.WithoutCancel(ctx), came{}, &sent))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		if sent.Load() {
			_ = retry.Sleep(asking, verifyEnd)
		}
		cancel(context.Cause(ctx))
	})()
	task, err := c.begin(asking, v.tasks, j)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return task, err
}

// level follows the log through a position, and applies what it names. It does not chase the end of a log that grows.
func (f *Feed) level(ctx context.Context, through entityevent.Sequence) (entityevent.Position, error) {
	for {
		end, err := f.catchUp(ctx, false, through)
		var incomplete *partial
		if err != nil && !errors.As(err, &incomplete) {
			return end.Position, err
		}
		if err := f.empty(ctx, through); err != nil || end.Sequence >= through {
			return end.Position, err
		}
		if end.over {
			return end.Position, fmt.Errorf("%w: the log ends at %d, and a digest of it at %d", errUnexpected, end.Sequence, through)
		}
	}
}

// compare has the producer make a digest and returns the ranges in which the copy has another one, in their order.
func (v *verification) compare(ctx context.Context, j job) (differ []differing, err error) {
	v.say(v.progress)
	written := v.touched.watch()
	defer v.touched.forget(written)
	d, err := v.digest(ctx, j)
	if err != nil {
		return nil, err
	}
	asked := map[string][]keyRange{}
	for _, name := range j.Resources {
		asked[name] = nil
	}
	for _, r := range j.Ranges {
		asked[r.Resource] = append(asked[r.Resource], r)
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		ranges := d.Resources[name].Ranges
		if !covers(ranges, asked[name]) {
			return nil, fmt.Errorf("%w: a digest without %s, or without all of its keys", errUnexpected, name)
		}
		if asked[name] == nil {
			all := VerifiedResource{Resource: name}
			for _, r := range ranges {
				all.Records += r.Count
			}
			v.result.Resources = append(v.result.Resources, all)
		}
		for len(ranges) > 0 {
			n := 1
			for n < len(ranges) && ranges[n].After == ranges[n-1].To {
				n++
			}
			here, err := v.local(ctx, name, ranges[:n])
			if err != nil {
				return nil, err
			}
			for i, there := range ranges[:n] {
				if here[i].Count != there.Count || here[i].Hash != there.Hash {
					differ = append(differ, differing{resource: name, there: there, here: here[i]})
				}
			}
			ranges = ranges[n:]
		}
	}
	v.touched.forget(written)
	for ref := range *written {
		next, _ := slices.BinarySearchFunc(differ, ref, func(d differing, ref entityevent.Ref) int { return d.compare(ref.Resource, ref.Key) })
		if next > 0 && differ[next-1].resource == ref.Resource && differ[next-1].there.Holds(ref.Key) {
			differ[next-1].busy = true
		}
	}
	v.say(v.progress)
	return differ, nil
}

// covers says that the ranges of a digest are those that were asked for, or, if none were, all keys: what it left out
// would be compared with nothing.
func covers(ranges []digest.Range, asked []keyRange) bool {
	if asked != nil {
		return slices.EqualFunc(ranges, asked, func(r digest.Range, a keyRange) bool { return r.After == a.After && r.To == a.To })
	}
	after := ""
	for i, r := range ranges {
		if r.After != after || (r.To == "") != (i == len(ranges)-1) {
			return false
		}
		after = r.To
	}
	return len(ranges) > 0
}

// local makes the digest of the copy over ranges that follow one upon another.
func (v *verification) local(ctx context.Context, resource string, ranges []digest.Range) ([]digest.Range, error) {
	b, err := digest.Over(ranges)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnexpected, err)
	}
	err = v.each(ctx, resource, ranges[0].After, ranges[len(ranges)-1].To, func(r entityevent.Record) error {
		if v.progress.Compared++; v.progress.Compared%100_000 == 0 {
			v.say(v.progress)
		}
		return b.Add(r.Key, r.Hash)
	})
	return b.Resource().Ranges, err
}

// each reads the copy's records with keys above after and not above to, each with the hash of what it holds, which need
// not be the one that is stored with it: nothing but the content itself proves it.
func (v *verification) each(ctx context.Context, resource, after, to string, do func(entityevent.Record) error) error {
	for r, err := range v.Store.Read(ctx, v.view(), entityevent.Query{Resource: resource, After: after}) {
		if err != nil {
			return err
		}
		if to != "" && r.Key > to {
			return nil
		}
		r.Hash = hashOf(r.Body)
		if err := do(r); err != nil {
			return err
		}
	}
	return nil
}

// hashOf is the hash of a content; of what no copy can keep: none.
func hashOf(body []byte) entityevent.Hash {
	content, err := entityevent.Canonicalize(body)
	if err != nil {
		return entityevent.Hash{}
	}
	return content.Hash
}
