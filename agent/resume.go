package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// resumeRequest says where a subscription goes on.
type resumeRequest struct {
	FromSequence *entityevent.Sequence `json:"fromSequence,omitempty"` // nil: where it stands
}

// fromNow is the position after all events that there are.
const fromNow = "now"

func (p *program) resumeCommand() *cobra.Command {
	var at place
	var from string
	c := &cobra.Command{
		Use:   "resume NAME|UUID",
		Short: "Let a suspended subscription go on",
		Long: `resume lets a subscription go on from where it stands: nothing was skipped and nothing is. It is named as in
producer.subscriptions or, if it was registered, by its UUID. A subscription is suspended when its subscriber refused the
token, said that the callback is gone, or took nothing for a day; ` + "`resosync status`" + ` says why. One that waits for its next
try makes it at once.

With --from it goes on after another sequence: what comes after it is pushed, also what was pushed before; what lies
between the old position and a later one is skipped, and never pushed. --from now goes on after the newest event, and so
skips all that waits: the subscriber has to read that by itself. With --url the token needs the scope read for it.`,
		Example: `  resosync status
  resosync resume vendor-b
  resosync resume vendor-b --from now
  resosync resume 01890a5d-ac96-774b-bcce-b302099a8057 --from 1200
  resosync resume 01890a5d-ac96-774b-bcce-b302099a8057 --url https://sync.acme.example --token "$ACME_TOKEN"`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			var q resumeRequest
			if from != "" && from != fromNow {
				var err error
				if q.FromSequence, err = position(from); err != nil {
					return err
				}
			}
			_, err := uuid.Parse(args[0])
			if err != nil && at.url != "" {
				return usagef("with --url it must be the UUID of a subscription")
			}
			return p.withPlace(c, at, func(ctx context.Context, s *session) error {
				if from == fromNow {
					head, err := s.newest(ctx, "/odata")
					if err != nil {
						return fmt.Errorf("the head of the log: %w", err)
					}
					q.FromSequence = &head
				}
				if err == nil {
					registered := p.resumeRegistered(ctx, s, args[0], q)
					if at.url != "" || !isStatus(registered, http.StatusNotFound) {
						return registered
					}
				}
				return p.resumeFixed(ctx, s, args[0], q)
			})
		},
	}
	c.Flags().StringVar(&from, "from", "", "go on after this sequence `N`, or after the newest event: now (default: where it stands)")
	at.flags(c)
	return c
}

func (p *program) resumeRegistered(ctx context.Context, s *session, id string, q resumeRequest) error {
	var is subscriptionDocument
	if err := s.aboutSubscription(ctx, http.MethodPost, id, "/resume", q, &is); err != nil {
		return err
	}
	if p.json {
		return p.printJSON(is.raw)
	}
	p.printResumed(s, is.UUID, is.Cursor, "")
	return nil
}

// resumeFixed resumes a subscription of the configuration, whose agent answers with how it was.
func (p *program) resumeFixed(ctx context.Context, s *session, name string, q resumeRequest) error {
	var was producer.SubscriptionState
	if err := s.call(ctx, http.MethodPost, "/admin/subscriptions/"+url.PathEscape(name)+"/resume", q, &was); err != nil {
		return err
	}
	cursor := was.Cursor
	if q.FromSequence != nil {
		cursor = *q.FromSequence
	}
	if p.json {
		return p.printJSON(map[string]any{"subscription": was.Name, "was": was.Status, "reason": was.Reason, "cursor": cursor})
	}
	before := ""
	if was.Reason != "" {
		before = fmt.Sprintf("it was %s: %s\n", was.Status, was.Reason)
	}
	p.printResumed(s, was.Name, cursor, before)
	return nil
}

// printResumed says how it goes on and, after that, how it was before.
func (p *program) printResumed(s *session, name string, cursor entityevent.Sequence, before string) {
	p.printf("subscription %s goes on after %d\n%s", name, cursor, before)
	if !s.remote {
		p.printf("no agent runs: it goes on with `resosync run`\n")
	}
}
