package subscription_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// eventTypes are the names and models that a client is told of.
func (x *rig) eventTypes(client string) (all []string) {
	x.Helper()
	var list struct {
		Embedded struct {
			EventTypes []struct {
				Name            string
				Characteristics struct {
					Model string
					Modes []string
				}
			}
		} `json:"_embedded"`
	}
	if err := json.Unmarshal([]byte(x.ask(client, "GET", "/event-types", "").want(x, 200)), &list); err != nil {
		x.Fatal(err)
	}
	for _, e := range list.Embedded.EventTypes {
		all = append(all, fmt.Sprint(e.Name, " ", e.Characteristics.Model, " ", e.Characteristics.Modes))
	}
	return all
}

func TestEventTypes(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	if got := x.ask(whole, "GET", "/event-types", "").want(t, 200); got != `{"_embedded":{"eventTypes":[]},"_links":{"self":{"href":"/event-types"},"subscriptions":{"href":"/subscriptions"}}}`+"\n" {
		t.Errorf("%s", got)
	}
	x.put("Property", "1")
	x.put("Acme_Deal", "1")
	const event = `"properties":{"EntityEventSequence":{"format":"int64","minimum":1,"type":"integer"},"ResourceName":{"const":"Acme_Deal"},"ResourceRecordKey":{"maxLength":255,"minLength":1,"type":"string"},"ResourceRecordUrl":{"format":"uri","maxLength":8000,"type":"string"}},"required":["EntityEventSequence","ResourceName","ResourceRecordKey"]`
	const golden = `{"_links":{"self":{"href":"/event-types/Acme_Deal"}},"name":"Acme_Deal","description":"A record of Acme_Deal is new, has changed, or is gone or out of sight.","characteristics":{"model":"1-to-many","modes":["continuous","only-once"],"transports":["webhook","long-poll","events","sessions"],` +
		`"schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","oneOf":[{` + event + `},{"properties":{"value":{"items":{` + event + `,"type":"object"},"type":"array"}},"required":["value"]}],` +
		`"properties":{"@reso.context":{"const":"urn:reso:metadata:2.0:resource:entityevent"},"UUID":{"type":"string"},"_links":{"type":"object"}},"required":["@reso.context"],"type":"object"}}}`
	if got := x.ask(whole, "GET", "/event-types", "").want(t, 200); !strings.HasPrefix(got, `{"_embedded":{"eventTypes":[`+golden+`,{"_links":{"self":{"href":"/event-types/Property"}},"name":"Property"`) {
		t.Errorf("%s, want %s", got, golden)
	}
	if got := x.ask(whole, "GET", "/event-types/Acme%5FDeal/", "").want(t, 200); got != golden+"\n" {
		t.Errorf("%s, want %s", got, golden)
	}
	for _, path := range []string{"/event-types/Office", "/event-types/property", "/event-types/%2F"} {
		x.ask(whole, "GET", path, "").wantRefused(t, 404, "GET /event-types lists")
	}
	x.api.Fixed = []producer.Subscription{{Name: "b"}, {Name: "c", EventTypes: []string{"Property", "Showing"}}}
	for client, want := range map[string][]string{
		whole: {"Acme_Deal 1-to-many [continuous only-once]", "Property 1-to-1 [continuous]", "Showing 1-to-1 [continuous]"},
		owner: {"Acme_Deal 1-to-many [continuous only-once]", "Property 1-to-1 [continuous]", "Showing 1-to-1 [continuous]"},
		idx:   {"Media 1-to-many [continuous only-once]", "Property 1-to-1 [continuous]"}, // that it may see, whether there are records or not
	} {
		if got := x.eventTypes(client); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", client, got, want)
		}
	}
}

// TestOneToOne: what an endpoint of the configuration has for itself is pushed to nobody else.
func TestOneToOne(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	earlier := x.register(whole, "")
	x.api.Fixed = []producer.Subscription{{Name: "b"}, {Name: "c", Client: whole, EventTypes: []string{"Showing"}}}
	try := func(client, types string) answered {
		return x.ask(client, "POST", "/subscriptions", `{"callbackUrl": "https://192.0.2.7/"`+types+`}`)
	}
	for _, types := range []string{``, `, "eventTypes": []`, `, "eventTypes": ["Property", "Showing"]`, `, "eventTypes": ["Showing"]`} {
		try(whole, types).wantRefused(t, 403, "Showing is pushed to another endpoint alone (1-to-1)")
	}
	try(whole, `, "eventTypes": ["Property"]`).want(t, 201)
	// It is listed before its first record.
	if got := x.ask(whole, "GET", "/event-types/Showing", "").want(t, 200); !strings.Contains(got, `"model":"1-to-1"`) {
		t.Error(got)
	}
	// A client that does not see these events has all that it sees, and learns nothing.
	try(idx, "").want(t, 201)
	try(idx, `, "eventTypes": ["Showing"]`).wantRefused(t, 403, `"Showing" is none that you may`)
	// The one from before goes on no more.
	x.ask(whole, "POST", "/subscriptions/"+earlier+"/resume", "").wantRefused(t, 403, "1-to-1")
	x.api.Fixed = append(x.api.Fixed, producer.Subscription{EventTypes: []string{"Media"}})
	try(whole, "").wantRefused(t, 403, "Media, Showing are pushed to another endpoint alone")
	try(idx, "").wantRefused(t, 403, "Media is pushed to another endpoint alone")
}

// TestEventTypesOfAProfile: what a profile does not name is refused in the same words, whether it exists or not.
func TestEventTypesOfAProfile(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	x.put("Member", "1")
	x.put("Acme_Deal", "1")
	var said []string
	for _, name := range []string{"Member", "Acme_Deal", "Castle", "EntityEvent", "Office"} {
		a := x.ask(idx, "POST", "/subscriptions", `{"callbackUrl": "https://192.0.2.7/", "eventTypes": ["Property", "`+name+`"]}`)
		a.wantRefused(t, 403, "none that you may subscribe to")
		said = append(said, strings.ReplaceAll(a.body, name, "X"))
	}
	if slices.Sort(said); len(slices.Compact(said)) != 1 {
		t.Errorf("%q", said)
	}
	a := x.ask(idx, "POST", "/subscriptions", `{"callbackUrl": "https://192.0.2.7/", "eventTypes": ["Property", "Media"]}`)
	a.want(t, 201)
	if s, _, _ := x.pushers.last(); s.Mask != x.clients[idx].Mask || s.Mask == entityevent.Everyone || s.Profile != "idx" || s.Client != idx {
		t.Errorf("%+v", s)
	}
	x.ask(whole, "POST", "/subscriptions", `{"callbackUrl": "https://192.0.2.7/", "eventTypes": ["Acme_Deal"]}`).want(t, 201)
}
