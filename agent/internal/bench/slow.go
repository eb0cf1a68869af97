package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// Rounds with and without the slow subscriber take turns, for whatever else the machine does to fall on both.
const (
	slowSubscribers = 10
	slowAnswer      = 3 * time.Second
	slowPairs       = 16 // of a round with it and one without
	slowRound       = time.Second
	slowSettling    = 200 * time.Millisecond // at the beginning of a round, not measured
)

// slow measures whether one slow subscriber delays the others: the way of one change from before its write
// to the arrival of its push, at nine subscribers, with and without a tenth that takes 3 s for each answer.
func (b *bench) slow(ctx context.Context) error {
	title("slow: %d subscribers at %d changes/s, %v for each way in turns; from before the write to the arrival at the %d that answer at once",
		slowSubscribers, changesPerSecond, slowRound*slowPairs, slowSubscribers-1)
	store, _, err := b.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	arrivals := &arrivals{written: map[string]time.Time{}}
	root, stop, err := serve(arrivals)
	if err != nil {
		return err
	}
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := producer.CallbackDialer{AllowCallbacks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}.Client() // one for all, as in an agent
	defer client.CloseIdleConnections()
	var group errgroup.Group
	var slowest *producer.Pusher
	for i := range slowSubscribers {
		path := "/fast"
		if i == 0 {
			path = "/slow"
		}
		pusher, err := subscriber(ctx, store, producer.Subscription{Name: fmt.Sprintf("%d", i), URL: root + path, Token: "t"})
		if err != nil {
			return err
		}
		pusher.HTTP = client
		if i == 0 {
			slowest = pusher
			continue
		}
		group.Go(func() error { return pusher.Run(ctx) })
	}
	pairs := make([]pair, slowPairs)
	for n := range 2 * slowPairs {
		with := n%4 == 1 || n%4 == 2
		taken, err := arrivals.round(ctx, store, n, with, slowest)
		if err != nil {
			return err
		}
		if with {
			pairs[n/2].with = taken
		} else {
			pairs[n/2].without = taken
		}
	}
	cancel()
	if err := group.Wait(); err != nil {
		return err
	}
	slices.SortFunc(pairs, func(a, b pair) int { return cmp.Compare(p99(a.with)+p99(a.without), p99(b.with)+p99(b.without)) })
	var with, without []time.Duration
	for _, quiet := range pairs[:slowPairs/2] { // in the others the machine had something else to do
		with, without = append(with, quiet.with...), append(without, quiet.without...)
	}
	report("without the slow one", without)
	report("with it", with)
	fmt.Printf("  p99 with it is %.2f of that without it, in the quieter half of %d pairs of rounds\n", float64(p99(with))/float64(p99(without)), slowPairs)
	return nil
}

// pair is how long changes took in two rounds, one after the other.
type pair struct{ with, without []time.Duration }

func p99(delays []time.Duration) time.Duration {
	slices.Sort(delays)
	return delays[len(delays)*99/100]
}

// arrivals notes how long changes took to come to the subscribers.
type arrivals struct {
	mu      sync.Mutex
	written map[string]time.Time
	delays  []time.Duration
}

// ServeHTTP is all of the subscribers.
func (a *arrivals) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	now := time.Now()
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if r.URL.Path == "/slow" {
		select {
		case <-time.After(slowAnswer):
		case <-r.Context().Done():
		}
		return
	}
	events, err := entityevent.ParseEvents(raw)
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range events {
		if start, ok := a.written[e.Key]; ok {
			a.delays = append(a.delays, now.Sub(start))
		}
	}
}

// round makes changes at an even pace and returns how long each took to each of the fast subscribers.
func (a *arrivals) round(ctx context.Context, log entityevent.Log, n int, with bool, slowest *producer.Pusher) ([]time.Duration, error) {
	var group errgroup.Group
	defer func() { _ = group.Wait() }() // of a Run that ended because we said so
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if with {
		group.Go(func() error { return slowest.Run(ctx) })
	}
	tick := time.NewTicker(time.Second / changesPerSecond)
	defer tick.Stop()
	measured := 0
	for start := time.Now(); time.Since(start) < slowRound; {
		<-tick.C
		k := fmt.Sprintf("%d-%d", n, measured)
		now := time.Now()
		if now.Sub(start) > slowSettling {
			a.mu.Lock()
			a.written[k] = now
			a.mu.Unlock()
			measured++
		} else {
			k = fmt.Sprintf("%d-%d", n, now.UnixNano())
		}
		change := entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: k}, Op: entityevent.Put, Body: fmt.Appendf(nil, `{"ListingKey":%q}`, k)}
		if _, err := log.Apply(ctx, entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{change}}); err != nil {
			return nil, err
		}
	}
	want := measured * (slowSubscribers - 1)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		a.mu.Lock()
		delays := a.delays
		a.mu.Unlock()
		switch {
		case len(delays) >= want:
			a.mu.Lock()
			defer a.mu.Unlock()
			a.written, a.delays = map[string]time.Time{}, nil
			return delays, nil
		case time.Now().After(deadline):
			return nil, fmt.Errorf("%d of %d changes arrived", len(delays), want)
		}
	}
}
