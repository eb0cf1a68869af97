package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// TestCompactionMovesIdleSubscriptions past what it forgets, while the agent runs and while it is stopped: a restart
// afterwards finds that they have missed nothing. What is for nobody now, because its client is no longer in the
// configuration, stays where it stands.
func TestCompactionMovesIdleSubscriptions(t *testing.T) {
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("running %t", running), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { compactIdle(t, running) }) })
	}
}

func compactIdle(t *testing.T, running bool) {
	a := openAgent(t, `forget: 1d
producer:
  profiles: {idx: {Office: {}}}
  clients: [{name: vendor}, {name: other}, {name: former, profile: idx}]
  subscriptions: [{name: media, client: vendor, url: 'https://b/', token: t, event_types: [Media]}]
  allow_callbacks: [127.0.0.0/8]
`)
	if _, err := a.store.SetProfiles(t.Context(), a.profiles); err != nil {
		t.Fatal(err)
	}
	h := &hosts{}
	a.callbacks = &http.Client{Transport: h}
	change := func(c entityevent.Change) entityevent.Sequence {
		t.Helper()
		outcomes, err := a.store.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{c}})
		if err != nil {
			t.Fatal(err)
		}
		return outcomes[0].Sequence
	}
	register := func(client, types string) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, "/subscriptions?client="+client, strings.NewReader(`{"callbackUrl":"http://127.0.0.1:1/`+client+`","eventTypes":["`+types+`"]}`))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+a.gate.admin)
		w := httptest.NewRecorder()
		a.registered.ServeHTTP(w, r)
		if w.Code != http.StatusCreated {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	states := func() map[string]producer.SubscriptionState {
		t.Helper()
		all, err := a.registered.Registered(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		clients := map[string]string{}
		for _, s := range all.Standing {
			clients[s.Name] = s.Client
		}
		list, err := producer.Subscriptions(t.Context(), a.store)
		if err != nil {
			t.Fatal(err)
		}
		of := map[string]producer.SubscriptionState{}
		for _, s := range list {
			of[cmp.Or(clients[s.Name], s.Name)] = s
		}
		return of
	}
	run := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.push(ctx) }()
		synctest.Wait()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	change(entityevent.Change{Ref: entityevent.Ref{Resource: "Media", Key: "1"}, Body: []byte(`{}`)})
	register("other", "Member")
	register("former", "Office")
	stop := run()
	if !running {
		stop()
	}
	delete(a.gate.clients, "former")
	gone := entityevent.Ref{Resource: "Property", Key: "1"}
	change(entityevent.Change{Ref: gone, Body: []byte(`{}`)})
	floor := change(entityevent.Change{Ref: gone, Op: entityevent.Remove})
	time.Sleep(48 * time.Hour)
	if done, err := a.compaction.once(t.Context()); err != nil || done.Forgotten != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	if now := states(); now["media"].Cursor != floor || now["other"].Cursor != floor || !running && now["former"].Cursor != 1 {
		t.Errorf("after the compaction: %+v", now)
	}
	if running {
		stop()
	}
	defer run()()
	last := change(entityevent.Change{Ref: entityevent.Ref{Resource: "Media", Key: "2"}, Body: []byte(`{}`)})
	change(entityevent.Change{Ref: entityevent.Ref{Resource: "Member", Key: "2"}, Body: []byte(`{}`)})
	time.Sleep(time.Minute)
	now := states()
	if m, o := now["media"], now["other"]; m.Status != producer.Active || m.Cursor < last || o.Status != producer.Active || o.Cursor <= last || len(h.took()) != len("[b 127.0.0.1:1]") {
		t.Errorf("%+v; pushed to %s", now, h.took())
	}
}
