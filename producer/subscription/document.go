package subscription

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// document is a subscription as its owner sees it: without callback URL, token and secret.
type document struct {
	Links         reply.Links                 `json:"_links"`
	UUID          string                      `json:"UUID"`
	Status        producer.SubscriptionStatus `json:"status"`
	Mode          producer.Mode               `json:"mode"`
	EventTypes    []string                    `json:"eventTypes"` // empty: all
	Cursor        entityevent.Sequence        `json:"cursor"`
	LastError     string                      `json:"lastError,omitempty"`
	Message       string                      `json:"message,omitempty"`
	Protocol      producer.Protocol           `json:"protocol"`
	ConsumerLabel string                      `json:"consumerLabel,omitempty"`
	BatchSize     int                         `json:"batchSize"`
	Timeout       string                      `json:"timeout"`
	Client        string                      `json:"client"`
	Created       time.Time                   `json:"created"`
}

func (a *API) represent(r *registration, s producer.SubscriptionState) document {
	self := a.href(path(r.UUID))
	return document{
		Links: reply.Links{"self": reply.Link{Href: self}, "event-types": reply.Link{Href: a.href("/event-types")},
			"resume": reply.Link{Href: self + "/resume"}, "cancel": reply.Link{Href: self}},
		UUID: r.UUID, Status: s.Status, Mode: r.Mode, EventTypes: append([]string{}, r.EventTypes...), Cursor: s.Cursor,
		LastError: s.LastError, Message: s.Reason, Protocol: r.Protocol, ConsumerLabel: r.Label,
		BatchSize: r.BatchSize, Timeout: r.Timeout.String(), Client: r.Client, Created: r.Created,
	}
}

// listed is how many subscriptions are in one page of the list.
const listed = 1000

// list answers with the caller's subscriptions; the admin token sees all, or those of ?client. What does not go into one
// page is behind its link next.
func (x *exchange) list() error {
	query := x.r.URL.Query()
	name := query.Get("client")
	if _, known := x.Clients(x.who.Name); known || name != "" {
		owner, err := x.owner()
		if err != nil {
			return err
		}
		name = owner.Name
	} else if !x.who.admin {
		name = x.who.Name
	}
	links := reply.Links{"self": reply.Link{Href: x.href(listPath(query))}, "event-types": reply.Link{Href: x.href("/event-types")},
		"subscription": reply.Link{Href: x.href("/subscriptions/{uuid}"), Templated: true}}
	total, page, more := 0, []string{}, false
	err := x.known(x.r.Context(), func(t *tally) { total, page, more = t.page(name, strings.ToLower(query.Get("after"))) })
	if err != nil {
		return err
	}
	if more {
		query.Set("after", page[listed-1])
		links["next"] = reply.Link{Href: x.href(listPath(query))}
	}
	shown := []document{}
	for _, uuid := range page {
		d, err := x.shown(uuid)
		if errors.Is(err, errUnknown) { // forgotten meanwhile
			continue
		}
		if err != nil {
			return err
		}
		shown = append(shown, d)
	}
	return x.answer(http.StatusOK, map[string]any{
		"_links":     links,
		"totalCount": total,
		"_embedded":  map[string]any{"subscriptions": shown},
	})
}

// listPath is a page of the list, with what its query means here.
func listPath(query url.Values) string {
	is := url.Values{}
	for _, name := range []string{"client", "after"} {
		if query.Has(name) {
			is.Set(name, query.Get(name))
		}
	}
	return strings.TrimSuffix("/subscriptions?"+is.Encode(), "?")
}

// page is what one page of the list shows: of a client's subscriptions, or of all for "", those after a UUID. It says
// how many there are in all, and whether more follow.
func (t *tally) page(client, after string) (total int, page []string, more bool) {
	for _, e := range t.all {
		if client != "" && e.client != client {
			continue
		}
		total++
		switch {
		case e.uuid <= after:
		case len(page) == listed:
			more = true
		default:
			page = append(page, e.uuid)
		}
	}
	return total, page, more
}

// read answers with one subscription.
func (x *exchange) read() error {
	r, err := x.find()
	if err != nil {
		return err
	}
	state, err := x.state(r.UUID)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, x.represent(r, state))
}

// shown reads a subscription as it is now.
func (x *exchange) shown(uuid string) (document, error) {
	r, err := x.registration(x.r.Context(), uuid)
	if err != nil {
		return document{}, err
	}
	state, err := x.state(uuid)
	return x.represent(r, state), err
}

// state reads where a subscription stands.
func (x *exchange) state(uuid string) (producer.SubscriptionState, error) {
	s, err := producer.ReadState(x.r.Context(), x.Store, uuid)
	if errors.Is(err, entityevent.ErrAbsent) {
		err = errUnknown
	}
	return s, err
}

// errUnknown is the answer to a UUID that is nobody's, or another's.
var errUnknown = refuse(http.StatusNotFound, "There is no such subscription of yours: GET /subscriptions lists those there are")

// find returns the registration that the path names, if the caller may see it.
func (x *exchange) find() (*registration, error) {
	if id, err := uuid.Parse(x.uuid); err != nil || id.String() != x.uuid {
		return nil, errUnknown
	}
	r, err := x.registration(x.r.Context(), x.uuid)
	if err == nil && r.Client != x.who.Name && !x.who.admin {
		err = errUnknown
	}
	return r, err
}

// registration reads the one of this UUID as it is now: errUnknown if there is none.
func (a *API) registration(ctx context.Context, id string) (*registration, error) {
	doc, err := a.Store.Get(ctx, registrationKind, id)
	if err != nil {
		return nil, fmt.Errorf("registration %s: %w", id, err)
	}
	if doc.Version == 0 {
		return nil, errUnknown
	}
	return parseRegistration(doc)
}

func parseState(doc entityevent.Doc) (s producer.SubscriptionState, err error) {
	if err = json.Unmarshal(doc.Body, &s); err != nil {
		err = fmt.Errorf("state of subscription %s: %w", doc.ID, err)
	}
	return s, err
}
