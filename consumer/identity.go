package consumer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// identity is how a feed's requests say who asks: by a token that was given, or by those that it gets for its
// client's secret (RFC 6749, 4.4). A token that it got is good for several requests and, whatever the producer
// says of its life, is left alone shortly before its end.
type identity struct {
	token string                    // one that was given; "": none
	grant *clientcredentials.Config // nil: no other is asked for
	next  http.RoundTripper
	pace  *pace

	asking  chan struct{} // held by the one who asks for a token, and guards the rest
	current string        // the token that it got last; "": none, or it was refused
	until   time.Time     // when it is no longer used; zero: it has no end
}

func (f *Feed) identity(p *pace) (*identity, error) {
	i := &identity{token: f.Token, pace: p, asking: make(chan struct{}, 1)}
	if f.HTTP != nil {
		i.next = f.HTTP.Transport
	}
	if i.next == nil {
		i.next = newTransport()
	}
	if f.TokenURL == "" {
		return i, nil
	}
	u, err := url.Parse(f.TokenURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("its token url is not an absolute http or https URL")
	}
	i.grant = &clientcredentials.Config{ClientID: f.ClientID, ClientSecret: f.ClientSecret, TokenURL: f.TokenURL}
	return i, nil
}

const (
	// earlier is how long before its end a token is no longer used: requests wait, and clocks differ.
	earlier = time.Minute
	// tokenTime is how long the answer with a token may take.
	tokenTime = 30 * time.Second
)

// get returns the token for a request on an errand, "" for none; it asks for one if there is none that is
// good. That request keeps the pace and the budget like any other.
func (i *identity) get(ctx context.Context, e errand) (string, error) {
	if i.grant == nil {
		return i.token, nil
	}
	if err := hold(ctx, i.asking); err != nil {
		return "", err
	}
	defer func() { <-i.asking }()
	if i.current != "" && (i.until.IsZero() || time.Now().Before(i.until)) {
		return i.current, nil
	}
	client := &http.Client{
		Transport:     asks{i, e},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the secret stays here
	}
	t, err := i.grant.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
	if err != nil {
		return "", tokenError(ctx, err)
	}
	i.current, i.until = t.AccessToken, t.Expiry
	if !t.Expiry.IsZero() {
		i.until = t.Expiry.Add(-min(earlier, time.Until(t.Expiry)/2))
	}
	return i.current, nil
}

// refused notes that the producer does not take a token, and says whether another may be had.
func (i *identity) refused(ctx context.Context, token string) bool {
	if i.grant == nil || hold(ctx, i.asking) != nil {
		return false
	}
	defer func() { <-i.asking }()
	if i.current == token {
		i.current = ""
	}
	return true
}

// asks carries a request for a token.
type asks struct {
	*identity
	errand errand
}

// RoundTrip implements http.RoundTripper.
func (a asks) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := a.pace.wait(req.Context(), a.errand); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(req.Context(), tokenTime, errSilent)
	resp, err := a.next.RoundTrip(req.Clone(ctx))
	if err != nil {
		cancel()
		return nil, causeOf(ctx, err)
	}
	if a.pace.saw(resp, everything) {
		a.pace.note(ctx)
	}
	resp.Body = &ending{resp.Body, cancel}
	return resp, nil
}

// tokenError is an error of the token's URL, without what its server wrote.
func tokenError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var answered *oauth2.RetrieveError
	if !errors.As(err, &answered) || answered.Response == nil {
		return fmt.Errorf("the token url: %w", withoutURL(err))
	}
	said := answered.ErrorCode
	if !errorCode.MatchString(said) {
		said = "no error of OAuth2"
	}
	refusal := &refusal{Status: answered.Response.StatusCode, Proper: answered.ErrorCode != ""}
	if refusal.Status == http.StatusBadRequest { // by RFC 6749, 5.2, also for what a producer would answer 401
		refusal.Status = http.StatusUnauthorized
	}
	if refusal.Status < 300 {
		return fmt.Errorf("the token url: %w: an answer without a token", errUnexpected)
	}
	return fmt.Errorf("the token url (%s): %w", said, refusal)
}

var errorCode = regexp.MustCompile(`^[a-z_]{1,40}$`)

// ending is a body whose request ends with it.
type ending struct {
	io.ReadCloser
	end context.CancelFunc
}

func (e *ending) Close() error {
	defer e.end()
	return e.ReadCloser.Close()
}
