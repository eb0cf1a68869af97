package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/digest"
)

// ErrNoDigest says that the producer does not make what Verify compares with.
var ErrNoDigest = errors.New("the producer makes no digests")

// VerifyProgress is how far Verify is.
type VerifyProgress struct {
	Round    int   `json:"round"`    // from 1
	Compared int64 `json:"compared"` // records, in this round
	Ranges   int   `json:"ranges"`   // of keys that are not known to be equal
	// Trouble is why it waits to ask the producer again; "": it does not.
	Trouble string `json:"trouble,omitempty"`
}

// Verified is what Verify found.
type Verified struct {
	Began     time.Time            `json:"began,omitzero"`
	Ended     time.Time            `json:"ended,omitzero"`
	Equal     bool                 `json:"equal"`
	Through   entityevent.Sequence `json:"through"` // how far the producer's log was applied when the last of it was compared
	Rounds    int                  `json:"rounds"`
	Resources []VerifiedResource   `json:"resources"`
}

// VerifiedResource is what Verify found of one resource.
type VerifiedResource struct {
	Resource string `json:"resource"`
	Records  int64  `json:"records"` // that the producer had when the first round began
	// Differs are the records that differ, in order of their keys, at most 100 of them.
	Differs []VerifiedRecord `json:"differs,omitempty"`
	// Ranges are those that differ, and too much for each of their records to be looked at.
	Ranges []VerifiedRange `json:"ranges,omitempty"`
	// Differences is how many records differ, as far as they were looked at; more than Differs has, if they are many.
	Differences int64 `json:"differences"`
	// Busy is how many records changed each time that they were looked at, so that nothing can be said of them. The
	// copy kept up with them.
	Busy int64 `json:"busy,omitempty"`
}

// VerifiedRecord is a record that differs.
type VerifiedRecord struct {
	Key    string `json:"key"`
	What   string `json:"what"`             // missing: only the producer has it; extra: only the copy; changed: another content
	Reason string `json:"reason,omitempty"` // why the copy has not got it right, if the feed knows
}

// VerifiedRange is keys above After and not above To, by their bytes; an empty To: to the last.
type VerifiedRange struct {
	After string `json:"after"`
	To    string `json:"to,omitempty"`
	There int64  `json:"there"` // records that the producer has
	Here  int64  `json:"here"`  // records that the copy has
}

const (
	// verifyRounds is how often what differs is looked at again before its records are.
	verifyRounds = 5
	// verifyRanges is how many ranges one task has at most, and into how many in all they are divided.
	verifyRanges = 1000
	// verifyParts is into how many parts a range is divided that differs.
	verifyParts = 16
	// verifyListed is how many differences of a resource are told one by one.
	verifyListed = 100
)

// Verify proves the copy equal to its producer, or finds where it is not: equal as this project says everywhere, by
// the hashes of contents. The producer makes a digest of all that the feed copies, the copy follows the log to where
// the digest was made, and the same digest is made of the copy. What differs may have changed meanwhile, so smaller
// and smaller ranges of keys are looked at again; a range that was equal once was so then, and is not looked at
// again. What is left is compared record by record.
//
// It writes nothing but what following the log does. It may run beside Follow, Apply and Sync. A producer that cannot be
// reached, or does not want to be asked now, is asked again until ctx ends; what it refuses for good ends it.
// ErrNoDigest: the producer cannot be asked. It calls say, if it is not nil, now and then.
func (f *Feed) Verify(ctx context.Context, say func(VerifyProgress)) (Verified, error) {
	if err := f.Check(); err != nil {
		return Verified{}, err
	}
	if say == nil {
		say = func(VerifyProgress) {}
	}
	v := &verification{Feed: f, say: say, result: Verified{Began: time.Now().UTC(), Resources: []VerifiedResource{}}}
	if err := v.run(ctx); err != nil {
		return v.result, fmt.Errorf("verify %s: %w", f.Name, err)
	}
	v.result.Ended = time.Now().UTC()
	return v.result, nil
}

// verification is one Verify.
type verification struct {
	*Feed
	say      func(VerifyProgress)
	tasks    string
	progress VerifyProgress
	result   Verified
}

// differing is a range that differs.
type differing struct {
	resource    string
	there, here digest.Range
	busy        int64 // records in it that the applier wrote meanwhile
}

// allBusy says that all of its records changed meanwhile.
func (d differing) allBusy() bool { return d.busy > 0 && d.busy >= max(d.there.Count, d.here.Count) }

func (v *verification) run(ctx context.Context) error {
	if err := v.prepare(ctx); err != nil {
		return err
	}
	names := slices.Compact(slices.Sorted(slices.Values(v.Resources)))
	v.progress.Round = 1
	left, err := v.compare(ctx, job{Type: digestJob, Resources: names})
	if err != nil {
		return err
	}
	for v.progress.Round <= verifyRounds && len(left) > 0 && len(left) <= verifyRanges {
		v.progress.Round++
		v.progress.Compared = 0
		if left, err = v.again(ctx, left); err != nil {
			return err
		}
	}
	v.result.Rounds = v.progress.Round
	if err := v.records(ctx, left); err != nil {
		return err
	}
	v.result.Equal = !slices.ContainsFunc(v.result.Resources, func(r VerifiedResource) bool { return r.Differences > 0 || len(r.Ranges) > 0 })
	return nil
}

// prepare sees that there is a copy and somebody to ask.
func (v *verification) prepare(ctx context.Context) error {
	load, _, err := v.loadState(ctx)
	if err != nil {
		return err
	}
	if !load.Loaded {
		return fmt.Errorf("the feed was never loaded; load it with: resosync sync %s", v.Name)
	}
	position, err := v.Store.Position(ctx, v.Name)
	if err != nil {
		return err
	}
	v.client.pace.named(position.Log != "")
	o, err := persist(ctx, v, func() (offers, error) { return v.offers(ctx) })
	if err == nil && o.Tasks == "" {
		err = v.unable(nil)
	}
	v.tasks = o.Tasks
	return err
}

// unable is ErrNoDigest with what to do instead.
func (v *verification) unable(reason error) error {
	if reason == nil {
		reason = errors.New("it is not one of ours, or an older one")
	}
	return v.instead(fmt.Errorf("%w: %w", ErrNoDigest, reason))
}

// instead is a failure of the producer's digests, with what to do instead.
func (v *verification) instead(err error) error {
	return fmt.Errorf("%w; compare keys and timestamps instead: resosync reconcile %s --dry-run", err, v.Name)
}

// digest has the producer make a digest, and returns it when the copy has followed the log to where it was made.
func (v *verification) digest(ctx context.Context, j job) (d digest.Digest, err error) {
	c := v.client.as(forReconcile)
	task, err := persist(ctx, v, func() (string, error) { return c.begin(ctx, v.tasks, j) })
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
	position, err := persist(ctx, v, func() (entityevent.Position, error) { return v.level(ctx, d.Through) })
	if err == nil && entityevent.LogID(d.Log) != position.Log {
		err = fmt.Errorf("%w: the digest is of another log than the one followed; run the command again", entityevent.ErrAnotherLog)
	}
	v.result.Through = max(v.result.Through, d.Through)
	return d, err
}

// level follows the log through a position, and applies what it names. It does not chase the end of a log that grows.
func (f *Feed) level(ctx context.Context, through entityevent.Sequence) (entityevent.Position, error) {
	for {
		end, err := f.catchUp(ctx, false, through)
		if err != nil {
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

// compare has the producer make a digest and returns the ranges in which the copy has another one.
func (v *verification) compare(ctx context.Context, j job) (differ []differing, err error) {
	v.say(v.progress)
	written := v.touched.watch()
	defer v.touched.forget(written)
	d, err := v.digest(ctx, j)
	if err != nil {
		return nil, err
	}
	for _, name := range j.Resources {
		there, ok := d.Resources[name]
		if !ok {
			return nil, fmt.Errorf("%w: a digest without %s", errUnexpected, name)
		}
		v.result.Resources = append(v.result.Resources, VerifiedResource{Resource: name, Records: there.Count})
	}
	for _, r := range v.result.Resources {
		for ranges := d.Resources[r.Resource].Ranges; len(ranges) > 0; {
			n := 1
			for n < len(ranges) && ranges[n].After == ranges[n-1].To {
				n++
			}
			here, err := v.local(ctx, r.Resource, ranges[:n])
			if err != nil {
				return nil, err
			}
			for i, there := range ranges[:n] {
				if here[i].Count != there.Count || here[i].Hash != there.Hash {
					differ = append(differ, differing{resource: r.Resource, there: there, here: here[i]})
				}
			}
			ranges = ranges[n:]
		}
	}
	v.touched.forget(written)
	for ref := range *written {
		for i := range differ {
			if d := &differ[i]; d.resource == ref.Resource && d.there.Holds(ref.Key) {
				d.busy++
			}
		}
	}
	v.progress.Ranges = len(differ)
	v.say(v.progress)
	return differ, nil
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

// again looks at ranges once more, divided as long as they do not become too many.
func (v *verification) again(ctx context.Context, left []differing) (still []differing, err error) {
	parts := min(verifyParts, verifyRanges/len(left))
	var ranges []keyRange
	for _, d := range left {
		divided, err := v.divide(ctx, d, parts)
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, divided...)
	}
	for part := range slices.Chunk(ranges, verifyRanges) {
		found, err := v.compare(ctx, job{Type: digestJob, Ranges: part})
		if err != nil {
			return nil, err
		}
		still = append(still, found...)
	}
	return still, nil
}

// divide divides a range by the copy's keys, into so many parts and perhaps one more.
func (v *verification) divide(ctx context.Context, d differing, parts int) (ranges []keyRange, err error) {
	each := max(1, (d.here.Count+int64(parts)-1)/int64(max(1, parts)))
	after, n := d.there.After, int64(0)
	err = v.each(ctx, d.resource, d.there.After, d.there.To, func(r entityevent.Record) error {
		if n++; n%each == 0 && r.Key != d.there.To && len(ranges) < parts {
			ranges = append(ranges, keyRange{d.resource, after, r.Key})
			after = r.Key
		}
		return nil
	})
	return append(ranges, keyRange{d.resource, after, d.there.To}), err
}
