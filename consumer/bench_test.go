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

// BenchmarkFirstLoad copies records of 1.4 KB from pages, and from a snapshot, that cost nothing to serve: what it
// tells is the consumer and its store alone.
func BenchmarkFirstLoad(b *testing.B) {
	const records, size = 50_000, 1000
	var lines bytes.Buffer
	var pages [][]byte
	for i := 0; i < records; i += size {
		var page bytes.Buffer
		page.WriteString(`{"@odata.context":"x","value":[`)
		for n := i; n < i+size; n++ {
			if n > i {
				page.WriteByte(',')
			}
			var record bytes.Buffer
			fmt.Fprintf(&record, `"ListingKey":"P%08d","ModificationTimestamp":"2026-01-02T03:04:05Z"`, n)
			for field := range 40 {
				fmt.Fprintf(&record, `,"Field%02d":"value %d of %d"`, field, field, n)
			}
			fmt.Fprintf(&page, `{"@odata.id":"x",%s}`, record.Bytes())
			fmt.Fprintf(&lines, `{"@reso.context":"urn:reso:metadata:2.0:resource:property",%s}`+"\n", record.Bytes())
		}
		page.WriteString(`]`)
		if i+size < records {
			fmt.Fprintf(&page, `,"@odata.nextLink":"http://mls.test/odata/Property?$skiptoken=%d"`, i/size+1)
		}
		page.WriteString(`}`)
		pages = append(pages, page.Bytes())
	}
	respond := func(r *http.Request, status int, header http.Header, text []byte) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(len(text)), Request: r}, nil
	}
	odata := wire(func(r *http.Request) (*http.Response, error) {
		text := []byte(`{"value":[]}`)
		if strings.HasSuffix(r.URL.Path, "/Property") {
			n, _ := strconv.Atoi(r.URL.Query().Get("$skiptoken"))
			text = pages[n]
		}
		return respond(r, http.StatusOK, http.Header{"Content-Type": {"application/json"}, "Entityevent-Log": {"l/all"}, "Entityevent-Through": {"7"}}, text)
	})
	tasks := wire(func(r *http.Request) (*http.Response, error) {
		header := http.Header{"Content-Type": {"application/json"}, "Entityevent-After": {"7"}, "Entityevent-Through": {"7"}, "Location": {"/tasks/1"}}
		switch r.URL.Path {
		case "/":
			return respond(r, http.StatusOK, header, []byte(`{"_links":{"odata":{"href":"/odata"},"tasks":{"href":"/tasks"}}}`))
		case "/tasks":
			return respond(r, http.StatusAccepted, header, []byte(`{}`))
		case "/tasks/1":
			return respond(r, http.StatusOK, header, fmt.Appendf(nil, `{"status":"succeeded","sequence":7,"through":7,"log":"l/all","count":%d,"href":"/tasks/1/result"}`, records))
		case "/tasks/1/result":
			return respond(r, http.StatusOK, header, lines.Bytes())
		}
		return odata(r)
	})
	b.Run("pages", func(b *testing.B) { firstLoad(b, odata, records) })
	b.Run("snapshot", func(b *testing.B) { firstLoad(b, tasks, records) })
}

func firstLoad(b *testing.B, network http.RoundTripper, records int64) {
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
	b.ReportMetric(float64(cpu)/float64(records)/1e6, "cpu-ms/record")
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
