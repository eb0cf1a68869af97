// Package subscription is the HTTP interface by which clients register webhooks for events, and look after them.
//
// It promises that a registration and where it begins are stored together before it is answered, that only its owner, or
// the agent's own people, see or change it, that what its owner cancelled is never pushed to again, and that the
// callback's URL, its token and its secret are encrypted in the store and appear nowhere else.
package subscription

import (
	"log/slog"
	"net/http"

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
	Store     producer.Store
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
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	http.NotFound(w, r)
}
