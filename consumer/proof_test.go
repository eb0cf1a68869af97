package consumer_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A server that ignores $filter, or names the key another way, proves nothing by what it leaves out.
func TestNoRemovalWhenFilterIsIgnored(t *testing.T) {
	for name, body := range map[string]string{
		"another record":            `{"value":[{"ListingKey":"P0000","ListPrice":1000}]}`,
		"the key in another case":   `{"value":[{"listingkey":"P0002"}]}`,
		"a record without its key":  `{"value":[{}]}`,
		"a key that is null":        `{"value":[{"ListingKey":null}]}`,
		"the record beside another": `{"value":[{"ListingKey":"P0002"},{"ListingKey":"P0003"}]}`,
		"nothing but not a page":    `{"values":[]}`,
		"half a page":               `{"value":[`,
	} {
		for _, changed := range [][]string{{"P0002"}, {"P0002", "P0004"}} {
			t.Run(name+" of "+strings.Join(changed, " and "), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					src := filled("log-1/all", 5)
					f := newFeed(t, to(src), "Property")
					catchUp(t, f)
					for _, key := range changed {
						src.put("Property", key, property(key, 7))
					}
					broken := true
					f = newFeedOn(f.Store, wire(func(r *http.Request) (*http.Response, error) {
						switch path := r.URL.EscapedPath(); {
						case broken && strings.Contains(path, "/Property('"):
							return answer(404, "text/html", "<html>")(r)
						case broken && strings.Contains(path, "/Property"):
							return answer(200, "application/json", body)(r)
						}
						return to(src)(r)
					}))
					stop := run(t, f)
					pass(5 * time.Minute)
					if n := len(replica(t, f.Store, "Property")); n != 5 {
						t.Errorf("%d records of 5 are left", n)
					}
					if s := status(t, f); s.Aside != len(changed) {
						t.Errorf("they are not shown as set aside: %+v", s)
					}
					broken = false
					pass(time.Hour)
					equal(t, src, f.Store)
					stop()
				})
			})
		}
	}
}

// Records that a batch did not ask for prove that its filter was ignored: what it lacks is asked for singly,
// as often as if there had been no batch.
func TestBatchThatIgnoresFilterProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		src.put("Property", "P0002", property("P0002", 7))
		src.put("Property", "P0003", property("P0003", 7))
		lost := script(to(src), 1, "/Property('P0002')", answer(404, "application/json", `{"error":{"code":"404"}}`))
		f = newFeedOn(f.Store, script(lost.RoundTrip, 2, "/Property?$filter", answer(200, "application/json", `{"value":[{"ListingKey":"P0000"}]}`)))
		catchUp(t, f)
		equal(t, src, f.Store)
		if v := replica(t, f.Store, "Property")["P0002"].Version; v != 6 {
			t.Errorf("its last event is %d: it was removed in between", v)
		}
	})
}
