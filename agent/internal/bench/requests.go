package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

// How many records there are for what the size of the store must not matter to.
const (
	fewRecords  = 1_000
	manyRecords = 1_000_000
	longRecords = 2_000 // of 20 KB
)

// modified is when the nth record was changed: a second after the one before.
func modified(n int) time.Time { return time.Unix(1_600_000_000+int64(n), 0).UTC() }

// listing is a record of about 1.3 KB, or longer, with its own ModificationTimestamp.
func listing(n, size int) []byte {
	text := fmt.Appendf(nil, `{"ListingKey":"%s","ListingId":"A%d","ListPrice":%d,"StandardStatus":"Active","PropertyType":"Residential","City":"Springfield",`+
		`"ModificationTimestamp":"%s"`, key(n), n, 300000+n%1000, modified(n).Format(time.RFC3339))
	for field := 0; len(text) < size-300; field++ {
		text = fmt.Appendf(text, `,"Remarks%d":"%s"`, field, remarks)
	}
	return append(text, '}')
}

// busy is how many connections keep a server busy. With one it sleeps and is woken for every request, which on a
// virtual machine costs more than a small request itself.
const busy = 8

// requests measures what one request costs the server, in processor time, beside a bare handler in a process
// of its own that writes the same bytes.
func (b *bench) requests(ctx context.Context) error {
	title("CPU-ms of the server for a request, on %d connections and on one (limit: a bare handler that writes the same bytes)", busy)
	for _, c := range []struct {
		name    string
		records int
		size    int
		target  func(records int) string
		aim     float64
	}{
		{"EntityEvent, page of 1000", 20_000, 1300, func(n int) string {
			return "/EntityEvent?$filter=" + url.QueryEscape(fmt.Sprintf("EntityEventSequence gt %d", rand.IntN(n-1001))) + "&$top=1000"
		}, 0.5},
		{"record of 20 KB by key", longRecords, 20_000, func(n int) string { return "/Property('" + key(rand.IntN(n)) + "')" }, 0.1},
		{"in of 100 keys, records of 20 KB", longRecords, 20_000, func(n int) string {
			keys := make([]string, 100)
			for i, k := range rand.Perm(n)[:100] {
				keys[i] = "'" + key(k) + "'"
			}
			return "/Property?$filter=" + url.QueryEscape("ListingKey in ("+strings.Join(keys, ",")+")")
		}, 5},
		{"200 by ModificationTimestamp, 1.3 KB", fewRecords, 1300, byTime, 2},
		{"200 by ModificationTimestamp, 1.3 KB", manyRecords, 1300, byTime, 2},
		{"200 by ModificationTimestamp, 20 KB", longRecords, 20_000, byTime, 0},
	} {
		if err := b.request(ctx, fmt.Sprintf("%s, of %s", c.name, human(float64(c.records))), c.records, c.size, c.target, c.aim); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

func byTime(n int) string {
	since := modified(rand.IntN(n - 201)).Format(time.RFC3339)
	return "/Property?$filter=" + url.QueryEscape("ModificationTimestamp gt "+since) + "&$orderby=ModificationTimestamp&$top=200"
}

// request measures one kind of request, and the same compressed.
func (b *bench) request(ctx context.Context, name string, records, size int, target func(int) string, aim float64) (err error) {
	agent, err := b.listings(ctx, records, size)
	if err != nil {
		return err
	}
	next := func() string { return agent.root + "/odata" + target(records) }
	text, err := agent.get(ctx, "/odata"+target(records))
	if err != nil {
		return err
	}
	handler, err := b.bareServer(ctx, text)
	if err != nil {
		return err
	}
	same := func() string { return handler.root }
	for _, encoding := range []string{"identity", "gzip"} {
		var took [4]float64
		for i, of := range []struct {
			*process
			encoding    string
			connections int
			target      func() string
		}{{agent, encoding, busy, next}, {handler, "identity", busy, same}, {agent, encoding, 1, next}, {handler, "identity", 1, same}} {
			cost, err := of.cost(ctx, of.encoding, of.connections, of.target)
			if err != nil {
				return err
			}
			took[i] = ms(cost)
		}
		end := ""
		if encoding == "gzip" {
			end = ", gzip"
		} else if aim > 0 {
			end = fmt.Sprintf("   (to reach: %g)", aim)
		}
		fmt.Printf("  %-46s %7.3f bare %6.3f   one: %7.3f bare %6.3f   %5d KB%s\n", name, took[0], took[1], took[2], took[3], len(text)>>10, end)
	}
	if err := handler.stop(); err != nil {
		return err
	}
	return agent.stop()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// listings runs the program on so many records.
func (b *bench) listings(ctx context.Context, records, size int) (*process, error) {
	return b.producer(ctx, func(s *sqlite.Store) error {
		for made := 0; made < records; {
			c := entityevent.Commit{Feed: entityevent.Local}
			for range min(1000, records-made) {
				c.Changes = append(c.Changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: key(made)}, Op: entityevent.Put, Body: listing(made, size)})
				made++
			}
			if _, err := s.Apply(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// cost asks one thing after the other, over so many connections, for three seconds and returns the server's
// processor time for each.
func (p *process) cost(ctx context.Context, encoding string, connections int, target func() string) (time.Duration, error) {
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: connections}
	defer transport.CloseIdleConnections()
	ask := func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target(), http.NoBody)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+p.token)
		req.Header.Set("Accept-Encoding", encoding)
		return drop(transport, req)
	}
	var asked atomic.Int64
	all := func(until time.Time) error {
		var g errgroup.Group
		for range connections {
			g.Go(func() error {
				for time.Now().Before(until) {
					if err := ask(); err != nil {
						return err
					}
					asked.Add(1)
				}
				return nil
			})
		}
		return g.Wait()
	}
	if err := all(time.Now().Add(300 * time.Millisecond)); err != nil { // what the first ones need once
		return 0, err
	}
	asked.Store(0)
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	if err := all(time.Now().Add(3 * time.Second)); err != nil {
		return 0, err
	}
	after, err := p.cpu()
	return (after - before) / time.Duration(asked.Load()), err
}
