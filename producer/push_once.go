package producer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// bind stores where the one delivery of an only-once subscription ends, before it is tried the first time, or with fewer
// events than before. Every repeat ends there, after a restart too. Between two attempts compaction may leave out events
// of records that have changed since, and nothing is added.
func (r *run) bind(ctx context.Context, b batch) error {
	if r.sub.Mode != OnlyOnce || r.state.BatchEnd == b.through {
		return nil
	}
	r.state.BatchEnd, r.urgent = b.through, true // what cannot be stored now is stored before anything is pushed
	return r.write(ctx)
}

// delivered says whether the one delivery of an only-once subscription was acknowledged. From then on there is one write
// left, which cancels it.
func (r *run) delivered() bool {
	s := &r.state
	return r.sub.Mode == OnlyOnce && s.BatchEnd > 0 && s.Acknowledged >= s.BatchEnd && s.Status != Cancelled
}

var errOvertaken = errors.New("the subscription was changed meanwhile")

// conclude cancels an only-once subscription whose delivery was acknowledged, in the write that moves its position. Who
// resumed it meanwhile changes nothing about that; who cancelled it or sent it to another position does.
func (r *run) conclude(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	done := r.state
	state, err := ChangeState(ctx, r.Store, r.sub.Name, func(s *SubscriptionState) ([]entityevent.Doc, error) {
		if s.Status == Cancelled || s.Replays != done.Replays {
			return nil, errOvertaken
		}
		s.Cursor, s.Acknowledged, s.SucceededAt = done.Cursor, done.Acknowledged, done.SucceededAt
		s.Cancel(fmt.Sprintf("The one delivery of this subscription was acknowledged, through %d.", done.Acknowledged))
		s.Told = Cancelled
		return nil, nil
	})
	switch {
	case errors.Is(err, errOvertaken), errors.Is(err, entityevent.ErrAbsent):
		r.state.BatchEnd, r.moved, r.urgent, r.stale = 0, time.Time{}, false, true // of this nothing is to be stored
		return nil
	case err != nil:
		return err
	}
	r.state, r.moved, r.urgent = state, time.Time{}, false
	r.log.Info("subscription is cancelled: its one delivery was taken", "seq", state.Cursor)
	if r.Changed != nil {
		r.Changed(state)
	}
	return nil
}
