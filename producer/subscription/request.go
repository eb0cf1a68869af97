package subscription

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// The limits of a request.
const (
	maxBody      = 64 << 10
	maxURL       = 2000 // bytes
	maxSecret    = 4096 // bytes of a token or a secret
	maxLabel     = 255  // characters; also of a message
	maxTypes     = 1000
	maxBatch     = 5000
	defaultBatch = 500
	maxTimeout   = time.Minute
)

// members are those of a request's body.
type members map[string]json.RawMessage

// body reads the body of the request. A missing one has no members.
func (x *exchange) body() (members, error) {
	in := bufio.NewReader(x.r.Body)
	if _, err := in.Peek(1); errors.Is(err, io.EOF) {
		return nil, nil
	}
	x.r.Body = io.NopCloser(in)
	var m members
	if err := reply.Read(x.r, maxBody, &m); err != nil {
		return nil, err
	}
	if m == nil { // what a program made of nothing may not cancel anything
		return nil, refuse(http.StatusBadRequest, "The body is null: send an object, or no body")
	}
	return m, nil
}

// read takes a member over, if it is there. null is as good as absent.
func (m members) read(name string, into any) error {
	raw, ok := m[name]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		var wrong *json.UnmarshalTypeError
		if !errors.As(err, &wrong) || strings.HasPrefix(wrong.Value, "number ") {
			return refuse(http.StatusBadRequest, fmt.Sprintf("The member %s is no whole number that could be meant", name))
		}
		return refuse(http.StatusBadRequest, fmt.Sprintf("The member %s may not be a JSON %s", name, wrong.Value))
	}
	return nil
}

// set says that the member is there and has a value.
func (m members) set(name string) bool { return m[name] != nil && string(m[name]) != "null" }

// sequence reads a position: a number, or a string of one. One that no log reaches is the highest.
func (m members) sequence(name string) (n entityevent.Sequence, err error) {
	text := strings.Trim(string(m[name]), `"`)
	i, err := strconv.ParseInt(text, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, refuse(http.StatusBadRequest, fmt.Sprintf("The member %s is no sequence: a number from 0 on", name))
	}
	if i < 0 {
		return 0, refuse(http.StatusForbidden, fmt.Sprintf("The member %s may not be negative: 0 is the position before every event", name))
	}
	return entityevent.Sequence(i), nil
}

// change applies what the members say to s, and checks all of it.
func (m members) change(s *settings) error {
	for name, to := range map[string]*string{"callbackUrl": &s.URL, "callbackToken": &s.Token, "secret": &s.Secret} {
		if _, ok := m[name]; !ok {
			continue
		}
		*to = "" // what null makes of it
		if err := m.read(name, to); err != nil {
			return err
		}
	}
	if err := m.size(s); err != nil {
		return err
	}
	if err := m.timeout(s); err != nil {
		return err
	}
	switch {
	case s.URL == "":
		return refuse(http.StatusForbidden, "callbackUrl is missing: the https URL that takes the pushes")
	case len(s.URL) > maxURL:
		return refuse(http.StatusForbidden, fmt.Sprintf("callbackUrl is longer than %d characters", maxURL))
	case !visible(s.Token):
		return refuse(http.StatusForbidden, fmt.Sprintf("callbackToken is no bearer token: up to %d visible ASCII characters, without spaces", maxSecret))
	}
	if err := producer.CheckSecret(s.Secret); err != nil {
		return refuse(http.StatusForbidden, "secret: "+err.Error())
	}
	return nil
}

func (m members) size(s *settings) error {
	if _, ok := m["batchSize"]; !ok {
		return nil
	}
	n := defaultBatch
	if err := m.read("batchSize", &n); err != nil {
		return err
	}
	if s.BatchSize = n; n < 1 || n > maxBatch {
		return refuse(http.StatusForbidden, fmt.Sprintf("batchSize is not within 1 and %d", maxBatch))
	}
	return nil
}

// timeout reads a duration: "15s", or a number of seconds.
func (m members) timeout(s *settings) error {
	raw, ok := m["timeout"]
	if !ok {
		return nil
	}
	s.Timeout = defaultTimeout
	if !m.set("timeout") {
		return nil
	}
	var err error
	if raw[0] == '"' {
		var text string
		if err = m.read("timeout", &text); err != nil {
			return err
		}
		s.Timeout, err = time.ParseDuration(text)
	} else {
		var seconds float64
		if err := m.read("timeout", &seconds); err != nil {
			return err
		}
		s.Timeout = time.Duration(min(max(seconds, 0), 3600) * float64(time.Second))
	}
	if err != nil || s.Timeout < time.Second || s.Timeout > maxTimeout {
		return refuse(http.StatusForbidden, `timeout is not within 1 and 60 seconds: give a number of seconds, or as "15s"`)
	}
	return nil
}

const defaultTimeout = 15 * time.Second

// visible says whether a text may stand as a bearer token in a header.
func visible(text string) bool {
	return len(text) <= maxSecret && !strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c >= 0x7f })
}

// printable says whether a text is one line of a label's length.
func printable(text string) bool {
	return utf8.RuneCountInString(text) <= maxLabel && strings.TrimSpace(text) == text &&
		!strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) || c == utf8.RuneError }) // which half a character becomes
}

// choose reads a member that is one of some words.
func choose[T ~string](m members, name string, fallback T, others ...T) (T, error) {
	v := fallback
	if err := m.read(name, &v); err != nil {
		return v, err
	}
	if v != fallback && !slices.Contains(others, v) {
		words := []string{string(fallback)}
		for _, other := range others {
			words = append(words, string(other))
		}
		return v, refuse(http.StatusForbidden, fmt.Sprintf("%s is none of those that there are: %s", name, strings.Join(words, ", ")))
	}
	return v, nil
}

// checkCallback refuses a callback URL that pushes may not go to.
func (a *API) checkCallback(ctx context.Context, rawURL string) error {
	err := a.Callbacks.CheckURL(ctx, rawURL)
	if errors.Is(err, producer.ErrCallback) {
		return refuse(http.StatusForbidden, "callbackUrl: "+err.Error())
	}
	return err
}
