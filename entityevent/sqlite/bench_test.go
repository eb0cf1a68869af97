package sqlite_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

func openBench(b *testing.B) *sqlite.Store {
	s, err := sqlite.Open(b.Context(), b.TempDir()+"/resosync.db", sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func listing(n int) json.RawMessage {
	var s strings.Builder
	fmt.Fprintf(&s, `{"ListingKey":"%d","ModificationTimestamp":"2024-05-06T07:08:09Z","ListPrice":%d`, n, 100000+n)
	for f := 0; s.Len() < 1400; f++ {
		fmt.Fprintf(&s, `,"Field%02d":"value %d of listing %d"`, f, f, n)
	}
	return json.RawMessage(s.String() + "}")
}

// BenchmarkReceive stores pushes of 500 events; the metric is time for each push.
func BenchmarkReceive(b *testing.B) {
	s := openBench(b)
	if _, err := s.Receive(b.Context(), entityevent.Delivery{Feed: "acme", Log: "log", Adopt: true}); err != nil {
		b.Fatal(err)
	}
	const size = 500
	d := entityevent.Delivery{Feed: "acme", Log: "log", Chained: true, Events: make([]entityevent.Event, size)}
	for b.Loop() {
		for i := range d.Events {
			seq := d.After + entityevent.Sequence(i) + 1
			d.Events[i] = entityevent.Event{Sequence: seq, Ref: entityevent.Ref{Resource: "Property", Key: fmt.Sprint(seq)}}
		}
		d.Through = d.After + size
		if _, err := s.Receive(b.Context(), d); err != nil {
			b.Fatal(err)
		}
		d.After = d.Through
	}
	b.ReportMetric(float64(size*b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkApply commits 1000 new records of 1.4 KB at a time, as a first load does.
func BenchmarkApply(b *testing.B) {
	s := openBench(b)
	const size = 1000
	c := entityevent.Commit{Feed: "acme", Changes: make([]entityevent.Change, size)}
	n := 0
	for b.Loop() {
		b.StopTimer()
		for i := range c.Changes {
			n++
			c.Changes[i] = entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: fmt.Sprint(n * 7919 % 1000003)}, Body: listing(n)}
		}
		b.StartTimer()
		if _, err := s.Apply(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(size*b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkAppend writes single small records from 32 writers.
func BenchmarkAppend(b *testing.B) {
	s := openBench(b)
	const writers = 32
	var wg sync.WaitGroup
	work := make(chan int)
	for range writers {
		wg.Go(func() {
			for n := range work {
				c := entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: fmt.Sprint(n)}, Body: json.RawMessage(`{"A":1}`)}
				if _, err := s.Apply(b.Context(), entityevent.Commit{Feed: "local", Changes: []entityevent.Change{c}}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	n := 0
	for b.Loop() {
		n++
		work <- n
	}
	close(work)
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkEvents(b *testing.B) {
	s := openBench(b)
	fill(b, s, 50_000, `{"A":1}`)
	after := entityevent.Sequence(0)
	v := entityevent.View{Feed: "local", Mask: entityevent.Everyone}
	rows := 0
	for b.Loop() {
		p, err := s.Events(b.Context(), v, entityevent.EventQuery{After: after, Limit: 1000})
		if err != nil {
			b.Fatal(err)
		}
		rows += len(p.Events)
		if after = p.Through; !p.More {
			after = 0
		}
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkReadKeys(b *testing.B) {
	s := openBench(b)
	fill(b, s, 20_000, string(listing(1)))
	v := entityevent.View{Feed: "local", Mask: entityevent.Everyone}
	rows, from := 0, 0
	keys := make([]string, 100)
	for b.Loop() {
		for i := range keys {
			from = (from + 7919) % 20_000
			keys[i] = fmt.Sprint(from)
		}
		for _, err := range s.Read(b.Context(), v, entityevent.Query{Resource: "Property", Keys: keys}) {
			if err != nil {
				b.Fatal(err)
			}
			rows++
		}
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "records/s")
}

func fill(b *testing.B, s *sqlite.Store, n int, body string) {
	for i := 0; i < n; {
		var changes []entityevent.Change
		for range 1000 {
			changes = append(changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: fmt.Sprint(i)}, Body: json.RawMessage(body)})
			i++
		}
		if _, err := s.Apply(b.Context(), entityevent.Commit{Feed: "local", Changes: changes}); err != nil {
			b.Fatal(err)
		}
	}
}

// large makes n records of 20 KB, one a second.
func large(b *testing.B, s *sqlite.Store, n int) {
	var long strings.Builder
	for f := 0; long.Len() < 20_000; f++ {
		fmt.Fprintf(&long, `,"Field%03d":"value %d of a listing, somewhat longer"`, f, f)
	}
	for i := 0; i < n; {
		var changes []entityevent.Change
		for range 100 {
			changes = append(changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: fmt.Sprintf("%06d", i)}, Body: fmt.Appendf(nil,
				`{"ListingKey":"%06d","ListPrice":%d,"City":"City %d","ModificationTimestamp":"2024-05-06T%02d:%02d:%02dZ"%s}`, i, i, i%7, i/3600, i/60%60, i%60, &long)})
			i++
		}
		if _, err := s.Apply(b.Context(), entityevent.Commit{Feed: "local", Changes: changes}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkQuery asks for records of 20 KB; the metric is processor time for each query, the driver's threads
// included.
func BenchmarkQuery(b *testing.B) {
	s := openBench(b)
	large(b, s, 5000)
	keys := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("%06d", i*37%5000))
		}
		return all
	}
	page := ask(b, "Property", "ModificationTimestamp gt 2024-05-06T00:20:00Z", "ModificationTimestamp")
	page.Limit = 201
	plain := ask(b, "Property", "", "")
	plain.Limit = 201
	scan := ask(b, "Property", "ListPrice gt 4000 and City eq 'City 3'", "")
	scan.Limit = 100
	for _, c := range []struct {
		name string
		q    entityevent.Query
		rows int
	}{
		{"key", entityevent.Query{Resource: "Property", Keys: keys(1)}, 1},
		{"100 keys", entityevent.Query{Resource: "Property", Keys: keys(100)}, 100},
		{"in 100 keys", ask(b, "Property", "ListingKey in ('"+strings.Join(keys(100), "','")+"')", ""), 100},
		{"200 by time", page, 201},
		{"200 by key", plain, 201},
		{"filter", scan, 100},
		{"count", ask(b, "Property", "ModificationTimestamp gt 2024-05-06T00:20:00Z", ""), 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			before := processorTime()
			for b.Loop() {
				if c.rows == 0 {
					if _, err := s.Count(b.Context(), everyone, c.q); err != nil {
						b.Fatal(err)
					}
				} else if n := len(collect(b, s, c.q)); n != c.rows {
					b.Fatalf("%d records", n)
				}
			}
			b.ReportMetric(float64((processorTime()-before).Microseconds())/float64(b.N), "CPU-µs/op")
		})
	}
}

func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
