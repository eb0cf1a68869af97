package consumer_test

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
)

// guillotine lets so many calls of the store and requests of the network through, and none after them: as
// if the process had ended there. Calls are counted before they do anything.
type guillotine struct {
	consumer.Store
	network wire
	left    int64
}

// stride is how many calls lie between two cuts.
func stride(n int64) int64 {
	if testing.Short() {
		return 7 * n
	}
	return n
}

var errCut = errors.New("the process has ended")

func (g *guillotine) fall() error {
	if atomic.AddInt64(&g.left, -1) < 0 {
		return errCut
	}
	return nil
}

func (g *guillotine) roundTrip(r *http.Request) (*http.Response, error) {
	if err := g.fall(); err != nil {
		return nil, err
	}
	return g.network(r)
}

func (g *guillotine) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	if err := g.fall(); err != nil {
		return nil, err
	}
	return g.Store.Apply(ctx, c)
}

func (g *guillotine) Receive(ctx context.Context, d entityevent.Delivery) (entityevent.Position, error) {
	if err := g.fall(); err != nil {
		return entityevent.Position{}, err
	}
	return g.Store.Receive(ctx, d)
}

func (g *guillotine) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	if err := g.fall(); err != nil {
		return entityevent.Page{}, err
	}
	return g.Store.Events(ctx, v, q)
}

func (g *guillotine) Read(ctx context.Context, v entityevent.View, q entityevent.Query) iter.Seq2[entityevent.Record, error] {
	if err := g.fall(); err != nil {
		return func(yield func(entityevent.Record, error) bool) { yield(entityevent.Record{}, err) }
	}
	return g.Store.Read(ctx, v, q)
}

func (g *guillotine) Count(ctx context.Context, v entityevent.View, q entityevent.Query) (int64, error) {
	if err := g.fall(); err != nil {
		return 0, err
	}
	return g.Store.Count(ctx, v, q)
}

func (g *guillotine) Get(ctx context.Context, kind, id string) (entityevent.Doc, error) {
	if err := g.fall(); err != nil {
		return entityevent.Doc{}, err
	}
	return g.Store.Get(ctx, kind, id)
}

func (g *guillotine) List(ctx context.Context, kind string) ([]entityevent.Doc, error) {
	if err := g.fall(); err != nil {
		return nil, err
	}
	return g.Store.List(ctx, kind)
}

func (g *guillotine) Position(ctx context.Context, feed string) (entityevent.Position, error) {
	if err := g.fall(); err != nil {
		return entityevent.Position{}, err
	}
	return g.Store.Position(ctx, feed)
}

func (g *guillotine) Take(ctx context.Context, feed string, limit int) ([]entityevent.Item, error) {
	if err := g.fall(); err != nil {
		return nil, err
	}
	return g.Store.Take(ctx, feed, limit)
}
