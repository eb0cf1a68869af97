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
	"github.com/resosync/resosync/producer/box"
	sessions "github.com/resosync/resosync/producer/session"
	"github.com/resosync/resosync/producer/subscription"
	"github.com/resosync/resosync/producer/task"
)

// errStopping ends what waits when the agent stops.
var errStopping = errors.New("the agent is stopping")

// agent is the parts of one agent, wired. `run` sets them going; a command serves itself with them.
type agent struct {
	config        *config.Config
	root          string // how others reach it
	logger        *slog.Logger
	opened        time.Time
	store         *sqlite.Store
	authority     *bearer.Authority
	profiles      []entityevent.Profile // set in the store before records are written
	gate          gate
	schemas       map[string]*producer.Schema // by feed
	servers       map[string]*producer.Server // by feed
	feeds         []*consumer.Feed
	limits        map[string]limit // by feed
	subscriptions []producer.Subscription
	registered    *subscription.API
	tasks         *task.Tasks
	box           *box.Events
	sessions      *sessions.Sessions
	pushers       *pushers
	callbacks     *http.Client // what pushes use
	files         files
	holds         *producer.Holds // of all requests that wait for news
	turns         *producer.Turns // of the pushes to registered subscriptions
	probe         probe
	lookout       lookout
	vain          vain
	review        *review
	compaction    *compaction
	metrics       *metrics
	teardown      teardown
}

// open wires an agent, which others reach at root, on a data folder that this process holds. Close it before the folder.
func open(ctx context.Context, c *config.Config, held *folder, root string, logger *slog.Logger) (_ *agent, err error) {
	a := &agent{config: c, root: root, logger: logger, opened: time.Now(), schemas: map[string]*producer.Schema{}, servers: map[string]*producer.Server{}, limits: limits(c), metrics: newMetrics(),
		files: shareFiles(c)}
	a.holds, a.turns = &producer.Holds{Most: a.files.held}, &producer.Turns{Most: a.files.pushes}
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
		prefix := feedPath(c, feed)
		a.servers[feed] = &producer.Server{Store: a.store, Feed: feed, Root: root + prefix, Prefix: prefix, Schema: a.schemas[feed], Gate: a.gate,
			Writable: feed == entityevent.Local, Holds: a.holds, Logger: logger}
	}
	a.subscriptions = a.fixed()
	a.follow(held, anonymous(c, masks))
	a.feeds = feeds(c, root, a.authority, a.store, logger)
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

// fixed are the subscriptions of the configuration.
func (a *agent) fixed() []producer.Subscription {
	if a.config.Producer == nil {
		return nil
	}
	feed := servedFeed(a.config)
	var all []producer.Subscription
	for _, s := range a.config.Producer.Subscriptions {
		client := a.gate.clients[s.Client]
		one := producer.Subscription{Name: s.Name, Client: s.Client, Mask: client.mask, Profile: client.profile, Feed: feed,
			URL: string(s.URL), Token: string(s.Token), Secret: string(s.Secret), Label: s.Label,
			EventTypes: s.EventTypes, Protocol: producer.Protocol(s.Protocol), BatchEvents: s.Batch, Timeout: s.Timeout}
		if s.RecordURLs {
			one.RecordURLs, one.Schema = a.root+feedPath(a.config, feed), a.schemas[feed]
		}
		all = append(all, one)
	}
	return all
}

func feeds(c *config.Config, root string, authority *bearer.Authority, store *sqlite.Store, logger *slog.Logger) []*consumer.Feed {
	if c.Consumer == nil {
		return nil
	}
	var all []*consumer.Feed
	for _, f := range c.Consumer.Feeds {
		registration := &consumer.Registration{Authority: authority}
		if f.Push.Register {
			registration.Callback = root + "/webhooks/" + f.Name
		}
		all = append(all, &consumer.Feed{Register: registration, Name: f.Name, URL: f.URL, Token: string(f.Token), Resources: f.Resources, Label: f.Push.Label,
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
func (a *agent) routes(closing context.Context) *routes {
	h := &routes{root: a.root, feeds: map[string]http.Handler{}, ways: a.ways(), unready: a.unready, metrics: a.metrics.handler(a.gate, a.logger), closing: closing}
	for feed, server := range a.servers {
		if server.Prefix == "/odata" {
			h.odata = server
		} else {
			h.feeds[feed] = server
		}
	}
	if len(a.feeds) > 0 {
		receiver := &consumer.Receiver{Feeds: map[string]*consumer.Feed{}, Root: a.root, Authority: a.authority, Logger: a.logger}
		for _, f := range a.feeds {
			receiver.Feeds[f.Name] = f
			h.targets = append(h.targets, f.Name)
		}
		h.webhooks = receiver
	}
	h.oauth, h.admin = oauth{a.gate}, a.admin()
	return h
}
