package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/producer"
)

const bothRoles = `producer:
  clients: [{name: vendor}, {name: ops, scopes: [admin]}]
  subscriptions: [{name: b, client: vendor, url: "https://b.example/hook?key=SECRET", token: SECRET, label: SECRET}]
` + oneFeed

// figure reads one value of a scrape: of the series whose line begins so.
func figureOf(t *testing.T, scrape, series string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(scrape)
	if m == nil {
		t.Errorf("no %s in the scrape", series)
		return ""
	}
	return m[1]
}

// TestMetricsOfAScriptedAgent asks for every figure, under the conventions of Prometheus.
func TestMetricsOfAScriptedAgent(t *testing.T) {
	a := openAgent(t, bothRoles)
	a.pushers.all = map[*pushing]bool{{Pusher: &producer.Pusher{Subscription: a.subscriptions[0]}}: true}
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	a.opened = ago(time.Hour)
	suspended := producer.SubscriptionState{Name: "b", Status: producer.Suspended, Reason: "SECRET"}
	a.lookout.vitals = func(context.Context) vitals {
		return vitals{
			feeds: []consumer.Status{{Feed: "mls", Loaded: true, Pending: 7, Behind: true, Level: ago(100 * time.Second), Applied: ago(30 * time.Second),
				Contact: ago(50 * time.Second), Aside: 3, Recheck: 4, Held: 5}},
			subscriptions: []subscriptionStatus{{SubscriptionState: suspended, Lag: 9, Since: ago(20 * time.Second)}},
		}
	}
	w := a.get(t, "/metrics")
	text := w.Body.String()
	if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-store" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	for series, want := range map[string]string{
		`resosync_ready`: "0", `resosync_store_appended_events_total`: "0", `resosync_store_commit_failures_total`: "0",
		`resosync_feed_inbox_events{feed="mls"}`: "7", `resosync_feed_lag_events{feed="mls"}`: "8", `resosync_feed_held_removals{feed="mls"}`: "5",
		`resosync_feed_aside_records{feed="mls",kind="poison"}`: "3", `resosync_feed_aside_records{feed="mls",kind="recheck"}`: "4",
		`resosync_subscription_lag_events{subscription="b"}`: "9", `resosync_subscription_suspended{subscription="b"}`: "1",
		`resosync_subscription_batches_total{outcome="acknowledged",subscription="b"}`: "0",
	} {
		if got := figureOf(t, text, series); got != want {
			t.Errorf("%s is %s, want %s", series, got, want)
		}
	}
	for series, want := range map[string]float64{`resosync_feed_lag_seconds{feed="mls"}`: 100, `resosync_feed_contact_age_seconds{feed="mls"}`: 50,
		`resosync_subscription_lag_seconds{subscription="b"}`: 20} {
		var got float64
		if _, err := fmt.Sscan(figureOf(t, text, series), &got); err != nil || got < want || got > want+30 {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	for _, name := range []string{"go_goroutines", "process_open_fds", "process_resident_memory_bytes", "resosync_store_wal_bytes",
		"resosync_store_commit_duration_seconds_count"} {
		figureOf(t, text, name)
	}
	if strings.Contains(text, "SECRET") {
		t.Errorf("a secret is in\n%s", text)
	}
	problems, err := promlint.New(w.Body).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	bad, err := promlint.New(strings.NewReader("# TYPE resosync_lag_minutes counter\nresosync_lag_minutes 1\n")).Lint()
	if err != nil || len(bad) == 0 {
		t.Errorf("the check passes what is wrong: %v, %v", bad, err)
	}
}

// TestMetricsCountCommits writes through the store of an agent.
func TestMetricsCountCommits(t *testing.T) {
	a := openAgent(t, bothRoles)
	before := a.get(t, "/metrics").Body.String()
	for i := range 3 {
		ref := entityevent.Ref{Resource: "Property", Key: fmt.Sprint(i)}
		if _, err := a.store.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{{Ref: ref, Body: []byte(`{}`)}}}); err != nil {
			t.Fatal(err)
		}
	}
	after := a.get(t, "/metrics").Body.String()
	if got := figureOf(t, after, "resosync_store_appended_events_total"); got != "3" {
		t.Errorf("%s events appended, want 3", got)
	}
	var n, m int
	if _, err := fmt.Sscan(figureOf(t, before, "resosync_store_commit_duration_seconds_count")+" "+figureOf(t, after, "resosync_store_commit_duration_seconds_count"), &n, &m); err != nil || m != n+3 {
		t.Errorf("%d commits, then %d: %v", n, m, err)
	}
	if got := figureOf(t, after, "resosync_store_wal_bytes"); got == "0" {
		t.Error("the WAL has no size")
	}
}

// TestMetricsWhileTheStoreHangs scrapes an agent whose store answers nothing, not even an error.
func TestMetricsWhileTheStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := openAgent(t, bothRoles)
		a.pushers.all = map[*pushing]bool{{Pusher: &producer.Pusher{Subscription: a.subscriptions[0]}}: true}
		hang := make(chan struct{})
		a.lookout.vitals = func(context.Context) vitals { <-hang; return vitals{} }
		begun := time.Now()
		w := a.get(t, "/metrics")
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("a scrape took %v", took)
		}
		if text := w.Body.String(); w.Code != http.StatusOK || figureOf(t, text, "resosync_ready") != "0" || strings.Contains(text, "resosync_feed_inbox_events{") {
			t.Errorf("%d %s", w.Code, text)
		}
		figureOf(t, w.Body.String(), `resosync_feed_requests_total{feed="mls"}`)
		figureOf(t, w.Body.String(), `resosync_subscription_pushed_events_total{subscription="b"}`)
		if w := a.get(t, "/readyz"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "the store does not answer") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		close(hang)
		synctest.Wait()
	})
}

// TestMetricsAccess asks from here, from elsewhere, and through a proxy that runs here.
func TestMetricsAccess(t *testing.T) {
	a := openAgent(t, bothRoles)
	token := func(client string) string {
		signed, _, err := a.authority.Issue(t.Context(), bearer.Token{Audience: bearer.API, Client: client, Scopes: a.gate.clients[client].scopes})
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	for _, c := range []struct {
		name, peer, header, value, token string
		want                             int
	}{
		{"from here", "127.0.0.1:5000", "", "", "", 200},
		{"from here by IPv6", "[::1]:5000", "", "", "", 200},
		{"from elsewhere", "192.0.2.7:5000", "", "", "", 401},
		{"from a peer without an address", "@", "", "", "", 401},
		{"for somebody else", "127.0.0.1:5000", "X-Forwarded-For", "192.0.2.7", "", 401},
		{"for somebody who says that he is here", "127.0.0.1:5000", "X-Forwarded-For", "127.0.0.1", "", 401},
		{"for somebody else, by the standard", "127.0.0.1:5000", "Forwarded", "for=192.0.2.7", "", 401},
		{"for somebody else, by nginx", "127.0.0.1:5000", "X-Real-IP", "192.0.2.7", "", 401},
		{"with a forged address", "192.0.2.7:5000", "X-Forwarded-For", "127.0.0.1", "", 401},
		{"with the scope admin", "192.0.2.7:5000", "", "", token("ops"), 200},
		{"without the scope admin", "192.0.2.7:5000", "", "", token("vendor"), 403},
		{"with the admin token", "192.0.2.7:5000", "", "", a.gate.admin, 200},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
		r.RemoteAddr = c.peer
		if c.header != "" {
			r.Header.Set(c.header, c.value)
		}
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		a.routes(t.Context()).ServeHTTP(w, r)
		if w.Code != c.want || c.want != 200 && bytes.Contains(w.Body.Bytes(), []byte("resosync_")) {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.want)
		}
	}
}
