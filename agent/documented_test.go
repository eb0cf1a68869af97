package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent/openapitest"
)

// TestTheAgentIsAsItSays asks a running relay for each thing that the document has beside OData, rightly and
// wrongly, and holds every answer to the document that the agent itself serves.
func TestTheAgentIsAsItSays(t *testing.T) {
	t.Parallel()
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", "cors_origins: [\"https://app.example\"]\n"+producerConfig(address)+`    - {name: slow, scopes: [read, admin], limits: {rate: 1/h}}
consumer:
  feeds:
    - {name: up, url: "http://`+freeAddress(t)+`/odata", resources: [Property]}
`)
	s.pipe(`{"ListingKey":"1"}`, "import", "--resource", "Property", "-").must(t, 0, "1 new", "import")
	secret := strings.TrimSpace(s.must(0, ".", "client", "secret", "slow").stdout)
	push := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--feed", "up").stdout)
	s.agent(address)
	_, text := ask(t, "http://"+address+"/openapi.json", "")
	document, err := openapitest.Open(text)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: document.Transport(t, http.DefaultTransport)}
	const form = "application/x-www-form-urlencoded"
	send := func(method, path, contentType, body, authorization string, status int, headers ...string) []byte {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range append(headers, "Content-Type: "+contentType, "Authorization: "+authorization) {
			if name, value, _ := strings.Cut(h, ": "); value != "" {
				req.Header.Set(name, value)
			}
		}
		if user, password, ok := strings.Cut(authorization, "/"); ok {
			req.SetBasicAuth(user, password)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != status || resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s %s: %d, want %d; X-Request-Id %q: %.300s", method, path, resp.StatusCode, status, resp.Header.Get("X-Request-Id"), text)
		}
		if resp.Header.Get("Content-Type") == "application/problem+json" && method != "HEAD" && !strings.Contains(string(text), `"instance":"urn:request-id:`+resp.Header.Get("X-Request-Id")+`"`) {
			t.Errorf("%s %s: its instance does not name the request: %s", method, path, text)
		}
		return text
	}
	for path, statuses := range map[string][]int{"/": {200, 405}, "/healthz": {200, 405}, "/readyz": {200, 405}, "/metrics": {200, 405}, "/openapi.json": {200, 405}, "/nothing": {404, 404}} {
		send("GET", path, "", "", "", statuses[0])
		send("HEAD", path, "", "", "", statuses[0])
		send("POST", path, "", "", "", statuses[1])
	}
	send("OPTIONS", "/healthz", "", "", "", 204)
	send("OPTIONS", "/odata/Property", "", "", "", 204, "Origin: https://app.example", "Access-Control-Request-Method: POST")
	send("OPTIONS", "/odata/Property", "", "", "", 401)
	send("GET", "/metrics", "", "", "", 401, "X-Forwarded-For: 192.0.2.1")

	// The ways to follow the log describe themselves, and are asked here only for what stands in front of them.
	for _, path := range []string{"/event-types", "/subscriptions", "/subscriptions/01890a5d-ac96-774b-bcce-b302099a8057", "/tasks", "/tasks/none", "/tasks/none/result",
		"/2.0/events", "/events", "/2.0/realtime", "/api/sessions", "/api/sessions/none/events"} {
		send("OPTIONS", path, "", "", "", 204, "Origin: https://app.example", "Access-Control-Request-Method: GET")
		send("GET", path+"?x="+strings.Repeat("x", 40_000), "", "", "", 414)
	}
	for _, path := range []string{"/event-types", "/subscriptions", "/tasks/none", "/2.0/events", "/events"} {
		send("GET", path, "", "", "", 401)
		send("OPTIONS", path, "", "", "", 401)
	}
	send("POST", "/api/sessions", "", "", "", 401)
	send("GET", "/api/sessions/none/events", "", "", "", 404)

	// A token for client credentials, and what is refused.
	const grant = "grant_type=client_credentials"
	var granted struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(send("POST", "/oauth/token", form, grant, "slow/"+secret, 200), &granted); err != nil {
		t.Fatal(err)
	}
	slow := "Bearer " + granted.Token
	send("POST", "/oauth/token", form, grant+"&client_id=slow&client_secret="+secret+"&scope=read", "", 200)
	send("POST", "/oauth/token", form, grant, "slow/wrong", 401)
	send("POST", "/oauth/token", form, "grant_type=password", "slow/"+secret, 400)
	send("POST", "/oauth/token", form, grant+"&scope=write", "slow/"+secret, 400)
	send("POST", "/oauth/token", "application/json", "{}", "slow/"+secret, 400)
	send("POST", "/oauth/token", form, grant+"&x="+strings.Repeat("x", 20_000), "slow/"+secret, 413)
	send("GET", "/oauth/token", "", "", "", 405)
	send("OPTIONS", "/oauth/token", "", "", "", 204)

	// One request an hour is what this client may send.
	send("GET", "/odata/Property", "", "", slow, 200)
	for _, path := range []string{"/odata", "/feeds/up/odata/EntityEvent", "/event-types", "/subscriptions", "/subscriptions/none", "/tasks/none", "/tasks/none/result", "/2.0/events"} {
		send("GET", path, "", "", slow, 429)
	}
	send("POST", "/tasks", "", "", slow, 429)
	send("POST", "/api/sessions", "", "", slow, 429)
	send("OPTIONS", "/2.0/events", "", "", slow, 429)
	send("GET", "/metrics", "", "", slow, 429, "X-Forwarded-For: 192.0.2.1")

	send("POST", "/webhooks/up", "application/json", `{"value":[]}`, "Bearer "+push, 200)
	send("POST", "/webhooks/up", "application/json", `{`, "Bearer "+push, 400)
	send("POST", "/webhooks/up", "application/json", `{}`, "", 401)
	send("POST", "/webhooks/down", "application/json", `{}`, "Bearer "+push, 404)
	send("GET", "/webhooks/up", "", "", "Bearer "+push, 405)
	send("OPTIONS", "/webhooks/up", "", "", "", 204)
	send("GET", "/odata/"+strings.Repeat("x", 40_000), "", "", "", 414)

	for _, operation := range []string{"getLinks", "createToken", "getHealth", "getReadiness", "getMetrics", "getDescription", "receiveEvents"} {
		if slices.Contains(document.Untested(), operation+" 200") {
			t.Errorf("no answer to %s was seen", operation)
		}
	}
}
