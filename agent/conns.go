package main

import (
	"container/list"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// conns are the connections of the server. Where there are more than there may be, one goes of the address that has most at
// rest: the one that was idle longest, or else waits for its peer longest. It is never one on which a request is being
// answered, or held.
type conns struct {
	most   int
	logger *slog.Logger

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]*conn
	rest   map[netip.Prefix]*resting // by address
	gone   int                       // closed since there were too many first; 0: there are not
}

// conn is one of them.
type conn struct {
	from  netip.Prefix
	idle  bool          // all that was asked is answered
	asked int           // requests under way
	waits int           // how many of them wait for the peer
	rest  *list.Element // nil: a request is being answered, or held
}

// resting are the connections of an address that are at rest, in the order in which they came to it.
type resting struct {
	idle    list.List // of net.Conn
	waiting list.List // those that wait for a request, or for the rest of one
}

func (r *resting) len() int { return r.idle.Len() + r.waiting.Len() }

// attend makes them those of a server.
func (s *conns) attend(server *http.Server) {
	server.ConnState = s.note
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, tellKey{}, func(asked, waits int) { s.tell(c, asked, waits) })
	}
	server.RegisterOnShutdown(s.close)
}

type tellKey struct{}

// tellOf returns what tells the connection of a request how many more are now under way on it, and wait for its peer.
func tellOf(r *http.Request) func(asked, waits int) {
	if tell, ok := r.Context().Value(tellKey{}).(func(asked, waits int)); ok {
		return tell
	}
	return func(int, int) {}
}

func (s *conns) tell(c net.Conn, asked, waits int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.open[c]
	if x == nil {
		return
	}
	x.asked += asked
	x.waits += waits
	switch {
	case x.idle: // HTTP/2: the peer gave up what is still under way
	case x.waits > 0 && x.waits >= x.asked:
		s.pause(c)
	default:
		s.wake(c)
	}
}

// note suits http.Server.ConnState.
func (s *conns) note(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		if s.closed {
			closeNow(c)
			return
		}
		if s.open == nil {
			s.open, s.rest = map[net.Conn]*conn{}, map[netip.Prefix]*resting{}
		}
		s.open[c] = &conn{from: prefixOf(addressOfConn(c))}
		s.pause(c)
		if len(s.open) > s.most {
			s.yield()
		}
	case http.StateIdle, http.StateActive:
		if x := s.open[c]; x != nil {
			s.wake(c)
			if x.idle = state == http.StateIdle; x.idle {
				s.pause(c)
			}
		}
	case http.StateClosed, http.StateHijacked:
		s.wake(c)
		delete(s.open, c)
		if s.gone > 0 && len(s.open) < s.most/2 {
			s.logger.Info("connections are fewer again", "closed", s.gone)
			s.gone = 0
		}
	}
}

// pause notes that a connection waits for what its peer sends next.
func (s *conns) pause(c net.Conn) {
	x := s.open[c]
	if x == nil || x.rest != nil {
		return
	}
	of := s.rest[x.from]
	if of == nil {
		of = new(resting)
		s.rest[x.from] = of
	}
	if x.idle {
		x.rest = of.idle.PushBack(c)
	} else {
		x.rest = of.waiting.PushBack(c)
	}
}

// wake ends what pause began.
func (s *conns) wake(c net.Conn) {
	x := s.open[c]
	if x == nil || x.rest == nil {
		return
	}
	of := s.rest[x.from]
	of.idle.Remove(x.rest) // of the list that has it
	of.waiting.Remove(x.rest)
	x.rest = nil
	if of.len() == 0 {
		delete(s.rest, x.from)
	}
}

// yield closes one. There is one at rest: the newest.
func (s *conns) yield() {
	var most *resting
	for _, of := range s.rest {
		if most == nil || of.len() > most.len() {
			most = of
		}
	}
	first := most.idle.Front()
	if first == nil {
		first = most.waiting.Front()
	}
	c := first.Value.(net.Conn)
	s.wake(c)
	delete(s.open, c)
	closeNow(c)
	if s.gone++; s.gone == 1 {
		s.logger.Warn("as many connections are open as may be: those at rest are closed, the oldest of the address that has most; a higher limit of open files permits more", "most", s.most)
	}
}

// close closes those on which no request is under way, and those that come later. It suits
// http.Server.RegisterOnShutdown: http.Server.Shutdown waits 5 s for each on which nothing was asked yet, though a client may
// keep one open for as long as it likes.
func (s *conns) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c, x := range s.open {
		if x.rest != nil && x.asked == 0 {
			closeNow(c)
		}
	}
}

// closeNow closes a connection without the last word of TLS, which may have to wait for the peer.
func closeNow(c net.Conn) {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	c.Close()
}

// addressOfConn is the peer's.
func addressOfConn(c net.Conn) netip.Addr {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}
