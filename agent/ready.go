package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
)

// staleAfter is how long a feed may stand still, if three polls take no longer.
const staleAfter = 15 * time.Minute

// storeTimeout is how long the store may take to answer whether the agent is ready.
const storeTimeout = 5 * time.Second

var errStoreTimeout = errors.New("the store did not answer in time")

// unready says what keeps the agent from doing its work, in words for people; nothing if it does it. Anyone
// may read them, so they hold nothing of what a producer said.
func (a *agent) unready(ctx context.Context) []string {
	ctx, cancel := context.WithTimeoutCause(ctx, storeTimeout, errStoreTimeout)
	defer cancel()
	if _, err := a.store.Events(ctx, entityevent.View{Feed: entityevent.Local, Mask: entityevent.Everyone}, entityevent.EventQuery{Limit: 1}); err != nil {
		return []string{"the store does not answer"}
	}
	var reasons []string
	for _, f := range a.feeds {
		s, err := f.Status(ctx)
		if err != nil {
			reasons = append(reasons, "feed "+f.Name+": the store does not answer")
			continue
		}
		reasons = append(reasons, overdue(s, f.Poll, a.opened, time.Now())...)
	}
	return reasons
}

// overdue says what has kept a feed from being exact for too long. What did not happen since the agent
// was opened counts from then.
func overdue(s consumer.Status, poll string, opened, now time.Time) []string {
	var reasons []string
	add := func(since time.Time, what string) {
		if since.Before(opened) {
			since = opened
		}
		if now.After(stale(poll, since)) {
			reasons = append(reasons, fmt.Sprintf("feed %s: %s since %s", s.Feed, what, since.UTC().Format(time.RFC3339)))
		}
	}
	switch {
	case s.Loaded:
	case s.Loading != nil:
		add(opened, "not loaded yet, at "+plural(s.Loading.Records, "record"))
	default:
		add(opened, "not loaded yet")
	}
	if s.Polling.Failures > 0 {
		add(s.Polling.Since, "polling keeps failing")
	} else {
		add(s.Contact, "no contact with the producer")
	}
	if s.Applying.Failures > 0 {
		add(s.Applying.Since, "applying keeps failing")
	}
	if s.Pending > 0 {
		add(s.Moved, plural(s.Pending, "event")+" to apply and none applied")
	}
	if s.Behind {
		last := s.Level
		if last.Before(s.Whole) {
			last = s.Whole
		}
		add(last, "behind its producer")
	}
	return reasons
}

// stale is when a feed that stood well then, and did not since, is stale: after three polls, and not
// before staleAfter.
func stale(poll string, since time.Time) time.Time {
	limit := since.Add(staleAfter)
	schedule, err := cron.ParseStandard(poll)
	if err != nil {
		return limit
	}
	third := since
	for range 3 {
		third = schedule.Next(third)
	}
	if third.After(limit) {
		return third
	}
	return limit
}
