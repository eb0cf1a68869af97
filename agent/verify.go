package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/resosync/resosync/consumer"
)

func (p *program) verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify [FEED…]",
		Short: "Prove the copy equal to its producer",
		Long: `verify has the producer make a digest of all that the feed copies, brings the copy level with it, and compares the
two by the contents of all records; without names, of every feed. It changes nothing but what it takes to be level.
Writes may go on meanwhile: what differs is looked at again, closer and closer, and what is left is named. What changes
each time that it is looked at is said to be not judged. While the producer cannot be reached, it waits.

Exit status 0 says that every record is equal, but for single ones that changed each time; 1 that some differ, that more
could not be judged, that a resource was never loaded, or that it failed. The producer must be a resosync too; of others
compare the keys and timestamps: resosync reconcile --dry-run.`,
		Example: `  resosync verify
  resosync verify acme --json`,
		RunE: func(c *cobra.Command, args []string) error {
			return p.withFeeds(c, args, func(ctx context.Context, s *session, feeds []string) error {
				var failures []error
				differs := false
				for _, feed := range feeds {
					switch err := p.verifyFeed(ctx, s, feed); {
					case errors.Is(err, errReported):
						differs = true
					case err != nil:
						failures = append(failures, fmt.Errorf("feed %s: %w", feed, err))
					}
				}
				if differs && failures == nil {
					return errReported
				}
				return errors.Join(failures...)
			})
		},
	}
}

// verifyLine is one line of the answer to a verify: how far it is, until the one that says how it ended.
type verifyLine struct {
	consumer.VerifyProgress
	Done     bool               `json:"done,omitempty"`
	Verified *consumer.Verified `json:"verified,omitempty"`
	Error    string             `json:"error,omitempty"`
}

func (a *agent) serveVerify(w http.ResponseWriter, r *http.Request) {
	f := a.feedOf(w, r)
	if f == nil {
		return
	}
	say := lines(w)
	verified, err := f.Verify(r.Context(), func(p consumer.VerifyProgress) { say(verifyLine{VerifyProgress: p}) })
	end := verifyLine{Done: true, Verified: &verified}
	if err != nil {
		end.Error = err.Error()
	}
	say(end)
}

func (l verifyLine) over() bool { return l.Done }

func (l verifyLine) progress() (int64, string) {
	text := plural(l.Compared, "record") + " compared"
	if l.Round > 1 {
		text = fmt.Sprintf("round %d, %s to look at again", l.Round, plural(int64(l.Ranges), "range"))
	}
	if l.Trouble != "" {
		text += "; asks again: " + l.Trouble
	}
	return l.Compared, text
}

func (p *program) verifyFeed(ctx context.Context, s *session, feed string) error {
	l, err := long[verifyLine](ctx, p, s, "verify "+feed, "/admin/verify/"+url.PathEscape(feed))
	if err != nil {
		return err
	}
	return p.printVerified(feed, *l.Verified, l.Error)
}

func (p *program) printVerified(feed string, v consumer.Verified, failure string) error {
	if p.json {
		if err := p.printLine(struct {
			Feed string `json:"feed"`
			consumer.Verified
			Error string `json:"error,omitempty"`
		}{feed, v, failure}); err != nil {
			return err
		}
	}
	if failure != "" {
		return errors.New(failure)
	}
	if !p.json {
		var records int64
		for _, r := range v.Resources {
			records += r.Records
			p.printDiffering(feed, r)
		}
		for _, name := range v.Unloaded {
			p.printf("%s: %s was never loaded: not compared; why, says: resosync status\n", feed, printable(name))
		}
		unequal := func(r consumer.VerifiedResource) bool { return r.Differences > 0 || len(r.Ranges) > 0 }
		unjudged := func(r consumer.VerifiedResource) bool { return len(r.Unjudged) > 0 }
		switch {
		case v.Equal:
			p.printf("%s: equal: %s, through %d, in %s\n", feed, plural(records, "record"), v.Through, v.Ended.Sub(v.Began).Round(time.Millisecond))
		case slices.ContainsFunc(v.Resources, unequal):
			p.printf("%s: not equal, through %d: %s\n", feed, v.Through, verifyRemedy(feed, v))
		case slices.ContainsFunc(v.Resources, unjudged):
			p.printf("%s: not proven, through %d: run the command again when less is written\n", feed, v.Through)
		default:
			p.printf("%s: equal as far as it is loaded: %s, through %d\n", feed, plural(records, "record"), v.Through)
		}
	}
	if !v.Equal {
		return errReported
	}
	return nil
}

// printDiffering tells what differs in a resource, if anything does.
func (p *program) printDiffering(feed string, r consumer.VerifiedResource) {
	for _, d := range r.Differs {
		what := map[string]string{"missing": "missing here", "extra": "no longer there", "changed": "another content"}[d.What]
		p.printf("%s: %s %s: %s", feed, r.Resource, printable(d.Key), what)
		if d.Reason != "" {
			p.printf(" (%s)", printable(d.Reason))
		}
		p.printf("\n")
	}
	if more := r.Differences - int64(len(r.Differs)); more > 0 {
		p.printf("%s: %s: %s more\n", feed, r.Resource, plural(more, "record"))
	}
	if r.Busy > 0 {
		p.printf("%s: %s: %s changed each time that it was looked at: not judged\n", feed, r.Resource, plural(r.Busy, "record"))
	}
	p.printRanges(feed, r.Resource, "differs", r.Ranges)
	p.printRanges(feed, r.Resource, "not judged, as something of it changed each time", r.Unjudged)
}

// verifyPrinted is how many ranges of a resource are printed one by one.
const verifyPrinted = 100

func (p *program) printRanges(feed, resource, what string, ranges []consumer.VerifiedRange) {
	for _, d := range ranges[:min(verifyPrinted, len(ranges))] {
		var bounds []string
		if d.After != "" {
			bounds = append(bounds, "after "+printable(d.After))
		}
		if d.To != "" {
			bounds = append(bounds, "to "+printable(d.To))
		}
		if bounds == nil {
			bounds = []string{"all keys"}
		}
		p.printf("%s: %s %s: %s, with %s there and %s here\n", feed, resource, strings.Join(bounds, " "), what, plural(d.There, "record"), count(d.Here))
	}
	if more := len(ranges) - verifyPrinted; more > 0 {
		p.printf("%s: %s: %s more: %s\n", feed, resource, plural(int64(more), "range"), what)
	}
}

// verifyRemedy is what to do about what differs.
func verifyRemedy(feed string, v consumer.Verified) string {
	var aside, changed, other bool
	var held int64
	for _, r := range v.Resources {
		unlisted := r.Differences - r.Held // of those that are not held
		for _, d := range r.Differs {
			aside = aside || d.Reason != ""
			changed = changed || d.Reason == "" && d.What == "changed"
			if !d.Held {
				unlisted--
			}
		}
		changed = changed || len(r.Ranges) > 0 || unlisted > 0
		other = other || len(r.Ranges) > 0 || r.Differences > r.Held
		held += r.Held
	}
	var text []string
	if other {
		text = append(text, "to put it right, run: resosync reconcile "+feed)
	}
	if changed {
		text = append(text, "it does not see another content under the same timestamp, so if that is left: resosync sync "+feed+" --full")
	}
	if held > 0 {
		text = append(text, heldRemedy(feed, held))
	}
	if aside {
		text = append(text, "see also: resosync aside list")
	}
	return strings.Join(text, "; ")
}
