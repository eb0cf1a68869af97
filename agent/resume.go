package main

import (
	"context"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/resosync/resosync/producer"
)

func (p *program) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume NAME",
		Short: "Let a suspended subscription go on",
		Long: `resume lets a subscription of producer.subscriptions go on from where it stands: nothing was skipped and nothing
is. A subscription is suspended when its subscriber refused the token, said that the callback is gone, or took
nothing for a day; ` + "`resosync status`" + ` says why. One that waits for its next try makes it at once.`,
		Example: `  resosync status
  resosync resume vendor-b`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withSession(c, func(ctx context.Context, s *session) error {
				var was producer.SubscriptionState
				if err := s.call(ctx, http.MethodPost, "/admin/subscriptions/"+url.PathEscape(args[0])+"/resume", nil, &was); err != nil {
					return err
				}
				if p.json {
					return p.printJSON(map[string]any{"subscription": was.Name, "was": was.Status, "reason": was.Reason, "cursor": was.Cursor})
				}
				p.printf("subscription %s goes on after %d\n", was.Name, was.Cursor)
				if was.Reason != "" {
					p.printf("it was %s: %s\n", was.Status, was.Reason)
				}
				if !s.remote {
					p.printf("no agent runs: it goes on with `resosync run`\n")
				}
				return nil
			})
		},
	}
}
