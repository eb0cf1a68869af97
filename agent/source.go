package main

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// source is where a request comes from.
type source struct {
	address netip.Addr // of who asks, behind proxies that are believed; zero: not known
	trusted bool       // a proxy that is believed passed it on
	here    bool       // it was made on this machine
}

func (s source) text() string {
	if !s.address.IsValid() {
		return ""
	}
	return s.address.String()
}

// proxies are the networks of those that are believed when they say for whom they ask.
type proxies []netip.Prefix

func (p proxies) trust(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(n netip.Prefix) bool { return n.Contains(a) })
}

// source looks at the connection and, if its peer is believed, at what it says. Of a chain of addresses the
// last one that is no believed proxy counts, for whoever asked may have written those before it.
func (p proxies) source(r *http.Request) source {
	var peer netip.Addr
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		peer = at.Addr().Unmap().WithZone("")
	}
	passedOn := slices.ContainsFunc([]string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"}, func(name string) bool { return r.Header.Get(name) != "" })
	if !p.trust(peer) {
		return source{address: peer, here: peer.IsLoopback() && !passedOn}
	}
	address := peer
	if first, ok := p.first(r.Header); ok {
		address = first
	} else if passedOn {
		return source{address: peer, trusted: true} // for whom it asks cannot be told
	}
	return source{address: address, trusted: true, here: peer.IsLoopback() && address.IsLoopback()}
}

// first is the address for which the believed proxies ask. If they speak in several ways and not alike, one
// of these may be the visitor's own invention, which a proxy that speaks in another way passes on. X-Real-Ip
// alone does not tell for whom a proxy asks: it names no chain.
func (p proxies) first(h http.Header) (netip.Addr, bool) {
	plain := func(text string) string { return text }
	a, listed := p.last(elements(h, "X-Forwarded-For"), plain)
	b, named := p.last(elements(h, "Forwarded"), forwardedFor)
	if !listed {
		a = b
	} else if named && a != b {
		return a, false
	}
	real, told := p.last(elements(h, "X-Real-Ip"), plain)
	return a, a.IsValid() && (!told || real == a || p.trust(real)) // that of a proxy before it
}

// last is the last address of a chain that is no believed proxy, or the first of all; zero if it is not an
// address. It is false without a chain.
func (p proxies) last(chain []string, addressOf func(string) string) (a netip.Addr, ok bool) {
	for _, element := range slices.Backward(chain) {
		ok = true
		if a = parseAddress(addressOf(element)); !p.trust(a) {
			return a, true
		}
	}
	return a, ok
}

// elements are those of a header that may stand there several times.
func elements(h http.Header, name string) []string {
	values := h.Values(name)
	if len(values) == 0 {
		return nil
	}
	return strings.Split(strings.Join(values, ","), ",")
}

// forwardedFor is the parameter for of an element of Forwarded (RFC 7239).
func forwardedFor(element string) string {
	for _, pair := range strings.Split(element, ";") {
		if name, value, _ := strings.Cut(strings.TrimSpace(pair), "="); strings.EqualFold(name, "for") {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// parseAddress reads an address with or without a port: 192.0.2.1:80, [2001:db8::1]:80. Zero: it is none.
func parseAddress(text string) netip.Addr {
	text = strings.TrimSpace(text)
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr().Unmap().WithZone("")
	}
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}
