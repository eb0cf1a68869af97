package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
)

// drop removes a record of the source without an event.
func (s *source) drop(resource, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[resource] = slices.DeleteFunc(s.rows[resource], func(r row) bool { return r.key == key })
}

// dated is a property of another time.
func dated(key string, price int, at string) string {
	return fmt.Sprintf(`{"ListingKey":%q,"ListPrice":%d,"ModificationTimestamp":%q}`, key, price, at)
}

const later = "2026-02-02T03:04:05.25Z"

// differ makes a source differ from what was copied of it, without events: two records are missing, three
// stale and one unseen.
func (s *source) differ() {
	for _, key := range []string{"P00075", "Z"} {
		s.quiet("Property", key, property(key, 1))
	}
	for _, key := range []string{"P0001", "P0021", "P0049"} {
		s.quiet("Property", key, dated(key, 7, later))
	}
	s.drop("Property", "P0030")
}

// mute is a store that nothing is written to.
type mute struct {
	consumer.Store
	written atomic.Int64
}

func (m *mute) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	if len(c.Docs) != 1 || c.Docs[0].Kind != "budget" { // which counts requests, and is not of the feed
		m.written.Add(1)
	}
	return m.Store.Apply(ctx, c)
}

func (m *mute) Receive(ctx context.Context, d entityevent.Delivery) (entityevent.Position, error) {
	m.written.Add(1)
	return m.Store.Receive(ctx, d)
}

func reconcile(t *testing.T, f *consumer.Feed, o consumer.ReconcileOptions) consumer.ReconcileReport {
	t.Helper()
	report, err := f.Reconcile(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// What differs is found by keys and timestamps alone, whatever the producer refuses, and repaired.
func TestReconcile(t *testing.T) {
	refusal := answer(400, "application/json", `{"error":{"code":"400","message":"no"}}`)
	for name, c := range map[string]struct {
		refused   string
		limit     func(*source)
		keysAlone bool // timestamps are not told
		whole     bool // nor is $select understood
		logs      []string
	}{
		"all is understood":           {},
		"no $select":                  {refused: "$select", whole: true},
		"no such field":               {refused: ",ModificationTimestamp", keysAlone: true},
		"no $orderby":                 {refused: "Property?$orderby", logs: []string{""}},
		"neither":                     {refused: "Property?$orderby $select", logs: []string{""}, whole: true, limit: func(s *source) { s.noFilter = true }},
		"no gt":                       {refused: "gt%20'", logs: []string{""}},
		"no $filter":                  {limit: func(s *source) { s.noFilter = true }},
		"no in":                       {limit: func(s *source) { s.noIn = true }},
		"another order":               {limit: func(s *source) { s.collate = backwards }, logs: []string{"log-1/all"}},
		"another order of a stranger": {limit: func(s *source) { s.collate = backwards }, refused: "gt%20'", logs: []string{""}},
	} {
		if c.logs == nil {
			c.logs = []string{"", "log-1/all"}
		}
		for _, log := range c.logs {
			t.Run(name+", log "+log, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					src := filled(log, 60)
					if c.limit != nil {
						c.limit(src)
					}
					f := newFeed(t, to(src), "Property")
					catchUp(t, f)
					equal(t, src, f.Store)
					src.differ()
					network := to(src)
					for _, text := range strings.Fields(c.refused) {
						network = script(network, 1e6, text, refusal).RoundTrip
					}
					store := &mute{Store: f.Store}
					f = newFeedOn(store, network)
					before := len(src.asked(""))
					for _, dry := range []bool{true, false} {
						report := reconcile(t, f, consumer.ReconcileOptions{DryRun: dry})
						want := consumer.ReconcileFinding{Resource: "Property", Compared: 61, Missing: 2, Stale: 3, Unseen: 1,
							Examples: consumer.ReconcileExamples{Missing: []string{"P00075", "Z"}, Stale: []string{"P0001", "P0021", "P0049"}, Unseen: []string{"P0030"}}}
						if c.keysAlone {
							want.Stale, want.Examples.Stale = 0, nil
						}
						got := report.Resources[0]
						slices.Sort(got.Examples.Missing)
						slices.Sort(got.Examples.Stale)
						if len(report.Resources) != 1 || fmt.Sprint(got) != fmt.Sprint(want) || report.Recheck+report.Held != 0 {
							t.Errorf("dry %t:\n%+v\n%+v", dry, report, want)
						}
						if dry && (store.written.Load() != 0 || status(t, f).Reconciled != nil) {
							t.Errorf("%d writes", store.written.Load())
						}
					}
					if c.keysAlone {
						for _, key := range []string{"P0001", "P0021", "P0049"} {
							src.put("Property", key, dated(key, 7, later))
						}
						catchUp(t, f)
					}
					equal(t, src, f.Store)
					if s := status(t, f); s.Reconciled == nil || s.Reconciled.Resources[0].Compared != 61 || s.Recheck+s.Aside+s.Held != 0 {
						t.Errorf("%+v", s)
					}
					for _, target := range src.asked("")[before:] {
						whole := !strings.Contains(target, "$select") && !strings.Contains(target, "$filter") && !strings.Contains(target, "('")
						if strings.HasPrefix(target, "Property?") && whole && !c.whole {
							t.Errorf("whole records were asked for: %s", target)
						}
					}
				})
			})
		}
	}
}

func backwards(a, b string) int { return strings.Compare(b, a) }

// Where nothing differs nothing is set aside, and little is asked for.
func TestReconcileWithoutDifferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 2500)
		for i := range 10 {
			key := fmt.Sprintf("M%d", i)
			src.put("Member", key, fmt.Sprintf(`{"MemberKey":%q}`, key)) // without timestamps
		}
		f := newFeed(t, to(src), "Property", "Member")
		catchUp(t, f)
		before := len(src.asked(""))
		head := localHead(t, f)
		var last consumer.ReconcileProgress
		report, err := f.Reconcile(t.Context(), consumer.ReconcileOptions{}, func(p consumer.ReconcileProgress) { last = p })
		if err != nil || last.Compared != 2510 || last.Differences != 0 {
			t.Errorf("%v %+v %+v", err, last, report)
		}
		for _, found := range report.Resources {
			if found.Differences() != 0 {
				t.Errorf("%+v", found)
			}
		}
		if n := len(src.asked("")) - before; n > 5 {
			t.Errorf("%d requests: %q", n, src.asked("")[before:])
		}
		if localHead(t, f) != head {
			t.Error("records were written")
		}
	})
}

func localHead(t *testing.T, f *consumer.Feed) entityevent.Sequence {
	t.Helper()
	p, err := f.Store.Events(t.Context(), entityevent.View{Feed: f.Name, Mask: entityevent.Everyone}, entityevent.EventQuery{Order: entityevent.NewestFirst, Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	return p.Head
}

// What changes while it runs is no difference, whether it is polled and applied meanwhile or not.
func TestReconcileWhileRecordsChange(t *testing.T) {
	for _, log := range []string{"", "log-1/all"} {
		for _, following := range []bool{true, false} {
			t.Run(fmt.Sprintf("log %s, following %t", log, following), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					src := filled(log, 100)
					n := 0
					change := func(after bool) {
						n++
						for _, at := range []int{5, 25, 45, 65, 85} {
							key := fmt.Sprintf("P%04d", at+n%10)
							src.put("Property", key, dated(key, n, fmt.Sprintf("2026-03-01T00:%02d:00Z", n%60)))
						}
						if after {
							src.remove("Property", fmt.Sprintf("P%04d", n))
						}
						src.put("Property", fmt.Sprintf("N%04d", n), property(fmt.Sprintf("N%04d", n), 1))
					}
					var on atomic.Bool
					f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
						page := on.Load() && strings.Contains(r.URL.RawQuery, "ModificationTimestamp")
						if page {
							change(false)
						}
						resp, err := to(src)(r)
						if page {
							change(true)
							if following {
								<-time.After(30 * time.Second)
							}
						}
						return resp, err
					}), "Property")
					f.Rate, f.LongPoll, f.Poll = 100, true, "@every 10s"
					catchUp(t, f)
					stop := func() {}
					if following {
						stop = run(t, f)
						pass(time.Minute)
					}
					on.Store(true)
					report := reconcile(t, f, consumer.ReconcileOptions{})
					on.Store(false)
					if n < 2 || report.Resources[0].Differences() != 0 {
						t.Errorf("%d pages: %+v", n/2, report)
					}
					stop()
					catchUp(t, f)
					pass(time.Minute)
					catchUp(t, f)
					equal(t, src, f.Store)
				})
			})
		}
	}
}

// A pass that is cut goes on where it stopped, in another process; an hour later it begins anew.
func TestReconcileGoesOnAfterRestart(t *testing.T) {
	for _, log := range []string{"", "log-1/all"} {
		t.Run("log "+log, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 3500
				src := filled(log, 0)
				for i := range n {
					key := fmt.Sprintf("M%04d", i)
					src.put("Member", key, fmt.Sprintf(`{"MemberKey":%q}`, key))
				}
				f := newFeed(t, to(src), "Member")
				catchUp(t, f)
				src.drop("Member", "M0002")
				src.drop("Member", "M3002")
				down := answer(500, "text/html", "<html>")
				const second = "M2000"
				f = newFeedOn(f.Store, script(to(src), 1e6, second, down))
				f.Resources = []string{"Member"}
				if _, err := f.Reconcile(t.Context(), consumer.ReconcileOptions{}, nil); err == nil {
					t.Fatal("no error")
				}
				pages := func() int {
					return len(src.asked("Member?$select")) + len(src.asked("Member?$orderby=MemberKey%20asc&$select"))
				}
				before := pages()
				f = newFeedOn(f.Store, to(src))
				f.Resources = []string{"Member"}
				report := reconcile(t, f, consumer.ReconcileOptions{})
				if pages() != before || report.Resources[0].Unseen != 2 || report.Resources[0].Compared != n-2 {
					t.Errorf("it began anew: %d, %+v", pages()-before, report)
				}
				equal(t, src, f.Store)
				reconcile(t, f, consumer.ReconcileOptions{})
				if pages() != before+1 {
					t.Errorf("the next one did not begin anew: %d", pages()-before)
				}
			})
		})
	}
}

// The brake holds what reconciling leads to, until it is allowed; what is allowed is asked for again first.
func TestReconcileAndTheBrake(t *testing.T) {
	for _, log := range []string{"", "log-1/all"} {
		t.Run("log "+log, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled(log, 400)
				f := newFeed(t, to(src), "Property")
				catchUp(t, f)
				for i := range 250 {
					src.drop("Property", fmt.Sprintf("P%04d", i))
				}
				report := reconcile(t, f, consumer.ReconcileOptions{})
				if report.Resources[0].Unseen != 250 || report.Held < 150 || count(t, f) != 400-250+int(report.Held) {
					t.Errorf("%d are left: %+v", count(t, f), report)
				}
				again := reconcile(t, f, consumer.ReconcileOptions{})
				if again.Held != report.Held || again.Resources[0].Differences() != 0 {
					t.Errorf("what is held was found again: %+v", again)
				}
				src.quiet("Property", "P0240", property("P0240", 9)) // it is there after all
				report = reconcile(t, f, consumer.ReconcileOptions{AllowDeletes: true})
				if report.Held != 0 {
					t.Errorf("%+v", report)
				}
				pass(time.Minute)
				catchUp(t, f)
				equal(t, src, f.Store)
				if s := status(t, f); s.Held+s.Aside+s.Recheck != 0 {
					t.Errorf("%+v", s)
				}
				// What this pass finds is allowed too.
				for i := range 100 {
					src.drop("Property", fmt.Sprintf("P%04d", 250+i))
				}
				if report = reconcile(t, f, consumer.ReconcileOptions{AllowDeletes: true}); report.Held != 0 {
					t.Errorf("%+v", report)
				}
				equal(t, src, f.Store)
			})
		})
	}
}

// Allowing deletes is no proof: while the producer fails nothing goes.
func TestAllowedDeletesAreProven(t *testing.T) {
	for name, l := range map[string]*lapse{
		"HTML":     {single: html404, filter: html404},
		"unknown":  {single: json404, filter: json404, list: json404},
		"no route": {single: answer(403, "application/json", `{"error":{"code":"403"}}`), filter: noRows},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", 40)
				l := &lapse{next: to(src), single: l.single, filter: l.filter, list: l.list}
				f := newFeed(t, l, "Property")
				catchUp(t, f)
				for i := range 30 {
					src.drop("Property", fmt.Sprintf("P%04d", i))
				}
				if r := reconcile(t, f, consumer.ReconcileOptions{}); r.Held == 0 {
					t.Fatalf("%+v", r)
				}
				left := count(t, f)
				l.on.Store(true)
				_, err := f.Reconcile(t.Context(), consumer.ReconcileOptions{AllowDeletes: true}, nil)
				if n := count(t, f); n != left {
					t.Errorf("%d are left of %d: %v", n, left, err)
				}
				l.on.Store(false)
				reconcile(t, f, consumer.ReconcileOptions{AllowDeletes: true})
				pass(time.Hour)
				catchUp(t, f)
				equal(t, src, f.Store)
			})
		})
	}
}

// A pass that fails, or sees less than there is, proves nothing.
func TestReconcileThatSeesTooLittle(t *testing.T) {
	empty := answer(200, "application/json", `{"value":[]}`)
	for name, made := range map[string]func(*http.Request) (*http.Response, error){
		"an empty page":  empty,
		"a page too few": answer(200, "application/json", `{"value":[{"ListingKey":"P0007","ModificationTimestamp":"2026-01-02T03:04:05Z"}]}`),
		"500":            answer(500, "text/html", "<html>"),
		"HTML":           answer(200, "text/html", "<html>"),
		"half":           answer(200, "application/json", `{"value":[{"ListingKey":"P0007"},`),
		"403":            answer(403, "application/json", `{"error":{"code":"403"}}`),
		"404":            answer(404, "application/json", `{"error":{"code":"404"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", 400)
				src.put("Office", "O1", `{"OfficeKey":"O1"}`)
				f := newFeed(t, to(src), "Property", "Office")
				catchUp(t, f)
				src.drop("Office", "O1")
				head := localHead(t, f)
				f = newFeedOn(f.Store, script(to(src), 4, "/Property?$select=ListingKey,", made))
				f.Resources = []string{"Property", "Office"}
				report, err := f.Reconcile(t.Context(), consumer.ReconcileOptions{AllowDeletes: true}, nil)
				fails := !strings.Contains(name, "page")
				if fails != (err != nil) || len(report.Resources) != 2 || fails != (report.Resources[1].Error != "") {
					t.Errorf("%v: %+v", err, report)
				}
				if n := count(t, f); n != 400 || report.Resources[1].Differences() != 0 {
					t.Errorf("%d are left: %+v", n, report)
				}
				equal(t, src, f.Store) // the other resource is compared
				if h := localHead(t, f); h != head+1 {
					t.Errorf("the local head was %d, now it is %d", head, h)
				}
			})
		})
	}
}

// Many differences are looked at as they are found, and do not pile up.
func TestReconcileWithManyDifferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 10)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		for i := range 5000 {
			key := fmt.Sprintf("Q%04d", i)
			src.quiet("Property", key, property(key, i))
		}
		most := int64(0)
		report, err := f.Reconcile(t.Context(), consumer.ReconcileOptions{}, func(p consumer.ReconcileProgress) { most = max(most, p.Left) })
		if err != nil || report.Resources[0].Missing != 5000 || report.Recheck != 0 || most > 3000 {
			t.Errorf("%v, %d at most: %+v", err, most, report)
		}
		equal(t, src, f.Store)
	})
}

// A record that no store can keep is no difference, and stops nothing.
func TestReconcilePassesKeysThatCannotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 3)
		long := "Q" + strings.Repeat("x", entityevent.MaxKey)
		src.quiet("Property", long, property(long, 1))
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		src.drop("Property", "P0001")
		if r := reconcile(t, f, consumer.ReconcileOptions{}); r.Resources[0].Differences() != 1 {
			t.Errorf("%+v", r)
		}
		src.drop("Property", long)
		equal(t, src, f.Store)
	})
}

// It refuses a feed that was never loaded, and one that is too far behind or follows another log.
func TestReconcileRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 10)
		f := newFeed(t, to(src), "Property")
		if _, err := f.Reconcile(t.Context(), consumer.ReconcileOptions{}, nil); err == nil || !strings.Contains(err.Error(), "resosync sync mls") {
			t.Error(err)
		}
		catchUp(t, f)
		src.differ()
		src.mu.Lock()
		src.log = "log-2/all"
		src.mu.Unlock()
		if _, err := f.Reconcile(t.Context(), consumer.ReconcileOptions{}, nil); err == nil || !strings.Contains(err.Error(), "another log") {
			t.Error(err)
		}
		if s := status(t, f); s.Recheck != 0 || s.Reconciled != nil {
			t.Errorf("%+v", s)
		}
	})
}

// It runs by itself at its time, or as soon as it can when its time has passed; what fails is tried again.
func TestReconcileOnSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 60)
		f := newFeed(t, to(src), "Property")
		f.ReconcileAt = "CRON_TZ=UTC 0 3 * * *"
		begin := func(f *consumer.Feed) (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- f.ReconcileOnSchedule(ctx) }()
			return func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		stop := begin(f)
		catchUp(t, f)
		src.differ()
		pass(time.Until(time.Date(2000, 1, 1, 2, 59, 0, 0, time.UTC)))
		if status(t, f).Reconciled != nil {
			t.Error("it ran before its time")
		}
		pass(2 * time.Minute)
		equal(t, src, f.Store)
		if r := status(t, f).Reconciled; r == nil || r.Resources[0].Differences() != 6 {
			t.Errorf("%+v", r)
		}
		stop()

		src.drop("Property", "P0040")
		pass(72 * time.Hour)
		f = newFeedOn(f.Store, script(to(src), 8, "$select=", answer(500, "text/html", "<html>")))
		f.ReconcileAt = "CRON_TZ=UTC 0 3 * * *"
		stop = begin(f)
		pass(time.Minute)
		if s := status(t, f); s.Reconciling.Failures != 1 || !strings.Contains(s.Reconciling.Error, "500") {
			t.Errorf("%+v", s)
		}
		pass(time.Hour)
		equal(t, src, f.Store)
		if s := status(t, f); s.Reconciling.Failures != 0 {
			t.Errorf("%+v", s)
		}
		stop()

		src.drop("Property", "P0041")
		f = newFeedOn(f.Store, to(src))
		f.ReconcileAt = "never"
		stop = begin(f)
		pass(72 * time.Hour)
		if n := count(t, f); n != 60 {
			t.Errorf("%d are left: it ran", n)
		}
		stop()
		f = newFeedOn(f.Store, to(src))
		f.ReconcileAt = "at night"
		if err := f.Check(); err == nil || !strings.Contains(err.Error(), "at night") {
			t.Error(err)
		}
	})
}

// Wherever it is cut, by the store or the network, another process goes on and repairs all.
func TestReconcileCutAnywhere(t *testing.T) {
	for _, log := range []string{"", "log-1/all"} {
		t.Run("log "+log, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for at := int64(1); ; at += stride(3) {
					src := filled(log, 60)
					store := open(t, t.TempDir())
					catchUp(t, newFeedOn(store, to(src)))
					src.differ()
					g := &guillotine{Store: store, network: to(src), left: at}
					_, err := newFeedOn(g, wire(g.roundTrip)).Reconcile(t.Context(), consumer.ReconcileOptions{}, nil)
					if err == nil && g.left < 0 {
						t.Errorf("cut at %d: no error", at)
					}
					pass(time.Minute)
					report, again := newFeedOn(store, to(src)).Reconcile(t.Context(), consumer.ReconcileOptions{}, nil)
					if again != nil {
						t.Errorf("cut at %d: %v, %+v", at, again, report)
					}
					equal(t, src, store)
					if cerr := store.Close(); cerr != nil || t.Failed() {
						t.Fatalf("cut at %d: %v", at, errors.Join(err, cerr))
					}
					if err == nil {
						if at < 20 {
							t.Errorf("it was over after %d calls", at)
						}
						return
					}
				}
			})
		})
	}
}
