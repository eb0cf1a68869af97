package consumer_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
)

// clocked notes when requests are sent, and lets a script answer them; where it returns nil, next does.
type clocked struct {
	next   wire
	script func(n int, r *http.Request) (*http.Response, error)

	mu      sync.Mutex
	at      []time.Time
	targets []string
}

func (c *clocked) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.at = append(c.at, time.Now())
	c.targets = append(c.targets, r.URL.RequestURI())
	n := len(c.at)
	c.mu.Unlock()
	if c.script != nil {
		if resp, err := c.script(n, r); resp != nil || err != nil {
			return resp, err
		}
	}
	return c.next(r)
}

// sent returns when requests were sent so far, and to which targets.
func (c *clocked) sent() ([]time.Time, []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.at), slices.Clone(c.targets)
}

func (c *clocked) count() int {
	at, _ := c.sent()
	return len(at)
}

// since returns the times of the requests so far, as distances from a start.
func (c *clocked) since(start time.Time) (times []time.Duration) {
	all, _ := c.sent()
	for _, at := range all {
		times = append(times, at.Sub(start))
	}
	return times
}

const tooMany = `{"error":{"code":"429","message":"slow down"}}`

func halt(retryAfter string) (*http.Response, error) {
	header := []string{"Retry-After", retryAfter}
	if retryAfter == "" {
		header = nil
	}
	return answer(429, "application/json", tooMany, header...)(&http.Request{})
}

// The exact times of all requests over hours: one a second at most, none within a halt whoever wants one,
// and the first at its end.
func TestRequestTimesOverHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 5)
		var halts sync.Map
		net := &clocked{next: to(src), script: func(n int, r *http.Request) (*http.Response, error) {
			if after, ok := halts.Load(n); ok {
				resp, err := halt(after.(string))
				resp.Request = r
				return resp, err
			}
			return nil, nil
		}}
		f := newFeed(t, net, "Property")
		f.Poll = "@every 10m"
		stop := run(t, f)
		pass(time.Hour)
		before := net.count()
		start := time.Now()
		// Each poll of a level feed is two requests: is there more, and is the newest still ours.
		for n, after := range map[int]string{1: "90", 3: "60", 4: "61", 5: "1", 6: "86400", 7: "junk", 8: "0"} {
			halts.Store(before+n, after)
		}
		pass(30 * time.Hour)
		sent, _ := net.sent()
		for _, at := range sent[:before] {
			if slices.ContainsFunc(sent, func(other time.Time) bool { d := other.Sub(at); return d > 0 && d < time.Second }) {
				t.Errorf("two requests within a second at %s", at)
			}
		}
		times := net.since(start)[before:]
		first := times[0]
		if first > 10*time.Minute {
			t.Fatalf("the first poll came after %s", first)
		}
		want := []time.Duration{
			0, 90 * time.Second, // halted once, and the poll goes on
			91 * time.Second,               // halted for 60 s
			151 * time.Second,              // for 61 s
			212 * time.Second,              // for 1 s
			213 * time.Second,              // for a day
			213*time.Second + 24*time.Hour, // and by nonsense: a back-off of 4 to 8 s, the fourth refusal in a row being the last repeat
		}
		for i, at := range want {
			if got := times[i] - first; got != at {
				t.Fatalf("request %d at %s, want %s; all: %v", i+1, got, at, times[:min(len(times), 20)])
			}
		}
		for i := 1; i < len(times); i++ {
			if d := times[i] - times[i-1]; d < time.Second {
				t.Errorf("requests %d and %d are %s apart", i, i+1, d)
			}
		}
		if s := f.Stats(); s.Halts != 7 || s.Requests != int64(net.count()) {
			t.Errorf("counted %+v of %d", s, net.count())
		}
		equal(t, src, f.Store)
		stop()
	})
}

// A producer with a log id has no rate of ours; but when it wanted less it is not taken by storm: those that
// waited go one after the other until it takes a request again.
func TestEndOfAHaltIsNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		var down atomic.Bool
		net := &clocked{next: to(src), script: func(_ int, r *http.Request) (*http.Response, error) {
			if !down.Load() {
				return nil, nil
			}
			resp, err := halt("30")
			resp.Request = r
			return resp, err
		}}
		f := newFeed(t, net, "Property", "Member", "Office")
		catchUp(t, f)
		d := newDoor(t, f)
		down.Store(true)
		stop := run(t, f)
		for _, resource := range f.Resources {
			n := src.put(resource, "x", fmt.Sprintf(`{%q:"x"}`, src.keys[resource]))
			d.push(pushed(event(n, resource, "x")), chain("log-1/all", n-1, n)...)
		}
		start, before := time.Now(), net.count()
		pass(4 * time.Hour)
		times := net.since(start)[before:]
		for i := 1; i < len(times); i++ {
			if d := times[i] - times[i-1]; d < 30*time.Second && times[i] > 0 {
				t.Errorf("requests at %s and %s though each was answered with a halt of 30 s", times[i-1], times[i])
			}
		}
		down.Store(false)
		pass(30 * time.Minute)
		if s := status(t, f); s.Pending != 0 || s.Polling.Failures != 0 {
			t.Errorf("%+v", s)
		}
		stop()
	})
}

// What the producer asked for holds over restarts, however often: a loop of them hammers nobody. A year is
// a day, and without a number the back-off goes on where it was.
func TestHaltsHoldOverRestarts(t *testing.T) {
	for after, c := range map[string]struct {
		first time.Duration // no request before
		most  int           // requests in 26 hours of restarts
	}{
		"3600": {time.Hour, 30}, "31536000": {24 * time.Hour, 3}, "7": {7 * time.Second, 0}, "": {time.Second, 26 * 6 * 2},
	} {
		t.Run("Retry-After "+after, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := &clocked{script: func(_ int, r *http.Request) (*http.Response, error) {
					resp, err := halt(after)
					resp.Request = r
					return resp, err
				}}
				s := open(t, t.TempDir())
				defer s.Close()
				start := time.Now()
				restarts, every := 26*6, 10*time.Minute
				if after == "7" {
					restarts, every = 60, time.Minute
				}
				for range restarts {
					stop := run(t, newFeedOn(s, net))
					pass(every)
					stop()
				}
				times := net.since(start)
				if len(times) < 2 || times[0] != 0 || times[1] < c.first {
					t.Fatalf("requests at %v", times)
				}
				if after == "7" {
					for i := 1; i < len(times); i++ {
						if times[i]-times[i-1] < c.first {
							t.Fatalf("requests at %s and %s", times[i-1], times[i])
						}
					}
				} else if len(times) > c.most {
					t.Errorf("%d requests, want at most %d: %v", len(times), c.most, times[:min(len(times), 30)])
				}
			})
		})
	}
}

// perWindow counts times by hour or day of UTC.
func perWindow(times []time.Time, length time.Duration) map[time.Time]int {
	n := map[time.Time]int{}
	for _, at := range times {
		n[at.UTC().Truncate(length)]++
	}
	return n
}

// No hour and no day has more requests than its budget, however often the process is killed; and what waits
// for the next window then goes on.
func TestBudgetsHoldOverCrashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		defer s.Close()
		src := filled("", 3000) // pages of 20
		net := &clocked{next: to(src)}
		pass(17 * time.Minute)
		kills := 50
		if testing.Short() {
			kills = 15
		}
		for n := range kills {
			f := newFeedOn(s, net)
			f.Hourly, f.Daily = 40, 200
			stop := run(t, f)
			pass(time.Duration(7+n%31) * time.Minute)
			stop() // nothing is written by it
		}
		f := newFeedOn(s, net)
		f.Hourly, f.Daily = 40, 200
		stop := run(t, f)
		pass(48 * time.Hour)
		src.put("Property", "P0001", property("P0001", 7))
		pass(25 * time.Hour)
		equal(t, src, s)
		stop()
		sent, _ := net.sent()
		for at, n := range perWindow(sent, time.Hour) {
			if n > 40 {
				t.Errorf("%d requests in the hour of %s", n, at)
			}
		}
		days := perWindow(sent, 24*time.Hour)
		for at, n := range days {
			if n > 200 {
				t.Errorf("%d requests on %s", n, at)
			}
		}
		if len(days) < 4 {
			t.Errorf("requests on %d days", len(days))
		}
	})
}

// A crash costs a block at most, so that a loop of them does not eat the budget before anything is sent.
func TestCrashCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		defer s.Close()
		sent := 0
		for range 40 { // of blocks of 10
			f := newFeedOn(s, nil)
			f.Rate, f.Hourly = 1e6, 200
			ctx := t.Context()
			if sent >= 20 {
				break
			}
			if err := f.WaitTurn(ctx, consumer.ForInbox); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		if took := time.Now().Minute(); sent < 20 || took != 0 {
			t.Errorf("%d were sent before the budget was spent, at minute %d", sent, took)
		}
	})
}

// Defaults: 6,800 and 38,000 for a server without a log id, none for one with.
func TestDefaultBudgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, nil, "Property")
		f.Rate = 1e9
		var mu sync.Mutex
		sent := 0
		ctx := t.Context()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 40_000 {
				if f.WaitTurn(ctx, consumer.ForInbox) != nil {
					return
				}
				mu.Lock()
				sent++
				mu.Unlock()
			}
		}()
		count := func() int { mu.Lock(); defer mu.Unlock(); return sent }
		for hour, want := range []int{6800, 13600, 20400, 27200, 34000, 38000, 38000} {
			pass(59 * time.Minute)
			if n := count(); n != want {
				t.Errorf("hour %d: %d requests, want %d", hour, n, want)
			}
			pass(time.Minute)
		}
		pass(16 * time.Hour)
		if n := count(); n != 38_000 {
			t.Errorf("%d requests in a day", n)
		}
		pass(time.Hour)
		<-done
		if n := count(); n != 40_000 {
			t.Errorf("%d requests on the next day", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, to(filled("log-1/all", 5)), "Property")
		catchUp(t, f)
		start := time.Now()
		for range 10_000 {
			if err := f.WaitTurn(t.Context(), consumer.ForReconcile); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("a producer with a log id was left alone for %s", took)
		}
	})
}

// That a window is spent is logged once, although the other one is spent too.
func TestSpentBudgetIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := newFeed(t, nil, "Property")
		f.Logger = slog.New(slog.NewTextHandler(&log, nil))
		f.Rate, f.Hourly, f.Daily = 1e6, 10, 10
		for range 25 {
			if err := f.WaitTurn(t.Context(), consumer.ForInbox); err != nil {
				t.Fatal(err)
			}
			status(t, f)
		}
		// On two days, each in its first hour; then the hours go on.
		if n := strings.Count(log.String(), "window=24h0m0s"); n != 2 {
			t.Errorf("the days are told %d times:\n%s", n, log.String())
		}
		if n := strings.Count(log.String(), "window=1h0m0s"); n != 2 {
			t.Errorf("the hours are told %d times:\n%s", n, log.String())
		}
	})
}

// Whoever waits, the next request is of the earliest errand, at a change of the hour too; and a part of the
// window is kept for those before.
func TestScarceRequestsGoByErrand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, nil, "Property")
		f.Hourly = 20
		var mu sync.Mutex
		var order []string
		at := map[string][]time.Duration{}
		start := time.Now()
		wait := func(name string, times int) {
			e := map[string]func() error{
				"inbox":     func() error { return f.WaitTurn(t.Context(), consumer.ForInbox) },
				"poll":      func() error { return f.WaitTurn(t.Context(), consumer.ForPoll) },
				"load":      func() error { return f.WaitTurn(t.Context(), consumer.ForLoad) },
				"reconcile": func() error { return f.WaitTurn(t.Context(), consumer.ForReconcile) },
			}[name]
			go func() {
				for range times {
					if err := e(); err != nil {
						t.Error(err)
					}
					mu.Lock()
					order = append(order, name)
					at[name] = append(at[name], time.Since(start))
					mu.Unlock()
				}
			}()
		}
		wait("reconcile", 1) // takes the first turn; from then on one a second
		synctest.Wait()
		wait("reconcile", 2)
		wait("load", 2)
		wait("poll", 2)
		wait("inbox", 2)
		pass(time.Minute)
		want := "reconcile inbox inbox poll poll load load reconcile reconcile"
		mu.Lock()
		if got := strings.Join(order, " "); got != want {
			t.Errorf("in the order %s", got)
		}
		mu.Unlock()
		// Nine are sent. Fourteen are the share of reconciling, seventeen of loads, nineteen of polls.
		reset := func() {
			mu.Lock()
			defer mu.Unlock()
			order = nil
		}
		count := func(name string) (n int) {
			mu.Lock()
			defer mu.Unlock()
			for _, sent := range order {
				if name == "" || sent == name {
					n++
				}
			}
			return n
		}
		reset()
		for _, name := range []string{"reconcile", "load", "poll", "inbox"} {
			wait(name, 20)
			pass(time.Minute)
		}
		if n := [4]int{count("reconcile"), count("load"), count("poll"), count("inbox")}; n != [4]int{5, 3, 2, 1} {
			t.Errorf("the rest of the hour had %v", n)
		}
		reset()
		pass(56 * time.Minute)
		mu.Lock()
		if len(order) == 0 || order[0] != "inbox" {
			t.Errorf("the next hour began with %v", order)
		}
		mu.Unlock()
		for hour := range 8 {
			if n := count(""); n > 20*(hour+1) {
				t.Errorf("%d requests in %d hours", n, hour+1)
			}
			pass(time.Hour)
		}
		mu.Lock()
		defer mu.Unlock()
		for name, times := range at {
			want := map[string]int{"reconcile": 23, "load": 22, "poll": 22, "inbox": 22}[name]
			if len(times) != want {
				t.Errorf("%s: %d of %d were sent", name, len(times), want)
			}
		}
	})
}

// What a push names is fetched with the next request though a load wants them all.
func TestNewsGoBeforeALoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 1300)
		net := &clocked{next: to(src)}
		f := newFeed(t, net, "Property")
		f.Rate = 0.1
		d := newDoor(t, f)
		stop := run(t, f)
		pass(2 * time.Minute)
		for range 8 {
			pass(33 * time.Second)
			if w := d.push(event(src.put("Property", "P1299", property("P1299", 7)), "Property", "P1299")); w.Code != 200 {
				t.Fatal(w.Code)
			}
			before := net.count()
			pass(20 * time.Second)
			_, asked := net.sent()
			asked = slices.DeleteFunc(asked[before:], func(target string) bool { return strings.Contains(target, "$metadata") })
			if len(asked) == 0 || !strings.Contains(asked[0], "P1299") {
				t.Fatalf("asked %v", asked)
			}
		}
		if status(t, f).Loading == nil {
			t.Error("the load was over before")
		}
		stop()
	})
}

// A clock that was set back an hour makes nothing wait an hour longer: what was spent counts until this
// hour ends, and a halt that was asked for in the future no more.
func TestBudgetAfterAClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		defer s.Close()
		pass(20 * time.Minute)
		now := time.Now().UTC()
		ledger := func(text string) {
			doc, err := s.Get(t.Context(), "budget", "mls")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Apply(t.Context(), entityevent.Commit{Docs: []entityevent.Doc{{Kind: "budget", ID: "mls", Version: doc.Version, Body: json.RawMessage(text)}}}); err != nil {
				t.Fatal(err)
			}
		}
		hour := now.Truncate(time.Hour).Add(time.Hour).Format(time.RFC3339)
		day := now.Truncate(24 * time.Hour).Add(24 * time.Hour).Format(time.RFC3339)
		ledger(fmt.Sprintf(`{"hour":%q,"in_hour":40,"day":%q,"in_day":50}`, hour, day))
		f := newFeedOn(s, nil)
		f.Hourly, f.Daily = 40, 100
		start := time.Now()
		if err := f.WaitTurn(t.Context(), consumer.ForInbox); err != nil || time.Since(start) != 40*time.Minute {
			t.Errorf("%v after %s, want 40 min, when the hour ends", err, time.Since(start))
		}
		ledger(fmt.Sprintf(`{"hour":%q,"in_hour":1,"day":%q,"in_day":50,"halted":%q,"halt":%d}`, hour, day, time.Now().UTC().Add(time.Hour).Format(time.RFC3339), 2*time.Hour))
		start = time.Now()
		if err := newFeedOn(s, nil).WaitTurn(t.Context(), consumer.ForInbox); err != nil || time.Since(start) != 0 {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}
