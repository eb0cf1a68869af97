package producer

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
)

// ClientOver is the client of pushes over another network, which trusts these roots (nil: the system's).
func ClientOver(dial func(ctx context.Context, network, address string) (net.Conn, error), roots *x509.CertPool) *http.Client {
	client := CallbackDialer{}.Client()
	t := client.Transport.(*callbackTransport)
	t.plain.DialContext, t.secure.DialContext = dial, dial
	t.secure.TLSClientConfig.RootCAs = roots
	return client
}

// Verdict names what the delivery policy makes of a status.
func Verdict(status int) string { return outcomes[judge(status)] }

// ClientAsking is the client of pushes that asks this resolver.
func (d CallbackDialer) ClientAsking(r *net.Resolver) *http.Client {
	client := d.Client()
	t := client.Transport.(*callbackTransport)
	plain, secure := d.dialer("http"), d.dialer("https")
	plain.Resolver, secure.Resolver = r, r
	t.plain.DialContext, t.secure.DialContext = plain.DialContext, secure.DialContext
	return client
}
