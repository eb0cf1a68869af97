package consumer_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// outage is a store that at times can do nothing, or only receive.
type outage struct {
	entityevent.Store
	receive, apply atomic.Bool // does not work
	emptied        atomic.Bool // tells of no pending events
}

func (s *outage) Depth(ctx context.Context, feed string) (int64, error) {
	if s.emptied.Load() {
		return 0, nil
	}
	return s.Store.Depth(ctx, feed)
}

func (s *outage) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	if s.apply.Load() {
		return nil, entityevent.ErrUnavailable
	}
	return s.Store.Apply(ctx, c)
}

func (s *outage) Receive(ctx context.Context, d entityevent.Delivery) (entityevent.Position, error) {
	if s.receive.Load() {
		return entityevent.Position{}, entityevent.ErrUnavailable
	}
	return s.Store.Receive(ctx, d)
}

// A trouble that is over is told no longer, though the load that goes on lasts for hours; the next one is.
func TestTroubleIsOverWhileALoadGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, to(filled("", 1500)), "Property")
		s := &outage{Store: f.Store.(entityevent.Store)}
		f.Store, f.Rate, f.PageSize = s, 0.02, 300
		defer run(t, f)()
		until(t, "it loads", func() bool { st := status(t, f); return st.Loading != nil && st.Loading.Records > 0 })
		for range 2 {
			s.apply.Store(true)
			until(t, "it says that its store fails", func() bool { return status(t, f).Polling.Store })
			s.apply.Store(false)
			until(t, "it goes on", func() bool { st := status(t, f); return st.Loading != nil && st.Loading.Records > 0 })
			if st := status(t, f); st.Polling.Failures > 0 || st.Polling.Store || st.Loaded {
				t.Errorf("%+v", st)
			}
		}
	})
}

// A disk that was full for hours has room again: the copy is exact soon, not when the waits that grew
// meanwhile are over.
func TestAfterAnOutageOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 3)
		f := newFeed(t, to(src), "Property")
		s := &outage{Store: f.Store.(entityevent.Store)}
		f.Store, f.Poll = s, "@every 1s"
		defer run(t, f)()
		pass(time.Minute)
		equal(t, src, s)
		for i := range 4 {
			s.apply.Store(true)
			s.receive.Store(i%2 == 0)
			src.put("Property", "new", fmt.Sprintf(`{"ListingKey":"new","ListPrice":%d}`, i))
			pass(time.Hour + time.Duration(i)*13*time.Minute)
			if st := status(t, f); !st.Polling.Store && !st.Applying.Store {
				t.Errorf("it does not say that its own store fails: %+v", st)
			}
			s.apply.Store(false)
			s.receive.Store(false)
			pass(30 * time.Second)
			equal(t, src, s)
			if st := status(t, f); st.Polling.Store || st.Applying.Store {
				t.Errorf("it still says that its own store fails: %+v", st)
			}
		}
	})
}
