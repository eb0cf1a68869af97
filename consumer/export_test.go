package consumer

import (
	"context"
	"net/http"

	"github.com/resosync/resosync/entityevent"
)

// NewTransport is the transport of feeds that are given none.
func NewTransport() *http.Transport { return newTransport() }

// What requests are for, in the order in which they go.
const (
	ForInbox     = forInbox
	ForPoll      = forPoll
	ForLoad      = forLoad
	ForReconcile = forReconcile
)

// WaitTurn blocks as a request of the feed on that errand does before it is sent.
func (f *Feed) WaitTurn(ctx context.Context, e errand) error {
	if err := f.Check(); err != nil {
		return err
	}
	return f.client.pace.wait(ctx, e)
}

// PageAfter asks for the page of events after a number.
func (f *Feed) PageAfter(ctx context.Context, after entityevent.Sequence) (log entityevent.LogID, events []entityevent.Event, through entityevent.Sequence, err error) {
	if err := f.Check(); err != nil {
		return "", nil, 0, err
	}
	p, err := f.eventsAfter(ctx, entityevent.Position{}, after, atOnce)
	return p.log, p.events, p.through, err
}
