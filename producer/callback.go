package producer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// ErrCallback means that pushes may not reach this address.
var ErrCallback = errors.New("callback address is not allowed")

// errHidden does not tell whether a name is known in here, nor what it resolves to: it may be one of this network.
var errHidden = fmt.Errorf("%w: its address is not public, or its name is not known now; correct the name, or try again, or have its network added to allow_callbacks", ErrCallback)

// CallbackDialer decides which addresses a push may reach, so that a callback URL cannot be turned
// against this machine or its network. Outside AllowCallbacks it is https on port 443 or 8443 to a
// public address; inside, plain http and any port too. The address is checked when the connection is
// made, after the name was resolved: a name that first resolves to a public address and then to a
// private one is refused.
type CallbackDialer struct {
	AllowCallbacks []netip.Prefix // networks that may be reached although they are not public
	Resolver       *net.Resolver  // Default net.DefaultResolver.
	MaxIdle        int            // connections that a Client keeps for the next push, by http and by https each. Default: no limit.
}

// Client returns an HTTP client for pushes: it keeps connections alive, follows no redirect, uses no
// proxy from the environment, wants TLS 1.2 or newer, and never sends a request twice. It has no time
// limit of its own.
func (d CallbackDialer) Client() *http.Client {
	return &http.Client{
		Transport:     &callbackTransport{plain: d.transport("http"), secure: d.transport("https")},
		CheckRedirect: noRedirect,
	}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (d CallbackDialer) dialer(scheme string) *net.Dialer {
	return &net.Dialer{
		Timeout:  10 * time.Second, // with the resolution
		Resolver: d.Resolver,
		// A peer that vanished without a word is noticed here, not by the next push.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			return d.Check(scheme, address)
		},
	}
}

func (d CallbackDialer) transport(scheme string) *http.Transport {
	// HTTP/2 is left out: one batch is in flight at a time, and a timeout must end the connection.
	return &http.Transport{
		DialContext:            whileAsked(d.dialer(scheme).DialContext),
		DialTLSContext:         whileAsked(secured(d.dialer(scheme).DialContext, nil)),
		MaxIdleConns:           d.MaxIdle,
		MaxIdleConnsPerHost:    1000, // one for each subscription, for many may be at one host
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        64 << 10,
		DisableCompression:     true,
	}
}

type dial = func(ctx context.Context, network, address string) (net.Conn, error)

// asker is the key of the context of the request that a connection is made for.
type asker struct{}

// whileAsked gives up a connection that is not there when its request ends. http.Transport would go on with it, beside those
// of the requests that come next, and each takes a file.
func whileAsked(connect dial) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if asks, ok := ctx.Value(asker{}).(context.Context); ok {
			defer context.AfterFunc(asks, cancel)()
		}
		return connect(ctx, network, address)
	}
}

var errHandshake = errors.New("TLS handshake timeout")

// secured speaks TLS, with hosts that these roots vouch for (nil: the system's).
func secured(connect dial, roots *x509.CertPool) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := connect(ctx, network, address)
		if err != nil {
			return nil, err
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errHandshake)
		defer cancel()
		secure := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: roots})
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return nil, err
		}
		return secure, nil
	}
}

// Check says whether a push by this scheme may reach a resolved address, an IP and a port. It returns
// ErrCallback, wrapped, with what to do.
func (d CallbackDialer) Check(scheme, address string) error {
	to, err := netip.ParseAddrPort(address)
	ip := to.Addr().Unmap()
	within := func(p netip.Prefix) bool { return p.Contains(ip) }
	switch {
	case err != nil:
		return fmt.Errorf("%w: it is not an IP and a port", ErrCallback)
	case slices.ContainsFunc(d.AllowCallbacks, within): // none with a zone is
		return nil
	case !ip.IsGlobalUnicast() || slices.ContainsFunc(notPublic, within) || ip.Is6() && !internet6.Contains(ip):
		return errHidden
	case scheme != "https" || to.Port() != 443 && to.Port() != 8443:
		return fmt.Errorf("%w: %s by %s; outside allow_callbacks it must be https on port 443 or 8443", ErrCallback, to, scheme)
	}
	return nil
}

var internet6 = netip.MustParsePrefix("2000::/3")

// notPublic are the networks of the IANA special-purpose registries that IsGlobalUnicast lets pass. Those
// of IPv6 that embed an IPv4 address (6to4, Teredo) are among them; NAT64 is outside internet6.
var notPublic = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// callbackTransport has one transport for each scheme, because a dialer is not told which it serves.
type callbackTransport struct{ plain, secure *http.Transport }

func (t *callbackTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.WithContext(context.WithValue(r.Context(), asker{}, r.Context()))
	if r.URL.Scheme == "https" {
		return t.secure.RoundTrip(r)
	}
	return t.plain.RoundTrip(r)
}

func (t *callbackTransport) CloseIdleConnections() {
	t.plain.CloseIdleConnections()
	t.secure.CloseIdleConnections()
}
