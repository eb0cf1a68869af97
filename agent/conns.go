package main

import (
	"net"
	"net/http"
	"sync"
)

// freshConns are the connections on which nothing was asked yet. http.Server.Shutdown waits 5 s for each
// of them, though a client may keep one open for later for as long as it likes.
type freshConns struct {
	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// note suits http.Server.ConnState.
func (f *freshConns) note(c net.Conn, state http.ConnState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(f.conns, c)
	case f.closed:
		c.Close()
	default:
		if f.conns == nil {
			f.conns = map[net.Conn]bool{}
		}
		f.conns[c] = true
	}
}

// close closes them, and those that come later. It suits http.Server.RegisterOnShutdown.
func (f *freshConns) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for c := range f.conns {
		c.Close()
	}
}
