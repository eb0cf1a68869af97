package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/producer"
)

// checkTimeout bounds the check of one feed or subscription.
const checkTimeout = 15 * time.Second

var errNoAnswer = fmt.Errorf("nothing came within %v", checkTimeout)

// finding is one line of a check.
type finding struct {
	Subject string `json:"subject"`
	OK      bool   `json:"ok"`
	Text    string `json:"text"`
	Remedy  string `json:"remedy,omitempty"`
}

func (p *program) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and reach everybody in it",
		Long: `check reads the configuration, opens the store, asks each feed's producer for its metadata and the head of its
log, and sends each subscription a signed push without events. It changes nothing there, and here it makes the data
folder if there is none, and leaves records, log and profiles as they are. Each line says ok or FAIL, and what to do;
one FAIL makes the exit status 1.`,
		Example: `  resosync check
  resosync check -c acme.yaml --json`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(p.configFile)
			if err != nil {
				return err
			}
			findings := []finding{p.checkConfiguration(cfg)}
			if findings[0].OK {
				findings = append(findings, p.checkStore(c.Context(), cfg)...)
			}
			if cfg.TLS != nil {
				findings = append(findings, checkCertificate(*cfg.TLS))
			}
			if cfg.Consumer != nil {
				for _, f := range cfg.Consumer.Feeds {
					findings = append(findings, checkFeed(c.Context(), f))
				}
			}
			if cfg.Producer != nil {
				for _, client := range cfg.Producer.Clients {
					findings = append(findings, finding{Subject: "client " + client.Name, OK: true, Text: describeClient(client)})
				}
				callbacks := callbackDialer(cfg).Client()
				defer callbacks.CloseIdleConnections()
				for _, s := range cfg.Producer.Subscriptions {
					findings = append(findings, checkSubscription(c.Context(), callbacks, s))
				}
			}
			return p.printFindings(findings)
		},
	}
}

func (p *program) printFindings(findings []finding) error {
	failed := false
	for _, f := range findings {
		failed = failed || !f.OK
		if p.json {
			continue
		}
		word := "ok  "
		if !f.OK {
			word = "FAIL"
		}
		p.printf("%s %s: %s\n", word, f.Subject, f.Text)
		if f.Remedy != "" {
			p.printf("     %s\n", f.Remedy)
		}
	}
	if p.json {
		if err := p.printJSON(findings); err != nil {
			return err
		}
	}
	if failed {
		return errReported
	}
	return nil
}

// describe says what an agent is by its configuration.
func describe(c *config.Config) string {
	var roles []string
	if c.Producer != nil {
		roles = append(roles, fmt.Sprintf("producer with %s and %s", plural(int64(len(c.Producer.Clients)), "client"), plural(int64(len(c.Producer.Subscriptions)), "subscription")))
	}
	if c.Consumer != nil {
		roles = append(roles, "consumer of "+plural(int64(len(c.Consumer.Feeds)), "feed"))
	}
	if roles == nil {
		return "neither producer nor consumer"
	}
	return strings.Join(roles, ", ")
}

// describeClient says what a client may do and see.
func describeClient(c config.Client) string {
	text := "may " + strings.Join(c.Scopes, ", ")
	if c.Profile == "" {
		return text + "; it sees everything"
	}
	return text + "; it sees the profile " + c.Profile
}

// certificateSoon is how long before its end a certificate is talked about.
const certificateSoon = 14 * 24 * time.Hour

func checkCertificate(files config.TLS) finding {
	f := finding{Subject: "tls " + files.Cert}
	c, err := openCertificate(files, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Text = err.Error()
		return f
	}
	until := c.now.Leaf.NotAfter
	f.OK, f.Text = time.Now().Before(until), "good until "+until.Local().Format(time.DateTime)
	if left := time.Until(until); left < 0 {
		f.Text, f.Remedy = "ended "+until.Local().Format(time.DateTime), "renew it: the agent reads the files again by itself"
	} else if left < certificateSoon {
		f.Remedy = "renew it soon: the agent reads the files again by itself"
	}
	return f
}

// checkConfiguration looks at what the configuration names beside itself.
func (p *program) checkConfiguration(c *config.Config) finding {
	f := finding{Subject: "configuration", OK: true, Text: p.configFile + ": " + describe(c)}
	if _, err := readMetadata(c); err != nil {
		f.OK, f.Text = false, err.Error()
	}
	return f
}

// checkStore looks at the store, and at the profiles beside what it holds.
func (p *program) checkStore(ctx context.Context, c *config.Config) []finding {
	f := finding{Subject: "store " + c.Data}
	s, err := p.dial(ctx, c, "check")
	if err != nil {
		f.Text = err.Error() // it says what to do
		return []finding{f}
	}
	var now status
	err = s.call(ctx, http.MethodGet, "/admin/status", nil, &now)
	if err == nil && now.Error != "" {
		err = errors.New(now.Error)
	}
	if err == nil && !s.remote {
		err = canListen(ctx, c.Listen)
	}
	var profiles []finding
	if err == nil {
		profiles, err = s.checkProfiles(ctx, c)
	}
	if err = errors.Join(err, s.close()); err != nil {
		f.Text = err.Error()
		return []finding{f}
	}
	f.OK, f.Text = true, fmt.Sprintf("log %s, head %d, no agent is running", now.Log, now.Head)
	if s.remote {
		f.Text = fmt.Sprintf("log %s, head %d, an agent is running at %s", now.Log, now.Head, s.base)
	}
	if now.Profiles != "" {
		f.Text += "; " + now.Profiles
	}
	return slices.Concat([]finding{f}, profiles, stoppingFindings(now.Registered.Stopping))
}

// checkProfiles says what of the profiles no record has. Where metadata are configured they were held to these.
func (s *session) checkProfiles(ctx context.Context, c *config.Config) ([]finding, error) {
	if c.Producer == nil || c.Producer.Metadata != "" || len(c.Producer.Profiles) == 0 {
		return nil, nil
	}
	schema, err := s.metadata(ctx, feedPath(c, servedFeed(c)))
	if err != nil {
		return nil, err
	}
	var all []finding
	for _, name := range slices.Sorted(maps.Keys(c.Producer.Profiles)) {
		profile := c.Producer.Profiles[name]
		resources := slices.Sorted(maps.Keys(profile))
		f := finding{Subject: "profile " + name, OK: true, Text: "it shows " + strings.Join(resources, ", ")}
		var unknown []string
		for _, resource := range resources {
			if schema.Type(resource) == nil {
				unknown = append(unknown, resource)
				continue
			}
			has := func(field string) bool { return schema.HasMember(resource, field) }
			for _, field := range profile[resource].Hide {
				if !has(field) {
					unknown = append(unknown, resource+"."+field)
				}
			}
			if profile[resource].With == "" {
				continue
			}
			if field := lacksParent(resource, has); field != "" {
				unknown = append(unknown, resource+"."+field)
			}
		}
		if unknown != nil {
			f.Text += "; no record has yet: " + strings.Join(unknown, ", ")
			f.Remedy = "are these spelt as the records have them? A field that is not is not hidden, and what names no parent is not seen"
		}
		all = append(all, f)
	}
	return all, nil
}

func canListen(ctx context.Context, address string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("%w: choose another address in `listen`", err)
	}
	return l.Close()
}

// checkFeed asks a feed's producer for what the consumer will ask for.
func checkFeed(ctx context.Context, c config.Feed) finding {
	f := finding{Subject: "feed " + c.Name}
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, errNoAnswer)
	defer cancel()
	token, err := credentialOf(ctx, c)
	if err != nil {
		f.Text, f.Remedy = "no token: "+err.Error(), "are client_id, client_secret and token_url right? A producer makes a secret with: resosync client secret NAME"
		return f
	}
	s := remoteSession(c.URL, token, http.ProxyFromEnvironment)
	defer s.close() //nolint:errcheck // it cannot fail
	schema, err := s.metadata(ctx, "")
	if err != nil {
		f.Text, f.Remedy = "$metadata: "+err.Error(), feedRemedy(c, err)
		return f
	}
	head, err := s.newest(ctx, "")
	if err != nil {
		f.Text, f.Remedy = "EntityEvent: "+err.Error(), feedRemedy(c, err)
		return f
	}
	var unknown []string
	for _, resource := range c.Resources {
		if schema.Type(resource) == nil {
			unknown = append(unknown, resource)
		}
	}
	f.OK, f.Text = true, fmt.Sprintf("its log is at %d", head)
	if unknown != nil {
		f.Text += "; it does not know yet: " + strings.Join(unknown, ", ")
	}
	return f
}

// credentialOf is what a feed shows to its producer: its token, or one for its secret.
func credentialOf(ctx context.Context, c config.Feed) (string, error) {
	if c.TokenURL == "" {
		return string(c.Token), nil
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	grant := clientcredentials.Config{ClientID: c.ClientID, ClientSecret: string(c.ClientSecret), TokenURL: c.TokenURL}
	t, err := grant.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
	var answered *oauth2.RetrieveError
	switch {
	case errors.As(err, &answered) && answered.Response != nil: // what else it says may repeat the secret
		return "", statusError{status: answered.Response.StatusCode}
	case err != nil:
		return "", withoutURL(ctx, err)
	}
	return t.AccessToken, nil
}

// metadata reads those of a service root below the session's.
func (s *session) metadata(ctx context.Context, root string) (*metadata.Schema, error) {
	resp, err := s.send(ctx, http.MethodGet, root+"/$metadata", http.Header{"Accept": {"application/xml"}}, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return metadata.Read(io.LimitReader(resp.Body, 64<<20))
}

func feedRemedy(c config.Feed, err error) string {
	var refused statusError
	if !errors.As(err, &refused) {
		return "is consumer.feeds[" + c.Name + "].url right, and its server up and reachable from here?"
	}
	switch refused.status {
	case http.StatusUnauthorized:
		return "its producer does not know the token: ask it for one (there: resosync token issue --client NAME) and put it into token"
	case http.StatusForbidden:
		return "the token may not read: ask its producer for the scope read"
	case http.StatusNotFound:
		return "nothing is there: url must be the service root, as https://HOST/odata"
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return "its producer wants no requests now: try again later"
	}
	return "ask its producer"
}

// checkSubscription pushes nothing, with the subscription's token and label.
func checkSubscription(ctx context.Context, client *http.Client, c config.Subscription) finding {
	f := finding{Subject: "subscription " + c.Name}
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, errNoAnswer)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, string(c.URL), strings.NewReader(`{"@reso.context":"`+entityevent.EventContext+`","value":[]}`))
	if err != nil {
		f.Text = "its url is not a URL"
		return f
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+string(c.Token))
	if c.Label != "" {
		req.Header.Set("EntityEventSource", c.Label)
		req.Header.Set("ConsumerLabel", c.Label)
	}
	resp, err := client.Do(req)
	if err != nil {
		err = withoutURL(ctx, err)
		f.Text, f.Remedy = err.Error(), "is its url right, and its server up and reachable from here?"
		if errors.Is(err, producer.ErrCallback) {
			f.Remedy = "" // the error says it
		}
		return f
	}
	defer resp.Body.Close()
	if resp.StatusCode < 300 {
		f.OK, f.Text = true, "accepts pushes"
		return f
	}
	err = errorOf(resp)
	f.Text, f.Remedy = fmt.Sprintf("refuses pushes: %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)), subscriptionRemedy(resp.StatusCode)
	if detail := err.Error(); !strings.HasSuffix(f.Text, detail) {
		f.Text += ": " + detail
	}
	return f
}

func subscriptionRemedy(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "the subscriber does not know the token: ask it for one (there: resosync token issue --feed NAME) and put it into token"
	case http.StatusForbidden:
		return "the token is for another feed, or the label is not what the subscriber expects: compare url and label with its configuration"
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return "nothing takes pushes there: url must be the whole webhook, as https://HOST/webhooks/FEED"
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return "the subscriber wants no pushes now: try again later"
	}
	if status < 400 {
		return "redirects are not followed: put the final address into url"
	}
	return "ask the subscriber"
}
