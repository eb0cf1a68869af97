package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// hook is a callback that remembers the pushes that it took, in order.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	taken  []delivery
	before func(n int) (status int) // of the nth push, from 1; called before it is remembered; nil: all are taken
	n      int
}

// delivery is one push.
type delivery struct {
	body string
	keys []string // of its events
}

func newHook(t *testing.T, before func(n int) int) *hook {
	h := &hook{before: before}
	h.Server = httptest.NewServer(h)
	t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
	return h
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the agent was killed while it sent
	}
	type event struct{ ResourceRecordKey string }
	var pushed struct {
		event
		Value []event
	}
	if json.Unmarshal(body, &pushed) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	d := delivery{body: string(body)}
	for _, e := range append(pushed.Value, pushed.event) {
		if e.ResourceRecordKey != "" {
			d.keys = append(d.keys, e.ResourceRecordKey)
		}
	}
	h.mu.Lock()
	h.n++
	n := h.n
	h.mu.Unlock()
	status := http.StatusOK
	if h.before != nil {
		status = h.before(n)
	}
	if status == http.StatusOK {
		h.mu.Lock()
		h.taken = append(h.taken, d)
		h.mu.Unlock()
	}
	w.WriteHeader(status)
}

func (h *hook) deliveries() []delivery {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]delivery(nil), h.taken...)
}

// arrived are the keys in the order of their first arrival.
func (h *hook) arrived() (keys []string) {
	seen := map[string]bool{}
	for _, d := range h.deliveries() {
		for _, key := range d.keys {
			if !seen[key] {
				seen[key] = true
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// following is a producer whose clients register themselves, as a process.
type following struct {
	*process
	client, writer string // tokens
	written        int
}

func newFollowing(t *testing.T, more string) *following {
	t.Helper()
	address := freeAddress(t)
	f := &following{process: newProcess(t, t.TempDir(), address, subscribeConfig(address)+more)}
	f.client = f.command(t, "token", "issue", "--client", "vendor")
	f.writer = f.command(t, "token", "issue", "--client", "writer")
	return f
}

// write changes so many records, whose keys are the numbers from 1.
func (f *following) write(t *testing.T, n int) {
	t.Helper()
	for range n {
		f.written++
		status, text, _ := request(t, "PUT", f.address, fmt.Sprintf("/odata/Property('%d')", f.written), f.writer, `{"ListPrice":1}`)
		if status != http.StatusCreated {
			t.Fatalf("%d %s", status, text)
		}
	}
}

// register subscribes, and returns the UUID.
func (f *following) register(t *testing.T, body string) string {
	t.Helper()
	status, text, header := request(t, "POST", f.address, "/subscriptions", f.client, body)
	var made struct{ UUID string }
	if err := json.Unmarshal([]byte(text), &made); err != nil || status != http.StatusCreated || !strings.HasSuffix(header.Get("Location"), "/subscriptions/"+made.UUID) {
		t.Fatalf("%d %s %v %v", status, text, header, err)
	}
	return made.UUID
}

func (f *following) status(t *testing.T, uuid string) (status, message string) {
	t.Helper()
	var is struct{ Status, Message string }
	code, text, _ := request(t, "GET", f.address, "/subscriptions/"+uuid, f.client, "")
	if err := json.Unmarshal([]byte(text), &is); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s %v", code, text, err)
	}
	return is.Status, is.Message
}

// all waits until every record that was written has arrived, and says whether that was in order.
func (f *following) all(t *testing.T, from int, hooks ...*hook) {
	t.Helper()
	var got []string
	look := func() bool {
		got = nil
		seen := map[string]bool{}
		for _, h := range hooks {
			for _, key := range h.arrived() {
				if !seen[key] {
					seen[key] = true
					got = append(got, key)
				}
			}
		}
		return len(got) >= f.written-from+1
	}
	if !eventually(20*time.Second, look) {
		t.Fatalf("%d of %d arrived: %v\n%s", len(got), f.written-from+1, got, f.tail())
	}
	for i, key := range got {
		if key != fmt.Sprint(from+i) {
			t.Fatalf("arrived %v, want %d to %d in order", got, from, f.written)
		}
	}
}

// TestRegisteredSubscriptionsOverKills kills the agent in the middle of pushes, over and over: every event arrives, in
// order; the callback is changed to another, and then cancelled.
func TestRegisteredSubscriptionsOverKills(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	f := newFollowing(t, "")
	f.start(t)
	reached := make(chan struct{}, 1000)
	first, second := newHook(t, func(int) int { reached <- struct{}{}; return 200 }), newHook(t, nil)
	f.write(t, 20)
	uuid := f.register(t, `{"callbackUrl":"`+first.URL+`","fromSequence":0,"batchSize":3,"callbackToken":"t"}`)
	for range 5 {
		<-reached // a push is under way, or its answer is
		f.kill(t)
		f.start(t)
		f.write(t, 5)
	}
	f.all(t, 1, first)

	if status, text, _ := request(t, "PATCH", f.address, "/subscriptions/"+uuid, f.client, `{"callbackUrl":"`+second.URL+`"}`); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	f.write(t, 5)
	f.all(t, 1, first, second)
	f.kill(t)
	f.start(t)
	if is, _ := f.status(t, uuid); is != "active" {
		t.Errorf("continuous, and it is %s", is)
	}
	f.write(t, 1)
	f.all(t, 1, first, second)
	if last := second.arrived(); last[len(last)-1] != fmt.Sprint(f.written) {
		t.Errorf("the new callback got %v", last)
	}

	if status, text, _ := request(t, "PUT", f.address, "/subscriptions/"+uuid, f.client, `{"message":"enough"}`); status != http.StatusAccepted {
		t.Fatalf("%d %s", status, text)
	}
	before := len(second.deliveries())
	other := newHook(t, nil)
	f.register(t, `{"callbackUrl":"`+other.URL+`"}`)
	f.write(t, 3)
	f.kill(t)
	f.start(t)
	f.write(t, 1)
	f.all(t, f.written-3, other) // who is not cancelled gets what comes after
	if after := len(second.deliveries()); after != before {
		t.Errorf("%d pushes after it was cancelled", after-before)
	}
	if is, message := f.status(t, uuid); is != "cancelled" || message != "enough" {
		t.Errorf("%s: %s", is, message)
	}
}

// TestOnlyOnceOverKills kills the agent before, while and after an only-once delivery is taken: all repeats are the same
// push, and the one that is taken cancels the subscription.
func TestOnlyOnceOverKills(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	f := newFollowing(t, "")
	f.start(t)
	f.write(t, 3)
	tries, goOn := make(chan int, 100), make(chan int)
	h := newHook(t, func(n int) int { tries <- n; return <-goOn })
	var bodies []string
	uuid := f.register(t, `{"callbackUrl":"`+h.URL+`","fromSequence":0,"mode":"only-once","callbackToken":"t"}`)
	<-tries
	f.write(t, 4) // they are not part of the delivery, whatever happens
	f.kill(t)
	goOn <- 200 // nobody hears it
	f.start(t)
	<-tries
	goOn <- 500
	<-tries // repeated by the same agent
	f.kill(t)
	goOn <- 200
	f.start(t)
	<-tries
	goOn <- 200
	if !eventually(20*time.Second, func() bool { is, _ := f.status(t, uuid); return is == "cancelled" }) {
		t.Fatalf("it is not cancelled:\n%s", f.tail())
	}
	f.kill(t)
	f.start(t)
	f.write(t, 1)
	other := newHook(t, nil)
	f.register(t, `{"callbackUrl":"`+other.URL+`"}`)
	f.write(t, 1)
	f.all(t, f.written, other)
	if is, message := f.status(t, uuid); is != "cancelled" || message == "" {
		t.Errorf("%s: %q", is, message)
	}
	for _, d := range h.deliveries() {
		bodies = append(bodies, d.body)
	}
	if len(bodies) != 3 || len(tries) != 0 {
		t.Errorf("%d deliveries were answered with success, want the two that nobody heard of and the last; %d more came", len(bodies), len(tries))
	}
	for _, d := range h.deliveries() {
		if d.body != bodies[0] || fmt.Sprint(d.keys) != "[1 2 3]" {
			t.Errorf("another delivery: %s", d.body)
		}
	}
}

// TestTaskOverKills kills the agent while a snapshot is asked for: in the end it is there, whole.
func TestTaskOverKills(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	f := newFollowing(t, "")
	f.importText(t, recordLines(0, 20_000, `,"Text":"`+strings.Repeat("x", 200)+`"`), "import", "--resource", "Property", "-")
	f.start(t)
	status, text, header := request(t, "POST", f.address, "/tasks", f.client, `{"type":"snapshot"}`)
	if status != http.StatusAccepted {
		t.Fatalf("%d %s", status, text)
	}
	_, at, _ := strings.Cut(header.Get("Location"), f.address)
	for range 2 {
		f.kill(t)
		f.start(t)
	}
	var done struct {
		Status string
		Count  int
		Href   string
	}
	if !eventually(30*time.Second, func() bool {
		status, text, _ = request(t, "GET", f.address, at, f.client, "")
		return status != http.StatusAccepted
	}) || status != http.StatusOK {
		t.Fatalf("%d %s\n%s", status, text, f.tail())
	}
	if err := json.Unmarshal([]byte(text), &done); err != nil || done.Status != "succeeded" || done.Count != 20_000 {
		t.Fatalf("%s %v", text, err)
	}
	status, text, _ = request(t, "GET", f.address, at+"/result", f.client, "")
	if status != http.StatusOK || strings.Count(text, "\n") != 20_000 || !strings.HasSuffix(text, "}\n") {
		t.Errorf("%d, %d lines", status, strings.Count(text, "\n"))
	}
	f.kill(t)
	f.start(t)
	if status, again, _ := request(t, "GET", f.address, at+"/result", f.client, ""); status != http.StatusOK || again != text {
		t.Errorf("after another kill: %d, %d bytes", status, len(again))
	}
}

// TestThousandsWait has 1,000 subscriptions and 1,000 sessions wait for nothing, and stops.
func TestThousandsWait(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	f := newFollowing(t, "  sessions: {anonymous: all-of-it}\n  profiles: {all-of-it: {Property: {}}}\n")
	f.start(t)
	h := newHook(t, nil)
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for range 250 {
				if status, text, _ := request(t, "POST", f.address, "/subscriptions", f.client, `{"callbackUrl":"`+h.URL+`","batchSize":1}`); status != http.StatusCreated {
					t.Errorf("%d %s", status, text)
					return
				}
				if status, text, _ := request(t, "POST", f.address, "/api/sessions", f.client, ""); status != http.StatusOK {
					t.Errorf("%d %s", status, text)
					return
				}
			}
		})
	}
	work.Wait()
	f.end(t) // within its limits, with status 0
	f.start(t)
	f.write(t, 1)
	if !eventually(30*time.Second, func() bool { return len(h.deliveries()) == 1000 }) {
		t.Errorf("%d pushes of 1,000", len(h.deliveries()))
	}
	var text string
	for _, line := range []string{`resosync_subscription_suspended{subscription="registered"} 0`, `resosync_subscription_pushed_events_total{subscription="registered"} 1000`} {
		if !eventually(30*time.Second, func() bool { // it counts what it has taken note of
			_, text, _ = request(t, "GET", f.address, "/metrics", "", "")
			return strings.Contains(text, line+"\n")
		}) {
			t.Errorf("no %s in the figures", line)
		}
	}
	if n := strings.Count(text, "resosync_subscription_lag_events{"); n != 1 {
		t.Errorf("%d series of lag", n)
	}
	if text := f.command(t, "status"); !strings.Contains(text, "and 900 registered subscriptions; in all 1,000 active and 0 suspended") {
		t.Errorf("%s", text)
	}
	f.end(t)
}

// TestSecretsOfCallbacksStayOut looks through everything that a run produced for a callback's token, its secret, and the
// query of its URL.
func TestSecretsOfCallbacksStayOut(t *testing.T) {
	t.Parallel()
	f := newFollowing(t, "")
	f.args = []string{"--debug"}
	config := filepath.Join(f.dir, "resosync.yaml")
	text, err := os.ReadFile(config)
	if err == nil {
		err = os.WriteFile(config, append([]byte("access_log: true\n"), text...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.start(t)
	const token, query = "hush-callback-token", "key=hush-callback-query"
	fails := newHook(t, func(n int) int { return []int{200, 500, 410}[n%3] })
	gone := httptest.NewServer(nil)
	gone.Close()
	f.write(t, 3)
	var produced strings.Builder
	say := func(method, path, token, body string) string {
		_, text, header := request(t, method, f.address, path, token, body)
		fmt.Fprintln(&produced, text, header)
		return text
	}
	for _, url := range []string{fails.URL, gone.URL, "https://10.1.2.3"} {
		body := fmt.Sprintf(`{"callbackUrl":"%s/hook?%s","callbackToken":%q,"secret":%q,"fromSequence":0,"batchSize":1}`, url, query, token, signing)
		var made struct{ UUID string }
		_ = json.Unmarshal([]byte(say("POST", "/subscriptions", f.client, body)), &made) // the last one is refused
		if made.UUID == "" {
			continue
		}
		say("PATCH", "/subscriptions/"+made.UUID, f.client, fmt.Sprintf(`{"callbackToken":%q}`, token+"2"))
		say("GET", "/subscriptions/"+made.UUID, f.client, "")
	}
	say("POST", "/tasks", f.client, fmt.Sprintf(`{"type":"digest","callbackUrl":"%s/hook?%s","callbackToken":%q}`, gone.URL, query, token))
	if !eventually(20*time.Second, func() bool { return strings.Contains(say("GET", "/subscriptions", f.client, ""), `"suspended"`) }) {
		t.Errorf("no subscription was suspended:\n%s", f.tail())
	}
	listener := strings.Split(say("POST", "/api/sessions", f.client, ""), `"`)[3]
	say("POST", "/api/sessions/"+listener+"/events", "", `{"type":"x","data":1}`)
	for _, path := range []string{"/metrics", "/openapi.json", "/event-types", "/tasks", "/"} {
		say("GET", path, f.client, "")
	}
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"subscriptions"}, {"subscriptions", "--json"}, {"check"}} {
		fmt.Fprintln(&produced, f.command(t, args...))
	}
	f.end(t)
	produced.WriteString(f.output.String())
	if !strings.Contains(f.output.String(), "push was not taken") || !strings.Contains(f.output.String(), "path=/subscriptions") {
		t.Errorf("the log holds less than this test wants to look at:\n%s", f.tail())
	}
	found := map[string]string{"what it said and logged": produced.String()}
	err = filepath.WalkDir(filepath.Join(f.dir, "data"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var raw []byte
			raw, err = os.ReadFile(path)
			found[path] = string(raw)
		}
		return err
	})
	if err != nil || len(found) < 3 {
		t.Fatalf("looked into %d files: %v", len(found), err)
	}
	for where, text := range found {
		for _, secret := range []string{token, "hush-callback-query", signing, strings.TrimPrefix(signing, "whsec_"), f.client, listener} {
			if where == "what it said and logged" && secret == listener {
				text = f.output.String() // it is said to whom it is given
			}
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%.30s is in %s: …%q…", secret, where, text[max(0, i-100):min(len(text), i+100)])
			}
		}
	}
}
