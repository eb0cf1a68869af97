package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// pushes measures events pushed to a durable inbox and to many subscribers, beside raw POSTs of the same
// batches to a sink that decodes them.
func (b *bench) pushes(ctx context.Context) error {
	const events = 200_000
	store, _, err := b.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	small := func(n, rev int) []byte { return fmt.Appendf(nil, `{"ListingKey":"%s","Rev":%d}`, key(n), rev) }
	if err := fill(ctx, store, 10_000, events, small); err != nil {
		return err
	}
	title("pushes, all in one process on loopback (limit: raw POSTs of the same batches on one connection to a sink that decodes them)")
	limits := map[int]float64{}
	for _, batch := range []int{1, 100, 500} {
		if limits[batch], err = rawPosts(ctx, batch); err != nil {
			return err
		}
		rate, err := b.intoInbox(ctx, store, batch, min(events, batch*2000))
		if err != nil {
			return err
		}
		line(fmt.Sprintf("batches of %d, 1 subscriber with a durable inbox", batch), rate, limits[batch], "events/s")
	}
	for _, batch := range []int{1, 100, 500} {
		for _, subscribers := range []int{1, 10, 100} {
			rate, err := toSinks(ctx, store, fmt.Sprintf("%d-%d", batch, subscribers), batch, subscribers, min(events, batch*2000)/subscribers)
			if err != nil {
				return err
			}
			line(fmt.Sprintf("batches of %d, %d subscribers that decode", batch, subscribers), rate, limits[batch], "events/s")
		}
	}
	return nil
}

// rawPosts posts one batch over and over on one connection to a sink.
func rawPosts(ctx context.Context, batch int) (float64, error) {
	var got atomic.Int64
	root, stop, err := serve(sink{func(n int) { got.Add(int64(n)) }})
	if err != nil {
		return 0, err
	}
	defer stop()
	events := make([]entityevent.Event, batch)
	for i := range events {
		events[i] = entityevent.Event{Sequence: entityevent.Sequence(i + 1), Ref: entityevent.Ref{Resource: "Property", Key: key(i)}}
	}
	payload := entityevent.AppendEvents(nil, events)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	start := time.Now()
	for time.Since(start) < 2*time.Second {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, root, bytes.NewReader(payload))
		if err != nil {
			return 0, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return 0, err
		}
		if err := resp.Body.Close(); err != nil {
			return 0, err
		}
	}
	return float64(got.Load()) / time.Since(start).Seconds(), nil
}

// intoInbox pushes to one consumer that stores durably what it acknowledges.
func (b *bench) intoInbox(ctx context.Context, store producerStore, batch, events int) (float64, error) {
	inbox, _, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	defer inbox.Close()
	f := &consumer.Feed{Name: "p", URL: "http://127.0.0.1:1/odata", Resources: []string{"Property"}, Store: inbox}
	if _, err := inbox.Receive(ctx, entityevent.Delivery{Feed: "p", Log: entityevent.LogID(string(store.LogID()) + "/all"), Adopt: true}); err != nil {
		return 0, err
	}
	handler, token, err := b.receiver(ctx, f)
	if err != nil {
		return 0, err
	}
	root, stop, err := serve(handler)
	if err != nil {
		return 0, err
	}
	defer stop()
	pusher, err := subscriber(ctx, store, producer.Subscription{Name: fmt.Sprintf("inbox-%d", batch), URL: root + "/webhooks/p", Token: token, BatchEvents: batch})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	start := time.Now()
	group.Go(func() error { return pusher.Run(ctx) })
	var took time.Duration
	var at entityevent.Position
	for took == 0 && time.Since(start) < 2*time.Minute {
		time.Sleep(2 * time.Millisecond)
		if at, err = inbox.Position(ctx, "p"); err != nil {
			return 0, err
		}
		if int(at.Sequence) >= events {
			took = time.Since(start)
		}
	}
	cancel()
	if err := group.Wait(); err != nil {
		return 0, err
	}
	if took == 0 {
		return 0, fmt.Errorf("pushes in batches of %d reached %d of %d", batch, at.Sequence, events)
	}
	return float64(at.Sequence) / took.Seconds(), nil
}

// toSinks pushes the same events to several subscribers at once.
func toSinks(ctx context.Context, store producerStore, name string, batch, subscribers, each int) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var got atomic.Int64
	root, stop, err := serve(sink{func(n int) {
		if got.Add(int64(n)) >= int64(subscribers*each) {
			cancel()
		}
	}})
	if err != nil {
		return 0, err
	}
	defer stop()
	var group errgroup.Group
	var pushers []*producer.Pusher
	for i := range subscribers {
		pusher, err := subscriber(ctx, store, producer.Subscription{Name: fmt.Sprintf("%s-%d", name, i), URL: root, Token: "t", BatchEvents: batch})
		if err != nil {
			return 0, err
		}
		pushers = append(pushers, pusher)
	}
	start := time.Now()
	for _, pusher := range pushers {
		group.Go(func() error { return pusher.Run(ctx) })
	}
	<-ctx.Done()
	took := time.Since(start)
	return float64(got.Load()) / took.Seconds(), group.Wait()
}
