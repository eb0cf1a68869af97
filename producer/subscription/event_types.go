package subscription

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/resosync/resosync/entityevent/reply"
	"github.com/resosync/resosync/producer"
)

// eventResource is the log's own: it has no events.
const eventResource = "EntityEvent"

// The models of an event type.
const (
	oneToOne  = "1-to-1"    // pushed to one endpoint of the configuration
	oneToMany = "1-to-many" // pushed to all who subscribe
)

// eventType is what the events of one resource are called, and how they travel.
type eventType struct {
	Links           reply.Links     `json:"_links"`
	Name            string          `json:"name"`
	Description     string          `json:"description"`
	Characteristics characteristics `json:"characteristics"`
}

type characteristics struct {
	Model      string          `json:"model"`
	Modes      []producer.Mode `json:"modes"`
	Transports []string        `json:"transports"`
	Schema     map[string]any  `json:"schema"` // JSON Schema of the body of a push of this event type alone
}

// eventTypes answers with those that the caller may see.
func (x *exchange) eventTypes() error {
	types, err := x.seen()
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, map[string]any{
		"_links":    reply.Links{"self": reply.Link{Href: x.href("/event-types")}, "subscriptions": reply.Link{Href: x.href("/subscriptions")}},
		"_embedded": map[string]any{"eventTypes": types},
	})
}

// eventType answers with one of them, which is named as it stands in a path.
func (x *exchange) eventType(escaped string) error {
	types, err := x.seen()
	if err != nil {
		return err
	}
	for _, t := range types {
		if name, err := url.PathUnescape(escaped); err == nil && t.Name == name {
			return x.answer(http.StatusOK, t)
		}
	}
	return refuse(http.StatusNotFound, "There is no such event type for you: GET /event-types lists those there are")
}

// seen are the event types that the caller may see.
func (x *exchange) seen() ([]eventType, error) {
	names, err := x.offered(x.r.Context(), x.who.Client)
	if err != nil {
		return nil, err
	}
	exclusive := x.exclusive(x.who.Client)
	types := []eventType{}
	for _, name := range names {
		c := characteristics{Model: oneToMany, Modes: []producer.Mode{producer.Continuous, producer.OnlyOnce},
			Transports: []string{"webhook", "long-poll", "events", "sessions"}, Schema: pushed(name)}
		if slices.Contains(exclusive, name) {
			c.Model, c.Modes = oneToOne, c.Modes[:1]
		}
		types = append(types, eventType{reply.Links{"self": reply.Link{Href: x.href("/event-types/" + url.PathEscape(name))}}, name,
			fmt.Sprintf("A record of %s is new, has changed, or is gone or out of sight.", name), c})
	}
	return types, nil
}

// offered returns the resources whose events a client may be told of, in order, as far as they are known by now.
func (a *API) offered(ctx context.Context, client producer.Client) ([]string, error) {
	if client.Profile != "" {
		return slices.Sorted(slices.Values(client.Resources)), nil
	}
	names, err := a.Schema.Resources(ctx)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == eventResource })
	names = append(names, a.exclusive(client)...) // before the first record, too
	slices.Sort(names)
	return slices.Compact(names), nil
}

// exclusive returns the event types that are pushed to an endpoint of the configuration alone, of those that a client
// may see.
func (a *API) exclusive(client producer.Client) []string {
	var names []string
	for _, s := range a.Fixed {
		for _, name := range s.EventTypes {
			if client.Profile == "" || slices.Contains(client.Resources, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// checkTypes refuses event types that a client may not subscribe to; none stand for all. One that is of the Data
// Dictionary and has no record yet is fine. Of what a profile does not name nothing is told, not even that it exists.
func (a *API) checkTypes(ctx context.Context, client producer.Client, names []string) error {
	offered, err := a.offered(ctx, client)
	if err != nil {
		return err
	}
	for _, name := range names {
		known := slices.Contains(offered, name)
		if !known && client.Profile == "" && name != eventResource {
			_, _, known = a.Schema.KeyField(name)
		}
		if !known {
			return refuse(http.StatusForbidden, fmt.Sprintf("eventTypes: %.64q is none that you may subscribe to; GET /event-types lists them", name))
		}
	}
	exclusive := a.exclusive(client)
	taken := slices.DeleteFunc(slices.Clone(exclusive), func(name string) bool { return len(names) > 0 && !slices.Contains(names, name) })
	if len(taken) > 0 {
		return refuse(http.StatusForbidden, fmt.Sprintf("eventTypes: %s pushed to another endpoint alone (1-to-1); name in eventTypes those that you want, without these, or follow them by polling", verb(taken)))
	}
	return nil
}

func verb(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return strings.Join(names, ", ") + " are"
}

// pushed is the JSON Schema of what is pushed to a subscription to this event type alone (RCP-28): one event, or several
// as value. By the protocol hal there are _links and UUID beside these.
func pushed(name string) map[string]any {
	text := func(more map[string]any) map[string]any {
		more["type"] = "string"
		return more
	}
	event := map[string]any{
		"EntityEventSequence": map[string]any{"type": "integer", "format": "int64", "minimum": 1},
		"ResourceName":        map[string]any{"const": name},
		"ResourceRecordKey":   text(map[string]any{"minLength": 1, "maxLength": 255}),
		"ResourceRecordUrl":   text(map[string]any{"format": "uri", "maxLength": 8000}),
	}
	required := []string{"EntityEventSequence", "ResourceName", "ResourceRecordKey"}
	context := map[string]any{"const": "urn:reso:metadata:2.0:resource:entityevent"}
	return map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"type":    "object",
		"oneOf": []any{
			map[string]any{"required": required, "properties": event},
			map[string]any{"required": []string{"value"}, "properties": map[string]any{
				"value": map[string]any{"type": "array", "items": map[string]any{"type": "object", "required": required, "properties": event}},
			}},
		},
		"required":   []string{"@reso.context"},
		"properties": map[string]any{"@reso.context": context, "UUID": text(map[string]any{}), "_links": map[string]any{"type": "object"}},
	}
}
