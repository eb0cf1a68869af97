package consumer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/retry"
)

// errUnexpected: an answer that is not what was asked for, as an HTML page of something in between. It
// says nothing about any record.
var errUnexpected = errors.New("unexpected content")

// refusal is an answer that is not a success.
type refusal struct {
	Status int
	// Proper says that the body is an error as the producer itself writes it, in JSON. Anybody on the
	// way may answer anything else.
	Proper bool
	// Detail is what a problem document says to people, in one printable line; "": nothing.
	Detail string
}

func (r *refusal) Error() string {
	by := "the producer answered"
	if !r.Proper {
		by = "something on the way to the producer, or a wrong url, answered"
	}
	text := fmt.Sprintf("%s %d %s", by, r.Status, http.StatusText(r.Status))
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	return text
}

// refused says whether err is a refusal with one of the statuses.
func refused(err error, statuses ...int) bool {
	var r *refusal
	if !errors.As(err, &r) {
		return false
	}
	for _, s := range statuses {
		if r.Status == s {
			return true
		}
	}
	return false
}

// isProper says whether err is a refusal with a status by the producer itself.
func isProper(err error, status int) bool {
	var r *refusal
	return errors.As(err, &r) && r.Proper && r.Status == status
}

// client asks one producer, on one errand.
type client struct {
	root   string // of the service, without a slash at its end
	http   [errands]*retryablehttp.Client
	once   [errands]*exchange // what they repeat
	pace   *pace
	errand errand
	cursor string // where the feed stands, as EntityEvent-Cursor says it; empty: not told
	near   bool   // on this machine: there compressing only costs time
}

// as returns the client that asks on another errand.
func (c client) as(e errand) *client {
	c.errand = e
	return &c
}

// at returns the client that says where the feed stands, if its log has a name.
func (c client) at(p entityevent.Position) *client {
	if c.cursor = ""; p.Log != "" {
		c.cursor = string(p.Log) + ":" + p.Sequence.String()
	}
	return &c
}

// again is the wait before a request is repeated.
var again = retry.Backoff{Min: 200 * time.Millisecond, Max: 5 * time.Second}

func newClient(root *url.URL, who *identity, p *pace) *client {
	c := &client{root: root.String(), pace: p, near: loopback(root.Hostname())}
	for e := range errands {
		c.once[e] = &exchange{next: who.next, origin: origin(root), identity: who, pace: p, errand: e}
		c.http[e] = &retryablehttp.Client{
			HTTPClient:   &http.Client{Transport: c.once[e]},
			RetryMax:     3,
			CheckRetry:   checkRetry,
			ErrorHandler: retryablehttp.PassthroughErrorHandler,
			Backoff: func(_, _ time.Duration, attempt int, resp *http.Response) time.Duration {
				p.stats.retries.Add(1)
				if resp != nil && halts(resp.StatusCode) {
					return 0 // the pace waits
				}
				return again.Delay(attempt + 1)
			},
		}
	}
	return c
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// When an HTTP/2 connection is silent it is asked for a sign of life, and closed if none comes.
const (
	pingAfter   = 10 * time.Second
	pingTimeout = 10 * time.Second
)

func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       90 * time.Second,
		ReadBufferSize:        64 << 10,
		ExpectContinueTimeout: time.Second,
		// One connection carries all requests, and giving one up does not end it: only a ping finds out
		// that nobody is there.
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
}

// attempts names the *int of a context that counts how often its request was made.
type attempts struct{}

// checkRetry repeats what may go well a moment later, and nothing that is settled.
func checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if n, counts := ctx.Value(attempts{}).(*int); counts {
		*n++
	}
	var token *refusal // of the one that gives tokens
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.Is(err, errNoTasks):
		return false, nil
	case errors.As(err, &token):
		return token.Status >= 500 || halts(token.Status), nil
	case err != nil:
		return !errors.Is(err, errOrigin) && !errors.Is(err, errLarge), nil
	case resp.StatusCode == http.StatusOK:
		return !expected(resp), nil
	case resp.StatusCode == http.StatusNotImplemented:
		return false, nil
	}
	return resp.StatusCode >= 500 || halts(resp.StatusCode) || resp.StatusCode == http.StatusRequestTimeout, nil
}

// expected says whether an answer is of the kind that was asked for.
func expected(resp *http.Response) bool {
	kind := strings.ToLower(resp.Header.Get("Content-Type"))
	if strings.Contains(resp.Request.Header.Get("Accept"), "xml") {
		return !strings.Contains(kind, "html")
	}
	return strings.Contains(kind, "json")
}

// errCached: what was true once is no news of the producer.
var errCached = errors.New("an answer that a cache gives, and not the producer: what stands between must pass on Cache-Control and keep nothing")

// aged says whether an answer comes from a cache (RFC 9111, 5.1).
func aged(resp *http.Response) bool {
	age, err := strconv.ParseUint(strings.TrimSpace(resp.Header.Get("Age")), 10, 64)
	return err == nil && age > 0
}

// answer is a success, whole. Close it when nothing refers to its body any more.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
	URL    *url.URL // where it came from
	Close  func()
}

const (
	asJSON = "application/json;odata.metadata=minimal, application/json;q=0.9"
	asXML  = "application/xml"
)

// get fetches a URL of the producer: absolute, or relative to the service root. It repeats what may go
// well a moment later, and blocks for as long as the producer wants no requests. Errors name no URL.
func (c *client) get(ctx context.Context, target, accept string, prefer ...string) (*answer, error) {
	if !strings.Contains(target, "://") {
		target = c.root + "/" + target
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: a link that is no URL", errUnexpected)
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("OData-MaxVersion", "4.01")
	req.Header.Set("User-Agent", "resosync")
	req.Header.Set("Cache-Control", "no-cache") // nothing on the way knows what is current
	if c.near {
		req.Header.Set("Accept-Encoding", "identity")
	}
	if c.cursor != "" {
		req.Header.Set(cursorHeader, c.cursor)
	}
	if len(prefer) > 0 {
		req.Header.Set("Prefer", strings.Join(prefer, ", "))
	}
	resp, err := c.http[c.errand].Do(req)
	body, err := wholeOf(ctx, resp, err)
	if err != nil {
		return nil, err
	}
	text := body.buffer.Bytes()
	switch {
	case resp.StatusCode != http.StatusOK:
		err = &refusal{Status: resp.StatusCode, Proper: proper(resp, text)}
	case !expected(resp):
		err = fmt.Errorf("%w: neither JSON nor what else was asked for", errUnexpected)
	case aged(resp) && (c.errand == forPoll || c.pace.isNamed()):
		// It says what was true a while ago: perhaps before the event that we fetch for. Producers without a
		// log id may well stand behind a cache, and what they answer is looked at twice anyway.
		err = fmt.Errorf("%w: %w", errUnexpected, errCached)
	}
	if err != nil {
		body.Close()
		return nil, err
	}
	return answerOf(resp, body), nil
}

// wholeOf returns the body of an answer, which was read to its end, or why there is none.
func wholeOf(ctx context.Context, resp *http.Response, err error) (*whole, error) {
	if err != nil {
		if resp != nil {
			resp.Body.Close()
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, lost{withoutURL(err)}
	}
	body, ok := resp.Body.(*whole)
	if !ok {
		resp.Body.Close()
		return nil, fmt.Errorf("%w: a body of %T", errUnexpected, resp.Body)
	}
	return body, nil
}

func answerOf(resp *http.Response, body *whole) *answer {
	return &answer{Status: resp.StatusCode, Header: resp.Header, Body: body.buffer.Bytes(), URL: resp.Request.URL, Close: func() { body.Close() }}
}

// proper recognises an error as OData writes it: JSON with an error object.
func proper(resp *http.Response, body []byte) bool {
	return strings.Contains(strings.ToLower(resp.Header.Get("Content-Type")), "json") &&
		bytes.HasPrefix(entityevent.Member(body, "error"), []byte("{"))
}

// withoutURL drops what net/http wraps around an error: the URL may carry what is nobody's business.
func withoutURL(err error) error {
	var wrapped *url.Error
	for errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return err
}

// link resolves a nextLink against the page that it stands on, "" for none. Some servers write it
// without escaping what must be. One to another origin is refused when it is asked for.
func (a *answer) link(next string) (string, error) {
	if next == "" {
		return "", nil
	}
	u, err := a.URL.Parse(escapeLink(next))
	if err != nil {
		return "", fmt.Errorf("%w: a nextLink that is no URL", errUnexpected)
	}
	return u.String(), nil
}

func escapeLink(link string) string {
	var b strings.Builder
	for i := range len(link) {
		if c := link[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
