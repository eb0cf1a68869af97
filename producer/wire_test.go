package producer_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resosync/resosync/producer"
)

// wire is a network without sockets, for tests in a bubble: at the other end of each connection stands
// the peer.
type wire struct {
	peer  func(*end)
	fails func(ctx context.Context, address string) error // of dialling; nil: it does not fail

	mu       sync.Mutex
	ends     []*end
	attempts []attempt
}

// attempt is a request that left, or tried to.
type attempt struct {
	at    time.Time
	url   string
	token string
}

// end is the subscriber's end of a connection.
type end struct {
	net.Conn
	in      *bufio.Reader
	address string        // that was dialled
	left    chan struct{} // closed when the other side is; nil on a real connection
	written atomic.Int64  // bytes that the other side took
}

func newEnd(c net.Conn) *end { return &end{Conn: c, in: bufio.NewReader(c)} }

func (e *end) Write(p []byte) (int, error) {
	n, err := e.Conn.Write(p)
	e.written.Add(int64(n))
	return n, err
}

// request reads the next request whole; nil: the other side is gone.
func (e *end) request() *http.Request {
	r, err := http.ReadRequest(e.in)
	if err != nil {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return r
}

// gone blocks until the other side closes the connection.
func (e *end) gone() {
	_, _ = io.Copy(io.Discard, e.in)
}

func (w *wire) dial(ctx context.Context, _, address string) (net.Conn, error) {
	if w.fails != nil {
		if err := w.fails(ctx, address); err != nil {
			return nil, err
		}
	}
	here, there := net.Pipe()
	e := newEnd(there)
	e.address, e.left = address, make(chan struct{})
	w.mu.Lock()
	w.ends = append(w.ends, e)
	w.mu.Unlock()
	go func() {
		defer there.Close()
		w.peer(e)
	}()
	return &leaving{Conn: here, left: sync.OnceFunc(func() { close(e.left) })}, nil
}

// leaving tells the other end that it was closed.
type leaving struct {
	net.Conn
	left func()
}

func (l *leaving) Close() error {
	l.left()
	return l.Conn.Close()
}

// client pushes over the wire, and notes what it does.
func (w *wire) client(t testing.TB, roots *x509.CertPool) *http.Client {
	client := producer.ClientOver(w.dial, roots)
	t.Cleanup(client.CloseIdleConnections)
	return &http.Client{Transport: noting{w, client.Transport}, CheckRedirect: client.CheckRedirect}
}

// noting notes each request before it is sent.
type noting struct {
	*wire
	next http.RoundTripper
}

func (n noting) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	n.attempts = append(n.attempts, attempt{time.Now(), r.URL.String(), r.Header.Get("Authorization")})
	n.mu.Unlock()
	return n.next.RoundTrip(r)
}

func (w *wire) tried() []attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]attempt(nil), w.attempts...)
}

// taken is how many bytes the pusher took of the answers.
func (w *wire) taken() (n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.ends {
		n += e.written.Load()
	}
	return n
}

// answers reads requests and answers each with the text, as it is.
func answers(text string) func(*end) {
	return func(e *end) {
		for e.request() != nil {
			if _, err := io.WriteString(e, text); err != nil {
				return
			}
		}
	}
}

// says answers with a status line, headers and an empty body, well-formed.
func says(statusLine string, headers ...string) func(*end) {
	text := "HTTP/1.1 " + statusLine + "\r\n"
	for _, h := range headers {
		text += h + "\r\n"
	}
	if statusLine[:3] != "204" && statusLine[:3] != "304" {
		text += "Content-Length: 0\r\n"
	}
	return answers(text + "\r\n")
}

// cut reads a request, answers with the text and closes the connection.
func cut(text string) func(*end) {
	return func(e *end) {
		if e.request() != nil {
			_, _ = io.WriteString(e, text)
		}
	}
}

// hangs reads a request, answers with the text and says no more.
func hangs(text string) func(*end) {
	return func(e *end) {
		if e.request() != nil {
			_, _ = io.WriteString(e, text)
		}
		e.gone()
	}
}

// once answers the first request of a connection alone.
func once(text string) func(*end) {
	return func(e *end) {
		if e.request() != nil {
			_, _ = io.WriteString(e, text)
		}
		hangs("")(e)
	}
}

// drips answers with the text, and then with the same piece over and over, at an interval.
func drips(text, piece string, every time.Duration) func(*end) {
	return func(e *end) {
		if e.request() != nil {
			drip(e, text, piece, every)
		}
	}
}

func drip(e *end, text, piece string, every time.Duration) {
	_, err := io.WriteString(e, text)
	for err == nil {
		select {
		case <-time.After(every):
		case <-e.left:
			return
		}
		_, err = io.WriteString(e, piece)
	}
}

// secure answers over TLS, with a certificate for a name and a time.
func secure(c tls.Certificate, oldest, newest uint16, peer func(*end)) func(*end) {
	return func(e *end) {
		out := make(chan []byte, 100)
		sent := make(chan struct{})
		defer func() { close(out); <-sent }()
		go func() {
			defer close(sent)
			for p := range out {
				_, _ = e.Conn.Write(p)
			}
		}()
		conn := tls.Server(unhurried{e.Conn, out}, &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: oldest, MaxVersion: newest})
		inner := newEnd(conn)
		inner.left = e.left
		peer(inner)
	}
}

// unhurried does not wait for the other side to read: TLS expects what a kernel's buffers do.
type unhurried struct {
	net.Conn
	out chan<- []byte
}

func (u unhurried) Write(p []byte) (int, error) {
	u.out <- slices.Clone(p)
	return len(p), nil
}

// certificate makes a certificate that is its own authority.
func certificate(t testing.TB, name string, until time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: until.Add(-365 * 24 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}
