package main

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"fmt"

	"github.com/spf13/cobra"

	"github.com/resosync/resosync/entityevent/bearer"
)

func (p *program) tokenCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "token",
		Short: "Issue, list and revoke tokens",
		Long: `token issues the tokens that others need to reach this agent. A client of the producer gets an API token;
a producer that pushes to a feed of this agent gets a push token. A token is shown once and not kept.`,
	}
	c.AddCommand(p.tokenIssueCommand(), p.tokenListCommand(), p.tokenRevokeCommand())
	group(c)
	return c
}

func (p *program) tokenIssueCommand() *cobra.Command {
	var q tokenRequest
	var expires time.Duration
	c := &cobra.Command{
		Use:   "issue --client NAME | --feed NAME",
		Short: "Issue a token and print it",
		Long: `issue prints a new token, and nothing else, on standard output.

With --client it is an API token for a client of producer.clients: what the client puts into its feed's token.
With --feed it is a push token for a feed of consumer.feeds: what its producer puts into the subscription's token.`,
		Example: `  resosync token issue --client vendor-a
  resosync token issue --client vendor-a --scope read --expires 720h
  resosync token issue --feed acme > push.token`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case (q.Client == "") == (q.Feed == ""):
				return usagef("name either --client or --feed")
			case q.Feed != "" && len(q.Scopes) > 0:
				return usagef("--scope goes with --client: a push token has no scopes")
			case expires < 0 || expires > 0 && expires < time.Second:
				return usagef("--expires must be at least 1s")
			}
			q.Expires = int64(expires / time.Second)
			return p.withSession(c, func(ctx context.Context, s *session) error {
				var issued struct {
					Token  string       `json:"token"`
					Issued bearer.Token `json:"issued"`
				}
				if err := s.call(ctx, http.MethodPost, "/admin/tokens", q, &issued); err != nil {
					return err
				}
				if p.json {
					return p.printJSON(issued)
				}
				p.printf("%s\n", issued.Token)
				return nil
			})
		},
	}
	c.Flags().StringVar(&q.Client, "client", "", "issue an API token for this client (`NAME`)")
	c.Flags().StringVar(&q.Feed, "feed", "", "issue a token for pushes to this feed (`NAME`)")
	c.Flags().StringSliceVar(&q.Scopes, "scope", nil, "give only these of the client's scopes: read, write, subscribe, admin (default: all that the client has)")
	c.Flags().DurationVar(&expires, "expires", 0, "let the token end after this time, as 720h (default: never)")
	return c
}

func (p *program) tokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the tokens that were issued",
		Example: `  resosync token list`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return p.withSession(c, func(ctx context.Context, s *session) error {
				tokens := []bearer.Token{}
				if err := s.call(ctx, http.MethodGet, "/admin/tokens", nil, &tokens); err != nil {
					return err
				}
				if p.json {
					return p.printJSON(tokens)
				}
				table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(table, "ID\tFOR\tMAY\tISSUED\tSTATE")
				for _, t := range tokens {
					may, whom := strings.Join(t.Scopes, ","), "client "+t.Client
					if t.Audience != bearer.API {
						may, whom = "push", "feed "+t.Client
					}
					fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", t.ID, whom, may, t.Created.Local().Format(time.DateTime), tokenState(t))
				}
				return table.Flush()
			})
		},
	}
}

func tokenState(t bearer.Token) string {
	switch {
	case !t.Revoked.IsZero():
		return "revoked " + t.Revoked.Local().Format(time.DateTime)
	case t.Foreign:
		return "ended: signing.key is another one since"
	case t.Expires.IsZero():
		return "good"
	case time.Now().After(t.Expires):
		return "expired " + t.Expires.Local().Format(time.DateTime)
	}
	return "good until " + t.Expires.Local().Format(time.DateTime)
}

func (p *program) tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID",
		Short:   "End a token at once",
		Long:    "revoke ends a token: what is asked with it from then on is refused, and so is a request that waits for news.\nThe sessions and channels of its client end, too: their URLs need no token. The ID is that of `resosync token list`.",
		Example: `  resosync token revoke 0198f3a2-5f6e-7c1d-9b1e-2f0a8c4d7e11`,
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withSession(c, func(ctx context.Context, s *session) error {
				if err := s.call(ctx, http.MethodDelete, "/admin/tokens/"+url.PathEscape(args[0]), nil, nil); err != nil {
					return err
				}
				p.notef("revoked %s\n", args[0])
				return nil
			})
		},
	}
}
