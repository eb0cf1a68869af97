package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/producer"
)

// hosts answers pushes without a network, and remembers to which host each went.
type hosts struct {
	mu     sync.Mutex
	pushed []string
	block  chan struct{} // what host slow waits for
}

func (h *hosts) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == "slow" {
		<-h.block // it does not hear that nobody waits any more
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pushed = append(h.pushed, r.URL.Host)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

func (h *hosts) took() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprint(h.pushed)
}

// TestPushersComeAndGo starts, replaces and stops pushers of a running set. One that is replaced ends before the next one
// begins, however long that takes, and nothing of it is left.
func TestPushersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := openAgent(t, "producer: {clients: [{name: vendor}], subscriptions: [{name: fixed, client: vendor, url: 'https://fixed/', token: t}]}")
		h := &hosts{block: make(chan struct{})}
		a.callbacks = &http.Client{Transport: h}
		change := func(key string) {
			t.Helper()
			ref := entityevent.Ref{Resource: "Property", Key: key}
			if _, err := a.store.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{{Ref: ref, Body: []byte(`{}`)}}}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		sub := func(host string) producer.Subscription {
			return producer.Subscription{Name: "registered-1", Client: "vendor", Mask: entityevent.Everyone, URL: "https://" + host + "/"}
		}
		a.pushers.Start(sub("early")) // nothing runs yet
		a.pushers.Wake("early")
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		tries := 0
		go func() {
			ended <- a.pushers.run(ctx, func(context.Context) ([]producer.Subscription, error) {
				if tries++; tries == 1 {
					a.pushers.Start(sub("slow")) // somebody changes it while what is stored is read
					return nil, entityevent.ErrUnavailable
				}
				return []producer.Subscription{sub("old")}, nil
			})
		}()
		synctest.Wait()
		change("1")
		if got := h.took(); got != "[fixed]" {
			t.Errorf("pushed to %s", got)
		}
		a.pushers.Start(sub("new")) // the push to slow is under way
		a.pushers.Start(sub("newest"))
		synctest.Wait()
		change("2")
		if got := h.took(); got != "[fixed fixed]" {
			t.Errorf("pushed to %s before the one that was replaced ended", got)
		}
		close(h.block)
		synctest.Wait()
		a.pushers.Wake("registered-1")
		a.pushers.wakeAll()
		synctest.Wait()
		if got := h.took(); !strings.HasPrefix(got, "[fixed fixed slow newest") || strings.Contains(got, "old") || strings.Contains(got, "new ") {
			t.Errorf("pushed to %s", got)
		}
		change("3")
		fixed, others := a.pushers.stats()
		if fixed["fixed"].Events != 3 || len(fixed) != 1 || others.Events < 3 {
			t.Errorf("counted %v and %v", fixed, others)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		before := h.took()
		a.pushers.Start(sub("late"))
		change("4")
		if got := h.took(); got != before {
			t.Errorf("pushed to %s after the end", got)
		}
	})
}

// TestPushersAreHeard: where a registered subscription stands is known though the store is read only once.
func TestPushersAreHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := openAgent(t, "producer: {clients: [{name: vendor}], allow_callbacks: [127.0.0.0/8]}")
		a.callbacks = &http.Client{Transport: &hosts{}}
		standing := func() string {
			t.Helper()
			synctest.Wait()
			all, err := a.registered.Registered(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var text []string
			for _, s := range all.Standing {
				text = append(text, fmt.Sprint(s.State.Status, s.State.Cursor))
			}
			return fmt.Sprint(text, all.Cancelled)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.push(ctx) }()
		for _, mode := range []string{"continuous", "only-once"} {
			r := httptest.NewRequest(http.MethodPost, "/subscriptions?client=vendor", strings.NewReader(`{"callbackUrl":"http://127.0.0.1:1/","mode":"`+mode+`"}`))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+a.gate.admin)
			w := httptest.NewRecorder()
			if a.registered.ServeHTTP(w, r); w.Code != http.StatusCreated {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
		if got := standing(); got != "[active0 active0] 0" {
			t.Error(got)
		}
		ref := entityevent.Ref{Resource: "Property", Key: "1"}
		if _, err := a.store.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{{Ref: ref, Body: []byte(`{}`)}}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got := standing(); got != "[active1] 1" {
			t.Error(got)
		}
	})
}

// TestPushersOutliveOne that can never work.
func TestPushersOutliveOne(t *testing.T) {
	var logged lockedBuffer
	p := &pushers{logger: slog.New(slog.NewTextHandler(&logged, nil)), build: func(s producer.Subscription) *producer.Pusher { return &producer.Pusher{Subscription: s} }}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- p.run(ctx, func(context.Context) ([]producer.Subscription, error) {
			stop()
			return []producer.Subscription{{Name: "s"}}, nil
		})
	}()
	if err := <-ended; err != nil || !strings.Contains(logged.String(), "subscription is not pushed to") {
		t.Errorf("%v, logged %s", err, logged.String())
	}
}

// TestWhatSessionsAreTold: the suspension and the resumption of a client's subscriptions, and not their end.
func TestWhatSessionsAreTold(t *testing.T) {
	a := openAgent(t, "producer: {clients: [{name: vendor, scopes: [subscribe]}]}")
	signed, _, err := a.authority.Issue(t.Context(), bearer.Token{Audience: bearer.API, Client: "vendor", Scopes: []string{bearer.ScopeSubscribe}})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path string) string {
		r, w := httptest.NewRequest(method, path, http.NoBody), httptest.NewRecorder()
		r.Header.Set("Authorization", "Bearer "+signed)
		a.sessions.ServeHTTP(w, r)
		return w.Body.String()
	}
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(ask(http.MethodPost, "/api/sessions")), &made); err != nil {
		t.Fatal(err)
	}
	tell := a.pusher(producer.Subscription{Name: "s", Client: "vendor"}).Changed
	for _, status := range []producer.SubscriptionStatus{producer.Suspended, producer.Cancelled, producer.Active} {
		tell(producer.SubscriptionState{Name: "s", Status: status, Reason: "r"})
	}
	want := `[{"type":"status","data":{"message":"r","status":"suspended","subscription":"s"},"number":1},` +
		`{"type":"status","data":{"message":"r","status":"active","subscription":"s"},"number":2}]` + "\n"
	if got := ask(http.MethodGet, "/api/sessions/"+made.Token+"/events?last_event=0"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
