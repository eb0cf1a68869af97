package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/resosync/resosync/config"
)

// session is how a command reaches the data: always by HTTP requests to an agent's handler. If an agent
// runs on the data folder they go to it; else this process takes the folder's lock and serves the same
// handler to itself.
type session struct {
	client *http.Client
	base   string // URL without a slash at its end
	remote bool   // an agent runs
	close  func() error
}

// inProcessURL is where this process reaches itself.
const inProcessURL = "http://agent"

// dial opens a session for a command. It waits a while for other commands that have the data folder.
func (p *program) dial(ctx context.Context, c *config.Config, command string) (*session, error) {
	held, err := waitFolder(ctx, c.Data, command)
	var other heldError
	switch {
	case errors.As(err, &other) && other.by.Address != "":
		return dialAgent(c.Data, other.by)
	case err != nil:
		return nil, err
	}
	a, err := open(ctx, c, held, publicURL(c, localURL(scheme(c), c.Listen)), p.logger(slog.LevelWarn))
	if err != nil {
		return nil, errors.Join(err, held.Close())
	}
	transport := &inProcess{handler: a.routes(ctx)}
	return &session{
		client: &http.Client{Transport: authorized{transport, a.gate.admin}},
		base:   inProcessURL,
		close: func() error {
			transport.running.Wait()
			return errors.Join(a.Close(), held.Close())
		},
	}, nil
}

func dialAgent(path string, by holder) (*session, error) {
	token, err := readAdminToken(path)
	if err != nil {
		return nil, err
	}
	return localSession(by.Address, token), nil
}

// localSession speaks to the agent that holds a data folder, wherever its lock file says that it answers. Its
// certificate is for the names by which others know it.
func localSession(base, token string) *session {
	return newSession(base, token, &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // the address is the agent's own, on this machine: only its owner writes the lock file
	}})
}

// remoteSession speaks to a server by HTTP, perhaps by way of a proxy.
func remoteSession(base, token string, proxy func(*http.Request) (*url.URL, error)) *session {
	return newSession(base, token, &http.Transport{Proxy: proxy})
}

func newSession(base, token string, transport *http.Transport) *session {
	transport.DialContext = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	return &session{
		client: &http.Client{Transport: authorized{transport, token}},
		base:   base,
		remote: true,
		close: func() error {
			transport.CloseIdleConnections()
			return nil
		},
	}
}

// authorized adds a bearer token to requests.
type authorized struct {
	next  http.RoundTripper
	token string
}

func (t authorized) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	if t.token != "" {
		req.Header.Set("Authorization", "Bearer "+t.token)
	}
	return t.next.RoundTrip(req)
}

// call sends a request and decodes the JSON of a success into answer; nil drops it.
func (s *session) call(ctx context.Context, method, path string, body, answer any) error {
	return s.exchange(ctx, method, path, nil, body, answer)
}

// exchange is call, with headers of its own.
func (s *session) exchange(ctx context.Context, method, path string, header http.Header, body, answer any) error {
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(raw)
	}
	resp, err := s.send(ctx, method, path, header, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if answer == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

var errNoReply = errors.New("no answer")

// send sends a request; an answer that is no success becomes an error. The caller closes the body.
func (s *session) send(ctx context.Context, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, body)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w from %s: %w", errNoReply, req.URL.Host, withoutURL(ctx, err))
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, errorOf(resp)
	}
	return resp, nil
}

// statusError is an answer that is no success.
type statusError struct {
	status  int
	detail  string
	reasons []string // why /readyz is red
}

func (e statusError) Error() string {
	if e.detail == "" {
		return fmt.Sprintf("%d %s", e.status, http.StatusText(e.status))
	}
	return e.detail
}

// isStatus says whether an error is an answer of this status.
func isStatus(err error, status int) bool {
	var answer statusError
	return errors.As(err, &answer) && answer.status == status
}

// errorOf reads an error answer in either of the two forms that agents use: a problem document, or the
// error object of OData.
func errorOf(resp *http.Response) error {
	var body struct {
		Detail  string   `json:"detail"`
		Reasons []string `json:"reasons"`
		Error   struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || json.Unmarshal(raw, &body) != nil {
		return statusError{status: resp.StatusCode}
	}
	if body.Detail == "" {
		body.Detail = body.Error.Message
	}
	return statusError{resp.StatusCode, body.Detail, body.Reasons}
}

// address is that of the running agent, "" if none runs.
func (s *session) address() string {
	if !s.remote {
		return ""
	}
	return s.base
}

// withSession loads the configuration, opens a session for the command c, and closes it after use.
func (p *program) withSession(c *cobra.Command, use func(context.Context, *session) error) error {
	cfg, err := config.Load(p.configFile)
	if err != nil {
		return err
	}
	s, err := p.dial(c.Context(), cfg, nameOf(c))
	if err != nil {
		return err
	}
	return errors.Join(use(c.Context(), s), s.close())
}

// nameOf is what a user calls the command: "token issue".
func nameOf(c *cobra.Command) string {
	return strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")
}

// withFeeds is withSession for a command about the named feeds, or about all.
func (p *program) withFeeds(c *cobra.Command, names []string, use func(context.Context, *session, []string) error) error {
	cfg, err := config.Load(p.configFile)
	if err != nil {
		return err
	}
	feeds, err := chosenFeeds(cfg, names)
	if err != nil {
		return err
	}
	s, err := p.dial(c.Context(), cfg, nameOf(c))
	if err != nil {
		return err
	}
	return errors.Join(use(c.Context(), s, feeds), s.close())
}

// withoutURL drops the URL that net/http puts into its errors; a context's own end says nothing more.
func withoutURL(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
