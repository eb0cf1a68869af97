package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/consumer"
)

func TestOverdueFeeds(t *testing.T) {
	opened := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return opened.Add(time.Duration(minutes) * time.Minute) }
	fails := func(minutes int) consumer.Trouble {
		return consumer.Trouble{Since: at(minutes), Failures: 3, Error: "SECRET"}
	}
	// now is minute 60: with the default poll, what stands still since minute 45 or longer is overdue.
	well := consumer.Status{Loaded: true, Contact: at(59), Level: at(59), Whole: at(59), Moved: at(59)}
	for _, c := range []struct {
		name   string
		change func(*consumer.Status)
		want   string
	}{
		{"well", func(*consumer.Status) {}, ""},
		{"well, with work", func(s *consumer.Status) { s.Pending, s.Behind = 5, true }, ""},
		{"loading", func(s *consumer.Status) { s.Loaded, s.Loading = false, &consumer.Progress{Records: 12345} }, "not loaded yet, at 12,345 records since 2026-03-02T09:00:00Z"},
		{"not loaded", func(s *consumer.Status) { s.Loaded = false }, "not loaded yet since 2026-03-02T09:00:00Z"},
		{"never reached", func(s *consumer.Status) { s.Contact = time.Time{} }, "no contact with the producer since 2026-03-02T09:00:00Z"},
		{"reached before", func(s *consumer.Status) { s.Contact = at(44) }, "no contact with the producer since 2026-03-02T09:44:00Z"},
		{"reached lately", func(s *consumer.Status) { s.Contact = at(46) }, ""},
		{"polls fail", func(s *consumer.Status) { s.Polling = fails(44) }, "polling keeps failing since 2026-03-02T09:44:00Z"},
		{"polls fail lately", func(s *consumer.Status) { s.Polling = fails(46) }, ""},
		{"applying fails", func(s *consumer.Status) { s.Applying = fails(44) }, "applying keeps failing since 2026-03-02T09:44:00Z"},
		{"applying fails lately", func(s *consumer.Status) { s.Applying = fails(46) }, ""},
		{"nothing moves", func(s *consumer.Status) { s.Pending, s.Moved = 5, at(44) }, "5 events to apply and none applied since 2026-03-02T09:44:00Z"},
		{"nothing ever moved", func(s *consumer.Status) { s.Pending, s.Moved = 1, time.Time{} }, "1 event to apply and none applied since 2026-03-02T09:00:00Z"},
		{"nothing to move", func(s *consumer.Status) { s.Moved = at(0) }, ""},
		{"behind", func(s *consumer.Status) { s.Behind, s.Level, s.Whole = true, at(10), at(44) }, "behind its producer since 2026-03-02T09:44:00Z"},
		{"behind, level before", func(s *consumer.Status) { s.Behind, s.Level, s.Whole = true, at(44), time.Time{} }, "behind its producer since 2026-03-02T09:44:00Z"},
		{"behind lately", func(s *consumer.Status) { s.Behind, s.Level = true, at(10) }, ""},
		{"before this run", func(s *consumer.Status) { s.Behind, s.Level, s.Whole = true, at(-90), at(-90) }, "behind its producer since 2026-03-02T09:00:00Z"},
	} {
		s := well
		s.Feed = "mls"
		c.change(&s)
		want := c.want
		if want != "" {
			want = "feed mls: " + want
		}
		if d := cmp.Diff(want, strings.Join(overdue(s, "@every 60s", opened, at(60)), "; ")); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
		if got := overdue(s, "0 * * * *", opened, at(60)); got != nil {
			t.Errorf("%s, polled by the hour: %v", c.name, got)
		}
	}
	if got := overdue(consumer.Status{Feed: "mls"}, "@every 60s", opened, at(14)); got != nil {
		t.Errorf("a new feed: %v", got)
	}
}

// TestReadinessSaysWhy asks an agent that stands still for an hour.
func TestReadinessSaysWhy(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "resosync.yaml")
	text := "name: vendor\ndata: " + filepath.Join(dir, "data") + "\nconsumer:\n  feeds:\n    - {name: mls, url: \"http://127.0.0.1:1/odata\", token: SECRET, resources: [Property]}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
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
	a, err := open(t.Context(), c, held, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		a.routes(t.Context(), "http://agent").ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		return w
	}
	if w := ask(); w.Code != http.StatusOK {
		t.Errorf("a new agent: %d %s", w.Code, w.Body)
	}

	a.opened = time.Now().Add(-time.Hour)
	w := ask()
	var got struct {
		Status int
		Detail string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 503 || got.Status != 503 || w.Header().Get("Content-Type") != "application/problem+json" ||
		!strings.Contains(got.Detail, "feed mls: not loaded yet since ") || !strings.Contains(got.Detail, "feed mls: no contact with the producer since ") {
		t.Errorf("%d %v %s %v", w.Code, w.Header(), w.Body, err)
	}
	now, err := a.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	(&program{stdout: &out}).printStatus(now, &session{remote: true})
	for reason := range strings.SplitSeq(got.Detail, "; ") {
		if !strings.Contains(out.String(), "not ready: "+reason+"\n") {
			t.Errorf("the status does not say %q:\n%s", reason, &out)
		}
	}
	if strings.Contains(w.Body.String()+out.String(), "SECRET") {
		t.Errorf("secrets in %s%s", w.Body, &out)
	}

	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("busy"))
	if got := a.unready(ended); len(got) != 1 || got[0] != "the store does not answer" {
		t.Errorf("without a store: %v", got)
	}
}
