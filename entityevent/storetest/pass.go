package storetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/resosync/resosync/entityevent"
)

// testUnmarked: what a pass did not meet, over more records than one step looks at.
func testUnmarked(b *box) {
	const n = 4500
	unmarked := func(resource string, pass int64) (keys []string) {
		b.Helper()
		for key, err := range b.Unmarked(b.Context(), feed, resource, pass) {
			if err != nil {
				b.Fatalf("unmarked: %v", err)
			}
			keys = append(keys, key)
		}
		return keys
	}
	b.equal("of no record", len(unmarked("Property", 1)), 0)
	var changes, marks []entityevent.Change
	for i := range n {
		c := put(fmt.Sprintf("%04d", i), fmt.Sprintf(`{"N":%d}`, i))
		changes = append(changes, c)
		if i%1000 == 0 {
			continue
		}
		if i%2 == 0 { // a merge of nothing marks, and changes nothing
			c = merge(c.Key, `{}`)
		}
		c.Pass = 7
		marks = append(marks, c)
	}
	b.apply(changes...)
	b.commit(entityevent.Commit{Feed: "acme", Changes: []entityevent.Change{put("other", `{}`)}})
	b.equal("before the pass", len(unmarked("Property", 7)), n)
	for _, o := range b.apply(marks...) {
		if o.Err != nil || o.Sequence != 0 {
			b.Fatalf("a mark made an event: %+v", o)
		}
	}
	b.equal("after it", fmt.Sprint(unmarked("Property", 7)), "[0000 1000 2000 3000 4000]")
	b.equal("of a later pass", len(unmarked("Property", 8)), n)
	b.equal("of an earlier pass", len(unmarked("Property", 6)), n)
	b.equal("of another resource", len(unmarked("Media", 7)), 0)
	b.must(remove("2000"))
	b.must(put("0001", `{"N":"changed"}`)) // pass 0 leaves the mark
	fresh := put("9999", `{}`)
	fresh.Pass = 7
	b.must(fresh)
	b.must(put("99990", `{}`))
	b.equal("after changes", fmt.Sprint(unmarked("Property", 7)), "[0000 1000 3000 4000 99990]")

	for range b.Unmarked(b.Context(), feed, "Property", 8) {
		break // the caller may stop
	}
	ctx, cancel := context.WithCancel(b.Context())
	cancel()
	for _, err := range b.Unmarked(ctx, feed, "Property", 8) {
		if !errors.Is(err, context.Canceled) {
			b.Errorf("cancelled: %v", err)
		}
	}
}
