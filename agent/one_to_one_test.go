package main_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestOneToOne: the events of a type that an endpoint of the configuration has for itself are pushed there, and who wants
// to register for them is told why not.
func TestOneToOne(t *testing.T) {
	t.Parallel()
	got := make(chan string, 100)
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- string(body)
	}))
	t.Cleanup(endpoint.Close)
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", "name: mls\nlisten: "+address+`
producer:
  clients: [{name: vendor, scopes: [read, subscribe]}]
  subscriptions: [{name: one, client: vendor, url: "`+endpoint.URL+`", token: t, label: x, event_types: [Showing]}]
  allow_callbacks: [127.0.0.0/8]
`)
	token := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
	s.agent(address)
	s.pipe(`{"ListingKey":"1"}`, "import", "--resource", "Property", "-").must(t, 0, "1 new", "import")
	s.pipe(`{"ShowingKey":"7"}`, "import", "--resource", "Showing", "-").must(t, 0, "1 new", "import")
	select {
	case body := <-got:
		if !strings.Contains(body, `"ResourceName":"Showing","ResourceRecordKey":"7"`) || strings.Contains(body, "Property") {
			t.Errorf("pushed: %s", body)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was pushed")
	}
	post := func(types string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/subscriptions", strings.NewReader(`{"callbackUrl":"`+endpoint.URL+`"`+types+`}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for types, want := range map[string]int{"": 403, `,"eventTypes":["Showing"]`: 403, `,"eventTypes":["Property"]`: 201} {
		if status, body := post(types); status != want || status == 403 && !strings.Contains(body, "Showing is pushed to another endpoint alone (1-to-1)") {
			t.Errorf("%s: %d %s", types, status, body)
		}
	}
}
