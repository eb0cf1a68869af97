package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// vitals are one look at the agent: what readiness, status and metrics are made of. It asks nobody else.
type vitals struct {
	at            time.Time
	feeds         []consumer.Status
	subscriptions []subscriptionStatus
	registered    registeredStatus
	restored      *producer.RestoredState // nil: it was not
	err           error                   // why the store did not tell all of it
	incomplete    error                   // why it did not tell of registered, which is nobody else's trouble
}

// vitals looks at the feeds and subscriptions. It goes on where the store fails.
func (a *agent) vitals(ctx context.Context) vitals {
	v := vitals{at: time.Now()}
	var errs []error
	for _, f := range a.feeds {
		s, err := f.Status(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		v.feeds = append(v.feeds, s)
	}
	all, notKnown := a.registered.Registered(ctx)
	err := a.lookAtSubscriptions(ctx, &v, all.Others)
	if err != nil {
		errs = append(errs, err)
	}
	if v.restored, err = producer.Restored(ctx, a.store); err != nil {
		errs = append(errs, err)
	}
	v.err = errors.Join(errs...)
	if v.incomplete = notKnown; notKnown == nil { // last, for it may be much
		v.registered, v.incomplete = a.registeredStatus(ctx, all)
	}
	return v
}

// lookAtSubscriptions looks at those of the configuration, and at those that were in it once.
func (a *agent) lookAtSubscriptions(ctx context.Context, v *vitals, others []string) error {
	names := slices.Clone(others)
	for _, sub := range a.subscriptions {
		names = append(names, sub.Name)
	}
	slices.Sort(names)
	var states []producer.SubscriptionState
	for _, name := range slices.Compact(names) {
		state, err := producer.ReadState(ctx, a.store, name)
		if errors.Is(err, entityevent.ErrAbsent) {
			continue
		}
		if err != nil {
			return err
		}
		states = append(states, state)
	}
	var err error
	v.subscriptions, err = a.subscriptionStatuses(ctx, states)
	return err
}

const (
	// lookPatience is how long the store may take for one look: whoever asks is not kept for longer.
	lookPatience = 3 * time.Second
	// lookFresh is how old a look may be: those who ask more often share it.
	lookFresh = 500 * time.Millisecond
)

var errLookTimeout = errors.New("the store did not answer in time")

// lookout looks for everybody who asks whether the agent is well. There is one look at a time, and nobody
// waits for one that hangs: a disk may hang without an error, and then no context ends it.
type lookout struct {
	vitals func(context.Context) vitals

	mu      sync.Mutex
	last    vitals
	under   chan struct{} // closed when the look under way ends; nil: none is
	looking sync.WaitGroup
}

// look returns a fresh look, or one that says that the store does not answer.
func (l *lookout) look(ctx context.Context) vitals {
	l.mu.Lock()
	if time.Since(l.last.at) < lookFresh {
		defer l.mu.Unlock()
		return l.last
	}
	if l.under == nil {
		l.under = make(chan struct{})
		l.looking.Go(func() { l.once(context.WithoutCancel(ctx)) })
	}
	under := l.under
	l.mu.Unlock()

	patience := time.NewTimer(lookPatience + time.Second)
	defer patience.Stop()
	select {
	case <-under:
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.last
	case <-patience.C:
		return vitals{at: time.Now(), err: errLookTimeout}
	case <-ctx.Done():
		return vitals{at: time.Now(), err: context.Cause(ctx)}
	}
}

func (l *lookout) once(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookPatience, errLookTimeout)
	defer cancel()
	v := l.vitals(ctx)
	v.at = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = v
	close(l.under)
	l.under = nil
}

// Close waits for the look under way.
func (l *lookout) Close() error {
	l.looking.Wait()
	return nil
}
