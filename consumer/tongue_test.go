package consumer_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// That the producer takes no batches of one resource says nothing about another, and is not for ever.
func TestBatchesRefusedForOneResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 50)
		for i := range 50 {
			src.quiet("Member", fmt.Sprintf("M%04d", i), fmt.Sprintf(`{"MemberKey":"M%04d"}`, i))
		}
		f := newFeed(t, to(src), "Property", "Member")
		catchUp(t, f)
		refusal := answer(400, "application/json", `{"error":{"code":"400","message":"no filter here"}}`)
		refuses := script(to(src), 1e6, "/Member?$filter", refusal)
		f = newFeedOn(f.Store, refuses)
		f.Resources = []string{"Property", "Member"}
		change := func(resource, key string, price int) (requests int) {
			before := len(src.asked(resource))
			for i := range 50 {
				k := fmt.Sprintf("%c%04d", resource[0], i)
				src.put(resource, k, fmt.Sprintf(`{%q:%q,"ListPrice":%d}`, key, k, price))
			}
			catchUp(t, f)
			equal(t, src, f.Store)
			return len(src.asked(resource)) - before
		}
		if n := change("Member", "MemberKey", 1); n < 50 {
			t.Errorf("%d requests for single reads of 50 records", n)
		}
		if n := change("Property", "ListingKey", 1); n > 3 {
			t.Errorf("%d requests for 50 records of another resource", n)
		}
		refuses.times.Store(0)
		if n := change("Member", "MemberKey", 2); n < 50 {
			t.Errorf("%d requests: batches are tried again at once", n)
		}
		pass(time.Hour)
		if n := change("Member", "MemberKey", 3); n > 3 {
			t.Errorf("%d requests for 50 records, an hour later", n)
		}
	})
}
