package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const redacted = "[redacted]"

// Secret is a text that never prints: only a conversion to string shows it.
type Secret string

// Format prints a secret, by any verb, without it.
func (s Secret) Format(w fmt.State, _ rune) { format(w, s.String()) }

// String returns "[redacted]", or "" without a secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// MarshalText is String, for JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is String, for logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Callback is a URL whose query may hold a secret: it prints without it.
type Callback string

// Format prints the URL, by any verb, without its query.
func (c Callback) Format(w fmt.State, _ rune) { format(w, c.String()) }

// String returns the URL without its query.
func (c Callback) String() string {
	u, err := url.Parse(string(c))
	if err != nil {
		return redacted
	}
	if u.RawQuery != "" {
		u.RawQuery = redacted
	}
	u.User, u.Fragment = nil, ""
	return u.String()
}

// MarshalText is String, for JSON and YAML.
func (c Callback) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// LogValue is String, for logs.
func (c Callback) LogValue() slog.Value { return slog.StringValue(c.String()) }

// format writes what replaces a secret. An error of w is its owner's to notice.
func format(w fmt.State, text string) { _, _ = io.WriteString(w, text) }

// Rate is a number of requests per second. It is written as 2/s, 30/m or 7200/h.
type Rate float64

// UnmarshalText reads a rate above zero.
func (r *Rate) UnmarshalText(text []byte) error {
	number, unit, _ := strings.Cut(string(text), "/")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	seconds, known := map[string]float64{"s": 1, "m": 60, "h": 3600}[strings.TrimSpace(unit)]
	if err != nil || !known || math.IsNaN(n) || n <= 0 || n > 1e6 {
		return errors.New("want requests per time, as 1/s, 30/m or 7200/h")
	}
	*r = Rate(n / seconds)
	return nil
}

// Age is a duration that may be never, which is 0.
type Age time.Duration

// UnmarshalText reads a duration, or never.
func (a *Age) UnmarshalText(text []byte) error {
	if string(text) == Never {
		*a = 0
		return nil
	}
	d, err := parseDuration(string(text))
	*a = Age(d)
	return err
}
