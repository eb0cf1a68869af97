package session

import (
	"cmp"
	"net"
	"net/http"
	"strconv"
	"time"
)

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
	if err := s.admits(x.owner); err != nil {
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
	if x.owner.anonymous {
		s.strangers++
	}
	has.sessions[x] = struct{}{}
	s.named[x.token] = x
	x.base, x.used, x.place = x.tail.total, time.Now(), s.order.PushBack(x)
	return nil
}

// admits makes room for a session of an owner, or refuses it.
func (s *Sessions) admits(o owner) error {
	has := s.owners[o]
	switch {
	case !o.anonymous && has != nil && len(has.sessions) >= maxOwn:
		return tooMany("There are "+strconv.Itoa(maxOwn)+" sessions of yours: go on with these, or wait until some were idle for an hour", s.idle(&o))
	case o.anonymous && has != nil && len(has.sessions) >= maxAddress && !s.yield(nil, func(own owner) int64 { return given(own == o) }):
		return tooMany("There are "+strconv.Itoa(maxAddress)+" sessions with listeners from one address: go on with these", held)
	case o.anonymous && s.strangers >= maxAnonymous && !s.yield(nil, func(own owner) int64 { return int64(len(s.owners[own].sessions)) }):
		return full("There are too many sessions with listeners: ask again after the time in Retry-After", held)
	case len(s.named) >= maxSessions:
		return full("There are too many sessions: ask again after the time in Retry-After", s.idle(nil))
	}
	return nil
}

// roomFor makes room for an event of a session, or refuses it.
func (s *Sessions) roomFor(x *session, size int64) error {
	all := cmp.Or(s.MaxBytes, maxBytes)
	most := all / ofOwner
	if x.owner.anonymous {
		for s.strangerBytes+size > most && s.yield(x, func(own owner) int64 { return s.owners[own].bytes }) {
			continue
		}
		if s.strangerBytes+size > most {
			return full("The sessions hold all that they may: ask again after the time in Retry-After", held)
		}
		most /= ofAddress
	}
	switch {
	case s.owners[x.owner].bytes+size > most:
		return tooMany("Your sessions hold all that they may: post less, or wait until some were idle for an hour", s.idle(&x.owner))
	case s.bytes+size > all:
		return full("The sessions hold all that they may: ask again after the time in Retry-After", s.idle(nil))
	}
	return nil
}

func given(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

// yield ends the anonymous session that was idle longest, of the owner who has most, where nobody listens; another than one.
// It is false if there is none of an owner who has anything.
func (s *Sessions) yield(but *session, has func(owner) int64) bool {
	var goes *session
	most := int64(0)
	for at := s.order.Front(); at != nil; at = at.Next() {
		x := at.Value.(*session)
		if !x.owner.anonymous || x == but || len(x.listeners) > 0 {
			continue
		}
		if n := has(x.owner); n > most {
			goes, most = x, n
		}
	}
	if goes == nil {
		return false
	}
	s.end(goes)
	return true
}

// idle says when a session will have been idle for long, at the soonest, if nobody uses it: one of an owner's, or any.
func (s *Sessions) idle(of *owner) time.Duration {
	for at := s.order.Front(); at != nil; at = at.Next() {
		if x := at.Value.(*session); of == nil || x.owner == *of {
			return idleAfter - time.Since(x.used)
		}
	}
	return held
}
