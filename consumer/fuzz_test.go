package consumer_test

import (
	"crypto/ed25519"
	"net/http"
	"strings"
	"testing"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/sqlite"
)

// fuzzStore is one store for all inputs: making one takes longer than using it.
func fuzzStore(f *testing.F) *sqlite.Store {
	s, err := sqlite.Open(f.Context(), f.TempDir()+"/test.db", sqlite.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.Error(err)
		}
	})
	return s
}

// Whatever is pushed, with whatever headers: stored whole, or refused with the statuses of the interface
// and not stored.
func FuzzReceiver(f *testing.F) {
	feed := newFeedOn(fuzzStore(f), nil)
	authority := &bearer.Authority{Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), Store: feed.Store}
	token, _, err := authority.Issue(f.Context(), bearer.Token{Audience: bearer.Push("mls"), Client: "mls"})
	if err != nil {
		f.Fatal(err)
	}
	d := &door{&consumer.Receiver{Feeds: map[string]*consumer.Feed{"mls": feed}, Authority: authority, MaxPending: 1 << 40}, f, feed, token}
	one := `{"value":[{"EntityEventSequence":1,"ResourceName":"P","ResourceRecordKey":"k"}]}`
	f.Add([]byte(one), "l", "0", "1", "")
	f.Add([]byte(one), "l", "1", "2", "")
	f.Add([]byte(`{"EntityEventSequence":"9007199254740993","ResourceName":"P","ResourceRecordKeyNumeric":7}`), "", "", "", "identity")
	f.Add([]byte(`{"value":null}`), "l", "-1", "9223372036854775808", "")
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}, "l", "", "", "gzip")
	f.Add([]byte(`{"@reso.context":"urn:reso:metadata:2.0:resource:entityevent","value":[]}`), "l/p", "7", "7", "x-gzip")
	f.Fuzz(func(t *testing.T, body []byte, log, after, through, encoding string) {
		before, err := feed.Store.Depth(t.Context(), "mls")
		if err != nil {
			t.Fatal(err)
		}
		d.t = t
		w := d.push(string(body), "EntityEvent-Log", log, "EntityEvent-After", after, "EntityEvent-Through", through, "Content-Encoding", encoding)
		n, err := feed.Store.Depth(t.Context(), "mls")
		if err != nil || w.Code != 200 && n != before || w.Code != 200 && w.Code != 400 && w.Code != 413 && w.Code != 415 {
			t.Errorf("%d, %d stored, %v", w.Code, n-before, err)
		}
	})
}

// Whatever a page of events and its headers say: an error, or events in order that the page covers.
func FuzzEventPage(f *testing.F) {
	s := fuzzStore(f)
	f.Add([]byte(`{"value":[{"EntityEventSequence":8,"ResourceName":"P","ResourceRecordKey":"k"}]}`), "l/p", "8", "", "Sat, 01 Jan 2000 00:00:00 GMT", int64(7))
	f.Add([]byte(`{"value":[],"@odata.nextLink":"EntityEvent?a"}`), "", "", "5", "", int64(0))
	f.Add([]byte(`{"value":[],"@odata.nextLink":"//other/odata"}`), "l", "9223372036854775808", "-1", "x", int64(1))
	f.Fuzz(func(t *testing.T, body []byte, log, through, age, date string, after int64) {
		if after < 0 {
			return
		}
		feed := newFeedOn(s, wire(func(r *http.Request) (*http.Response, error) {
			return answer(200, "application/json", string(body), "EntityEvent-Log", log, "EntityEvent-Through", through, "Age", age, "Date", date)(r)
		}))
		feed.Rate, feed.Hourly, feed.Daily = 1e9, 1<<40, 1<<40
		named, events, covered, err := feed.PageAfter(t.Context(), entityevent.Sequence(after))
		if err != nil {
			return
		}
		last := entityevent.Sequence(after)
		for _, e := range events {
			if e.Sequence <= last || e.Validate() != nil {
				t.Fatalf("%+v after %d", e, last)
			}
			last = e.Sequence
		}
		if named == "" && covered != last || named != "" && len(events) > 0 && covered < last || covered < 0 {
			t.Fatalf("log %q, %d events up to %d, through %d", named, len(events), last, covered)
		}
		if strings.ContainsAny(string(named), "\r\n") {
			t.Fatalf("log %q", named)
		}
	})
}
