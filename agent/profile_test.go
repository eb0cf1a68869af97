package main_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

const profileListings = `{"ListingKey":"1","StandardStatus":"Active","PrivateRemarks":"hush-1","ListPrice":1}
{"ListingKey":"2","StandardStatus":"Pending","PrivateRemarks":"hush-2","ListPrice":2}
{"ListingKey":"3","StandardStatus":"Active","PrivateRemarks":"hush-3","ListPrice":3}
{"ListingKey":"4","StandardStatus":"Closed","PrivateRemarks":"hush-4","ListPrice":4}
`

const profileMedia = `{"MediaKey":"m1","ResourceName":"Property","ResourceRecordKey":"1","MediaURL":"https://m.example/1"}
{"MediaKey":"m2","ResourceName":"Property","ResourceRecordKey":"2","MediaURL":"https://m.example/2"}
`

// request sends one request with a token and returns its answer.
func request(t *testing.T, method, address, path, token, body string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// TestProfileClients has two clients of one profile: one that polls and one that is pushed to. Both end with what
// the profile shows, over changes of records and, at a restart, of the profile.
func TestProfileClients(t *testing.T) {
	t.Parallel()
	mls, address := newShell(t), freeAddress(t)
	polls, pollsAt := newShell(t), freeAddress(t)
	pushed, pushedAt := newShell(t), freeAddress(t)
	config := func(filter, push string) string {
		text := fmt.Sprintf(`listen: %s
producer:
  profiles:
    idx: {Property: {filter: "%s", hide: [PrivateRemarks]}, Media: {with: Property}}
  clients:
    - {name: a, profile: idx}
    - {name: b, profile: idx}
    - {name: writer, scopes: [read, write]}
  allow_callbacks: [127.0.0.0/8]
`, address, filter)
		if push != "" {
			text += fmt.Sprintf("  subscriptions: [{name: b, client: b, url: \"http://%s/webhooks/mls\", token: %s}]\n", pushedAt, push)
		}
		return text
	}
	const active = "StandardStatus eq 'Active'"
	mls.write("resosync.yaml", config(active, ""))
	mls.pipe(profileListings, "import", "--resource", "Property", "-").must(t, 0, "4 new", "import")
	mls.pipe(profileMedia, "import", "--resource", "Media", "-").must(t, 0, "2 new", "import")
	issue := func(s *shell, args ...string) string {
		return strings.TrimSpace(s.must(0, "^eyJ", append([]string{"token", "issue"}, args...)...).stdout)
	}
	a, b, writer := issue(mls, "--client", "a"), issue(mls, "--client", "b"), issue(mls, "--client", "writer")
	consumer := func(s *shell, at, token, more string) *process {
		s.write("resosync.yaml", fmt.Sprintf("listen: %s\nconsumer: {feeds: [{name: mls, url: \"http://%s/odata\", token: %s, resources: [Property, Media], %s}]}\n", at, address, token, more))
		return nil
	}
	consumer(polls, pollsAt, a, "long_poll: true")
	consumer(pushed, pushedAt, b, "poll: '@every 1h'")
	push := issue(pushed, "--feed", "mls")
	mls.write("resosync.yaml", config(active, push))
	producer := mls.agent(address)
	replicas := map[string]*process{"the one that polls": polls.agent(pollsAt), "the one that is pushed to": pushed.agent(pushedAt)}

	sees := func(what string, want ...string) {
		t.Helper()
		for who, replica := range replicas {
			var got []string
			for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
				got = nil
				replica.sql(t, func(db *sql.DB) {
					scan(t, db, `SELECT key, body FROM records WHERE feed = 'mls' AND body IS NOT NULL ORDER BY key`, func(key, body string) {
						got = append(got, key)
						if strings.Contains(body, "hush") {
							t.Fatalf("%s has a hidden field: %s", who, body)
						}
					})
				})
				if fmt.Sprint(got) == fmt.Sprint(want) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s: %s has %v, want %v\n%s", what, who, got, want, replica.tail())
				}
			}
		}
	}
	sees("at first", "1", "3", "m1")

	// By hand: what is invisible is not there, and a hidden field cannot be asked for.
	for path, want := range map[string]int{"/odata/Property('1')": 200, "/odata/Property('2')": 404, "/odata/Media('m1')": 200, "/odata/Media('m2')": 404,
		"/odata/Property?$filter=" + url.QueryEscape("PrivateRemarks eq 'hush-1'"): 400, "/odata/Property?$orderby=PrivateRemarks": 400, "/odata/Property?$select=PrivateRemarks": 400} {
		if status, text, _ := request(t, http.MethodGet, address, path, b, ""); status != want || strings.Contains(text, "hush-") && status == 200 {
			t.Errorf("%s: %d %s, want %d", path, status, text, want)
		}
	}
	status, text, header := request(t, http.MethodGet, address, "/odata/EntityEvent", b, "")
	var page struct {
		Value []struct{ ResourceRecordKey string }
	}
	if err := json.Unmarshal([]byte(text), &page); err != nil || status != 200 || len(page.Value) != 3 || !strings.HasSuffix(header.Get("EntityEvent-Log"), "/idx") {
		t.Errorf("%d %s %v: want the events of 1, 3 and m1", status, text, header)
	}
	if status, text, _ := request(t, http.MethodGet, address, "/odata/Property/$count", a, ""); status != 200 || strings.TrimSpace(text) != "2" {
		t.Errorf("$count: %d %s", status, text)
	}

	patch := func(path, body string) {
		t.Helper()
		if status, text, _ := request(t, http.MethodPatch, address, path, writer, body); status != http.StatusNoContent {
			t.Fatalf("%s: %d %s", path, status, text)
		}
	}
	patch("/odata/Property('1')", `{"StandardStatus":"Closed"}`)
	patch("/odata/Property('2')", `{"StandardStatus":"Active"}`)
	sees("after records changed", "2", "3", "m2")

	producer.kill(t)
	mls.write("resosync.yaml", config("StandardStatus in ('Active','Closed')", push))
	producer.start(t)
	sees("after the profile was widened", "1", "2", "3", "4", "m1", "m2")
	producer.kill(t)
	mls.write("resosync.yaml", config("ListPrice le 1", push))
	producer.start(t)
	sees("after the profile was narrowed", "1", "m1")
	mls.must(0, `ok +client b: may read; it sees the profile idx`, "check")
	if s := mls.must(0, `head`, "status"); strings.Contains(s.stdout, "profiles changed") {
		t.Errorf("the pass does not end: %s", s.stdout)
	}
}

// TestCompactWhilePaging follows the log from 0 by nextLinks, and compacts it between two pages.
func TestCompactWhilePaging(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		s, address := newShell(t), freeAddress(t)
		s.write("resosync.yaml", producerConfig(address))
		token := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
		for round := range 4 {
			var lines strings.Builder
			for i := range 50 {
				fmt.Fprintf(&lines, "{\"ListingKey\":\"%d\",\"ListPrice\":%d}\n", i, round*1000+i)
			}
			s.pipe(lines.String(), "import", "--resource", "Property", "-").must(t, 0, "50 (new|changed)|50 new|, 50 changed", "import")
		}
		if !running { // alone
			s.must(0, `dropped 150 events .* forgot 0 records`, "compact")
			s.must(0, `"events": 0`, "compact", "--json")
			continue
		}
		s.agent(address)
		seen := map[string]bool{}
		next := "/odata/EntityEvent?$top=1000"
		for pages := 0; next != ""; pages++ {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+next, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Prefer", "odata.maxpagesize=30")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			var page struct {
				Value []struct {
					EntityEventSequence json.Number
					ResourceRecordKey   string
				}
				Next string `json:"@odata.nextLink"`
			}
			err = json.NewDecoder(resp.Body).Decode(&page)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("page %d: %d, %v", pages, resp.StatusCode, err)
			}
			for _, e := range page.Value {
				if seq, err := e.EntityEventSequence.Int64(); err == nil && seq > 150 {
					seen[e.ResourceRecordKey] = true
				}
			}
			if next = strings.TrimPrefix(page.Next, "http://"+address); pages == 1 {
				s.must(0, `dropped 150 events .* forgot 0 records`, "compact")
			}
		}
		if len(seen) != 50 {
			t.Errorf("%d of 50 records are told of by their last event", len(seen))
		}
		status, text, _ := request(t, http.MethodGet, address, "/metrics", token, "")
		if status != 200 || !strings.Contains(text, "resosync_compaction_dropped_events_total 150\n") {
			t.Errorf("%d, and the metrics do not tell of it", status)
		}
	}
}
