package main

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// TestCompactionMovesIdleSubscriptions past what it forgets: a restart afterwards finds that they have missed nothing.
func TestCompactionMovesIdleSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := openAgent(t, "forget: 1d\nproducer: {clients: [{name: vendor}], subscriptions: [{name: media, client: vendor, url: 'https://b/', token: t, event_types: [Media]}]}")
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
		run := func() (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				ended <- a.pushers.run(ctx, func(context.Context) ([]producer.Subscription, error) { return nil, nil })
			}()
			synctest.Wait()
			return func() {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		}
		change(entityevent.Change{Ref: entityevent.Ref{Resource: "Media", Key: "1"}, Body: []byte(`{}`)})
		stop := run()
		gone := entityevent.Ref{Resource: "Property", Key: "1"}
		change(entityevent.Change{Ref: gone, Body: []byte(`{}`)})
		floor := change(entityevent.Change{Ref: gone, Op: entityevent.Remove})
		time.Sleep(48 * time.Hour)
		if done, err := a.compaction.once(t.Context()); err != nil || done.Forgotten != 1 {
			t.Fatalf("%+v, %v", done, err)
		}
		stop()
		defer run()()
		last := change(entityevent.Change{Ref: entityevent.Ref{Resource: "Media", Key: "2"}, Body: []byte(`{}`)})
		time.Sleep(time.Minute)
		states, err := producer.Subscriptions(t.Context(), a.store)
		if err != nil || len(states) != 1 || states[0].Status != producer.Active || states[0].Cursor != last || last <= floor || h.took() != "[b]" {
			t.Errorf("%+v, %v; pushed to %s", states, err, h.took())
		}
	})
}
