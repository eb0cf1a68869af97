package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

const changesPerSecond = 200

// lives measures the way of one change, from before its write to the producer's HTTP interface to its
// commit at the consumer, for each way of following.
func (b *bench) lives(ctx context.Context) error {
	title("live: %d changes/s for %s, from before the write to the commit at the consumer", changesPerSecond, b.live)
	floor, err := b.floor(ctx)
	if err != nil {
		return err
	}
	report("limit: 3 bare requests and 3 raw commits, in turn", floor)
	for _, way := range []string{"push", "long poll", "poll every second"} {
		delays, err := b.follow(ctx, way)
		if err != nil {
			return fmt.Errorf("%s: %w", way, err)
		}
		report(way, delays)
	}
	return nil
}

func report(name string, delays []time.Duration) {
	slices.Sort(delays)
	at := func(q float64) time.Duration {
		return delays[int(q*float64(len(delays)-1))].Round(10 * time.Microsecond)
	}
	fmt.Printf("  %-52s p50 %10s   p99 %10s   max %10s   (%d changes)\n", name, at(0.5), at(0.99), at(1), len(delays))
}

// floor measures what no change can be faster than: it is written, pushed and fetched by HTTP, and
// committed as a record, as an inbox row and as a record of the replica.
func (b *bench) floor(ctx context.Context) ([]time.Duration, error) {
	dir, err := b.folder()
	if err != nil {
		return nil, err
	}
	db, _, err := openRaw(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	root, stop, err := serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	if err != nil {
		return nil, err
	}
	defer stop()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	delays := make([]time.Duration, 1000)
	for i := range delays {
		start := time.Now()
		for step := range 3 {
			if _, err := get(ctx, transport, root); err != nil {
				return nil, err
			}
			if _, err := rawInsert(ctx, db, 3*i+step, 1); err != nil {
				return nil, err
			}
		}
		delays[i] = time.Since(start)
	}
	return delays, nil
}

// follow runs a producer and a consumer and returns how long each change took.
func (b *bench) follow(ctx context.Context, way string) ([]time.Duration, error) {
	source, _, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	replica, _, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	defer replica.Close()
	if err := fill(ctx, source, 1000, 1000, body); err != nil {
		return nil, err
	}
	root, stop, err := odata(ctx, source)
	if err != nil {
		return nil, err
	}
	defer stop()
	f := &consumer.Feed{Name: "p", URL: root + "/odata", Resources: []string{"Property"}, Store: replica, LongPoll: way == "long poll"}
	if way == "poll every second" {
		f.Poll = "@every 1s"
	}
	if err := f.Sync(ctx, consumer.SyncOptions{}, func(consumer.Progress) {}); err != nil {
		return nil, err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	group.Go(func() error { return f.Follow(ctx) })
	group.Go(func() error { return f.Apply(ctx) })
	if way == "push" {
		handler, token, err := b.receiver(ctx, f)
		if err != nil {
			return nil, err
		}
		hook, stop, err := serve(handler)
		if err != nil {
			return nil, err
		}
		defer stop()
		pusher, err := subscriber(ctx, source, producer.Subscription{Name: "live", URL: hook + "/webhooks/p", Token: token})
		if err != nil {
			return nil, err
		}
		group.Go(func() error { return pusher.Run(ctx) })
	}
	w := &watch{started: map[string]time.Time{}}
	n := int(b.live.Seconds() * changesPerSecond)
	group.Go(func() error { return w.replica(ctx, replica, n, cancel) })
	time.Sleep(2 * time.Second) // the loops come to rest
	if err := w.write(ctx, root, n); err != nil {
		return nil, err
	}
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return nil, err
	}
	if len(w.delays) < n {
		return nil, fmt.Errorf("%d of %d changes arrived", len(w.delays), n)
	}
	return w.delays, nil
}

// watch notes when changes were begun, and when they were committed.
type watch struct {
	mu      sync.Mutex
	started map[string]time.Time
	delays  []time.Duration
}

// write makes n changes at an even pace, each of a record of its own.
func (w *watch) write(ctx context.Context, root string, n int) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(time.Second / changesPerSecond)
	defer tick.Stop()
	var group errgroup.Group
	group.SetLimit(8)
	for i := range n {
		<-tick.C
		group.Go(func() error {
			id := 10_000 + i
			content := body(id, 1)
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, root+"/odata/Property('"+key(id)+"')", bytes.NewReader(content))
			if err != nil {
				return err
			}
			req.Header.Set("Content-Type", "application/json")
			w.mu.Lock()
			w.started[key(id)] = time.Now()
			w.mu.Unlock()
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err == nil && resp.StatusCode != http.StatusCreated {
				err = fmt.Errorf("PUT: %s: %s", resp.Status, text)
			}
			return err
		})
	}
	return group.Wait()
}

// replica follows the consumer's own log and notes when each change was committed there.
func (w *watch) replica(ctx context.Context, log entityevent.Log, n int, done func()) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	defer done()
	view := entityevent.View{Feed: "p", Mask: entityevent.Everyone}
	var after entityevent.Sequence
	for {
		page, err := log.Events(ctx, view, entityevent.EventQuery{After: after, Limit: 1000})
		if err != nil {
			return err
		}
		now := time.Now()
		w.mu.Lock()
		for _, e := range page.Events {
			if start, ok := w.started[e.Key]; ok {
				w.delays = append(w.delays, now.Sub(start))
				delete(w.started, e.Key)
			}
		}
		arrived := len(w.delays)
		w.mu.Unlock()
		if arrived == n {
			return nil
		}
		after = page.Through
		if err := log.Wait(ctx, view, entityevent.EventQuery{After: after}); err != nil {
			return err
		}
	}
}
