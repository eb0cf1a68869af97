package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/producer"
)

// staleAfter is how long a feed may stand still, if its configuration does not say and three polls take no
// longer.
const staleAfter = 15 * time.Minute

// reason is something that keeps the agent from doing its work, and what to do, in words for people. Anyone
// may read them, so they hold nothing of what a producer or a subscriber said.
type reason struct {
	about string // which it is of those that an agent can have: it stays while the text changes
	text  string
}

// unready says why /readyz is red; nothing if it is green.
func (a *agent) unready(ctx context.Context) []reason {
	return a.reasons(a.lookout.look(ctx), time.Now())
}

// reasons are what one look says that is wrong. What is wrong here counts at once; what others
// may be to blame for counts when it has lasted.
func (a *agent) reasons(v vitals, now time.Time) []reason {
	reasons := a.probe.reasons(now)
	busy := errors.Is(v.err, errLookTimeout) && a.probe.works(now)
	if v.err != nil && !busy && len(reasons) == 0 {
		reasons = append(reasons, reason{"store", "the store does not answer: look at the disk of the data folder and at the log"})
	}
	if v.restored != nil {
		reasons = append(reasons, reason{"restored", "the store was restored from a backup, for a reader knows events that it no longer has: run `resosync log new-id`; if it was not restored, `resosync status` names the reader and says what to do"})
	}
	for _, s := range v.subscriptions {
		if s.Status == producer.Suspended && !s.Gone {
			reasons = append(reasons, reason{"subscription " + s.Name, fmt.Sprintf("subscription %s is suspended: `resosync status` says why, `resosync resume %s` lets it go on", s.Name, s.Name)})
		}
	}
	for _, s := range v.feeds {
		reasons = append(reasons, broken(s)...)
		reasons = append(reasons, overdue(s, a.limits[s.Feed], a.opened, now)...)
	}
	return reasons
}

func texts(reasons []reason) []string {
	var all []string
	for _, r := range reasons {
		all = append(all, r.text)
	}
	return all
}

// readyPatience is how long an agent may take to say whether it is ready.
const readyPatience = 8 * time.Second

// printReady says whether the running agent is ready; if not it returns errReported. It takes no lock and
// writes nothing, so that it can run beside an agent that starts or stops, at any time.
func (p *program) printReady(ctx context.Context) error {
	cfg, err := config.Load(p.configFile)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readyPatience, fmt.Errorf("it did not answer within %v", readyPatience))
	defer cancel()
	reasons := askReady(ctx, readHolder(cfg.Data))
	if p.json {
		err = p.printJSON(map[string]any{"ready": len(reasons) == 0, "reasons": reasons})
	} else if len(reasons) == 0 {
		p.printf("ready\n")
	}
	for _, text := range reasons {
		if !p.json {
			p.printf("not ready: %s\n", text)
		}
	}
	if err == nil && len(reasons) > 0 {
		err = errReported
	}
	return err
}

// askReady returns why the agent that holds a data folder is not ready.
func askReady(ctx context.Context, by holder) []string {
	if by.Address == "" {
		return []string{"no agent runs on the data folder: start it with `resosync run`"}
	}
	s := localSession(by.Address, "")
	defer s.close() //nolint:errcheck // it cannot fail
	_, err := s.body(ctx, "/readyz")
	var refused statusError
	switch {
	case errors.As(err, &refused) && refused.reasons != nil:
		return refused.reasons
	case err != nil:
		return []string{"the agent does not answer: " + err.Error()}
	}
	return []string{}
}

// asideMany is how many records of a feed may be set aside, for reasons of their own, before somebody has to
// look: more are no longer single ones.
const asideMany = 100

// broken says what stops a feed and does not heal by waiting.
func broken(s consumer.Status) []reason {
	var reasons []reason
	for _, t := range []consumer.Trouble{s.Applying, s.Polling} {
		if t.Store { // also while all that the probe writes is stored
			reasons = append(reasons, reason{"store of " + s.Feed, fmt.Sprintf("feed %s: the store does not take what the producer sends since %s: look at the disk of the data folder, `resosync status` says more",
				s.Feed, t.Since.UTC().Format(time.RFC3339))})
			break
		}
	}
	if s.Aside > asideMany {
		reasons = append(reasons, reason{"aside " + s.Feed, fmt.Sprintf("feed %s: %s could not be brought up to date: `resosync aside list %s` says why",
			s.Feed, plural(int64(s.Aside), "record"), s.Feed)})
	}
	if s.Held > 0 {
		reasons = append(reasons, reason{"held " + s.Feed, fmt.Sprintf("feed %s: %s held, because too much would go at once: look at them with `resosync aside list %s`; if they are right, release them with `resosync reconcile %s --allow-deletes`",
			s.Feed, pluralAre(int64(s.Held), "removal"), s.Feed, s.Feed)})
	}
	return reasons
}

// limit says when a feed is stale.
type limit struct {
	poll  string        // its schedule
	after time.Duration // 0: three polls, at least staleAfter
}

// overdue says what has kept a feed from being exact for too long. What did not happen since the agent
// was opened counts from then.
func overdue(s consumer.Status, l limit, opened, now time.Time) []reason {
	var reasons []reason
	add := func(what string, since time.Time, text, remedy string) {
		if since.Before(opened) {
			since = opened
		}
		if now.After(l.stale(since)) {
			reasons = append(reasons, reason{what + " " + s.Feed, fmt.Sprintf("feed %s: %s since %s: %s", s.Feed, text, since.UTC().Format(time.RFC3339), remedy)})
		}
	}
	const says = "`resosync status` says more"
	switch {
	case s.Loaded:
	case s.Loading != nil:
		add("load", opened, "not loaded yet, at "+plural(s.Loading.Records, "record"), says)
	default:
		add("load", opened, "not loaded yet", says)
	}
	const tries = "`resosync check` tries to reach it"
	if s.Polling.Failures > 0 {
		add("poll", s.Polling.Since, "polling keeps failing", tries)
	} else {
		add("poll", s.Contact, "no contact with the producer", tries)
	}
	if s.Applying.Failures > 0 {
		add("apply", s.Applying.Since, "applying keeps failing", says)
	}
	if s.Pending > 0 {
		add("move", s.Moved, plural(s.Pending, "event")+" to apply and none applied", says)
	}
	if s.Behind {
		last := s.Level
		if last.Before(s.Whole) {
			last = s.Whole
		}
		add("behind", last, "behind its producer", says)
	}
	return reasons
}

// stale is when a feed that stood well then, and did not since, is stale.
func (l limit) stale(since time.Time) time.Time {
	if l.after > 0 {
		return since.Add(l.after)
	}
	earliest := since.Add(staleAfter)
	schedule, err := cron.ParseStandard(l.poll)
	if err != nil {
		return earliest
	}
	third := since
	for range 3 {
		third = schedule.Next(third)
	}
	if third.After(earliest) {
		return third
	}
	return earliest
}

// readyEvery is how often the agent looks whether it is ready when nobody asks, to log it.
const readyEvery = 10 * time.Second

// watch logs what keeps the agent from being ready, when it begins and when it is over, until ctx ends.
func (a *agent) watch(ctx context.Context) error {
	ticks := time.NewTicker(readyEvery)
	defer ticks.Stop()
	known := map[string]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
		logReady(a.logger, known, a.unready(ctx))
	}
}

// logReady logs which reasons are new, and which of those known are gone.
func logReady(logger *slog.Logger, known map[string]time.Time, reasons []reason) {
	now := time.Now()
	there := map[string]bool{}
	for _, r := range reasons {
		there[r.about] = true
		if _, old := known[r.about]; !old {
			known[r.about] = now
			logger.Error("not ready", "about", r.about, "err", r.text)
		}
	}
	for about, since := range known {
		if !there[about] {
			delete(known, about)
			logger.Info("recovered", "about", about, "after", age(now.Sub(since)))
		}
	}
}
