package openapitest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent/openapitest"
)

const (
	subscriptionUUID = "01a200e3-4a17-7b7f-b37d-806a7df24227"
	subscriptionText = `{"_links":{"cancel":{"href":"/subscriptions/` + subscriptionUUID + `"},"event-types":{"href":"/event-types"},"resume":{"href":"/subscriptions/` + subscriptionUUID + `/resume"},"self":{"href":"/subscriptions/` + subscriptionUUID + `"}},"UUID":"` + subscriptionUUID + `","status":"active","mode":"continuous","eventTypes":[],"cursor":4,"protocol":"reso","consumerLabel":"IDX","batchSize":500,"timeout":"15s","client":"vendor","created":"2026-01-02T03:04:05.367Z"}`
	eventTypeText    = `{"_links":{"self":{"href":"/event-types/Property"}},"name":"Property","description":"A record.","characteristics":{"model":"1-to-many","modes":["continuous","only-once"],"transports":["webhook"],"schema":{"type":"object"}}}`
	taskDone         = `{"count":3,"href":"/tasks/` + subscriptionUUID + `/result","log":"101c2712-3c21-4ec0-87ba-be92dfb2122a/all","sequence":6,"status":"succeeded","through":7}`
	taskFailed       = `{"type":"about:blank","title":"failed","status":422,"detail":"no room","error":{"code":"failed","message":"no room"}}`
	boxPage          = `{"chunk_size":1,"next_stream_position":7,"entries":[{"type":"event","event_id":"7","event_type":"ENTITY_EVENT","created_at":"2026-01-02T03:04:05Z","recorded_at":"2026-01-02T03:04:05Z","session_id":null,"created_by":{"type":"user","id":"mls","name":"mls","login":"mls"},"source":{"type":"entity_event","id":"7","EntityEventSequence":7,"ResourceName":"Property","ResourceRecordKey":"1"}}]}`
	boxServers       = `{"chunk_size":1,"entries":[{"type":"realtime_server","url":"https://host/2.0/realtime?channel=ABCDEFGHIJKLMNOPQRSTUVWXYZ&stream_type=all","ttl":"10","max_retries":"10","retry_timeout":610}]}`
	problemText      = `{"type":"about:blank","title":"Forbidden","status":403,"detail":"why"}`
)

// TestWrongAnswersOfTheWaysFail: each answer of the ways to follow beside OData is right, and wrong in as many manners as are
// listed: a text of it in place of another.
func TestWrongAnswersOfTheWaysFail(t *testing.T) {
	type wrong struct{ old, new, want string }
	for _, c := range []struct {
		part, method, path string
		status             int
		kind, header, body string
		wrong              []wrong
	}{
		{"subscription", "GET", "/event-types", 200, "application/hal+json", "", `{"_links":{"self":{"href":"/event-types"},"subscriptions":{"href":"/subscriptions"}},"_embedded":{"eventTypes":[` + eventTypeText + `]}}`,
			[]wrong{{`"1-to-many"`, `"1-to-3"`, "model"}, {`"name":`, `"more":1,"name":`, "more"}, {`"self":{"href":"/event-types/Property"}`, ``, "self"}}},
		{"subscription", "GET", "/event-types/Property", 200, "application/hal+json", "", eventTypeText, []wrong{{`"webhook"`, `"pigeon"`, "transports"}}},
		{"subscription", "GET", "/subscriptions", 200, "application/hal+json", "", `{"_links":{"self":{"href":"/subscriptions"},"event-types":{"href":"/event-types"},"subscription":{"href":"/subscriptions/{uuid}","templated":true}},"totalCount":1,"_embedded":{"subscriptions":[` + subscriptionText + `]}}`,
			[]wrong{{`"totalCount":1`, `"totalCount":"1"`, "totalCount"}, {`"active"`, `"asleep"`, "status"}, {`"client":`, `"callbackToken":"x","client":`, "callbackToken"}}},
		{"subscription", "GET", "/subscriptions/" + subscriptionUUID, 200, "application/hal+json", "", subscriptionText,
			[]wrong{{`"cursor":4`, `"cursor":-1`, "cursor"}, {`"cursor":4,`, ``, "cursor"}, {`"resume":`, `"again":`, "resume"}, {`"UUID":"01a2`, `"UUID":"x`, "UUID"}, {`"mode"`, `"secret":"whsec_x","mode"`, "secret"}}},
		{"subscription", "GET", "/subscriptions/" + subscriptionUUID, 403, "application/problem+json", "", problemText, []wrong{{`"detail":"why"`, `"error":"why"`, "detail"}}},
		{"subscription", "GET", "/subscriptions/" + subscriptionUUID, 202, "application/hal+json", "", subscriptionText, []wrong{{"", "", "no status 202"}}},
		{"task", "GET", "/tasks/" + subscriptionUUID, 202, "application/json", "Location: https://host/tasks/x\nRetry-After: 1", `{"status":"running","progress":7}`,
			[]wrong{{`"progress":7`, `"progress":"7"`, "progress"}, {`"running"`, `"succeeded"`, "status"}, {`{"status"`, `{"more":1,"status"`, "more"}}},
		{"task", "GET", "/tasks/" + subscriptionUUID, 202, "application/json", "Location: https://host/tasks/x", `{"status":"running","progress":7}`, []wrong{{"", "", "Retry-After"}}},
		{"task", "GET", "/tasks/" + subscriptionUUID, 200, "application/json", "Location: https://host/tasks/x", taskDone,
			[]wrong{{`"through":7`, `"through":"7"`, "through"}, {`"sequence":6,`, ``, "sequence"}, {`"count":3`, `"count":-3`, "count"}}},
		{"task", "GET", "/tasks/" + subscriptionUUID, 422, "application/problem+json", "", taskFailed, []wrong{{`"title":"failed"`, `"title":"Failed"`, "title"}, {`"code":"failed",`, ``, "code"}}},
		{"box", "OPTIONS", "/2.0/events", 200, "application/json", "", boxServers, []wrong{{`"ttl":"10"`, `"ttl":10`, "ttl"}, {`"retry_timeout":610`, `"retry_timeout":"610"`, "retry_timeout"}, {`"chunk_size":1`, `"chunk_size":2`, "chunk_size"}}},
		{"box", "GET", "/2.0/events", 200, "application/json", "", boxPage,
			[]wrong{{`"next_stream_position":7`, `"next_stream_position":"7"`, "next_stream_position"}, {`"event_id":"7"`, `"event_id":7`, "event_id"}, {`"session_id":null,`, ``, "session_id"}, {`"ENTITY_EVENT"`, `"ITEM"`, "event_type"}}},
		{"box", "GET", "/2.0/realtime", 200, "application/json", "", `{"version":1,"message":"new_change"}`, []wrong{{`"new_change"`, `"news"`, "message"}, {`{"version"`, `{"stream_position":7,"version"`, "stream_position"}}},
		{"session", "POST", "/api/sessions", 200, "application/json", "", `{"token":"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}`, []wrong{{`"token"`, `"session"`, "token"}}},
		{"session", "GET", "/api/sessions/" + subscriptionUUID + "/events", 200, "application/json", "", `[{"type":"status","data":"paused","number":9}]`,
			[]wrong{{`"number":9`, `"number":"9"`, "number"}, {`"data":"paused",`, ``, "data"}, {`"type":"status"`, `"type":1`, "type"}, {`[{`, `{"events":[{`, ""}}},
		{"session", "GET", "/api/sessions/" + subscriptionUUID + "/events", 204, "", "", ``, []wrong{{"", "", "no status 204"}}},
	} {
		t.Run(fmt.Sprintf("%s %s %d %s", c.method, c.path, c.status, c.header), func(t *testing.T) {
			d := part(t, c.part)
			check := func(body string) string {
				seen := &recorder{TB: t}
				h := d.Handler(seen, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("X-Request-Id", "x")
					if c.kind != "" {
						w.Header().Set("Content-Type", c.kind)
					}
					for header := range strings.Lines(c.header) {
						name, value, _ := strings.Cut(strings.TrimSpace(header), ": ")
						w.Header().Set(name, value)
					}
					w.WriteHeader(c.status)
					fmt.Fprint(w, body)
				}))
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), c.method, c.path, nil))
				return strings.Join(seen.problems, "\n")
			}
			for _, wrong := range c.wrong {
				if wrong.old == "" { // wrong as a whole
					if all := check(c.body); !strings.Contains(all, wrong.want) {
						t.Errorf("reported %q, want %q", all, wrong.want)
					}
					return
				}
				if strings.Count(c.body, wrong.old) == 0 {
					t.Fatalf("there is no %s in %s", wrong.old, c.body)
				}
				if all := check(strings.Replace(c.body, wrong.old, wrong.new, 1)); all == "" || !strings.Contains(all, wrong.want) {
					t.Errorf("%s: reported %q, want %q", wrong.new, all, wrong.want)
				}
			}
			if all := check(c.body); all != "" {
				t.Errorf("a right answer is reported: %s", all)
			}
		})
	}
}

// TestWrongPushesOfSubscriptionsFail is TestWrongPushesFail for whoever registered.
func TestWrongPushesOfSubscriptionsFail(t *testing.T) {
	d := part(t, "subscription")
	hal := strings.Replace(pushed, `"value"`, `"_links":{"self":{"href":"/subscriptions/`+subscriptionUUID+`"}},"UUID":"`+subscriptionUUID+`","value"`, 1)
	for name, c := range map[string]struct {
		header     map[string]string
		body, want string
	}{
		"right":                    {nil, pushed, ""},
		"right and signed":         {map[string]string{"Webhook-Id": "msg_1", "Webhook-Timestamp": "1767323045", "Webhook-Signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="}, pushed, ""},
		"right in HAL":             {nil, hal, ""},
		"HAL without its UUID":     {nil, strings.Replace(hal, `"UUID":"`+subscriptionUUID+`",`, "", 1), "UUID"},
		"a signature that is none": {map[string]string{"Webhook-Signature": "x"}, pushed, "ignature"},
		"another header":           {map[string]string{"X-Hook": "1"}, pushed, "X-Hook"},
		"a sequence of nothing":    {nil, strings.Replace(pushed, "7", "0", 1), "value"},
		"a member more":            {nil, strings.Replace(pushed, `"value"`, `"more":1,"value"`, 1), "more"},
	} {
		all := strings.Join(d.Callback("createSubscription", "events", push(c.body, c.header), []byte(c.body)), "\n")
		if c.want == "" && all != "" || !strings.Contains(all, c.want) || c.want != "" && all == "" {
			t.Errorf("%s: reported %q, want %q", name, all, c.want)
		}
	}
}

// TestWrongPostsOfTasksFail is the same for what is posted when a task ended.
func TestWrongPostsOfTasksFail(t *testing.T) {
	d := part(t, "task")
	const right = `{"UUID":"` + subscriptionUUID + `","_links":{"result":{"href":"/tasks/` + subscriptionUUID + `/result"},"self":{"href":"/tasks/` + subscriptionUUID + `"}},"count":3,"href":"/tasks/` + subscriptionUUID + `/result","log":"101c2712-3c21-4ec0-87ba-be92dfb2122a/all","sequence":6,"status":"succeeded","through":6}`
	for name, body := range map[string]string{
		"":                right,
		"another status":  strings.Replace(right, `"succeeded"`, `"running"`, 1),
		"a member more":   strings.Replace(right, `"count"`, `"more":1,"count"`, 1),
		"no link of it":   strings.Replace(right, `"self"`, `"itself"`, 1),
		"a text as count": strings.Replace(right, `"count":3`, `"count":"3"`, 1),
	} {
		r := httptest.NewRequest(http.MethodPost, "https://vendor.example/hook", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if all := d.Callback("createTask", "taskEnded", r, []byte(body)); (name == "") != (len(all) == 0) {
			t.Errorf("%s: reported %q", name, all)
		}
	}
}

// part is the document of a part of the producer.
func part(t testing.TB, name string) *openapitest.Document {
	t.Helper()
	text, err := os.ReadFile("../../producer/" + name + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	d, err := openapitest.Open(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
