package entityevent

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/resosync/resosync/entityevent/odata"
)

// ErrClosed is returned by calls on a store, or on a Notifier, that was closed.
var ErrClosed = errors.New("closed")

// ErrEnded is returned by a wait at its EventQuery.End.
var ErrEnded = errors.New("the time to wait is over")

// Notice tells that an event was committed, and who may see it.
type Notice struct {
	Feed     string
	Sequence Sequence
	Ref
	Views Mask
}

// Notifier wakes who waits for events, within one process. A store publishes what it committed, after
// the commit; a waiter whose view and filter match is woken and then reads the store, and nobody else is.
//
// It remembers the newest number that was published for every feed and bit, so that nothing is lost
// between a look at the log and the wait that follows it. It knows nothing from before its first Publish:
// whether older events exist is the store's to answer. Publishing costs one step for each distinct
// View and filter that somebody waits with, however many share it.
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
	last   Sequence     // of any bit
	crowds map[interest]*crowd
}

// interest is what those of a crowd have in common.
type interest struct {
	mask   Mask
	filter string
	above  Sequence // a position above all that was published, else 0: whatever comes next is above it
	below  Sequence // 0: no bound
}

// crowd is those who wait for the same.
type crowd struct {
	interest
	filter odata.Expr
	size   int
	woken  chan struct{} // closed at the next event that concerns them, or by Close
	err    error         // of the wait; to be read after woken
}

// Publish makes committed events known, in ascending order of their sequence, and wakes those whom one
// concerns. It never blocks on a waiter.
func (n *Notifier) Publish(notices []Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for start, i := 0, 0; i < len(notices); start = i {
		feed := notices[start].Feed
		a := n.audience(feed)
		var seen Mask
		for ; i < len(notices) && notices[i].Feed == feed; i++ {
			seen |= notices[i].Views
			a.note(notices[i])
		}
		for key, c := range a.crowds {
			if c.mask&seen != 0 && c.above < a.last && c.concerns(notices[start:i]) {
				close(c.woken)
				delete(a.crowds, key)
			}
		}
	}
}

func (a *audience) note(e Notice) {
	a.last = max(a.last, e.Sequence)
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

// concerns says whether one of the notices is what the crowd waits for.
func (c *crowd) concerns(notices []Notice) bool {
	var refused []string // resources of which no event matches, whatever else it says
	for _, e := range notices {
		if e.Views&c.mask == 0 || e.Sequence <= c.above || c.below > 0 && e.Sequence >= c.below || slices.Contains(refused, e.Resource) {
			continue
		}
		if c.filter == nil {
			return true
		}
		byName := true
		if odata.Holds(c.filter, func(name string) []byte {
			byName = byName && name == "ResourceName"
			return Event{Sequence: e.Sequence, Ref: e.Ref}.Member(name)
		}) {
			return true
		}
		if byName {
			refused = append(refused, e.Resource)
		}
	}
	return false
}

// Wait blocks until an event that v may see and q asks for is published, and returns true; or until ctx
// ends, and returns its cause; or until q.End, and returns ErrEnded; or until Close, and returns ErrClosed. If something that v may see was
// published above q.After before the call it returns false at once: that may be what q asks for, and the
// log tells.
func (n *Notifier) Wait(ctx context.Context, v View, q EventQuery) (published bool, err error) {
	c, err := n.join(v, q)
	if c == nil {
		return false, err
	}
	select {
	case <-c.woken:
		return c.err == nil, c.err
	case <-ctx.Done():
		n.leave(v, c)
		return false, context.Cause(ctx)
	case <-q.End:
		n.leave(v, c)
		return false, ErrEnded
	}
}

// join adds a waiter to its crowd. It returns none when there is no need, or no use, to wait.
func (n *Notifier) join(v View, q EventQuery) (*crowd, error) {
	key := interest{mask: v.Mask, above: q.After, below: q.Before}
	if q.Filter != nil {
		key.filter = q.Filter.String()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, ErrClosed
	}
	a := n.audience(v.Feed)
	if a.newestFor(v.Mask) > q.After {
		return nil, nil
	}
	if q.After <= a.last {
		key.above = 0
	}
	c := a.crowds[key]
	if c == nil {
		c = &crowd{interest: key, filter: q.Filter, woken: make(chan struct{})}
		a.crowds[key] = c
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
	if c.size > 0 || a == nil || a.crowds[c.interest] != c {
		return
	}
	delete(a.crowds, c.interest)
	if len(a.crowds) == 0 && a.last == 0 {
		delete(n.feeds, v.Feed)
	}
}

func (n *Notifier) audience(feed string) *audience {
	a := n.feeds[feed]
	if a == nil {
		a = &audience{crowds: map[interest]*crowd{}}
		if n.feeds == nil {
			n.feeds = map[string]*audience{}
		}
		n.feeds[feed] = a
	}
	return a
}

func (a *audience) newestFor(m Mask) Sequence {
	var newest Sequence
	for bit := range a.newest {
		if m&(1<<bit) != 0 {
			newest = max(newest, a.newest[bit])
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
		for key, c := range a.crowds {
			c.err = ErrClosed
			close(c.woken)
			delete(a.crowds, key)
		}
	}
}
