package consumer_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
)

// A request that a day did not answer is given up with its key and its token, for the producer may have forgotten both.
func TestKeyOfYesterday(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := registering(t, h)
		h.fate(slices.Repeat([]fate{unsent}, 1000)...)
		defer keep(t, f)()
		pass(22 * time.Hour)
		key := func() string {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.headers[len(h.headers)-1].Get("Idempotency-Key")
		}
		first := key()
		if h.mu.Lock(); h.headers[0].Get("Idempotency-Key") != first {
			t.Error("it has another key within the day")
		}
		h.mu.Unlock()
		pass(3 * time.Hour)
		if key() == first {
			t.Error("it has the same key after a day")
		}
		h.mu.Lock()
		h.fates = nil
		h.mu.Unlock()
		pass(time.Hour)
		only(t, h, f)
	})
}

// A token that cannot be opened any more is not sent as none.
func TestTokenUnderWayIsUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := registering(t, h)
		h.fate(slices.Repeat([]fate{unsent}, 100)...)
		keepFor(t, f, time.Second)
		h.mu.Lock()
		h.fates = nil
		h.mu.Unlock()
		f = again(f)
		f.Register.Authority.Key = anotherKey
		defer keep(t, f)()
		pass(time.Hour)
		only(t, h, f)
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, body := range h.bodies {
			if strings.Contains(body, `"callbackToken":""`) {
				t.Error(body)
			}
		}
	})
}

// A page of something in between is no proof that the subscription is gone when its terms change, either; and a batch
// that is no longer wanted is taken back.
func TestTermsChangeBehindAProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := registering(t, h)
		f.Register.Batch = 100
		keepFor(t, f, time.Minute)
		if s := only(t, h, f); s.batch != 100. {
			t.Errorf("%+v", s)
		}
		f = again(f)
		f.Register.Batch = 0
		h.requests()
		h.fate(nil, page(404), page(404))
		defer keep(t, f)()
		pass(30 * time.Minute)
		asked := h.requests()
		if s := only(t, h, f); "/subscriptions/"+s.uuid != first || s.batch != nil || times(asked, post) > 0 || times(asked, patch) != 3 {
			t.Errorf("%+v after %v", s, asked)
		}
		var body map[string]any
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, text := range h.bodies[1:] {
			if text != "" && json.Unmarshal([]byte(text), &body) == nil {
				if size, given := body["batchSize"]; size != nil || !given {
					t.Errorf("%s", text)
				}
			}
		}
		if r := status(t, f).Registration; r.State != consumer.Registered {
			t.Errorf("%+v", r)
		}
	})
}
