package consumer_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent/bearer"
)

const (
	post  = "POST /subscriptions"
	first = "/subscriptions/00000000-0000-7000-8000-000000000001"
	next  = "/subscriptions/00000000-0000-7000-8000-000000000002"
)

// What is asked for, once, whatever restarts follow.
func TestRegisters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		h.src.put("Property", "a", property("a", 1))
		h.src.put("Property", "b", property("b", 1))
		f := registering(t, h)
		f.Register.Batch = 100
		h.src.put("Property", "c", property("c", 1)) // above our cursor
		stop := keep(t, f)
		pass(time.Minute)
		s := only(t, h, f)
		var body map[string]any
		if err := json.Unmarshal([]byte(h.bodies[0]), &body); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{"callbackUrl": "https://copy.test/webhooks/mls", "callbackToken": s.token, "consumerLabel": "IDX Feed 123",
			"mode": "continuous", "protocol": "reso", "fromSequence": 2.0, "batchSize": 100.0}
		if diff := cmp.Diff(want, body); diff != "" {
			t.Error(diff)
		}
		if h.headers[0].Get("Idempotency-Key") == "" || h.headers[0].Get("Authorization") != "Bearer sesame" {
			t.Errorf("%v", h.headers[0])
		}
		token := goodTokens(t, f)[0]
		if life := time.Until(token.Expires); life < 89*24*time.Hour || life > 90*24*time.Hour {
			t.Errorf("the token lives %v", life)
		}
		r := status(t, f).Registration
		if r == nil || r.State != consumer.Registered || r.UUID != s.uuid || r.Since.IsZero() || r.Looked.IsZero() || !r.Expires.Equal(token.Expires) || r.Reason != "" {
			t.Errorf("%+v", r)
		}
		stop()
		for range 3 {
			f = again(f)
			f.Register.Batch = 100
			if r := status(t, f).Registration; r == nil || r.UUID != s.uuid || r.State != consumer.Registered || !r.Looked.IsZero() {
				t.Errorf("before it runs: %+v", r)
			}
			keepFor(t, f, time.Hour)
		}
		only(t, h, f)
		asked := h.requests()
		if n := times(asked, post); n != 1 || len(asked) < 3*10 || len(asked) > 3*16+2 {
			t.Errorf("%d POSTs, %d requests in three hours", n, len(asked))
		}
	})
}

// A producer that does not want it, or not now, is asked ever more rarely.
func TestRefusedForEver(t *testing.T) {
	for code, state := range map[int]string{403: consumer.Refused, 429: consumer.Registering} {
		synctest.Test(t, func(t *testing.T) {
			h := newHooks("log-1/all")
			f := registering(t, h)
			h.fate(slices.Repeat([]fate{says(code, "no")}, 1000)...)
			defer keep(t, f)()
			pass(22 * time.Hour)
			if n := times(h.requests(), post); n < 20 || n > 200 {
				t.Errorf("%d: asked %d times", code, n)
			}
			if r := status(t, f).Registration; r.State != state {
				t.Errorf("%d: %+v", code, r)
			}
			if all, _ := f.Register.Authority.List(t.Context()); len(all) != 1 {
				t.Errorf("%d: %d tokens were issued", code, len(all))
			}
		})
	}
}

func times(all []string, what string) (n int) {
	for _, s := range all {
		if s == what {
			n++
		}
	}
	return n
}

// Before the first event pushes begin with what is new; before the first load nothing is asked.
func TestRegistersWhenLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := newFeed(t, h, "Property")
		f.Register = &consumer.Registration{Callback: "https://copy.test/webhooks/mls", Authority: authority(f)}
		defer keep(t, f)()
		pass(time.Minute)
		if asked := h.requests(); len(asked) > 0 {
			t.Errorf("before it was loaded: %v", asked)
		}
		if r := status(t, f).Registration; r == nil || r.State != consumer.Registering || !strings.Contains(r.Reason, "load") {
			t.Errorf("%+v", r)
		}
		catchUp(t, f)
		pass(10 * time.Second)
		if s := only(t, h, f); s.from != nil {
			t.Errorf("from %v", s.from)
		}
	})
}

// What a POST made whose answer was lost is pushed with a token that is good no more, if it is refused when it is
// repeated: at once, after a pause, or by the next run.
func TestRefusedAfterALostAnswer(t *testing.T) {
	for lost := range 8 {
		synctest.Test(t, func(t *testing.T) {
			h := newHooks("log-1/all")
			h.src.put("Property", "a", property("a", 1))
			f := registering(t, h)
			if lost == 0 {
				h.fate(slices.Repeat([]fate{unheard}, 100)...)
				keepFor(t, f, time.Second)
				f = again(f)
				h.mu.Lock()
				h.fates = nil
				h.mu.Unlock()
			}
			h.fate(slices.Repeat([]fate{unheard}, lost)...)
			h.fate(says(403, "its token lacks the scope subscribe"))
			defer keep(t, f)()
			pass(10 * time.Minute)
			open := h.open()
			if len(open) != 2 {
				t.Fatalf("%d lost: %d subscriptions", lost, len(open))
			}
			for i, want := range []bool{false, true} {
				if _, err := f.Register.Authority.Verify(t.Context(), open[i].token, bearer.Push("mls")); (err == nil) != want {
					t.Errorf("%d lost: the token of subscription %d: %v", lost, i+1, err)
				}
			}
		})
	}
}

// Every answer to the first request: what follows, and when.
func TestAnswersToARegistration(t *testing.T) {
	const hour = time.Hour
	for name, c := range map[string]struct {
		fates  []fate
		state  string // after a minute
		reason string
		posts  int           // within that minute
		after  time.Duration // when it is registered
	}{
		"201":               {nil, consumer.Registered, "", 1, 0},
		"200, known":        {[]fate{unheard}, consumer.Registered, "", 2, time.Minute},
		"cut":               {[]fate{halfHeard}, consumer.Registered, "", 2, time.Minute},
		"never arrives":     {[]fate{unsent, unsent, unsent, unsent, unsent, unsent}, consumer.Registered, "", 7, time.Minute},
		"lost ten times":    {slices.Repeat([]fate{unheard}, 10), consumer.Registered, "", 11, time.Minute},
		"500":               {slices.Repeat([]fate{says(500, "oh")}, 5), consumer.Registered, "", 6, time.Minute},
		"503, Retry-After":  {[]fate{says(503, "later", "Retry-After", "600")}, consumer.Registering, "", 1, 11 * time.Minute},
		"429, Retry-After":  {[]fate{says(429, "later", "Retry-After", "600")}, consumer.Registering, "", 1, 11 * time.Minute},
		"403":               {[]fate{says(403, "callbackUrl: not a public address")}, consumer.Refused, "403 Forbidden: callbackUrl: not a public address", 1, 3 * time.Minute},
		"403 for ever":      {slices.Repeat([]fate{says(403, "no")}, 5), consumer.Refused, "no", 1, 65 * time.Minute},
		"400":               {[]fate{says(400, "what?")}, consumer.Refused, "what?", 1, 3 * time.Minute},
		"422":               {[]fate{says(422, "fromSequence is above the newest event")}, consumer.Refused, "fromSequence", 1, 6 * time.Minute},
		"401":               {slices.Repeat([]fate{says(401, "no")}, 10), consumer.Registering, "401", 6, hour},
		"404 of the server": {slices.Repeat([]fate{says(404, "no")}, 4), consumer.Registered, "", 5, time.Minute},
		"404 of a proxy":    {slices.Repeat([]fate{page(404)}, 4), consumer.Registered, "", 5, time.Minute},
		"403 of a proxy":    {slices.Repeat([]fate{page(403)}, 4), consumer.Registered, "", 5, time.Minute},
		"408":               {slices.Repeat([]fate{says(408, "too slow")}, 4), consumer.Registered, "", 5, time.Minute},
		"a UUID of none":    {[]fate{names(""), names("a\nb"), names(".."), names("a/b")}, consumer.Registered, "", 5, time.Minute},
		"a UUID of 3 MB":    {[]fate{names(strings.Repeat("x", 3<<20))}, consumer.Registered, "", 2, time.Minute},
		"a token in it":     {[]fate{says(403, "bad token eyJhbGciOiJFZERTQSIs")}, consumer.Refused, "holds a token", 1, 3 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHooks("log-1/all")
				h.src.put("Property", "a", property("a", 1))
				f := registering(t, h)
				h.fate(c.fates...)
				defer keep(t, f)()
				pass(time.Minute)
				if posts := times(h.requests(), post); posts != c.posts {
					t.Errorf("%d POSTs in the first minute, want %d", posts, c.posts)
				}
				r := status(t, f).Registration
				if r == nil || r.State != c.state || !strings.Contains(r.Reason, c.reason) {
					t.Errorf("%+v", r)
				}
				pass(c.after)
				only(t, h, f)
				if r := status(t, f).Registration; r.State != consumer.Registered || r.Reason != "" {
					t.Errorf("in the end: %+v", r)
				}
				if all, _ := f.Register.Authority.List(t.Context()); len(all) != 1 {
					t.Errorf("%d tokens were issued", len(all))
				}
			})
		})
	}
}

// A producer that does not take subscriptions is asked rarely, and one without a log id never.
func TestNotOffered(t *testing.T) {
	for _, log := range []string{"", "log-1/all"} {
		synctest.Test(t, func(t *testing.T) {
			h := newHooks(log)
			h.without = true
			roots := 0
			f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/" {
					roots++
				}
				return h.RoundTrip(r)
			}), "Property")
			f.Register = &consumer.Registration{Callback: "https://copy.test/webhooks/mls", Authority: authority(f)}
			catchUp(t, f)
			roots = 0
			defer keep(t, f)()
			pass(6 * time.Hour)
			if r := status(t, f).Registration; r == nil || r.State != consumer.Unoffered {
				t.Errorf("%+v", r)
			}
			if log == "" && roots > 0 || roots > 40 {
				t.Errorf("%q: asked %d times in six hours", log, roots)
			}
			if tokens := goodTokens(t, f); len(tokens) > 0 {
				t.Errorf("%d tokens were issued for nothing", len(tokens))
			}
		})
	}
}

// Days go by: the token is renewed a month before its end, and whatever becomes of the request, the producer never
// has one that is not accepted.
func TestTokenIsRenewed(t *testing.T) {
	const day = 24 * time.Hour
	for name, fates := range map[string][]fate{
		"at once":        nil,
		"answer lost":    {unheard, unheard, unheard},
		"a day long":     slices.Repeat([]fate{unheard}, 150),
		"answer cut":     {halfHeard},
		"request lost":   {unsent, unsent},
		"5xx":            slices.Repeat([]fate{says(500, "")}, 20),
		"429":            {says(429, "", "Retry-After", "7200")},
		"refused awhile": {says(403, "not now"), says(403, "not now")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHooks("log-1/all")
				f := registering(t, h)
				keepFor(t, f, time.Minute)
				pass(59 * day)
				f = again(f)
				h.of = http.MethodPatch
				h.fate(fates...)
				defer keep(t, f)()
				before := only(t, h, f).token
				h.requests()
				for range 3 * 24 * 6 {
					pass(10 * time.Minute)
					now := h.open()[0]
					if _, err := f.Register.Authority.Verify(t.Context(), now.token, bearer.Push("mls")); err != nil {
						t.Fatalf("the producer has a token that is refused: %v", err)
					}
				}
				if h.mu.Lock(); len(h.fates) > 0 {
					t.Errorf("%d more would have failed", len(h.fates))
				}
				h.mu.Unlock()
				if only(t, h, f).token == before {
					t.Error("the token was not renewed")
				}
				if asked := h.requests(); times(asked, post) > 0 {
					t.Errorf("%v", asked)
				}
				if all, _ := f.Register.Authority.List(t.Context()); len(all) != 2 {
					t.Errorf("%d tokens were issued, want 2", len(all))
				}
			})
		})
	}
}

// The token before is good until pushes with it are over.
func TestTokenBeforeHasGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := registering(t, h)
		stop := keep(t, f)
		pass(time.Minute)
		before := only(t, h, f).token
		stop()
		f = again(f)
		f.Register.Callback = "https://moved.test/webhooks/mls"
		stop = keep(t, f)
		pass(5 * time.Minute)
		if s := h.open()[0]; s.callback != "https://moved.test/webhooks/mls" || s.token == before {
			t.Errorf("%+v", s)
		}
		if _, err := f.Register.Authority.Verify(t.Context(), before, bearer.Push("mls")); err != nil {
			t.Errorf("a push under way: %v", err)
		}
		stop()
		f = again(f)
		defer keep(t, f)()
		pass(20 * time.Minute)
		only(t, h, f)
	})
}

// A token that a person revoked, or that another key signed, is replaced, and the subscription goes on.
func TestTokenThatIsNoLongerGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := registering(t, h)
		stop := keep(t, f)
		pass(time.Minute)
		if err := f.Register.Authority.Revoke(t.Context(), goodTokens(t, f)[0].ID); err != nil {
			t.Fatal(err)
		}
		h.change(func(s *hook) { s.status, s.message = "suspended", "the subscriber refuses the token" })
		pass(10 * time.Minute)
		if s := only(t, h, f); s.status != "active" {
			t.Errorf("%+v", s)
		}
		stop()
		f = again(f)
		f.Register.Authority.Key = anotherKey
		defer keep(t, f)()
		pass(10 * time.Minute)
		if _, err := f.Register.Authority.Verify(t.Context(), h.open()[0].token, bearer.Push("mls")); err != nil {
			t.Error(err)
		}
		if asked := h.requests(); times(asked, post) != 1 {
			t.Errorf("%v", asked)
		}
	})
}

var anotherKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
