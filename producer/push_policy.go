package producer

import (
	"fmt"
	"net/http"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/retry"
)

// verdict is what an answer to a push means for its subscription.
type verdict uint8

const (
	advance verdict = iota // acknowledged
	backOff                // a failure: again after a growing wait
	halt                   // wait until Retry-After; never a failure
	refused                // a failure: again after refusalWait, so many times, then suspend
	shrink                 // again with half the events; a batch of one suspends
	suspend                // at once
)

// policy is the delivery policy: the first rule whose range has the answer's status decides.
var policy = []struct {
	from, to int
	verdict  verdict
}{
	{200, 299, advance},
	{401, 401, refused},
	{403, 403, refused},
	{410, 410, suspend},
	{413, 413, shrink},
	{429, 429, halt},
	{503, 503, halt},
	{0, 999, backOff}, // no answer, redirects, everything else
}

const (
	refusals    = 2 // retries after a 401 or 403
	refusalWait = time.Minute
	haltGrows   = time.Minute // up to which waits that are asked for in a row grow
)

func judge(status int) verdict {
	for _, rule := range policy {
		if rule.from <= status && status <= rule.to {
			return rule.verdict
		}
	}
	return backOff
}

// settle moves the state by the answer to the push of b.
func (r *run) settle(b batch, got answer) {
	s, now := &r.state, time.Now()
	v := judge(got.status)
	r.count(v, b)
	if v == advance {
		r.succeed(b, now)
		return
	}
	r.urgent = true
	s.Attempts++
	s.LastError = got.problem
	if !r.complains {
		r.complaints.Do(func() {
			r.complains = true
			r.log.Warn("push was not taken", "seq", b.through, "err", got.problem)
		})
	}
	switch v {
	case shrink:
		if b.events == 1 {
			r.suspend("the subscriber finds even one event too large: " + got.problem)
			return
		}
		s.BatchLimit = b.events / 2
		return
	case suspend:
		r.suspend("the subscriber says that its callback is gone for good: " + got.problem)
		return
	case halt:
		s.Halts++
		wait, ok := got.wait(now)
		if !ok || wait < time.Second {
			wait = max(wait, r.Backoff.Delay(s.Halts)) // no wait at all would be a storm
		} else {
			wait = max(wait, min(r.Backoff.Delay(s.Halts), haltGrows)) // and so would a short one, again and again
		}
		if wait > r.suspendAfter() {
			r.suspend(fmt.Sprintf("the subscriber asks to wait until %s: %s", now.Add(wait).UTC().Format(time.RFC3339), got.problem))
			return
		}
		s.halt(now, wait)
		if !s.FailingSince.IsZero() {
			s.FailingSince = s.FailingSince.Add(wait) // what was asked for is no part of a failure before
		}
		return
	case refused:
		if s.Refusals++; s.Refusals > refusals {
			r.suspend("the subscriber refuses the token: " + got.problem)
			return
		}
		s.halt(now, refusalWait)
	case advance, backOff:
		s.halt(now, r.Backoff.Delay(s.Attempts-s.Halts))
	}
	if s.FailingSince.IsZero() {
		s.FailingSince = now
	}
	if failing := now.Sub(s.FailingSince); failing >= r.suspendAfter() {
		r.suspend(fmt.Sprintf("not one push was taken for %s: %s", failing.Round(time.Minute), got.problem))
	}
}

func (r *run) succeed(b batch, now time.Time) {
	s := &r.state
	if s.Attempts > 0 {
		r.urgent = true
		if r.complains {
			r.complains = false
			r.log.Info("pushes are taken again", "seq", b.through, "attempts", s.Attempts)
		}
	}
	s.settled()
	s.Acknowledged, s.SucceededAt = b.through, now.UTC()
	r.moveTo(b.through)
	r.urgent = r.urgent || r.delivered()
	if s.BatchLimit > 0 && b.events >= s.BatchLimit {
		// Slowly, for growing past what the subscriber takes costs a refused push each time.
		if s.BatchLimit++; s.BatchLimit >= r.sub.BatchEvents {
			s.BatchLimit = 0
		}
	}
}

// wait reads Retry-After. A date is one of the subscriber's clock, which may be another than ours: beside
// its Date it says how long, and the shorter of the two readings lets neither clock make the wait longer.
func (a answer) wait(now time.Time) (time.Duration, bool) {
	wait, ok := retry.After(a.retryAfter, now)
	if sent, err := http.ParseTime(a.date); ok && err == nil {
		there, _ := retry.After(a.retryAfter, sent)
		wait = min(wait, there)
	}
	return wait, ok
}

// skipIdle leaves out of a failure the time in which nothing was tried: the agent did not run, or its store
// could not be read.
func (r *run) skipIdle(now time.Time) {
	s := &r.state
	if idle := now.Sub(s.HaltedUntil); idle > 0 && !s.FailingSince.IsZero() && !s.HaltedUntil.IsZero() {
		s.FailingSince, s.HaltedUntil = s.FailingSince.Add(idle), now
	}
}

func (r *run) suspend(reason string) {
	s := &r.state
	remedy := "run: resosync resume " + r.sub.Name
	if r.sub.Self != "" {
		remedy = "POST " + r.sub.Self + "/resume, or " + remedy
	}
	s.Suspend(reason + "; when that is mended, " + remedy)
	r.log.Error("subscription is suspended: its position is kept until it is resumed", "seq", s.Cursor, "err", s.Reason)
}

// missed suspends a subscription that stood below events when they were forgotten. One that waited at the end of the log
// misses none, however old its position: they were not for it. One that began at 0 since misses none:
// they were of records that were gone before. When it is resumed its next push does not follow the one before, so that
// a subscriber who looks at EntityEvent-After polls, and learns from a 410 what it has to do.
func (r *run) missed(floor entityevent.Sequence) bool {
	s := &r.state
	if floor <= s.Floor {
		return false
	}
	s.Floor, r.urgent = floor, true
	if s.Cursor == 0 || s.Cursor >= floor || r.waited {
		return false
	}
	r.suspend(fmt.Sprintf("events after %d were forgotten before they were pushed, so the subscriber has to load all records anew", s.Cursor))
	s.Cursor, s.Acknowledged, s.BatchEnd = floor, floor, 0
	return true
}

func (r *run) suspendAfter() time.Duration {
	if r.SuspendAfter > 0 {
		return r.SuspendAfter
	}
	return 24 * time.Hour
}
