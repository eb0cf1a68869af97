package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// subscribeConfig is a producer whose client vendor may subscribe, to callbacks on this machine too.
func subscribeConfig(address string) string {
	return fmt.Sprintf(`name: mls
listen: %s
producer:
  allow_callbacks: [127.0.0.0/8]
  clients:
    - {name: vendor, scopes: [read, subscribe]}
    - {name: other, scopes: [read, subscribe]}
    - {name: writer, scopes: [read, write]}
`, address)
}

const signing = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// TestSubscribeCommands walks the life of a registered subscription by commands twice: by themselves, and while an
// agent runs.
func TestSubscribeCommands(t *testing.T) {
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("agent=%v", running), func(t *testing.T) {
			t.Parallel()
			s, address := newShell(t), freeAddress(t)
			s.write("resosync.yaml", subscribeConfig(address))
			s.pipe(listings, "import", "--resource", "Property", "-").must(t, 0, "3 new", "import")
			callback := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
			defer callback.Close()
			hook := callback.URL + "/hook?key=hush-query"
			token := strings.TrimSpace(s.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
			if running {
				s.agent(address)
			}

			register := []string{"subscribe", hook, "--client", "vendor", "--callback-token", "-", "--secret", signing, "--event-types", "Media,Property", "--label", "IDX 7",
				"--batch", "10", "--timeout", "5s", "--mode", "continuous", "--protocol", "reso", "--from", "1", "--idempotency-key", "once"}
			made := s.pipe("hush-token\nmore\n", register...)
			made.must(t, 0, `^[0-9a-f]{8}-[0-9a-f-]{27}\n`, "subscribe")
			id := strings.TrimSpace(made.stdout)
			if got := strings.Contains(made.stderr, "no agent runs"); got == running || strings.Count(made.stdout, "\n") != 1 {
				t.Errorf("stdout %q, stderr %q", made.stdout, made.stderr)
			}
			if again := s.pipe("hush-token", register...); strings.TrimSpace(again.stdout) != id {
				t.Errorf("repeated: %+v, want %s", again, id)
			}
			s.pipe("other-token", register...).must(t, 1, `[Ii]dempotency`, "another request under the same key")
			var one struct {
				UUID, Status, Mode, ConsumerLabel, Client string
				EventTypes                                []string
				BatchSize                                 int
				Timeout                                   string
			}
			if err := json.Unmarshal([]byte(s.must(0, `"_links"`, "subscriptions", id, "--json").stdout), &one); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(one); got != fmt.Sprintf("{%s active continuous IDX 7 vendor [Media Property] 10 5s}", id) {
				t.Errorf("registered: %s", got)
			}
			if running { // three events came before it, the first of which it does not want
				s.await(id+`\tvendor\tactive\tcontinuous\t3\tMedia,Property\tIDX 7\n`, "subscriptions")
			}

			second := strings.TrimSpace(s.must(0, `"UUID"`, "subscribe", hook, "--client", "other", "--json").stdout)
			var shown struct{ UUID string }
			if err := json.Unmarshal([]byte(second), &shown); err != nil {
				t.Fatalf("%s: %v", second, err)
			}
			s.must(0, `(?m)^`+shown.UUID+`\tother\tactive\tcontinuous\t3`, "subscriptions")
			s.must(0, `^`+id+`\t[^\n]*\n$`, "subscriptions", "--client", "vendor")
			s.must(0, `(?s)subscription `+id+` of vendor: active at \d, .*subscription `+shown.UUID+` of other: active at 3, 0 behind`, "status")
			s.must(0, `(?s)"registered": {\s+"active": 2,\s+"suspended": 0,\s+"cancelled": 0`, "status", "--json")

			s.must(0, `^subscription `+id+` goes on after 2\n`, "resume", id, "--from", "2")
			s.must(0, `^subscription `+id+` goes on after 3\n`, "resume", id, "--from", "now")
			s.must(1, `there is no subscription "01890a5d.*in the configuration there is none, and`, "resume", "01890a5d-ac96-774b-bcce-b302099a8057")
			s.must(1, `there is no subscription "nobody"`, "resume", "nobody")
			if running {
				at := []string{"--url", "http://" + address + "/odata", "--token", token}
				s.must(0, `^`+id+`\t[^\n]*\n$`, append([]string{"subscriptions"}, at...)...)
				s.must(0, `^subscription `+id+` goes on after \d\n`, append([]string{"resume", id}, at...)...)
				s.must(0, `^subscription `+id+` goes on after 3\n`, append([]string{"resume", id, "--from", "now"}, at...)...)
				s.must(1, `there is no registered subscription "`+shown.UUID+`": resosync subscriptions lists`, append([]string{"cancel", shown.UUID}, at...)...)
				third := strings.TrimSpace(s.must(0, `^[0-9a-f-]{36}\n$`, append([]string{"subscribe", hook}, at...)...).stdout)
				s.must(0, `^subscription `+third+` is cancelled, at 3\n`, append([]string{"cancel", third}, at...)...)
				s.must(2, `must be the UUID`, append([]string{"resume", "name"}, at...)...)
				s.must(1, `token`, "subscriptions", "--url", "http://"+address, "--token", "wrong")
			}
			s.must(0, `^subscription `+id+` is cancelled, at \d\n`, "cancel", id, "--message", "replaced")
			s.must(0, `is cancelled`, "cancel", id)
			s.must(0, `\tcancelled\tcontinuous\t\d\tMedia,Property\tIDX 7\treplaced\n`, "subscriptions", id)
			s.must(0, `"status": "cancelled"`, "cancel", id, "--json")
			s.must(1, `is cancelled, for good: register a new one`, "resume", id)

			s.must(0, `suspended its subscription `+shown.UUID, "client", "revoke", "other")
			s.must(0, `(?s)subscription `+shown.UUID+` of other: suspended at 3, .*revoked.*resosync resume `+shown.UUID+`; or end it: resosync cancel `+shown.UUID, "status")
			if running {
				s.must(0, `^ready\n`, "status", "--ready") // their callbacks are their owners' business
			}

			s.must(1, `no client of this name`, "subscribe", hook, "--client", "nobody")
			s.must(1, `not public`, "subscribe", "https://10.1.2.3/hook?key=hush-query", "--client", "vendor")
			s.must(1, `ends at 3|above|head`, "subscribe", hook, "--client", "vendor", "--from", "4")
			s.pipe("", "subscribe", hook, "--client", "vendor", "--callback-token", "-").must(t, 1, `first line`, "an empty standard input")
			for _, args := range [][]string{
				{"subscribe"}, {"subscribe", hook}, {"subscribe", hook, "--client", "vendor", "--from", "-1"}, {"subscribe", hook, "--client", "vendor", "--from", "then"},
				{"subscribe", hook, "--client", "vendor", "--token", "x"}, {"subscribe", hook, "--url", "here"}, {"subscribe", hook, "--client", "vendor", "--timeout", "5"},
				{"subscribe", hook, "--client", "vendor", "--callback-token", "-", "--secret", "-"}, {"subscriptions", id, "more"}, {"subscriptions", id, "--client", "vendor"},
				{"subscribe", hook, "--client", "vendor", "--mode", "bogus"}, {"subscribe", hook, "--client", "vendor", "--protocol", "xml"},
				{"cancel"}, {"resume"}, {"resume", id, "--from", "then"}, {"resume", id, "--token", "x"},
			} {
				s.pipe("one\ntwo\n", args...).must(t, 2, `See resosync.* --help`, strings.Join(args, " "))
			}
			for _, secret := range []string{"hush-", signing} {
				if strings.Contains(s.printed.String(), secret) {
					t.Errorf("a command printed %s", secret)
				}
			}
		})
	}
}

// TestSubscribeReadsTheEnvironment: tokens need not stand on a command line, and no help shows them.
func TestSubscribeReadsTheEnvironment(t *testing.T) {
	t.Setenv("RESOSYNC_CALLBACK_TOKEN", "hush-token")
	t.Setenv("RESOSYNC_CALLBACK_SECRET", signing)
	s, address := newShell(t), freeAddress(t)
	s.write("resosync.yaml", subscribeConfig(address))
	var authorization, signature string
	pushed := make(chan struct{})
	callback := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		authorization, signature = r.Header.Get("Authorization"), r.Header.Get("webhook-signature")
		close(pushed)
	}))
	defer callback.Close()
	s.pipe(`{"ListingKey":"1"}`, "import", "--resource", "Property", "-").must(t, 0, "1 new", "import")
	s.must(0, `^[0-9a-f-]{36}\n`, "subscribe", callback.URL, "--client", "vendor", "--from", "0", "--mode", "only-once")
	s.agent(address)
	<-pushed
	if authorization != "Bearer hush-token" || !strings.HasPrefix(signature, "v1,") {
		t.Errorf("Authorization %q, webhook-signature %q", authorization, signature)
	}
	s.await(`\tcancelled\tonly-once\t1`, "subscriptions")
	s.must(0, `RESOSYNC_CALLBACK_TOKEN`, "subscribe", "--help")
	if regexp.MustCompile(`hush|MfKQ`).MatchString(s.printed.String()) {
		t.Errorf("printed: %s", s.printed.String())
	}
	if _, err := os.Stat(filepath.Join(s.dir, "data", "results")); err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
}

// TestResumeFrom lets a subscription of the configuration go on from another position.
func TestResumeFrom(t *testing.T) {
	s, address := newShell(t), freeAddress(t)
	var pushes [][]byte
	callback := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		pushes = append(pushes, fmt.Appendf(nil, "%s-%s", r.Header.Get("EntityEvent-After"), r.Header.Get("EntityEvent-Through")))
	}))
	defer callback.Close()
	s.write("resosync.yaml", subscribeConfig(address)+`  subscriptions:
    - {name: fixed, client: vendor, url: "`+callback.URL+`", token: t}
    - {name: 01890a5d-ac96-774b-bcce-b302099a8057, client: other, url: "`+callback.URL+`", token: u}
`)
	s.pipe(listings, "import", "--resource", "Property", "-").must(t, 0, "3 new", "import")
	agent := s.agent(address)
	s.await(`subscription fixed: active at 3`, "status")
	s.must(1, `the log ends at 3`, "resume", "fixed", "--from", "4")
	s.must(0, `^subscription fixed goes on after 1\n`, "resume", "fixed", "--from", "1")
	s.await(`subscription fixed: active at 3`, "status")
	s.must(0, `^subscription 01890a5d-ac96-774b-bcce-b302099a8057 goes on after 3\n`, "resume", "01890a5d-ac96-774b-bcce-b302099a8057")
	agent.terminate(t)
	if got := fmt.Sprintf("%s", pushes); got != "[1-3]" {
		t.Errorf("pushed %s, want [1-3]", got)
	}

	s.pipe(`{"ListingKey":"skipped"}`, "import", "--resource", "Property", "-").must(t, 0, "1 new", "import")
	s.must(0, `^subscription fixed goes on after 4\nno agent runs`, "resume", "fixed", "--from", "now")
	s.must(0, `"cursor": 4`, "resume", "fixed", "--from", "now", "--json")
	agent.start(t)
	s.pipe(`{"ListingKey":"pushed"}`, "import", "--resource", "Property", "-").must(t, 0, "1 new", "import")
	s.await(`subscription fixed: active at 5`, "status")
	agent.terminate(t)
	if got := fmt.Sprintf("%s", pushes); !strings.Contains(got, "4-5") || strings.Count(got, "3-") != 1 { // the other one skips nothing
		t.Errorf("pushed %s", got)
	}
}

// TestSubscriptionsOfPages: a list of another agent is read page by page, whatever stands before its paths.
func TestSubscriptionsOfPages(t *testing.T) {
	s := newShell(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pages := map[string]string{
			"/base/subscriptions?client=vendor":         `"_links": {"next": {"href": "/base/subscriptions?after=b&client=vendor"}}, "_embedded": {"subscriptions": [{"UUID": "a"}, {"UUID": "b"}]}`,
			"/base/subscriptions?after=b&client=vendor": `"_links": {"next": {"href": "/base/subscriptions?after=c&client=vendor"}}, "_embedded": {"subscriptions": [{"UUID": "c"}]}`,
			"/base/subscriptions?after=c&client=vendor": `"_links": {"next": {"href": "/base/subscriptions?after=c&client=vendor"}}, "_embedded": {"subscriptions": [{"UUID": "d"}]}`,
		}
		fmt.Fprint(w, "{", pages[r.RequestURI], "}")
	}))
	defer server.Close()
	s.must(0, `(?s)^a\t.*\nb\t.*\nc\t.*\nd\t[^\n]*\n$`, "subscriptions", "--url", server.URL+"/base", "--token", "x", "--client", "vendor")
}
