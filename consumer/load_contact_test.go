package consumer_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
)

// A load takes the polls' place for as long as it lasts: each of its pages, and of what it asks for after them,
// shows that the producer answers.
func TestLoadIsContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 3000)
		first := newFeed(t, to(src), "Property")
		catchUp(t, first)
		f := newFeedOn(first.Store, to(src))
		f.Rate, f.PageSize = 0.02, 300
		stop := run(t, f)
		pass(2 * time.Minute)
		done := make(chan error, 1)
		go func() { done <- f.Sync(t.Context(), consumer.SyncOptions{Full: true}, nil) }()
		looks := 0
		for range 30 {
			pass(time.Minute)
			s := status(t, f)
			if s.Loading == nil || s.Loading.Records == 0 {
				continue
			}
			looks++
			if age := time.Since(s.Contact); age > 5*time.Minute {
				t.Fatalf("no contact for %s while %d records were loaded", age, s.Loading.Records)
			}
		}
		if looks < 10 {
			t.Fatalf("a load was seen %d times only", looks)
		}
		pass(6 * time.Hour)
		if err := <-done; err != nil {
			t.Error(err)
		}
		stop()
	})
}
