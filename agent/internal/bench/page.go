package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

type producerStore = *sqlite.Store

// pages measures pages of 1000 events at random positions of a small and of a large log, beside a bare
// handler that writes the same bytes.
func (b *bench) pages(ctx context.Context) error {
	title("pages of 1000 events by HTTP, one connection (limit: a bare handler that writes the same bytes)")
	store, _, err := b.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	root, stop, err := odata(ctx, store)
	if err != nil {
		return err
	}
	defer stop()
	small := func(n, rev int) []byte { return fmt.Appendf(nil, `{"ListingKey":"%s","Rev":%d}`, key(n), rev) }
	head := 0
	for _, events := range []int{10_000, b.events} {
		if err := fill(ctx, store, events/2, events-head, small); err != nil {
			return err
		}
		page, err := store.Events(ctx, entityevent.View{Feed: entityevent.Local, Mask: entityevent.Everyone}, entityevent.EventQuery{Limit: 1})
		if err != nil {
			return err
		}
		head = int(page.Head)
		target := func() string {
			after := rand.IntN(head - 1001)
			return root + "/odata/EntityEvent?$filter=" + url.QueryEscape(fmt.Sprintf("EntityEventSequence gt %d", after)) + "&$top=1000"
		}
		text, err := get(ctx, http.DefaultTransport, target())
		if err != nil {
			return err
		}
		bare, stopBare, err := serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(text) // a client that went away is not measured
		}))
		if err != nil {
			return err
		}
		limit, err := rate(ctx, func() string { return bare })
		stopBare()
		if err != nil {
			return err
		}
		got, err := rate(ctx, target)
		if err != nil {
			return err
		}
		line(fmt.Sprintf("log of %s events, pages of %d KB", human(float64(head)), len(text)>>10), got, limit, "pages/s")
	}
	return nil
}

// rate reads targets one after the other for three seconds and returns how many a second.
func rate(ctx context.Context, target func() string) (float64, error) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	n, start := 0, time.Now()
	for ; time.Since(start) < 3*time.Second; n++ {
		if _, err := get(ctx, transport, target()); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

func get(ctx context.Context, transport http.RoundTripper, target string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", resp.Status, text)
	}
	return text, err
}
