package subscription

import (
	"context"

	"github.com/resosync/resosync/producer"
)

// Active returns all registered subscriptions that want a pusher, for the agent's start: also suspended ones, which
// go on when they are resumed. One whose client is no longer in the configuration, or whose secrets cannot be opened, or
// whose event types now belong to an endpoint of the configuration, is suspended with that reason instead.
func (a *API) Active(ctx context.Context) ([]producer.Subscription, error) {
	return nil, nil
}

// Sweep forgets what was cancelled 30 days ago, and the idempotency keys of yesterday. It may run beside all else; what
// it could not do the next one does.
func (a *API) Sweep(ctx context.Context) error {
	return nil
}

// SuspendClient suspends all subscriptions of a client that are not cancelled, with a reason for people, and returns their
// names. It is durable when it returns.
func (a *API) SuspendClient(ctx context.Context, client, reason string) ([]string, error) {
	return nil, nil
}
