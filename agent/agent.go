package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
)

// errStopping ends what waits when the agent stops.
var errStopping = errors.New("the agent is stopping")

// agent is the parts of one agent, wired. `run` sets them going; a command serves itself with them.
type agent struct {
	config        *config.Config
	logger        *slog.Logger
	opened        time.Time
	store         *sqlite.Store
	authority     *bearer.Authority
	profiles      []entityevent.Profile // set in the store before records are written
	gate          gate
	schemas       map[string]*producer.Schema // by feed
	feeds         []*consumer.Feed
	limits        map[string]limit // by feed
	subscriptions []producer.Subscription
	pushers       map[string]*producer.Pusher // by subscription; none run for a command
	probe         probe
	lookout       lookout
	review        *review
	compaction    *compaction
	metrics       *metrics
	teardown      teardown
}

// open wires an agent on a data folder that this process holds. Close it before the folder.
func open(ctx context.Context, c *config.Config, held *folder, logger *slog.Logger) (_ *agent, err error) {
	a := &agent{config: c, logger: logger, opened: time.Now(), schemas: map[string]*producer.Schema{}, limits: limits(c), metrics: newMetrics()}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if a.store, err = sqlite.Open(ctx, held.file(storeFile), sqlite.Options{Logger: logger, Observe: a.metrics.committed,
		Unavailable: func(e *sqlite.UnavailableError) { a.probe.heard(e) }}); err != nil {
		return nil, err
	}
	a.teardown.add("close store", a.store.Close)
	a.probe.store, a.lookout.vitals = a.store, a.vitals
	a.teardown.add("end looks", a.lookout.Close)
	a.metrics.registry.MustRegister(collector{a})

	edmx, err := readMetadata(c)
	if err != nil {
		return nil, err
	}
	if a.profiles, err = profiles(c); err != nil {
		return nil, err
	}
	masks, _, err := a.store.PlanProfiles(ctx, a.profiles)
	if err != nil {
		return nil, err
	}
	a.review = &review{store: a.store, logger: logger}
	a.compaction = newCompaction(c, a.store, logger)

	_, missing := os.Stat(held.file(keyFile))
	key, err := bearer.LoadKey(held.file(keyFile))
	if err != nil {
		return nil, err
	}
	a.authority = &bearer.Authority{Key: key, Store: a.store}
	if missing != nil {
		if before, err := a.authority.List(ctx); err == nil && len(before) > 0 {
			logger.Warn("signing.key was missing and a new one was made: the tokens that were issued before are refused; put the old file back, or issue them anew", "tokens", len(before))
		}
	}
	admin, err := held.adminToken()
	if err != nil {
		return nil, err
	}
	a.gate = gate{authority: a.authority, admin: admin, clients: accesses(c, masks)}

	var keys map[string]string
	if c.Producer != nil {
		keys = c.Producer.Keys
	}
	for _, feed := range feedNames(c) {
		schema := edmx
		if feed != servedFeed(c) {
			schema = nil
		}
		if a.schemas[feed], err = producer.OpenSchema(ctx, a.store, feed, schema, keys); err != nil {
			return nil, err
		}
		a.schemas[feed].Logger = logger
	}
	a.subscriptions = subscriptions(c, a.gate.clients)
	a.feeds = feeds(c, a.store, logger)
	for _, f := range a.feeds {
		if err := f.Check(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Close releases what open took.
func (a *agent) Close() error { return a.teardown.run() }

// readMetadata reads the EDMX of the configuration, and holds the configuration to it; nil: the schema is
// inferred from the records.
func readMetadata(c *config.Config) (*metadata.Schema, error) {
	if c.Producer == nil || c.Producer.Metadata == "" {
		return nil, nil
	}
	refuse := func(err error) error {
		return c.Refuse(config.Problem{Path: "producer.metadata", Text: err.Error()})
	}
	f, err := os.Open(c.Producer.Metadata)
	if err != nil {
		return nil, refuse(err)
	}
	defer f.Close()
	schema, err := metadata.Read(f)
	if err == nil {
		err = schema.Check()
	}
	if err != nil {
		return nil, refuse(fmt.Errorf("%s: %w", c.Producer.Metadata, err))
	}
	return schema, checkProfiles(c, schema)
}

// feedNames are the feeds of the store: what the write API changes, and the copies.
func feedNames(c *config.Config) []string {
	names := []string{entityevent.Local}
	if c.Consumer != nil {
		for _, f := range c.Consumer.Feeds {
			names = append(names, f.Name)
		}
	}
	return names
}

// servedFeed is the feed that /odata serves: that of the configuration, or the only one, or local.
func servedFeed(c *config.Config) string {
	switch names := feedNames(c); {
	case c.Producer != nil && c.Producer.Feed != "":
		return c.Producer.Feed
	case c.Producer == nil && len(names) == 2:
		return names[1]
	}
	return entityevent.Local
}

// feedPath is where a feed's service root stands below the agent's address.
func feedPath(c *config.Config, feed string) string {
	if feed == servedFeed(c) {
		return "/odata"
	}
	return "/feeds/" + feed + "/odata"
}

func subscriptions(c *config.Config, clients map[string]access) []producer.Subscription {
	if c.Producer == nil {
		return nil
	}
	var all []producer.Subscription
	for _, s := range c.Producer.Subscriptions {
		all = append(all, producer.Subscription{Name: s.Name, Client: s.Client, Mask: clients[s.Client].mask, Profile: clients[s.Client].profile, Feed: servedFeed(c),
			URL: string(s.URL), Token: string(s.Token), Label: s.Label, BatchEvents: s.Batch, Timeout: s.Timeout})
	}
	return all
}

func feeds(c *config.Config, store *sqlite.Store, logger *slog.Logger) []*consumer.Feed {
	if c.Consumer == nil {
		return nil
	}
	var all []*consumer.Feed
	for _, f := range c.Consumer.Feeds {
		all = append(all, &consumer.Feed{Name: f.Name, URL: f.URL, Token: string(f.Token), Resources: f.Resources, Label: f.Push.Label,
			TokenURL: f.TokenURL, ClientID: f.ClientID, ClientSecret: string(f.ClientSecret),
			LongPoll: f.LongPoll, Poll: f.Poll, ReconcileAt: f.Reconcile, Rate: float64(f.Limits.Rate), Hourly: f.Limits.Hourly, Daily: f.Limits.Daily,
			PageSize: f.Page, KeyBatch: f.KeyBatch, Store: store, Logger: logger})
	}
	return all
}

// limits says when each feed is stale.
func limits(c *config.Config) map[string]limit {
	all := map[string]limit{}
	if c.Consumer != nil {
		for _, f := range c.Consumer.Feeds {
			all[f.Name] = limit{poll: f.Poll, after: f.StaleAfter}
		}
	}
	return all
}

// feed returns the consumer's feed of this name, nil if there is none.
func (a *agent) feed(name string) *consumer.Feed {
	i := slices.IndexFunc(a.feeds, func(f *consumer.Feed) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return a.feeds[i]
}

// routes builds the agent's HTTP interface. Requests that wait end with closing.
func (a *agent) routes(closing context.Context, root string) *routes {
	h := &routes{feeds: map[string]http.Handler{}, unready: a.unready, metrics: a.metrics.handler(a.gate, a.logger), closing: closing}
	for feed, schema := range a.schemas {
		prefix := feedPath(a.config, feed)
		server := &producer.Server{Store: a.store, Feed: feed, Root: root + prefix, Prefix: prefix, Schema: schema, Gate: a.gate,
			Writable: feed == entityevent.Local, Logger: a.logger}
		h.servers = append(h.servers, server)
		if prefix == "/odata" {
			h.odata = server
		} else {
			h.feeds[feed] = server
		}
	}
	if len(a.feeds) > 0 {
		receiver := &consumer.Receiver{Feeds: map[string]*consumer.Feed{}, Authority: a.authority, Logger: a.logger}
		for _, f := range a.feeds {
			receiver.Feeds[f.Name] = f
			h.targets = append(h.targets, f.Name)
		}
		h.webhooks = receiver
	}
	h.oauth, h.admin = oauth{a.gate}, a.admin()
	return h
}
