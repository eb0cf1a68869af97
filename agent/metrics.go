package main

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
)

// metrics counts what the store does and serves all figures of an agent to Prometheus. The labels are
// names of the configuration and fixed words, so that there is a bounded number of series.
type metrics struct {
	registry *prometheus.Registry
	commits  prometheus.Histogram
	failures prometheus.Counter
	appended prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "resosync_store_commit_duration_seconds",
			Help:    "Time that a transaction took until it was durable, or failed.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "resosync_store_commit_failures_total",
			Help: "Transactions of which nothing was stored, because the store could not do its work."}),
		appended: prometheus.NewCounter(prometheus.CounterOpts{Name: "resosync_store_appended_events_total",
			Help: "Events appended to the log of this agent."}),
	}
	m.registry.MustRegister(m.commits, m.failures, m.appended, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// committed suits sqlite.Options.Observe.
func (m *metrics) committed(c sqlite.Committed) {
	m.commits.Observe(c.Took.Seconds())
	m.appended.Add(float64(c.Events))
	if c.Err != nil {
		m.failures.Inc()
	}
}

// handler serves the figures to those with the scope admin, and to this machine. A request that a proxy
// passed on is not of this machine, wherever the proxy runs.
func (m *metrics) handler(g gate, logger *slog.Logger) http.Handler {
	scrape := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorHandling: promhttp.ContinueOnError,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn)})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !fromHere(r) {
			if _, err := g.Admit(r, bearer.ScopeAdmin); err != nil {
				producer.Refuse(w, r, err, logger)
				return
			}
		}
		w.Header().Set("Cache-Control", "no-store")
		scrape.ServeHTTP(w, r)
	})
}

// fromHere says that a request was made on this machine: its peer has a loopback address, and no proxy says
// that it speaks for another, unless one that is believed says that it speaks for this machine.
func fromHere(r *http.Request) bool {
	if v := visitOf(r.Context()); v != nil {
		return v.here
	}
	return proxies(nil).source(r).here
}

// collector reads the figures of an agent that are not counted by events: at each scrape, from one look.
// What the store does not tell is left out; the rest is there while it fails.
type collector struct{ *agent }

type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func gauge(name, help string, labels ...string) figure {
	return figure{prometheus.NewDesc("resosync_"+name, help, labels, nil), prometheus.GaugeValue}
}

func counter(name, help string, labels ...string) figure {
	return figure{prometheus.NewDesc("resosync_"+name, help, labels, nil), prometheus.CounterValue}
}

// put sends one value.
func (f figure) put(out chan<- prometheus.Metric, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
}

var (
	isReady          = gauge("ready", "1 if /readyz is green, else 0.")
	compactedEvents  = counter("compaction_dropped_events_total", "Events dropped from the log, because newer ones replace them.")
	compactedRecords = counter("compaction_forgotten_records_total", "Records that were gone for so long that their last events were dropped.")
	compactedAt      = gauge("compaction_last_timestamp_seconds", "When the log was last compacted; 0 if it was not since the start of the agent.")

	walBytes = gauge("store_wal_bytes", "Size of what was not yet copied into the database.")

	feedInbox   = gauge("feed_inbox_events", "Events received and not yet applied.", "feed")
	feedLag     = gauge("feed_lag_events", "Events not yet in the replica, as far as they are known: those in the inbox, and one more while others are known to be missing.", "feed")
	feedLagTime = gauge("feed_lag_seconds", "Time since nothing was known to be missing from the replica; 0 while nothing is.", "feed")
	feedContact = gauge("feed_contact_age_seconds", "Time since the producer last answered a poll, or since the start of the agent.", "feed")
	feedAside   = gauge("feed_aside_records", "Records set aside: poison cannot be applied, recheck is looked at a second time.", "feed", "kind")
	feedHeld    = gauge("feed_held_removals", "Removals that the brake holds.", "feed")

	feedReceived = counter("feed_received_events_total", "Events received: by push or by poll.", "feed", "via")
	feedPushes   = counter("feed_pushes_total", "Pushes received, by the HTTP status that they were answered with.", "feed", "code")
	feedApplied  = counter("feed_applied_records_total", "Records that events named, brought up to date or set aside.", "feed")
	feedLoaded   = counter("feed_loaded_records_total", "Records read by loads.", "feed")
	feedRequests = counter("feed_requests_total", "Requests to the producer.", "feed")
	feedRetries  = counter("feed_retries_total", "Requests to the producer that were made again.", "feed")
	feedHalts    = counter("feed_halts_total", "Answers of the producer that it wants fewer requests: 429 and 503.", "feed")
	feedSilent   = counter("feed_silent_connections_total", "Connections given up because nothing came any more.", "feed")

	subscriptionLag       = gauge("subscription_lag_events", "Events that wait to be pushed, at most: numbers from the oldest to the head of the log. Of registered ones that of the one furthest behind.", "subscription")
	subscriptionLagTime   = gauge("subscription_lag_seconds", "Age of the oldest event that waits to be pushed; 0 without one.", "subscription")
	subscriptionSuspended = gauge("subscription_suspended", "1 if the subscription is suspended, else 0; of registered ones how many are.", "subscription")

	subscriptionPushed  = counter("subscription_pushed_events_total", "Events that the subscriber acknowledged.", "subscription")
	subscriptionBatches = counter("subscription_batches_total", "Pushes by what became of them.", "subscription", "outcome")
	subscriptionRetries = counter("subscription_retries_total", "Pushes after one that was not acknowledged.", "subscription")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range []figure{isReady, walBytes, compactedEvents, compactedRecords, compactedAt, feedInbox, feedLag, feedLagTime, feedContact, feedAside, feedHeld, feedReceived, feedPushes,
		feedApplied, feedLoaded, feedRequests, feedRetries, feedHalts, feedSilent, subscriptionLag, subscriptionLagTime, subscriptionSuspended, subscriptionPushed,
		subscriptionBatches, subscriptionRetries} {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	v := c.lookout.look(context.Background())
	now := time.Now()
	walBytes.put(out, float64(c.store.WALSize()))
	dropped, ended := c.compaction.counts()
	compactedEvents.put(out, float64(dropped.Events))
	compactedRecords.put(out, float64(dropped.Forgotten))
	compactedAt.put(out, timestamp(ended))
	isReady.put(out, truth(len(c.reasons(v, now)) == 0))
	for _, f := range v.feeds {
		c.feedFigures(out, f, now)
	}
	for _, f := range c.feeds {
		feedCounts(out, f)
	}
	for _, s := range v.subscriptions {
		if s.Gone || s.Status == notBegun {
			continue
		}
		subscriptionLag.put(out, float64(s.Lag), s.Name)
		subscriptionLagTime.put(out, seconds(now, s.Since), s.Name)
		subscriptionSuspended.put(out, truth(s.Status == producer.Suspended), s.Name)
	}
	if r := v.registered; r.Active+r.Suspended > 0 {
		subscriptionLag.put(out, float64(r.Lag), registered)
		subscriptionLagTime.put(out, seconds(now, r.Since), registered)
		subscriptionSuspended.put(out, float64(r.Suspended), registered)
	}
	fixed, others := c.pushers.stats()
	fixed[registered] = others
	for name, stats := range fixed {
		subscriptionPushed.put(out, float64(stats.Events), name)
		subscriptionRetries.put(out, float64(stats.Retries), name)
		for outcome, n := range stats.Batches {
			subscriptionBatches.put(out, float64(n), name, outcome)
		}
	}
}

func (c collector) feedFigures(out chan<- prometheus.Metric, f consumer.Status, now time.Time) {
	feedInbox.put(out, float64(f.Pending), f.Feed)
	feedLag.put(out, float64(f.Pending)+truth(f.Behind), f.Feed)
	feedLagTime.put(out, c.lag(f, now), f.Feed)
	feedContact.put(out, seconds(now, latest(f.Contact, c.opened)), f.Feed)
	feedHeld.put(out, float64(f.Held), f.Feed)
	for kind, n := range map[string]int{"poison": f.Aside, "recheck": f.Recheck} {
		feedAside.put(out, float64(n), f.Feed, kind)
	}
}

// lag is for how long something has been known to be missing from a replica, in seconds.
func (c collector) lag(f consumer.Status, now time.Time) float64 {
	var since time.Time // zero: nothing is
	earlier := func(t time.Time) {
		if t = latest(t, c.opened); since.IsZero() || t.Before(since) {
			since = t
		}
	}
	if !f.Loaded {
		earlier(c.opened)
	}
	if f.Behind {
		earlier(latest(f.Level, f.Whole))
	}
	if f.Pending > 0 {
		earlier(f.Applied)
	}
	return seconds(now, since)
}

func feedCounts(out chan<- prometheus.Metric, f *consumer.Feed) {
	stats := f.Stats()
	feedReceived.put(out, float64(stats.Pushed), f.Name, "push")
	feedReceived.put(out, float64(stats.Polled), f.Name, "poll")
	for status, n := range stats.Pushes {
		feedPushes.put(out, float64(n), f.Name, strconv.Itoa(status))
	}
	for count, n := range map[figure]int64{feedApplied: stats.Settled, feedLoaded: stats.Loaded, feedRequests: stats.Requests,
		feedRetries: stats.Retries, feedHalts: stats.Halts, feedSilent: stats.Silent} {
		count.put(out, float64(n), f.Name)
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// seconds is the time since then, 0 for the zero time.
func seconds(now, then time.Time) float64 {
	if then.IsZero() {
		return 0
	}
	return max(now.Sub(then).Seconds(), 0)
}

// timestamp is a time in seconds since 1970, 0 for the zero time.
func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
