package session

import (
	"container/list"
	"time"

	"github.com/resosync/resosync/producer"
)

// session is one list of events: those that were posted to it, over what its owner is told.
type session struct {
	layer
	told      *told
	token     string
	owner     owner
	bytes     int64 // of what was posted
	used      time.Time
	place     *list.Element
	listeners map[*producer.Hold]int64 // and the number that each has
	ended     bool
}

// newer returns the events above a number, oldest first: the newest 1,000 at most.
func (x *session) newer(number int64) []event {
	last := x.count()
	events := x.newest(min(max(last-number, 0), kept))
	for i := range events {
		events[i].number = last - int64(len(events)-1-i)
	}
	return events
}

// append adds an event at the end of a session, wakes its listeners, and returns it.
func (s *Sessions) append(x *session, e event) event {
	s.takes(x, ofBytes, e.size()-x.add(e))
	x.wake()
	e.number = x.count()
	return e
}

// wake answers the listeners of a session for whom there is something.
func (x *session) wake() {
	last := x.count()
	for hold, has := range x.listeners {
		if has < last {
			hold.Cut()
		}
	}
}

// find returns a session and notes that it is used; nil: there is none.
func (s *Sessions) find(token string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	x := s.named[token]
	if x != nil {
		s.use(x)
	}
	return x
}

func (s *Sessions) use(x *session) {
	x.used = time.Now()
	s.order.MoveToBack(x.place)
}

// expire ends the sessions that nobody used for long. One that is listened to was used since.
func (s *Sessions) expire() {
	for {
		oldest := s.order.Front()
		if oldest == nil {
			return
		}
		x := oldest.Value.(*session)
		if time.Since(x.used) < idleAfter {
			return
		}
		s.end(x)
	}
}

// end ends a session, unless it has ended: its listeners are told that there is none.
func (s *Sessions) end(x *session) {
	if x.ended {
		return
	}
	x.ended = true
	for of, n := range x.load() {
		s.takes(x, measure(of), -n)
	}
	x.added = nil
	delete(s.named, x.token)
	s.order.Remove(x.place)
	share := s.owners[x.owner]
	if delete(share.sessions, x); len(share.sessions) == 0 {
		delete(s.owners, x.owner)
	}
	s.leave(x.told)
	for hold := range x.listeners {
		hold.Cut()
	}
}
