package consumer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
)

// An empty page with a nextLink is not the end of the log (RCP-27), however the link is spelled.
func TestEmptyEventPageWithNextLink(t *testing.T) {
	for _, log := range []string{"", "log-1/all"} {
		for _, member := range []string{"@odata.nextLink", "@nextLink"} {
			t.Run(log+member, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					src := filled(log, 3)
					f := newFeed(t, to(src), "Property")
					catchUp(t, f)
					src.quiet("Property", "P0001", property("P0001", 7))
					src.publish(50, "Property", "P0001")
					empty := func(page int) func(*http.Request) (*http.Response, error) {
						header := []string{}
						if log != "" {
							header = []string{"EntityEvent-Log", log, "EntityEvent-Through", "3"}
						}
						return answer(200, "application/json", fmt.Sprintf(
							`{"value":[],%q:"EntityEvent?$filter=EntityEventSequence%%20gt%%203&$orderby=EntityEventSequence asc&page=%d"}`, member, page), header...)
					}
					f = newFeedOn(f.Store, wire(func(r *http.Request) (*http.Response, error) {
						switch query := r.URL.RawQuery; {
						case !strings.Contains(query, "gt%203&"), strings.Contains(query, "page=3"):
							return to(src)(r)
						case strings.Contains(query, "page=2"):
							return empty(3)(r)
						default:
							return empty(2)(r)
						}
					}))
					catchUp(t, f)
					equal(t, src, f.Store)
				})
			})
		}
	}
}

func TestEmptyEventPagesThatLeadAstray(t *testing.T) {
	for link, want := range map[string]string{
		"http://mls.test/odata/EntityEvent?page=2": "circle",
		"http://other.test/odata/EntityEvent":      "another origin",
	} {
		synctest.Test(t, func(t *testing.T) {
			src := filled("", 3)
			f := newFeed(t, to(src), "Property")
			catchUp(t, f)
			f = newFeedOn(f.Store, script(func(r *http.Request) (*http.Response, error) {
				if r.URL.Host != "mls.test" || r.Header.Get("Authorization") == "" {
					t.Errorf("%s was asked", r.URL.Host)
				}
				return to(src)(r)
			}, 1e6, "EntityEvent?", answer(200, "application/json", fmt.Sprintf(`{"value":[],"@odata.nextLink":%q}`, link))))
			if err := f.Sync(t.Context(), consumer.SyncOptions{}, nil); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", link, err)
			}
		})
	}
}

// A server may know one order of its log and no other.
func TestHeadOfAServerWithoutDescendingOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 2500)
		f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.URL.RawQuery = strings.ReplaceAll(r.URL.RawQuery, "Sequence%20desc", "Sequence%20asc")
			return to(src)(r)
		}), "Property")
		f.Rate = 100
		stop := run(t, f)
		until(t, "the load is complete", func() bool { return status(t, f).Loaded })
		if p := position(t, f); p.Sequence != 2500 {
			t.Errorf("the load goes on after %d of 2500", p.Sequence)
		}
		pass(3 * time.Hour)
		equal(t, src, f.Store)
		if n := len(src.asked("Property?$orderby")); n != 1 {
			t.Errorf("loaded %d times", n)
		}
		src.put("Property", "P0001", property("P0001", 7))
		catchUp(t, f)
		equal(t, src, f.Store)

		// It was set back all the same.
		restored := filled("", 1200)
		src.mu.Lock()
		src.rows, src.events, src.head = restored.rows, restored.events, restored.head
		src.mu.Unlock()
		pass(90 * time.Minute)
		equal(t, src, f.Store)
		if n := len(src.asked("Property?$orderby")); n != 2 {
			t.Errorf("loaded %d times", n)
		}
		stop()
	})
}

// A busy server publishes while its head is looked for.
func TestHeadOfABusyServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 50)
		n := int64(50)
		f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/EntityEvent") {
				n++
				src.publish(n, "Property", "P0001")
			}
			return to(src)(r)
		}), "Property")
		for _, size := range []int{1, 1000} {
			f.PageSize = size
			start, before := time.Now(), len(src.asked("EntityEvent"))
			if err := f.Sync(t.Context(), consumer.SyncOptions{Full: true}, nil); err != nil {
				t.Fatal(err)
			}
			if took, asked := time.Since(start), len(src.asked("EntityEvent"))-before; took > 5*time.Minute || asked > 200 {
				t.Errorf("pages of %d: %d requests in %s", size, asked, took)
			}
		}
	})
}
