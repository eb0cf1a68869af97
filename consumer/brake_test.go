package consumer_test

import (
	"context"
	"fmt"
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

// lapse is a producer that loses its records from time to time: for the targets that it names it answers
// as its faults say.
type lapse struct {
	next   wire
	on     atomic.Bool
	single func(*http.Request) (*http.Response, error) // reads of one record
	filter func(*http.Request) (*http.Response, error) // queries for keys
	list   func(*http.Request) (*http.Response, error) // everything else of a resource
	only   string                                      // concerns targets with this text alone
}

func (l *lapse) RoundTrip(r *http.Request) (*http.Response, error) {
	made := l.list
	switch {
	case !l.on.Load() || !strings.Contains(r.URL.Path, "/Property") || !strings.Contains(r.URL.RequestURI(), l.only):
		made = nil
	case strings.Contains(r.URL.Path, "('"):
		made = l.single
	case strings.Contains(r.URL.RawQuery, "$filter="):
		made = l.filter
	}
	if made == nil {
		return l.next(r)
	}
	return made(r)
}

var (
	json404  = answer(404, "application/json", `{"error":{"code":"404","message":"no such record"}}`)
	json410  = answer(410, "application/json", `{"error":{"code":"410","message":"no such record"}}`)
	html404  = answer(404, "text/html", "<html>no</html>")
	noRows   = answer(200, "application/json", `{"value":[]}`)
	noFilter = answer(400, "application/json", `{"error":{"code":"400","message":"no filter"}}`)
)

// An hour in which the producer answers as if its records were gone holds the replica. When it is over,
// both are equal again, without anybody's help.
func TestBrakeHoldsForAnHour(t *testing.T) {
	for name, l := range map[string]*lapse{
		"JSON 404 of each, empty filtered pages": {single: json404, filter: noRows},
		"JSON 410 of each, no filters":           {single: json410, filter: noFilter},
		"HTML 404 of each, empty filtered pages": {single: html404, filter: noRows},
		"JSON 404 of everything":                 {single: json404, filter: json404, list: json404},
		"HTML 404 of everything":                 {single: html404, filter: html404, list: html404},
		"empty pages of everything":              {single: noRows, filter: noRows, list: noRows},
	} {
		for _, log := range []string{"", "log-1/all"} {
			for _, burst := range []int{250, 10} {
				// In short one of four for each answer, and all four among them.
				if testing.Short() && (log == "") != (l.list == nil) || testing.Short() && (burst == 10) != strings.HasPrefix(name, "HTML") {
					continue
				}
				t.Run(fmt.Sprintf("%s, %d at once, log %s", name, burst, log), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						const n = 250
						src := filled(log, n)
						l := &lapse{next: to(src), single: l.single, filter: l.filter, list: l.list}
						f := newFeed(t, l, "Property")
						f.Rate = 50
						stop := run(t, f)
						pass(5 * time.Minute)
						equal(t, src, f.Store)
						l.on.Store(true)
						for i := 0; i < n; {
							for range min(burst, n-i) {
								key := fmt.Sprintf("P%04d", i)
								src.put("Property", key, property(key, 5))
								i++
							}
							pass(time.Hour * time.Duration(burst) / n)
							if left := len(replica(t, f.Store, "Property")); left < n-100 {
								t.Fatalf("%d records of %d are left", left, n)
							}
						}
						if s := status(t, f); l.list == nil && (s.Held < n-100 || s.Aside != 0) || l.list != nil && s.Held != 0 {
							t.Errorf("%+v", s)
						}
						l.on.Store(false)
						pass(3 * time.Hour)
						equal(t, src, f.Store)
						if s := status(t, f); s.Held+s.Aside+s.Recheck != 0 || s.Pending != 0 {
							t.Errorf("%+v", s)
						}
						stop()
					})
				})
			}
		}
	}
}

// gone removes records of the source, with their events.
func (s *source) gone(from, to int) {
	for i := from; i < to; i++ {
		s.remove("Property", fmt.Sprintf("P%04d", i))
	}
}

func count(t *testing.T, f *consumer.Feed) int {
	t.Helper()
	n, err := f.Store.Count(t.Context(), entityevent.View{Feed: f.Name, Mask: entityevent.Everyone}, entityevent.Query{Resource: "Property"})
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// The limits of the brake, and that what is beyond them waits for a quarter of an hour.
func TestBrakeLimits(t *testing.T) {
	for _, c := range []struct {
		rows int
		gone []int // removed at once, one after the other within an hour
		left []int // in the replica after each
	}{
		{300, []int{100}, []int{200}},
		{300, []int{101}, []int{300}},
		{300, []int{60, 40, 1}, []int{240, 200, 200}},
		{6000, []int{121}, []int{6000}},
		{6000, []int{100, 20, 1}, []int{5900, 5880, 5880}},
		{100, []int{50}, []int{50}},
		{100, []int{51}, []int{100}},
		{100, []int{30, 20, 1}, []int{70, 50, 50}},
		{10, []int{9}, []int{1}},
		{11, []int{5}, []int{6}},
		{11, []int{6}, []int{11}},
	} {
		if testing.Short() && c.rows == 6000 && len(c.gone) == 1 {
			continue
		}
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", c.rows)
				f := newFeed(t, to(src), "Property")
				f.PageSize = 1001 // the source counts pages of 1000 as the last
				catchUp(t, f)
				at := 0
				for i, n := range c.gone {
					src.gone(at, at+n)
					at += n
					catchUp(t, f)
					if left := count(t, f); left != c.left[i] {
						t.Errorf("after %d were removed %d are left, not %d", at, left, c.left[i])
					}
				}
				key := fmt.Sprintf("P%04d", c.rows-1)
				src.put("Property", key, property(key, 5))
				catchUp(t, f)
				if s := status(t, f); s.Held != at-c.rows+count(t, f) || s.Pending != 0 || int64(s.Sequence) != src.head {
					t.Errorf("the cursor waits, or updates: %+v", s)
				}
				if body := replica(t, f.Store, "Property")[key].Body; !strings.Contains(string(body), ":5,") {
					t.Errorf("updates wait: %s", body)
				}
				// They go by themselves, for the producer shows others, and only later.
				stop := run(t, f)
				pass(14 * time.Minute)
				if left := count(t, f); left != c.left[len(c.left)-1] {
					t.Errorf("%d are left before a quarter of an hour is over", left)
				}
				pass(2 * time.Minute)
				equal(t, src, f.Store)
				if s := status(t, f); s.Held != 0 {
					t.Errorf("%+v", s)
				}
				stop()
			})
		})
	}
}

// The window slides: an hour later as many may go again, and a restart forgets nothing.
func TestBrakeWindowSlides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 900)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		src.gone(0, 60)
		catchUp(t, f)
		pass(40 * time.Minute)
		src.gone(60, 100)
		catchUp(t, f)
		f = newFeedOn(f.Store, to(src))
		src.gone(100, 101)
		catchUp(t, f)
		if n := count(t, f); n != 800 {
			t.Errorf("%d are left", n)
		}
		pass(22 * time.Minute)
		f = newFeedOn(f.Store, to(src))
		catchUp(t, f)      // while one is held no others go
		src.gone(101, 150) // 40 and the one held count
		catchUp(t, f)
		if n := count(t, f); n != 750 {
			t.Errorf("%d are left", n)
		}
	})
}

// What was released does not count: it trips the brake no more.
func TestReleasedDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 900)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		src.gone(0, 500)
		stop := run(t, f)
		pass(58 * time.Minute)
		equal(t, src, f.Store)
		src.gone(500, 501)
		pass(2 * time.Minute)
		if s := status(t, f); s.Held != 1 {
			t.Errorf("what was held counts for an hour: %+v", s)
		}
		pass(16 * time.Minute)
		src.gone(501, 600)
		pass(2 * time.Minute)
		if n := count(t, f); n != 300 {
			t.Errorf("%d are left, not 300", n)
		}
		pass(15 * time.Minute)
		equal(t, src, f.Store)
		stop()
	})
}

// Removals that are held are not removed while the producer shows no other record in the same way, however
// long that lasts.
func TestHeldWithoutEvidence(t *testing.T) {
	for name, l := range map[string]*lapse{
		"read":  {single: json404, filter: noRows},
		"query": {single: html404, filter: noRows},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", 300)
				l := &lapse{next: to(src), single: l.single, filter: l.filter}
				f := newFeed(t, l, "Property")
				catchUp(t, f)
				l.on.Store(true)
				for i := range 150 {
					key := fmt.Sprintf("P%04d", i)
					src.put("Property", key, property(key, 5))
				}
				stop := run(t, f)
				pass(time.Minute)
				before := len(src.asked(""))
				pass(4 * time.Hour)
				if s := status(t, f); s.Held != 150 || count(t, f) != 300 {
					t.Fatalf("%d are left: %+v", count(t, f), s)
				}
				if asked := len(src.asked("")) - before; asked > 17*60 {
					t.Errorf("%d requests", asked)
				}
				l.on.Store(false)
				pass(20 * time.Minute)
				equal(t, src, f.Store)
				stop()
			})
		})
	}
}

// Where all records of a resource are held there is none to show that the producer shows any: only a person
// can release them, or their coming back.
func TestHeldWithoutCanaries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 20)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		src.gone(0, 20)
		stop := run(t, f)
		pass(24 * time.Hour)
		if s := status(t, f); s.Held != 20 || count(t, f) != 20 {
			t.Fatalf("%d are left: %+v", count(t, f), s)
		}
		src.put("Property", "NEW", property("NEW", 1)) // it shows others
		pass(20 * time.Minute)
		equal(t, src, f.Store)
		stop()
	})
}

// A newer event of a record whose removal is held brings it up to date and clears it; replaying releases
// nothing early.
func TestHeldRecordIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 300)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		src.gone(0, 120)
		stop := run(t, f)
		pass(2 * time.Minute)
		src.put("Property", "P0007", property("P0007", 5))
		pass(2 * time.Minute)
		if s := status(t, f); s.Held != 119 || s.Pending != 0 || !strings.Contains(string(replica(t, f.Store, "Property")["P0007"].Body), ":5,") {
			t.Errorf("%+v", s)
		}
		if n, err := f.Replay(t.Context(), nil); n != 119 || err != nil {
			t.Errorf("%d replayed: %v", n, err)
		}
		pass(14 * time.Minute)
		if n := count(t, f); n != 300 {
			t.Errorf("%d are left: replaying released what was held for a moment", n)
		}
		pass(2 * time.Minute)
		equal(t, src, f.Store)
		stop()
	})
}

// share is what one of two processes takes of the inbox; both judge before either writes.
type share struct {
	consumer.Store
	from, to int
	both     *sync.WaitGroup
	once     sync.Once
}

func (s *share) Take(ctx context.Context, feed string, limit int) ([]entityevent.Item, error) {
	items, err := s.Store.Take(ctx, feed, limit)
	return slices.DeleteFunc(items, func(i entityevent.Item) bool {
		return i.Key < fmt.Sprintf("P%04d", s.from) || i.Key >= fmt.Sprintf("P%04d", s.to)
	}), err
}

func (s *share) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	s.once.Do(func() { s.both.Done(); s.both.Wait() })
	return s.Store.Apply(ctx, c)
}

// A second process counts with the first.
func TestBrakeOfTwoProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 300)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		src.gone(0, 120)
		d := entityevent.Delivery{Feed: f.Name, Log: "log-1/all", Chained: true, After: 300, Through: 420}
		for i := range 120 {
			d.Events = append(d.Events, entityevent.Event{Sequence: entityevent.Sequence(301 + i), Ref: entityevent.Ref{Resource: "Property", Key: fmt.Sprintf("P%04d", i)}})
		}
		if p, err := f.Store.Receive(t.Context(), d); err != nil || p.Stored != 120 {
			t.Fatal(p, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		both, over := new(sync.WaitGroup), new(sync.WaitGroup)
		both.Add(2)
		for _, from := range []int{0, 60} {
			f := newFeedOn(&share{Store: f.Store, from: from, to: from + 60, both: both}, to(src))
			f.Rate = 1000
			over.Go(func() {
				if err := f.Apply(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		pass(time.Minute)
		if s := status(t, f); count(t, f) != 240 || s.Held != 60 || s.Pending != 0 {
			t.Errorf("%d records of 300 are left: %+v", count(t, f), s)
		}
		cancel()
		over.Wait()
	})
}

// Records that are not here do not count.
func TestBrakeCountsWhatIsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 300)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		src.flood("Property", 500)
		src.gone(0, 90)
		catchUp(t, f)
		equal(t, src, f.Store)
		if s := status(t, f); s.Held != 0 {
			t.Errorf("%+v", s)
		}
	})
}
