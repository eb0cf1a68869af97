package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/robfig/cron/v3"

	"github.com/resosync/resosync/config"
)

func none(string) (string, bool) { return "", false }

// signing is a secret as pushes are signed with.
const signing = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("/etc/resosync/resosync.yaml", []byte(text), func(name string) (string, bool) {
		if name == "SIGNING_SECRET" {
			return signing, true
		}
		return "value-of-" + name, !strings.HasPrefix(name, "UNSET")
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParse(t *testing.T) {
	got := parse(t, `
name: acme-mls
data: ../var/data
listen: :8080
public_url: https://sync.acme.example/
tls: {cert: tls/cert.pem, key: /run/key.pem}
trusted_proxies: [10.0.0.0/8]
cors_origins: ["https://app.example", "http://localhost:3000", "*"]
access_log: true
compact: never
forget: 3y
producer:
  feed: other
  metadata: ./metadata.xml
  keys: {Showing: ShowingId}
  profiles:
    idx: {Property: {filter: "StandardStatus in ('Active','Pending')", hide: [PrivateRemarks]}, Media: {with: Property}}
    offices:
      Office:
  clients:
    - {name: vendor-a, scopes: [read, subscribe], profile: idx, limits: {rate: 10/s}}
    - name: vendor-b
  subscriptions:
    - {name: b, client: vendor-b, url: "https://b.example/webhooks/acme?key=${K}", token: "${B_TOKEN}", label: "IDX Feed 123", batch: 50, timeout: 1m30s,
       event_types: [Property, Media], protocol: hal, secret: "${SIGNING_SECRET}", record_urls: true}
  allow_callbacks: [10.0.0.0/8, "fd00::/8"]
  sessions: {anonymous: idx}
consumer:
  feeds:
    - name: other
      url: https://sync.other.example/odata/
      token: a${A}b$${C}d
      strategy: entityevent
      resources: [Property, Media]
      push: {label: 007, register: true}
      poll: "*/5 * * * *"
      long_poll: true
      reconcile: never
      stale_after: 1h
      limits: {rate: 30/m, hourly: 1000, daily: 20000}
      page: 500
      key_batch: 50
    - {name: oauth, url: "https://a.example/odata", client_id: us, client_secret: "${S}", token_url: "https://a.example/oauth/token", resources: [Property]}
`)
	want := &config.Config{
		Name: "acme-mls", Data: "/etc/var/data", Listen: ":8080", PublicURL: "https://sync.acme.example",
		TLS:            &config.TLS{Cert: "/etc/resosync/tls/cert.pem", Key: "/run/key.pem"},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		CORSOrigins:    []string{"https://app.example", "http://localhost:3000", "*"},
		AccessLog:      true, Compact: config.Never, Forget: config.Age(3 * 365 * 24 * time.Hour),
		Producer: &config.Producer{
			Feed: "other", Metadata: "/etc/resosync/metadata.xml",
			Keys: map[string]string{"Showing": "ShowingId"},
			Profiles: map[string]config.Profile{
				"idx":     {"Property": {Filter: "StandardStatus in ('Active','Pending')", Hide: []string{"PrivateRemarks"}}, "Media": {With: "Property"}},
				"offices": {"Office": {}},
			},
			Clients: []config.Client{
				{Name: "vendor-a", Scopes: []string{"read", "subscribe"}, Profile: "idx", Limits: config.ClientLimits{Rate: 10}},
				{Name: "vendor-b", Scopes: []string{"read"}},
			},
			Subscriptions: []config.Subscription{{
				Name: "b", Client: "vendor-b", URL: "https://b.example/webhooks/acme?key=value-of-K", Token: "value-of-B_TOKEN",
				Label: "IDX Feed 123", Batch: 50, Timeout: 90 * time.Second,
				EventTypes: []string{"Property", "Media"}, Protocol: "hal", Secret: signing, RecordURLs: true,
			}},
			AllowCallbacks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
			Sessions:       config.Sessions{Anonymous: "idx"},
		},
		Consumer: &config.Consumer{Feeds: []config.Feed{{
			Name: "other", URL: "https://sync.other.example/odata", Token: "avalue-of-Ab${C}d", Strategy: "entityevent",
			Resources: []string{"Property", "Media"}, Push: config.Push{Label: "007", Register: true}, Poll: "*/5 * * * *", LongPoll: true,
			Reconcile: config.Never, StaleAfter: time.Hour, Limits: config.Limits{Rate: 0.5, Hourly: 1000, Daily: 20000}, Page: 500, KeyBatch: 50,
		}, {
			Name: "oauth", URL: "https://a.example/odata", ClientID: "us", ClientSecret: "value-of-S", TokenURL: "https://a.example/oauth/token",
			Strategy: "entityevent", Resources: []string{"Property"},
		}}},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.IgnoreUnexported(config.Config{})); diff != "" {
		t.Error(diff)
	}
	if string(got.Consumer.Feeds[0].Token) != "avalue-of-Ab${C}d" || !strings.HasSuffix(string(got.Producer.Subscriptions[0].URL), "?key=value-of-K") {
		t.Error("the secrets are not what was written")
	}
}

func TestParseDefaults(t *testing.T) {
	got := parse(t, "producer:\n")
	want := &config.Config{Name: "resosync", Data: "/etc/resosync/data", Listen: "127.0.0.1:8080", Compact: "30 4 * * *", Producer: &config.Producer{}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(config.Config{})); diff != "" {
		t.Error(diff)
	}
}

// Whatever a variable holds, it stays one value.
func TestParseEnvironmentIsNotYAML(t *testing.T) {
	const nasty = "x\nlisten: 0.0.0.0:1\n# }], 'q' \"${NOT_AGAIN}"
	c, err := config.Parse("c.yaml", []byte("data: \"${D}\"\nproducer: {}"), func(string) (string, bool) { return nasty, true })
	if err != nil || !strings.HasSuffix(c.Data, nasty[strings.LastIndexByte(nasty, '/')+1:]) || c.Listen != "127.0.0.1:8080" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestParseProblems(t *testing.T) {
	const feed = "consumer: {feeds: [{name: a, url: 'https://a.example/odata', resources: [Property]%s}]}"
	const oauth = ", client_id: us, client_secret: s, token_url: 'https://a.example/oauth/token'"
	const profile = "producer: {profiles: {idx: {%s}}}"
	const subscription = "producer: {clients: [{name: c}], allow_callbacks: [], subscriptions: [{name: s, client: c, url: 'https://b.example/', token: t%s}]}"
	for _, c := range []struct {
		text string
		want string // "line:column: path: part of the text", one a line
	}{
		{"", "1:1: it is neither a producer nor a consumer"},
		{"# nothing\n", "1:1: it is neither a producer nor a consumer"},
		{"name: x\n", "1:1: it is neither a producer nor a consumer"},
		{"producer:\n  lisen: 1\n", "2:3: producer.lisen: unknown key; known here: feed, metadata"},
		{"producer: {}\nprofiles: {}\nname: x", "2:1: profiles: unknown key; known here: name, data"},
		{"producer:\n\t- x", "2:1: not YAML: found character"},
		{"producer: {}\nname: \"abc", "2:7: not YAML: could not find end character"},
		{"producer: {}\nproducer: {}", `2:1: not YAML: mapping key "producer" already defined at [1:1]`},
		{"producer: {}\n---\nname: x", "1:1: want one YAML document, and there are 2"},
		{"- a", "1:1: want keys and values"},
		{"5", "1:1: want keys and values"},
		{"producer: 5", "1:11: producer: want keys and values"},
		{"producer: [a]", "1:11: producer: want keys and values"},
		{"producer: {clients: {name: a}}", "1:21: producer.clients: want a list"},
		{"producer: {clients: a}", "1:21: producer.clients: want a list"},
		{"producer: {5: a}", "1:12: producer: a key must be a plain word"},
		{"producer: {}\nname: [a]", "2:7: name: want a text"},
		{"producer: {}\nname: &a b\ndata: *a", "2:7: name: anchors, aliases\n3:7: data: anchors, aliases"},
		{"producer: {}\n<<: {name: x}", "2:1: a key must be a plain word"},
		{"producer: {}\ndata: !!str x", "2:7: data: anchors, aliases and tags"},
		{"producer: {}\nname: ${UNSET_A}-${UNSET_B}\ndata: ${UNSET_C}", "2:7: name: the environment variable UNSET_A is not set\n2:7: name: the environment variable UNSET_B is not set\n3:7: data: the environment variable UNSET_C"},
		{"producer: {}\nname: ${A", "2:7: name: want ${NAME}"},
		{"producer: {}\nname: ${A B}", "2:7: name: want ${NAME}"},
		{"producer: {}\nname: ${}", "2:7: name: want ${NAME}"},
		{"producer: {}\nlisten: localhost", "2:9: listen: want host:port"},
		{"producer: {}\nlisten: localhost:99999", "2:9: listen: want host:port"},
		{"producer: {}\nlisten: http://localhost:80", "2:9: listen: want host:port"},
		{"producer: {}\npublic_url: sync.example", "2:13: public_url: want an absolute URL"},
		{"producer: {}\npublic_url: https://sync.example/base?x=1", "2:13: public_url: leave out what follows ?"},
		{"producer: {}\npublic_url: https://sync.example/?", "2:13: public_url: leave out what follows ?"},
		{"producer: {}\npublic_url: https://sync.example/a b", "2:13: public_url: want it percent-encoded, as https://sync.acme.example/a%20b"},
		{"producer: {feed: a}", `1:18: producer.feed: there is no feed "a"`},
		{"producer: {allow_callbacks: [10.0.0.1, x]}", "1:30: producer.allow_callbacks[0]: want a network\n1:40: producer.allow_callbacks[1]: want a network"},
		{"producer: {clients: [{name: a}, {name: a}]}", `1:40: producer.clients[1].name: the name "a" is taken`},
		{"producer: {clients: [{}, {name: a/b}]}", "1:22: producer.clients[0].name: missing\n1:33: producer.clients[1].name: \"a/b\" is no name"},
		{"producer: {clients: [{name: a, scopes: [read, root]}]}", `1:47: producer.clients[0].scopes[1]: unknown scope "root"`},
		{"producer:\n  subscriptions:\n    - name: s\n", "3:7: producer.subscriptions[0].client: missing\n3:7: producer.subscriptions[0].url: missing\n3:7: producer.subscriptions[0].token: missing"},
		{"producer: {subscriptions: [{name: s, client: nobody, url: 'https://b.example', token: t}]}", `1:46: producer.subscriptions[0].client: there is no client "nobody": add it to producer.clients`},
		{fmt.Sprintf(subscription, ", batch: -1"), "batch: want a number from 1"},
		{fmt.Sprintf(subscription, ", batch: 1.5"), "batch: want a whole number"},
		{fmt.Sprintf(subscription, ", batch: many"), "batch: want a whole number"},
		{fmt.Sprintf(subscription, ", timeout: 15"), "timeout: want a duration, as 15s"},
		{fmt.Sprintf(subscription, ", timeout: -15s"), "timeout: want a duration up to 10m"},
		{fmt.Sprintf(subscription, ", label: ' x'"), "label: it begins or ends with a space"},
		{fmt.Sprintf(subscription, `, label: "x\ny"`), "label: it has characters that do not print"},
		{fmt.Sprintf(subscription, ", label: "+strings.Repeat("x", 256)), "label: it is longer than 255"},
		{strings.Replace(fmt.Sprintf(subscription, ""), "name: s,", "name: registered,", 1), "producer.subscriptions[0].name: registered is what figures call"},
		{fmt.Sprintf(subscription, ", protocol: soap"), `protocol: unknown protocol "soap": want reso or hal`},
		{fmt.Sprintf(subscription, ", secret: whsec_dG9vc2hvcnQ="), "secret: want whsec_ and the base64"},
		{fmt.Sprintf(subscription, ", secret: '%'"), "secret: want whsec_ and the base64"},
		{fmt.Sprintf(subscription, ", record_urls: 1"), "record_urls: want true or false"},
		{fmt.Sprintf(subscription, ", event_types: [Showing, 'a b', Showing]"), "event_types[1]: \"a b\" is not the name\n:event_types[2]: Showing stands there twice"},
		{fmt.Sprintf(subscription, ", event_types: [Showing]}, {name: o, client: c, url: 'https://c.example/', token: t, event_types: [Showing]"),
			"1:226: producer.subscriptions[1].event_types[0]: Showing is pushed to producer.subscriptions[0] alone"},
		{"producer: {sessions: {anonymous: idx}}", `1:34: producer.sessions.anonymous: there is no profile "idx"`},
		{fmt.Sprintf(feed, ", push: {register: true}"), "push.register: the producer must be told where to push: add public_url"},
		{strings.Replace(fmt.Sprintf(subscription, ""), "https:", "http:", 1), "url: plain http is only for networks in producer.allow_callbacks"},
		{strings.Replace(fmt.Sprintf(subscription, ""), "//b.example", "//me:secret@b.example", 1), "url: leave user and password out"},
		{strings.Replace(fmt.Sprintf(subscription, ""), "https://b.example/", "/webhooks", 1), "url: want an absolute URL"},
		{"consumer: {}", "1:11: consumer.feeds: missing"},
		{"consumer: {feeds: [{name: a}]}", "1:20: consumer.feeds[0].url: missing\n1:20: consumer.feeds[0].resources: missing"},
		{strings.Replace(fmt.Sprintf(feed, ""), "name: a", "name: local", 1), "consumer.feeds[0].name: local is the name of this agent's own records"},
		{strings.Replace(fmt.Sprintf(feed, ""), "/odata", "/odata?x=1", 1), "url: want the OData service root"},
		{strings.Replace(fmt.Sprintf(feed, ""), "https", "ftp", 1), "url: want an absolute URL"},
		{strings.Replace(fmt.Sprintf(feed, ""), "[Property]", "[Property, Property, 'a/b', EntityEvent]", 1), "resources[1]: Property stands there twice\n:resources[2]: \"a/b\" is not the name\n:resources[3]: EntityEvent is the log itself"},
		{fmt.Sprintf(feed, ", strategy: timestamp"), "strategy: timestamp is not supported"},
		{fmt.Sprintf(feed, ", strategy: magic"), `strategy: unknown strategy "magic"`},
		{fmt.Sprintf(feed, ", poll: often"), "poll: want cron with five fields"},
		{fmt.Sprintf(feed, ", poll: '* * * * * *'"), "poll: want cron with five fields"},
		{fmt.Sprintf(feed, ", poll: '@every 0s'"), "poll: want @every with a duration of a second"},
		{fmt.Sprintf(feed, ", poll: TZ=0"), "poll: leave out the time zone"},
		{fmt.Sprintf(feed, ", poll: 'CRON_TZ=UTC 0 3 * * *'"), "poll: leave out the time zone"},
		{fmt.Sprintf(feed, ", poll: '0 3 31 2 *'"), "poll: this day never comes"},
		{fmt.Sprintf(feed, ", reconcile: sometimes"), "reconcile: want cron with five fields"},
		{fmt.Sprintf(feed, ", reconcile: '@every 1ms'"), "reconcile: want @every with a duration of a second"},
		{fmt.Sprintf(feed, ", stale_after: 15"), "stale_after: want a duration, as 15s"},
		{fmt.Sprintf(feed, ", stale_after: -1h"), "stale_after: want a duration from 1s"},
		{fmt.Sprintf(feed, ", stale_after: 1ms"), "stale_after: want a duration from 1s"},
		{fmt.Sprintf(feed, ", stale_after: 1000h"), "stale_after: want a duration from 1s"},
		{fmt.Sprintf(feed, ", limits: {hourly: -1}"), "limits.hourly: want a number from 1"},
		{fmt.Sprintf(feed, ", limits: {daily: 1/s}"), "limits.daily: want a whole number"},
		{fmt.Sprintf(feed, ", limits: {hourly: 100, daily: 99}"), "limits.daily: it is below hourly"},
		{fmt.Sprintf(feed, ", long_poll: yes"), "long_poll: want true or false"},
		{fmt.Sprintf(feed, ", limits: {rate: 5}"), "limits.rate: want requests per time"},
		{fmt.Sprintf(feed, ", limits: {rate: 0/s}"), "limits.rate: want requests per time"},
		{fmt.Sprintf(feed, ", limits: {rate: -1/s}"), "limits.rate: want requests per time"},
		{fmt.Sprintf(feed, ", limits: {rate: NaN/s}"), "limits.rate: want requests per time"},
		{fmt.Sprintf(feed, ", page: 1000000000"), "page: want a number from 1 to"},
		{fmt.Sprintf(feed, ", key_batch: -5"), "key_batch: want a number from 1 to"},
		{fmt.Sprintf(feed, ", token: a b"), "token: a token or secret has no spaces"},
		{fmt.Sprintf(feed, ", token: t"+oauth), "token: leave it out, or client_id"},
		{fmt.Sprintf(feed, ", client_id: us"), "client_secret: missing\n:token_url: missing"},
		{fmt.Sprintf(feed, ", token_url: 'https://a.example/oauth/token'"), "client_id: missing\n:client_secret: missing"},
		{fmt.Sprintf(feed, strings.Replace(oauth, ": s", ": s t", 1)), "client_secret: a token or secret has no spaces"},
		{fmt.Sprintf(feed, strings.Replace(oauth, "https:", "ftp:", 1)), "token_url: want an absolute URL"},
		{"producer: {}\ntls: {}", "2:6: tls.cert: missing\n2:6: tls.key: missing"},
		{"producer: {}\ntls:\n  cert: c.pem\n", "2:1: tls.key: missing"},
		{"producer: {}\ntrusted_proxies: [10.0.0.1]", "2:19: trusted_proxies[0]: want a network"},
		{"producer: {}\ncors_origins: [app.example, 'https://app.example/', 'https://App.example', 'https://app.example:443', 'null']",
			"2:16: cors_origins[0]: want an origin\n2:29: cors_origins[1]: want an origin\n2:53: cors_origins[2]: want\n2:76: cors_origins[3]: want\n2:103: cors_origins[4]: want"},
		{"producer: {}\naccess_log: yes", "2:13: access_log: want true or false"},
		{"producer: {}\ncompact: nightly", "2:10: compact: want cron with five fields"},
		{"producer: {}\nforget: 1h", "2:9: forget: want a duration of a day or more"},
		{"producer: {}\nforget: -3y", "2:9: forget: want a duration, as 90d or 3y, or never"},
		{"producer: {}\nforget: 400y", "2:9: forget: want a duration, as"},
		{"producer: {}\nforget: 99999999999999999999d", "2:9: forget: want a duration, as"},
		{"producer: {keys: {'a b': c, Showing: ''}}", "1:19: producer.keys.a b: \"a b\" is not the name of a resource\n1:29: producer.keys.Showing: \"\" is not the name of a field"},
		{"producer: {profiles: {idx: }}", "1:23: producer.profiles.idx: it shows nothing"},
		{"producer: {profiles: {'a/b': {Property: {}}}}", `1:23: producer.profiles.a/b: "a/b" is no name here`},
		{"producer: {profiles: {all: {Property: {}}}}", "1:23: producer.profiles.all: all is what a client without a profile sees"},
		{"producer: {profiles: [idx]}", "1:22: producer.profiles: want keys and values"},
		{fmt.Sprintf(profile, "Property: {filters: x}"), "unknown key; known here: filter, with, hide"},
		{fmt.Sprintf(profile, "EntityEvent: {}"), "producer.profiles.idx.EntityEvent: EntityEvent is the log itself"},
		{fmt.Sprintf(profile, "Property: {hide: [ListingKey, 'a/b', A, A]}, Member: {hide: [MemberKey]}"),
			`Property.hide[0]: ListingKey is the key of Property` + "\n" + `:hide[1]: "a/b" is not the name` + "\n:hide[3]: A stands there twice\n:Member.hide[0]: MemberKey is the key of Member"},
		{strings.Replace(fmt.Sprintf(profile, "Showing: {hide: [ShowingId]}"), "{prof", "{keys: {Showing: ShowingId}, prof", 1), "hide[0]: ShowingId is the key of Showing"},
		{fmt.Sprintf(profile, "Media: {with: Property}"), "1:43: producer.profiles.idx.Media.with: this profile does not show Property"},
		{fmt.Sprintf(profile, "Media: {with: Media}"), "with: Media cannot be seen with itself"},
		{fmt.Sprintf(profile, "Property: {}, Media: {with: Property, filter: \"Order eq 1\"}"), "with: a record is seen with another or by a filter"},
		{fmt.Sprintf(profile, "Property: {}, Media: {with: Property}, Notes: {with: Media}"), "Notes.with: Media is seen with Property itself"},
		{fmt.Sprintf(profile, "Property: {}, Member: {with: Property}"), "Member.with: the records of Member belong to none of Property"},
		{fmt.Sprintf(profile, "Member: {}, OpenHouse: {with: Member}"), "OpenHouse.with: the records of OpenHouse belong to none of Member"},
		{fmt.Sprintf(profile, "property: {}"), "producer.profiles.idx.property: did you mean Property?"},
		{fmt.Sprintf(profile, "Property: {filter: \"City eq 'A' or\"}"), "1:48: producer.profiles.idx.Property.filter: Unexpected end at position 14"},
		{fmt.Sprintf(profile, "Property: {filter: \"year(CloseDate) eq 2026\"}"), "filter: "},
		{fmt.Sprintf(profile, "Property: {filter: \"ModificationTimestamp lt now()\"}"), "filter: now() is not for profiles"},
		{fmt.Sprintf(profile, "Property: {filter: \"City eq ${UNSET_CITY}\"}"), "filter: the environment variable UNSET_CITY is not set"},
		{"producer: {clients: [{name: a, profile: idx}]}", `1:41: producer.clients[0].profile: there is no profile "idx"`},
		{"producer: {profiles: {idx: {Property: }}, clients: [{name: a, profile: idx, scopes: [read, write, admin, subscribe]}]}",
			"scopes[1]: a client with a profile sees a part, and write is for all\n:scopes[2]: a client with a profile sees a part, and admin"},
		{"producer: {clients: [{name: a, limits: {rate: 10}}]}", "1:47: producer.clients[0].limits.rate: want requests per time"},
		// All at once, in order.
		{"listen: x\nproducer:\n  feed: y\n  zzz: 1\n", "1:9: listen: want host:port\n3:9: producer.feed: there is no feed\n4:3: producer.zzz: unknown key"},
	} {
		_, err := config.Parse("c.yaml", []byte(c.text), func(name string) (string, bool) { return "v", !strings.HasPrefix(name, "UNSET") })
		var all *config.Error
		if !errors.As(err, &all) {
			t.Errorf("%s\n%v", c.text, err)
			continue
		}
		wants := strings.Split(c.want, "\n")
		if len(all.Problems) != len(wants) {
			t.Errorf("%s\n%v\nwant %d problems", c.text, err, len(wants))
			continue
		}
		for i, p := range all.Problems {
			got := fmt.Sprintf("%d:%d: %s: %s", p.Line, p.Column, p.Path, p.Text)
			got = strings.ReplaceAll(got, ": : ", ": ")
			if !strings.Contains(got, strings.TrimPrefix(wants[i], ":")) {
				t.Errorf("%s\n%s\nwant %s", c.text, got, wants[i])
			}
		}
	}
}

func TestNeverToForget(t *testing.T) {
	for text, want := range map[string]config.Age{"never": 0, "0s": 0, "90d": config.Age(90 * 24 * time.Hour)} {
		c, err := config.Parse("c.yaml", []byte("producer: {}\nforget: "+text), none)
		if err != nil || c.Forget != want {
			t.Errorf("%s: %v %v", text, c, err)
		}
	}
}

func TestErrorShowsTheLine(t *testing.T) {
	_, err := config.Parse("etc/resosync.yaml", []byte("producer:\n  clients:\n    - {name: a, scope: [read]}\n"), none)
	const want = `etc/resosync.yaml:3:17: producer.clients[0].scope: unknown key; known here: name, scopes, profile, limits
     3 |     - {name: a, scope: [read]}`
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

// No error shows a secret, wherever on its line the problem is.
func TestErrorHidesSecrets(t *testing.T) {
	for _, text := range []string{
		"producer: {subscriptions: [{nam: s, token: hidden, url: 'https://b.example/?k=hidden'}]}",
		"producer:\n  subscriptions:\n    - {url: 'https://hidden:hidden@b.example/', token: \"hidden\"}",
		"producer:\n  subscriptions:\n    - secret: hidden",
		"producer:\n  subscriptions:\n    - token: 'hidden' hidden",
		"producer:\n  subscriptions:\n    - token: \"hidden",
		"producer:\n  subscriptions:\n    - token: [hidden]",
		"producer:\n  subscriptions:\n    - token: hid den\n      tokenn: hidden",
		"producer:\n  subscriptions:\n    - url: '://b.example/?hidden'",
		"producer:\n  subscriptions:\n    - token: ${HIDDEN}\n      url: ${HIDDEN}\n      name: n",
		"consumer:\n  feeds:\n    - {url: \"https://a.example/odata?hidden\", token: hidden hidden, \"client_secret\": hidden}",
		"consumer:\n  feeds:\n    - token: hidden: hidden",
	} {
		_, err := config.Parse("c.yaml", []byte(text), func(string) (string, bool) { return "hidden value", true })
		if err == nil || strings.Contains(err.Error(), "hid") {
			t.Errorf("%s\n%v", text, err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	c := parse(t, `
producer: {clients: [{name: c}], subscriptions: [{name: s, client: c, url: "https://b.example/hook?k=hidden", token: hidden, secret: hiddenhiddenhiddenhiddenhiddenhi}]}
consumer: {feeds: [{name: f, url: "https://a.example/odata", token: hidden, resources: [Property]}]}`)
	var logged strings.Builder
	for _, handler := range []slog.Handler{slog.NewTextHandler(&logged, nil), slog.NewJSONHandler(&logged, nil)} {
		log := slog.New(handler)
		log.Info("x", "config", c, "producer", *c.Producer, "feed", c.Consumer.Feeds[0], "token", c.Consumer.Feeds[0].Token, "url", c.Producer.Subscriptions[0].URL)
	}
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Producer.Subscriptions[0]
	texts := []string{logged.String(), string(asJSON), fmt.Sprint(s), fmt.Sprint(c.Producer, *c.Consumer)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10v"} {
		texts = append(texts, fmt.Sprintf(verb, s), fmt.Sprintf(verb, s.Token), fmt.Sprintf(verb, &s.URL), fmt.Sprintf(verb, c.Consumer.Feeds))
	}
	for _, text := range texts {
		if strings.Contains(text, "hidden") || strings.Contains(text, fmt.Sprintf("%x", "hidden")) {
			t.Errorf("a secret is in %s", text)
		}
	}
	if got := fmt.Sprint(s.Token, s.URL); got != "[redacted]https://b.example/hook?[redacted]" && got != "[redacted] https://b.example/hook?[redacted]" {
		t.Errorf("%s", got)
	}
	if string(s.Token) != "hidden" {
		t.Error("a conversion does not show it")
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resosync.yaml")
	if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), "resosync init") {
		t.Errorf("%v, want what to do", err)
	}
	t.Setenv("B_TOKEN", "b")
	t.Setenv("OTHER_TOKEN", "o")
	if err := os.WriteFile(path, config.Example(), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Data != filepath.Join(filepath.Dir(path), "data") || len(c.Producer.Subscriptions) != 1 || len(c.Consumer.Feeds) != 1 {
		t.Errorf("%+v", c)
	}
}

// What the example has commented out loads as well: it is no other than what the reader knows.
func TestExampleWithEverything(t *testing.T) {
	lines := strings.Split(string(config.Example()), "\n")
	switched := 0
	for i, line := range lines {
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		key, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimLeft(line, " "), "# "), ": ")
		if strings.HasPrefix(strings.TrimLeft(line, " "), "# ") && ok && !strings.Contains(key, " ") {
			lines[i] = indent + key + ": " + rest
			switched++
		}
	}
	if switched != 26 {
		t.Errorf("%d keys are commented out, want 26", switched)
	}
	text := strings.NewReplacer("${B_SECRET}", "${SIGNING_SECRET}").Replace(strings.Join(lines, "\n"))
	parse(t, text)
}

func FuzzParse(f *testing.F) {
	f.Add(string(config.Example()))
	for _, seed := range []string{"a: b", "producer: {clients: [{name: ${X}}]}", "- [", "x: |\n  y", "&a [*a]", "? a\n: b", "\"\\x", "<<: *x"} {
		f.Add(seed)
	}
	for _, spec := range []string{"TZ=", "CRON_TZ=UTC 0 3 * * *", "@every 1h", "@daily", "0 3 31 2 *", "*/5 * * * *", "never"} {
		f.Add(fmt.Sprintf("consumer: {feeds: [{name: a, url: 'https://a.example/odata', resources: [P], reconcile: '%s', poll: '%[1]s'}]}", spec))
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := config.Parse("c.yaml", []byte(text), func(string) (string, bool) { return "v", true })
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
		if err != nil && err.Error() == "" {
			t.Fatal("an error without a text")
		}
		if err != nil || c.Consumer == nil {
			return
		}
		for _, feed := range c.Consumer.Feeds { // what is accepted, the feeds can use
			for _, spec := range []string{feed.Poll, feed.Reconcile} {
				if spec == "" || spec == config.Never {
					continue
				}
				if schedule, err := cron.ParseStandard(spec); err != nil || schedule.Next(time.Unix(0, 0)).IsZero() {
					t.Errorf("%q was accepted: %v", spec, err)
				}
			}
			if feed.Name == "" || feed.URL == "" || len(feed.Resources) == 0 || feed.StaleAfter < 0 || feed.Limits.Hourly < 0 || feed.Limits.Daily < 0 {
				t.Errorf("%+v was accepted", feed)
			}
		}
	})
}
