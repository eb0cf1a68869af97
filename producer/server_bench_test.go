package producer_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// discard is an answer that nobody keeps.
type discard struct {
	header http.Header
	bytes  int
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(int)     {}
func (d *discard) Write(p []byte) (int, error) {
	d.bytes += len(p)
	return len(p), nil
}

// benchBody is a listing of so many bytes with fields as listings have them.
func benchBody(key string, i, size int) json.RawMessage {
	at := time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC).Format(time.RFC3339)
	body := fmt.Sprintf(`{"ListingKey":"%s","ModificationTimestamp":"%s","ListPrice":%d,"City":"Ulm","ListAgentKey":"m%d"`, key, at, 1000+i, i%10)
	for n := 0; len(body) < size-60; n++ {
		body += fmt.Sprintf(`,"SomeFieldOfTheListing%d":"a value of forty characters, as they are"`, n)
	}
	return json.RawMessage(body + "}")
}

// BenchmarkServer answers requests without a network: what is left is reading and writing.
func BenchmarkServer(b *testing.B) {
	const listings, photos = 2000, 10
	s := inferred(b)
	var keys []string
	for i := range listings {
		key := fmt.Sprintf("0195f3e2-7c1b-7d44-9c1a-%012d", i)
		size := 1400
		if i < 100 {
			keys, size = append(keys, key), 20_000
		}
		c := entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{{Ref: entityevent.Ref{Resource: "Property", Key: key}, Body: benchBody(key, i, size)}}}
		for n := range photos {
			photo := fmt.Sprintf("%s-%d", key, n)
			c.Changes = append(c.Changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Media", Key: photo}, Body: json.RawMessage(
				fmt.Sprintf(`{"MediaKey":"%s","ResourceName":"Property","ResourceRecordKey":"%s","Order":%d,"MediaURL":"https://photos.example/%s.jpg"}`, photo, key, n, photo))})
		}
		if _, err := s.store.Apply(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	s.get("/$metadata").want(b, 200)
	since := "$filter=" + url.PathEscape("ModificationTimestamp gt 2026-01-01T00:10:00Z") + "&$orderby=ModificationTimestamp,ListingKey&$top=200"
	for _, c := range []struct{ name, target string }{
		{"events", "/EntityEvent?$filter=EntityEventSequence%20gt%20200&$top=1000"},
		{"key", "/Property('" + keys[50] + "')"},
		{"key-gzip", "/Property('" + keys[50] + "')"},
		{"key-select", "/Property('" + keys[50] + "')?$select=ListingKey,City"},
		{"in", "/Property?$filter=" + odata.EscapeQuery(odata.In("ListingKey", keys, true))},
		{"modified", "/Property?" + since},
		{"modified-select", "/Property?" + since + "&$select=ListingKey,ModificationTimestamp"},
		{"page", "/Property?$top=1000"},
		{"expand", "/Property?$top=100&$skip=200&$expand=Media"},
		{"unindexed", "/Property?$filter=ListPrice%20gt%202900"},
	} {
		b.Run(c.name, func(b *testing.B) {
			r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://h/odata"+c.target, nil)
			if err != nil {
				b.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer all")
			if strings.HasSuffix(c.name, "gzip") {
				r.Header.Set("Accept-Encoding", "gzip")
			}
			b.ReportAllocs()
			for b.Loop() {
				w := &discard{header: http.Header{}}
				s.server.ServeHTTP(w, r)
				b.SetBytes(int64(w.bytes))
			}
		})
	}
}
