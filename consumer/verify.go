package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	Equal     bool                 `json:"equal"`   // every record is, but for those that were busy
	Through   entityevent.Sequence `json:"through"` // how far the producer's log was applied when the last of it was compared
	Rounds    int                  `json:"rounds"`
	Resources []VerifiedResource   `json:"resources"`
	Unloaded  []string             `json:"unloaded,omitempty"` // resources that were never loaded, and so not compared
}

// VerifiedResource is what Verify found of one resource.
type VerifiedResource struct {
	Resource string `json:"resource"`
	Records  int64  `json:"records"` // that the producer had when the first round began
	// Differs are the records that differ, in order of their keys, at most 100 of them.
	Differs []VerifiedRecord `json:"differs,omitempty"`
	// Ranges are those that differ, and too much for each of their records to be looked at.
	Ranges []VerifiedRange `json:"ranges,omitempty"`
	// Unjudged are ranges of which something changed each time that they were compared, and too much for each of their
	// records to be looked at: whether the rest of them differs cannot be said.
	Unjudged []VerifiedRange `json:"unjudged,omitempty"`
	// Differences is how many records differ, as far as they were looked at; more than Differs has, if they are many.
	Differences int64 `json:"differences"`
	// Held is how many of them are removals that the brake holds.
	Held int64 `json:"held,omitempty"`
	// Busy is how many records changed each time that they were looked at, so that nothing can be said of them. The
	// copy kept up with them.
	Busy int64 `json:"busy,omitempty"`
}

// VerifiedRecord is a record that differs.
type VerifiedRecord struct {
	Key    string `json:"key"`
	What   string `json:"what"`             // missing: only the producer has it; extra: only the copy; changed: another content
	Reason string `json:"reason,omitempty"` // why the copy has not got it right, if the feed knows
	Held   bool   `json:"held,omitempty"`   // it is a removal that the brake holds
}

// VerifiedRange is keys above After and not above To, by their bytes; an empty To: to the last.
type VerifiedRange struct {
	After string `json:"after"`
	To    string `json:"to,omitempty"`
	There int64  `json:"there"` // records that the producer has
	Here  int64  `json:"here"`  // records that the copy has
}

const (
	// verifyRounds is how often the copy is compared before what is left is told.
	verifyRounds = 8
	// verifyRanges is how many ranges one task has at most, and in how many that differ the records are looked for.
	verifyRanges = 1000
	// verifyParts is into how many parts a range is divided, and verifyAsked into how many all are, if they are not more.
	verifyParts, verifyAsked = 16, 32 * verifyRanges
	// verifyListed is how many differences of a resource are told one by one.
	verifyListed = 100
)

// Verify proves the copy equal to its producer, or finds where it is not: equal as this project says everywhere, by
// the hashes of contents. The producer makes a digest of all that the feed copies, the copy follows the log to where
// the digest was made, and the same digest is made of the copy. A range of keys that was equal once was so then, and is
// not looked at again. One that was not, and of which nothing was written meanwhile, differs. Of the others, smaller
// and smaller ranges are compared again. What is left is compared record by record, if it is not too much.
//
// So what it says to differ does, what differs and stands still is never said to be equal, and what changes too often
// to be judged is told apart. A resource that was never loaded is named, and not compared.
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
	err := v.run(ctx)
	for i := range v.result.Resources {
		of := &v.result.Resources[i]
		of.Differs = slices.Clip(of.Differs[:min(len(of.Differs), verifyListed)])
	}
	if err != nil {
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
	lost     int // the last round in which a digest was lost
	progress VerifyProgress
	result   Verified
}

// differing is a range that was not equal.
type differing struct {
	resource    string
	there, here digest.Range
	busy        bool // the applier wrote some of its records meanwhile, so that it may be equal
}

func (d differing) records() int64 { return max(d.there.Count, d.here.Count) }

// divisible says that the copy has keys that divide it.
func (d differing) divisible() bool { return d.here.Count > 1 }

func (d differing) compare(resource, after string) int {
	return cmp.Or(cmp.Compare(d.resource, resource), cmp.Compare(d.there.After, after))
}

func (v *verification) run(ctx context.Context) error {
	loaded, err := v.prepare(ctx)
	if err != nil {
		return err
	}
	v.progress.Round = 1
	left, err := v.compare(ctx, job{Type: digestJob, Resources: loaded})
	if err != nil {
		return err
	}
	for v.progress.Round < verifyRounds {
		var again, sure []differing
		for _, d := range left {
			// Its records are looked for in what is sure to differ, unless that is too much.
			if d.busy || d.divisible() && len(left) <= verifyRanges {
				again = append(again, d)
			} else {
				sure = append(sure, d)
			}
		}
		if done, err := v.divided(ctx, again); done || err != nil {
			if err != nil {
				return err
			}
			break
		}
		v.progress.Round++
		v.progress.Compared, v.progress.Ranges = 0, len(left)
		if left, err = v.again(ctx, again); err != nil {
			return err
		}
		left = append(left, sure...)
		slices.SortFunc(left, func(a, b differing) int { return a.compare(b.resource, b.there.After) })
	}
	v.result.Rounds = v.progress.Round
	if err := v.records(ctx, left); err != nil {
		return err
	}
	v.result.Equal = len(v.result.Unloaded) == 0 && !slices.ContainsFunc(v.result.Resources, func(r VerifiedResource) bool {
		return r.Differences > 0 || len(r.Ranges) > 0 || len(r.Unjudged) > 0
	})
	return nil
}

// prepare sees that there is a copy and somebody to ask, and returns the resources that are loaded.
func (v *verification) prepare(ctx context.Context) (loaded []string, err error) {
	load, _, err := v.loadState(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(v.Resources))) {
		at, _, err := v.checkpoint(ctx, name)
		if err != nil {
			return nil, err
		}
		if at.Done || load.Loaded && at.Sweep { // being loaded once more
			loaded = append(loaded, name)
		} else {
			v.result.Unloaded = append(v.result.Unloaded, name)
		}
	}
	if loaded == nil {
		return nil, fmt.Errorf("the feed was never loaded; load it with: resosync sync %s", v.Name)
	}
	position, err := v.Store.Position(ctx, v.Name)
	if err != nil {
		return nil, err
	}
	v.client.pace.named(position.Log != "")
	o, err := persist(ctx, v, func() (offers, error) { return v.offers(ctx) })
	if err == nil && o.Tasks == "" {
		err = v.unable(nil)
	}
	v.tasks = o.Tasks
	return loaded, err
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
