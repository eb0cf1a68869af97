package consumer_test

import (
	"context"
	"errors"
	"testing"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
)

// tripping is a store that dies once, where a commit would set a record aside.
type tripping struct {
	consumer.Store
	tripped bool
}

func (s *tripping) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	if len(c.Aside) > 0 && !s.tripped {
		s.tripped = true
		return nil, errors.New("no power")
	}
	return s.Store.Apply(ctx, c)
}

// A load that stops before a record that it cannot store was set aside reads its page again: the
// checkpoint never passes a record that is neither stored nor visibly set aside.
func TestCheckpointWaitsForWhatIsSetAside(t *testing.T) {
	src := filled("log-1/all", 10)
	src.store("Property", "P0004", `{"ListingKey":"P0004","ListPrice":1,"ListPrice":2}`)
	f := newFeed(t, to(src), "Property")
	store := &tripping{Store: f.Store}
	f.Store = store
	if err := f.Sync(t.Context(), consumer.SyncOptions{}, nil); err == nil || !store.tripped {
		t.Fatalf("the load was not cut: %v", err)
	}
	again := &consumer.Feed{Name: f.Name, URL: f.URL, Resources: f.Resources, HTTP: f.HTTP, Store: store.Store} // after the restart
	if err := again.Sync(t.Context(), consumer.SyncOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if n := status(t, again).Aside; n != 1 {
		t.Errorf("%d records set aside, want the one that cannot be stored", n)
	}
}
