package subscription

import (
	"context"

	"github.com/resosync/resosync/producer"
)

// Registered returns what clients registered, cancelled ones too, by UUID: without callback URLs, tokens and secrets. One
// whose client is no longer in the configuration sees nothing.
func (a *API) Registered(ctx context.Context) (map[string]producer.Subscription, error) {
	all, err := a.registrations(ctx)
	if err != nil {
		return nil, err
	}
	found := make(map[string]producer.Subscription, len(all))
	for _, r := range all {
		client, _ := a.Clients(r.Client)
		found[r.UUID] = a.subscription(r, client, settings{BatchSize: r.BatchSize, Timeout: r.Timeout})
	}
	return found, nil
}
