package consumer_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A producer that was restored from a backup under the name that its log had gives its numbers to other
// events before anybody notices: nothing can tell the consumer, which then is wrong. Once the log has
// another name all is equal again, and what existed only in the future that was lost goes on proof alone.
func TestNumbersUsedAgainBeforeAnyoneNoticed(t *testing.T) {
	for _, lost := range []int{3, 150} {
		for _, long := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d lost, long poll %t", lost, long), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					src := filled("log-1/all", 200)
					f := newFeed(t, to(src), "Property")
					f.LongPoll = long
					stop := run(t, f)
					pass(2 * time.Minute)
					backup := filled("log-1/all", 200)

					src.put("Property", "P0001", property("P0001", 1)) // all of this will be lost
					src.remove("Property", "P0002")
					for i := range lost {
						src.put("Property", fmt.Sprintf("LOST%d", i), property(fmt.Sprintf("LOST%d", i), 1))
					}
					pass(2 * time.Minute)
					equal(t, src, f.Store)
					cursor := position(t, f).Sequence
					src.mu.Lock()
					src.rows, src.events, src.head = backup.rows, backup.events, backup.head
					src.mu.Unlock()
					pass(2 * time.Minute)
					if s := status(t, f); !strings.Contains(s.Polling.Error, "backup") {
						t.Errorf("below our cursor it says nothing: %+v", s)
					}

					for i := int64(0); src.head <= int64(cursor)+5; i++ { // other events under the same numbers
						key := fmt.Sprintf("P%04d", 100+i%50)
						src.put("Property", key, property(key, 5000+int(i)))
					}
					src.remove("Property", "P0199")
					src.put("Property", "NEW", property("NEW", 1))
					pass(20 * time.Minute)
					have := replica(t, f.Store, "Property")
					if s := status(t, f); s.Polling.Failures != 0 || int64(s.Sequence) != src.head || have["NEW"].Body == nil || have["LOST0"].Body == nil {
						t.Errorf("it is not as it was meant: %+v", s)
					}

					src.mu.Lock()
					src.log, src.head = "log-2/all", src.head+1<<32
					src.mu.Unlock()
					pass(2 * time.Minute)
					if s := status(t, f); s.Log != "log-2/all" || lost == 150 && s.Held != 150 {
						t.Errorf("%+v", s)
					}
					for range lost / 10 { // while removals are held, all else goes on
						src.put("Property", "P0003", property("P0003", int(src.head)))
						pass(70 * time.Second)
						if body := replica(t, f.Store, "Property")["P0003"].Body; !strings.Contains(string(body), fmt.Sprint(src.head-1)) {
							t.Fatalf("updates wait: %s", body)
						}
					}
					pass(10 * time.Minute)
					equal(t, src, f.Store)
					if s := status(t, f); s.Held+s.Aside+s.Recheck != 0 || s.Pending != 0 || int64(s.Sequence) != src.head {
						t.Errorf("%+v", s)
					}
					stop()
				})
			})
		}
	}
}
