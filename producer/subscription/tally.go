package subscription

import (
	"context"
	"time"

	"github.com/resosync/resosync/producer"
)

// tally counts subscriptions, so that a registration does not read all there are. changing is held by whoever uses it. It
// does not hear of those that their pushers cancel: then it counts too many, until it is taken anew.
type tally struct {
	at   time.Time         // when it was taken; zero: never
	open map[string]string // the clients of those not cancelled, by UUID
	own  map[string]int    // how many of these there are, by client
	kept map[string]int    // with the cancelled ones
}

// tallyAgain is how often a tally that leaves no room is taken anew, at most.
const tallyAgain = 10 * time.Second

// count takes the tally.
func (a *API) count(ctx context.Context) error {
	all, err := a.registrations(ctx)
	if err != nil {
		return err
	}
	states, err := a.states(ctx)
	if err != nil {
		return err
	}
	a.tally = tally{at: time.Now(), open: map[string]string{}, own: map[string]int{}, kept: map[string]int{}}
	for _, r := range all {
		a.tally.add(r)
		if states[r.UUID].Status == producer.Cancelled {
			a.tally.cancelled(r.UUID)
		}
	}
	return nil
}

func (t *tally) add(r *registration) {
	t.open[r.UUID] = r.Client
	t.own[r.Client]++
	t.kept[r.Client]++
}

func (t *tally) cancelled(uuid string) {
	client, open := t.open[uuid]
	if !open {
		return
	}
	delete(t.open, uuid)
	t.own[client]--
}
