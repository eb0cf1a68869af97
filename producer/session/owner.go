package session

import (
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/resosync/resosync/producer"
)

// owner is who made a session: a client, or all who come from one address without a token.
type owner struct {
	client    string
	anonymous bool
	address   string
}

// share is what an owner has.
type share struct {
	sessions map[*session]struct{}
	load     load
}

// address is where a request comes from.
func (s *Sessions) address(r *http.Request) string {
	if s.Address != nil {
		return s.Address(r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// holder is whose share of all held requests a listener takes: all who are anonymous have one.
func (o owner) holder() string {
	if o.anonymous {
		return ""
	}
	return o.client
}

// add adds a session, if there is room.
func (s *Sessions) add(x *session) error {
	s.expire()
	if err := s.room(x.owner, nil, ofSessions, 1); err != nil {
		return err
	}
	if s.named == nil {
		s.named, s.owners = map[string]*session{}, map[owner]*share{}
	}
	has := s.owners[x.owner]
	if has == nil {
		has = &share{sessions: map[*session]struct{}{}}
		s.owners[x.owner] = has
	}
	has.sessions[x] = struct{}{}
	s.named[x.token] = x
	x.base, x.used, x.place = x.told.count(), time.Now(), s.order.PushBack(x)
	s.takes(x, ofSessions, 1)
	return nil
}

// hear begins to hold a listener of a session who has all up to a number, if there is room.
func (s *Sessions) hear(x *session, number int64) (*producer.Hold, error) {
	if len(x.listeners) >= maxListeners {
		return nil, tooMany("This session has "+strconv.Itoa(maxListeners)+" listeners: ask again after the time in Retry-After", held)
	}
	if err := s.room(x.owner, x, ofListeners, 1); err != nil {
		return nil, err
	}
	hold := s.holds().Begin(x.owner.holder(), held)
	if hold == nil {
		return nil, full("Too many requests wait for news here, or too many of yours: ask again after the time in Retry-After", held)
	}
	if x.listeners == nil {
		x.listeners = map[*producer.Hold]int64{}
	}
	x.listeners[hold] = number
	s.takes(x, ofListeners, 1)
	return hold, nil
}
