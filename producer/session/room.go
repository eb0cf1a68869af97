package session

import (
	"cmp"
	"fmt"
	"time"
)

// A client may have a quarter of what there may be, and all who are anonymous have one together, of which an address may
// have a tenth. Where these need room, sessions of theirs go that nobody listens to.
const (
	ofAll       = 4
	ofStrangers = 10
)

// measure is something of which there may be so much only.
type measure int

const (
	ofSessions measure = iota
	ofBytes
	ofListeners
)

func (of measure) String() string {
	return [...]string{"sessions", "bytes of posted events", "listeners"}[of]
}

// load is how much there is, by measure.
type load [3]int64

func (x *session) load() load { return load{1, x.bytes, int64(len(x.listeners))} }

// takes adds to what a session takes.
func (s *Sessions) takes(x *session, of measure, n int64) {
	s.all[of] += n
	s.owners[x.owner].load[of] += n
	if x.owner.anonymous {
		s.strangers[of] += n
	}
	if of == ofBytes {
		x.bytes += n
	}
}

// most is how much there may be.
func (s *Sessions) most(of measure) int64 {
	switch of {
	case ofSessions:
		return maxSessions
	case ofBytes:
		return cmp.Or(s.MaxBytes, maxBytes)
	case ofListeners:
	}
	return int64(s.holds().Limit())
}

// room makes room for so much more of an owner, by the end of other sessions than x, or refuses it.
func (s *Sessions) room(o owner, x *session, of measure, n int64) error {
	has := &load{}
	if share := s.owners[o]; share != nil {
		has = &share.load
	}
	all := s.most(of)
	each := max(all/ofAll, 1)
	own, who := each, "client"
	if o.anonymous {
		own, who = max(each/ofStrangers, 1), "address"
	}
	fits := func(has *load, most int64, who *owner) bool {
		for has[of]+n > most {
			if !s.yield(of, who, x) {
				return false
			}
		}
		return true
	}
	if !fits(has, own, &o) {
		return tooMany(fmt.Sprintf("One %s may have %d %s: go on with these, or ask again after the time in Retry-After", who, own, of), s.free(of, &o))
	}
	if o.anonymous && !fits(&s.strangers, each, nil) || !fits(&s.all, all, nil) {
		return full(fmt.Sprintf("There are too many %s: ask again after the time in Retry-After", of), s.free(of, nil))
	}
	return nil
}

// yield ends the anonymous session that was idle longest, of the owner who has most, or of one owner; another than one.
// It is false if there is none that gives anything.
func (s *Sessions) yield(of measure, who *owner, but *session) bool {
	var goes *session
	most := int64(0)
	for at := s.order.Front(); at != nil; at = at.Next() {
		x := at.Value.(*session)
		if !x.owner.anonymous || x == but || who != nil && x.owner != *who || len(x.listeners) > 0 || x.load()[of] == 0 {
			continue
		}
		if n := s.owners[x.owner].load[of]; n > most {
			goes, most = x, n
		}
	}
	if goes == nil {
		return false
	}
	s.end(goes)
	return true
}

// free is how long it takes until there is room, at the soonest: until nobody used a session for long, an owner's or any.
func (s *Sessions) free(of measure, who *owner) time.Duration {
	for at := s.order.Front(); at != nil && of != ofListeners; at = at.Next() {
		if x := at.Value.(*session); (who == nil || x.owner == *who) && len(x.listeners) == 0 {
			return idleAfter - time.Since(x.used)
		}
	}
	return held
}
