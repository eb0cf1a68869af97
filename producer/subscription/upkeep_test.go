package subscription_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/seal"
	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/subscription"
)

// active are the names of those that want a pusher.
func (x *rig) active() (names []string) {
	x.Helper()
	subs, err := x.api.Active(x.Context())
	if err != nil {
		x.Fatal(err)
	}
	for _, s := range subs {
		names = append(names, s.Name)
	}
	return names
}

func TestActive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	x := openRig(t, dir)
	x.put("Property", "1")
	going := x.register(whole, `, "secret": "`+secret+`", "eventTypes": ["Property"], "mode": "only-once", "consumerLabel": "B", "batchSize": 3, "timeout": 5`)
	want, _, _ := x.pushers.last()
	suspended := x.register(idx, "")
	x.move(suspended, func(s *producer.SubscriptionState) { s.Suspend("refused") })
	cancelled := x.register(whole, "")
	x.ask(whole, "DELETE", "/subscriptions/"+cancelled, "").want(t, 204)
	theirs := x.register(other, "")
	if err := x.store.Close(); err != nil {
		t.Fatal(err)
	}

	x = openRig(t, dir) // a restart
	subs, err := x.api.Active(t.Context())
	if err != nil || len(subs) != 3 {
		t.Fatalf("%+v, %v", subs, err)
	}
	if fmt.Sprintf("%+v", subs[0]) != fmt.Sprintf("%+v", want) || subs[0].Name != going {
		t.Errorf("%+v, want %+v", subs[0], want)
	}
	if subs[1].Name != suspended || subs[1].Profile != "idx" || subs[2].Name != theirs {
		t.Errorf("%+v", subs[1:])
	}

	// A client that is gone.
	was := x.clients[other]
	delete(x.clients, other)
	if got := x.active(); !slices.Equal(got, []string{going, suspended}) {
		t.Errorf("%q", got)
	}
	before := x.state(theirs)
	if before.Status != producer.Suspended || !strings.Contains(before.Reason, "vendor-c is no longer in the configuration") {
		t.Errorf("%+v", before)
	}
	all := x.standing()
	if all[theirs].Mask != 0 || all[going].Mask != entityevent.Everyone || all[going].URL+all[going].Token+all[going].Secret != "" {
		t.Errorf("%+v", all)
	}
	x.ask(owner, "POST", "/subscriptions/"+theirs+"/resume", "").wantRefused(t, 403, "not in the configuration")
	if x.active(); x.state(theirs) != before {
		t.Error("it is suspended again and again")
	}
	x.clients[other] = was
	x.ask(other, "POST", "/subscriptions/"+theirs+"/resume", "").want(t, 202)
	if s, n, _ := x.pushers.last(); n != 1 || s.Name != theirs || s.Token != "hidden-token" {
		t.Errorf("%+v", s)
	}

	// Event types that now belong to an endpoint.
	x.api.Fixed = []producer.Subscription{{EventTypes: []string{"Property"}}}
	if got := x.active(); got != nil {
		t.Errorf("%q", got)
	}
	if s := x.state(going); s.Status != producer.Suspended || !strings.Contains(s.Reason, "1-to-1") {
		t.Errorf("%+v", s)
	}
	x.api.Fixed = nil

	// Another signing key.
	x.move(going, (*producer.SubscriptionState).Resume)
	x.api.Seal = seal.New(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize)))
	if got := x.active(); got != nil {
		t.Errorf("%q", got)
	}
	if s := x.state(going); s.Status != producer.Suspended || !strings.Contains(s.Reason, "by PATCH") {
		t.Errorf("%+v", s)
	}
	x.ask(whole, "POST", "/subscriptions/"+going+"/resume", "").wantRefused(t, 403, "by PATCH")
	x.ask(whole, "PATCH", "/subscriptions/"+going, `{"callbackToken": "new"}`).wantRefused(t, 403, "by PATCH")
	x.ask(whole, "PATCH", "/subscriptions/"+going, `{"callbackUrl": "https://192.0.2.9/", "callbackToken": "new"}`).want(t, 200)
	if s, _, _ := x.pushers.last(); s.Name != going || s.URL != "https://192.0.2.9/" || s.Token != "new" || s.Secret != "" || s.BatchEvents != 3 || x.state(going).Status != producer.Active {
		t.Errorf("%+v", s)
	}
	if got := x.active(); !slices.Equal(got, []string{going}) {
		t.Errorf("%q", got)
	}
}

// standing are those that are not cancelled, by UUID.
func (x *rig) standing() map[string]subscription.Standing {
	x.Helper()
	all, err := x.api.Registered(x.Context())
	if err != nil {
		x.Fatal(err)
	}
	of := map[string]subscription.Standing{}
	for _, s := range all.Standing {
		of[s.Name] = s
	}
	return of
}

func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t)
		cancelled, once, going, suspended := x.register(whole, ""), x.register(whole, `, "mode": "only-once"`), x.register(whole, ""), x.register(whole, "")
		x.ask(whole, "DELETE", "/subscriptions/"+cancelled, "").want(t, 204)
		x.move(once, func(s *producer.SubscriptionState) { s.Cancel("It was delivered, once.") })
		x.move(suspended, func(s *producer.SubscriptionState) { s.Suspend("refused") })
		time.Sleep(30*24*time.Hour - time.Second)
		x.sweep()
		x.ask(whole, "GET", "/subscriptions/"+cancelled, "").want(t, 200)
		if a := x.ask(whole, "GET", "/subscriptions/"+once, ""); a.member("status") != "cancelled" || a.member("message") != "It was delivered, once." {
			t.Errorf("%s", a.body)
		}
		time.Sleep(time.Second)
		x.watch(t, func() { x.sweep() }, "registration subscription", "registration subscription")
		for id, status := range map[string]int{cancelled: 404, once: 404, going: 200, suspended: 200} {
			x.ask(whole, "GET", "/subscriptions/"+id, "").want(t, status)
		}
		if x.count("registration") != 2 || x.count(producer.SubscriptionKind) != 2 {
			t.Errorf("%d registrations, %d states", x.count("registration"), x.count(producer.SubscriptionKind))
		}
		x.watch(t, func() { x.sweep() })

		// One that somebody changes meanwhile is left to the next sweep; and what is left can be cancelled.
		x.ask(whole, "DELETE", "/subscriptions/"+going, "").want(t, 204)
		time.Sleep(30 * 24 * time.Hour)
		x.api.Store = &contended{Store: x.store, faster: func() { x.move(going, func(s *producer.SubscriptionState) { s.Told = "cancelled" }) }}
		x.sweep()
		x.ask(whole, "GET", "/subscriptions/"+going, "").want(t, 200)
		x.sweep()
		x.ask(whole, "GET", "/subscriptions/"+going, "").want(t, 404)
		x.ask(whole, "DELETE", "/subscriptions/"+suspended, "").want(t, 204)
		_ = x.store.Close()
	})
}

// unread is a store whose log cannot be read now.
type unread struct {
	producer.Store
	now bool
}

func (u *unread) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	if u.now {
		return entityevent.Page{}, entityevent.ErrUnavailable
	}
	return u.Store.Events(ctx, v, q)
}

// TestActiveLater: while it cannot be said which event types there are, nothing is suspended for that.
func TestActiveLater(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	id := x.register(whole, "")
	log := &unread{Store: x.store}
	schema, err := producer.OpenSchema(t.Context(), log, entityevent.Local, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	x.api.Schema, log.now = schema, true
	if subs, err := x.api.Active(t.Context()); !errors.Is(err, entityevent.ErrUnavailable) || subs != nil {
		t.Errorf("%+v, %v", subs, err)
	}
	if s := x.state(id); s.Status != producer.Active {
		t.Errorf("%+v", s)
	}
}

// What the owner does while the agent starts counts: it suspends nothing that was mended or ended a moment before.
func TestActiveMeetsItsOwner(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		known bool // its client, when it is looked at again
		did   func(x *rig, id string)
		want  producer.SubscriptionStatus
	}{
		"mended":    {true, func(*rig, string) {}, producer.Active},
		"cancelled": {false, func(x *rig, id string) { x.move(id, func(s *producer.SubscriptionState) { s.Cancel("no more") }) }, producer.Cancelled},
		"nothing":   {false, func(*rig, string) {}, producer.Suspended},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newRig(t)
			id := x.register(other, "")
			clients, looks := x.api.Clients, 0
			x.api.Clients = func(name string) (producer.Client, bool) {
				if looks++; looks == 1 {
					return producer.Client{}, false
				} else if looks == 2 {
					c.did(x, id)
				}
				client, _ := clients(name)
				return client, c.known
			}
			if _, err := x.api.Active(t.Context()); err != nil {
				t.Error(err)
			}
			if s := x.state(id); s.Status != c.want {
				t.Errorf("%+v, want %s", s, c.want)
			}
		})
	}
}

func TestSuspendClient(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	first, cancelled, second, theirs := x.register(whole, ""), x.register(whole, ""), x.register(whole, ""), x.register(other, "")
	x.ask(whole, "DELETE", "/subscriptions/"+cancelled, "").want(t, 204)
	_, _, wakes := x.pushers.last()
	names, err := x.api.SuspendClient(t.Context(), whole, "the client was revoked")
	if err != nil || !slices.Equal(names, []string{first, second}) {
		t.Fatalf("%q, %v", names, err)
	}
	if _, _, n := x.pushers.last(); n != wakes+2 {
		t.Errorf("%d were woken", n-wakes)
	}
	for id, want := range map[string]producer.SubscriptionStatus{first: producer.Suspended, second: producer.Suspended, cancelled: producer.Cancelled, theirs: producer.Active} {
		if s := x.state(id); s.Status != want || (want == producer.Suspended) != (s.Reason == "the client was revoked") {
			t.Errorf("%+v, want %s", s, want)
		}
	}
	if names, err := x.api.SuspendClient(t.Context(), "nobody", "x"); names != nil || err != nil {
		t.Errorf("%q, %v", names, err)
	}
}

// fill makes so many subscriptions, by another way than requests: the next sweep finds them.
func (x *rig) fill(client string, n int, status producer.SubscriptionStatus) {
	x.Helper()
	var c entityevent.Commit
	for range n {
		name := fmt.Sprintf("00000000-0000-7000-8000-%012d", next())
		state, _ := json.Marshal(producer.SubscriptionState{Name: name, Status: status, Since: time.Now()})
		c.Docs = append(c.Docs, entityevent.Doc{Kind: "registration", ID: name, Body: []byte(`{"uuid":"` + name + `","client":"` + client + `"}`)},
			entityevent.Doc{Kind: producer.SubscriptionKind, ID: name, Body: state})
	}
	if _, err := x.store.Apply(x.Context(), c); err != nil {
		x.Fatal(err)
	}
}

// TestLimits fills the store as if so many had been registered.
func TestLimits(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	try := func(client string) answered {
		return x.ask(client, "POST", "/subscriptions", `{"callbackUrl": "https://192.0.2.7/"}`)
	}
	x.fill(whole, 3000, producer.Cancelled)
	x.fill(whole, 1000, producer.Active)
	x.fill(whole, 999, producer.Suspended)
	last := try(whole)
	last.want(t, 201)
	gone := last.member("UUID")
	try(whole).wantRefused(t, 403, "There are 2000 subscriptions of yours: cancel those that you do not need")
	x.ask(whole, "DELETE", "/subscriptions/"+gone, "").want(t, 204)
	x.ask(whole, "DELETE", "/subscriptions/"+gone, "").want(t, 204) // makes room once
	try(whole).want(t, 201)
	try(whole).wantRefused(t, 403, "There are 2000 subscriptions of yours")
	x.fill("many", 8000-1, producer.Active)
	x.sweep()
	try(other).want(t, 201)
	try(other).wantRefused(t, 403, "as many subscriptions as it can have")
	x.fill(idx, 20000, producer.Cancelled)
	x.sweep()
	try(idx).wantRefused(t, 403, "forgotten after 30 days")
}

// TestRoomIsFound: a subscription that its pusher ended makes room at once; and nobody who registers, lists or looks reads
// all there are.
func TestRoomIsFound(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	once, suspended := x.register(other, `, "mode": "only-once"`), x.register(other, "")
	x.fill(other, 1998, producer.Active)
	x.sweep()
	store := &counting{Store: x.store}
	x.api.Store = store
	for range 3 {
		x.ask(other, "POST", "/subscriptions", `{"callbackUrl": "https://192.0.2.7/"}`).wantRefused(t, 403, "There are 2000")
		x.register(whole, "")
		if a := x.ask(whole, "GET", "/subscriptions", ""); a.member("totalCount") != fmt.Sprint(len(x.standing())-2000) {
			t.Errorf("%s", a.body)
		}
	}
	x.pushes(x.api.Through(), once, func(s *producer.SubscriptionState) { s.Cancel("It was delivered, once.") })
	x.pushes(x.api.Through(), suspended, func(s *producer.SubscriptionState) { s.Suspend("refused") })
	id := x.register(other, "")
	x.ask(other, "POST", "/subscriptions", `{"callbackUrl": "https://192.0.2.7/"}`).wantRefused(t, 403, "There are 2000")
	all := x.standing()
	if _, is := all[once]; is || len(all) != 2003 || all[suspended].State.Status != producer.Suspended || all[id].State.Status != producer.Active {
		t.Errorf("%d, %+v, %+v", len(all), all[suspended].State, all[id].State)
	}
	if store.lists.Load() != 0 {
		t.Errorf("all were read %d times", store.lists.Load())
	}
}

// counting counts how often all documents of a kind are read.
type counting struct {
	producer.Store
	lists atomic.Int64
}

func (s *counting) List(ctx context.Context, kind string) ([]entityevent.Doc, error) {
	s.lists.Add(1)
	return s.Store.List(ctx, kind)
}
