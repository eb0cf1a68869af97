package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
)

// A subscription that the producer suspended is resumed: where the feed is, if that is beyond it, and else where it is.
func TestResumes(t *testing.T) {
	for name, c := range map[string]struct {
		cursor int64
		from   any
		at     int64
		fates  []fate
	}{
		"behind ours":           {2, 5.0, 5, nil},
		"where ours is":         {5, nil, 5, nil},
		"beyond ours":           {7, nil, 7, nil},
		"above the log":         {2, nil, 2, []fate{nil, nil, nil, says(422, "fromSequence is above the newest event")}},
		"answer lost":           {2, 5.0, 5, []fate{nil, unheard, nil, unheard}},
		"refused for a while":   {2, 5.0, 5, []fate{nil, says(503, "", "Retry-After", "60"), nil, nil, says(503, "", "Retry-After", "60")}},
		"an answer that is cut": {2, 5.0, 5, []fate{nil, halfHeard, nil, halfHeard}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHooks("log-1/all")
				for i := range 5 {
					h.src.put("Property", fmt.Sprint(i), property(fmt.Sprint(i), 1))
				}
				f := registering(t, h)
				defer keep(t, f)()
				pass(time.Minute)
				h.src.mu.Lock()
				h.src.head = 7 // of events that we do not see
				h.src.mu.Unlock()
				h.change(func(s *hook) {
					s.status, s.message, s.cursor, s.from = "suspended", "not one push was taken for 24h0m0s", c.cursor, nil
				})
				h.fate(c.fates...)
				pass(15 * time.Minute)
				if s := only(t, h, f); s.status != "active" || s.from != c.from || s.cursor != c.at {
					t.Errorf("%+v", s)
				}
				if r := status(t, f).Registration; r.State != consumer.Registered {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

// It is not said to be registered before the producer pushes again, though it takes the terms before that.
func TestSuspendedUntilResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := registering(t, h)
		keepFor(t, f, time.Minute)
		h.change(func(s *hook) { s.status, s.message = "suspended", "410 Gone" })
		h.requests()
		f = again(f)
		checked := func(r *http.Request, serve func() *http.Response) (*http.Response, error) {
			if now := status(t, f).Registration; now.State == consumer.Registered && !now.Looked.IsZero() {
				t.Errorf("before %s %s: %+v", r.Method, r.URL.Path, now)
			}
			return serve(), nil
		}
		h.fate(checked, checked, checked, checked)
		defer keep(t, f)()
		pass(time.Minute)
		if asked := h.requests(); !slices.Equal(asked, []string{"GET " + first, patch, "GET " + first, "POST " + first + "/resume"}) {
			t.Errorf("asked %q", asked)
		}
		if now := status(t, f).Registration; now.State != consumer.Registered || now.Looked.IsZero() {
			t.Errorf("%+v", now)
		}
	})
}

// It is left suspended, and said to be, for as long as pushes cannot be taken; and it is not resumed over and over when
// that does not help.
func TestResumesWhenPushesAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		h.src.put("Property", "a", property("a", 1))
		f := registering(t, h)
		s := &outage{Store: f.Store.(entityevent.Store)}
		f.Store, f.Register.MaxPending = s, 2
		f.Register.Authority.Store = s
		stop := keep(t, f)
		pass(time.Minute)
		for i := range 2 { // nobody applies them
			if _, err := s.Receive(t.Context(), entityevent.Delivery{Feed: "mls", Log: "log-1/all", Events: []entityevent.Event{
				{Sequence: entityevent.Sequence(10 + i), Ref: entityevent.Ref{Resource: "Property", Key: fmt.Sprint(i)}}}}); err != nil {
				t.Fatal(err)
			}
		}
		h.change(func(s *hook) { s.status, s.message = "suspended", "the inbox was full" })
		pass(2 * time.Hour)
		if r := status(t, f).Registration; h.open()[0].status != "suspended" || r.State != consumer.Suspended || r.Reason != "the inbox was full" {
			t.Errorf("%+v", r)
		}
		s.apply.Store(true)
		s.emptied.Store(true)
		pass(2 * time.Hour)
		if h.open()[0].status != "suspended" {
			t.Error("resumed while nothing can be stored")
		}
		s.apply.Store(false)
		pass(20 * time.Minute)
		if h.open()[0].status != "active" {
			t.Error("not resumed")
		}
		for _, cursor := range []int64{0, 5} { // ours is between them
			h.change(func(s *hook) { s.cursor = cursor })
			h.requests()
			for range 24 * 60 {
				h.change(func(s *hook) { s.status = "suspended" })
				pass(time.Minute)
			}
			if n := times(h.requests(), "POST "+first+"/resume"); n < 24 || n > 200 {
				t.Errorf("at %d resumed %d times in a day, in vain", cursor, n)
			}
		}
		stop()
	})
}

// Whoever ends the subscription but us: there is another, at once the first time, and then an hour after one that was
// cancelled, minutes after one that is not known any more.
func TestEndedByOthers(t *testing.T) {
	for name, end := range map[string]func(h *hooks){
		"cancelled":        func(h *hooks) { h.change(func(s *hook) { s.status, s.message = "cancelled", "by the admin" }) },
		"unknown":          func(h *hooks) { h.mu.Lock(); h.subs = nil; clear(h.keys); h.mu.Unlock() },
		"gone":             func(h *hooks) { h.mu.Lock(); h.subs, h.unknown = nil, 410; clear(h.keys); h.mu.Unlock() },
		"unknown when due": func(h *hooks) { h.change(func(s *hook) { s.uuid = "gone" }) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHooks("log-1/all")
				f := registering(t, h)
				defer keep(t, f)()
				pass(time.Minute)
				before := only(t, h, f).token
				if end(h); name == "unknown when due" {
					_ = f.Register.Authority.Revoke(t.Context(), goodTokens(t, f)[0].ID)
				}
				pass(7 * time.Minute)
				open := h.open()
				if s := open[len(open)-1]; s.token == before || s.status != "active" {
					t.Errorf("%+v", s)
				}
				h.requests()
				if end(h); name != "cancelled" {
					for range 60 {
						pass(time.Minute)
						if open := h.open(); len(open) > 0 && open[len(open)-1].uuid != "gone" {
							end(h)
						}
					}
					if n := times(h.requests(), post); n < 4 || n > 14 {
						t.Errorf("%d POSTs in an hour", n)
					}
					return
				}
				pass(30 * time.Minute)
				if n := times(h.requests(), post); n > 0 {
					t.Errorf("%d POSTs within the hour", n)
				}
				if r := status(t, f).Registration; r.State != consumer.Registering || r.UUID != "" || r.Reason == "" {
					t.Errorf("%+v", r)
				}
				pass(time.Hour)
				if open := h.open(); open[len(open)-1].status != "active" {
					t.Error("not registered again")
				}
			})
		})
	}
}

// A page of something in between is no proof that the subscription is gone, nor is any failure.
func TestNotEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := registering(t, h)
		defer keep(t, f)()
		pass(time.Minute)
		h.requests()
		for _, no := range []fate{page(404), page(410), says(500, ""), says(401, "who?"), says(403, "no"), says(429, "", "Retry-After", "30"), halfHeard, unsent,
			func(r *http.Request, _ func() *http.Response) (*http.Response, error) {
				return answer(200, "application/json", `{}`)(r)
			}} {
			h.fate(slices.Repeat([]fate{no}, 100)...)
			pass(7 * time.Minute)
			if r := status(t, f).Registration; r.UUID == "" || r.Reason == "" {
				t.Errorf("%+v", r)
			}
			h.mu.Lock()
			h.fates = nil
			h.mu.Unlock()
			pass(8 * time.Hour)
			only(t, h, f)
			if r := status(t, f).Registration; r.State != consumer.Registered || r.Reason != "" {
				t.Errorf("%+v", r)
			}
		}
		if asked := h.requests(); times(asked, post) > 0 {
			t.Errorf("%v", asked)
		}
	})
}

// The last ones that others ended are remembered, and cancelled again at a producer that was restored and has them,
// also if it is not reached at first.
func TestRemembersTheLastThatEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := registering(t, h)
		stop := keep(t, f)
		for range 25 {
			pass(2 * time.Hour)
			h.change(func(s *hook) { s.status = "cancelled" })
		}
		pass(2 * time.Hour)
		stop()
		for _, s := range h.subs {
			s.status = "active"
		}
		h.fate(slices.Repeat([]fate{unsent}, 20)...)
		defer keep(t, again(f))()
		pass(30 * time.Minute)
		var open []string
		for _, s := range h.open() {
			open = append(open, s.uuid[len(s.uuid)-2:])
		}
		if want := []string{"01", "02", "03", "04", "05", "26"}; !slices.Equal(open, want) {
			t.Errorf("open: %v", open)
		}
	})
}

// Tokens that people issued are theirs: for the pushes of the feed, or in the name that its own have.
func TestTokensOfOthersAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := registering(t, h)
		issue := func(audience, client string) {
			t.Helper()
			if _, _, err := f.Register.Authority.Issue(t.Context(), bearer.Token{Audience: audience, Client: client, Expires: time.Now().Add(24 * time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
		stop := keep(t, f)
		pass(time.Minute)
		own := goodTokens(t, f)[0].Client
		issue(bearer.Push("mls"), "by hand")
		issue(bearer.Push("another"), own)
		pass(time.Hour)
		stop()
		f = again(f)
		f.Register.Callback = ""
		if err := f.KeepRegistered(t.Context()); err != nil {
			t.Fatal(err)
		}
		if good := goodTokens(t, f); len(good) != 2 || good[0].Audience == good[1].Audience {
			t.Errorf("%+v", good)
		}
	})
}

// What cannot be stored is not asked for: after a crash nobody would know of it.
func TestRegistrationWaitsForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := registering(t, h)
		s := &outage{Store: f.Store.(entityevent.Store)} // the tokens are in another one
		s.apply.Store(true)
		f.Store = s
		defer keep(t, f)()
		pass(10 * time.Minute)
		if asked := h.requests(); len(asked) > 0 {
			t.Errorf("%v", asked)
		}
		s.apply.Store(false)
		pass(20 * time.Minute)
		only(t, h, f)
	})
}

// Before the producer could be asked at all, it is said why.
func TestRegistrationWaitsForTheProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := again(registering(t, h))
		f.HTTP = &http.Client{Transport: wire(func(*http.Request) (*http.Response, error) { return nil, errHungUp })}
		defer keep(t, f)()
		pass(time.Minute)
		if r := status(t, f).Registration; r == nil || r.State != consumer.Registering || !strings.Contains(r.Reason, errHungUp.Error()) {
			t.Errorf("%+v", r)
		}
	})
}

// Of what cannot be changed a new subscription is made, and the old one cancelled.
func TestLabelChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := registering(t, h)
		keepFor(t, f, time.Minute)
		f = again(f)
		f.Label = "another"
		defer keep(t, f)()
		pass(time.Minute)
		if s := only(t, h, f); s.label != "another" || "/subscriptions/"+s.uuid != next {
			t.Errorf("%+v", s)
		}
		if asked := h.requests(); times(asked, "DELETE "+first) != 1 {
			t.Errorf("%v", asked)
		}
	})
}

// justGone is a document that only says what is no more.
var justGone = regexp.MustCompile(`^{"root":"http://mls.test/odata","gone":\["[^"]+"\]}$`)

// withdrawn checks that nothing is left of a registration, here and there.
func withdrawn(t *testing.T, h *hooks, f *consumer.Feed) {
	t.Helper()
	if open := h.open(); len(open) > 0 {
		t.Errorf("still open: %+v", open[0])
	}
	if good := goodTokens(t, f); len(good) > 0 {
		t.Errorf("still good: %v", good)
	}
	if text := registrations(t, f); text != "" && !justGone.MatchString(text) {
		t.Error(text)
	}
}

// No pushes are wanted any more: the subscription is cancelled, however often that takes, and KeepRegistered ends.
func TestWithdraws(t *testing.T) {
	for name, c := range map[string]struct {
		begun, ended []fate // of the POST, and of the DELETE
	}{
		"at once":                  {nil, nil},
		"cancelled already":        {nil, []fate{unheard, says(404, "unknown")}},
		"the POST was not heard":   {[]fate{unheard, unheard, unheard, unheard, unheard, unheard, unheard, unheard}, nil},
		"nor was it sent":          {[]fate{unsent, unsent, unsent, unsent, unsent, unsent, unsent, unsent}, nil},
		"unknown there":            {nil, append([]fate{unheard}, slices.Repeat([]fate{says(404, "unknown")}, 100)...)},
		"refused":                  {nil, append([]fate{unheard}, slices.Repeat([]fate{says(403, "no")}, 100)...)},
		"not admitted":             {nil, append([]fate{unheard}, slices.Repeat([]fate{says(401, "who?")}, 100)...)},
		"out of order":             {nil, []fate{unsent, unsent, says(500, ""), page(404), page(403), says(408, ""), says(429, ""), says(503, "", "Retry-After", "300")}},
		"the answer is not heard":  {nil, []fate{unheard, unheard, unheard, unheard, unheard}},
		"was never registered":     {[]fate{says(403, "no")}, nil},
		"the POST is refused then": {[]fate{unsent, unsent, unsent, unsent, says(403, "no")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHooks("log-1/all")
				f := registering(t, h)
				h.fate(c.begun...)
				keepFor(t, f, time.Second)
				f = again(f)
				f.Register.Callback = ""
				h.fate(c.ended...)
				if err := f.KeepRegistered(t.Context()); err != nil {
					t.Fatal(err)
				}
				withdrawn(t, h, f)
				if asked := h.requests(); len(asked) > 40 {
					t.Errorf("%d requests: %v", len(asked), asked)
				}
				if status(t, f).Registration != nil {
					t.Errorf("%+v", status(t, f).Registration)
				}
			})
		})
	}
}

// What a feed left that is no longer configured is cancelled with what it had to ask with.
func TestDeregistered(t *testing.T) {
	for _, key := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			h := newHooks("log-1/all")
			f := registering(t, h)
			keepFor(t, f, time.Minute)
			h.requests()
			if f.Register.Authority = authority(f); !key {
				f.Register.Authority.Key = anotherKey
			}
			none, err := consumer.Deregistered(t.Context(), f.Store, f.Register.Authority, func(feed string) bool { return feed == "mls" })
			if err != nil || len(none) > 0 {
				t.Fatalf("%v, %v", none, err)
			}
			left, err := consumer.Deregistered(t.Context(), f.Store, f.Register.Authority, func(string) bool { return false })
			if err != nil || len(left) != 1 {
				t.Fatalf("%v, %v", left, err)
			}
			left[0].HTTP = &http.Client{Transport: wire(func(r *http.Request) (*http.Response, error) {
				if r.Header.Get("Authorization") != "Bearer sesame" {
					return says(401, "who?")(r, nil)
				}
				return h.RoundTrip(r)
			})}
			if err := left[0].KeepRegistered(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !key { // nobody can open it: the producer finds the token revoked
				h.change(func(s *hook) { s.status = "cancelled" })
			}
			withdrawn(t, h, f)
			if asked := h.requests(); len(asked) > 2 {
				t.Errorf("%v", asked)
			}
		})
	}
}

// It is cancelled with what the feed asked with last, be it a token or what a token is fetched with.
func TestDeregisteredAfterItsAccessChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := registering(t, h)
		keepFor(t, f, time.Minute)
		old, issued := f.Token, 0
		f.HTTP = &http.Client{Transport: wire(func(r *http.Request) (*http.Response, error) {
			switch id, secret, _ := r.BasicAuth(); {
			case r.URL.Path == "/oauth/token" && id == "us" && secret == "hush":
				issued++
				return answer(200, "application/json", `{"access_token":"fetched","token_type":"Bearer","expires_in":3600}`)(r)
			case r.Header.Get("Authorization") != "Bearer fetched":
				return says(401, "who?")(r, nil)
			}
			return h.RoundTrip(r)
		})}
		f = again(f)
		f.Token, f.ClientID, f.ClientSecret, f.TokenURL = "", "us", "hush", "http://mls.test/oauth/token"
		stop := keep(t, f)
		pass(10 * time.Minute)
		only(t, h, f)
		stop()
		stored := registrations(t, f)
		left, err := consumer.Deregistered(t.Context(), f.Store, f.Register.Authority, func(string) bool { return false })
		if err != nil || len(left) != 1 {
			t.Fatalf("%v, %v", left, err)
		}
		left[0].HTTP = f.HTTP
		if err := left[0].KeepRegistered(t.Context()); err != nil {
			t.Fatal(err)
		}
		withdrawn(t, h, f)
		if issued != 2 || strings.Contains(stored, old) || strings.Contains(stored, "hush") {
			t.Errorf("%d tokens were fetched; stored: %s", issued, stored)
		}
	})
}

// The feed's url leads to another producer: the subscription at the one before is cancelled there.
func TestAnotherProducer(t *testing.T) {
	for _, reached := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			old, h := newHooks("log-1/all"), newHooks("log-1/all")
			f := registering(t, old)
			stop := keep(t, f)
			pass(time.Minute)
			before := old.open()[0].token
			stop()
			f = again(f)
			f.URL, f.Token = "http://new.test/odata", "simsalabim"
			f.HTTP = &http.Client{Transport: wire(func(r *http.Request) (*http.Response, error) {
				switch {
				case r.URL.Host == "new.test":
					h.src.root = "http://new.test/odata"
					return h.RoundTrip(r)
				case !reached:
					return nil, errHungUp
				case r.Header.Get("Authorization") != "Bearer sesame":
					return says(401, "who?")(r, nil)
				}
				return old.RoundTrip(r)
			})}
			defer keep(t, f)()
			pass(2 * time.Minute)
			only(t, h, f)
			if open := len(old.open()); reached && open > 0 {
				t.Errorf("%d are open there", open)
			}
			if _, err := f.Register.Authority.Verify(t.Context(), before, bearer.Push("mls")); !errors.Is(err, bearer.ErrUnauthorized) {
				t.Errorf("its token: %v", err)
			}
		})
	}
}

// dying ends a run at its n-th step, which is a request or a commit, before or after it was carried out.
type dying struct {
	entityevent.Store
	h    *hooks
	stop context.CancelFunc

	mu    sync.Mutex
	left  int
	after bool
}

// due says that this is the step.
func (d *dying) due() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left--
	if d.left == 0 {
		d.stop()
	}
	return d.left <= 0
}

func (d *dying) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	if d.due() {
		if d.after {
			_, _ = d.Store.Apply(context.WithoutCancel(ctx), c)
		}
		return nil, entityevent.ErrUnavailable
	}
	return d.Store.Apply(ctx, c)
}

func (d *dying) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.due() {
		if d.after {
			_, _ = d.h.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
		}
		return nil, errHungUp
	}
	return d.h.RoundTrip(r)
}

// It may end at any step of registering, of renewing the token, of registering anew and of cancelling, before or after
// that was carried out, and again in the next run: in the end there is one subscription, or none, and no token but its.
func TestRegistrationSurvivesCrashes(t *testing.T) {
	for name, c := range map[string]struct {
		before func(t *testing.T, h *hooks, f *consumer.Feed) // what happens before the crash
		check  func(t *testing.T, h *hooks, f *consumer.Feed)
	}{
		"register": {nil, nil},
		"renew": {func(*testing.T, *hooks, *consumer.Feed) {
			pass(61 * 24 * time.Hour)
		}, nil},
		"move": {func(_ *testing.T, _ *hooks, f *consumer.Feed) {
			f.Register.Callback = "https://moved.test/webhooks/mls"
		}, func(t *testing.T, h *hooks, f *consumer.Feed) {
			if s := only(t, h, f); s.callback != "https://moved.test/webhooks/mls" {
				t.Errorf("%+v", s)
			}
		}},
		"label": {func(_ *testing.T, _ *hooks, f *consumer.Feed) {
			f.Label = "another"
		}, func(t *testing.T, h *hooks, f *consumer.Feed) {
			if s := only(t, h, f); s.label != "another" {
				t.Errorf("%+v", s)
			}
		}},
		"anew": {func(_ *testing.T, h *hooks, _ *consumer.Feed) {
			h.change(func(s *hook) { s.status = "cancelled" })
		}, nil},
		"resume": {func(_ *testing.T, h *hooks, _ *consumer.Feed) {
			h.change(func(s *hook) { s.status = "suspended" })
		}, func(t *testing.T, h *hooks, f *consumer.Feed) {
			if s := only(t, h, f); s.status != "active" {
				t.Errorf("%+v", s)
			}
		}},
		"withdraw": {func(_ *testing.T, _ *hooks, f *consumer.Feed) { f.Register.Callback = "" }, withdrawn},
	} {
		t.Run(name, func(t *testing.T) {
			var steps int
			for n := 1; ; n++ {
				over := false
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						h := newHooks("log-1/all")
						f := registering(t, h)
						if c.before != nil {
							keepFor(t, f, time.Minute)
							f = again(f)
							c.before(t, h, f)
						}
						real := f.Store.(entityevent.Store)
						for crash := n; crash > 0; crash /= 3 { // and perhaps again, sooner
							ctx, cancel := context.WithCancel(t.Context())
							d := &dying{Store: real, h: h, stop: cancel, left: crash, after: after}
							f.Store, f.HTTP, f.Register.Authority.Store = d, &http.Client{Transport: d}, d
							go func() { <-time.After(11 * time.Minute); cancel() }()
							if err := f.KeepRegistered(ctx); err != nil {
								t.Fatal(err)
							}
							cancel()
							over = over || d.left > 0
							f = again(f)
						}
						f.Store, f.HTTP, f.Register.Authority = real, &http.Client{Transport: h}, authority(f)
						f.Register.Authority.Store = real
						ctx, cancel := context.WithTimeout(t.Context(), 80*time.Minute)
						defer cancel()
						if err := f.KeepRegistered(ctx); err != nil {
							t.Fatal(err)
						}
						if c.check == nil {
							only(t, h, f)
						} else {
							c.check(t, h, f)
						}
						<-time.After(time.Hour)
					})
				}
				if steps = n; over || t.Failed() {
					break
				}
			}
			t.Logf("%d steps", steps)
			if steps < 4 {
				t.Errorf("only %d steps were broken off", steps)
			}
		})
	}
}

// registrations is what is stored of them.
func registrations(t *testing.T, f *consumer.Feed) (text string) {
	t.Helper()
	docs, err := f.Store.List(t.Context(), "registered")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range docs {
		text += string(doc.Body)
	}
	return text
}

// Nothing that is secret stands in the log, in what is shown, or in what is stored.
func TestRegistrationKeepsSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHooks("log-1/all")
		f := registering(t, h)
		var log strings.Builder
		f.Logger = logTo(&log)
		echo := func(r *http.Request, serve func() *http.Response) (*http.Response, error) {
			serve()
			h.mu.Lock()
			sent := h.bodies[len(h.bodies)-1]
			h.mu.Unlock()
			return says(403, "what is this: "+sent)(r, nil)
		}
		h.fate(unheard, unheard, unheard, unheard, echo)
		stop := keep(t, f)
		pass(10 * time.Minute)
		shown, stored := fmt.Sprintf("%+v", status(t, f).Registration), registrations(t, f)
		pass(2 * time.Hour)
		h.change(func(s *hook) { s.status, s.message = "suspended", "the subscriber refuses the token "+s.token })
		pass(10 * time.Minute)
		shown += fmt.Sprintf("%+v", status(t, f).Registration)
		stop()
		beginning := regexp.MustCompile(`eyJ|sesame`)
		whole := regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.eyJ|sesame`) // what is sealed may begin so by chance, and has no dot
		for _, c := range []struct {
			what, text string
			secret     *regexp.Regexp
		}{{"log", log.String(), beginning}, {"status", shown, beginning}, {"store", stored + registrations(t, f), whole}} {
			if c.text == "" || c.secret.MatchString(c.text) {
				t.Errorf("%s: %s", c.what, c.text)
			}
		}
	})
}
