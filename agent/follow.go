package main

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent/retry"
	"github.com/resosync/resosync/entityevent/seal"
	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/box"
	sessions "github.com/resosync/resosync/producer/session"
	"github.com/resosync/resosync/producer/subscription"
	"github.com/resosync/resosync/producer/task"
)

// follow wires the ways to follow the log beside OData. All serve the one feed that /odata serves.
func (a *agent) follow(held *folder, anonymous *producer.Client) {
	dialer := callbackDialer(a.config)
	dialer.MaxIdle = a.files.kept
	a.callbacks = dialer.Client()
	a.teardown.add("close callbacks", func() error { a.callbacks.CloseIdleConnections(); return nil })
	a.pushers = &pushers{fixed: a.subscriptions, build: a.pusher, logger: a.logger}
	a.compaction.before = func(ctx context.Context) { a.pushers.skipInvisible(ctx, a.pushable) }
	feed := servedFeed(a.config)
	secrets := seal.New(a.authority.Key)
	a.registered = &subscription.API{Store: a.store, Gate: a.gate, Clients: a.gate.client, Feed: feed, Schema: a.schemas[feed], Callbacks: dialer,
		Seal: secrets, Fixed: a.subscriptions, Pushers: a.pushers, Root: a.root, Logger: a.logger}
	a.tasks = &task.Tasks{Store: a.store, Gate: a.gate, Server: a.servers[feed], Clients: a.gate.client, Folder: held.file(resultsFolder), Root: a.root, Holds: a.holds,
		Callbacks: dialer, Seal: secrets, UserAgent: userAgent(), Logger: a.logger}
	a.sessions = &sessions.Sessions{Store: a.store, Gate: a.gate, Feed: feed, Anonymous: anonymous, Address: addressOf, Holds: a.holds, Logger: a.logger}
	a.box = &box.Events{Store: a.store, Gate: a.gate, Feed: feed, Root: a.root, Name: a.config.Name, Holds: a.holds, Logger: a.logger}
}

// addressOf is the address that a request comes from.
func addressOf(r *http.Request) string {
	if v := visitOf(r.Context()); v != nil {
		return prefixOf(v.address).String()
	}
	return ""
}

// ways are what answers them, and the paths.
func (a *agent) ways() []way {
	return []way{
		{"/event-types", a.registered}, {"/subscriptions", a.registered},
		{"/tasks", a.tasks}, {"/2.0", a.box}, {"/events", a.box}, {"/api/sessions", a.sessions},
	}
}

// pusher pushes to one subscription, of the configuration or registered.
func (a *agent) pusher(s producer.Subscription) *producer.Pusher {
	turns := a.turns
	if a.pushers.isFixed(s.Name) { // these are the agent's own, and wait for nobody else's
		turns = nil
	}
	return &producer.Pusher{Store: a.registered.Through(), Subscription: s, HTTP: a.callbacks, Turns: turns, UserAgent: userAgent(), Logger: a.logger,
		Changed: func(now producer.SubscriptionState) {
			if now.Status == producer.Cancelled { // there is nothing left to resume
				return
			}
			a.sessions.Status(s.Client, map[string]any{"subscription": now.Name, "status": now.Status, "message": now.Reason})
		}}
}

func userAgent() string { return "resosync/" + versionText() }

// resultsFolder is where the results of tasks are kept, in the data folder.
const resultsFolder = "results"

// push pushes to all subscriptions until ctx ends.
func (a *agent) push(ctx context.Context) error { return a.pushers.run(ctx, a.registered.Active) }

// pushable lists what push would push to. While the store does not have the profiles of the configuration nobody knows
// what is for whom.
func (a *agent) pushable(ctx context.Context) ([]producer.Subscription, error) {
	if _, changed, err := a.store.PlanProfiles(ctx, a.profiles); err != nil || changed {
		return nil, cmp.Or(err, errors.New(profilesDiffer))
	}
	registered, _, err := a.registered.Plan(ctx)
	return slices.Concat(a.subscriptions, registered), err
}

// deregister ends what feeds registered with their producers that are no longer in the configuration, until ctx ends.
func (a *agent) deregister(ctx context.Context) error {
	former, err := consumer.Deregistered(ctx, a.store, a.authority, func(feed string) bool { return a.feed(feed) != nil })
	if err != nil {
		a.logger.Warn("what feeds of before registered is not cancelled; the next start tries again", "err", err)
		return nil
	}
	var group errgroup.Group
	for _, f := range former {
		f.Logger = a.logger
		group.Go(named("feed "+f.Name, func() error { return f.KeepRegistered(ctx) }))
	}
	return group.Wait()
}

// sweepEvery is how often what nobody needs any more is forgotten.
const sweepEvery = time.Hour

// sweep forgets what nobody needs any more of what clients registered, now and then until ctx ends.
func (a *agent) sweep(ctx context.Context) error {
	for {
		if err := a.registered.Sweep(ctx); err != nil && ctx.Err() == nil {
			a.logger.Warn("what was registered is not swept; it is tried again", "err", err)
		}
		if err := retry.Sleep(ctx, sweepEvery); err != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
	}
}

// callbackDialer reaches public addresses and those that the configuration allows.
func callbackDialer(c *config.Config) producer.CallbackDialer {
	if c.Producer == nil {
		return producer.CallbackDialer{}
	}
	return producer.CallbackDialer{AllowCallbacks: c.Producer.AllowCallbacks}
}
