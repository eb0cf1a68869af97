package task_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/resosync/resosync/entityevent"
)

const (
	benchRecords = 20_000
	benchSize    = 1400
)

// BenchmarkSnapshot makes snapshots and digests, and reads the same records without making anything of them: what is
// above that is the price of rendering, compressing and writing. Its seconds are those of one of 20,000 listings.
func BenchmarkSnapshot(b *testing.B) {
	r := newRig(b)
	r.put("Member", "m1", `{"MemberKey":"m1"}`)
	r.listings(benchRecords, benchSize)
	r.run()
	for _, c := range []struct{ name, kind, client string }{
		{"snapshot", "snapshot", "alice"}, {"snapshot of a profile", "snapshot", "wide"}, {"digest", "digest", "alice"}, {"digest of a profile", "digest", "wide"},
	} {
		b.Run(c.name, func(b *testing.B) {
			client, _ := r.gate.client("alice")
			client.Name, client.Hide = "wide", map[string][]string{"Property": {"PrivateRemarks"}}
			r.gate.set(client)
			token := "Authorization: Bearer " + c.client
			for b.Loop() {
				path := r.create(`{"type":"`+c.kind+`","resources":["Property"]}`, token)
				r.done(path, token)
				r.do(http.MethodDelete, path, "", token)
				r.tasks.KeepAtMost(b.N + 10_000)
			}
			b.SetBytes(benchRecords * benchSize)
		})
	}
	b.Run("reading alone", func(b *testing.B) {
		for b.Loop() {
			for record, err := range r.store.Read(context.Background(), everyone, entityevent.Query{Resource: "Property"}) {
				if err != nil || record.Body == nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(benchRecords * benchSize)
		}
	})
	path := r.create(`{"type":"snapshot"}`)
	r.done(path)
	for _, encoding := range []string{"identity", "gzip"} {
		b.Run("serving "+encoding, func(b *testing.B) {
			for b.Loop() {
				q := httptest.NewRequest(http.MethodGet, path+"/result", nil)
				q.Header.Set("Authorization", "Bearer alice")
				q.Header.Set("Accept-Encoding", encoding)
				w := &discard{header: http.Header{}}
				r.tasks.ServeHTTP(w, q)
				b.SetBytes(w.n)
			}
		})
	}
}

// discard is an answer that nobody keeps.
type discard struct {
	header http.Header
	n      int64
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(int)     {}
func (d *discard) Write(p []byte) (int, error) {
	n, err := io.Discard.Write(p)
	d.n += int64(n)
	return n, err
}
