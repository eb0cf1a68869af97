package consumer_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// Numbers that no float holds, as numbers and as strings, with gaps of any size, up to the last: each event
// is applied, and the cursor is exact.
func TestNumbersBeyondFloats(t *testing.T) {
	for _, log := range []string{"", "log-1/all"} {
		for _, quoted := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				src := filled(log, 5)
				f := newFeed(t, to(src), "Property")
				stop := run(t, f)
				pass(10 * time.Minute)
				for i, seq := range []int64{1 << 53, 1<<53 + 1, 1<<53 + 3, 1 << 62, math.MaxInt64 - 1, math.MaxInt64} {
					key := fmt.Sprintf("P%04d", i%5)
					src.quiet("Property", key, property(key, i))
					src.publish(seq, "Property", key)
					if quoted {
						src.mu.Lock()
						last := &src.events[len(src.events)-1]
						last.body = json.RawMessage(strings.Replace(string(last.body), fmt.Sprint(seq), fmt.Sprintf("%q", fmt.Sprint(seq)), 1))
						src.mu.Unlock()
					}
					pass(10 * time.Minute)
					equal(t, src, f.Store)
					if p := position(t, f); p.Sequence != entityevent.Sequence(seq) {
						t.Fatalf("the cursor is at %d, want %d", p.Sequence, seq)
					}
				}
				pass(time.Hour)
				if s := status(t, f); s.Polling.Failures != 0 || s.Pending != 0 {
					t.Errorf("%+v", s)
				}
				stop()
			})
		}
	}
}

// Pages in the names of the old text are read as well as those of the new.
func TestPagesWithOldNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		src.quiet("Property", "7", property("7", 1))
		src.publish(6, "Property", "7")
		src.mu.Lock()
		src.events[5].body = json.RawMessage(`{"EntityEventSequenceNumeric":6,"ResourceName":"Property","ResourceRecordKeyNumeric":7,"ResourceRecordURL":"http://mls.test/odata/Property('7')"}`)
		src.mu.Unlock()
		catchUp(t, f)
		equal(t, src, f.Store)
	})
}

// A 429 in the middle of the pages of the log, or of a nextLink, ends nothing: what follows is read.
func TestRefusedOnTheSecondPage(t *testing.T) {
	for _, log := range []string{"", "log-1/all"} {
		const times = 9 // more than one request is repeated
		synctest.Test(t, func(t *testing.T) {
			src := filled(log, 5)
			f := newFeed(t, to(src), "Property")
			catchUp(t, f)
			for i := range 1500 {
				key := fmt.Sprintf("P%04d", i)
				src.put("Property", key, property(key, i))
			}
			f = newFeedOn(f.Store, script(to(src), times, "gt%201005", func(r *http.Request) (*http.Response, error) {
				resp, err := halt("30")
				resp.Request = r
				return resp, err
			}))
			f.Rate, f.PageSize = 100, 1001 // the source counts pages of 1000 as the last
			stop := run(t, f)
			pass(30 * time.Minute)
			equal(t, src, f.Store)
			if s := status(t, f); s.Sequence != 1505 || f.Stats().Halts != times {
				t.Errorf("%+v", s)
			}
			stop()
		})
	}
}
