package subscription_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// pushes changes where a subscription stands as its pusher does.
func (x *rig) pushes(store producer.Store, name string, to func(*producer.SubscriptionState)) {
	x.Helper()
	if _, err := producer.ChangeState(x.Context(), store, name, func(s *producer.SubscriptionState) ([]entityevent.Doc, error) {
		to(s)
		return nil, nil
	}); err != nil {
		x.Error(err)
	}
}

// lists is a store in which something happens while all documents of a kind are read.
type lists struct {
	producer.Store
	meanwhile func(kind string)
}

func (s *lists) List(ctx context.Context, kind string) ([]entityevent.Doc, error) {
	docs, err := s.Store.List(ctx, kind)
	s.meanwhile(kind)
	return docs, err
}

// TestSweepMeetsChanges: what is changed while a sweep reads all counts, whatever of it the sweep saw.
func TestSweepMeetsChanges(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"registration", producer.SubscriptionKind} {
		x := newRig(t)
		x.write(producer.SubscriptionKind, "fixed", producer.SubscriptionState{Name: "fixed"})
		cancelled, suspended := x.register(whole, ""), x.register(whole, "")
		made, reading := "", false
		x.api.Store = &lists{Store: x.store, meanwhile: func(kind string) {
			if reading = reading || kind == "registration"; reading && kind == at {
				x.ask(whole, "DELETE", "/subscriptions/"+cancelled, "").want(t, 204)
				x.pushes(x.api.Through(), suspended, func(s *producer.SubscriptionState) { s.Suspend("refused") })
				made = x.register(whole, "")
			}
		}}
		x.sweep()
		all := x.standing()
		if len(all) != 2 || all[suspended].State.Status != producer.Suspended || all[made].State.Status != producer.Active {
			t.Errorf("while each %s was read: %+v", at, all)
		}
		if now, err := x.api.Registered(t.Context()); err != nil || !slices.Equal(now.Others, []string{"fixed"}) {
			t.Errorf("%q, %v", now.Others, err)
		}
		if a := x.ask(whole, "GET", "/subscriptions", ""); a.member("totalCount") != "3" {
			t.Errorf("%s", a.body)
		}
	}
}

// late is a store that answers when it may.
type late struct {
	producer.Store
	committed, may chan struct{}
}

func (s late) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	outcomes, err := s.Store.Apply(ctx, c)
	close(s.committed)
	<-s.may
	return outcomes, err
}

// TestHeardLate: who hears of its commit later than another of the next one does not undo that.
func TestHeardLate(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	id := x.register(whole, "")
	slow := late{x.store, make(chan struct{}), make(chan struct{})}
	x.api.Store = slow
	through, ended := x.api.Through(), make(chan struct{})
	x.api.Store = x.store
	go func() {
		defer close(ended)
		x.pushes(through, id, func(s *producer.SubscriptionState) { s.Suspend("refused") })
	}()
	<-slow.committed
	x.ask(whole, "DELETE", "/subscriptions/"+id, "").want(t, 204)
	close(slow.may)
	<-ended
	if all, err := x.api.Registered(t.Context()); err != nil || len(all.Standing) != 0 || all.Cancelled != 1 {
		t.Errorf("%s", fmt.Sprint(all, err))
	}
}
