package simulation

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// past is a copy of the producer's records that lags behind its log, as the replicas of large platforms do.
type past struct {
	entityevent.Store // nil: nothing but records is asked of it
	truth             *truth
	at                time.Time
}

// version is what a record was from a time on.
type version struct {
	at   time.Time
	body string
	hash entityevent.Hash
}

// Read implements entityevent.Records.
func (p *past) Read(_ context.Context, _ entityevent.View, q entityevent.Query) iter.Seq2[entityevent.Record, error] {
	p.truth.mu.Lock()
	defer p.truth.mu.Unlock()
	var records []entityevent.Record
	for ref, versions := range p.truth.history {
		if ref.Resource != q.Resource || ref.Key <= q.After || len(q.Keys) > 0 && !slices.Contains(q.Keys, ref.Key) {
			continue
		}
		i, found := slices.BinarySearchFunc(versions, p.at, func(v version, at time.Time) int { return v.at.Compare(at) })
		if found {
			i++
		}
		if i > 0 && versions[i-1].body != "" {
			records = append(records, entityevent.Record{Ref: ref, Body: json.RawMessage(versions[i-1].body), Hash: versions[i-1].hash})
		}
	}
	slices.SortFunc(records, func(a, b entityevent.Record) int { return byName(a.Ref, b.Ref) })
	if q.Limit > 0 {
		records = records[:min(q.Limit, len(records))]
	}
	return func(yield func(entityevent.Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// foreign is the producer as one that has no log id: half of what it answers is of its past, and some of its
// events are published late.
func (w *world) foreign(ctx context.Context, in *http.Request) (*reply, error) {
	what := "foreign " + in.URL.RequestURI()
	dice := w.dice(what)
	switch path := in.URL.Path; {
	case w.plan.lag == 0 || w.quiet() || strings.HasSuffix(path, "/$metadata"):
	case strings.HasSuffix(path, "/EntityEvent"):
		return w.published(ctx, in)
	case dice.IntN(2) == 0:
		l := w.producer.alive()
		if l == nil {
			return nil, errRefused
		}
		s := l.handler.(*producer.Server)
		return serve(&producer.Server{Schema: s.Schema, Gate: s.Gate, Root: s.Root, Prefix: s.Prefix,
			Store: &past{truth: w.truth, at: time.Now().Add(-between(dice, 0, w.plan.lag))}}, in)
	}
	return w.producer.host(ctx, in)
}

// published leaves out of a page of events those that are not published yet.
func (w *world) published(ctx context.Context, in *http.Request) (*reply, error) {
	newest := strings.HasSuffix(in.URL.RawQuery, "desc&$top=1")
	if newest {
		in.URL.RawQuery = strings.TrimSuffix(in.URL.RawQuery, "1") + "50"
	}
	got, err := w.producer.host(ctx, in)
	if err != nil || got.status != http.StatusOK {
		return got, err
	}
	var page map[string]json.RawMessage
	var events []json.RawMessage
	if json.Unmarshal(got.body, &page) != nil || json.Unmarshal(page["value"], &events) != nil {
		return got, nil
	}
	events = slices.DeleteFunc(events, func(text json.RawMessage) bool {
		var e struct{ EntityEventSequence entityevent.Sequence }
		_ = json.Unmarshal(text, &e) // ours
		return time.Now().Before(w.truth.published(e.EntityEventSequence))
	})
	if newest {
		events = events[:min(1, len(events))]
		delete(page, "@odata.nextLink")
	}
	if events == nil {
		events = []json.RawMessage{}
	}
	less := *got
	page["value"], _ = json.Marshal(events)
	less.body, _ = json.Marshal(page)
	less.header = got.header.Clone()
	less.header.Del("Content-Length")
	return &less, nil
}

// published returns when an event is published: one in four is late.
func (t *truth) published(seq entityevent.Sequence) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.committedAt[seq]
	if mixed := uint64(seq) * 0x9e3779b97f4a7c15 >> 32; mixed%4 == 0 {
		at = at.Add(time.Duration(mixed>>2) % t.w.plan.lag)
	}
	return at
}
