package main

import (
	"container/list"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/entityevent/bearer"
)

// What an address may try without a token that is accepted, and how many addresses are remembered: the one
// that tried least lately is forgotten first, and is then as good as one that never did.
const (
	strangerRate  = 10 // a second: a secret of 256 bits is not guessed, but each try costs time
	strangerBurst = 600
	strangers     = 10_000
)

// rates limits requests: of clients as the configuration says, of strangers by their address.
type rates struct {
	clients map[string]*rate.Limiter // those with a limit

	mu       sync.Mutex
	byPrefix map[netip.Prefix]*list.Element
	used     list.List // newest first
}

type stranger struct {
	prefix  netip.Prefix
	limiter *rate.Limiter
}

func newRates(c *config.Config) *rates {
	all := &rates{clients: map[string]*rate.Limiter{}, byPrefix: map[netip.Prefix]*list.Element{}}
	if c.Producer != nil {
		for _, client := range c.Producer.Clients {
			if r := float64(client.Limits.Rate); r > 0 {
				all.clients[client.Name] = rate.NewLimiter(rate.Limit(r), max(1, int(math.Ceil(r))))
			}
		}
	}
	return all
}

// look is what became of a request's token.
type look struct {
	token bearer.Token
	err   error
}

// wait is how long the one who asks has to wait; 0: the request may go on. It looks at the token, once for
// all who come after it. A request that is held for long counts when it comes.
func (a *rates) wait(g gate, r *http.Request, v *visit) time.Duration {
	audience, private := audienceOf(r.URL.EscapedPath(), v.here)
	if !private {
		return 0
	}
	if under(r.URL.EscapedPath(), "/oauth") {
		return a.stranger(v.address)
	}
	signed := bearer.FromHeader(r.Header)
	if audience == bearer.API && g.isAdmin(signed) {
		v.client = adminClient.Name
		return 0
	}
	token, err := g.authority.Verify(r.Context(), signed, audience)
	if audience == bearer.API {
		v.looked = &look{token, err}
		if _, known := g.clients[token.Client]; err == nil && !known {
			err = bearer.ErrUnauthorized
		}
	}
	switch {
	case errors.Is(err, bearer.ErrUnauthorized):
		return a.stranger(v.address)
	case err != nil:
		return 0 // the one who answers says it
	}
	v.client = token.Client
	if limiter := a.clients[token.Client]; limiter != nil && audience == bearer.API {
		return waitOf(limiter)
	}
	return 0
}

// audienceOf says for whom the tokens of a path are, and whether it wants any.
func audienceOf(path string, here bool) (audience string, private bool) {
	if feed, ok := strings.CutPrefix(path, "/webhooks/"); ok {
		return bearer.Push(strings.TrimSuffix(feed, "/")), true
	}
	// Whoever knows one of these URLs may use it: it was given to them.
	if under(path, "/2.0/realtime") || strings.HasPrefix(path, "/api/sessions/") && len(path) > len("/api/sessions/") {
		return "", false
	}
	switch path = strings.TrimSuffix(path, "/"); path {
	case "", "/healthz", "/readyz", "/openapi.json":
		return "", false
	case "/metrics":
		return bearer.API, !here
	}
	return bearer.API, true
}

// prefixOf is what counts as one address. Of IPv6 it is a whole /64: whoever has one has all of it.
func prefixOf(from netip.Addr) netip.Prefix {
	bits := 32
	if from.Is6() {
		bits = 64
	}
	prefix, _ := from.Prefix(bits) // that of no address is the zero prefix: all unknown ones share it
	return prefix
}

// stranger is how long an address has to wait that shows no token that is accepted.
func (a *rates) stranger(from netip.Addr) time.Duration {
	prefix := prefixOf(from)
	a.mu.Lock()
	defer a.mu.Unlock()
	at, known := a.byPrefix[prefix]
	if known {
		a.used.MoveToFront(at)
	} else {
		at = a.used.PushFront(stranger{prefix, rate.NewLimiter(strangerRate, strangerBurst)})
		a.byPrefix[prefix] = at
		if a.used.Len() > strangers {
			delete(a.byPrefix, a.used.Remove(a.used.Back()).(stranger).prefix)
		}
	}
	return waitOf(at.Value.(stranger).limiter)
}

// waitOf takes one request from a limiter, or says when it could.
func waitOf(l *rate.Limiter) time.Duration {
	taken := l.Reserve()
	wait := taken.Delay()
	if wait > 0 {
		taken.Cancel()
	}
	return wait
}

// wholeSeconds writes a wait for Retry-After, which is never too short.
func wholeSeconds(wait time.Duration) string {
	return strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
}
