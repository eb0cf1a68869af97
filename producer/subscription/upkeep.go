package subscription

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// Active returns all registered subscriptions that want a pusher, for the agent's start: also suspended ones, which
// go on when they are resumed. One whose client is no longer in the configuration, or whose secrets cannot be opened, or
// whose event types now belong to an endpoint of the configuration, is suspended with that reason instead.
func (a *API) Active(ctx context.Context) ([]producer.Subscription, error) {
	subs, stopping, err := a.Plan(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range stopping {
		err := a.stop(ctx, s.UUID)
		if err != nil && !errors.Is(err, errSettled) && !errors.Is(err, errUnknown) && !errors.Is(err, entityevent.ErrAbsent) {
			return nil, err
		}
	}
	return subs, nil
}

// stop suspends a subscription that cannot be pushed to. It is errSettled if its owner has mended that, or ended it, since
// it was looked at, and errUnknown if it was forgotten.
func (a *API) stop(ctx context.Context, uuid string) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	_, err := producer.ChangeState(ctx, a.Through(), uuid, func(s *producer.SubscriptionState) ([]entityevent.Doc, error) {
		r, err := a.registration(ctx, uuid)
		if err != nil {
			return nil, err
		}
		_, reason, err := a.revive(ctx, r)
		if err != nil {
			return nil, err
		}
		if reason == "" || s.Status != producer.Active {
			return nil, errSettled
		}
		s.Suspend(reason)
		return nil, nil
	})
	return err
}

// Stopping is a registered subscription that Active suspends.
type Stopping struct {
	UUID   string `json:"uuid"`
	Client string `json:"client"`
	Reason string `json:"reason"` // for people
}

// Plan says what Active would return now, and which active ones it would suspend. It changes nothing.
func (a *API) Plan(ctx context.Context) (subs []producer.Subscription, stopping []Stopping, err error) {
	all, err := a.registrations(ctx)
	if err != nil {
		return nil, nil, err
	}
	states, err := a.states(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range all {
		state, there := states[r.UUID]
		if !there || state.Status == producer.Cancelled {
			continue
		}
		sub, reason, err := a.revive(ctx, r)
		switch {
		case err != nil:
			return nil, nil, err
		case reason == "":
			subs = append(subs, sub)
		case state.Status == producer.Active:
			stopping = append(stopping, Stopping{r.UUID, r.Client, reason})
		}
	}
	return subs, stopping, nil
}

// revive is what is pushed to, or why it cannot be.
func (a *API) revive(ctx context.Context, r *registration) (sub producer.Subscription, reason string, err error) {
	client, known := a.Clients(r.Client)
	if !known {
		return sub, "its client " + r.Client + " is no longer in the configuration; when it is there again, resume the subscription", nil
	}
	set, err := r.settings(a.Seal)
	if err != nil {
		return sub, errUnreadable.Detail, nil
	}
	err = a.checkTypes(ctx, client, r.EventTypes)
	if refusal := producer.RefusalOf(err); err != nil && refusal.Status != 503 {
		return sub, refusal.Detail, nil
	}
	return a.subscription(r, client, set), "", err
}

// suspend stops a subscription where it stands, unless it is cancelled.
func (a *API) suspend(ctx context.Context, name, reason string) error {
	_, err := producer.ChangeState(ctx, a.Through(), name, func(s *producer.SubscriptionState) ([]entityevent.Doc, error) {
		if s.Status == producer.Cancelled {
			return nil, errSettled
		}
		s.Suspend(reason)
		return nil, nil
	})
	return err
}

// SuspendClient suspends all subscriptions of a client that are not cancelled, with a reason for people, and returns their
// names. It is durable when it returns. After an error some may be suspended, which are returned, and it may be repeated.
func (a *API) SuspendClient(ctx context.Context, client, reason string) (names []string, err error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	var mine []string
	err = a.known(ctx, func(t *tally) {
		for _, e := range t.all {
			if e.client == client && e.state != nil {
				mine = append(mine, e.uuid)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	outcomes := make([]error, len(mine))
	var all errgroup.Group
	all.SetLimit(64) // they share commits
	for i, name := range mine {
		all.Go(func() error {
			if outcomes[i] = a.suspend(ctx, name, reason); outcomes[i] == nil {
				a.Pushers.Wake(name)
			}
			return nil
		})
	}
	_ = all.Wait() // each has its own error
	var failed []error
	for i, name := range mine {
		switch err := outcomes[i]; {
		case err == nil:
			names = append(names, name)
		case !errors.Is(err, errSettled) && !errors.Is(err, entityevent.ErrAbsent):
			failed = append(failed, err)
		}
	}
	return names, errors.Join(failed...)
}

// keepCancelled is how long a cancelled subscription can be read.
const keepCancelled = 30 * 24 * time.Hour

// Sweep forgets what was cancelled 30 days ago, and the idempotency keys of yesterday. It may run beside all else; what
// it could not do the next one does.
func (a *API) Sweep(ctx context.Context) error {
	err := errors.Join(a.sweepCancelled(ctx), a.sweepKeys(ctx))
	a.tally.taking.Lock()
	defer a.tally.taking.Unlock()
	return errors.Join(err, a.take(ctx))
}

// sweepCancelled forgets each subscription with its registration.
func (a *API) sweepCancelled(ctx context.Context) error {
	docs, err := a.Store.List(ctx, producer.SubscriptionKind)
	if err != nil {
		return fmt.Errorf("list subscriptions: %w", err)
	}
	for _, doc := range docs {
		state, err := parseState(doc)
		if err != nil {
			return err
		}
		if state.Status != producer.Cancelled || time.Since(state.Since) < keepCancelled {
			continue
		}
		reg, err := a.Store.Get(ctx, registrationKind, doc.ID)
		if err != nil {
			return fmt.Errorf("registration %s: %w", doc.ID, err)
		}
		if reg.Version == 0 {
			continue
		}
		if err := a.drop(ctx, doc, reg); err != nil {
			return fmt.Errorf("forget subscription %s: %w", doc.ID, err)
		}
	}
	return nil
}

func (a *API) sweepKeys(ctx context.Context) error {
	docs, err := a.Store.List(ctx, idempotencyKind)
	if err != nil {
		return fmt.Errorf("list idempotency keys: %w", err)
	}
	for _, doc := range docs {
		k, err := parseKey(doc)
		if err != nil {
			return err
		}
		if !k.over() {
			continue
		}
		if err := a.drop(ctx, doc); err != nil {
			return fmt.Errorf("forget idempotency keys: %w", err)
		}
	}
	return nil
}

// drop removes documents in one commit, unless one of them was changed meanwhile.
func (a *API) drop(ctx context.Context, docs ...entityevent.Doc) error {
	for i := range docs {
		docs[i].Body = nil
	}
	_, err := a.Through().Apply(ctx, entityevent.Commit{Docs: docs})
	if errors.Is(err, entityevent.ErrConflict) {
		return nil
	}
	return err
}
