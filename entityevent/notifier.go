package entityevent

import (
	"context"
	"errors"
	"sync"
)

// ErrClosed is returned by calls on a store, or on a Notifier, that was closed.
var ErrClosed = errors.New("closed")

// Notice tells that an event was committed, and who may see it.
type Notice struct {
	Feed     string
	Sequence Sequence
	Views    Mask
}

// Notifier wakes who waits for events, within one process. A store publishes what it committed, after
// the commit; a waiter whose view matches is woken and then reads the store.
//
// It remembers the newest number that was published for every feed and bit, so that nothing is lost
// between a look at the log and the wait that follows it. It knows nothing from before its first Publish:
// whether older events exist is the store's to answer. Publishing costs one step for each distinct
// View that somebody waits on, however many share it.
//
// The zero Notifier is ready to use.
type Notifier struct {
	mu     sync.Mutex
	feeds  map[string]*audience
	closed bool
}

// audience is who waits on one feed, and what was published there.
type audience struct {
	newest [64]Sequence // by bit
	crowds map[Mask]*crowd
}

// crowd is those who wait with one mask.
type crowd struct {
	size  int
	woken chan struct{} // closed at the next event that they may see
}

// Publish makes committed events known, in ascending order of their sequence, and wakes whoever may see
// one. It never blocks on a waiter.
func (n *Notifier) Publish(notices []Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := 0; i < len(notices); {
		feed := notices[i].Feed
		a := n.audience(feed)
		var seen Mask
		for ; i < len(notices) && notices[i].Feed == feed; i++ {
			seen |= notices[i].Views
			a.note(notices[i])
		}
		for mask, c := range a.crowds {
			if mask&seen != 0 {
				close(c.woken)
				delete(a.crowds, mask)
			}
		}
	}
}

func (a *audience) note(e Notice) {
	if e.Views == Everyone { // by far the commonest
		a.newest[0] = max(a.newest[0], e.Sequence)
		return
	}
	for bit := range a.newest {
		if e.Views&(1<<bit) != 0 {
			a.newest[bit] = max(a.newest[bit], e.Sequence)
		}
	}
}

// Wait blocks until an event that v may see was published above the position, before the call or during
// it, and returns nil; or until ctx ends, and returns its cause; or until Close, and returns ErrClosed.
func (n *Notifier) Wait(ctx context.Context, v View, after Sequence) error {
	for {
		c, err := n.join(v, after)
		if c == nil {
			return err
		}
		select {
		case <-c.woken:
		case <-ctx.Done():
			n.leave(v, c)
			return context.Cause(ctx)
		}
	}
}

// join adds a waiter to its crowd. It returns none when there is nothing to wait for.
func (n *Notifier) join(v View, after Sequence) (*crowd, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, ErrClosed
	}
	if a := n.feeds[v.Feed]; a != nil && a.newestFor(v.Mask) > after {
		return nil, nil
	}
	a := n.audience(v.Feed)
	c := a.crowds[v.Mask]
	if c == nil {
		c = &crowd{woken: make(chan struct{})}
		a.crowds[v.Mask] = c
	}
	c.size++
	return c, nil
}

// leave takes a waiter out again; a crowd that was woken meanwhile is gone already.
func (n *Notifier) leave(v View, c *crowd) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c.size--
	a := n.feeds[v.Feed]
	if c.size > 0 || a == nil || a.crowds[v.Mask] != c {
		return
	}
	delete(a.crowds, v.Mask)
	if len(a.crowds) == 0 && a.newest == [64]Sequence{} {
		delete(n.feeds, v.Feed)
	}
}

func (n *Notifier) audience(feed string) *audience {
	a := n.feeds[feed]
	if a == nil {
		a = &audience{crowds: map[Mask]*crowd{}}
		if n.feeds == nil {
			n.feeds = map[string]*audience{}
		}
		n.feeds[feed] = a
	}
	return a
}

func (a *audience) newestFor(m Mask) Sequence {
	var newest Sequence
	for bit, s := range a.newest {
		if s > newest && m&(1<<bit) != 0 {
			newest = s
		}
	}
	return newest
}

// Waiting returns how many calls of Wait are blocked.
func (n *Notifier) Waiting() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	size := 0
	for _, a := range n.feeds {
		for _, c := range a.crowds {
			size += c.size
		}
	}
	return size
}

// Close wakes everybody with ErrClosed, and whoever waits later.
func (n *Notifier) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for _, a := range n.feeds {
		for mask, c := range a.crowds {
			close(c.woken)
			delete(a.crowds, mask)
		}
	}
}
