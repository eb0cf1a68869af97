package producer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// resolveFor is how long the name of a callback may take to be resolved.
const resolveFor = 5 * time.Second

// CheckURL says whether a callback URL may be registered: its form, and every address that its host has now. What it
// resolves to is checked again whenever a connection is made. It blocks for 5 s at most. The error is ErrCallback,
// wrapped, with what to do; it does not repeat the URL.
func (d CallbackDialer) CheckURL(ctx context.Context, rawURL string) error {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%w: it is not an absolute http or https URL", ErrCallback)
	case u.User != nil:
		return fmt.Errorf("%w: a URL with a user or a password is not accepted; use the callback's token", ErrCallback)
	case u.Fragment != "":
		return fmt.Errorf("%w: a URL with a fragment is not accepted", ErrCallback)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	host := strings.TrimSuffix(u.Hostname(), ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" {
			return fmt.Errorf("%w: an address with a zone is not public", ErrCallback)
		}
		return d.Check(u.Scheme, net.JoinHostPort(host, port))
	}
	ctx, cancel := context.WithTimeout(ctx, resolveFor)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addresses) == 0 {
		return fmt.Errorf("%w: the name of its host does not resolve", ErrCallback)
	}
	for _, ip := range addresses {
		if err := d.Check(u.Scheme, net.JoinHostPort(ip.Unmap().String(), port)); err != nil {
			return err
		}
	}
	return nil
}
