package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// The variables of the environment that hold what should not stand on a command line.
const (
	callbackTokenVariable  = "RESOSYNC_CALLBACK_TOKEN"  //nolint:gosec // a name
	callbackSecretVariable = "RESOSYNC_CALLBACK_SECRET" //nolint:gosec // a name
)

// subscribeRequest is the body of POST /subscriptions.
type subscribeRequest struct {
	CallbackURL   string                `json:"callbackUrl"`
	CallbackToken string                `json:"callbackToken,omitempty"`
	Mode          string                `json:"mode,omitempty"`
	EventTypes    []string              `json:"eventTypes,omitempty"`
	FromSequence  *entityevent.Sequence `json:"fromSequence,omitempty"` // nil: now
	ConsumerLabel string                `json:"consumerLabel,omitempty"`
	BatchSize     int                   `json:"batchSize,omitempty"`
	Timeout       string                `json:"timeout,omitempty"`
	Protocol      string                `json:"protocol,omitempty"`
	Secret        string                `json:"secret,omitempty"`
}

func (p *program) subscribeCommand() *cobra.Command {
	var q subscribeRequest
	var at place
	var client, from, key string
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "subscribe CALLBACK_URL",
		Short: "Register a webhook for a client",
		Long: `subscribe has the events that a client may see POSTed to CALLBACK_URL, and prints the UUID of the subscription, and
nothing else, on standard output. The client may do the same itself: by POST /subscriptions.

The callback must be https on port 443 or 8443 of a public address, unless it is within producer.allow_callbacks. The
bearer token and the secret that its owner gave may stand in $` + callbackTokenVariable + ` and
$` + callbackSecretVariable + `, or come from standard input with -, so that no list of processes shows them.

It asks the agent of the configuration or, with --url, another: there with the token of a client that has the scope
subscribe.`,
		Example: `  resosync subscribe https://b.example/hook --client vendor-b
  ` + callbackTokenVariable + `=… resosync subscribe https://b.example/hook --client vendor-b --event-types Property,Media --from 0
  resosync subscribe https://b.example/hook --callback-token - --url https://sync.acme.example --token "$ACME_TOKEN" < token.txt`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			q.CallbackURL = args[0]
			if at.url == "" && client == "" {
				return usagef("name the client whose subscription it is: --client NAME")
			}
			if err := oneOf("--mode", q.Mode, producer.Continuous, producer.OnlyOnce); err != nil {
				return err
			}
			if err := oneOf("--protocol", q.Protocol, producer.RESO, producer.HAL); err != nil {
				return err
			}
			var err error
			if from != "now" {
				if q.FromSequence, err = position(from); err != nil {
					return err
				}
			}
			if timeout != 0 {
				q.Timeout = timeout.String()
			}
			if err := p.secrets(&q.CallbackToken, &q.Secret); err != nil {
				return err
			}
			header := http.Header{"Content-Type": {"application/json"}}
			if key != "" {
				header.Set("Idempotency-Key", key)
			}
			path := "/subscriptions"
			if client != "" {
				path += "?client=" + url.QueryEscape(client)
			}
			return p.withPlace(c, at, func(ctx context.Context, s *session) error {
				var made subscriptionDocument
				if err := s.exchange(ctx, http.MethodPost, path, header, q, &made); err != nil {
					return err
				}
				if p.json {
					return p.printJSON(made.raw)
				}
				p.printf("%s\n", made.UUID)
				if !s.remote {
					p.notef("no agent runs: pushes begin with `resosync run`\n")
				}
				return nil
			})
		},
	}
	f := c.Flags()
	f.StringVar(&client, "client", "", "the `NAME` of the client whose subscription it is")
	f.StringVar(&q.Mode, "mode", "", "the `MODE`: continuous, or only-once: the first delivery that is taken ends it (default continuous)")
	f.StringSliceVar(&q.EventTypes, "event-types", nil, "only events of these `RESOURCES` (default: all)")
	f.StringVar(&from, "from", "now", "begin after this sequence `N`; 0: with all that the log has; now: after the newest")
	f.StringVar(&q.ConsumerLabel, "label", "", "the consumer's own `NAME` for the feed: EntityEventSource")
	f.StringVar(&q.CallbackToken, "callback-token", os.Getenv(callbackTokenVariable), "the bearer `TOKEN` of the callback; - reads it (default: $"+callbackTokenVariable+")")
	f.StringVar(&q.Secret, "secret", os.Getenv(callbackSecretVariable), "the `SECRET` that signs pushes (Standard Webhooks); - reads it (default: $"+callbackSecretVariable+")")
	f.Lookup("callback-token").DefValue, f.Lookup("secret").DefValue = "", "" // else the help would print them
	f.IntVar(&q.BatchSize, "batch", 0, "push `N` events at a time at most (default: the agent's)")
	f.DurationVar(&timeout, "timeout", 0, "how `LONG` one push may take, as 15s (default: the agent's)")
	f.StringVar(&q.Protocol, "protocol", "", "the `PROTOCOL`: reso, or hal: bodies with _links (default: hal without token and label, else reso)")
	f.StringVar(&key, "idempotency-key", "", "a `KEY` under which this may be repeated for a day: it is made once")
	at.flags(c)
	return c
}

// oneOf refuses the value of a flag that is none of those there are; "" leaves it to the agent.
func oneOf[T ~string](flag, value string, words ...T) error {
	if value == "" || slices.Contains(words, T(value)) {
		return nil
	}
	return usagef("%s must be one of %v", flag, words)
}

// position reads the value of --from.
func position(text string) (*entityevent.Sequence, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return nil, usagef("--from must be a sequence from 0")
	}
	seq := entityevent.Sequence(n)
	return &seq, nil
}

// secrets reads the one that is "-" from standard input: its first line.
func (p *program) secrets(all ...*string) error {
	read := false
	for _, one := range all {
		if *one != "-" {
			continue
		}
		if read {
			return usagef("only one of --callback-token and --secret can be read from standard input")
		}
		read = true
		line, _ := bufio.NewReader(p.stdin).ReadString('\n') // what cannot be read is no token
		if *one = strings.TrimSpace(line); *one == "" {
			return errors.New("standard input holds no token: its first line must be one")
		}
	}
	return nil
}

// place says which agent a command about subscriptions asks: that of the configuration, or another.
type place struct{ url, token string }

func (at *place) flags(c *cobra.Command) {
	c.Flags().StringVar(&at.url, "url", "", "the root `URL` of another agent, or its service root")
	c.Flags().StringVar(&at.token, "token", "", "the bearer `TOKEN` for --url")
}

// withPlace opens a session with the agent that a command asks, whose root is the session's, and closes it after use.
func (p *program) withPlace(c *cobra.Command, at place, use func(context.Context, *session) error) error {
	if at.url == "" {
		if at.token != "" {
			return usagef("--token goes with --url")
		}
		return p.withSession(c, use)
	}
	root, err := url.Parse(strings.TrimRight(at.url, "/"))
	if err != nil || root.Host == "" || root.Scheme != "http" && root.Scheme != "https" {
		return usagef("--url must be an absolute http or https URL")
	}
	s := remoteSession(root.Scheme+"://"+root.Host+strings.TrimSuffix(root.EscapedPath(), "/odata"), at.token, http.ProxyFromEnvironment)
	return errors.Join(use(c.Context(), s), s.close())
}

// subscriptionDocument is a subscription as the agent shows it.
type subscriptionDocument struct {
	UUID       string               `json:"UUID"`
	Client     string               `json:"client"`
	Status     string               `json:"status"`
	Mode       string               `json:"mode"`
	EventTypes []string             `json:"eventTypes"`
	Cursor     entityevent.Sequence `json:"cursor"`
	Label      string               `json:"consumerLabel"`
	LastError  string               `json:"lastError"`
	Message    string               `json:"message"`

	raw json.RawMessage // all of it
}

// UnmarshalJSON keeps the whole text too.
func (d *subscriptionDocument) UnmarshalJSON(text []byte) error {
	type plain subscriptionDocument
	if err := json.Unmarshal(text, (*plain)(d)); err != nil {
		return err
	}
	d.raw = bytes.Clone(text)
	return nil
}
