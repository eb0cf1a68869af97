package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	cmpdiff "github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
)

func TestOverdueFeeds(t *testing.T) {
	opened := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return opened.Add(time.Duration(minutes) * time.Minute) }
	fails := func(minutes int) consumer.Trouble {
		return consumer.Trouble{Since: at(minutes), Failures: 3, Error: "SECRET"}
	}
	// now is minute 60: with the default poll, what stands still since minute 45 or longer is overdue.
	const says, tries = ": `resosync status` says more", ": `resosync check` tries to reach it"
	well := consumer.Status{Loaded: true, Contact: at(59), Level: at(59), Whole: at(59), Moved: at(59)}
	for _, c := range []struct {
		name   string
		change func(*consumer.Status)
		want   string
	}{
		{"well", func(*consumer.Status) {}, ""},
		{"well, with work", func(s *consumer.Status) { s.Pending, s.Behind = 5, true }, ""},
		{"loading", func(s *consumer.Status) { s.Loaded, s.Loading = false, &consumer.Progress{Records: 12345} }, "not loaded yet, at 12,345 records since 2026-03-02T09:00:00Z" + says},
		{"not loaded", func(s *consumer.Status) { s.Loaded = false }, "not loaded yet since 2026-03-02T09:00:00Z" + says},
		{"never reached", func(s *consumer.Status) { s.Contact = time.Time{} }, "no contact with the producer since 2026-03-02T09:00:00Z" + tries},
		{"reached before", func(s *consumer.Status) { s.Contact = at(44) }, "no contact with the producer since 2026-03-02T09:44:00Z" + tries},
		{"reached lately", func(s *consumer.Status) { s.Contact = at(46) }, ""},
		{"polls fail", func(s *consumer.Status) { s.Polling = fails(44) }, "polling keeps failing since 2026-03-02T09:44:00Z" + tries},
		{"polls fail lately", func(s *consumer.Status) { s.Polling = fails(46) }, ""},
		{"applying fails", func(s *consumer.Status) { s.Applying = fails(44) }, "applying keeps failing since 2026-03-02T09:44:00Z" + says},
		{"applying fails lately", func(s *consumer.Status) { s.Applying = fails(46) }, ""},
		{"nothing moves", func(s *consumer.Status) { s.Pending, s.Moved = 5, at(44) }, "5 events to apply and none applied since 2026-03-02T09:44:00Z" + says},
		{"nothing ever moved", func(s *consumer.Status) { s.Pending, s.Moved = 1, time.Time{} }, "1 event to apply and none applied since 2026-03-02T09:00:00Z" + says},
		{"nothing to move", func(s *consumer.Status) { s.Moved = at(0) }, ""},
		{"behind", func(s *consumer.Status) { s.Behind, s.Level, s.Whole = true, at(10), at(44) }, "behind its producer since 2026-03-02T09:44:00Z" + says},
		{"behind, level before", func(s *consumer.Status) { s.Behind, s.Level, s.Whole = true, at(44), time.Time{} }, "behind its producer since 2026-03-02T09:44:00Z" + says},
		{"behind lately", func(s *consumer.Status) { s.Behind, s.Level = true, at(10) }, ""},
		{"before this run", func(s *consumer.Status) { s.Behind, s.Level, s.Whole = true, at(-90), at(-90) }, "behind its producer since 2026-03-02T09:00:00Z" + says},
	} {
		s := well
		s.Feed = "mls"
		c.change(&s)
		want := c.want
		if want != "" {
			want = "feed mls: " + want
		}
		if d := cmpdiff.Diff(want, strings.Join(texts(overdue(s, limit{poll: "@every 60s"}, opened, at(60))), "; ")); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
		if got := overdue(s, limit{poll: "@every 60s", after: 2 * time.Hour}, opened, at(60)); got != nil {
			t.Errorf("%s, stale after two hours: %v", c.name, got)
		}
		if got := overdue(s, limit{poll: "0 * * * *"}, opened, at(60)); got != nil {
			t.Errorf("%s, polled by the hour: %v", c.name, got)
		}
	}
	if got := overdue(consumer.Status{Feed: "mls"}, limit{poll: "@every 60s"}, opened, at(14)); got != nil {
		t.Errorf("a new feed: %v", got)
	}
}

// openAgent wires an agent with a configuration of its own; it does not run.
func openAgent(t *testing.T, roles string) *agent {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "resosync.yaml")
	if err := os.WriteFile(path, []byte("name: here\ndata: "+filepath.Join(dir, "data")+"\n"+roles), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	held, err := waitFolder(t.Context(), c.Data, "run")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = held.Close() })
	a, err := open(t.Context(), c, held, "http://agent", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// get asks an agent that does not run.
func (a *agent) get(t *testing.T, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	r.RemoteAddr = "127.0.0.1:40000"
	a.routes(t.Context()).ServeHTTP(w, r)
	return w
}

const oneFeed = `consumer:
  feeds:
    - {name: mls, url: "http://127.0.0.1:1/odata", token: SECRET, resources: [Property]}
`

// TestReadinessSaysWhy asks an agent that stands still for an hour.
func TestReadinessSaysWhy(t *testing.T) {
	a := openAgent(t, oneFeed)
	if w := a.get(t, "/readyz"); w.Code != http.StatusOK {
		t.Errorf("a new agent: %d %s", w.Code, w.Body)
	}

	a.opened = time.Now().Add(-time.Hour)
	w := a.get(t, "/readyz")
	var got struct {
		Status  int
		Detail  string
		Reasons []string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 503 || got.Status != 503 || w.Header().Get("Content-Type") != "application/problem+json" ||
		!strings.Contains(got.Detail, "feed mls: not loaded yet since ") || !strings.Contains(got.Detail, "feed mls: no contact with the producer since ") {
		t.Errorf("%d %v %s %v", w.Code, w.Header(), w.Body, err)
	}
	if len(got.Reasons) != 2 || strings.Join(got.Reasons, "; ") != got.Detail {
		t.Errorf("reasons %q", got.Reasons)
	}
	var out bytes.Buffer
	(&program{stdout: &out}).printStatus(a.status(t.Context()), &session{remote: true})
	for _, reason := range got.Reasons {
		if !strings.Contains(out.String(), "not ready: "+reason+"\n") {
			t.Errorf("the status does not say %q:\n%s", reason, &out)
		}
	}
	if strings.Contains(w.Body.String()+out.String(), "SECRET") {
		t.Errorf("secrets in %s%s", w.Body, &out)
	}
}

// TestReadyzFaults scripts each fault that must turn /readyz red at once, and its end, which turns it green.
func TestReadyzFaults(t *testing.T) {
	a := openAgent(t, oneFeed)
	full := fmt.Errorf("apply: %w", &sqlite.UnavailableError{Path: "/SECRET/resosync.db", Remedy: "make room", Err: errors.New("SECRET")})
	damaged := fmt.Errorf("read: %w", &sqlite.UnavailableError{Path: "/SECRET/resosync.db", Remedy: "restore a backup", Damaged: true, Err: errors.New("SECRET")})
	var now vitals
	a.lookout.vitals = func(context.Context) vitals { return now }
	for _, c := range []struct {
		name        string
		begin, over func()
		want        string // "": stays ready
	}{
		{"a store without room", func() { a.probe.heard(full) }, func() { a.probe.once(t.Context()) }, `the store does not work since \S+: make room`},
		{"an error that nobody knows", func() { a.probe.heard(errors.New("SECRET")) }, func() { a.probe.once(t.Context()) }, "the store does not work since .*: .*resosync status"},
		{"a store that does not tell", func() { now.err = errors.New("SECRET") }, func() { now.err = nil }, "the store does not answer: "},
		{"a write that hangs", func() { a.probe.begun = time.Now().Add(-probePatience - time.Second) }, func() { a.probe.begun = time.Time{} }, "the store has not answered for 16s: look at the disk"},
		{"a write that takes its time", func() { a.probe.begun = time.Now().Add(-probePatience / 2) }, func() { a.probe.begun = time.Time{} }, ""},
		{"a store that has much to do", func() { a.probe.once(t.Context()); now.err = fmt.Errorf("feed: %w", errLookTimeout) }, func() { now.err = nil }, ""},
		{"a store that was late for long", func() { a.probe.worked, now.err = time.Now().Add(-time.Minute), errLookTimeout }, func() { now.err = nil }, "the store does not answer: "},
		{"registered ones that are not known", func() { now.incomplete = errors.New("SECRET") }, func() { now.incomplete = nil }, ""},
		{"removals held", func() { now.feeds[0].Held = 1234 }, func() { now.feeds[0].Held = 0 }, "feed mls: 1,234 removals are held.*resosync aside list mls.*resosync reconcile mls --allow-deletes"},
		{"records set aside", func() { now.feeds[0].Aside = 101 }, func() { now.feeds[0].Aside = 100 }, "feed mls: 101 records could not be brought up to date: `resosync aside list mls` says why"},
		{"a suspended subscription", func() {
			now.subscriptions = []subscriptionStatus{{SubscriptionState: producer.SubscriptionState{Name: "b", Status: producer.Suspended, Reason: "SECRET", LastError: "SECRET"}}}
		}, func() { now.subscriptions[0].Status = producer.Active }, "subscription b is suspended.*resosync resume b"},
		{"a suspended one that is no longer wanted", func() {
			now.subscriptions = []subscriptionStatus{{SubscriptionState: producer.SubscriptionState{Name: "b", Status: producer.Suspended}, Gone: true}}
		}, func() {}, ""},
		{"a restored store", func() { now.restored = &producer.RestoredState{By: "SECRET"} }, func() { now.restored = nil }, "restored from a backup.*resosync log new-id"},
		{"a store that does not take what came", func() {
			now.feeds[0].Applying = consumer.Trouble{Since: time.Now(), Failures: 1, Store: true, Error: "SECRET"}
		}, func() { now.feeds[0].Applying = consumer.Trouble{} }, "feed mls: the store does not take what the producer sends since .*look at the disk"},
		{"a producer that is away for a moment", func() {
			now.feeds[0].Polling = consumer.Trouble{Since: time.Now().Add(-time.Minute), Failures: 3, Error: "SECRET"}
		}, func() { now.feeds[0].Polling = consumer.Trouble{} }, ""},
		{"a damaged file", func() { a.probe.heard(damaged) }, func() { a.probe.damage = nil; a.probe.once(t.Context()) }, "restore a backup"},
	} {
		now = vitals{feeds: []consumer.Status{{Feed: "mls", Loaded: true}}}
		ask := func() *httptest.ResponseRecorder {
			a.lookout.last = vitals{} // nobody shares an older look
			return a.get(t, "/readyz")
		}
		if w := ask(); w.Code != http.StatusOK {
			t.Errorf("before %s: %d %s", c.name, w.Code, w.Body)
		}
		c.begin()
		w := ask()
		if c.want == "" && w.Code != http.StatusOK || c.want != "" && (w.Code != http.StatusServiceUnavailable || !regexp.MustCompile(c.want).Match(w.Body.Bytes())) {
			t.Errorf("%s: %d %s, want %q", c.name, w.Code, w.Body, c.want)
		}
		if strings.Contains(w.Body.String(), "SECRET") {
			t.Errorf("%s: %s", c.name, w.Body)
		}
		c.over()
		if w := ask(); w.Code != http.StatusOK {
			t.Errorf("after %s: %d %s", c.name, w.Code, w.Body)
		}
	}
}

// TestStatusOfAFailingStore says what it can.
func TestStatusOfAFailingStore(t *testing.T) {
	a := openAgent(t, oneFeed)
	if err := a.store.Close(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	(&program{stdout: &out}).printStatus(a.status(t.Context()), &session{remote: true, base: "http://127.0.0.1:1"})
	for _, want := range []string{"here: running at", "not ready: the store does not answer: ", "what follows is not complete: ", "log " + string(a.store.LogID())} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the status lacks %q:\n%s", want, &out)
		}
	}
}

// scriptedStore refuses writes above a size.
type scriptedStore struct {
	*sqlite.Store
	mu   sync.Mutex
	room int
	hang chan struct{} // nil: it answers
	err  error
}

// set changes what the store does.
func (s *scriptedStore) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *scriptedStore) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	s.mu.Lock()
	room, hang, err := s.room, s.hang, s.err
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if err != nil || len(c.Docs[0].Body) > room {
		return nil, cmp.Or(err, error(&sqlite.UnavailableError{Remedy: "make room"}))
	}
	return s.Store.Apply(ctx, c)
}

// TestProbe runs the probe over a day in which the disk fills, has room for little only, and is emptied.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := openAgent(t, oneFeed)
		store := &scriptedStore{Store: a.store, room: 1 << 20}
		a.probe.store = store
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.probe.run(ctx) }()
		red := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := strings.Join(texts(a.probe.reasons(time.Now())), ";"); got == "" != (want == "") || !strings.Contains(got, want) {
				t.Errorf("%s: %q, want %q", time.Now().Format(time.TimeOnly), got, want)
			}
		}
		red("")
		time.Sleep(time.Hour)
		red("")
		store.set(func() { store.room = 0 })
		time.Sleep(10 * time.Second)
		red("make room")
		store.set(func() { store.room = 1000 })
		time.Sleep(time.Minute)
		red("make room") // a small write would succeed
		store.set(func() { store.room = 1 << 20 })
		time.Sleep(10 * time.Second)
		red("")

		// Somebody else's write fails, while the small ones of the probe succeed.
		a.probe.heard(&sqlite.UnavailableError{Remedy: "make room"})
		red("make room")
		time.Sleep(10 * time.Second)
		red("")

		hang := make(chan struct{})
		store.set(func() { store.hang = hang })
		time.Sleep(26 * time.Second)
		red("has not answered")
		store.set(func() { store.hang = nil })
		close(hang)
		red("")

		store.set(func() { store.err = &sqlite.UnavailableError{Remedy: "restore", Damaged: true} })
		time.Sleep(10 * time.Second)
		red("restore")
		store.set(func() { store.err = nil })
		time.Sleep(time.Hour)
		red("restore") // a damaged file does not heal
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		doc, err := a.store.Get(t.Context(), probeKind, "store")
		if err != nil || len(doc.Body) > 100 {
			t.Errorf("the probe leaves %d bytes: %v", len(doc.Body), err)
		}
	})
}

// TestLookout asks a store that hangs: everybody is answered within seconds, and one look is under way.
func TestLookout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		hang := make(chan struct{})
		l := &lookout{vitals: func(context.Context) vitals {
			looks.Add(1)
			<-hang // whatever its context says
			return vitals{}
		}}
		begun := time.Now()
		var asking sync.WaitGroup
		for range 20 {
			asking.Go(func() {
				if v := l.look(t.Context()); !errors.Is(v.err, errLookTimeout) || time.Since(begun) > 5*time.Second {
					t.Errorf("%v after %v", v.err, time.Since(begun))
				}
			})
		}
		asking.Wait()
		if looks.Load() != 1 {
			t.Errorf("%d looks", looks.Load())
		}
		close(hang)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if v := l.look(t.Context()); v.err != nil {
			t.Error(v.err)
		}
		for range 100 {
			l.look(t.Context())
		}
		if looks.Load() > 2 {
			t.Errorf("%d looks within a moment", looks.Load())
		}
		time.Sleep(time.Second)
		l.look(t.Context())
		if looks.Load() != 2 {
			t.Errorf("%d looks", looks.Load())
		}
	})
}

// TestReadyLog logs each reason when it begins and when it is over, once.
func TestReadyLog(t *testing.T) {
	var out strings.Builder
	logger := slog.New(slog.NewTextHandler(&out, nil))
	known := map[string]time.Time{}
	a, a2, b := reason{"a", "first"}, reason{"a", "first, in other words"}, reason{"b", "second"}
	for _, now := range [][]reason{nil, {a}, {a2}, {a, b}, {b}, {b}, nil, nil, {a}} {
		logReady(logger, known, now)
	}
	var got []string
	for _, m := range regexp.MustCompile(`msg="?(not ready|recovered)"? about=(\w)`).FindAllStringSubmatch(out.String(), -1) {
		got = append(got, m[1]+" "+m[2])
	}
	if d := cmpdiff.Diff([]string{"not ready a", "not ready b", "recovered a", "recovered b", "not ready a"}, got); d != "" {
		t.Error(d)
	}
}
