package main

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/producer"
)

// gate admits clients by their bearer tokens, and the commands of this machine by the admin token. It
// implements producer.Gate.
type gate struct {
	authority *bearer.Authority
	admin     string            // the admin token
	clients   map[string]access // of the clients in the configuration
}

// access is what a client of the configuration may do and see.
type access struct {
	scopes  []string
	profile string // "": it sees everything
	mask    entityevent.Mask
	// Of a profile:
	resources []string
	hide      map[string][]string
	inline    map[string]string
	rules     string
}

// adminClient is who holds the admin token: it may do everything.
var adminClient = producer.Client{Name: "admin", Mask: entityevent.Everyone}

// Admit returns the client whose token the request carries, if that token and the configuration both
// give the scope; a client that is no longer in the configuration is not admitted.
func (g gate) Admit(r *http.Request, scope string) (producer.Client, error) {
	signed := bearer.FromHeader(r.Header)
	if g.isAdmin(signed) {
		return adminClient, nil
	}
	token, err := g.verify(r, signed)
	if err != nil {
		return producer.Client{}, err
	}
	client, known := g.client(token.Client)
	if !known {
		return producer.Client{}, fmt.Errorf("%w: its client is not in the configuration", bearer.ErrUnauthorized)
	}
	if !token.Has(scope) || !slices.Contains(g.clients[token.Client].scopes, scope) {
		return producer.Client{}, fmt.Errorf("%w: it needs the scope %s", producer.ErrForbidden, scope)
	}
	return client, nil
}

// client returns a client of the configuration.
func (g gate) client(name string) (producer.Client, bool) {
	may, known := g.clients[name]
	return may.client(name), known
}

// client is one who sees what a allows.
func (a access) client(name string) producer.Client {
	return producer.Client{Name: name, Profile: a.profile, Mask: a.mask, Resources: a.resources, Hide: a.hide, Inline: a.inline, Rules: a.rules}
}

// verify looks at the token, unless that was done when the request came. What was found then is not kept: the
// request may be held for long, beside many others.
func (g gate) verify(r *http.Request, signed string) (bearer.Token, error) {
	if v := visitOf(r.Context()); v != nil && v.looked != nil {
		found := v.looked
		v.looked = nil
		return found.token, found.err
	}
	return g.authority.Verify(r.Context(), signed, bearer.API)
}

func (g gate) isAdmin(token string) bool {
	return token != "" && subtle.ConstantTimeCompare([]byte(token), []byte(g.admin)) == 1
}
