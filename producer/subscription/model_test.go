package subscription_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// modelled is what the model knows of one subscription.
type modelled struct {
	UUID      string                      `json:"UUID"`
	Status    producer.SubscriptionStatus `json:"status"`
	Cursor    entityevent.Sequence        `json:"cursor"`
	BatchSize int                         `json:"batchSize"`
	Types     []string                    `json:"eventTypes"`
	token     string
}

// TestModel compares random requests of one client, with what its pushers do meanwhile, with a simple model.
func TestModel(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	clients := 0
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		_ = flag.Set("rapid.checks", "25") // each has some 30 steps that are committed
	}
	rapid.Check(t, func(t *rapid.T) {
		clients++
		me := fmt.Sprint("client-", clients)
		x.clients[me] = producer.Client{Name: me, Mask: entityevent.Everyone}
		head := x.put("Property", me)
		var all []*modelled
		keys := map[string]*modelled{}
		status := func(a answered, want int) bool {
			if a.status != want {
				t.Fatalf("%d %s, want %d", a.status, a.body, want)
			}
			return want < 300
		}
		one := func(t *rapid.T) *modelled {
			if len(all) == 0 {
				t.Skip()
			}
			return rapid.SampledFrom(all).Draw(t, "one")
		}
		from := func(t *rapid.T) entityevent.Sequence {
			return head + entityevent.Sequence(rapid.IntRange(-min(2, int(head)), 1).Draw(t, "from"))
		}
		t.Repeat(map[string]func(*rapid.T){
			"event": func(*rapid.T) { head = x.put("Property", me) },
			"register": func(t *rapid.T) {
				s := &modelled{Status: producer.Active, Cursor: from(t), BatchSize: rapid.IntRange(0, 3).Draw(t, "batch"), Types: rapid.SampledFrom([][]string{{}, {"Media"}, {"Media", "Property"}}).Draw(t, "types"), token: rapid.StringMatching(`[a-z]{3}`).Draw(t, "token")}
				types, _ := json.Marshal(s.Types)
				key := rapid.SampledFrom([]string{"", "k1", "k2"}).Draw(t, "key")
				// The same key never comes with the same body, for the cursor and the key are in the token.
				body := fmt.Sprintf(`{"callbackUrl": "https://192.0.2.7/", "callbackToken": %q, "fromSequence": %d, "batchSize": %d, "eventTypes": %s}`, s.token, s.Cursor, s.BatchSize, types)
				var headers []string
				if key != "" {
					headers = []string{"Idempotency-Key: " + key}
				}
				a := x.ask(me, "POST", "/subscriptions", body, headers...)
				switch before := keys[key]; {
				case before != nil && before.token == body:
					status(a, 201)
				case before != nil:
					status(a, 422)
				case s.BatchSize == 0:
					status(a, 403)
				case s.Cursor > head:
					status(a, 422)
				default:
					status(a, 201)
					s.UUID = a.member("UUID")
					if all = append(all, s); key != "" {
						keys[key] = &modelled{token: body}
					}
				}
			},
			"cancel": func(t *rapid.T) {
				s := one(t)
				if rapid.Bool().Draw(t, "by PUT") {
					status(x.ask(me, "PUT", "/subscriptions/"+s.UUID, `{"UUID": "`+s.UUID+`"}`), 202)
				} else {
					status(x.ask(me, "DELETE", "/subscriptions/"+s.UUID, ""), 204)
				}
				s.Status = producer.Cancelled
			},
			"resume": func(t *rapid.T) {
				s, n := one(t), from(t)
				replay := rapid.Bool().Draw(t, "replay")
				body := `{"status": "active"}`
				if replay {
					body = fmt.Sprintf(`{"status": "active", "fromSequence": %d}`, n)
				}
				want := 202
				switch {
				case replay && n > head:
					want = 422
				case s.Status == producer.Cancelled:
					want = 403
				}
				if status(x.ask(me, "POST", "/subscriptions/"+s.UUID, body), want) {
					if s.Status = producer.Active; replay {
						s.Cursor = n
					}
				}
			},
			"patch": func(t *rapid.T) {
				s := one(t)
				token, batch := rapid.StringMatching(`[ab]`).Draw(t, "token"), rapid.IntRange(0, 3).Draw(t, "batch")
				want := 200
				if s.Status == producer.Cancelled || batch == 0 {
					want = 403
				}
				if status(x.ask(me, "PATCH", "/subscriptions/"+s.UUID, fmt.Sprintf(`{"callbackToken": %q, "batchSize": %d}`, token, batch)), want) {
					if token != s.token {
						s.Status = producer.Active
					}
					s.token, s.BatchSize = token, batch
				}
			},
			"acknowledged": func(t *rapid.T) {
				if s := one(t); s.Status == producer.Active && s.Cursor < head {
					s.Cursor++
					x.move(s.UUID, func(state *producer.SubscriptionState) { state.Cursor++ })
				}
			},
			"suspended": func(t *rapid.T) {
				if s := one(t); s.Status == producer.Active {
					s.Status = producer.Suspended
					x.move(s.UUID, func(state *producer.SubscriptionState) { state.Suspend("refused") })
				}
			},
			"restart": func(t *rapid.T) { x.compareStart(t, all) },
			"":        func(t *rapid.T) { x.compare(t, me, all) },
		})
	})
}

// compare compares what a client is shown with the model.
func (x *rig) compare(t *rapid.T, client string, all []*modelled) {
	var list struct {
		Embedded struct{ Subscriptions []modelled } `json:"_embedded"`
	}
	if err := json.Unmarshal([]byte(x.ask(client, "GET", "/subscriptions", "").body), &list); err != nil {
		t.Fatal(err)
	}
	if got := list.Embedded.Subscriptions; len(got) != len(all) {
		t.Fatalf("%+v, want %d", got, len(all))
	}
	for i, got := range list.Embedded.Subscriptions {
		if want := *all[i]; got.UUID != want.UUID || got.Status != want.Status || got.Cursor != want.Cursor || got.BatchSize != want.BatchSize || !slices.Equal(got.Types, want.Types) {
			t.Fatalf("%+v, want %+v", got, want)
		}
	}
}

// compareStart compares what would be pushed to after a restart with the model.
func (x *rig) compareStart(t *rapid.T, all []*modelled) {
	subs, err := x.api.Active(x.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range all {
		i := slices.IndexFunc(subs, func(s producer.Subscription) bool { return s.Name == want.UUID })
		if (i >= 0) != (want.Status != producer.Cancelled) || i >= 0 && (subs[i].Token != want.token || subs[i].BatchEvents != want.BatchSize) {
			t.Fatalf("%+v of %+v", want, subs)
		}
	}
}
