// Package subscription is the HTTP interface by which clients register webhooks for events, and look after them.
//
// It promises that a registration and where it begins are stored together before it is answered, that only its owner, or
// the agent's own people, see or change it, that what its owner cancelled is never pushed to again, and that the
// callback's URL, its token and its secret are encrypted in the store and appear nowhere else.
package subscription

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/entityevent/seal"
	"github.com/resosync/resosync/producer"
)

// Pushers run the registered subscriptions. Neither method blocks.
type Pushers interface {
	// Start begins to push to a subscription. One of that name that runs already ends first.
	Start(s producer.Subscription)
	// Wake makes the pusher of a subscription look at its state now, if there is one.
	Wake(name string)
}

// API answers /event-types, /subscriptions and what is below. It may be used concurrently; of one store only one is
// in use at a time. Store, Gate, Clients, Schema, Seal and Pushers are required.
type API struct {
	Store     producer.Store // all that changes subscriptions while this is in use goes Through it
	Gate      producer.Gate
	Clients   func(name string) (producer.Client, bool) // of the configuration, as they are now
	Feed      string                                    // whose events are pushed. Default entityevent.Local.
	Schema    *producer.Schema                          // of that feed
	Callbacks producer.CallbackDialer                   // decides where pushes may go
	Seal      seal.Key
	Fixed     []producer.Subscription // of the configuration: their EventTypes are pushed to them alone
	Pushers   Pushers
	Root      string       // public URL of the agent, without a slash at its end. Default "": Locations are relative.
	Logger    *slog.Logger // Default: discards.

	// changing is held from before a change is committed until its pusher was told: what the Pushers hear last is what
	// was stored last. The pushers' own changes meet these by compare-and-set.
	changing sync.Mutex
	tally    tallied
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	x := &exchange{API: a, w: w, r: r}
	x.serve(x.route)
}

// exchange is one request and its answer.
type exchange struct {
	*API
	w    http.ResponseWriter
	r    *http.Request
	who  caller
	uuid string // that the path names
}

// caller is who asks.
type caller struct {
	producer.Client
	admin bool // may see and change what is others'
}

// serve answers with the error, if there is one.
func (x *exchange) serve(answer func() error) {
	if err := answer(); err != nil {
		producer.Refuse(x.w, x.r, err, x.Logger)
	}
}

func (x *exchange) route() error {
	if err := x.admit(); err != nil {
		return err
	}
	path := strings.TrimSuffix(strings.TrimPrefix(x.r.URL.EscapedPath(), "/"), "/")
	parts := strings.Split(path, "/")
	if len(parts) > 1 {
		x.uuid = strings.ToLower(parts[1])
	}
	switch {
	case path == "event-types":
		x.methods(map[string]func() error{http.MethodGet: x.eventTypes})
	case parts[0] == "event-types" && len(parts) == 2:
		x.methods(map[string]func() error{http.MethodGet: func() error { return x.eventType(parts[1]) }})
	case path == "subscriptions":
		x.methods(map[string]func() error{http.MethodGet: x.list, http.MethodPost: x.register})
	case parts[0] == "subscriptions" && len(parts) == 2 && x.uuid != "":
		x.methods(map[string]func() error{http.MethodGet: x.read, http.MethodPost: x.activate, http.MethodPut: x.put,
			http.MethodPatch: x.patch, http.MethodDelete: x.remove})
	case parts[0] == "subscriptions" && len(parts) == 3 && parts[2] == "resume":
		x.methods(map[string]func() error{http.MethodPost: x.resume})
	default:
		return refuse(http.StatusNotFound, "There is nothing here: GET / names what is")
	}
	return nil
}

func (x *exchange) methods(methods map[string]func() error) {
	handlers := map[string]http.HandlerFunc{}
	for method, answer := range methods {
		handlers[method] = func(http.ResponseWriter, *http.Request) { x.serve(answer) }
	}
	reply.Serve(x.w, x.r, handlers)
}

// admit finds out who asks.
func (x *exchange) admit() (err error) {
	if x.who.Client, err = x.Gate.Admit(x.r, bearer.ScopeSubscribe); err != nil {
		return err
	}
	_, err = x.Gate.Admit(x.r, bearer.ScopeAdmin)
	x.who.admin = err == nil
	if errors.Is(err, producer.ErrForbidden) {
		return nil
	}
	return err
}

// owner is for whom the request asks: the client itself or, with the admin token, the one that it names.
func (x *exchange) owner() (producer.Client, error) {
	name := x.r.URL.Query().Get("client")
	if name == "" || name == x.who.Name {
		if _, known := x.Clients(x.who.Name); !known {
			return producer.Client{}, refuse(http.StatusForbidden, "This token is no client's: say for which client this is, by ?client=NAME")
		}
		return x.who.Client, nil
	}
	if !x.who.admin {
		return producer.Client{}, refuse(http.StatusForbidden, "Only the admin token may act for another client than its own: name none")
	}
	client, known := x.Clients(name)
	if !known {
		return producer.Client{}, refuse(http.StatusForbidden, "There is no client of this name in the configuration: add it to producer.clients first")
	}
	return client, nil
}

func (a *API) view(client producer.Client) entityevent.View {
	if a.Feed == "" {
		return entityevent.View{Feed: entityevent.Local, Mask: client.Mask}
	}
	return entityevent.View{Feed: a.Feed, Mask: client.Mask}
}

func refuse(status int, detail string) *reply.Error {
	return &reply.Error{Status: status, Detail: detail}
}

// answer sends a document, as HAL or plain JSON.
func (x *exchange) answer(status int, document any) error {
	reply.Write(x.w, status, reply.Preferred(x.r.Header, reply.HAL, reply.JSON), document)
	return nil
}
