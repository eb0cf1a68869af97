package producer

import (
	"context"
	"errors"
	"fmt"

	"github.com/resosync/resosync/entityevent"
)

var errNothingToSkip = errors.New("the next event is the subscription's")

// SkipInvisible moves the stored position up to the next event that the subscription has to get, or to the head, and wakes
// Run. Whoever has events forgotten calls it before: a subscription that was not pushed to for long, because nothing was for
// it, then does not stand below what it never missed. It may be called while Run is under way, which then may repeat a push
// that it has just made.
func (p *Pusher) SkipInvisible(ctx context.Context) error {
	r, err := p.newRun()
	if err != nil {
		return err
	}
	_, err = ChangeState(ctx, p.Store, r.sub.Name, func(s *SubscriptionState) ([]entityevent.Doc, error) {
		next, err := r.invisible(ctx, s)
		if err == nil && (next == s.Cursor || s.Status == Cancelled) {
			err = errNothingToSkip
		}
		s.Cursor = next
		return nil, err
	})
	switch {
	case errors.Is(err, errNothingToSkip), errors.Is(err, entityevent.ErrAbsent): // it begins at the head
		return nil
	case err != nil:
		return err
	}
	p.Wake()
	return nil
}

// invisible returns the last sequence up to which nothing is the subscription's. Who may have missed what was forgotten
// before stays where it stands, to be told; so does one from 0, which misses nothing.
func (r *run) invisible(ctx context.Context, s *SubscriptionState) (entityevent.Sequence, error) {
	for after := s.Cursor; ; {
		page, err := r.Store.Events(ctx, r.view, entityevent.EventQuery{After: after, Limit: 1, Filter: r.filter})
		switch {
		case err != nil:
			return after, fmt.Errorf("read events after %d: %w", after, err)
		case s.Cursor == 0, s.Cursor < page.Floor && s.Floor < page.Floor:
			return s.Cursor, nil
		case len(page.Events) > 0:
			return page.Events[0].Sequence - 1, nil
		case !page.More:
			return max(after, page.Through), nil
		}
		after = page.Through
	}
}
