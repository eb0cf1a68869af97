package config

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// server checks how the agent answers, and what it does with its log.
func (r *reader) server(c *Config) {
	if c.TLS != nil {
		if c.TLS.Cert == "" {
			r.report("tls.cert", "missing: name the file of the certificate, PEM with its intermediates")
		}
		if c.TLS.Key == "" {
			r.report("tls.key", "missing: name the file of the certificate's key, PEM")
		}
	}
	for i, origin := range c.CORSOrigins {
		r.origin(fmt.Sprintf("cors_origins[%d]", i), origin)
	}
	if c.Compact != "" && c.Compact != Never {
		r.cron("compact", c.Compact)
	}
	if c.Forget < 0 || c.Forget > 0 && c.Forget < Age(24*time.Hour) {
		r.report("forget", "want a duration of a day or more, as 3y: who reads the log less often loads everything again")
	}
}

// origin checks one as browsers send it (RFC 6454, 6.1), for it is compared as text.
func (r *reader) origin(path, text string) {
	if text == "*" {
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || text != u.Scheme+"://"+strings.ToLower(u.Host) || !validPort(u.Port()) ||
		u.Port() == map[string]string{"http": "80", "https": "443"}[u.Scheme] && u.Port() != "" {
		r.report(path, `want an origin as browsers send it, in small letters and without a path or the usual port, as https://app.example, or "*" for all`)
	}
}
