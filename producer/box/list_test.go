package box_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
)

// TestList is the exact form of a list, and of where it goes on.
func TestList(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	if got := s.list("?stream_position=now"); got.Next != 0 || len(got.Entries) != 0 {
		t.Errorf("of an empty log: %+v", got)
	}
	seqs := put(t, s.store, "Property", 3)
	a := s.do("GET", "/2.0/events?stream_position=0&limit=1")
	at := regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"`)
	if got := at.FindAllString(a.body, -1); len(got) != 2 {
		t.Errorf("times %v", got)
	}
	want := fmt.Sprintf(`{"chunk_size":1,"next_stream_position":%[1]d,"entries":[{"type":"event","event_id":"%[1]d","event_type":"ENTITY_EVENT","created_at":AT,"recorded_at":AT,`+
		`"session_id":null,"created_by":{"type":"user","id":"acme-mls","name":"acme-mls","login":"acme-mls"},`+
		`"source":{"type":"entity_event","id":"%[1]d","EntityEventSequence":%[1]d,"ResourceName":"Property","ResourceRecordKey":"k%[2]d"}}]}`, seqs[0], keys.Load()-2)
	if diff := cmp.Diff(want, at.ReplaceAllString(a.body, "AT")); diff != "" {
		t.Error(diff)
	}
	h := a.header
	if a.status != 200 || h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || a.close {
		t.Errorf("%d %v", a.status, h)
	}
	head := seqs[2]
	const far = 9007199254740993 // above the head: the given one
	for _, c := range []struct {
		query string
		n     int
		next  entityevent.Sequence
	}{
		{"", 3, head},
		{"?stream_position=0", 3, head},
		{"?stream_position=null", 3, head},
		{"?stream_position=", 3, head},
		{"?stream_position=" + seqs[1].String(), 1, head},
		{"?stream_position=" + head.String(), 0, head},
		{"?stream_position=" + fmt.Sprint(far), 0, far},
		{"?stream_position=9223372036854775807", 0, math.MaxInt64},
		{"?stream_position=now", 0, head},
		{"?stream_position=now&limit=2", 0, head},
		{"?limit=2", 2, seqs[1]},
		{"?limit=0", 0, 0},
		{"?stream_position=now&limit=0", 0, head},
		{"?limit=501", 3, head},
		{"?limit=99999999999", 3, head},
		{"?limit=99999999999999999999", 3, head},
		{"?stream_type=admin_logs&event_type=X,Y&created_after=2020-01-01T00:00:00Z&created_before=x&fields=a", 3, head},
	} {
		if got := s.list(c.query); got.Next != c.next || len(got.Entries) != c.n {
			t.Errorf("%q: %+v, want %d entries and then %d", c.query, got, c.n, c.next)
		}
	}
	if a := s.do("HEAD", "/2.0/events"); a.status != 200 || a.body != "" {
		t.Errorf("HEAD: %d %s", a.status, a.body)
	}
	for _, path := range []string{"/events", "/events/", "/2.0/events/"} {
		if b := s.do("GET", path+"?limit=1"); b.body != a.body || b.status != 200 {
			t.Errorf("%s: %d %s", path, b.status, b.body)
		}
	}
}

// TestPages reads a log to its end, in pages of the default size, of one that was asked for, and of the largest.
func TestPages(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	all := put(t, s.store, "Property", 1203)
	for limit, size := range map[string]int{"": 100, "&limit=7": 7, "&limit=500": 500, "&limit=1000": 500} {
		var read []entityevent.Sequence
		for after := entityevent.Sequence(0); ; {
			page := s.list("?stream_position=" + after.String() + limit)
			if len(page.Entries) == 0 {
				if page.Next != after {
					t.Errorf("%s: nothing is new, and the next position is %d and not %d", limit, page.Next, after)
				}
				break
			}
			if left := len(all) - len(read); len(page.Entries) != min(left, size) {
				t.Fatalf("%s: %d events, want %d", limit, len(page.Entries), min(left, size))
			}
			read = append(read, page.sequences()...)
			after = page.Next
		}
		if !slices.Equal(read, all) {
			t.Errorf("%s: %d events, want %d", limit, len(read), len(all))
		}
	}
}

// TestListOfProfile: events that a client may not see are neither shown nor in its way.
func TestListOfProfile(t *testing.T) {
	store := openStore(t)
	masks, err := store.SetProfiles(t.Context(), []entityevent.Profile{{Name: "idx", Resources: map[string]entityevent.Access{"Media": {}}}})
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, store, gate{masks["idx"]})
	const idx = "Authorization: Bearer idx"
	hidden := put(t, store, "Property", 5)
	if got := s.list("?stream_position=0", idx); len(got.Entries) != 0 || got.Next != 0 {
		t.Errorf("nothing is new: %+v", got)
	}
	if got := s.list("?stream_position=now", idx); got.Next != hidden[4] {
		t.Errorf("now: %+v", got)
	}
	seen := put(t, store, "Media", 2)
	hidden = put(t, store, "Property", 5)
	if got := s.list("?stream_position=0", idx); !slices.Equal(got.sequences(), seen) || got.Next != hidden[4] {
		t.Errorf("%+v, want %v and then %d", got, seen, hidden[4])
	}
	if got := s.list("?stream_position=0&limit=1", idx); !slices.Equal(got.sequences(), seen[:1]) || got.Next != seen[0] {
		t.Errorf("%+v", got)
	}
}

// sparse is a store whose pages are empty up to a position, though more follows.
type sparse struct {
	entityevent.Store
	until entityevent.Sequence
}

func (s *sparse) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	if q.After < s.until {
		return entityevent.Page{Through: q.After + 1, More: true, Head: s.until}, nil
	}
	return s.Store.Events(ctx, v, q)
}

// TestLongStretchesOfInvisibleEvents: a list looks behind them, and a position that was reached so is kept.
func TestLongStretchesOfInvisibleEvents(t *testing.T) {
	store := openStore(t)
	all := put(t, store, "Property", 4)
	s := serve(t, &sparse{Store: store, until: 3}, gate{})
	if got := s.list("?stream_position=0"); !slices.Equal(got.sequences(), all[3:]) || got.Next != all[3] {
		t.Errorf("%+v", got)
	}
	s = serve(t, &sparse{Store: store, until: all[3]}, gate{})
	if got := s.list("?stream_position=1"); len(got.Entries) != 0 || got.Next != all[3] {
		t.Errorf("%+v", got)
	}
}

// TestErrors are in the form of that API.
func TestErrors(t *testing.T) {
	s := serve(t, openStore(t), gate{})
	for _, c := range []struct {
		method, target, headers string
		status                  int
		code, header, value     string
	}{
		{"GET", "/2.0/events?stream_position=x", "", 400, "bad_request", "", ""},
		{"GET", "/2.0/events?stream_position=-1", "", 400, "bad_request", "", ""},
		{"GET", "/2.0/events?stream_position=%2B1", "", 400, "bad_request", "", ""},
		{"GET", "/2.0/events?stream_position=1.0", "", 400, "bad_request", "", ""},
		{"GET", "/2.0/events?stream_position=9223372036854775808", "", 400, "bad_request", "", ""},
		{"GET", "/2.0/events?limit=-5", "", 400, "bad_request", "", ""},
		{"GET", "/2.0/events?limit=ten", "", 400, "bad_request", "", ""},
		{"GET", "/2.0/realtime?channel=x&stream_position=x", "", 400, "bad_request", "", ""},
		{"GET", "/2.0/events", "Authorization: ", 401, "unauthorized", "WWW-Authenticate", `Bearer realm="resosync"`},
		{"GET", "/2.0/events", "Authorization: Bearer x", 401, "unauthorized", "WWW-Authenticate", `Bearer realm="resosync", error="invalid_token"`},
		{"OPTIONS", "/2.0/events", "Authorization: ", 401, "unauthorized", "WWW-Authenticate", `Bearer realm="resosync"`},
		{"GET", "/2.0/events", "Authorization: Bearer reader", 403, "forbidden", "", ""},
		{"OPTIONS", "/events", "Authorization: Bearer reader", 403, "forbidden", "", ""},
		{"GET", "/2.0/folders/0", "", 404, "not_found", "", ""},
		{"GET", "/2.0", "", 404, "not_found", "", ""},
		{"GET", "/2.0/events//", "", 404, "not_found", "", ""},
		{"POST", "/2.0/events", "", 405, "method_not_allowed", "Allow", "GET, HEAD, OPTIONS"},
		{"DELETE", "/events", "", 405, "method_not_allowed", "Allow", "GET, HEAD, OPTIONS"},
		{"PUT", "/2.0/realtime", "", 405, "method_not_allowed", "Allow", "GET, HEAD, OPTIONS"},
		{"GET", "/2.0/events", "Authorization: Bearer down", 503, "unavailable", "Retry-After", "5"},
		{"OPTIONS", "/2.0/events", "Authorization: Bearer down", 503, "unavailable", "Retry-After", "5"},
	} {
		a := s.do(c.method, c.target, c.headers)
		var got struct {
			Type, Code, Message string
			Status              int
			RequestID           string `json:"request_id"`
		}
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Errorf("%s %s: %v: %s", c.method, c.target, err, a.body)
		}
		if a.status != c.status || got.Status != c.status || got.Type != "error" || got.Code != c.code || got.Message == "" || got.RequestID != "request-1" ||
			a.header.Get("Content-Type") != "application/json" || c.header != "" && a.header.Get(c.header) != c.value {
			t.Errorf("%s %s: %d %v %s", c.method, c.target, a.status, a.header, a.body)
		}
		if strings.Contains(a.body, "tokens") {
			t.Errorf("internal text: %s", a.body)
		}
	}
}

// forgetful is a store that forgot what was before a position.
type forgetful struct {
	entityevent.Store
	floor entityevent.Sequence
}

func (f forgetful) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	page, err := f.Store.Events(ctx, v, q)
	page.Floor = f.floor
	return page, err
}

// TestForgotten: a reader below what was forgotten is told, and may begin anew.
func TestForgotten(t *testing.T) {
	store := openStore(t)
	put(t, store, "Property", 9)
	s := serve(t, forgetful{store, 5}, gate{})
	for after, want := range map[string]int{"0": 200, "1": 410, "4": 410, "5": 200, "now": 200} {
		a := s.do("GET", "/2.0/events?stream_position="+after)
		if a.status != want || want == http.StatusGone && (!strings.Contains(a.body, `"code":"gone"`) || !strings.Contains(a.body, "stream_position=0")) {
			t.Errorf("%s: %d %s", after, a.status, a.body)
		}
	}
}
