package subscription

import (
	"context"
	"slices"

	"github.com/resosync/resosync/producer"
)

// Standing is a registered subscription that is not cancelled: without callback URL, token, secret and how it is pushed
// to. One whose client is no longer in the configuration sees nothing.
type Standing struct {
	producer.Subscription
	State *producer.SubscriptionState // not to be changed
}

// Registered are all subscriptions that clients registered, as of a moment.
type Registered struct {
	Standing  []Standing // the oldest first
	Cancelled int
	// Others are the names of the states in the store that were not registered, as the last Sweep found them.
	Others []string
}

// Registered returns what was registered. Only the first time it reads the store.
func (a *API) Registered(ctx context.Context) (all Registered, err error) {
	err = a.known(ctx, func(t *tally) {
		all = Registered{Standing: make([]Standing, 0, t.open), Cancelled: len(t.all) - t.open, Others: slices.Clone(t.others)}
		for _, e := range t.all {
			if e.state == nil {
				continue
			}
			client, _ := a.Clients(e.client)
			s := producer.Subscription{Name: e.uuid, Client: e.client, Mask: client.Mask, Profile: client.Profile, Feed: a.Feed, EventTypes: e.types}
			all.Standing = append(all.Standing, Standing{s, e.state})
		}
	})
	return all, err
}
