package producer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// BenchmarkPush pushes a log to one subscriber over loopback; an operation is one event. The sink only
// decodes; the inbox commits each push durably before it answers.
func BenchmarkPush(b *testing.B) {
	for _, batch := range []int{100, 500} {
		for _, durable := range []string{"sink", "inbox"} {
			b.Run(fmt.Sprintf("batch=%d/%s", batch, durable), func(b *testing.B) {
				store, inbox := openStore(b, b.TempDir()), openStore(b, b.TempDir())
				subscribe(b, store, "b")
				var last entityevent.Sequence
				for n := b.N; n > 0; n -= 1000 {
					sequences := put(b, store, "local", min(n, 1000))
					last = sequences[len(sequences)-1]
				}
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					events, parseErr := entityevent.ParseEvents(body)
					after, through := sequence(r, "EntityEvent-After"), sequence(r, "EntityEvent-Through")
					if err = errors.Join(err, parseErr); err == nil && durable == "inbox" {
						_, err = inbox.Receive(r.Context(), entityevent.Delivery{
							Feed: "b", Log: "log", Chained: true, After: after, Through: through, Events: events,
						})
					}
					if err != nil {
						b.Error(err)
						cancel()
					}
					if through == last {
						cancel()
					}
				}))
				defer server.Close()
				p := &producer.Pusher{Store: store, HTTP: loopback().Client(), Subscription: producer.Subscription{
					Name: "b", Mask: entityevent.Everyone, URL: server.URL, Token: "t", Label: "b", BatchEvents: batch,
				}}
				defer p.HTTP.CloseIdleConnections()
				b.ResetTimer()
				b.ReportAllocs()
				if err := p.Run(ctx); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
