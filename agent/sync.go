package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/resosync/resosync/config"
)

func (p *program) syncCommand() *cobra.Command {
	var full bool
	c := &cobra.Command{
		Use:   "sync [FEED…]",
		Short: "Catch up with the producers once, now",
		Long: `sync brings feeds level with their producers as of its start, and ends; without names, every feed of
consumer.feeds. A feed that was never loaded is loaded first. With --full it is loaded again: every record
is read, and the old ones stay in use meanwhile.`,
		Example: `  resosync sync
  resosync sync acme --full`,
		RunE: func(c *cobra.Command, args []string) error {
			return p.withFeeds(c, args, func(ctx context.Context, s *session, feeds []string) error {
				var all []error
				for _, name := range feeds {
					if err := p.syncFeed(ctx, s, name, full); err != nil {
						all = append(all, fmt.Errorf("feed %s: %w", name, err))
					}
				}
				return errors.Join(all...)
			})
		},
	}
	c.Flags().BoolVar(&full, "full", false, "load every record again")
	return c
}

// chosenFeeds are the named feeds, or all.
func chosenFeeds(c *config.Config, names []string) ([]string, error) {
	known := feedNames(c)[1:]
	if len(known) == 0 {
		return nil, fmt.Errorf("%s: this agent copies from nobody: add a feed to consumer.feeds", c.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, usagef("there is no feed %q in the configuration; it has: %s", name, strings.Join(known, ", "))
		}
	}
	if len(names) > 0 {
		return names, nil
	}
	return known, nil
}

func (p *program) syncFeed(ctx context.Context, s *session, name string, full bool) error {
	path := "/admin/sync/" + url.PathEscape(name)
	if full {
		path += "?full"
	}
	l, err := long[syncLine](ctx, p, s, "sync "+name, path)
	if err != nil {
		return err
	}
	if p.json {
		if err := p.printLine(map[string]any{"feed": name, "records": l.Records, "events": l.Events, "settled": l.Settled, "error": l.Error}); err != nil {
			return err
		}
	}
	if l.Error != "" {
		return errors.New(l.Error)
	}
	if !p.json {
		p.printf("%s: level; %s loaded, %s received, %s brought up to date\n", name, plural(l.Records, "record"), plural(l.Events, "event"), plural(l.Settled, "record"))
	}
	return nil
}

func (l syncLine) over() bool { return l.Done }

func (l syncLine) progress() (int64, string) {
	if l.Resource != "" {
		return l.Records + l.Settled, fmt.Sprintf("loading %s, %s", l.Resource, plural(l.Records, "record"))
	}
	return l.Records + l.Settled, fmt.Sprintf("%s received, %s to apply", plural(l.Events, "event"), count(l.Pending))
}
