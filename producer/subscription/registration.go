package subscription

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/entityevent/seal"
	"github.com/resosync/resosync/producer"
)

// registrationKind is the kind of the documents that hold registrations. Where each stands is a document of
// producer.SubscriptionKind under the same id.
const registrationKind = "registration"

// registration is what a client asked for.
type registration struct {
	UUID       string            `json:"uuid"`
	Client     string            `json:"client"`
	Created    time.Time         `json:"created"`
	Mode       producer.Mode     `json:"mode"`
	EventTypes []string          `json:"event_types,omitempty"` // empty: all
	Protocol   producer.Protocol `json:"protocol"`
	Label      string            `json:"label,omitempty"`

	// Sealed, each for its own place; "" for none.
	URL    string `json:"url"`
	Token  string `json:"token,omitempty"`
	Secret string `json:"secret,omitempty"`

	BatchSize int           `json:"batch_size"`
	Timeout   time.Duration `json:"timeout"` // in nanoseconds

	version int64 // of the document
}

// settings are what can be changed later.
type settings struct {
	URL, Token, Secret string
	BatchSize          int
	Timeout            time.Duration
}

func (r *registration) place(member string) string { return "subscription/" + r.UUID + "/" + member }

// set takes over settings, sealed.
func (r *registration) set(key seal.Key, s settings) {
	for _, secret := range []struct {
		to         *string
		text, name string
	}{{&r.URL, s.URL, "url"}, {&r.Token, s.Token, "token"}, {&r.Secret, s.Secret, "secret"}} {
		if *secret.to = ""; secret.text != "" {
			*secret.to = key.Seal(secret.text, r.place(secret.name))
		}
	}
	r.BatchSize, r.Timeout = s.BatchSize, s.Timeout
}

// settings opens what set sealed: seal.ErrSealed, wrapped, with what needs no opening, if that is not possible.
func (r *registration) settings(key seal.Key) (settings, error) {
	s := settings{BatchSize: r.BatchSize, Timeout: r.Timeout}
	for _, secret := range []struct {
		to           *string
		sealed, name string
	}{{&s.URL, r.URL, "url"}, {&s.Token, r.Token, "token"}, {&s.Secret, r.Secret, "secret"}} {
		if secret.sealed == "" {
			continue
		}
		text, err := key.Open(secret.sealed, r.place(secret.name))
		if err != nil {
			return settings{BatchSize: r.BatchSize, Timeout: r.Timeout}, err
		}
		*secret.to = text
	}
	return s, nil
}

// subscription is what is pushed to, and sees what the client sees.
func (a *API) subscription(r *registration, client producer.Client, s settings) producer.Subscription {
	return producer.Subscription{
		Name: r.UUID, Client: r.Client, Mask: client.Mask, Profile: client.Profile, Feed: a.Feed,
		URL: s.URL, Token: s.Token, Secret: s.Secret, Label: r.Label,
		EventTypes: r.EventTypes, Mode: r.Mode, Protocol: r.Protocol, Self: a.href(path(r.UUID)),
		BatchEvents: s.BatchSize, Timeout: s.Timeout,
	}
}

func path(uuid string) string { return "/subscriptions/" + uuid }

// href is a path as links have it.
func (a *API) href(path string) string { return reply.Href(a.Root, path) }

// document is r as it is stored.
func (r *registration) document() entityevent.Doc {
	return storedAs(registrationKind, r.UUID, r.version, r)
}

func storedAs(kind, id string, version int64, v any) entityevent.Doc {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // of types that always can
	}
	return entityevent.Doc{Kind: kind, ID: id, Version: version, Body: body}
}

func parseRegistration(doc entityevent.Doc) (*registration, error) {
	r := &registration{version: doc.Version}
	if err := json.Unmarshal(doc.Body, r); err != nil {
		return nil, fmt.Errorf("registration %s: %w", doc.ID, err)
	}
	return r, nil
}

// registrations returns all of them, oldest first: ids are UUIDs of version 7.
func (a *API) registrations(ctx context.Context) ([]*registration, error) {
	docs, err := a.Store.List(ctx, registrationKind)
	if err != nil {
		return nil, fmt.Errorf("list registrations: %w", err)
	}
	all := make([]*registration, len(docs))
	for i, doc := range docs {
		if all[i], err = parseRegistration(doc); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// states returns where the subscriptions stand, by name.
func (a *API) states(ctx context.Context) (map[string]producer.SubscriptionState, error) {
	list, err := producer.Subscriptions(ctx, a.Store)
	states := make(map[string]producer.SubscriptionState, len(list))
	for _, s := range list {
		states[s.Name] = s
	}
	return states, err
}
