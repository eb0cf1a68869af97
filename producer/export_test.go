package producer

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
)

// ClientOver is the client of pushes over another network, which trusts these roots (nil: the system's).
func ClientOver(dial func(ctx context.Context, network, address string) (net.Conn, error), roots *x509.CertPool) *http.Client {
	client := CallbackDialer{}.Client()
	t := client.Transport.(*callbackTransport)
	t.plain.DialContext, t.secure.DialTLSContext = whileAsked(dial), whileAsked(secured(dial, roots))
	return client
}

// Verdict names what the delivery policy makes of a status.
func Verdict(status int) string { return outcomes[judge(status)] }

// Proxied says whether a client of pushes may go through a proxy.
func Proxied(c *http.Client) bool {
	t := c.Transport.(*callbackTransport)
	return t.plain.Proxy != nil || t.secure.Proxy != nil
}

// WithProxy is what Proxied is there to find.
func WithProxy(c *http.Client, proxy func(*http.Request) (*url.URL, error)) *http.Client {
	c.Transport.(*callbackTransport).plain.Proxy = proxy
	return c
}
