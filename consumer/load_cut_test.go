package consumer_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
)

// The kinds of producers that a load is cut from: ours, one without a log id whose pages are begun after a
// key, and one whose links that count rows are all there is.
var kinds = map[string]func(records int) *source{
	"ours":  func(n int) *source { return filled("log-1/all", n) },
	"keys":  func(n int) *source { return filled("", n) },
	"links": func(n int) *source { s := filled("", n); s.noFilter = true; return s },
}

// A first load that is cut goes on, in another process, from wherever that was: before any call of the
// store and before any request.
func TestFirstLoadCutAnywhere(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for at := int64(1); ; at += stride(1) {
					src := kind(45)
					store := open(t, t.TempDir())
					g := &guillotine{Store: store, network: to(src), left: at}
					err := newFeedOn(g, wire(g.roundTrip)).Sync(t.Context(), consumer.SyncOptions{}, nil)
					whole := g.left >= 0
					if !whole && err == nil {
						t.Errorf("cut at %d: no error", at)
					}
					src.quiet("Property", "P0003", property("P0003", 7))
					src.publish(100, "Property", "P0003")
					again := newFeedOn(store, to(src)).Sync(t.Context(), consumer.SyncOptions{}, nil)
					equal(t, src, store)
					if cerr := store.Close(); cerr != nil || again != nil || t.Failed() {
						t.Fatalf("cut at %d: %v", at, errors.Join(err, again, cerr))
					}
					if whole {
						if at < 20 {
							t.Errorf("it was over after %d calls", at)
						}
						return
					}
				}
			})
		})
	}
}

// So does a full one, and what the replica had is served throughout: never is it empty, or smaller than the
// producer by more than what that removed.
func TestFullLoadCutAnywhere(t *testing.T) {
	const n = 45
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				src := kind(n)
				f := newFeed(t, to(src), "Property")
				catchUp(t, f)
				store := f.Store
				for at := int64(1); ; at += stride(1) {
					changed, moved := fmt.Sprintf("P%04d", at%20), fmt.Sprintf("P%04d", 20+at%20)
					src.quiet("Property", changed, property(changed, int(at)))
					src.drop("Property", moved)
					g := &guillotine{Store: store, left: at}
					g.network = func(r *http.Request) (*http.Response, error) {
						if left := count(t, f); left < n-1 {
							t.Errorf("cut at %d: %d records are served", at, left)
						}
						return to(src)(r)
					}
					err := newFeedOn(g, wire(g.roundTrip)).Sync(t.Context(), consumer.SyncOptions{Full: true}, nil)
					whole := g.left >= 0
					if !whole && err == nil {
						t.Errorf("cut at %d: no error", at)
					}
					if left := count(t, f); left < n-1 {
						t.Errorf("cut at %d: %d records are served", at, left)
					}
					pass(time.Minute)
					again := newFeedOn(store, to(src))
					if !status(t, again).Loaded {
						t.Errorf("cut at %d: what there was is no longer served", at)
					}
					// One that was cut before it began is not known to be wanted.
					if err := again.Sync(t.Context(), consumer.SyncOptions{Full: !loading(t, again)}, nil); err != nil {
						t.Errorf("cut at %d: %v", at, err)
					}
					equal(t, src, store)
					// And back.
					src.quiet("Property", moved, property(moved, 1))
					src.publish(1000+at, "Property", moved)
					catchUp(t, again)
					pass(2 * time.Minute)
					catchUp(t, again)
					equal(t, src, store)
					if t.Failed() {
						t.Fatalf("cut at %d: %v", at, err)
					}
					if whole {
						if at < 30 {
							t.Errorf("it was over after %d calls", at)
						}
						return
					}
					pass(2 * time.Hour) // the brake counts what went
				}
			})
		})
	}
}

// loading says whether a load began and is not complete.
func loading(t *testing.T, f *consumer.Feed) bool {
	t.Helper()
	doc, err := f.Store.Get(t.Context(), "load", f.Name)
	if err != nil {
		t.Fatal(err)
	}
	return doc.Body != nil && strings.Contains(string(doc.Body), `"done":false`)
}
