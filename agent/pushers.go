package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent/retry"
	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/subscription"
)

// pushers push to the subscriptions of the configuration, and to those that are registered while the agent runs. Each has
// a goroutine of its own, which run waits for. Before run nothing is pushed, nor for a command that serves itself: what is
// registered then is pushed to once the agent runs.
type pushers struct {
	fixed  []producer.Subscription // of the configuration
	build  func(producer.Subscription) *producer.Pusher
	logger *slog.Logger

	mu      sync.Mutex
	ctx     context.Context // of run; nil: it is not under way
	byName  map[string]*pushing
	all     map[*pushing]bool  // also those whose place another takes
	ended   producer.PushStats // of registered ones that are no more
	running sync.WaitGroup
}

var _ subscription.Pushers = (*pushers)(nil)

// pushing is a pusher at work.
type pushing struct {
	*producer.Pusher
	stop  context.CancelFunc
	ended chan struct{}
}

// run pushes to the subscriptions of the configuration, to those that active lists, and to those that Start adds, until
// ctx ends and all have stored where they stand.
func (p *pushers) run(ctx context.Context, active func(context.Context) ([]producer.Subscription, error)) error {
	p.mu.Lock()
	p.ctx, p.byName, p.all = ctx, map[string]*pushing{}, map[*pushing]bool{}
	p.mu.Unlock()
	p.adopt(p.fixed)
	for failures := 0; ctx.Err() == nil; {
		registered, err := active(ctx)
		if err == nil {
			p.adopt(registered)
			break
		}
		if failures++; failures == 1 && ctx.Err() == nil {
			p.logger.Error("registered subscriptions wait for the store", "err", err)
		}
		_ = retry.Sleep(ctx, retry.Backoff{Min: time.Second, Max: 10 * time.Second}.Delay(failures)) // its error is ctx's, which ends the loop
	}
	<-ctx.Done()
	p.mu.Lock()
	p.ctx = nil
	p.mu.Unlock()
	p.running.Wait()
	return nil
}

// adopt begins to push to subscriptions that were read a moment ago: what was started since is newer.
func (p *pushers) adopt(list []producer.Subscription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range list {
		if p.byName[s.Name] == nil {
			p.start(s)
		}
	}
}

// Start implements subscription.Pushers.
func (p *pushers) Start(s producer.Subscription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.start(s)
}

// start is Start, while mu is held.
func (p *pushers) start(s producer.Subscription) {
	if p.ctx == nil {
		return
	}
	ctx, stop := context.WithCancel(p.ctx)
	next := &pushing{Pusher: p.build(s), stop: stop, ended: make(chan struct{})}
	before := p.byName[s.Name]
	p.byName[s.Name], p.all[next] = next, true
	p.running.Go(func() {
		defer close(next.ended)
		defer stop()
		if before != nil {
			before.stop()
			<-before.ended
		}
		if err := next.Run(ctx); err != nil { // it can never work, which no other has to suffer from
			p.logger.Error("subscription is not pushed to", "subscription", s.Name, "err", err)
		}
		p.forget(s.Name, next)
	})
}

// forget takes a pusher off the set that has ended, and keeps what it counted.
func (p *pushers) forget(name string, it *pushing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byName[name] == it {
		delete(p.byName, name)
	}
	delete(p.all, it)
	if !p.isFixed(name) {
		p.ended = sum(p.ended, it.Stats())
	}
}

// Wake implements subscription.Pushers.
func (p *pushers) Wake(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := p.byName[name]; one != nil {
		one.Pusher.Wake()
	}
}

// wakeAll makes all look at the log now.
func (p *pushers) wakeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.byName {
		one.Pusher.Wake()
	}
}

// skipInvisible has all store their positions past what is not for them: those that are pushed to or, while nothing is
// pushed, those that idle lists.
func (p *pushers) skipInvisible(ctx context.Context, idle func(context.Context) ([]producer.Subscription, error)) {
	var all []*producer.Pusher
	under := p.underWay()
	p.mu.Lock()
	for _, one := range p.byName {
		all = append(all, one.Pusher)
	}
	p.mu.Unlock()
	if !under {
		subs, err := idle(ctx)
		if err != nil && ctx.Err() == nil {
			p.logger.Warn("positions were not moved past what is forgotten now: subscriptions may be suspended for that", "err", err)
		}
		for _, s := range subs {
			all = append(all, p.build(s))
		}
	}
	for _, one := range all {
		if err := one.SkipInvisible(ctx); err != nil && ctx.Err() == nil {
			p.logger.Warn("position was not moved past what is forgotten now: the subscription may be suspended for that", "subscription", one.Subscription.Name, "err", err)
		}
	}
}

// underWay says whether run is.
func (p *pushers) underWay() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ctx != nil
}

// stats are the totals since the agent's start: of each subscription of the configuration, and of all that are registered.
func (p *pushers) stats() (fixed map[string]producer.PushStats, registered producer.PushStats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fixed, registered = map[string]producer.PushStats{}, sum(p.ended, producer.PushStats{})
	for one := range p.all {
		if name := one.Subscription.Name; p.isFixed(name) {
			fixed[name] = one.Stats()
		} else {
			registered = sum(registered, one.Stats())
		}
	}
	return fixed, registered
}

func (p *pushers) isFixed(name string) bool {
	return slices.ContainsFunc(p.fixed, func(s producer.Subscription) bool { return s.Name == name })
}

func sum(a, b producer.PushStats) producer.PushStats {
	all := producer.PushStats{Events: a.Events + b.Events, Retries: a.Retries + b.Retries, Batches: map[string]int64{}}
	for _, one := range []producer.PushStats{a, b} {
		for outcome, n := range one.Batches {
			all.Batches[outcome] += n
		}
	}
	return all
}
