package chaos

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// conn is one connection to the proxy.
type conn struct {
	net.Conn
	proxy  *Proxy
	frozen atomic.Bool
}

type connKey struct{}

// Read drops what arrives on a frozen connection.
func (c *conn) Read(b []byte) (int, error) {
	for {
		if n, err := c.Conn.Read(b); err != nil || !c.frozen.Load() {
			return n, err
		}
	}
}

// Write takes what is sent on a frozen connection, and sends nothing.
func (c *conn) Write(b []byte) (int, error) {
	if c.frozen.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// Close leaves a frozen connection open, for its end would tell the other side: what arrives there goes on
// being dropped until that side closes it, or the proxy ends.
func (c *conn) Close() error {
	if !c.frozen.Load() {
		return c.end()
	}
	c.proxy.late.Go(func() {
		_ = c.SetDeadline(time.Time{}) // the server set one
		_, _ = c.Read(make([]byte, 4096))
		_ = c.end()
	})
	return nil
}

func (c *conn) end() error {
	c.proxy.mu.Lock()
	delete(c.proxy.conns, c)
	c.proxy.mu.Unlock()
	return c.Conn.Close()
}

// tracked notes the connections that it accepts.
type tracked struct {
	net.Listener
	proxy *Proxy
}

func (l *tracked) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, proxy: l.proxy}
	l.proxy.mu.Lock()
	l.proxy.conns[c] = true
	l.proxy.mu.Unlock()
	return c, nil
}

// known makes the connection of a request known to its handler.
func known(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}
