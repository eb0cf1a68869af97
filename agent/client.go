package main

import (
	"context"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

func (p *program) clientCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "client",
		Short: "Give a client a secret for OAuth2, or end all that it has",
		Long: `client is about the clients of producer.clients. One gets tokens by itself if it has a secret: at /oauth/token, by
OAuth2 client credentials. Or it gets one token from you, with ` + "`resosync token issue`" + `.`,
	}
	c.AddCommand(p.clientSecretCommand(), p.clientRevokeCommand())
	group(c)
	return c
}

func (p *program) clientSecretCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "secret NAME",
		Short: "Make a new secret for a client and print it",
		Long: `secret prints a new secret of 256 random bits, and nothing else, on standard output. It is shown once: only its
SHA-256 is kept. The client's secret before this one ends at once, and the tokens that it got with it.

The client asks for tokens, each good for 15 minutes, with NAME as its client_id:

  curl -d grant_type=client_credentials -u NAME:SECRET https://sync.acme.example/oauth/token`,
		Example: `  resosync client secret vendor-a > vendor-a.secret`,
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withSession(c, func(ctx context.Context, s *session) error {
				var made clientSecret
				if err := s.call(ctx, http.MethodPost, "/admin/clients/"+url.PathEscape(args[0])+"/secret", nil, &made); err != nil {
					return err
				}
				if p.json {
					return p.printJSON(made)
				}
				p.printf("%s\n", made.ClientSecret)
				return nil
			})
		},
	}
}

func (p *program) clientRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME",
		Short: "End a client's secret and all of its tokens at once",
		Long: `revoke ends the client's secret and every token that it has, issued or got by the secret: what is asked with them from
then on is refused, and so is a request that waits for news. The client stays in producer.clients, and may get new ones;
take it out to end it for good.

Subscriptions that it registered are suspended. Pushes to those of producer.subscriptions go on, for they carry the token
that it gave: revoke names them. To end these take them out of there and start the agent again.`,
		Example: `  resosync client revoke vendor-a`,
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return p.withSession(c, func(ctx context.Context, s *session) error {
				var done revokedClient
				if err := s.call(ctx, http.MethodPost, "/admin/clients/"+url.PathEscape(args[0])+"/revoke", nil, &done); err != nil {
					return err
				}
				if p.json {
					return p.printJSON(done)
				}
				p.notef("revoked client %s: its secret, what it got with it, and %s\n", done.Client, plural(int64(done.Tokens), "issued token"))
				for _, name := range done.Suspended {
					p.notef("suspended its subscription %s\n", name)
				}
				for _, name := range done.Pushes {
					p.notef("it is still pushed to, by the subscription %s: to end that take it out of producer.subscriptions and start the agent again\n", name)
				}
				return nil
			})
		},
	}
}
