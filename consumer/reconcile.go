package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// ReconcileOptions say how Reconcile goes about it.
type ReconcileOptions struct {
	DryRun bool // only say what differs: nothing at all is written
	// AllowDeletes lets the removals through that this pass leads to, and those that the brake holds. Each
	// is still asked for again first.
	AllowDeletes bool
}

// ReconcileProgress is how far Reconcile is.
type ReconcileProgress struct {
	Resource    string `json:"resource,omitempty"` // the one that is compared; empty: what differs is looked at again
	Compared    int64  `json:"compared"`           // records that the producer listed, of all resources
	Differences int64  `json:"differences"`        // of all resources
	Left        int64  `json:"left"`               // records still to be looked at again
}

// ReconcileReport says what Reconcile found, and what is left of it.
type ReconcileReport struct {
	Began     time.Time          `json:"began,omitzero"`
	Ended     time.Time          `json:"ended,omitzero"`
	DryRun    bool               `json:"dry_run,omitempty"`
	Resources []ReconcileFinding `json:"resources"`
	Recheck   int64              `json:"recheck"` // records of the feed that wait to be looked at again
	Held      int64              `json:"held"`    // removals of the feed that the brake holds
}

// ReconcileFinding is what differed in one resource.
type ReconcileFinding struct {
	Resource string `json:"resource"`
	Compared int64  `json:"compared"` // records that the producer listed
	Missing  int64  `json:"missing"`  // it has them, the replica does not
	Stale    int64  `json:"stale"`    // their ModificationTimestamps differ
	Unseen   int64  `json:"unseen"`   // the replica has them, it does not
	// Examples are a few keys of each.
	Examples ReconcileExamples `json:"examples,omitzero"`
	Error    string            `json:"error,omitempty"` // why it was not compared to the end
}

// ReconcileExamples are keys.
type ReconcileExamples struct {
	Missing []string `json:"missing,omitempty"`
	Stale   []string `json:"stale,omitempty"`
	Unseen  []string `json:"unseen,omitempty"`
}

// Differences returns how many records differed.
func (f ReconcileFinding) Differences() int64 { return f.Missing + f.Stale + f.Unseen }

// kindReconcile is the kind of the documents of reconciling: one of the feed under its name, and one of each
// resource under feed/resource.
const kindReconcile = "reconcile"

const (
	// resumeWithin is how long ago a pass may have been cut for another to go on where it stopped.
	resumeWithin = time.Hour
	// settleAfter is how many records may wait to be looked at again before a pass lets them be.
	settleAfter = 2000
)

// reconcileState is how far the reconciling of a feed is.
type reconcileState struct {
	Pass  int64            `json:"pass"`           // the number of the pass that began last
	Begun time.Time        `json:"begun,omitzero"` // when, while it is under way; zero: none is
	Last  *ReconcileReport `json:"last,omitempty"` // of the pass that ended last
}

// Reconcile compares the replica with the producer, by keys and timestamps alone, and writes no record: what
// is missing, stale or unseen is set aside to be looked at again, like any suspected removal. What has an
// event that is not applied yet is no difference, nor is what is set aside already. A record whose content
// differs under an equal timestamp is not found, nor one of a resource that has none.
//
// It returns when what it found has been looked at again; what is left then waits by itself, as the report
// says. A pass that was cut less than an hour ago goes on where it stopped, in another process too. One that
// fails proves nothing; resources that fail for reasons of their own are told in the report and the error,
// and the others are compared. It may run beside Follow, Apply and Sync. It calls progress, if it is not
// nil, after each page.
func (f *Feed) Reconcile(ctx context.Context, o ReconcileOptions, progress func(ReconcileProgress)) (ReconcileReport, error) {
	if err := f.Check(); err != nil {
		return ReconcileReport{}, err
	}
	if err := hold(ctx, f.reconciling); err != nil {
		return ReconcileReport{}, err
	}
	defer func() { <-f.reconciling }()
	p := &pass{Feed: f, options: o, progress: progress, at: time.Now().UTC()}
	err := p.run(ctx)
	if err != nil {
		err = fmt.Errorf("reconcile %s: %w", f.Name, err)
	}
	return p.report, err
}

// pass is one Reconcile.
type pass struct {
	*Feed
	options  ReconcileOptions
	progress func(ReconcileProgress)
	at       time.Time // when it began
	number   int64     // of the pass
	named    bool      // the producer sends a log id
	report   ReconcileReport
	found    int // set aside since all that was so was looked at
}

func (p *pass) run(ctx context.Context) error {
	p.report = ReconcileReport{Began: p.at, DryRun: p.options.DryRun, Resources: []ReconcileFinding{}}
	load, _, err := p.loadState(ctx)
	if err != nil {
		return err
	}
	if !load.Loaded {
		return fmt.Errorf("the feed was never loaded; load it with: resosync sync %s", p.Name)
	}
	position, err := p.Store.Position(ctx, p.Name)
	if err != nil {
		return err
	}
	p.named = position.Log != ""
	p.client.pace.named(p.named)
	if err := p.begin(ctx); err != nil {
		return err
	}
	failures, err := p.compareAll(ctx, load.Pass)
	if err == nil {
		err = p.save(ctx, failures == nil)
	}
	if err == nil && !p.options.DryRun {
		err = p.finish(ctx)
	}
	if err != nil {
		return err
	}
	p.report.Ended = time.Now().UTC()
	if counts, err := p.Store.CountAside(ctx, p.Name); err == nil {
		p.report.Recheck, p.report.Held = counts[recheck], counts[held]
	}
	return errors.Join(failures, p.save(ctx, failures == nil))
}

// begin goes on with a pass that was cut, or notes another.
func (p *pass) begin(ctx context.Context) error {
	if p.options.DryRun {
		return nil
	}
	state, doc, err := p.reconcileState(ctx)
	if err != nil {
		return err
	}
	if age := p.at.Sub(state.Begun); !state.Begun.IsZero() && age >= 0 {
		cut := state.Begun
		for _, resource := range p.Resources {
			c := &comparison{pass: p, resource: resource}
			if err := c.open(ctx); err != nil {
				return err
			}
			if c.at.Pass == state.Pass && c.at.Saved.After(cut) {
				cut = c.at.Saved
			}
		}
		if p.at.Sub(cut) < resumeWithin {
			p.report.Began, p.number = state.Begun, state.Pass
			return nil
		}
	}
	state.Begun = p.at
	state.Pass++
	p.number = state.Pass
	_, err = p.Store.Apply(ctx, entityevent.Commit{Feed: p.Name, Docs: []entityevent.Doc{with(doc, state)}})
	return err
}

// compareAll compares the resources one after another. It returns the failures of single ones, and the one
// that concerns all.
func (p *pass) compareAll(ctx context.Context, loaded int64) (failures, err error) {
	resources := slices.Clone(p.Resources)
	slices.SortFunc(resources, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	for _, resource := range slices.Compact(resources) {
		c := &comparison{pass: p, resource: resource}
		at, _, err := p.checkpoint(ctx, resource)
		switch {
		case err != nil:
		case at.Pass != loaded || !at.Done:
			err = errNotLoaded
		default:
			err = c.run(ctx)
		}
		c.at.Finding.Resource = resource
		if err != nil {
			c.at.Finding.Error = err.Error()
			err = fmt.Errorf("%s: %w", resource, err)
		}
		p.report.Resources = append(p.report.Resources, c.at.Finding)
		if err != nil && (ctx.Err() != nil || !p.ofOne(ctx, err)) {
			return failures, err
		}
		failures = errors.Join(failures, err)
	}
	return failures, nil
}

// ofOne says whether a failure concerns one resource alone.
func (p *pass) ofOne(ctx context.Context, err error) bool {
	switch {
	case errors.Is(err, errNotLoaded) || !concernsAll(err):
		return true
	case errors.Is(err, errFarBehind), errors.Is(err, errElsewhere), !ofResource(err):
		return false
	}
	_, err = p.head(ctx)
	return err == nil
}

// save writes the report, as the last one if the pass is over.
func (p *pass) save(ctx context.Context, over bool) error {
	if p.options.DryRun {
		return nil
	}
	state, doc, err := p.reconcileState(ctx)
	if err != nil {
		return err
	}
	state.Last = &p.report
	if over {
		state.Begun = time.Time{}
	}
	_, err = p.Store.Apply(ctx, entityevent.Commit{Feed: p.Name, Docs: []entityevent.Doc{with(doc, state)}})
	return err
}

func (f *Feed) reconcileState(ctx context.Context) (reconcileState, entityevent.Doc, error) {
	var s reconcileState
	doc, err := f.document(ctx, kindReconcile, f.Name, &s)
	return s, doc, err
}

// finish looks at what was found, and at what the brake holds if that is allowed.
func (p *pass) finish(ctx context.Context) error {
	if err := p.settle(ctx); err != nil || !p.options.AllowDeletes {
		return err
	}
	holds, err := p.heldRemovals(ctx)
	if err != nil {
		return err
	}
	var tasks []*task
	for _, s := range holds {
		if p.wanted[s.Resource] {
			tasks = append(tasks, &task{Ref: s.Ref, was: s})
		}
	}
	slices.SortFunc(tasks, func(a, b *task) int { return cmp.Or(byRank(b, a), cmp.Compare(a.Key, b.Key)) })
	for len(tasks) > 0 {
		p.tell("", int64(len(tasks)))
		n := 1
		for n < len(tasks) && n < retryAside && tasks[n].Resource == tasks[0].Resource {
			n++
		}
		if err := p.releaseAllowed(ctx, tasks[:n]); err != nil {
			return err
		}
		tasks = tasks[n:]
	}
	return nil
}

// releaseAllowed reviews held removals, of one resource, that somebody lets through.
func (f *Feed) releaseAllowed(ctx context.Context, tasks []*task) error {
	err := errOvertaken
	for errors.Is(err, errOvertaken) {
		err = f.alone(ctx, func(r *round) error {
			r.allowed = true
			if err := r.recall(ctx); err != nil {
				return err
			}
			return r.review(ctx, tasks)
		})
	}
	return err
}

// settle applies what is due until nothing waits that was found.
func (p *pass) settle(ctx context.Context) error {
	p.found = 0
	for {
		due, err := p.Store.Aside(ctx, p.Name, time.Now(), 0)
		if err != nil {
			return err
		}
		due = slices.DeleteFunc(due, func(s entityevent.Setback) bool { return s.Kind != recheck })
		p.tell("", int64(len(due)))
		if len(due) == 0 {
			return nil
		}
		if _, err := p.applyRound(ctx, takeItems); err != nil {
			return err
		}
	}
}

// tell reports how far the pass is.
func (p *pass) tell(resource string, left int64, now ...ReconcileFinding) {
	if p.progress == nil {
		return
	}
	progress := ReconcileProgress{Resource: resource, Left: left}
	for _, f := range append(now, p.report.Resources...) {
		progress.Compared += f.Compared
		progress.Differences += f.Differences()
	}
	p.progress(progress)
}
