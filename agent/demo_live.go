package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/time/rate"

	"github.com/resosync/resosync/agent/internal/listing"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/retry"
)

// levelWithin is how long a demonstration waits for the consumer.
const levelWithin = 2 * time.Minute

// fill imports the first records into the producer, which does not run yet, as a nightly file would.
func (d *demo) fill(ctx context.Context, p *pair) error {
	d.market = listing.New(listing.Options{Seed: d.seed, Records: d.records})
	files := map[string]*bytes.Buffer{}
	for _, resource := range listing.Resources {
		files[resource] = new(bytes.Buffer)
	}
	for r := range d.market.Records() {
		files[r.Resource].Write(append(r.Body, '\n'))
	}
	started := time.Now()
	show := d.newProgress("1. import", int64(d.records), progressbar.OptionShowCount())
	err := d.offline(ctx, p.producer, func(s *session) error {
		done := 0
		for _, resource := range listing.Resources {
			result, err := s.importLines(ctx, resource, files[resource])
			if err != nil {
				return err
			}
			if result.Refused > 0 {
				return fmt.Errorf("import of %s: %d refused", resource, result.Refused)
			}
			done += result.New
			show.at(int64(done), resource)
		}
		return nil
	})
	show.end()
	if err != nil {
		return err
	}
	d.say("1. import      %s put into the producer in %.1f s: one numbered event each\n", plural(int64(d.records), "record"), time.Since(started).Seconds())
	return nil
}

// firstLoad starts both agents, and waits until the consumer has copied everything.
func (d *demo) firstLoad(ctx context.Context, p *pair) error {
	if err := d.start(ctx, p, p.producer); err != nil {
		return err
	}
	started := time.Now()
	if err := d.start(ctx, p, p.consumer); err != nil {
		return err
	}
	show := d.newProgress("2. first load", int64(d.records), progressbar.OptionShowCount())
	err := d.waitLevel(ctx, p, func(now status) {
		var n int64
		for _, records := range now.Records[demoFeed] {
			n += records
		}
		show.at(n, plural(n, "record"))
		d.report.Loaded = int(n)
	})
	show.end()
	if err != nil {
		return err
	}
	took := time.Since(started)
	d.report.LoadTime = took.Seconds()
	d.say("2. first load  %s copied by the consumer in %.1f s, %s a second\n", plural(int64(d.report.Loaded), "record"), took.Seconds(),
		count(int64(float64(d.report.Loaded)/took.Seconds())))
	return nil
}

// live makes changes at the producer, by its write API, and watches them arrive in the replica.
func (d *demo) live(ctx context.Context, p *pair) error {
	if d.length == 0 {
		return nil
	}
	d.say("3. live        %d changes a second for %v: prices, statuses, new listings, removals\n", d.rate, d.length)
	d.say("\n   Look at it meanwhile, in another terminal:\n")
	d.say("     curl -H 'Authorization: Bearer %s' '%s/odata/Property?$top=1'\n", p.reader, p.producer.url)
	d.say("     %s -c %s events --follow --after now\n", os.Args[0], p.producer.file)
	d.say("     %s -c %s status\n", os.Args[0], p.consumer.file)
	d.say("     sqlite3 %s 'select key, body from records limit 3'\n\n", p.consumer.store())
	if err := p.watch.start(ctx, p.consumer.session); err != nil {
		return err
	}
	writer := remoteSession(p.producer.url, p.writer, nil)
	defer writer.close() //nolint:errcheck // it cannot fail
	limit := rate.NewLimiter(rate.Limit(d.rate), 1)
	show := d.newProgress("   live", d.length.Milliseconds())
	defer show.end()
	begun := time.Now()
	for time.Since(begun) < d.length {
		for _, change := range d.market.Next() {
			if err := limit.Wait(ctx); err != nil {
				return context.Cause(ctx)
			}
			p.watch.expect(change.Record)
			if err := write(ctx, writer, change); err != nil {
				return err
			}
			d.report.Changes++
			show.at(time.Since(begun).Milliseconds(), p.watch.text(d.report.Changes))
		}
	}
	d.report.LiveTime = time.Since(begun).Seconds()
	return nil
}

// write makes one change by the write API.
func write(ctx context.Context, s *session, c listing.Change) error {
	method, path := http.MethodPost, "/odata/"+c.Resource
	if c.Op != listing.Create {
		path = "/odata/" + odata.KeySegment(c.Resource, c.Key, true)
		method = map[listing.Op]string{listing.Update: http.MethodPatch, listing.Remove: http.MethodDelete}[c.Op]
	}
	header := http.Header{"Prefer": {"return=minimal"}, "Content-Type": {"application/json"}}
	resp, err := s.send(ctx, method, path, header, bytes.NewReader(c.Body))
	if err != nil {
		return fmt.Errorf("%s %s('%s'): %w", method, c.Resource, c.Key, err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// settle waits until the consumer has everything.
func (d *demo) settle(ctx context.Context, p *pair) error {
	err := d.waitLevel(ctx, p, func(status) {})
	p.watch.stop()
	if err != nil || d.length == 0 {
		return err
	}
	d.report.P50, d.report.P99 = p.watch.quantile(0.5), p.watch.quantile(0.99)
	d.say("   %s in %.1f s; from the write to the commit in the replica: half within %.1f ms, 99%% within %.1f ms\n",
		plural(int64(d.report.Changes), "change"), d.report.LiveTime, d.report.P50, d.report.P99)
	return nil
}

// waitLevel waits until the consumer has applied everything that the producer's log holds, and shows its
// status meanwhile.
func (d *demo) waitLevel(ctx context.Context, p *pair, show func(status)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, levelWithin, fmt.Errorf("the consumer did not catch up within %v", levelWithin))
	defer cancel()
	var head status
	if err := p.producer.session.call(ctx, http.MethodGet, "/admin/status", nil, &head); err != nil {
		return err
	}
	for {
		var now status
		if err := p.consumer.session.call(ctx, http.MethodGet, "/admin/status", nil, &now); err != nil {
			return err
		}
		show(now)
		f := now.Feeds[0]
		if f.Loaded && f.Loading == nil && !f.Behind && f.Pending == 0 && f.Recheck == 0 && f.Sequence >= head.Head {
			return nil
		}
		if err := retry.Sleep(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("%w: feed %s is %s", err, f.Feed, feedText(f, true))
		}
	}
}

// watch measures how long changes take to the replica, by following the replica's own log.
type watch struct {
	mu      sync.Mutex
	begun   map[entityevent.Ref]time.Time // of changes that did not arrive yet
	took    []time.Duration
	cancel  context.CancelFunc
	stopped chan struct{}
}

func (w *watch) start(ctx context.Context, s *session) error {
	w.begun = map[entityevent.Ref]time.Time{}
	root := "/odata"
	newest, err := s.newest(ctx, root)
	if err != nil {
		return err
	}
	ctx, w.cancel = context.WithCancel(ctx)
	w.stopped = make(chan struct{})
	go func() {
		defer close(w.stopped)
		q := eventsQuery{after: newest, follow: true}
		for ctx.Err() == nil {
			page, err := s.events(ctx, root, q)
			if err != nil {
				return // the comparison tells whether anything is amiss
			}
			for _, e := range page.events {
				w.arrived(e.Ref)
			}
			q.after, q.next = page.through, page.next
		}
	}()
	return nil
}

func (w *watch) stop() {
	if w.cancel != nil {
		w.cancel()
		<-w.stopped
	}
}

func (w *watch) expect(r listing.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ref := entityevent.Ref{Resource: r.Resource, Key: r.Key}
	if _, waiting := w.begun[ref]; !waiting {
		w.begun[ref] = time.Now()
	}
}

func (w *watch) arrived(ref entityevent.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if begun, waiting := w.begun[ref]; waiting {
		w.took = append(w.took, time.Since(begun))
		delete(w.begun, ref)
	}
}

func (w *watch) text(changes int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprintf("%s, %s in the replica, %d on the way", plural(int64(changes), "change"), count(int64(len(w.took))), len(w.begun))
}

// quantile is in milliseconds; 0 when nothing arrived.
func (w *watch) quantile(q float64) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(w.took))
	return float64(sorted[int(q*float64(len(sorted)-1))].Microseconds()) / 1000
}
