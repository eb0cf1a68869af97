package main_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// figure scrapes one value of an agent; false: it is not there.
func (p *process) figure(t *testing.T, series string) (value float64, found bool) {
	t.Helper()
	resp, err := http.Get("http://" + p.address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if text, ok := strings.CutPrefix(line, series+" "); ok {
			_, err := fmt.Sscan(text, &value)
			return value, err == nil
		}
	}
	return 0, false
}

// TestMetricsOfAPair reads the figures of two agents that run, and of one that lost the other.
func TestMetricsOfAPair(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	r := newRestored(t)
	until(t, func() (string, bool) {
		text := r.vendor.command(t, "status")
		return text, strings.Contains(text, "exact as of")
	})
	r.put(t, 100, "a", "b", "c", "d", "e")
	r.level(t)
	is := func(p *process, series string, want func(float64) bool) {
		t.Helper()
		until(t, func() (string, bool) {
			got, found := p.figure(t, series)
			return fmt.Sprintf("%s is %v, %v", series, got, found), found && want(got)
		})
	}
	equals := func(want float64) func(float64) bool { return func(got float64) bool { return got == want } }
	above := func(least float64) func(float64) bool { return func(got float64) bool { return got > least } }
	is(r.mls, `resosync_ready`, equals(1))
	is(r.mls, `resosync_store_appended_events_total`, equals(5))
	is(r.mls, `resosync_subscription_pushed_events_total{subscription="vendor"}`, equals(5))
	is(r.mls, `resosync_subscription_batches_total{outcome="acknowledged",subscription="vendor"}`, above(0))
	is(r.mls, `resosync_subscription_lag_events{subscription="vendor"}`, equals(0))
	is(r.mls, `resosync_subscription_suspended{subscription="vendor"}`, equals(0))
	is(r.vendor, `resosync_feed_inbox_events{feed="mls"}`, equals(0))
	is(r.vendor, `resosync_feed_lag_seconds{feed="mls"}`, equals(0))
	is(r.vendor, `resosync_feed_applied_records_total{feed="mls"}`, equals(5))
	is(r.vendor, `resosync_feed_pushes_total{code="200",feed="mls"}`, above(0))
	is(r.vendor, `resosync_feed_contact_age_seconds{feed="mls"}`, func(got float64) bool { return got < 30 })
	is(r.vendor, `process_open_fds`, above(3))
	push, _ := r.vendor.figure(t, `resosync_feed_received_events_total{feed="mls",via="push"}`)
	poll, _ := r.vendor.figure(t, `resosync_feed_received_events_total{feed="mls",via="poll"}`)
	if push+poll != 5 {
		t.Errorf("%v events came by push and %v by poll, want 5 in all", push, poll)
	}

	r.vendor.kill(t)
	r.put(t, 200, "a", "b")
	is(r.mls, `resosync_subscription_lag_events{subscription="vendor"}`, equals(2))
	is(r.mls, `resosync_subscription_lag_seconds{subscription="vendor"}`, above(0))
	is(r.mls, `resosync_subscription_batches_total{outcome="failed",subscription="vendor"}`, above(0))
	is(r.mls, `resosync_subscription_retries_total{subscription="vendor"}`, above(0))
	r.vendor.start(t)
	r.level(t)
	is(r.mls, `resosync_subscription_lag_events{subscription="vendor"}`, equals(0))
	is(r.mls, `resosync_subscription_lag_seconds{subscription="vendor"}`, equals(0))
}
