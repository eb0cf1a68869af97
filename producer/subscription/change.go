package subscription

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// errSettled ends a change that has nothing to change.
var errSettled = errors.New("it is so already")

// change changes where a subscription stands, with what else belongs to it, in one commit, and answers with what it
// then is. tell is called before anybody else can change it.
func (x *exchange) change(to func(*registration, *producer.SubscriptionState) ([]entityevent.Doc, error), tell func()) (document, error) {
	x.changing.Lock()
	defer x.changing.Unlock()
	var reg *registration
	var found producer.SubscriptionState
	state, err := producer.ChangeState(x.r.Context(), x.Through(), x.uuid, func(s *producer.SubscriptionState) (docs []entityevent.Doc, err error) {
		if reg, err = x.registration(x.r.Context(), x.uuid); err != nil { // again, for it belongs to the state that is compared
			return nil, err
		}
		found = *s
		return to(reg, s)
	})
	switch {
	case errors.Is(err, errSettled):
		return x.represent(reg, found), nil
	case errors.Is(err, entityevent.ErrAbsent):
		return document{}, errUnknown
	case err != nil:
		return document{}, err
	}
	tell()
	return x.represent(reg, state), nil
}

// put cancels, with the message that the body may bring.
func (x *exchange) put() error {
	if _, err := x.find(); err != nil {
		return err
	}
	body, err := x.body()
	if err != nil {
		return err
	}
	var named, message string
	if err := errors.Join(body.read("UUID", &named), body.read("message", &message)); err != nil {
		return err
	}
	if body.set("UUID") && !strings.EqualFold(named, x.uuid) {
		return refuse(http.StatusForbidden, "The UUID in the body is not that of the path: nothing was cancelled")
	}
	if !printable(message) {
		return refuse(http.StatusForbidden, "message: want up to 255 characters that print, without spaces at its ends")
	}
	if message == "" {
		message = cancelled
	}
	d, err := x.cancel(message)
	if err != nil {
		return err
	}
	return x.answer(http.StatusAccepted, d)
}

// remove cancels, too.
func (x *exchange) remove() error {
	if _, err := x.find(); err != nil {
		return err
	}
	if _, err := x.cancel(cancelled); err != nil {
		return err
	}
	x.w.WriteHeader(http.StatusNoContent)
	return nil
}

const cancelled = "Your subscription is cancelled."

func (x *exchange) cancel(message string) (document, error) {
	return x.change(func(_ *registration, s *producer.SubscriptionState) ([]entityevent.Doc, error) {
		if s.Status == producer.Cancelled {
			return nil, errSettled
		}
		s.Cancel(message)
		return nil, nil
	}, func() { x.Pushers.Wake(x.uuid) })
}

// activate resumes, if the body says so.
func (x *exchange) activate() error {
	return x.resumeIf(func(body members) error {
		status := ""
		if err := body.read("status", &status); err != nil {
			return err
		}
		if status != string(producer.Active) {
			return refuse(http.StatusForbidden, `By POST a subscription can only be resumed: {"status": "active"}. PUT or DELETE cancels it.`)
		}
		return nil
	})
}

func (x *exchange) resume() error {
	return x.resumeIf(func(members) error { return nil })
}

// resumeIf goes on from where the subscription stands, or from the position that the body names, unless it is refused.
func (x *exchange) resumeIf(allowed func(members) error) error {
	r, err := x.find()
	if err != nil {
		return err
	}
	body, err := x.body()
	if err != nil {
		return err
	}
	if err := allowed(body); err != nil {
		return err
	}
	client, err := x.entitled(r)
	if err != nil {
		return err
	}
	from, err := x.position(client, body)
	if err != nil {
		return err
	}
	var sub producer.Subscription
	stood := false
	d, err := x.change(func(r *registration, s *producer.SubscriptionState) ([]entityevent.Doc, error) {
		if s.Status == producer.Cancelled {
			return nil, errCancelled
		}
		set, err := r.settings(x.Seal)
		if err != nil {
			return nil, errUnreadable
		}
		stood, sub = s.Status == producer.Suspended, x.subscription(r, client, set)
		s.Resume()
		if body.set("fromSequence") {
			s.Replay(from)
		}
		return nil, nil
	}, func() {
		if stood {
			x.Pushers.Start(sub) // it may have none
		} else {
			x.Pushers.Wake(x.uuid)
		}
	})
	if err != nil {
		return err
	}
	d.Message = fmt.Sprintf("Your subscription goes on after %d.", d.Cursor)
	return x.answer(http.StatusAccepted, d)
}

var (
	errCancelled  = refuse(http.StatusForbidden, "This subscription is cancelled, for good: register a new one")
	errUnreadable = refuse(http.StatusForbidden, "The callback of this subscription cannot be read with this agent's key any more: give callbackUrl, callbackToken and secret again, by PATCH")
)

// entitled returns the client of a subscription, unless it may have it no longer.
func (x *exchange) entitled(r *registration) (producer.Client, error) {
	client := x.who.Client
	if r.Client != client.Name {
		var known bool
		if client, known = x.Clients(r.Client); !known {
			return client, refuse(http.StatusForbidden, "The client of this subscription is not in the configuration")
		}
	}
	return client, x.checkTypes(x.r.Context(), client, r.EventTypes)
}

// patch changes the settings. One that was suspended is tried again if its callback, token or secret is
// another one.
func (x *exchange) patch() error {
	r, err := x.find()
	if err != nil {
		return err
	}
	body, err := x.body()
	if err != nil {
		return err
	}
	for _, name := range []string{"mode", "eventTypes", "protocol", "consumerLabel", "fromSequence", "status"} {
		if body.set(name) {
			return refuse(http.StatusForbidden, name+" cannot be changed by PATCH, only callbackUrl, callbackToken, secret, batchSize and timeout: cancel this subscription and register a new one, or resume it")
		}
	}
	client, err := x.entitled(r)
	if err != nil {
		return err
	}
	if body.set("callbackUrl") {
		asked := settings{BatchSize: defaultBatch, Timeout: defaultTimeout}
		if err := body.change(&asked); err != nil {
			return err
		}
		if err := x.checkCallback(x.r.Context(), asked.URL); err != nil {
			return err
		}
	}
	var sub producer.Subscription
	d, err := x.change(func(r *registration, s *producer.SubscriptionState) ([]entityevent.Doc, error) {
		if s.Status == producer.Cancelled {
			return nil, errCancelled
		}
		before, err := r.settings(x.Seal)
		if err != nil && !body.set("callbackUrl") {
			return nil, errUnreadable
		}
		after := before
		if err := body.change(&after); err != nil {
			return nil, err
		}
		if after == before {
			return nil, errSettled
		}
		if after.URL != before.URL || after.Token != before.Token || after.Secret != before.Secret {
			s.Resume() // as its pusher would: they are another endpoint
		}
		r.set(x.Seal, after)
		sub = x.subscription(r, client, after)
		return []entityevent.Doc{r.document()}, nil
	}, func() { x.Pushers.Start(sub) })
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, d)
}
