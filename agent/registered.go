package main

import (
	"context"
	"slices"
	"time"

	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/subscription"
)

// registeredStatus is how the subscriptions are that clients registered. Their callbacks are their owners' business: what
// is wrong with them does not make the agent unready.
type registeredStatus struct {
	Active    int       `json:"active"`
	Suspended int       `json:"suspended"`
	Cancelled int       `json:"cancelled"`
	Lag       int64     `json:"lag"`            // events that wait for the active one that is furthest behind, at most
	Since     time.Time `json:"since,omitzero"` // when the oldest of them was committed
	// Subscriptions are those that are not cancelled, the oldest first: registeredShown at most.
	Subscriptions []subscriptionStatus `json:"subscriptions"`
	// Stopping are the active ones that an agent would suspend as it starts. Only while none runs.
	Stopping []subscription.Stopping `json:"stopping,omitempty"`
}

// registeredShown is how many registered subscriptions are shown one by one.
const registeredShown = 100

// registered is the label of their figures: there may be thousands.
const registered = "registered"

// registeredStatus sums up what was registered. It reads the log once for all who want the same of it: if nothing waits for
// the one of them that is furthest behind, nothing waits for any. After registeredShown kinds of narrowed ones, others count
// as if they wanted everything.
func (a *agent) registeredStatus(ctx context.Context, all subscription.Registered) (registeredStatus, error) {
	now := registeredStatus{Cancelled: all.Cancelled, Subscriptions: []subscriptionStatus{}}
	last := map[wants]subscription.Standing{}
	for _, s := range all.Standing {
		if len(now.Subscriptions) < registeredShown {
			now.Subscriptions = append(now.Subscriptions, subscriptionStatus{SubscriptionState: *s.State, Client: s.Client})
		}
		if s.State.Status == producer.Suspended {
			now.Suspended++
			continue
		}
		now.Active++
		w := wantsOf(s.Subscription)
		at, known := last[w]
		if !known && len(last) >= registeredShown {
			s.EventTypes = nil
			w = wantsOf(s.Subscription)
			at, known = last[w]
		}
		if !known || s.State.Cursor < at.State.Cursor {
			last[w] = s
		}
	}
	for _, s := range last {
		lag, since, err := a.waiting(ctx, s.Subscription, s.State.Cursor)
		if err != nil {
			return now, err
		}
		if now.Lag = max(now.Lag, lag); now.Since.IsZero() || !since.IsZero() && since.Before(now.Since) {
			now.Since = since
		}
	}
	return now, nil
}

// registeredLags adds to those that are shown how far behind they are.
func (a *agent) registeredLags(ctx context.Context, now *registeredStatus) error {
	all, err := a.registered.Registered(ctx)
	if err != nil {
		return err
	}
	for i := range now.Subscriptions {
		s := &now.Subscriptions[i]
		at := slices.IndexFunc(all.Standing, func(is subscription.Standing) bool { return is.Name == s.Name })
		if at < 0 { // cancelled meanwhile
			continue
		}
		sub := all.Standing[at].Subscription
		if s.Lag, s.Since, err = a.waiting(ctx, sub, s.Cursor); err == nil {
			err = a.countLag(ctx, s, sub)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *program) printRegistered(now registeredStatus) {
	for _, s := range now.Subscriptions {
		p.printf("subscription %s of %s: %s\n", s.Name, s.Client, subscriptionText(s))
		if s.Status == producer.Suspended {
			p.printf("    when that is put right: resosync resume %s; or end it: resosync cancel %s\n", s.Name, s.Name)
		}
	}
	if more := now.Active + now.Suspended - len(now.Subscriptions); more > 0 {
		p.printf("and %s; in all %s active and %s suspended: resosync subscriptions\n", plural(int64(more), "registered subscription"),
			count(int64(now.Active)), count(int64(now.Suspended)))
	}
	for _, f := range stoppingFindings(now.Stopping) {
		p.printf("%s: %s\n    %s\n", f.Subject, f.Text, f.Remedy)
	}
}

// stoppingFindings says which registered subscriptions the agent would suspend as it starts, and why. It is no failure:
// who is no longer in the configuration was perhaps taken out of it for that.
func stoppingFindings(all []subscription.Stopping) (findings []finding) {
	for _, s := range all[:min(len(all), registeredShown)] {
		findings = append(findings, finding{Subject: "subscription " + s.UUID + " of " + s.Client, OK: true,
			Text:   "it is suspended when the agent starts: " + s.Reason,
			Remedy: "if that is not meant, put it right before that; to end it: resosync cancel " + s.UUID})
	}
	if more := len(all) - len(findings); more > 0 {
		findings = append(findings, finding{Subject: "subscriptions", OK: true, Text: plural(int64(more), "registered subscription") + " more are suspended when the agent starts",
			Remedy: "all are listed by: resosync status --json"})
	}
	return findings
}
