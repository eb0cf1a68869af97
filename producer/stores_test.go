package producer_test

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent"
)

// countingReads counts the keys that are read.
type countingReads struct {
	entityevent.Store
	keys int
}

func (c *countingReads) Read(ctx context.Context, v entityevent.View, q entityevent.Query) iter.Seq2[entityevent.Record, error] {
	c.keys += len(q.Keys)
	return c.Store.Read(ctx, v, q)
}

// failingReads fails after some records of every Read.
type failingReads struct {
	entityevent.Store
	after int
}

var errDisk = errors.New("disk on fire")

func (f failingReads) Read(ctx context.Context, v entityevent.View, q entityevent.Query) iter.Seq2[entityevent.Record, error] {
	return func(yield func(entityevent.Record, error) bool) {
		n := 0
		for r, err := range f.Store.Read(ctx, v, q) {
			if n == f.after {
				yield(entityevent.Record{}, errDisk)
				return
			}
			n++
			if !yield(r, err) {
				return
			}
		}
	}
}

// fixedEvents answers with events that the standard has, which no store has numbered so.
type fixedEvents struct {
	entityevent.Store
	events []entityevent.Event
}

func (f fixedEvents) Events(_ context.Context, _ entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	head := f.events[len(f.events)-1].Sequence
	p := entityevent.Page{Log: "0b5e6f3e-5d5c-4f0e-9d5a-1f6f1a1c2f00", Head: head, Through: head}
	for _, e := range f.events {
		if e.Sequence > q.After && (q.Before == 0 || e.Sequence < q.Before) {
			p.Events = append(p.Events, e)
		}
	}
	return p, nil
}

// record answers a request in this process, without a connection.
func record(t testing.TB, h http.Handler, target string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	document().Handler(t, h).ServeHTTP(w, r)
	return w
}
