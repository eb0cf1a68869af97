package consumer_test

import (
	"fmt"
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
					single := script(to(src), 1e6, "/Property('", answer(404, "text/html", "<html>"))
					many := script(single.RoundTrip, 1e6, "/Property?", answer(200, "application/json", body))
					f = newFeedOn(f.Store, many)
					stop := run(t, f)
					pass(5 * time.Minute)
					if n := len(replica(t, f.Store, "Property")); n != 5 {
						t.Errorf("%d records of 5 are left", n)
					}
					if s := status(t, f); s.Aside != len(changed) {
						t.Errorf("they are not shown as set aside: %+v", s)
					}
					single.times.Store(0)
					many.times.Store(0)
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

// A producer that does not know the resource at all, as after a change of its metadata or of the url,
// answers 404 for each of its records.
func TestNoRemovalWhenTheResourceIsUnknown(t *testing.T) {
	for _, n := range []int{1, 5} {
		t.Run(fmt.Sprintf("%d records", n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", 5)
				f := newFeed(t, to(src), "Property")
				catchUp(t, f)
				for i := range n {
					key := fmt.Sprintf("P%04d", i)
					src.put("Property", key, property(key, 7))
				}
				unknown := script(to(src), 1e6, "/Property",
					answer(404, "application/json", `{"error":{"code":"404","message":"There is no resource Property"}}`))
				f = newFeedOn(f.Store, unknown)
				stop := run(t, f)
				pass(5 * time.Minute)
				if left := len(replica(t, f.Store, "Property")); left != 5 {
					t.Errorf("%d records of 5 are left", left)
				}
				aside, err := f.Store.Aside(t.Context(), f.Name, time.Time{}, 0)
				if err != nil || len(aside) != n || !strings.Contains(aside[0].Reason, "does not know Property") {
					t.Errorf("set aside: %v, %+v", err, aside)
				}
				unknown.times.Store(0)
				pass(time.Hour)
				equal(t, src, f.Store)
				stop()
			})
		})
	}
}

// A producer may lose the resource after it said that it has it.
func TestNoRemovalWhenTheResourceGoesUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		for _, key := range []string{"P0001", "P0002", "P0003"} {
			src.put("Property", key, property(key, 7))
		}
		known := answer(200, "application/json", `{"value":[{"ListingKey":"P0001"}]}`)
		unknown := script(to(src), 1e6, "/Property", answer(404, "application/json", `{"error":{"code":"404","message":"There is no resource Property"}}`))
		f = newFeedOn(f.Store, script(unknown.RoundTrip, 1, "/Property?$top=1", known))
		stop := run(t, f)
		pass(5 * time.Minute)
		if left := len(replica(t, f.Store, "Property")); left != 5 {
			t.Errorf("%d records of 5 are left", left)
		}
		unknown.times.Store(0)
		pass(time.Hour)
		equal(t, src, f.Store)
		stop()
	})
}

// A producer that has single reads only refuses to list records; its 404s prove what they say.
func TestRemovalWhereNothingIsListed(t *testing.T) {
	refusal := `{"error":{"code":"1","message":"no"}}`
	for name, made := range map[string]func(*http.Request) (*http.Response, error){
		"400": answer(400, "application/json", refusal), "405": answer(405, "application/json", refusal),
		"501": answer(501, "application/json", refusal), "HTML 404": answer(404, "text/html", "<html>"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", 9)
				f := newFeed(t, to(src), "Property")
				catchUp(t, f)
				for _, key := range []string{"P0001", "P0002", "P0003"} {
					src.remove("Property", key)
				}
				src.put("Property", "P0004", property("P0004", 5))
				f = newFeedOn(f.Store, script(to(src), 1e6, "/Property?", made))
				catchUp(t, f)
				equal(t, src, f.Store)
				src.remove("Property", "P0005")
				catchUp(t, f)
				equal(t, src, f.Store)
			})
		})
	}
}

// A refusal to list for other reasons leaves open whether the resource is there.
func TestNoRemovalWhileListingIsForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 3)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		src.put("Property", "P0001", property("P0001", 7))
		forbidden := script(to(src), 1e6, "/Property?", answer(403, "application/json", `{"error":{"code":"403"}}`))
		lost := script(forbidden.RoundTrip, 1e6, "/Property('P0001')", answer(404, "application/json", `{"error":{"code":"404"}}`))
		f = newFeedOn(f.Store, lost)
		stop := run(t, f)
		pass(5 * time.Minute)
		if n := len(replica(t, f.Store, "Property")); n != 3 {
			t.Errorf("%d records of 3 are left", n)
		}
		forbidden.times.Store(0)
		lost.times.Store(0)
		pass(time.Hour)
		equal(t, src, f.Store)
		stop()
	})
}

// A list that is no page, as one that something on the way cut short, does not show that the producer has the
// resource.
func TestNoRemovalWhenTheListIsNoPage(t *testing.T) {
	for name, body := range map[string]string{"half a page": `{"value":[`, "something else": `{"ok":true}`} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", 5)
				f := newFeed(t, to(src), "Property")
				catchUp(t, f)
				src.put("Property", "P0002", property("P0002", 7))
				single := script(to(src), 1e6, "/Property('", json404)
				list := script(single.RoundTrip, 1e6, "/Property?$top", answer(200, "application/json", body))
				f = newFeedOn(f.Store, list)
				stop := run(t, f)
				pass(5 * time.Minute)
				if s := status(t, f); len(replica(t, f.Store, "Property")) != 5 || s.Aside != 1 {
					t.Errorf("%d records of 5 are left, %+v", len(replica(t, f.Store, "Property")), s)
				}
				single.times.Store(0)
				pass(time.Hour)
				if n := len(replica(t, f.Store, "Property")); n != 5 {
					t.Errorf("%d records of 5 are left", n)
				}
				stop()
			})
		})
	}
}
