package subscription_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/resosync/resosync/producer"
)

func TestList(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	const none = `{"_embedded":{"subscriptions":[]},"_links":{"event-types":{"href":"/event-types"},"self":{"href":"/subscriptions"},"subscription":{"href":"/subscriptions/{uuid}","templated":true}},"totalCount":0}`
	if got := strings.TrimSpace(x.ask(whole, "GET", "/subscriptions", "").want(t, 200)); got != none {
		t.Errorf("%s", got)
	}
	var own []string
	for range 3 {
		own = append(own, x.register(whole, ""))
	}
	theirs := x.register(other, "")
	x.ask(whole, "DELETE", "/subscriptions/"+own[1], "").want(t, 204)
	for _, c := range []struct {
		client, target string
		want           []string
	}{
		{whole, "/subscriptions", own}, {whole, "/subscriptions/?client=" + whole + "&limit=1", own}, {other, "/subscriptions", []string{theirs}}, {idx, "/subscriptions", nil},
		{owner, "/subscriptions", append(own[:3:3], theirs)}, {owner, "/subscriptions?client=" + other, []string{theirs}}, {owner, "/subscriptions?client=" + idx, nil},
	} {
		a := x.ask(c.client, "GET", c.target, "")
		a.want(t, 200)
		var list struct {
			TotalCount int
			Embedded   struct{ Subscriptions []json.RawMessage } `json:"_embedded"`
		}
		if err := json.Unmarshal([]byte(a.body), &list); err != nil {
			t.Fatal(err)
		}
		if list.TotalCount != len(c.want) || len(list.Embedded.Subscriptions) != len(c.want) {
			t.Fatalf("%s %s: %s", c.client, c.target, a.body)
		}
		for i, id := range c.want { // each as it is by itself
			if one := x.ask(owner, "GET", "/subscriptions/"+id, "").want(t, 200); strings.TrimSpace(one) != string(list.Embedded.Subscriptions[i]) {
				t.Errorf("%s %s: %s, want %s", c.client, c.target, list.Embedded.Subscriptions[i], one)
			}
		}
	}
	x.ask(whole, "GET", "/subscriptions?client="+other, "").wantRefused(t, 403, "Only the admin token")
	x.ask(owner, "GET", "/subscriptions?client=nobody", "").wantRefused(t, 403, "no client of this name")
	// One that is in the configuration no longer, and has a token yet.
	x.api.Clients = func(string) (producer.Client, bool) { return producer.Client{}, false }
	if got := x.ask(other, "GET", "/subscriptions", "").want(t, 200); strings.Count(got, `"UUID"`) != 1 || !strings.Contains(got, theirs) {
		t.Errorf("%s", got)
	}
}

// TestPusherIsFaster: a change that meets one of the pusher's is made all the same, in full.
func TestPusherIsFaster(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	id := x.register(whole, "")
	x.api.Store = &contended{Store: x.store, faster: func() { x.move(id, func(s *producer.SubscriptionState) { s.Attempts++ }) }}
	x.ask(whole, "PATCH", "/subscriptions/"+id, `{"callbackToken": "new", "batchSize": 7}`).want(t, 200)
	s, starts, _ := x.pushers.last()
	subs, err := x.api.Active(t.Context())
	if err != nil || len(subs) != 1 || subs[0].Token != "new" || subs[0].BatchEvents != 7 || starts != 2 || s.Token != "new" {
		t.Errorf("%+v, %v; %d starts, %+v", subs, err, starts, s)
	}
}

// TestHalfThere: of what a sweep is about to forget, or of a state that no client registered, nobody is told, and
// neither is touched.
func TestHalfThere(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	const half = "00000000-0000-7000-8000-000000000001"
	x.write("registration", half, map[string]string{"uuid": half, "client": whole})
	x.write(producer.SubscriptionKind, "portal-b", producer.SubscriptionState{Name: "portal-b", Status: producer.Cancelled, Since: time.Now().Add(-31 * 24 * time.Hour)})
	for _, c := range []struct{ method, path, body string }{
		{"GET", "", ""}, {"PUT", "", ""}, {"DELETE", "", ""}, {"PATCH", "", `{"batchSize": 1}`}, {"POST", "/resume", ""},
	} {
		x.ask(whole, c.method, "/subscriptions/"+half+c.path, c.body).wantRefused(t, 404, "no such subscription of yours")
	}
	if got := x.ask(whole, "GET", "/subscriptions", "").want(t, 200); !strings.Contains(got, `"totalCount":0`) || x.active() != nil {
		t.Errorf("%s, %q", got, x.active())
	}
	if names, err := x.api.SuspendClient(t.Context(), whole, "revoked"); names != nil || err != nil {
		t.Errorf("%q, %v", names, err)
	}
	x.watch(t, func() { x.sweep() })
}

// A list that does not go into one page is read on by its links, whole and without repetition.
func TestListOfPages(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	var own []string
	for range 1001 {
		own = append(own, x.register(whole, ""))
		if len(own) == 1000 && strings.Contains(x.ask(whole, "GET", "/subscriptions", "").want(t, 200), `"next"`) {
			t.Error("after a page that is just full there is another")
		}
	}
	x.register(other, "")
	if got := x.ask(whole, "GET", "/subscriptions?after="+strings.ToUpper(own[999]), "").want(t, 200); strings.Count(got, `"UUID"`) != 1 || !strings.Contains(got, own[1000]) {
		t.Errorf("after %s: %.200s", strings.ToUpper(own[999]), got)
	}
	for _, c := range []struct{ client, target, second string }{
		{whole, "/subscriptions", "/subscriptions?after=" + own[999]},
		{owner, "/subscriptions?page=2&client=" + whole, "/subscriptions?after=" + own[999] + "&client=" + whole},
	} {
		var got []string
		targets := []string{c.target}
		for next := c.target; next != ""; {
			var list struct {
				Links      map[string]struct{ Href string } `json:"_links"`
				TotalCount int
				Embedded   struct {
					Subscriptions []struct{ UUID string }
				} `json:"_embedded"`
			}
			if err := json.Unmarshal([]byte(x.ask(c.client, "GET", next, "").want(t, 200)), &list); err != nil {
				t.Fatal(err)
			}
			if list.TotalCount != len(own) {
				t.Errorf("%s: %d in all", next, list.TotalCount)
			}
			for _, s := range list.Embedded.Subscriptions {
				got = append(got, s.UUID)
			}
			if next = list.Links["next"].Href; next != "" {
				targets = append(targets, next)
			}
		}
		if !slices.Equal(got, own) || !slices.Equal(targets, []string{c.target, c.second}) {
			t.Errorf("%d subscriptions by %v", len(got), targets)
		}
	}
}

// TestOthers: what is another client's is not there, in the same words as what does not exist.
func TestOthers(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	id := x.register(other, "")
	before := x.state(id)
	unknown := "00000000-0000-7000-8000-000000000000"
	for _, c := range []struct{ method, path, body string }{
		{"GET", "", ""}, {"PUT", "", ""}, {"PUT", "", `{"UUID": "` + id + `"}`}, {"DELETE", "", ""}, {"PATCH", "", `{"batchSize": 1}`}, {"PATCH", "", `{"mode": "only-once"}`},
		{"POST", "", `{"status": "active"}`}, {"POST", "/resume", ""}, {"POST", "/resume", `{"fromSequence": 99}`}, {"PATCH", "", `{`},
	} {
		theirs := x.ask(whole, c.method, "/subscriptions/"+id+c.path, c.body)
		theirs.wantRefused(t, 404, "no such subscription of yours")
		for _, name := range []string{unknown, "x", "{" + unknown + "}", "urn:uuid:" + unknown, strings.ReplaceAll(unknown, "-", ""), "%20"} {
			if a := x.ask(whole, c.method, "/subscriptions/"+name+c.path, c.body); a.status != theirs.status || a.body != theirs.body {
				t.Errorf("%s %s: %d %s, and of another: %d %s", c.method, name, a.status, a.body, theirs.status, theirs.body)
			}
		}
	}
	if got := x.state(id); got != before {
		t.Errorf("it changed: %+v", got)
	}
	// The agent's own people see and change it.
	x.ask(owner, "GET", "/subscriptions/"+strings.ToUpper(id), "").want(t, 200)
	x.ask(owner, "PATCH", "/subscriptions/"+id, `{"batchSize": 7}`).want(t, 200)
	if s, _, _ := x.pushers.last(); s.Client != other || s.BatchEvents != 7 || s.Token != "hidden-token" {
		t.Errorf("%+v", s)
	}
	x.ask(owner, "DELETE", "/subscriptions/"+id, "").want(t, 204)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	x.put("Property", "1")
	const after = `"mode":"continuous","eventTypes":[],"cursor":1,"message":%q,"protocol":"reso","batchSize":500,"timeout":"15s","client":"vendor-b","created":"T"}`
	for _, c := range []struct{ method, body, message string }{
		{"PUT", ``, "Your subscription is cancelled."},
		{"PUT", `{}`, "Your subscription is cancelled."},
		{"PUT", `{"UUID": "U"}`, "Your subscription is cancelled."},
		{"PUT", `{"UUID": "UPPER", "message": "We moved."}`, "We moved."},
		{"PUT", `{"UUID": null, "message": null}`, "Your subscription is cancelled."},
		{"PUT", "the whole", "We read it, and moved."},
		{"DELETE", ``, "Your subscription is cancelled."},
	} {
		id := x.register(whole, "")
		path := "/subscriptions/" + id
		body := strings.NewReplacer("UPPER", strings.ToUpper(id), `"U"`, `"`+id+`"`).Replace(c.body)
		if c.body == "the whole" { // as a client of HAL puts it back
			body = strings.Replace(x.ask(whole, "GET", path, "").body, `{"_links"`, `{"message":"We read it, and moved.","_links"`, 1)
		}
		_, starts, wakes := x.pushers.last()
		for again := range 2 {
			a := x.ask(whole, c.method, path, body)
			want := goldenLinks + `"status":"cancelled",` + fmt.Sprintf(after, c.message)
			if c.method == "DELETE" {
				want = ""
				a.want(t, 204)
			} else {
				a.want(t, 202)
			}
			if got := golden(a, id); got != want {
				t.Errorf("%s %s:\n%s, want\n%s", c.method, body, got, want)
			}
			if _, s, w := x.pushers.last(); s != starts || w != wakes+1 {
				t.Errorf("%s %s, %d times: %d starts and %d wakes", c.method, body, again+1, s-starts, w-wakes)
			}
		}
		// Another message comes too late.
		if a := x.ask(whole, "PUT", path, `{"message": "Late."}`); a.want(t, 202) == "" || a.member("message") != c.message {
			t.Errorf("%s", a.body)
		}
		if read := x.ask(whole, "GET", path, ""); golden(read, id) != goldenLinks+`"status":"cancelled",`+fmt.Sprintf(after, c.message) {
			t.Errorf("%s", read.body)
		}
		if s := x.state(id); s.Status != producer.Cancelled || s.Cursor != 1 {
			t.Errorf("%+v", s)
		}
		// For good.
		x.ask(whole, "POST", path+"/resume", "").wantRefused(t, 403, "cancelled, for good")
		x.ask(whole, "POST", path, `{"status": "active"}`).wantRefused(t, 403, "cancelled, for good")
		x.ask(whole, "PATCH", path, `{"callbackUrl": "https://192.0.2.8/"}`).wantRefused(t, 403, "cancelled, for good")
		x.ask(whole, "DELETE", path, "").want(t, 204)
	}
	id := x.register(whole, "")
	for _, c := range []struct {
		body   string
		status int
		says   string
	}{
		{`{"UUID": "00000000-0000-7000-8000-000000000000"}`, 403, "not that of the path"}, {`{"UUID": ""}`, 403, "not that of the path"},
		{`{"UUID": 7}`, 400, "The member UUID may not be a JSON number"}, {`{"message": []}`, 400, "The member message"}, {`{`, 400, "not a JSON object"}, {`[]`, 400, "not a JSON object"}, {`null`, 400, "The body is null"},
		{`{"message": "a\nb"}`, 403, "message"}, {`{"message": "` + strings.Repeat("x", 256) + `"}`, 403, "message"}, {strings.Repeat(" ", 64<<10) + `{}`, 413, "larger"},
	} {
		x.ask(whole, "PUT", "/subscriptions/"+id, c.body).wantRefused(t, c.status, c.says)
	}
	x.ask(whole, "PUT", "/subscriptions/"+id, "UUID=x", "Content-Type: application/x-www-form-urlencoded").wantRefused(t, 415, "application/json")
	if s := x.state(id); s.Status != producer.Active {
		t.Errorf("%+v", s)
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	x.put("Property", "1", "2", "3", "4", "5")
	const after = `"status":"active","mode":"continuous","eventTypes":[],"cursor":%[1]d,"message":"Your subscription goes on after %[1]d.","protocol":"reso","batchSize":500,"timeout":"15s","client":"vendor-b","created":"T"}`
	for _, c := range []struct {
		path, body string
		cursor     int
	}{
		{"/resume", ``, 2}, {"/resume", `{}`, 2}, {"/resume", `{"fromSequence": null}`, 2}, {"/resume", `{"fromSequence": 0}`, 0}, {"/resume/", `{"fromSequence": "4"}`, 4}, {"/resume", `{"fromSequence": 5}`, 5},
		{"", `{"status": "active"}`, 2}, {"", `{"status": "active", "fromSequence": 1}`, 1},
	} {
		id := x.register(whole, `, "fromSequence": 2`)
		x.move(id, func(s *producer.SubscriptionState) {
			s.LastError, s.Attempts, s.FailingSince = "503 Service Unavailable", 7, time.Now()
			s.Suspend("not one push was taken for 24h")
		})
		if a := x.ask(whole, "GET", "/subscriptions/"+id, ""); a.want(t, 200) == "" || a.member("status") != "suspended" || a.member("lastError") != "503 Service Unavailable" || a.member("message") != "not one push was taken for 24h" {
			t.Errorf("%s", a.body)
		}
		started, starts, wakes := x.pushers.last()
		a := x.ask(whole, "POST", "/subscriptions/"+id+c.path, c.body)
		if got, want := golden(a, id), goldenLinks+fmt.Sprintf(after, c.cursor); a.status != 202 || got != want {
			t.Errorf("%s %s: %d\n%s, want\n%s", c.path, c.body, a.status, got, want)
		}
		if got := x.state(id); got.Status != producer.Active || int(got.Cursor) != c.cursor || int(got.Acknowledged) != c.cursor || got.Attempts != 0 || got.LastError != "" || !got.FailingSince.IsZero() {
			t.Errorf("%s %s: %+v", c.path, c.body, got)
		}
		// It may have had no pusher.
		if s, n, w := x.pushers.last(); n != starts+1 || w != wakes || fmt.Sprint(s) != fmt.Sprint(started) {
			t.Errorf("%s %s: %d starts, %d wakes, %+v", c.path, c.body, n-starts, w-wakes, s)
		}
		// One that goes on is tried now.
		x.move(id, func(s *producer.SubscriptionState) { s.HaltedUntil = time.Now().Add(time.Hour) })
		x.ask(whole, "POST", "/subscriptions/"+id+c.path, c.body).want(t, 202)
		if _, n, w := x.pushers.last(); n != starts+1 || w != wakes+1 || !x.state(id).HaltedUntil.IsZero() {
			t.Errorf("%s %s again: %d starts, %d wakes", c.path, c.body, n-starts, w-wakes)
		}
	}
	id := x.register(whole, "")
	x.move(id, func(s *producer.SubscriptionState) { s.Suspend("why") })
	before := x.state(id)
	for _, c := range []struct {
		path, body string
		status     int
		says       string
	}{
		{"/resume", `{"fromSequence": 6}`, 422, "above the newest event, which is 5"}, {"/resume", `{"fromSequence": -1}`, 403, "negative"}, {"/resume", `{"fromSequence": []}`, 400, "no sequence"}, {"/resume", `{`, 400, "not a JSON object"}, {"/resume", `[]`, 400, "not a JSON object"},
		{"", ``, 403, `can only be resumed`}, {"", `{}`, 403, `can only be resumed`}, {"", `{"status": "cancelled"}`, 403, `can only be resumed`}, {"", `{"status": "suspended"}`, 403, `can only be resumed`}, {"", `{"status": 1}`, 400, "The member status"}, {"", `{"status": "active", "fromSequence": 6}`, 422, "above"},
	} {
		x.ask(whole, "POST", "/subscriptions/"+id+c.path, c.body).wantRefused(t, c.status, c.says)
	}
	if got := x.state(id); got != before {
		t.Errorf("%+v, want %+v", got, before)
	}
}

func TestPatch(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	for _, c := range []struct {
		body    string
		change  func(*producer.Subscription)
		resumes bool
		shows   string // of batch size and timeout
	}{
		{`{"callbackUrl": "https://192.0.2.8/other"}`, func(s *producer.Subscription) { s.URL = "https://192.0.2.8/other" }, true, "500 15s"},
		{`{"callbackToken": "another-hidden"}`, func(s *producer.Subscription) { s.Token = "another-hidden" }, true, "500 15s"},
		{`{"callbackToken": null}`, func(s *producer.Subscription) { s.Token = "" }, true, "500 15s"},
		{`{"callbackToken": ""}`, func(s *producer.Subscription) { s.Token = "" }, true, "500 15s"},
		{`{"secret": "` + secret + `"}`, func(s *producer.Subscription) { s.Secret = secret }, true, "500 15s"},
		{`{"batchSize": 1}`, func(s *producer.Subscription) { s.BatchEvents = 1 }, false, "1 15s"},
		{`{"timeout": 30, "batchSize": null}`, func(s *producer.Subscription) { s.Timeout = 30 * time.Second }, false, "500 30s"},
		{`{"callbackUrl": "https://192.0.2.8/", "callbackToken": "t", "secret": "` + secret + `", "batchSize": 5000, "timeout": "1s"}`, func(s *producer.Subscription) {
			s.URL, s.Token, s.Secret, s.BatchEvents, s.Timeout = "https://192.0.2.8/", "t", secret, 5000, time.Second
		}, true, "5000 1s"},
	} {
		id := x.register(whole, `, "consumerLabel": "B"`)
		want, starts, _ := x.pushers.last()
		x.move(id, func(s *producer.SubscriptionState) { s.Suspend("refused") })
		a := x.ask(whole, "PATCH", "/subscriptions/"+id, c.body, "Content-Type: application/merge-patch+json")
		a.want(t, 200)
		status := "suspended"
		if c.resumes {
			status = "active"
		}
		if a.member("status") != status || a.member("batchSize")+" "+a.member("timeout") != c.shows || strings.Contains(a.body, "hidden") {
			t.Errorf("%s: %s", c.body, a.body)
		}
		c.change(&want)
		if got, n, _ := x.pushers.last(); n != starts+1 || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%s: %d starts\n%+v, want\n%+v", c.body, n-starts, got, want)
		}
		if read := x.ask(whole, "GET", "/subscriptions/"+id, ""); read.body != a.body {
			t.Errorf("%s: reads %s, was told %s", c.body, read.body, a.body)
		}
		// The same again changes nothing.
		x.ask(whole, "PATCH", "/subscriptions/"+id, c.body).want(t, 200)
		if _, n, _ := x.pushers.last(); n != starts+1 {
			t.Errorf("%s again: %d starts", c.body, n-starts)
		}
	}
	id := x.register(whole, "")
	before, starts, _ := x.pushers.last()
	for _, c := range []struct {
		body   string
		status int
		says   string
	}{
		{`{`, 400, "not a JSON object"}, {`{"batchSize": "x"}`, 400, "The member batchSize"}, {`{"batchSize": 0}`, 403, "batchSize"}, {`{"timeout": 90}`, 403, "timeout"}, {`{"callbackToken": "two words"}`, 403, "callbackToken"},
		{`{"callbackUrl": null}`, 403, "callbackUrl is missing"}, {`{"callbackUrl": ""}`, 403, "callbackUrl is missing"}, {`{"callbackUrl": "https://127.0.0.1/hidden"}`, 403, "is not public"}, {`{"callbackUrl": "https://192.0.2.8/", "batchSize": 9999}`, 403, "batchSize"}, {`{"secret": "whsec_!"}`, 403, "secret"},
		{`{"mode": "only-once"}`, 403, "mode cannot be changed"}, {`{"eventTypes": []}`, 403, "eventTypes cannot be changed"}, {`{"protocol": "hal"}`, 403, "protocol cannot be changed"}, {`{"consumerLabel": "C"}`, 403, "consumerLabel cannot be changed"}, {`{"fromSequence": 0}`, 403, "fromSequence cannot be changed"}, {`{"status": "cancelled"}`, 403, "status cannot be changed"},
	} {
		if a := x.ask(whole, "PATCH", "/subscriptions/"+id, c.body); true {
			a.wantRefused(t, c.status, c.says)
		}
	}
	x.ask(whole, "PATCH", "/subscriptions/"+id, `{}`).want(t, 200)
	if got, n, _ := x.pushers.last(); n != starts || fmt.Sprint(got) != fmt.Sprint(before) {
		t.Errorf("%d starts, %+v", n-starts, got)
	}
}
