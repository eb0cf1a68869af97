package consumer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

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
