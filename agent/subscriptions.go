package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

func (p *program) subscriptionsCommand() *cobra.Command {
	var at place
	var client string
	c := &cobra.Command{
		Use:   "subscriptions [UUID]",
		Short: "List the subscriptions that were registered, or one",
		Long: `subscriptions lists what was registered with subscribe, or by API: UUID, client, status, mode, position, resources,
label, and what went wrong. Those of producer.subscriptions are in ` + "`resosync status`" + `, which says how far behind each is.

It asks the agent of the configuration or, with --url, another: there it lists those of the token's client.`,
		Example: `  resosync subscriptions
  resosync subscriptions --client vendor-b --json
  resosync subscriptions --url https://sync.acme.example --token "$ACME_TOKEN"`,
		Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && client != "" {
				return usagef("--client goes without a UUID")
			}
			return p.withPlace(c, at, func(ctx context.Context, s *session) error {
				if len(args) == 1 {
					var one subscriptionDocument
					if err := s.aboutSubscription(ctx, http.MethodGet, args[0], "", nil, &one); err != nil {
						return err
					}
					if p.json {
						return p.printJSON(one.raw)
					}
					p.printSubscription(one)
					return nil
				}
				list, err := s.listSubscriptions(ctx, client)
				if err != nil {
					return err
				}
				if p.json {
					all := []any{}
					for _, one := range list {
						all = append(all, one.raw)
					}
					return p.printJSON(all)
				}
				for _, one := range list {
					p.printSubscription(one)
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&client, "client", "", "only those of the client with this `NAME`")
	at.flags(c)
	return c
}

// listSubscriptions returns the registered subscriptions of a client, or all that may be seen, page by page.
func (s *session) listSubscriptions(ctx context.Context, client string) (all []subscriptionDocument, err error) {
	query := url.Values{}
	if client != "" {
		query.Set("client", client)
	}
	for {
		var page struct {
			Links struct {
				Next struct{ Href string } `json:"next"`
			} `json:"_links"`
			Embedded struct {
				Subscriptions []subscriptionDocument `json:"subscriptions"`
			} `json:"_embedded"`
		}
		if err := s.exchange(ctx, http.MethodGet, strings.TrimSuffix("/subscriptions?"+query.Encode(), "?"), nil, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Embedded.Subscriptions...)
		next, err := url.Parse(page.Links.Next.Href)
		if err != nil || next.Query().Get("after") <= query.Get("after") { // there is none, or none that goes on
			return all, nil
		}
		query.Set("after", next.Query().Get("after"))
	}
}

// aboutSubscription asks for a registered subscription, or what is below it.
func (s *session) aboutSubscription(ctx context.Context, method, uuid, below string, body, answer any) error {
	err := s.exchange(ctx, method, "/subscriptions/"+url.PathEscape(uuid)+below, nil, body, answer)
	if isStatus(err, http.StatusNotFound) {
		err = statusError{status: http.StatusNotFound, detail: fmt.Sprintf("there is no registered subscription %q: resosync subscriptions lists those there are", uuid)}
	}
	return err
}

func (p *program) printSubscription(d subscriptionDocument) {
	text := fmt.Sprintf("%s\t%s\t%s\t%s\t%d\t%s", d.UUID, d.Client, d.Status, d.Mode, d.Cursor, strings.Join(d.EventTypes, ","))
	for _, more := range []string{d.Label, d.Message, d.LastError} {
		text += "\t" + printable(more)
	}
	p.printf("%s\n", strings.TrimRight(text, "\t"))
}

func (p *program) cancelCommand() *cobra.Command {
	var at place
	var message string
	c := &cobra.Command{
		Use:   "cancel UUID",
		Short: "End a registered subscription for good",
		Long: `cancel ends a subscription that was registered: nothing is pushed to it any more, and it cannot be resumed. It can be
looked at for 30 days. One that is cancelled already stays so. To end one of producer.subscriptions take it out of there.

It asks the agent of the configuration or, with --url, another: there with the token of the subscription's client.`,
		Example: `  resosync cancel 01890a5d-ac96-774b-bcce-b302099a8057 --message "replaced by the new receiver"
  resosync cancel 01890a5d-ac96-774b-bcce-b302099a8057 --url https://sync.acme.example --token "$ACME_TOKEN"`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withPlace(c, at, func(ctx context.Context, s *session) error {
				var body struct {
					Message string `json:"message,omitempty"`
				}
				body.Message = message
				var is subscriptionDocument
				if err := s.aboutSubscription(ctx, http.MethodPut, args[0], "", body, &is); err != nil {
					return err
				}
				if p.json {
					return p.printJSON(is.raw)
				}
				p.printf("subscription %s is cancelled, at %d\n", is.UUID, is.Cursor)
				return nil
			})
		},
	}
	c.Flags().StringVar(&message, "message", "", "a `TEXT` that says why, for its client")
	at.flags(c)
	return c
}
