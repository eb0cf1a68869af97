package main

import (
	"container/list"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// conns are the connections of the server. Where there are more than there may be, the one goes that was at rest longest, of
// the address that has most at rest: never one on which a request is being answered, or held.
type conns struct {
	most   int
	logger *slog.Logger

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]*conn
	rest   map[netip.Prefix]*list.List // of net.Conn; by address, in the order in which they came to rest
	gone   int                         // closed since there were too many first; 0: there are not
}

// conn is one of them.
type conn struct {
	from netip.Prefix
	rest *list.Element // nil: a request is under way
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
			s.open, s.rest = map[net.Conn]*conn{}, map[netip.Prefix]*list.List{}
		}
		s.open[c] = &conn{from: prefixOf(addressOfConn(c))}
		s.pause(c)
		if len(s.open) > s.most {
			s.yield()
		}
	case http.StateIdle:
		s.pause(c)
	case http.StateActive:
		s.wake(c)
	case http.StateClosed, http.StateHijacked:
		s.wake(c)
		delete(s.open, c)
		if s.gone > 0 && len(s.open) < s.most/2 {
			s.logger.Info("connections are fewer again", "closed", s.gone)
			s.gone = 0
		}
	}
}

// pause notes that nothing was asked on a connection yet, or nothing more.
func (s *conns) pause(c net.Conn) {
	x := s.open[c]
	if x == nil || x.rest != nil {
		return
	}
	if s.rest[x.from] == nil {
		s.rest[x.from] = list.New()
	}
	x.rest = s.rest[x.from].PushBack(c)
}

// wake ends what pause began.
func (s *conns) wake(c net.Conn) {
	x := s.open[c]
	if x == nil || x.rest == nil {
		return
	}
	of := s.rest[x.from]
	of.Remove(x.rest)
	x.rest = nil
	if of.Len() == 0 {
		delete(s.rest, x.from)
	}
}

// yield closes one. There is one at rest: the newest.
func (s *conns) yield() {
	var most *list.List
	for _, of := range s.rest {
		if most == nil || of.Len() > most.Len() {
			most = of
		}
	}
	c := most.Front().Value.(net.Conn)
	s.wake(c)
	delete(s.open, c)
	closeNow(c)
	if s.gone++; s.gone == 1 {
		s.logger.Warn("as many connections are open as may be: those at rest are closed, the oldest of the address that has most; a higher limit of open files permits more", "most", s.most)
	}
}

// close closes those at rest, and those that come later. It suits http.Server.RegisterOnShutdown: http.Server.Shutdown
// waits 5 s for each on which nothing was asked yet, though a client may keep one open for as long as it likes.
func (s *conns) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, of := range s.rest {
		for at := of.Front(); at != nil; at = at.Next() {
			closeNow(at.Value.(net.Conn))
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
