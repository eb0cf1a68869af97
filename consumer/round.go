package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// round is one pass of the applier over what it took.
type round struct {
	fetcher
	begun   int  // loads, before anything was asked for
	follows bool // a first load has begun, or was over before
	lagging bool // the producer's answers may be older than its events: it sends no log id
	full    bool // more may be pending than the round took
	stuck   bool // and after failures it took all it can
	allowed bool // somebody lets the removals through the brake

	ignored []entityevent.Item // of resources that the feed does not copy
	ready   []*task            // judged, not yet committed
	size    int
	gone    []*task // to remove, at the end
	failed  []*task // not judged
	settled int
}

// plan keeps the last event of each record, parents first. What is only tried again comes after what is
// new, and what the brake holds after that, children first.
func (r *round) plan(items []entityevent.Item, due []entityevent.Setback) (tasks, reviews []*task) {
	at := make(map[entityevent.Ref]*task, len(items)+len(due))
	of := func(ref entityevent.Ref) *task {
		t := at[ref]
		if t == nil {
			t = &task{Ref: ref, was: r.holds.of[ref]}
			at[ref] = t
			tasks = append(tasks, t)
		}
		return t
	}
	for _, i := range items {
		if !r.wanted[i.Resource] {
			r.ignored = append(r.ignored, i)
			continue
		}
		t := of(i.Ref)
		t.items = append(t.items, i)
	}
	for _, s := range due {
		if s.Kind == held && at[s.Ref] == nil {
			reviews = append(reviews, &task{Ref: s.Ref, was: s})
			continue
		}
		of(s.Ref).was = s
	}
	slices.SortStableFunc(tasks, func(a, b *task) int {
		return cmp.Or(cmp.Compare(min(len(b.items), 1), min(len(a.items), 1)), byRank(a, b))
	})
	slices.SortStableFunc(reviews, func(a, b *task) int { return byRank(b, a) })
	return tasks, reviews
}

func byRank(a, b *task) int {
	return cmp.Or(cmp.Compare(rank(a.Resource), rank(b.Resource)), cmp.Compare(a.Resource, b.Resource))
}

func (r *round) run(ctx context.Context, tasks, reviews []*task) error {
	if len(r.ignored) > 0 {
		if err := r.apply(ctx, entityevent.Commit{Done: r.ignored}); err != nil {
			return err
		}
		r.settled += len(r.ignored)
	}
	var failure, skipped error
	committed := time.Now()
	for len(tasks) > 0 && failure == nil {
		var chunk []*task
		chunk, tasks = r.cut(tasks)
		if len(chunk[0].items) == 0 && r.patience == 0 {
			r.yield()
			if err := r.commitAll(ctx); err != nil {
				return err
			}
		}
		failure = r.fetch(ctx, chunk)
		if errors.Is(failure, errCrowded) {
			failure, tasks, reviews = nil, nil, nil // they wait for another round
		}
		if failure != nil && ofResource(failure) && r.answers(ctx) {
			tasks = r.giveUp(chunk, tasks, failure)
			skipped, failure = cmp.Or(skipped, failure), nil
		}
		if slices.ContainsFunc(chunk, func(t *task) bool { return t.verdict != unjudged }) {
			r.state.moved()
		}
		for _, t := range chunk {
			switch t.verdict {
			case absent:
				r.gone = append(r.gone, t)
			case unjudged:
				if t.err != nil {
					r.failed = append(r.failed, t)
				}
				if errors.Is(t.err, errSlow) {
					tasks = nil // the other retries can wait for another round, and what is new cannot
				}
			default:
				r.ready = append(r.ready, t)
				r.size += len(t.body)
			}
		}
		if len(r.ready)+r.KeyBatch > commitRows || r.size > commitBytes || time.Since(committed) > commitAfter {
			if err := r.commit(ctx); err != nil {
				return err
			}
			committed = time.Now()
		}
	}
	if err := r.commitAll(ctx); err != nil {
		return err
	}
	if failure == nil && len(r.failed) > 0 {
		failure = r.setAside(ctx)
	}
	for failure == nil && len(reviews) > 0 {
		r.yield()
		n := slices.IndexFunc(reviews, func(t *task) bool { return t.Resource != reviews[0].Resource })
		if n < 0 {
			n = len(reviews)
		}
		failure = r.review(ctx, reviews[:n])
		if reviews = reviews[n:]; errors.Is(failure, errCrowded) {
			failure, reviews = nil, nil
		}
	}
	return cmp.Or(failure, skipped)
}

// yield is for when only retries are left: what is new does not wait for them, nor do polls.
func (r *round) yield() {
	r.patience, r.errand = asidePatience, forLoad
}

// ofResource says whether a failure of all requests may yet be one of a resource, if the producer answers
// others: a gateway in front of it gives up, its connections are cut, or it never answers.
func ofResource(err error) bool {
	var r *refusal
	if errors.As(err, &r) {
		return r.Status == http.StatusBadGateway || r.Status == http.StatusGatewayTimeout
	}
	return !errors.Is(err, entityevent.ErrUnavailable) && !errors.Is(err, errOvertaken)
}

// answers asks the producer for what has nothing to do with any resource.
func (r *round) answers(ctx context.Context) bool {
	if !r.alive {
		_, err := r.head(ctx)
		r.alive = err == nil
	}
	return r.alive
}

// giveUp leaves the tasks of one resource that were not judged, so that they hold up no others, and
// returns those. They are set aside only if they may be all that a round can take.
func (r *round) giveUp(chunk, tasks []*task, failure error) []*task {
	for _, t := range chunk {
		if t.verdict == unjudged && r.stuck {
			t.err = cmp.Or(t.err, failure)
		}
	}
	return slices.DeleteFunc(tasks, func(t *task) bool {
		if t.Resource != chunk[0].Resource {
			return false
		}
		if r.stuck {
			t.err = failure
			r.failed = append(r.failed, t)
		}
		return true
	})
}

// setAside puts away what could not be judged, if the producer answers other requests: then the fault is
// of these records, and they must not hold up others. If it answers none, what has events stays with
// them, and what was set aside before stays so for a while. The producer is asked for its log where that
// matters: a full round hides what stands behind it, and retries that count as none would never get rarer.
func (r *round) setAside(ctx context.Context) error {
	if r.full || slices.ContainsFunc(r.failed, func(t *task) bool { return len(t.items) == 0 }) {
		r.answers(ctx)
	}
	var c entityevent.Commit
	var failure error
	fresh := 0
	for _, t := range r.failed {
		reason := fmt.Errorf("fetch %s: %w", t.Resource, t.err)
		if !r.alive && len(t.items) > 0 {
			failure = cmp.Or(failure, reason)
			continue
		}
		s := t.setback(reason)
		if !r.alive && t.was.Kind == poison && !errors.Is(t.err, errSlow) {
			s.Tries = t.was.Tries // that was no try
		}
		if len(t.items) > 0 && t.was.Kind == "" {
			fresh++
		}
		c.Done, c.Aside = append(c.Done, t.settles()...), append(c.Aside, s)
	}
	if len(c.Aside) > 0 {
		if err := r.apply(ctx, c); err != nil {
			return err
		}
		r.settled += len(c.Aside)
	}
	if fresh > 0 {
		r.Logger.Warn("records set aside", "count", fresh, "err", c.Aside[0].Reason)
	}
	return failure
}

// settles returns what a commit must name as done for the task: its events, or the setback that it was.
func (t *task) settles() []entityevent.Item {
	if len(t.items) == 0 {
		return []entityevent.Item{{Ref: t.Ref}}
	}
	return t.items
}

// setback is how a record that could not be judged is tried again. That it could not proves nothing about
// one whose removal is held.
func (t *task) setback(err error) entityevent.Setback {
	if t.was.Kind == held {
		return t.keep()
	}
	return t.poisoned(err)
}

func (t *task) poisoned(err error) entityevent.Setback {
	tries := 1
	if t.was.Kind == poison {
		tries = t.was.Tries + 1
	}
	return entityevent.Setback{Ref: t.Ref, Kind: poison, Reason: err.Error(), Tries: tries,
		NextAt: time.Now().Add(poisonBackoff.Delay(tries))}
}
