package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func (p *program) asideCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "aside",
		Short: "List the records set aside, and look at them again",
		Long: `aside shows the records that a feed could not bring up to date, while all others went on. No event is lost by it.

  poison   what the producer answers for it cannot be used; it is asked for again, ever more rarely
  recheck  it is looked at a second time before it is believed; that settles itself
  held     the producer says that it is gone, as of too many others at once: see resosync reconcile --help`,
	}
	c.AddCommand(p.asideListCommand(), p.asideReplayCommand())
	group(c)
	return c
}

func (p *program) asideListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [FEED…]",
		Short: "List the records set aside",
		Long:  "list shows each record set aside, why, how often it was tried, and when it is tried again; without names, of all feeds.",
		Example: `  resosync aside list
  resosync aside list acme --json`,
		RunE: func(c *cobra.Command, args []string) error {
			return p.withFeeds(c, args, func(ctx context.Context, s *session, feeds []string) error {
				all := []asideRecord{}
				for _, feed := range feeds {
					var of []asideRecord
					if err := s.call(ctx, http.MethodGet, "/admin/aside/"+url.PathEscape(feed), nil, &of); err != nil {
						return err
					}
					all = append(all, of...)
				}
				if p.json {
					return p.printJSON(all)
				}
				if len(all) == 0 {
					p.printf("nothing is set aside\n")
					return nil
				}
				table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(table, "FEED\tRESOURCE\tKEY\tKIND\tTRIES\tNEXT\tREASON")
				for _, r := range all {
					fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", r.Feed, r.Resource, printable(r.Key), r.Kind, r.Tries, nextTry(r.NextAt), printable(r.Reason))
				}
				return table.Flush()
			})
		},
	}
}

func nextTry(at time.Time) string {
	switch wait := time.Until(at); {
	case at.IsZero():
		return "never"
	case wait <= 0:
		return "now"
	default:
		return "in " + age(wait)
	}
}

func (p *program) asideReplayCommand() *cobra.Command {
	var resource, key string
	c := &cobra.Command{
		Use:   "replay [FEED…]",
		Short: "Look at records set aside again, now",
		Long: `replay fetches the current state of records set aside again, now instead of when their time comes; without names, of
all feeds. What can be applied by then is applied, the rest stays set aside. It removes nothing that is held.`,
		Example: `  resosync aside replay
  resosync aside replay acme --resource Property
  resosync aside replay acme --resource Property --key 1001`,
		RunE: func(c *cobra.Command, args []string) error {
			q := replayRequest{Resource: resource}
			if c.Flags().Changed("key") {
				if q.Key = &key; resource == "" {
					return usagef("--key goes with --resource")
				}
			}
			return p.withFeeds(c, args, func(ctx context.Context, s *session, feeds []string) error {
				for _, feed := range feeds {
					var done struct {
						Records int `json:"records"`
					}
					if err := s.call(ctx, http.MethodPost, "/admin/aside/"+url.PathEscape(feed)+"/replay", q, &done); err != nil {
						return err
					}
					if p.json {
						if err := p.printLine(map[string]any{"feed": feed, "records": done.Records}); err != nil {
							return err
						}
						continue
					}
					switch {
					case done.Records == 0:
						p.printf("%s: nothing of that is set aside\n", feed)
					case s.remote:
						p.printf("%s: %s looked at again now\n", feed, pluralAre(int64(done.Records), "record"))
					default:
						p.printf("%s: %s looked at again with the next `resosync run` or `resosync sync`\n", feed, pluralAre(int64(done.Records), "record"))
					}
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&resource, "resource", "", "only records of this resource (`NAME`)")
	c.Flags().StringVar(&key, "key", "", "only the record with this `KEY`")
	return c
}
