package consumer_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
)

// pipes is a network in memory with connections that can be cut off without an end: nothing arrives on
// either side any more, and nobody is told.
type pipes struct {
	accept chan net.Conn
	done   chan struct{}
	once   sync.Once

	mu    sync.Mutex
	conns []*pipe // of all dials
}

func newPipes() *pipes { return &pipes{accept: make(chan net.Conn), done: make(chan struct{})} }

// serve runs a server until the test stops it.
func (p *pipes) serve(t *testing.T, h http.Handler) (stop func()) {
	t.Helper()
	s := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = s.Serve(p)
	}()
	return func() {
		_ = s.Close()
		<-over
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.IPAddr{} }

// dial suits http.Transport.DialContext.
func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.accept <- far:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c := &pipe{Conn: near, gone: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
	return c, nil
}

// dialled returns the connections so far.
func (p *pipes) dialled() []*pipe {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*pipe(nil), p.conns...)
}

// stall cuts off all connections that there are.
func (p *pipes) stall() {
	for _, c := range p.dialled() {
		c.mu.Lock()
		c.stalled = true
		c.mu.Unlock()
	}
}

type pipe struct {
	net.Conn
	gone chan struct{} // closed with the connection
	once sync.Once

	mu      sync.Mutex
	stalled bool
}

func (c *pipe) isStalled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stalled
}

func (c *pipe) isClosed() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

func (c *pipe) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.isStalled() {
		<-c.gone
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *pipe) Write(p []byte) (int, error) {
	if c.isStalled() {
		return len(p), nil // it waits in a buffer of the system
	}
	return c.Conn.Write(p)
}

func (c *pipe) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}
