package session

import (
	"container/list"
	"encoding/json"
	"time"

	"github.com/resosync/resosync/producer"
)

// session is one list of events. Those of the log are in the tail that all sessions with the same view share; what was
// posted stands between them.
type session struct {
	token     string
	owner     owner
	tail      *tail
	base      int64 // how many events the tail had when the session began
	posted    []posted
	dropped   int64 // how many were posted before these
	bytes     int64
	used      time.Time
	place     *list.Element
	listeners map[*producer.Hold]int64 // and the number that each has
	ended     bool
}

// posted is an event that is not of the log.
type posted struct {
	after int64  // how many events the tail had before it
	kind  string // as JSON
	data  json.RawMessage
}

func (p posted) size() int64 { return int64(len(p.kind)+len(p.data)) + overhead }

// event is one event of a session, as it is sent.
type event struct {
	kind   string // as JSON
	data   json.RawMessage
	number int64
}

// last is the number of the newest event.
func (x *session) last() int64 { return x.tail.total - x.base + x.dropped + int64(len(x.posted)) }

// newer returns the events above a number, oldest first: the newest 1,000 at most.
func (x *session) newer(number int64) []event {
	last := x.last()
	n := min(max(last-number, 0), kept)
	events := make([]event, n)
	of, j := x.tail.total, len(x.posted)-1
	for i := range events {
		e := &events[int(n)-1-i]
		e.number = last - int64(i)
		if j >= 0 && x.posted[j].after >= of {
			e.kind, e.data = x.posted[j].kind, x.posted[j].data
			j--
			continue
		}
		e.kind, e.data = entityEvent, x.tail.at(of)
		of--
	}
	return events
}

// append adds an event at the end of a session, wakes its listeners, and returns it.
func (s *Sessions) append(x *session, p posted) event {
	p.after = x.tail.total
	x.posted = append(x.posted, p)
	s.count(x, p.size())
	e := event{p.kind, p.data, x.last()}
	for x.posted[0].after-x.base+x.dropped+1 <= e.number-kept {
		s.count(x, -x.posted[0].size())
		x.posted[0] = posted{}
		x.posted = x.posted[1:]
		x.dropped++
	}
	for hold, has := range x.listeners {
		if has < e.number {
			hold.Cut()
		}
	}
	return e
}

// count adds to what a session takes, in bytes.
func (s *Sessions) count(x *session, n int64) {
	x.bytes += n
	s.bytes += n
	s.owners[x.owner].bytes += n
	if x.owner.anonymous {
		s.strangerBytes += n
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

// end ends a session: its listeners are told that there is none.
func (s *Sessions) end(x *session) {
	x.ended = true
	s.count(x, -x.bytes)
	x.posted = nil
	delete(s.named, x.token)
	s.order.Remove(x.place)
	if x.owner.anonymous {
		s.strangers--
	}
	share := s.owners[x.owner]
	share.listeners -= len(x.listeners)
	if delete(share.sessions, x); len(share.sessions) == 0 {
		delete(s.owners, x.owner)
	}
	s.leave(x.tail)
	for hold := range x.listeners {
		hold.Cut()
	}
}
