package producer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// answer is what a push came back with.
type answer struct {
	status     int    // 0: there was none
	retryAfter string // the Retry-After header
	date       string // the Date header
	cursor     string // the EntityEvent-Cursor header
	problem    string // what went wrong, for people; without secrets
}

// maxAnswer is how much of an answer's body is read. The connection of a longer one is closed.
const maxAnswer = 64 << 10

// post pushes b once (RCP-28; the headers are those of the documentation of the HTTP interface).
func (r *run) post(ctx context.Context, b batch) answer {
	ctx, cancel := context.WithTimeoutCause(ctx, r.sub.Timeout, fmt.Errorf("no answer within %s", r.sub.Timeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.sub.URL, bytes.NewReader(b.body))
	if err != nil {
		return answer{problem: "the callback URL is not usable"} // the error repeats it
	}
	h := req.Header
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/hal+json, application/problem+json;q=0.9, application/json;q=0.8")
	h.Set("User-Agent", cmp.Or(r.UserAgent, "resosync"))
	if r.sub.Token != "" {
		h.Set("Authorization", "Bearer "+r.sub.Token)
	}
	if r.sub.Label != "" {
		h.Set("EntityEventSource", r.sub.Label)
		h.Set("ConsumerLabel", r.sub.Label)
	}
	// The log may have been named anew since the batch was read: what it held then stands in the new one too.
	h.Set("EntityEvent-Log", string(r.Store.LogID())+"/"+r.sub.Profile)
	if r.filter == nil { // else the body does not hold every event in between
		h.Set("EntityEvent-After", r.state.Acknowledged.String())
		h.Set("EntityEvent-Through", b.through.String())
	}
	if r.key != nil {
		sign(h, r.key, r.deliveryID(b), time.Now(), b.body)
	}

	resp, err := r.client.Do(req)
	if err != nil {
		return answer{problem: r.withoutSecrets(failure(ctx, err))}
	}
	defer resp.Body.Close()
	var body []byte
	if resp.StatusCode >= 200 { // the body of a protocol switch would be the connection itself
		// Read to the end, so that the connection can be used again. A cut answer still has its status.
		body, _ = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	}
	h = resp.Header
	got := answer{status: resp.StatusCode, retryAfter: h.Get("Retry-After"), date: h.Get("Date"), cursor: h.Get(cursorHeader)}
	if got.status < 200 || got.status > 299 {
		got.problem = r.withoutSecrets(describe(got.status, body))
	}
	return got
}

// failure says why there was no answer, without the URL, and without what its name leads to here and who says so: the
// subscriber may have named what is inside this network.
func failure(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return context.Cause(ctx).Error()
	}
	var name *net.DNSError
	if errors.As(err, &name) {
		if name.IsNotFound {
			return "no such host"
		}
		return "the name of its host cannot be resolved"
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError // has both addresses
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	return err.Error()
}

// describe returns the status and what a problem document (RFC 9457), or one of OData or OAuth, says.
func describe(status int, body []byte) string {
	text := strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status))
	if status >= 300 && status < 400 {
		return text + ": redirects are not followed; correct the callback's URL"
	}
	var problem struct {
		Title, Detail, Message string
		Error                  json.RawMessage
	}
	if json.Unmarshal(body, &problem) != nil {
		return text
	}
	var odata struct{ Message string }
	// An error member of another form says nothing.
	_ = json.Unmarshal(problem.Error, &odata)
	for _, part := range []string{problem.Title, problem.Detail, problem.Message, odata.Message} {
		if part != "" && !strings.Contains(text, part) {
			text += ": " + part
		}
	}
	return text
}

// maxProblem is how much of a problem is kept, in bytes.
const maxProblem = 500

// withoutSecrets takes out of a text what the subscriber may have repeated, and what does not print.
func (r *run) withoutSecrets(text string) string {
	const redacted = "[redacted]"
	for _, secret := range r.secrets() {
		text = strings.ReplaceAll(text, secret, redacted)
	}
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			return ' '
		}
		return c
	}, text)
	if len(text) > maxProblem {
		text = strings.ToValidUTF8(text[:maxProblem], "") + "…"
	}
	return text
}

// secrets are what the subscriber may have repeated, the longest first: what is part of another does not leave the rest.
func (r *run) secrets() []string {
	all := []string{r.sub.Token, r.sub.URL, r.sub.Secret, strings.TrimPrefix(r.sub.Secret, secretPrefix)}
	if u, err := url.Parse(r.sub.URL); err == nil {
		password, _ := u.User.Password()
		all = append(all, password, u.RequestURI(), u.Path, u.EscapedPath(), u.RawQuery, u.Hostname(), strings.ToLower(u.Hostname()))
		for _, values := range u.Query() {
			all = append(all, values...)
		}
		for part := range strings.SplitSeq(u.RawQuery, "&") {
			_, value, _ := strings.Cut(part, "=")
			all = append(all, value)
		}
		for _, path := range []string{u.Path, u.EscapedPath()} {
			for part := range strings.SplitSeq(path, "/") {
				if len(part) > 7 || len(part) > 4 && strings.ContainsAny(part, "0123456789") { // others are words
					all = append(all, part)
				}
			}
		}
	}
	for _, secret := range slices.Clone(all) {
		all = append(all, html.EscapeString(secret)) // as frameworks repeat it
	}
	all = slices.DeleteFunc(all, func(s string) bool { return len(s) <= 3 }) // no secret, and part of every other word
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return all
}
