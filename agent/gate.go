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
	admin     string              // the admin token
	clients   map[string][]string // scopes of the clients in the configuration
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
	token, err := g.authority.Verify(r.Context(), signed, bearer.API)
	if err != nil {
		return producer.Client{}, err
	}
	scopes, known := g.clients[token.Client]
	if !known {
		return producer.Client{}, fmt.Errorf("%w: its client is not in the configuration", bearer.ErrUnauthorized)
	}
	if !token.Has(scope) || !slices.Contains(scopes, scope) {
		return producer.Client{}, fmt.Errorf("%w: it needs the scope %s", producer.ErrForbidden, scope)
	}
	return producer.Client{Name: token.Client, Mask: entityevent.Everyone}, nil
}

func (g gate) isAdmin(token string) bool {
	return token != "" && subtle.ConstantTimeCompare([]byte(token), []byte(g.admin)) == 1
}
