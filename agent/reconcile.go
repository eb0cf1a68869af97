package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/resosync/resosync/consumer"
)

func (p *program) reconcileCommand() *cobra.Command {
	var o consumer.ReconcileOptions
	c := &cobra.Command{
		Use:   "reconcile [FEED…]",
		Short: "Compare the copy with its producer, and repair it",
		Long: `reconcile reads the keys and timestamps of all records that the producer has, and compares them with the copy;
without names, of every feed. What is missing, stale, or no longer listed is asked for again, one by one, and put
right. The agent does so by itself every night (reconcile in the configuration).

Records are removed only on proof, and never many at once: more than 100 and 2 % of a resource within an hour, or
more than half of one of over ten, are held, and /readyz turns red. See that the producer means it, then release them
with --allow-deletes: each is asked for once more before it goes.`,
		Example: `  resosync reconcile
  resosync reconcile acme --dry-run
  resosync reconcile acme --allow-deletes`,
		RunE: func(c *cobra.Command, args []string) error {
			if o.DryRun && o.AllowDeletes {
				return usagef("--dry-run changes nothing, so --allow-deletes does not go with it")
			}
			return p.withFeeds(c, args, func(ctx context.Context, s *session, feeds []string) error {
				var all []error
				for _, feed := range feeds {
					if err := p.reconcileFeed(ctx, s, feed, o); err != nil {
						all = append(all, fmt.Errorf("feed %s: %w", feed, err))
					}
				}
				return errors.Join(all...)
			})
		},
	}
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what differs; change nothing")
	c.Flags().BoolVar(&o.AllowDeletes, "allow-deletes", false, "let removals through, also those that are held")
	return c
}

func (p *program) reconcileFeed(ctx context.Context, s *session, feed string, o consumer.ReconcileOptions) error {
	query := url.Values{}
	if o.DryRun {
		query.Set("dry-run", "")
	}
	if o.AllowDeletes {
		query.Set("allow-deletes", "")
	}
	l, err := long[reconcileLine](ctx, p, s, "reconcile "+feed, "/admin/reconcile/"+url.PathEscape(feed)+"?"+query.Encode())
	if err != nil {
		return err
	}
	return p.printReconcile(feed, *l.Report, l.Error)
}

func (l reconcileLine) over() bool { return l.Done }

func (l reconcileLine) progress() (int64, string) {
	if l.Resource != "" {
		return l.Compared, fmt.Sprintf("comparing %s, %s, %s", l.Resource, plural(l.Compared, "record"), plural(l.Differences, "difference"))
	}
	return l.Compared, plural(l.Left, "record") + " to look at again"
}

func (p *program) printReconcile(feed string, r consumer.ReconcileReport, failure string) error {
	if p.json {
		if err := p.printLine(struct {
			Feed string `json:"feed"`
			consumer.ReconcileReport
			Error string `json:"error,omitempty"`
		}{feed, r, failure}); err != nil {
			return err
		}
	}
	failed := failure != ""
	var differences int64
	for _, f := range r.Resources {
		differences += f.Differences()
		failed = failed || f.Error != ""
		if !p.json {
			p.printFinding(feed, f)
		}
	}
	if !p.json {
		p.printf("%s: %s\n", feed, reconcileEnd(feed, r, differences, failed))
	}
	switch {
	case failure != "":
		return errors.New(failure)
	case failed:
		return errReported
	}
	return nil
}

func (p *program) printFinding(feed string, f consumer.ReconcileFinding) {
	p.printf("%s: %s: %s compared", feed, f.Resource, plural(f.Compared, "record"))
	for _, d := range []struct {
		n    int64
		what string
		keys []string
	}{{f.Missing, "missing here", f.Examples.Missing}, {f.Stale, "stale here", f.Examples.Stale}, {f.Unseen, "no longer listed there", f.Examples.Unseen}} {
		if d.n == 0 {
			continue
		}
		p.printf(", %s %s", count(d.n), d.what)
		if len(d.keys) > 0 {
			p.printf(" (%s", printable(strings.Join(d.keys, ", ")))
			if d.n > int64(len(d.keys)) {
				p.printf(", …")
			}
			p.printf(")")
		}
	}
	if f.Error != "" {
		p.printf("; not to the end: %s", f.Error)
	}
	p.printf("\n")
}

// reconcileEnd says what the differences came to, and what is left to do.
func reconcileEnd(feed string, r consumer.ReconcileReport, differences int64, failed bool) string {
	var text string
	switch {
	case failed:
		text = "not compared to the end"
	case differences == 0:
		text = "equal"
	case r.DryRun:
		text = plural(differences, "difference") + "; nothing was changed"
	case r.Recheck > 0:
		text = plural(differences, "difference") + "; " + plural(r.Recheck, "record") + " left to look at again, which the agent does by itself"
	default:
		text = plural(differences, "difference") + ", put right"
	}
	if r.Held > 0 {
		text += "; " + heldRemedy(feed, r.Held)
	}
	return text
}

// heldRemedy is what to do about removals that are held.
func heldRemedy(feed string, n int64) string {
	return fmt.Sprintf("%s held: if the producer means them, run: resosync reconcile %s --allow-deletes", pluralAre(n, "removal"), feed)
}
