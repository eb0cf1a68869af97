package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// status is the answer to GET /admin/status.
type status struct {
	Name          string                      `json:"name"`
	Version       string                      `json:"version"`
	Log           entityevent.LogID           `json:"log"`
	Head          entityevent.Sequence        `json:"head"`    // the newest sequence given out
	Records       map[string]map[string]int64 `json:"records"` // by feed and resource
	Feeds         []consumer.Status           `json:"feeds"`
	Subscriptions []subscriptionStatus        `json:"subscriptions"`      // of the configuration
	Registered    registeredStatus            `json:"registered"`         // by clients
	Restored      *producer.RestoredState     `json:"restored,omitempty"` // what proves that the store was restored from a backup
	Reviewing     time.Time                   `json:"reviewing,omitzero"` // since when what profiles show is brought up to date
	Profiles      string                      `json:"profiles,omitempty"` // what the agent would do to the store's, if it is not done
	Unready       []string                    `json:"unready,omitempty"`  // why /readyz is red
	Error         string                      `json:"error,omitempty"`    // why the rest is not complete
}

type subscriptionStatus struct {
	producer.SubscriptionState
	Lag   int64     `json:"lag"`            // events that wait to be pushed, counted up to lagShown
	Since time.Time `json:"since,omitzero"` // when the oldest of them was committed
	Gone  bool      `json:"gone,omitempty"` // it is no longer in the configuration

	Client string `json:"client,omitempty"` // who registered it
}

// lagShown bounds the counting of waiting events.
const lagShown = 10_000

func (a *agent) serveStatus(w http.ResponseWriter, r *http.Request) {
	reply.Write(w, http.StatusOK, reply.JSON, a.status(r.Context()))
}

// status says all that it can: of a store that fails, why.
func (a *agent) status(ctx context.Context) status {
	s := status{Name: a.config.Name, Version: versionText(), Log: a.store.LogID(), Records: map[string]map[string]int64{},
		Feeds: []consumer.Status{}, Subscriptions: []subscriptionStatus{}}
	s.Reviewing = a.review.underWay()
	v := a.vitals(ctx)
	s.Feeds, s.Subscriptions, s.Restored = append(s.Feeds, v.feeds...), append(s.Subscriptions, v.subscriptions...), v.restored
	s.Registered = v.registered
	s.Registered.Subscriptions = slices.Clone(v.registered.Subscriptions) // others have the look, too
	err := cmp.Or(v.err, v.incomplete)
	if err == nil {
		err = a.counts(ctx, &s)
	}
	if err == nil && !a.pushers.underWay() {
		_, s.Registered.Stopping, err = a.registered.Plan(ctx)
	}
	if err == nil {
		var changed bool
		if _, changed, err = a.store.PlanProfiles(ctx, a.profiles); changed {
			s.Profiles = profilesDiffer
		}
	}
	if err != nil {
		s.Error = err.Error()
	}
	s.Unready = texts(a.reasons(v, time.Now()))
	return s
}

const profilesDiffer = "the profiles of the configuration are not set in the store yet: the next `resosync run`, `import` or `sync` sets them"

// counts adds what takes more reading than the vitals.
func (a *agent) counts(ctx context.Context, s *status) error {
	var err error
	if s.Head, err = a.head(ctx); err != nil {
		return err
	}
	for feed, schema := range a.schemas {
		resources, err := schema.Resources(ctx)
		if err != nil {
			return err
		}
		for _, resource := range resources {
			n, err := a.store.Count(ctx, entityevent.View{Feed: feed, Mask: entityevent.Everyone}, entityevent.Query{Resource: resource})
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			if s.Records[feed] == nil {
				s.Records[feed] = map[string]int64{}
			}
			s.Records[feed][resource] = n
		}
	}
	for i := range s.Subscriptions {
		sub, _ := a.subscription(s.Subscriptions[i].Name)
		if err := a.countLag(ctx, &s.Subscriptions[i], sub); err != nil {
			return err
		}
	}
	return a.registeredLags(ctx, &s.Registered)
}

// head is the newest sequence given out.
func (a *agent) head(ctx context.Context) (entityevent.Sequence, error) {
	page, err := a.store.Events(ctx, entityevent.View{Feed: entityevent.Local, Mask: entityevent.Everyone}, entityevent.EventQuery{Order: entityevent.NewestFirst, Limit: 1})
	return page.Head, err
}

// notBegun is the status of a subscription that was never run: it will begin at the head of the log.
const notBegun producer.SubscriptionStatus = "not begun"

// subscriptionStatuses are those of the subscriptions in the configuration, and of all that ever were there, but for
// those that clients registered.
func (a *agent) subscriptionStatuses(ctx context.Context, states []producer.SubscriptionState) ([]subscriptionStatus, error) {
	var all []subscriptionStatus
	for _, state := range states {
		one, err := a.subscriptionStatus(ctx, state)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	for _, sub := range a.subscriptions {
		if !slices.ContainsFunc(states, func(state producer.SubscriptionState) bool { return state.Name == sub.Name }) {
			all = append(all, subscriptionStatus{SubscriptionState: producer.SubscriptionState{Name: sub.Name, Status: notBegun}})
		}
	}
	return all, nil
}

// subscriptionStatus says how a subscription is, and how far it is behind at most.
func (a *agent) subscriptionStatus(ctx context.Context, state producer.SubscriptionState) (subscriptionStatus, error) {
	s := subscriptionStatus{SubscriptionState: state}
	sub, known := a.subscription(state.Name)
	if s.Gone = !known; s.Gone {
		return s, nil
	}
	var err error
	s.Lag, s.Since, err = a.waiting(ctx, sub, state.Cursor)
	return s, err
}

func (p *program) statusCommand() *cobra.Command {
	var ready bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Say how the feeds and subscriptions are",
		Long: `status says how exact each feed is, how far each subscription is, what goes wrong and what to do about it.

A feed is exact as of the last moment at which its producer had nothing new and everything was applied.

With --ready it asks the running agent whether it is ready, as GET /readyz does, and prints why it is not. The exit
status is 1 if it is not, and if no agent runs: it is what a container's health check calls.`,
		Example: `  resosync status
  resosync status --json
  resosync status --ready || echo "something is wrong"`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if ready {
				return p.printReady(c.Context())
			}
			return p.withSession(c, func(ctx context.Context, s *session) error {
				var now status
				if err := s.call(ctx, http.MethodGet, "/admin/status", nil, &now); err != nil {
					return err
				}
				if p.json {
					return p.printJSON(struct {
						status
						Running bool   `json:"running"`
						Address string `json:"address,omitempty"`
					}{now, s.remote, s.address()})
				}
				p.printStatus(now, s)
				return nil
			})
		},
	}
	c.Flags().BoolVar(&ready, "ready", false, "only say whether the running agent is ready; exit status 1 if not")
	return c
}

func (p *program) printStatus(now status, s *session) {
	if s.remote {
		p.printf("%s: running at %s\n", now.Name, s.base)
	} else {
		p.printf("%s: not running; start it with: resosync run\n", now.Name)
	}
	for _, reason := range now.Unready {
		p.printf("not ready: %s\n", reason)
	}
	if now.Error != "" {
		p.printf("what follows is not complete: %s\n", now.Error)
	}
	p.printf("log %s, head %d\n", now.Log, now.Head)
	if r := now.Restored; r != nil {
		p.printf("restored from a backup: %s had read up to %d when the log ended at %d (%s); give the log a new name, so that all read it anew: resosync log new-id\n",
			r.By, r.Seq, r.Head, r.At.Local().Format(time.DateTime))
		p.printf("    if no backup was restored, %s is wrong: resosync log keep-id\n", r.By)
	}
	if now.Profiles != "" {
		p.printf("%s\n", now.Profiles)
	}
	if !now.Reviewing.IsZero() {
		p.printf("profiles changed: what their clients see is brought up to date since %s\n", now.Reviewing.Local().Format(time.TimeOnly))
	}
	for _, feed := range slices.Sorted(maps.Keys(now.Records)) {
		p.printf("records of %s:", feed)
		separator := " "
		for _, resource := range slices.Sorted(maps.Keys(now.Records[feed])) {
			p.printf("%s%s %s", separator, count(now.Records[feed][resource]), resource)
			separator = ", "
		}
		p.printf("\n")
	}
	for _, f := range now.Feeds {
		p.printf("feed %s: %s\n", f.Feed, feedText(f, s.remote))
		if r := f.Registration; r != nil && r.State != consumer.Registered {
			p.printf("    its pushes are %s: %s\n", r.State, cmp.Or(r.Reason, "no reason was given"))
		}
		if f.Held > 0 {
			p.printf("    the producer says that %s; look at them: resosync aside list %s; if that is right: resosync reconcile %s --allow-deletes\n",
				pluralAre(int64(f.Held), "record")+" gone, which is too many to believe at once", f.Feed, f.Feed)
		}
	}
	for _, sub := range now.Subscriptions {
		p.printf("subscription %s: %s\n", sub.Name, subscriptionText(sub))
		if sub.Status == producer.Suspended && !sub.Gone {
			p.printf("    when that is put right: resosync resume %s\n", sub.Name)
		}
	}
	p.printRegistered(now.Registered)
}

func feedText(f consumer.Status, running bool) string {
	var text string
	switch {
	case f.Loading != nil:
		text = fmt.Sprintf("loading, %s so far", plural(f.Loading.Records, "record"))
	case !f.Loaded:
		text = "not loaded yet"
		if !running {
			text += "; load it with: resosync sync " + f.Feed
		}
	case !f.Level.IsZero() && !f.Behind && f.Pending == 0 && f.Held == 0:
		text = "exact as of " + f.Level.Local().Format(time.TimeOnly)
	case f.Behind:
		text = "behind"
	default:
		text = fmt.Sprintf("at %d", f.Sequence)
	}
	text += fmt.Sprintf(", %s behind, %s set aside", count(f.Pending), count(int64(f.Aside)))
	if f.Recheck > 0 {
		text += fmt.Sprintf(", %s to look at again", count(int64(f.Recheck)))
	}
	if f.Held > 0 {
		text += fmt.Sprintf(", %s held", plural(int64(f.Held), "removal"))
	}
	if !f.Halted.IsZero() {
		text += "; its producer wants no requests until " + f.Halted.Local().Format(time.TimeOnly)
	}
	return text + troubleText("polling", f.Polling) + troubleText("applying", f.Applying) + troubleText("reconciling", f.Reconciling)
}

func troubleText(what string, t consumer.Trouble) string {
	if t.Failures == 0 {
		return ""
	}
	return fmt.Sprintf("; %s fails since %s (%d times): %s", what, t.Since.Local().Format(time.TimeOnly), t.Failures, t.Error)
}

func subscriptionText(s subscriptionStatus) string {
	switch {
	case s.Gone:
		return fmt.Sprintf("no longer in the configuration, at %d", s.Cursor)
	case s.Status == notBegun:
		return "not begun; it begins with what changes once the agent runs"
	}
	lag := count(s.Lag)
	if s.Lag >= lagShown {
		lag = "over " + count(lagShown)
	}
	text := fmt.Sprintf("%s at %d, %s behind", s.Status, s.Cursor, lag)
	if s.Lag > 0 {
		text += " for " + age(time.Since(s.Since))
	}
	if s.Reason != "" {
		text += "; " + s.Reason
	}
	if wait := time.Until(s.HaltedUntil); wait > 0 {
		text += "; tries again in " + age(wait)
	}
	if !s.FailingSince.IsZero() {
		text += fmt.Sprintf("; fails since %s (%d times): %s", s.FailingSince.Local().Format(time.TimeOnly), s.Attempts, s.LastError)
	}
	return text
}
