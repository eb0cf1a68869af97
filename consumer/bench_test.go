package consumer_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/sqlite"
)

// BenchmarkFirstLoad copies records of 1.4 KB from pages that cost nothing to serve: what it tells is the
// consumer and its store alone.
func BenchmarkFirstLoad(b *testing.B) {
	const records, size = 50_000, 1000
	var pages [][]byte
	for i := 0; i < records; i += size {
		var page bytes.Buffer
		page.WriteString(`{"@odata.context":"x","value":[`)
		for n := i; n < i+size; n++ {
			if n > i {
				page.WriteByte(',')
			}
			fmt.Fprintf(&page, `{"@odata.id":"x","ListingKey":"P%08d","ModificationTimestamp":"2026-01-02T03:04:05Z"`, n)
			for field := range 40 {
				fmt.Fprintf(&page, `,"Field%02d":"value %d of %d"`, field, field, n)
			}
			page.WriteString(`}`)
		}
		page.WriteString(`]`)
		if i+size < records {
			fmt.Fprintf(&page, `,"@odata.nextLink":"http://mls.test/odata/Property?$skiptoken=%d"`, i/size+1)
		}
		page.WriteString(`}`)
		pages = append(pages, page.Bytes())
	}
	network := wire(func(r *http.Request) (*http.Response, error) {
		text := []byte(`{"value":[]}`)
		header := http.Header{"Content-Type": {"application/json"}, "Entityevent-Log": {"l/all"}, "Entityevent-Through": {"7"}}
		if strings.HasSuffix(r.URL.Path, "/Property") {
			n, _ := strconv.Atoi(r.URL.Query().Get("$skiptoken"))
			text = pages[n]
		}
		return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(bytes.NewReader(text)),
			ContentLength: int64(len(text)), Request: r}, nil
	})
	var before, after syscall.Rusage
	for b.Loop() {
		b.StopTimer()
		s, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "x.db"), sqlite.Options{})
		if err != nil {
			b.Fatal(err)
		}
		f := &consumer.Feed{Name: "mls", URL: "http://mls.test/odata", Resources: []string{"Property"}, Store: s,
			HTTP: &http.Client{Transport: network}}
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
		b.StartTimer()
		if err := f.Sync(b.Context(), consumer.SyncOptions{}, nil); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
		n, err := s.Count(b.Context(), entityevent.View{Feed: "mls", Mask: entityevent.Everyone}, entityevent.Query{Resource: "Property"})
		if n != records || err != nil {
			b.Fatal(n, err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(records)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(cpu)/records/1e6, "cpu-ms/record")
	b.ReportMetric(float64(len(pages[0]))/size, "B/record")
}

// BenchmarkReceive500 is a push of 500 events, from the request to the durable inbox and the answer.
func BenchmarkReceive500(b *testing.B) {
	s, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "x.db"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	f := &consumer.Feed{Name: "mls", URL: "http://mls.test/odata", Resources: []string{"Property"}, Store: s}
	d := &door{Receiver: &consumer.Receiver{Feeds: map[string]*consumer.Feed{"mls": f}, MaxPending: 1 << 40}, feed: f}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	d.Authority = &bearer.Authority{Key: key, Store: s}
	if d.token, _, err = d.Authority.Issue(b.Context(), bearer.Token{Audience: bearer.Push("mls"), Client: "mls"}); err != nil {
		b.Fatal(err)
	}
	_, err = s.Receive(b.Context(), entityevent.Delivery{Feed: "mls", Log: "l", Adopt: true})
	if err != nil {
		b.Fatal(err)
	}
	seq := int64(0)
	for b.Loop() {
		events := make([]entityevent.Event, 500)
		after := seq
		for i := range events {
			seq++
			events[i] = entityevent.Event{Sequence: entityevent.Sequence(seq), Ref: entityevent.Ref{Resource: "Property", Key: strconv.FormatInt(seq, 10)}}
		}
		if w := d.push(string(entityevent.AppendEvents(nil, events)), chain("l", after, seq)...); w.Code != 200 {
			b.Fatal(w.Code, w.Body)
		}
	}
	b.ReportMetric(float64(seq)/b.Elapsed().Seconds(), "events/s")
}
