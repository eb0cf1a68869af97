package producer

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// resolveFor is how long the name of a callback may take to be resolved.
const resolveFor = 5 * time.Second

// CheckURL says whether a callback URL may be registered: its form, and every address that its name has now. What it
// resolves to is checked again whenever a connection is made. It blocks for 5 s at most. The error is ErrCallback,
// wrapped, with what to do; it does not repeat the URL.
func (d CallbackDialer) CheckURL(ctx context.Context, rawURL string) error {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%w: it is not an absolute https URL, as https://host/path", ErrCallback)
	case u.User != nil:
		return fmt.Errorf("%w: the URL has a user or a password; use the callback's token instead", ErrCallback)
	case u.Fragment != "" || strings.HasSuffix(rawURL, "#"):
		return fmt.Errorf("%w: the URL has a fragment, which is never sent; leave it out", ErrCallback)
	case u.Port() == "0" || strings.ContainsFunc(rawURL, unicode.IsSpace):
		return fmt.Errorf("%w: nothing can be reached at port 0, and a space is written %%20", ErrCallback)
	case strings.ContainsFunc(u.Host, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		return fmt.Errorf("%w: the host is not written in ASCII; give its xn-- form", ErrCallback)
	}
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	addresses, err := d.resolve(ctx, u.Hostname())
	if err != nil {
		return err
	}
	for _, ip := range addresses {
		if err := d.Check(u.Scheme, net.JoinHostPort(ip.String(), port)); err != nil {
			return err
		}
	}
	return nil
}

// resolve returns the addresses of a host, at least one.
func (d CallbackDialer) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" {
			return nil, fmt.Errorf("%w: an address with a zone is one of this machine's own network", ErrCallback)
		}
		return []netip.Addr{ip}, nil
	}
	if isNumber(host) {
		return nil, fmt.Errorf("%w: the host is a number and no IP address of the usual form; write it as 93.184.216.34, or by its name", ErrCallback)
	}
	resolver := d.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	ctx, cancel := context.WithTimeout(ctx, resolveFor)
	defer cancel()
	addresses, err := resolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addresses) == 0 {
		return nil, errHidden
	}
	return addresses, nil
}

// isNumber says whether some resolvers take a host for an IPv4 address, though it is not written as one: as 2130706433, 127.1
// or 0x7f.0.0.1. No name of the internet ends with a label of digits.
func isNumber(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	last := host[strings.LastIndexByte(host, '.')+1:]
	digits := "0123456789"
	if rest, hex := strings.CutPrefix(last, "0x"); hex {
		last, digits = rest, digits+"abcdef"
	}
	return strings.Trim(last, digits) == ""
}
