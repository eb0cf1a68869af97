package subscription_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// golden is a body in which what differs from run to run is replaced.
func golden(a answered, id string) string {
	body := strings.ReplaceAll(a.body, id, "U")
	if created := a.member("created"); created != "" {
		body = strings.ReplaceAll(body, created, "T")
	}
	return strings.TrimSuffix(body, "\n")
}

const goldenLinks = `{"_links":{"cancel":{"href":"/subscriptions/U"},"event-types":{"href":"/event-types"},"resume":{"href":"/subscriptions/U/resume"},"self":{"href":"/subscriptions/U"}},"UUID":"U",`

func TestRegister(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	head := x.put("Property", "1", "2", "3")
	for _, c := range []struct {
		name, body string
		golden     string // what follows UUID
		want       producer.Subscription
	}{
		{"least", `{"callbackUrl": "https://192.0.2.7/send/callback/here"}`,
			`"status":"active","mode":"continuous","eventTypes":[],"cursor":3,"message":"Your request to subscribe has been accepted.","protocol":"hal","batchSize":500,"timeout":"15s","client":"vendor-b","created":"T"}`,
			producer.Subscription{URL: "https://192.0.2.7/send/callback/here", Mode: producer.Continuous, Protocol: producer.HAL, BatchEvents: 500, Timeout: 15 * time.Second}},
		{"all", `{"callbackUrl": "https://192.0.2.7/hook?key=hidden-query", "callbackToken": "hidden-token", "mode": "only-once", "eventTypes": ["Property", "Media", "Property"], "fromSequence": 1,
			"consumerLabel": "IDX Feed 123", "batchSize": 1, "timeout": "1m", "protocol": "hal", "secret": "` + secret + `"}`,
			`"status":"active","mode":"only-once","eventTypes":["Media","Property"],"cursor":1,"message":"Your request to subscribe has been accepted.","protocol":"hal","consumerLabel":"IDX Feed 123","batchSize":1,"timeout":"1m0s","client":"vendor-b","created":"T"}`,
			producer.Subscription{URL: callback, Token: "hidden-token", Secret: secret, Label: "IDX Feed 123", EventTypes: []string{"Media", "Property"}, Mode: producer.OnlyOnce, Protocol: producer.HAL, BatchEvents: 1, Timeout: time.Minute}},
		{"a token", `{"callbackUrl": "https://192.0.2.7/", "callbackToken": "hidden-token", "fromSequence": "0", "timeout": 2.5}`,
			`"status":"active","mode":"continuous","eventTypes":[],"cursor":0,"message":"Your request to subscribe has been accepted.","protocol":"reso","batchSize":500,"timeout":"2.5s","client":"vendor-b","created":"T"}`,
			producer.Subscription{URL: "https://192.0.2.7/", Token: "hidden-token", Mode: producer.Continuous, Protocol: producer.RESO, BatchEvents: 500, Timeout: 2500 * time.Millisecond}},
		{"nothing but null", `{"callbackUrl": "https://192.0.2.7/", "consumerLabel": "B", "callbackToken": null, "mode": null, "eventTypes": null, "fromSequence": null, "batchSize": null, "timeout": null, "protocol": null, "secret": null}`,
			`"status":"active","mode":"continuous","eventTypes":[],"cursor":3,"message":"Your request to subscribe has been accepted.","protocol":"reso","consumerLabel":"B","batchSize":500,"timeout":"15s","client":"vendor-b","created":"T"}`,
			producer.Subscription{URL: "https://192.0.2.7/", Label: "B", Mode: producer.Continuous, Protocol: producer.RESO, BatchEvents: 500, Timeout: 15 * time.Second}},
		{"a type without records", `{"callbackUrl": "https://192.0.2.7/", "consumerLabel": "B", "eventTypes": ["OpenHouse"]}`,
			`"status":"active","mode":"continuous","eventTypes":["OpenHouse"],"cursor":3,"message":"Your request to subscribe has been accepted.","protocol":"reso","consumerLabel":"B","batchSize":500,"timeout":"15s","client":"vendor-b","created":"T"}`,
			producer.Subscription{URL: "https://192.0.2.7/", Label: "B", EventTypes: []string{"OpenHouse"}, Mode: producer.Continuous, Protocol: producer.RESO, BatchEvents: 500, Timeout: 15 * time.Second}},
	} {
		a := x.ask(whole, "POST", "/subscriptions", c.body)
		a.want(t, 201)
		id := a.member("UUID")
		if got, want := golden(a, id), goldenLinks+c.golden; got != want {
			t.Errorf("%s:\n%s, want\n%s", c.name, got, want)
		}
		if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id {
			t.Errorf("%s: %s is no UUID", c.name, id)
		}
		for name, want := range map[string]string{"Location": "https://sync.acme.example/subscriptions/" + id, "Content-Type": "application/hal+json", "Cache-Control": "no-store", "Vary": "Accept"} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %s: %s, want %s", c.name, name, got, want)
			}
		}
		c.want.Name, c.want.Client, c.want.Mask, c.want.Self = id, whole, entityevent.Everyone, "/subscriptions/"+id
		if got, _, _ := x.pushers.last(); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c.want) {
			t.Errorf("%s: started\n%+v, want\n%+v", c.name, got, c.want)
		}
		// What is stored says the same, and is there before it is answered.
		if s := x.state(id); fmt.Sprint(s.Cursor) != a.member("cursor") || s.Status != producer.Active || s.Cursor > head {
			t.Errorf("%s: %+v", c.name, s)
		}
		read := x.ask(whole, "GET", "/subscriptions/"+id, "")
		if got, want := read.want(t, 200), strings.Replace(a.body, `"message":"Your request to subscribe has been accepted.",`, "", 1); got != want {
			t.Errorf("%s: reads\n%s, want\n%s", c.name, got, want)
		}
	}
}

const secret = "whsec_aGlkZGVuLXNlY3JldC0wMTIzNDU2Nzg5YWJjZGVm"

// TestRegistrationRefused: everything that is understood and refused is a 403 that says why.
func TestRegistrationRefused(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	x.put("Property", "1")
	with := func(more string) string { return `{"callbackUrl": "https://192.0.2.7/", ` + more + `}` }
	for _, c := range []struct {
		body   string
		status int
		says   string
	}{
		{`{`, 400, "not a JSON object"}, {``, 403, "callbackUrl is missing"}, {`[]`, 400, "not a JSON object"}, {`"x"`, 400, "not a JSON object"}, {`{} {}`, 400, "not a JSON object"},
		{`null`, 400, "The body is null"}, {`{}`, 403, "callbackUrl is missing"}, {`{"callbackUrl": null}`, 403, "callbackUrl is missing"},
		{`{"callbackUrl": 7}`, 400, "The member callbackUrl may not be a JSON number"},
		{with(`"callbackToken": {}`), 400, "The member callbackToken may not be a JSON object"},
		{with(`"eventTypes": "Property"`), 400, "The member eventTypes may not be a JSON string"},
		{with(`"eventTypes": [1]`), 400, "The member eventTypes may not be a JSON number"},
		{with(`"mode": true`), 400, "The member mode may not be a JSON bool"},
		{with(`"batchSize": "5"`), 400, "The member batchSize may not be a JSON string"},
		{with(`"batchSize": 1.5`), 400, "The member batchSize is no whole number"},
		{with(`"timeout": []`), 400, "The member timeout may not be a JSON array"},
		{with(`"fromSequence": true`), 400, "fromSequence is no sequence"}, {with(`"fromSequence": 1.5`), 400, "fromSequence is no sequence"}, {with(`"fromSequence": ""`), 400, "fromSequence is no sequence"},
		{with(`"fromSequence": -1`), 403, "may not be negative"},
		{with(`"fromSequence": 2`), 422, "fromSequence is above the newest event, which is 1"}, {with(`"fromSequence": "9223372036854775807"`), 422, "above the newest"}, {with(`"fromSequence": 92233720368547758080`), 422, "above the newest"},
		{with("\"consumerLabel\": \"\xff\""), 400, "is not UTF-8"}, {with(`"mode": "twice"`), 403, "mode is none of those that there are: continuous, only-once"},
		{with(`"protocol": "xml"`), 403, "protocol is none of those that there are: hal, reso"},
		{with(`"batchSize": 0`), 403, "batchSize is not within 1 and 5000"}, {with(`"batchSize": 5001`), 403, "batchSize is not within"},
		{with(`"timeout": 0.5`), 403, "timeout is not within"}, {with(`"timeout": "1m1ns"`), 403, "timeout is not within"}, {with(`"timeout": 1e300`), 403, "timeout is not within"}, {with(`"timeout": "soon"`), 403, "timeout is not within"}, {with(`"timeout": "1h"`), 403, "timeout is not within"}, {with(`"timeout": "-5s"`), 403, "timeout is not within"},
		{with(`"consumerLabel": "\ud800"`), 403, "consumerLabel"},
		{with(`"consumerLabel": "a\nb"`), 403, "consumerLabel"}, {with(`"consumerLabel": " a"`), 403, "consumerLabel"}, {with(`"consumerLabel": "` + strings.Repeat("x", 256) + `"`), 403, "consumerLabel"},
		{with(`"callbackToken": "two words"`), 403, "callbackToken"}, {with(`"callbackToken": "hidden\u0000"`), 403, "callbackToken"}, {with(`"callbackToken": "` + strings.Repeat("x", 4097) + `"`), 403, "callbackToken"},
		{with(`"secret": "whsec_!"`), 403, "secret"},
		{with(`"eventTypes": ["Castle"]`), 403, `"Castle" is none that you may subscribe to`}, {with(`"eventTypes": ["EntityEvent"]`), 403, "none that you may"}, {with(`"eventTypes": ["property"]`), 403, "none that you may"}, {with(`"eventTypes": [""]`), 403, "none that you may"},
		{with(`"eventTypes": ["x"` + strings.Repeat(`,"x"`, 1000) + `]`), 403, "more than 1000"},
		{`{"callbackUrl": "https://192.0.2.7/` + strings.Repeat("x", 2000-len("https://192.0.2.7/")) + `", "mode": "x"}`, 403, "mode"}, // not too long
		{`{"callbackUrl": "https://192.0.2.7/` + strings.Repeat("x", 2001-len("https://192.0.2.7/")) + `"}`, 403, "longer than 2000"},
		{`{"callbackUrl": "https://10.1.2.3/hook?key=hidden-query"}`, 403, "is not public"}, {`{"callbackUrl": "https://[::1]/hook"}`, 403, "is not public"}, {`{"callbackUrl": "ftp://192.0.2.7/hidden"}`, 403, "callbackUrl"}, {`{"callbackUrl": "hidden"}`, 403, "callbackUrl"},
		{`{"callbackUrl": "https://169.254.169.254/latest/meta-data"}`, 403, "is not public"}, {`{"callbackUrl": "https://user:hidden@192.0.2.7/"}`, 403, "callbackUrl"}, {`{"callbackUrl": "https://2130706433/"}`, 403, "callbackUrl"},
		{`{"callbackUrl": "` + strings.Repeat("x", 64<<10) + `"}`, 413, "larger than 65536 bytes"},
	} {
		a := x.ask(whole, "POST", "/subscriptions", c.body)
		if a.wantRefused(t, c.status, c.says); strings.Contains(a.body, "hidden") {
			t.Errorf("%.80s: repeats a secret: %s", c.body, a.body)
		}
	}
	x.ask(whole, "POST", "/subscriptions", `{"callbackUrl": "https://192.0.2.7/"}`, "Content-Type: text/plain").wantRefused(t, 415, "application/json")
	if n := x.count("registration") + x.count(producer.SubscriptionKind); n != 0 {
		t.Errorf("%d documents of what was refused", n)
	}
	if _, starts, _ := x.pushers.last(); starts != 0 {
		t.Errorf("%d were started", starts)
	}
}

// TestBelowTheFloor: where events of the feed that is served were forgotten nobody can begin, but at 0, from where all that
// is left is told.
func TestBelowTheFloor(t *testing.T) {
	t.Parallel()
	for _, feed := range []string{entityevent.Local, "mls"} {
		x := newRig(t)
		x.api.Feed = feed
		one, two, three := entityevent.Ref{Resource: "Property", Key: "1"}, entityevent.Ref{Resource: "Property", Key: "2"}, entityevent.Ref{Resource: "Property", Key: "3"}
		for _, change := range []entityevent.Change{{Ref: one, Body: []byte(`{}`)}, {Ref: two, Body: []byte(`{}`)}, {Ref: one, Op: entityevent.Remove}, {Ref: three, Body: []byte(`{}`)}} {
			if _, err := x.store.Apply(t.Context(), entityevent.Commit{Feed: feed, Changes: []entityevent.Change{change}}); err != nil {
				t.Fatal(err)
			}
		}
		if done, err := x.store.Compact(t.Context(), entityevent.Compaction{Forget: time.Now().Add(time.Hour)}); err != nil || done.Forgotten != 1 {
			t.Fatalf("%+v, %v", done, err)
		}
		id := x.register(whole, "")
		if s, _, _ := x.pushers.last(); s.Feed != feed {
			t.Errorf("%+v", s)
		}
		for from, status := range map[int]int{0: 201, 1: 403, 2: 403, 3: 201, 4: 201} {
			made := x.ask(whole, "POST", "/subscriptions", fmt.Sprintf(`{"callbackUrl": "https://192.0.2.7/", "fromSequence": %d}`, from))
			replayed := x.ask(whole, "POST", "/subscriptions/"+id+"/resume", fmt.Sprintf(`{"fromSequence": %d}`, from))
			if status == 403 {
				made.wantRefused(t, 403, "was forgotten: begin at 0, or load all records and begin at 3")
				replayed.wantRefused(t, 403, "was forgotten")
			} else if made.want(t, 201); made.member("cursor") != fmt.Sprint(from) || replayed.want(t, 202) == "" || replayed.member("cursor") != fmt.Sprint(from) {
				t.Errorf("%d: %s, %s", from, made.body, replayed.body)
			}
		}
	}
}

func TestWhoMayRegister(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	for _, target := range []string{"/event-types", "/subscriptions", "/subscriptions/x", "/subscriptions/x/resume", "/nothing"} {
		for client, status := range map[string]int{"": 401, "unknown": 401, "reader": 403, "broken": 503, "shaken": 503} {
			for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
				a := x.ask(client, method, target, "")
				if a.want(t, status); strings.Contains(a.body, "internal") || (a.header.Get("WWW-Authenticate") != "") != (status == 401) || (a.header.Get("Retry-After") == "5") != (status == 503) {
					t.Errorf("%q %s %s: %s %v", client, method, target, a.body, a.header)
				}
			}
		}
	}
	const body = `{"callbackUrl": "https://192.0.2.7/"}`
	for _, c := range []struct {
		client, target string
		status         int
		says           string // or whose it is
	}{
		{whole, "/subscriptions?client=" + whole, 201, whole},
		{whole, "/subscriptions?client=" + other, 403, "Only the admin token"},
		{whole, "/subscriptions?client=nobody", 403, "Only the admin token"},
		{owner, "/subscriptions?client=" + other, 201, other},
		{owner, "/subscriptions?client=" + idx, 201, idx},
		{owner, "/subscriptions?client=nobody", 403, "no client of this name"},
		{owner, "/subscriptions", 403, "?client=NAME"},
	} {
		a := x.ask(c.client, "POST", c.target, body)
		if c.status != 201 {
			a.wantRefused(t, c.status, c.says)
			continue
		}
		a.want(t, 201)
		s, _, _ := x.pushers.last()
		if a.member("client") != c.says || s.Client != c.says || s.Mask != x.clients[c.says].Mask || s.Profile != x.clients[c.says].Profile {
			t.Errorf("%s %s: %s, %+v", c.client, c.target, a.body, s)
		}
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	id := x.register(whole, "")
	for target, allow := range map[string]string{
		"/event-types":                        "GET, HEAD, OPTIONS",
		"/subscriptions":                      "GET, HEAD, POST, OPTIONS",
		"/subscriptions/" + id:                "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
		"/subscriptions/" + id + "/resume":    "POST, OPTIONS",
		"/subscriptions/" + id + "/":          "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
		"/event-types/":                       "GET, HEAD, OPTIONS",
		"/subscriptions/":                     "GET, HEAD, POST, OPTIONS",
		"/subscriptions/" + id + "/resume/":   "POST, OPTIONS",
		"/subscriptions//":                    "",
		"/subscriptions/" + id + "/resume/it": "",
		"/subscriptions/" + id + "/cancel":    "",
		"/event-types/Property/":              "GET, HEAD, OPTIONS",
		"/event-types/Property/it":            "",
		"/":                                   "",
	} {
		a := x.ask(whole, "OPTIONS", target, "")
		if allow == "" {
			a.wantRefused(t, 404, "There is nothing here")
			continue
		}
		if a.want(t, 204); a.header.Get("Allow") != allow || a.body != "" {
			t.Errorf("%s: %v %s, want %s", target, a.header, a.body, allow)
		}
		for _, method := range []string{"PATCH", "PUT", "DELETE", "GET"} {
			if strings.Contains(allow, method) {
				continue
			}
			a := x.ask(whole, method, target, "")
			if a.wantRefused(t, 405, allow); a.header.Get("Allow") != allow {
				t.Errorf("%s %s: %v", method, target, a.header)
			}
		}
	}
	for target, kind := range map[string]string{"": "application/hal+json", "*/*": "application/hal+json", "application+json": "application/hal+json", "text/html": "application/hal+json", "application/json": "application/json", "application/json;q=0.9, application/hal+json;q=0.8": "application/json"} {
		for _, path := range []string{"/subscriptions", "/event-types/", "/subscriptions/" + id} {
			a := x.ask(whole, "GET", path, "", "Accept: "+target)
			if a.want(t, 200); a.header.Get("Content-Type") != kind || a.header.Get("Vary") != "Accept" || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s as %q: %v", path, target, a.header)
			}
			head := x.ask(whole, "HEAD", path, "", "Accept: "+target)
			if head.want(t, 200); head.header.Get("Content-Type") != kind {
				t.Errorf("HEAD %s as %q: %v", path, target, head.header)
			}
		}
	}
}
