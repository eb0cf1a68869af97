package openapitest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const pushed = `{"@reso.context":"urn:reso:metadata:2.0:resource:entityevent","value":[{"EntityEventSequence":7,"ResourceName":"Property","ResourceRecordKey":"a"}]}`

// TestWrongPushesFail: each push is right but for what its name says, and the check must say so.
func TestWrongPushesFail(t *testing.T) {
	d := document(t)
	for name, c := range map[string]struct {
		header map[string]string
		body   string
		want   string // "": nothing is wrong
	}{
		"right":                   {nil, pushed, ""},
		"right and bare":          {nil, strings.NewReplacer(`"value":[{`, "", "}]}", "}").Replace(pushed), ""},
		"another header":          {map[string]string{"X-Hook": "1"}, pushed, "X-Hook"},
		"a number that is a word": {map[string]string{"EntityEvent-Through": "seven"}, pushed, "EntityEvent-Through"},
		"another form of log":     {map[string]string{"EntityEvent-Log": "l"}, pushed, "EntityEvent-Log"},
		"another media type":      {map[string]string{"Content-Type": "text/plain"}, pushed, "text/plain"},
		"a member more":           {nil, strings.Replace(pushed, `"value"`, `"more":1,"value"`, 1), "more"},
		"a sequence of nothing":   {nil, strings.Replace(pushed, "7", "0", 1), "value"},
		"no events":               {nil, `{}`, "value"},
		"no JSON":                 {nil, `{`, "decoded"},
	} {
		t.Run(name, func(t *testing.T) {
			r := push(c.body, c.header)
			all := strings.Join(d.Webhook("events", r, []byte(c.body)), "\n")
			if c.want == "" && all != "" || !strings.Contains(all, c.want) || c.want != "" && all == "" {
				t.Errorf("reported %q, want %q", all, c.want)
			}
		})
	}
	if all := d.Webhook("news", push(pushed, nil), []byte(pushed)); len(all) == 0 {
		t.Error("a webhook that the document has not passed")
	}
	if all := d.Callback("createSubscription", "news", push(pushed, nil), []byte(pushed)); len(all) == 0 {
		t.Error("a callback that the document has not passed")
	}
}

// push is a request as a producer sends it.
func push(body string, header map[string]string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "https://vendor.example/hook", strings.NewReader(body))
	for name, value := range map[string]string{"Content-Type": "application/json", "Authorization": "Bearer x", "User-Agent": "resosync", "EntityEvent-Log": "l/all",
		"EntityEvent-After": "6", "EntityEvent-Through": "7", "EntityEventSource": "IDX", "ConsumerLabel": "IDX"} {
		r.Header.Set(name, value)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	return r
}
