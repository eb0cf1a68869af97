package consumer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent/bearer"
)

const patch = "PATCH " + first

// The producer has another key than the one that its subscriptions were sealed with: it is told all again.
func TestProducerCannotReadTheCallback(t *testing.T) {
	for name, fates := range map[string][]fate{
		"at once":         nil,
		"answer lost":     {nil, unheard, unheard},
		"not heard":       {nil, unsent},
		"refused at once": {nil, says(403, "callbackUrl: not now")},
		"refused often":   {nil, says(403, "callbackUrl: not now"), nil, says(403, "callbackUrl: not now"), nil, says(403, "callbackUrl: not now")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHooks("log-1/all")
				f := registering(t, h)
				keepFor(t, f, time.Minute)
				h.change(func(s *hook) {
					s.status, s.message, s.unread, s.callback, s.token = "suspended", "it cannot be read", true, "", ""
				})
				f = again(f)
				h.fate(fates...)
				defer keep(t, f)()
				pass(time.Minute)
				if strings.HasPrefix(name, "refused") {
					if r := status(t, f).Registration; r.State != consumer.Refused || !strings.Contains(r.Reason, "not now") {
						t.Errorf("%+v", r)
					}
					pass(15 * time.Minute)
				}
				if s := only(t, h, f); s.status != "active" || s.callback != "https://copy.test/webhooks/mls" {
					t.Errorf("%+v", s)
				}
				if r := status(t, f).Registration; r.State != consumer.Registered {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

// A producer that was restored has a callback and a token of before. It is told those of now as soon as the feed
// follows its new log, and at the second look where pushes show it alone.
func TestProducerHasOldTerms(t *testing.T) {
	for name, c := range map[string]struct {
		log    string
		status string
		err    string
		wait   time.Duration
	}{
		"under another log":          {"log-2/all", "active", "", 7 * time.Minute},
		"under another log, failing": {"log-2/all", "active", "no connection", 7 * time.Minute},
		"suspended":                  {"log-1/all", "suspended", "", 7 * time.Minute},
		"only pushes fail":           {"log-1/all", "active", "no connection", 13 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHooks("log-1/all")
				h.src.put("Property", "a", property("a", 1))
				f := registering(t, h)
				keepFor(t, f, time.Minute)
				old := only(t, h, f)
				f = again(f)
				f.Register.Callback = "https://moved.test/webhooks/mls"
				defer keep(t, f)()
				pass(20 * time.Minute) // the token of before is over
				now := only(t, h, f)
				if now.token == old.token {
					t.Fatal("it has the same token")
				}
				h.change(func(s *hook) {
					s.callback, s.token, s.status, s.lastError = old.callback, old.token, c.status, c.err
				})
				h.src.mu.Lock()
				h.src.log = c.log
				h.src.mu.Unlock()
				h.src.put("Property", "b", property("b", 1))
				catchUp(t, f)
				h.requests()
				pass(c.wait)
				if s := only(t, h, f); s.callback != now.callback || s.token != now.token || s.status != "active" {
					t.Errorf("%+v", s)
				}
				if n := times(h.requests(), patch); n < 1 || n > 2 {
					t.Errorf("told %d times", n)
				}
			})
		})
	}
}

// Pushes that fail at the same place are said to, and the producer is told the same again more and more rarely; nothing
// is done about one that has nothing to push, or that moves.
func TestPushesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		h.src.put("Property", "a", property("a", 1))
		f := registering(t, h)
		defer keep(t, f)()
		pass(time.Minute)
		h.change(func(s *hook) { s.lastError = "no connection" })
		pass(24 * time.Hour)
		if asked := h.requests(); slices.Contains(asked, patch) {
			t.Error("told again though there is nothing to push")
		}
		for i := range 20 { // pushed late, but pushed
			h.src.put("Property", fmt.Sprint(i), property(fmt.Sprint(i), 1))
			catchUp(t, f)
			pass(3 * time.Minute)
			h.change(func(s *hook) { s.cursor++ })
		}
		if asked := h.requests(); slices.Contains(asked, patch) {
			t.Error("told again though it moves")
		}
		h.src.put("Property", "b", property("b", 1))
		catchUp(t, f)
		pass(15 * time.Minute)
		if r := status(t, f).Registration; r.State != consumer.Failing || r.Reason != "no connection" {
			t.Errorf("%+v", r)
		}
		pass(24 * time.Hour)
		if n := times(h.requests(), patch); n < 2 || n > 10 {
			t.Errorf("told %d times in a day, in vain", n)
		}
		if all, _ := f.Register.Authority.List(t.Context()); len(all) != 1 {
			t.Errorf("%d tokens were issued", len(all))
		}
		h.change(func(s *hook) { s.lastError = "" }) // what is not for us alone may be left
		pass(time.Hour)
		if r := status(t, f).Registration; r.State != consumer.Registered {
			t.Errorf("%+v", r)
		}
		h.change(func(s *hook) { s.cursor = h.src.head })
		pass(7 * time.Minute)
		if r := status(t, f).Registration; r.State != consumer.Registered {
			t.Errorf("%+v", r)
		}
	})
}

// What was cancelled, or lost, is cancelled again when a restored producer has it once more.
func TestCancelsWhatIsRestored(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, f *consumer.Feed) *consumer.Feed{
		"another label": func(_ *testing.T, f *consumer.Feed) *consumer.Feed {
			f = again(f)
			f.Label = "another"
			return f
		},
		"withdrawn and wanted again": func(t *testing.T, f *consumer.Feed) *consumer.Feed {
			off := again(f)
			off.Register.Callback = ""
			if err := off.KeepRegistered(t.Context()); err != nil {
				t.Fatal(err)
			}
			return again(f)
		},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprint(name, restart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newHooks("log-1/all")
					f := registering(t, h)
					keepFor(t, f, time.Minute)
					f = end(t, f)
					stop := keep(t, f)
					pass(15 * time.Minute)
					h.mu.Lock()
					h.subs = h.subs[:1]
					h.subs[0].status = "active"
					clear(h.keys)
					h.src.log = "log-2/all"
					h.mu.Unlock()
					if restart {
						stop()
						f = again(f)
						stop = keep(t, f)
					}
					pass(30 * time.Minute) // two looks, and more
					s := only(t, h, f)
					if "/subscriptions/"+s.uuid == first {
						t.Errorf("%+v", s)
					}
					if _, err := f.Register.Authority.Verify(t.Context(), s.token, bearer.Push("mls")); err != nil {
						t.Error(err)
					}
					h.requests()
					pass(24 * time.Hour)
					if asked := h.requests(); slices.Contains(asked, "DELETE "+first) {
						t.Errorf("%v", asked)
					}
					stop()
				})
			})
		}
	}
}
