package subscription

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// The limits of registrations.
const (
	maxOpen     = 10_000 // subscriptions of the agent that are not cancelled
	maxOfClient = 2_000  // of them, of one client
	maxKept     = 20_000 // of one client, with the cancelled ones
)

// register takes a webhook. Whatever there is of it is stored in one commit before it is answered.
func (x *exchange) register() error {
	client, err := x.owner()
	if err != nil {
		return err
	}
	body, err := x.body()
	if err != nil {
		return err
	}
	key, err := x.idempotencyKey(client, body)
	if err != nil {
		return err
	}
	if done, err := key.answered(x); done || err != nil {
		return err
	}
	reg, set, err := x.asked(client, body)
	if err != nil {
		return err
	}
	sub := x.subscription(reg, client, set)
	x.changing.Lock()
	defer x.changing.Unlock()
	created, err := x.create(client, body, reg, sub, key)
	for key != nil && errors.Is(err, entityevent.ErrConflict) { // another request with this key was faster
		if done, err := key.answered(x); done || err != nil {
			return err
		}
		created, err = x.create(client, body, reg, sub, key)
	}
	if err != nil {
		return err
	}
	x.Pushers.Start(sub)
	return x.created(created)
}

// created answers with a new subscription, now or again.
func (x *exchange) created(d document) error {
	x.w.Header().Set("Location", x.Root+path(d.UUID))
	return x.answer(http.StatusCreated, d)
}

// asked is what a body asks for.
func (x *exchange) asked(client producer.Client, body members) (*registration, settings, error) {
	set := settings{BatchSize: defaultBatch, Timeout: defaultTimeout}
	if err := body.change(&set); err != nil {
		return nil, set, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, set, err
	}
	reg := &registration{UUID: id.String(), Client: client.Name, Created: time.Now().UTC().Truncate(time.Millisecond)}
	if err := body.fill(reg, set); err != nil {
		return nil, set, err
	}
	if err := x.checkTypes(x.r.Context(), client, reg.EventTypes); err != nil {
		return nil, set, err
	}
	if err := x.checkCallback(x.r.Context(), set.URL); err != nil {
		return nil, set, err
	}
	reg.set(x.Seal, set)
	return reg, set, nil
}

// fill reads what cannot be changed later.
func (m members) fill(reg *registration, set settings) (err error) {
	if reg.Mode, err = choose(m, "mode", producer.Continuous, producer.OnlyOnce); err != nil {
		return err
	}
	if err := m.read("consumerLabel", &reg.Label); err != nil {
		return err
	}
	if !printable(reg.Label) {
		return refuse(http.StatusForbidden, "consumerLabel: want up to 255 characters that print, without spaces at its ends")
	}
	usual, other := producer.RESO, producer.HAL
	if set.Token == "" && reg.Label == "" {
		usual, other = other, usual
	}
	if reg.Protocol, err = choose(m, "protocol", usual, other); err != nil {
		return err
	}
	if err := m.read("eventTypes", &reg.EventTypes); err != nil {
		return err
	}
	if len(reg.EventTypes) > maxTypes {
		return refuse(http.StatusForbidden, fmt.Sprintf("eventTypes names more than %d", maxTypes))
	}
	slices.Sort(reg.EventTypes)
	reg.EventTypes = slices.Compact(reg.EventTypes)
	return nil
}

// create stores a registration, the state in which it begins and the key under which that is answered again.
func (x *exchange) create(client producer.Client, body members, reg *registration, sub producer.Subscription, key *idempotency) (document, error) {
	ctx := x.r.Context()
	if err := x.room(ctx, client.Name); err != nil {
		return document{}, err
	}
	from, err := x.position(client, body)
	if err != nil {
		return document{}, err
	}
	stateDoc, err := producer.NewState(sub, from)
	if err != nil {
		return document{}, err
	}
	state, err := parseState(stateDoc)
	if err != nil {
		return document{}, err
	}
	d := x.represent(reg, state)
	d.Message = "Your request to subscribe has been accepted."
	docs := []entityevent.Doc{reg.document(), stateDoc}
	if key != nil {
		docs = append(docs, key.document(d))
	}
	_, err = x.Through().Apply(ctx, entityevent.Commit{Docs: docs})
	return d, err
}

// room refuses what would be too many. changing is held.
func (a *API) room(ctx context.Context, client string) error {
	var refused error
	if err := a.known(ctx, func(t *tally) { refused = t.room(client) }); err != nil {
		return err
	}
	return refused
}

func (t *tally) room(client string) error {
	own, kept := t.own[client], t.kept[client]
	switch {
	case own >= maxOfClient:
		return refuse(http.StatusForbidden, fmt.Sprintf("There are %d subscriptions of yours: cancel those that you do not need", own))
	case kept >= maxKept:
		return refuse(http.StatusForbidden, fmt.Sprintf("There are %d subscriptions of yours, with the cancelled ones: these are forgotten after 30 days", kept))
	case t.open >= maxOpen:
		return refuse(http.StatusForbidden, "This agent has as many subscriptions as it can have: follow the log by polling instead")
	}
	return nil
}

// position is where a body wants to begin: after fromSequence, or else at the head.
func (x *exchange) position(client producer.Client, body members) (entityevent.Sequence, error) {
	page, err := x.Store.Events(x.r.Context(), x.view(client), entityevent.EventQuery{After: math.MaxInt64, Limit: 1})
	if err != nil {
		return 0, fmt.Errorf("read head: %w", err)
	}
	if !body.set("fromSequence") {
		return page.Head, nil
	}
	from, err := body.sequence("fromSequence")
	switch {
	case err != nil:
		return 0, err
	case from > page.Head:
		return 0, &reply.Error{Status: http.StatusUnprocessableEntity,
			Detail: fmt.Sprintf("fromSequence is above the newest event, which is %d: leave it out to begin with what comes next", page.Head)}
	case from > 0 && from < page.Floor:
		return 0, refuse(http.StatusForbidden, fmt.Sprintf("Some of what follows %d was forgotten: begin at 0, or load all records and begin at %d", from, page.Floor))
	}
	return from, nil
}
