package producer_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent"
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

// BenchmarkPage answers pages of 1000, without a network: the cost of one is that of 1000 rows.
func BenchmarkPage(b *testing.B) {
	s := inferred(b)
	filler := `"PublicRemarks":"` + strings.Repeat("x", 1350) + `"`
	c := entityevent.Commit{Feed: entityevent.Local}
	for i := range 1000 {
		key := strconv.Itoa(100_000 + i)
		c.Changes = append(c.Changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: key}, Body: json.RawMessage(`{"ListingKey":"` + key + `",` + filler + `}`)})
	}
	if _, err := s.store.Apply(b.Context(), c); err != nil {
		b.Fatal(err)
	}
	for _, target := range []string{"/odata/EntityEvent?$filter=EntityEventSequence%20gt%200", "/odata/Property"} {
		b.Run(strings.TrimPrefix(strings.Split(target, "?")[0], "/odata/"), func(b *testing.B) {
			r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://h"+target, nil)
			if err != nil {
				b.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer all")
			r.Header.Set("Prefer", "odata.maxpagesize=1000")
			b.ReportAllocs()
			for b.Loop() {
				w := &discard{header: http.Header{}}
				s.server.ServeHTTP(w, r)
				b.SetBytes(int64(w.bytes))
			}
		})
	}
}
