package consumer

import (
	"context"
	"net/http"
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
