package producer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// ailing is a store that can fall ill: nothing can be read, nothing written, or neither.
type ailing struct {
	entityevent.Store
	mu            sync.Mutex
	reads, writes error
}

var errAiling = fmt.Errorf("%w: /var/lib/hidden-path/resosync.db: SQL disk I/O error", entityevent.ErrUnavailable)

func (a *ailing) fall(reads, writes error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reads, a.writes = reads, writes
}

func (a *ailing) ill() (reads, writes error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reads, a.writes
}

func (a *ailing) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	if err, _ := a.ill(); err != nil {
		return entityevent.Page{}, err
	}
	return a.Store.Events(ctx, v, q)
}

func (a *ailing) Read(ctx context.Context, v entityevent.View, q entityevent.Query) iter.Seq2[entityevent.Record, error] {
	if err, _ := a.ill(); err != nil {
		return func(yield func(entityevent.Record, error) bool) { yield(entityevent.Record{}, err) }
	}
	return a.Store.Read(ctx, v, q)
}

func (a *ailing) Count(ctx context.Context, v entityevent.View, q entityevent.Query) (int64, error) {
	if err, _ := a.ill(); err != nil {
		return 0, err
	}
	return a.Store.Count(ctx, v, q)
}

func (a *ailing) Get(ctx context.Context, kind, id string) (entityevent.Doc, error) {
	if err, _ := a.ill(); err != nil {
		return entityevent.Doc{}, err
	}
	return a.Store.Get(ctx, kind, id)
}

func (a *ailing) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	if _, err := a.ill(); err != nil {
		return nil, err
	}
	return a.Store.Apply(ctx, c)
}

// While the store cannot do its work every request is asked to come again, and told nothing of the inside;
// the log says so once, and once that it is over. What was not stored was not acknowledged.
func TestServerOfAnUnavailableStore(t *testing.T) {
	requests := []struct{ method, target, body string }{
		{"GET", "/", ""}, {"GET", "/$metadata", ""}, {"GET", "/EntityEvent", ""}, {"GET", "/EntityEvent(1)", ""}, {"GET", "/EntityEvent?$top=0", ""},
		{"GET", "/EntityEvent?last_event=99", ""}, {"GET", "/Property", ""}, {"GET", "/Property('a')", ""}, {"GET", "/Property/$count", ""}, {"HEAD", "/Property", ""},
		{"POST", "/Property", `{"ListingKey":"new"}`}, {"PUT", "/Property('new')", `{}`}, {"PUT", "/Property('a')", `{"A":1}`},
		{"PATCH", "/Property('a')", `{"A":1}`}, {"DELETE", "/Property('a')", ""},
	}
	for name, c := range map[string]struct{ reads, writes error }{
		"nothing can be read or written": {errAiling, errAiling}, "nothing can be written": {nil, errAiling},
		"closed": {entityevent.ErrClosed, entityevent.ErrClosed}, "something else": {errDisk, errDisk},
	} {
		t.Run(name, func(t *testing.T) {
			store := &ailing{Store: openStore(t, t.TempDir())}
			s := serve(t, store, nil)
			s.putMany("Property", "ListingKey", "a")
			s.get("/$metadata").want(t, 200)
			var logged bytes.Buffer
			s.server.Logger = slog.New(slog.NewTextHandler(&logged, nil))
			for round := range 2 {
				store.fall(c.reads, c.writes)
				for _, r := range requests {
					if c.reads == nil && r.target == "/EntityEvent?last_event=99" {
						continue // it would be held
					}
					a := s.do(r.method, r.target, r.body, "Prefer: wait=60, maxpagesize=7, return=representation", "EntityEvent-Cursor: "+string(store.LogID())+":1")
					if r.body == "" && r.method != "DELETE" && c.reads == nil {
						if a.status != 200 {
							t.Errorf("%s %s: %d", r.method, r.target, a.status)
						}
						continue
					}
					if a.status != 503 || a.header.Get("Retry-After") != "5" || a.header.Get("Cache-Control") != "no-store" {
						t.Errorf("%s %s: %d %v", r.method, r.target, a.status, a.header)
					}
					for _, header := range []string{"EntityEvent-Log", "EntityEvent-Through", "Preference-Applied", "ETag", "Location"} {
						if a.header.Get(header) != "" {
							t.Errorf("%s %s: %s is %q", r.method, r.target, header, a.header.Get(header))
						}
					}
					if r.method == "HEAD" {
						continue
					}
					checkError(t, a)
					if strings.Contains(a.body, "hidden") || strings.Contains(a.body, "disk") {
						t.Errorf("%s %s: %s", r.method, r.target, a.body)
					}
				}
				store.fall(nil, nil)
				if got := s.get("/EntityEvent").page(t); len(got.Value) != 1+2*round {
					t.Errorf("%d events: something was stored that was not acknowledged", len(got.Value))
				}
				s.do("PUT", fmt.Sprintf("/Property('%d')", round), "{}").want(t, 201)
				s.do("DELETE", fmt.Sprintf("/Property('%d')", round), "").want(t, 204)
			}
			failed, again := strings.Count(logged.String(), "request failed"), strings.Count(logged.String(), "answers requests again")
			switch {
			case !errors.Is(c.writes, entityevent.ErrUnavailable):
			case c.reads == nil && (failed != 2 || again != 2), c.reads != nil && (failed != 4 || again != 4): // reads and writes, twice
				t.Errorf("logged %d failures, %d recoveries: %s", failed, again, logged.String())
			}
		})
	}
}

// A poll that is held when the store falls ill or closes is answered; one that reads nothing then claims nothing.
func TestHeldPollsOfAnUnavailableStore(t *testing.T) {
	for name, c := range map[string]struct {
		happens []func(*ailing) // a second apart, after 9 s
		status  int
		after   time.Duration // 0: when the hold ends, up to a tenth early
	}{
		"closed":     {[]func(*ailing){func(a *ailing) { _ = a.Close() }}, 200, 9 * time.Second},
		"unwritable": {[]func(*ailing){func(a *ailing) { a.fall(nil, errAiling) }}, 200, 0},
		"unreadable when something comes": {[]func(*ailing){
			func(a *ailing) { a.fall(errAiling, nil) },
			func(a *ailing) { put(t, a, entityevent.Local, 1) },
		}, 503, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &ailing{Store: openStore(t, t.TempDir())}
				put(t, store, entityevent.Local, 3)
				server := bubbleServer(t, store)
				began := time.Now()
				for i, happens := range c.happens {
					time.AfterFunc(time.Duration(9+i)*time.Second, func() { happens(store) })
				}
				w := record(t, server, "/odata/EntityEvent?last_event=3", "Authorization: Bearer all", "Prefer: wait=30")
				if took := time.Since(began).Round(time.Second); w.Code != c.status || took != c.after && (c.after > 0 || took < 27*time.Second || took > 30*time.Second) {
					t.Errorf("%d after %v: %s", w.Code, took, w.Body)
				}
				if through := w.Header()["EntityEvent-Through"]; c.status == 200 && (len(through) != 1 || through[0] != "3") || c.status != 200 && through != nil {
					t.Errorf("Through %v", through)
				}
				if w.Header().Get("Cache-Control") != "no-store" {
					t.Errorf("%v", w.Header())
				}
			})
		})
	}
}

// An import acknowledges what is stored, and says what is not.
func TestImportIntoAnUnavailableStore(t *testing.T) {
	store := &ailing{Store: openStore(t, t.TempDir())}
	s := serve(t, store, nil)
	var input strings.Builder
	for i := range 2500 {
		fmt.Fprintf(&input, "{\"ListingKey\":\"%d\"}\n", i)
	}
	got, err := producer.Import(t.Context(), store, s.server.Schema, entityevent.Local, "Property", strings.NewReader(input.String()), func(p producer.Summary) {
		if p.New == 1000 {
			store.fall(nil, errAiling)
		}
	})
	if !errors.Is(err, entityevent.ErrUnavailable) || got.New != 1000 {
		t.Errorf("%+v %v", got, err)
	}
	store.fall(nil, nil)
	if n := s.get("/Property/$count").want(t, http.StatusOK); n != "1000" {
		t.Errorf("%s are stored", n)
	}
}

// Nothing on the way may keep an answer, whatever it is: it was true at one moment.
func TestAnswersAreNotKept(t *testing.T) {
	store := &ailing{Store: openStore(t, t.TempDir())}
	s := serve(t, store, nil)
	s.putMany("Property", "ListingKey", "a", "b", "c")
	tag := s.get("/Property('a')").header.Get("ETag")
	seen := map[int]bool{}
	check := func(method, target, body string, headers ...string) {
		a := s.do(method, target, body, headers...)
		seen[a.status] = true
		if got := a.header.Values("Cache-Control"); len(got) != 1 || got[0] != "no-store" {
			t.Errorf("%s %s: %d, Cache-Control %q", method, target, a.status, got)
		}
		if a.header.Get("Expires")+a.header.Get("Last-Modified")+a.header.Get("Age") != "" {
			t.Errorf("%s %s: %v", method, target, a.header)
		}
	}
	for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
		for _, target := range []string{
			"/", "/$metadata", "/EntityEvent", "/EntityEvent(1)", "/EntityEvent?last_event=0", "/EntityEvent?last_event=9&$top=0", "/EntityEvent(99)",
			"/Property", "/Property('a')", "/Property('x')", "/Property/$count", "/NoSuch", "/$batch", "//", "/Property(", "/Property?$filter=x", "/Property?$search=x",
			"/Property?" + strings.Repeat("x", 70_000),
		} {
			check(method, target, "")
			check(method, target, "", "Authorization: forged")
			check(method, target, "", "Authorization: Bearer push")
			check(method, target, "", "OData-Version: 3.0")
			check(method, target, "", "EntityEvent-Cursor: "+string(store.LogID())+":99")
		}
	}
	check("GET", "/EntityEvent?last_event=0", "", "Prefer: wait=60")
	check("GET", "/EntityEvent?last_event=99", "", "Prefer: wait=1")
	check("GET", "/Property('a')", "", "If-None-Match: "+tag)
	check("POST", "/EntityEvent", "{}")
	check("POST", "/Property", `{"ListingKey":"a"}`)
	check("POST", "/Property", `{`)
	check("POST", "/Property", `{"A":"`+strings.Repeat("x", 5000)+`"}`)
	check("POST", "/Property", "{}", "Content-Type: text/plain")
	check("POST", "/Property", "{}")
	check("POST", "/Property", "{}", "Prefer: return=minimal")
	check("PUT", "/Property('a')", `{"A":1}`, "Prefer: return=representation")
	check("PUT", "/Property('a')", `{"A":2}`, "If-Match: "+tag)
	check("DELETE", "/Property('a')", "")
	store.fall(errAiling, errAiling)
	check("GET", "/Property", "")
	check("DELETE", "/Property('b')", "")
	for _, status := range []int{200, 201, 204, 304, 400, 401, 403, 404, 405, 409, 410, 412, 413, 414, 415, 501, 503} {
		if !seen[status] {
			t.Errorf("no answer was a %d", status)
		}
	}
}
