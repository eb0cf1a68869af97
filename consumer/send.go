package consumer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/resosync/resosync/entityevent"
)

// asHAL is what the answers of everything beside OData are.
const asHAL = "application/hal+json, application/json;q=0.9"

// send carries out a request other than for records or events: its body, if it is not nil, is sent as JSON. The
// answer is any success, of whatever is 2xx. A refusal names the detail of its problem document. A method that
// may be repeated is, as get does, and so is any other with an Idempotency-Key; without one it is sent once, and
// after an error it is not known whether it was carried out. Errors name no URL.
func (c *client) send(ctx context.Context, method, target string, body any, header http.Header) (*answer, error) {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	req, err := c.request(ctx, method, target, header)
	if err != nil {
		return nil, err
	}
	if raw != nil {
		req.Header.Set("Content-Type", "application/json")
		if err := req.SetBody(raw); err != nil {
			return nil, err
		}
	}
	resp, err := c.exchange(req)
	read, err := wholeOf(ctx, resp, err)
	if err != nil {
		return nil, err
	}
	text := read.buffer.Bytes()
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		err = problemOf(resp, text)
	case len(text) > 0 && !expected(resp):
		err = fmt.Errorf("%w: no JSON", errUnexpected)
	case aged(resp):
		err = fmt.Errorf("%w: %w", errUnexpected, errCached)
	}
	if err != nil {
		read.Close()
		return nil, err
	}
	return answerOf(resp, read), nil
}

// request is a request with what all of them carry. Its target is absolute.
func (c *client) request(ctx context.Context, method, target string, header http.Header) (*retryablehttp.Request, error) {
	req, err := retryablehttp.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: a link that is no URL", errUnexpected)
	}
	req.Header.Set("Accept", asHAL)
	req.Header.Set("User-Agent", "resosync")
	req.Header.Set("Cache-Control", "no-cache")
	for name, values := range header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if c.near && req.Header.Get("Accept-Encoding") == "" {
		req.Header.Set("Accept-Encoding", "identity")
	}
	return req, nil
}

// exchange repeats what may be repeated, and sends the rest once.
func (c *client) exchange(req *retryablehttp.Request) (*http.Response, error) {
	switch req.Method {
	case http.MethodGet, http.MethodPut, http.MethodDelete:
		return c.http[c.errand].Do(req)
	}
	if req.Header.Get("Idempotency-Key") != "" {
		return c.http[c.errand].Do(req)
	}
	if req.GetBody != nil {
		var err error
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	return c.once[c.errand].RoundTrip(req.Request)
}

// stream sends a GET whose answer may be larger than memory: its body comes as it is read, and must be closed.
// It is sent once, and whatever status it has is an answer.
func (c *client) stream(ctx context.Context, target string, header http.Header) (*http.Response, error) {
	req, err := c.request(ctx, http.MethodGet, target, header)
	if err != nil {
		return nil, err
	}
	resp, err := c.once[c.errand].open(req.Request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, withoutURL(err)
	}
	return resp, nil
}

// problemOf is a refusal with what its problem document says (RFC 9457).
func problemOf(resp *http.Response, body []byte) error {
	r := &refusal{Status: resp.StatusCode}
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if strings.EqualFold(strings.TrimSpace(kind), "application/problem+json") {
		r.Proper = true
		r.Detail = line(entityevent.StringMember(body, "detail"))
	}
	return r
}

// line makes what somebody else wrote fit for a log: printable, and not long.
func line(text string) string {
	const most = 300
	text = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// decode reads the JSON of an answer, and closes it.
func (a *answer) decode(into any) error {
	defer a.Close()
	if err := json.NewDecoder(bytes.NewReader(a.Body)).Decode(into); err != nil {
		return fmt.Errorf("%w: %w", errUnexpected, err)
	}
	return nil
}
