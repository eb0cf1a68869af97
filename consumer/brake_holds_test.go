package consumer_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
)

// lapsing is a feed of so many records whose producer can lose them. touch publishes events of the next ones
// and gives the feed a while, from all of them at once.
func lapsing(t *testing.T, rows int) (src *source, l *lapse, f *consumer.Feed, touch func(n int) (stop func())) {
	t.Helper()
	src = filled("log-1/all", rows)
	l = &lapse{next: to(src), single: json404, filter: noRows}
	f = newFeed(t, l, "Property")
	catchUp(t, f)
	next := 0
	return src, l, f, func(n int) func() {
		for range n {
			key := fmt.Sprintf("P%04d", next)
			src.put("Property", key, property(key, 5))
			next++
		}
		stop := run(t, f)
		pass(2 * time.Minute)
		return stop
	}
}

// What went before the brake began to hold is looked at again when the records are back, though that was
// over an hour ago and others are held since.
func TestBrakeRemembersWhatWent(t *testing.T) {
	for _, second := range []int{0, 120} {
		t.Run(fmt.Sprint(second), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				src, l, f, touch := lapsing(t, 400)
				l.on.Store(true)
				touch(60)()
				touch(30)()
				stop := touch(50)
				pass(63 * time.Minute)
				stop()
				stop = touch(second)
				if n, s := count(t, f), status(t, f); n != 310 || s.Held != 50+second {
					t.Errorf("%d are left, %d are held", n, s.Held)
				}
				l.on.Store(false)
				pass(2 * time.Hour)
				equal(t, src, f.Store)
				stop()
			})
		})
	}
}

// A producer that shows nothing for a night loses no more records in its second hour than in its first.
func TestNothingGoesWhileRemovalsAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, l, f, touch := lapsing(t, 400)
		l.on.Store(true)
		stop := touch(120)
		for range 3 {
			pass(61 * time.Minute)
			stop()
			stop = touch(50)
		}
		if n, s := count(t, f), status(t, f); n != 400 || s.Held != 270 {
			t.Errorf("%d are left, %d are held", n, s.Held)
		}
		l.on.Store(false)
		pass(time.Hour)
		equal(t, src, f.Store)
		stop()
	})
}

// A resource that goes on losing records one by one, after many at once, is not held for ever: the producer
// proves those that wait.
func TestBrakeEndsThoughRecordsGoOnGoing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 600)
		f := newFeed(t, to(src), "Property")
		catchUp(t, f)
		src.gone(0, 150)
		stop := run(t, f)
		for i := range 24 {
			src.gone(150+i, 151+i)
			pass(5 * time.Minute)
		}
		if s := status(t, f); s.Held != 0 {
			t.Errorf("after two hours %d are held", s.Held)
		}
		equal(t, src, f.Store)
		stop()
	})
}

// What went rightly is not looked at again because of records that are back another day.
func TestBrakeForgetsWhatWasRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 400)
		l := &lapse{next: to(src), single: json404, filter: noRows}
		f := newFeed(t, l, "Property")
		catchUp(t, f)
		stop := run(t, f)
		src.gone(0, 90)
		pass(2 * time.Minute)
		src.gone(90, 140)
		pass(2 * time.Hour)
		equal(t, src, f.Store)
		l.on.Store(true)
		for i := 140; i < 290; i++ {
			key := fmt.Sprintf("P%04d", i)
			src.put("Property", key, property(key, 5))
		}
		pass(2 * time.Minute)
		l.on.Store(false)
		asked := len(src.asked("P0001"))
		pass(time.Hour)
		equal(t, src, f.Store)
		if again := len(src.asked("P0001")); again != asked {
			t.Errorf("P0001 was asked for %d times", again-asked)
		}
		stop()
	})
}

// The producer answers for some of what is held with an error of their own: the others go.
func TestRefusedOnesKeepNoOthersHeld(t *testing.T) {
	for _, refusal := range []int{403, 500} {
		t.Run(fmt.Sprint(refusal), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				src := filled("log-1/all", 300)
				var on atomic.Bool
				refuse := answer(refusal, "application/json", `{"error":{"code":"x","message":"no"}}`)
				f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
					if on.Load() && strings.Contains(r.URL.Path, "('P000") {
						return refuse(r)
					}
					return to(src)(r)
				}), "Property")
				catchUp(t, f)
				src.gone(0, 150)
				stop := run(t, f)
				pass(2 * time.Minute)
				on.Store(true)
				pass(20 * time.Minute)
				if s := status(t, f); s.Held != 10 || s.Aside != 0 {
					t.Errorf("%d are held, %d set aside", s.Held, s.Aside)
				}
				on.Store(false)
				pass(20 * time.Minute)
				equal(t, src, f.Store)
				stop()
			})
		})
	}
}

// A record whose removal is held stays so while the producer fails for it, whatever events it gets.
func TestHeldThatCannotBeJudgedStaysHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, l, f, touch := lapsing(t, 400)
		l.on.Store(true)
		touch(150)()
		missing := l.single
		fails := answer(500, "application/json", `{"error":{"code":"x","message":"y"}}`)
		var broken atomic.Bool
		broken.Store(true)
		l.single = func(r *http.Request) (*http.Response, error) {
			if broken.Load() {
				return fails(r)
			}
			return missing(r)
		}
		stop := run(t, f)
		pass(61 * time.Minute)
		for i := range 90 {
			key := fmt.Sprintf("P%04d", i)
			src.put("Property", key, property(key, 6))
		}
		pass(20 * time.Minute)
		if s := status(t, f); s.Held != 150 || s.Aside != 0 || s.Pending != 0 {
			t.Errorf("%+v", s)
		}
		broken.Store(false)
		pass(time.Hour)
		if n, s := count(t, f), status(t, f); n != 400 || s.Held != 150 {
			t.Errorf("%d are left, %d are held", n, s.Held)
		}
		l.on.Store(false)
		pass(time.Hour)
		equal(t, src, f.Store)
		stop()
	})
}

// What is set aside of a resource that the feed no longer copies is forgotten.
func TestAsideOfADroppedResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 300)
		f := newFeed(t, to(src), "Property", "Member")
		catchUp(t, f)
		src.gone(0, 150)
		catchUp(t, f)
		_, err := f.Store.Apply(t.Context(), entityevent.Commit{Feed: f.Name, Aside: []entityevent.Setback{
			{Ref: entityevent.Ref{Resource: "Property", Key: "P0200"}, Kind: "poison", NextAt: time.Now().Add(time.Hour)},
			{Ref: entityevent.Ref{Resource: "Member", Key: "M1"}, Kind: "poison", NextAt: time.Now().Add(time.Hour)}}})
		if s := status(t, f); err != nil || s.Held != 150 || s.Aside != 2 {
			t.Fatalf("%v %+v", err, s)
		}
		f = newFeedOn(f.Store, to(src))
		f.Resources = []string{"Member"}
		catchUp(t, f)
		if s := status(t, f); s.Held != 0 || s.Aside != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// An event reads what is held once, not in each round, however much it is.
func TestRoundsReadWhatIsHeldOnce(t *testing.T) {
	src := filled("log-1/all", 300)
	f := newFeed(t, to(src), "Property")
	catchUp(t, f)
	src.gone(0, 150)
	catchUp(t, f)
	s := &asides{Store: f.Store}
	f = newFeedOn(s, to(src))
	for i := range 5 {
		src.put("Property", "P0299", property("P0299", 50+i))
		catchUp(t, f)
	}
	if s.all > 2 { // the applier, and the load that drops what nobody wants
		t.Errorf("all was read %d times", s.all)
	}
	if body := replica(t, s, "Property")["P0299"].Body; !strings.Contains(string(body), ":54,") {
		t.Errorf("%s", body)
	}
}

// Of two servers behind one address one has lost its records. It contradicts the other within a round, so
// that nothing goes by what it says.
func TestServersThatContradictEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 300)
		var on atomic.Bool
		var n atomic.Int64
		f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
			switch of := strings.Contains(r.URL.Path, "/Property"); {
			case !on.Load() || !of:
			case strings.Contains(r.URL.RawQuery, "$filter="):
				return noRows(r)
			case strings.Contains(r.URL.Path, "('") && n.Add(1)%3 != 0:
				return json404(r)
			}
			return to(src)(r)
		}), "Property")
		catchUp(t, f)
		src.gone(250, 255)
		stop := run(t, f)
		on.Store(true)
		for i := range 60 {
			key := fmt.Sprintf("P%04d", i)
			src.put("Property", key, property(key, 5))
		}
		pass(20 * time.Second)
		if n := count(t, f); n < 295 {
			t.Errorf("%d are left of those that are there", n)
		}
		on.Store(false)
		pass(time.Hour)
		equal(t, src, f.Store)
		stop()
	})
}

// asides counts how often all that is set aside is read.
type asides struct {
	consumer.Store
	all int
}

func (s *asides) Aside(ctx context.Context, feed string, due time.Time, limit int) ([]entityevent.Setback, error) {
	if due.IsZero() {
		s.all++
	}
	return s.Store.Aside(ctx, feed, due, limit)
}
