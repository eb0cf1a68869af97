package main_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/resosync/resosync/consumer"
)

// registering is a pair of which the consumer registers itself. It polls at its start and then never: whatever arrives
// later was pushed.
type registering struct {
	*restored
	status atomic.Int32 // what a proxy answers pushes with; 0: it passes them on
	config string       // of the vendor, with a %s for its feeds
	feed   string
}

func newRegistering(t *testing.T) *registering {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	dir, mls, vendor := t.TempDir(), freeAddress(t), freeAddress(t)
	r := &registering{restored: &restored{}}
	front := new(pair).proxy(t, vendor, func(_ *testing.T, w http.ResponseWriter, _ *http.Request, forward func() (*http.Response, []byte, error)) {
		if status := r.status.Load(); status != 0 {
			w.WriteHeader(int(status))
			return
		}
		resp, body, err := forward()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		answer(w, resp, body)
	})
	r.mls = newProcess(t, filepath.Join(dir, "mls"), mls, fmt.Sprintf(`name: mls
listen: %s
producer:
  clients: [{name: vendor, scopes: [read, write, subscribe]}]
  allow_callbacks: [127.0.0.0/8]
`, mls))
	r.config = fmt.Sprintf("name: vendor\nlisten: %s\npublic_url: %s\nconsumer:\n  feeds:\n%%s\n", vendor, front)
	r.feed = fmt.Sprintf(`    - {name: mls, url: "http://%s/odata", token: "${API_TOKEN}", resources: [Property], poll: %q, push: {register: true, label: "IDX 1"}}`, mls, never)
	r.vendor = newProcess(t, filepath.Join(dir, "vendor"), vendor, fmt.Sprintf(r.config, r.feed))
	r.write = r.mls.command(t, "token", "issue", "--client", "vendor")
	r.vendor.env = append(r.vendor.env, "API_TOKEN="+r.write)
	return r
}

// configure changes the feeds of the vendor, which must not run.
func (r *registering) configure(t *testing.T, feeds string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.vendor.dir, "resosync.yaml"), fmt.Appendf(nil, r.config, feeds), 0o600); err != nil {
		t.Fatal(err)
	}
}

// subscriptions asks the producer, which has to run, for those that the vendor has.
func (r *registering) subscriptions(t *testing.T) (all map[string]string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.mls.address+"/subscriptions", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.write)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	var body struct {
		Embedded struct {
			Subscriptions []struct{ UUID, Status string }
		} `json:"_embedded"`
	}
	if err := json.Unmarshal(raw, &body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, raw)
	}
	all = map[string]string{}
	for _, s := range body.Embedded.Subscriptions {
		all[s.UUID] = s.Status
	}
	return all
}

// open returns the subscriptions that are not cancelled.
func (r *registering) open(t *testing.T) map[string]string {
	t.Helper()
	all := r.subscriptions(t)
	maps.DeleteFunc(all, func(_, status string) bool { return status == "cancelled" })
	return all
}

// registered waits until the vendor says that it is registered, and returns as what.
func (r *registering) registered(t *testing.T) (uuid string) {
	t.Helper()
	until(t, func() (string, bool) {
		now := r.registration(t)
		if now == nil || now.State != consumer.Registered || now.Looked.IsZero() {
			return fmt.Sprintf("%+v\nproducer:\n%s\nconsumer:\n%s", now, r.mls.tail(), r.vendor.tail()), false
		}
		uuid = now.UUID
		return "", true
	})
	if open := r.open(t); len(open) != 1 || open[uuid] != "active" {
		t.Fatalf("the producer has %v, the vendor is registered as %s", open, uuid)
	}
	return uuid
}

func (r *registering) registration(t *testing.T) *consumer.RegistrationStatus {
	t.Helper()
	var now struct {
		Feeds []consumer.Status `json:"feeds"`
	}
	text := r.vendor.command(t, "status", "--json")
	if err := json.Unmarshal([]byte(text), &now); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if len(now.Feeds) != 1 {
		return nil
	}
	return now.Feeds[0].Registration
}

// tokens counts those of the feed's pushes that are good.
func (r *registering) tokens(t *testing.T) (good int) {
	t.Helper()
	var all []struct {
		Audience string `json:"audience"`
		Revoked  string `json:"revoked"`
	}
	text := r.vendor.command(t, "token", "list", "--json")
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, one := range all {
		if one.Audience == "push:mls" && one.Revoked == "" {
			good++
		}
	}
	return good
}

// TestRegister lets two real agents find each other: pushes begin by themselves, go on after restarts of both, and end
// when they are no longer wanted.
func TestRegister(t *testing.T) {
	r := newRegistering(t)
	r.mls.start(t)
	r.put(t, 1, "a")
	r.vendor.start(t)
	uuid := r.registered(t)
	r.put(t, 1, "b")
	r.level(t)

	for i, p := range []*process{r.vendor, r.mls, r.vendor} {
		p.kill(t)
		if p == r.vendor {
			r.put(t, i, "while it was down", "b")
		}
		p.start(t)
		if again := r.registered(t); again != uuid {
			t.Errorf("registered as %s, and before as %s", again, uuid)
		}
		r.put(t, i, "a", "c")
		r.level(t)
	}
	if good := r.tokens(t); good != 1 {
		t.Errorf("%d tokens are good", good)
	}

	r.vendor.end(t)
	r.configure(t, strings.Replace(r.feed, "register: true, ", "", 1))
	r.vendor.start(t)
	until(t, func() (string, bool) {
		open := r.open(t)
		return fmt.Sprintf("still there: %v\n%s", open, r.vendor.tail()), len(open) == 0 && r.tokens(t) == 0
	})

	r.vendor.end(t)
	r.configure(t, r.feed)
	r.vendor.start(t)
	if r.registered(t) == uuid {
		t.Error("the cancelled subscription was registered again")
	}
	r.vendor.end(t)
	r.configure(t, strings.Replace(r.feed, "name: mls", "name: other", 1))
	r.vendor.start(t)
	until(t, func() (string, bool) {
		open := r.open(t)
		return fmt.Sprintf("of the feed that is gone: %v\n%s", open, r.vendor.tail()), len(open) == 1 && r.tokens(t) == 0
	})
	r.registered(t)

	r.quiet(t)
}

var jwt = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.eyJ`) // what is sealed is base64 too, and has no dot

// quiet checks that no token stands in what the two logged, or readable in what they stored.
func (r *registering) quiet(t *testing.T) {
	t.Helper()
	for _, p := range []*process{r.mls, r.vendor} {
		if found := jwt.FindString(p.output.String()); found != "" {
			t.Errorf("%s: a token in the log: %s…", p.dir, found)
		}
		p.sql(t, func(db *sql.DB) {
			scan(t, db, `SELECT kind || '/' || id, body FROM docs`, func(name, body string) {
				if jwt.MatchString(body) {
					t.Errorf("%s: a token in %s", p.dir, name)
				}
			})
		})
	}
}

// TestRegisterSuspended has pushes refused for good until the producer suspends the subscription: the vendor resumes it
// when it looks, and nothing is missing.
func TestRegisterSuspended(t *testing.T) {
	r := newRegistering(t)
	r.mls.start(t)
	r.vendor.start(t)
	uuid := r.registered(t)
	r.status.Store(http.StatusGone)
	r.put(t, 1, "a", "b")
	until(t, func() (string, bool) {
		open := r.open(t)
		return fmt.Sprintf("%v\n%s", open, r.mls.tail()), open[uuid] == "suspended"
	})
	r.status.Store(0)
	r.vendor.kill(t)
	r.vendor.start(t)
	if again := r.registered(t); again != uuid {
		t.Errorf("registered as %s, and before as %s", again, uuid)
	}
	r.put(t, 2, "b", "c")
	r.level(t)
}

// TestRegisterAnew puts the producer back to a backup in which there was no subscription yet, under another log: the
// vendor loads again and registers again.
func TestRegisterAnew(t *testing.T) {
	r := newRegistering(t)
	r.mls.start(t)
	r.put(t, 1, "a")
	r.mls.command(t, "backup", "before.db")
	r.vendor.start(t)
	uuid := r.registered(t)
	r.put(t, 2, "a", "b")
	r.level(t)
	r.vendor.end(t)
	r.mls.end(t)
	r.mls.restore(t, "before.db")
	r.mls.command(t, "log", "new-id")
	r.mls.start(t)
	r.vendor.start(t)
	if again := r.registered(t); again == uuid {
		t.Errorf("still registered as %s", again)
	}
	r.put(t, 3, "c")
	r.level(t)
	if good := r.tokens(t); good > 2 {
		t.Errorf("%d tokens are good", good)
	}
}

// TestRegisterKilled kills both at random moments while the vendor registers itself, and ends that, over and over: in
// the end there is one subscription, and what is written is pushed.
func TestRegisterKilled(t *testing.T) {
	r := newRegistering(t)
	r.mls.start(t)
	r.put(t, 0, "a")
	wants := true
	for range 25 {
		if rand.IntN(3) == 0 {
			if wants = !wants; wants {
				r.configure(t, r.feed)
			} else {
				r.configure(t, strings.Replace(r.feed, "register: true, ", "", 1))
			}
		}
		r.vendor.start(t)
		// A random moment is the point. The first load and what follows take a few tens of milliseconds.
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		if rand.IntN(2) == 0 {
			r.mls.kill(t)
			time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
			if rand.IntN(2) == 0 {
				r.mls.start(t)
				time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
			}
		}
		r.vendor.kill(t)
		r.mls.kill(t)
		r.mls.start(t)
		if open := r.open(t); len(open) > 1 {
			t.Fatalf("several are open: %v", open)
		}
	}
	r.configure(t, r.feed)
	r.vendor.start(t)
	uuid := r.registered(t)
	t.Logf("%s is the last of %d", uuid, len(r.subscriptions(t)))
	r.put(t, 1, "a", "b")
	r.level(t)
	r.quiet(t)
}

// TestRegisterAnotherKey gives the producer another signing key: it cannot read the callback any more, and the vendor,
// with a token of the new key, tells it again.
func TestRegisterAnotherKey(t *testing.T) {
	r := newRegistering(t)
	r.mls.start(t)
	r.vendor.start(t)
	uuid := r.registered(t)
	r.vendor.end(t)
	r.mls.end(t)
	if err := os.Remove(filepath.Join(r.mls.dir, "data", "signing.key")); err != nil {
		t.Fatal(err)
	}
	r.mls.start(t)
	r.write = r.mls.command(t, "token", "issue", "--client", "vendor")
	r.vendor.env = append(r.vendor.env, "API_TOKEN="+r.write)
	if open := r.open(t); open[uuid] != "suspended" {
		t.Fatalf("%v\n%s", open, r.mls.tail())
	}
	r.vendor.start(t)
	until(t, func() (string, bool) { return r.vendor.tail(), r.open(t)[uuid] == "active" })
	if again := r.registered(t); again != uuid {
		t.Errorf("registered as %s, and before as %s", again, uuid)
	}
	r.put(t, 1, "a", "b")
	r.level(t)
	if good := r.tokens(t); good != 1 {
		t.Errorf("%d tokens are good", good)
	}
}

// TestRegisterRestoredTerms puts the producer back to a backup in which it pushed to where the vendor is no more: it is
// told where that is, and pushes there.
func TestRegisterRestoredTerms(t *testing.T) {
	r := newRegistering(t)
	here := r.config
	r.config = strings.Replace(here, "public_url: http://127.0.0.1", "public_url: http://127.0.0.2", 1)
	r.configure(t, r.feed)
	r.mls.start(t)
	r.vendor.start(t)
	uuid := r.registered(t)
	r.mls.command(t, "backup", "before.db")
	r.vendor.end(t)
	r.config = here
	r.configure(t, r.feed)
	r.vendor.start(t)
	r.registered(t)
	r.put(t, 1, "a")
	r.level(t)
	r.vendor.end(t)
	r.mls.end(t)
	r.mls.restore(t, "before.db")
	r.mls.command(t, "log", "new-id")
	r.mls.start(t)
	r.put(t, 2, "b")
	r.vendor.start(t)
	r.level(t) // it follows the new log
	r.vendor.kill(t)
	r.vendor.start(t) // which makes it look
	if again := r.registered(t); again != uuid {
		t.Errorf("registered as %s, and before as %s", again, uuid)
	}
	for i := range 3 {
		r.put(t, 3+i, "a", "b")
		r.level(t)
	}
}

// TestRegisterRestoredStray puts the producer back to a backup with a subscription that the vendor has cancelled since:
// it is cancelled again.
func TestRegisterRestoredStray(t *testing.T) {
	r := newRegistering(t)
	r.mls.start(t)
	r.put(t, 1, "a")
	r.vendor.start(t)
	stray := r.registered(t)
	r.mls.command(t, "backup", "before.db")
	r.vendor.end(t)
	r.configure(t, strings.Replace(r.feed, "IDX 1", "IDX 2", 1))
	r.vendor.start(t)
	until(t, func() (string, bool) {
		open := r.open(t)
		return fmt.Sprintf("%v\n%s", open, r.vendor.tail()), len(open) == 1 && open[stray] == ""
	})
	r.vendor.end(t)
	r.mls.end(t)
	r.mls.restore(t, "before.db")
	r.mls.command(t, "log", "new-id")
	r.mls.start(t)
	if open := r.open(t); open[stray] == "" {
		t.Fatalf("%v", open)
	}
	r.vendor.start(t)
	until(t, func() (string, bool) {
		open := r.open(t)
		return fmt.Sprintf("%v\n%s", open, r.vendor.tail()), len(open) == 1 && open[stray] == ""
	})
	r.registered(t)
	r.put(t, 2, "a", "b")
	r.level(t)
}
