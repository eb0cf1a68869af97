package producer_test

import (
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// eventsContext is the context of all fields of EntityEvent.
const eventsContext = `"@odata.context":"` + root + `/$metadata#EntityEvent"`

// shown is an event of Property as it is answered.
func shown(n int, key string) string {
	return fmt.Sprintf(`{"EntityEventSequence":%d,"ResourceName":"Property","ResourceRecordKey":"%s","ResourceRecordUrl":"%s/Property('%s')"}`, n, key, root, key)
}

var token = regexp.MustCompile(`skiptoken=[^"]*"`)

// TestEventAnswers are the answers of EntityEvent, whole.
func TestEventAnswers(t *testing.T) {
	s := inferred(t)
	s.putMany("Property", "ListingKey", "a", "b", "c")
	log := string(s.store.LogID()) + "/all"
	a, b, c := shown(1, "a"), shown(2, "b"), shown(3, "c")
	const json = "application/json"
	for _, tc := range []struct {
		method, target, header string
		status                 int
		body                   string
		want                   map[string]string
	}{
		{"GET", "/EntityEvent", "", 200, `{` + eventsContext + `,"value":[` + a + `,` + b + `,` + c + `]}`,
			map[string]string{"Content-Type": json, "EntityEvent-Log": log, "EntityEvent-Through": "3", "Cache-Control": "no-store", "OData-Version": "4.01", "Preference-Applied": ""}},
		{"HEAD", "/EntityEvent?last_event=3", "Prefer: wait=60", 200, ``,
			map[string]string{"Content-Type": json, "EntityEvent-Log": log, "EntityEvent-Through": "3", "Preference-Applied": "wait=60"}},
		{"GET", "/EntityEvent?$filter=EntityEventSequence%20gt%201&$top=1&$count=true", "", 200,
			`{` + eventsContext + `,"@odata.count":2,"value":[` + b + `]}`, map[string]string{"EntityEvent-Through": "2"}},
		{"GET", "/EntityEvent?$filter=ResourceName%20eq%20'Property'%20and%20EntityEventSequence%20gt%201", "Prefer: odata.maxpagesize=1", 200,
			`{` + eventsContext + `,"value":[` + b + `],"@odata.nextLink":"` + root + `/EntityEvent?$filter=ResourceName%20eq%20'Property'%20and%20EntityEventSequence%20gt%201&$skiptoken=…"}`,
			map[string]string{"EntityEvent-Through": "2", "Preference-Applied": "odata.maxpagesize=1"}},
		{"GET", "/EntityEvent?$orderby=EntityEventSequence%20desc&$top=2&$select=EntityEventSequence", "", 200,
			`{"@odata.context":"` + root + `/$metadata#EntityEvent(EntityEventSequence)","value":[{"EntityEventSequence":3},{"EntityEventSequence":2}]}`,
			map[string]string{"EntityEvent-Through": "3"}},
		{"GET", "/EntityEvent?$filter=contains(ResourceRecordKey,'x')", "", 200, `{` + eventsContext + `,"value":[]}`, map[string]string{"EntityEvent-Through": "3"}},
		{"GET", "/EntityEvent?last_event=2", "Prefer: wait=60", 200, `{` + eventsContext + `,"value":[` + c + `]}`,
			map[string]string{"Preference-Applied": "wait=60", "Cache-Control": "no-store", "EntityEvent-Through": "3"}},
		{"GET", "/EntityEvent?$top=1", "Accept: application/json;IEEE754Compatible=true", 200,
			`{` + eventsContext + `,"value":[` + strings.Replace(a, ":1,", `:"1",`, 1) + `]}`, map[string]string{"Content-Type": "application/json;IEEE754Compatible=true"}},
		{"GET", "/EntityEvent/$count", "", 200, `3`, map[string]string{"Content-Type": "text/plain; charset=utf-8"}},
		{"GET", "/EntityEvent/$count?$filter=EntityEventSequence%20gt%201", "", 200, `2`, nil},
		{"GET", "/EntityEvent('2')", "", 200, `{"@odata.context":"` + root + `/$metadata#EntityEvent/$entity","@odata.id":"` + root + `/EntityEvent(2)",` + b[1:], map[string]string{"Content-Type": json}},
		{"GET", "/EntityEvent(4)", "", 404, `{"error":{"code":"404","message":"There is no event with the number \"4\"","target":"","details":[]}}` + "\n", nil},
		{"POST", "/EntityEvent", "", 405, `{"error":{"code":"405","message":"Not here: the methods are GET, HEAD, OPTIONS","target":"","details":[]}}` + "\n", map[string]string{"Allow": "GET, HEAD, OPTIONS"}},
		{"PATCH", "/EntityEvent(1)", "", 405, "", map[string]string{"Allow": "GET, HEAD, OPTIONS"}},
		{"DELETE", "/EntityEvent(1)", "", 405, "", map[string]string{"Allow": "GET, HEAD, OPTIONS"}},
	} {
		var headers []string
		if tc.header != "" {
			headers = []string{tc.header}
		}
		got := s.do(tc.method, tc.target, "", headers...)
		next := token.FindString(got.body)
		got.body = token.ReplaceAllString(got.body, `skiptoken=…"`)
		if got.status != tc.status || tc.body != "" && got.body != tc.body || tc.method == "HEAD" && got.body != "" {
			t.Errorf("%s %s: %d %s\nwant %d %s", tc.method, tc.target, got.status, got.body, tc.status, tc.body)
		}
		if next != "" {
			rest := s.get(strings.TrimSuffix(tc.target+"&$"+next, `"`))
			if want := `{` + eventsContext + `,"value":[` + c + `]}`; rest.body != want || rest.header.Get("EntityEvent-Through") != "3" {
				t.Errorf("%s: then %s", tc.target, rest.body)
			}
		}
		for name, want := range tc.want {
			if have := got.header.Get(name); have != want {
				t.Errorf("%s %s: %s: %q, want %q", tc.method, tc.target, name, have, want)
			}
		}
	}
}

// TestEventsBeyondFloats: what a float64 cannot hold leaves, and comes back, as it is.
func TestEventsBeyondFloats(t *testing.T) {
	dir := t.TempDir()
	if err := openStore(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", filepath.Join(dir, "resosync.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), "UPDATE meta SET counter = ?", int64(1)<<53)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	store := openStore(t, dir)
	s := serve(t, store, nil)
	put(t, store, entityevent.Local, 2)
	const first = int64(1)<<53 + 1 // the next one is a float64 again
	for _, target := range []string{
		fmt.Sprintf("?$filter=EntityEventSequence eq %d", first), fmt.Sprintf("?$filter=EntityEventSequence le %d", first),
		fmt.Sprintf("?$filter=EntityEventSequence in (%d,1)", first), fmt.Sprintf("?$filter=not (EntityEventSequence gt %d)", first),
		fmt.Sprintf("?last_event=%d&$top=1", first-1),
	} {
		if got := s.get("/EntityEvent" + target).page(t).column("EntityEventSequence"); got != strconv.FormatInt(first, 10) {
			t.Errorf("%s: %s", target, got)
		}
	}
	if got := s.get(fmt.Sprintf("/EntityEvent(%d)", first), "Accept: application/json;IEEE754Compatible=true").want(t, 200); !strings.Contains(got, `"EntityEventSequence":"9007199254740993"`) {
		t.Error(got)
	}
}

// TestForgotten: who stands below what was forgotten is told, and who began at 0 is not.
func TestForgotten(t *testing.T) {
	store := openStore(t, t.TempDir())
	s := serve(t, store, nil)
	s.putMany("Property", "ListingKey", "1", "2", "3", "4", "5", "6")
	page := s.get("/EntityEvent?$filter=EntityEventSequence gt 0", "Prefer: maxpagesize=2").page(t)
	chain := below(t, page.Next)
	late := below(t, s.get("/EntityEvent?$filter=EntityEventSequence gt 1", "Prefer: maxpagesize=2").page(t).Next)
	s.do("DELETE", "/Property('2')", "").want(t, 204)
	s.do("DELETE", "/Property('4')", "").want(t, 204) // event 8
	s.putMany("Property", "ListingKey", "7")
	if _, err := store.Compact(t.Context(), entityevent.Compaction{Forget: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	p, err := store.Events(t.Context(), entityevent.View{Feed: entityevent.Local, Mask: entityevent.Everyone}, entityevent.EventQuery{})
	if err != nil || p.Floor != 8 {
		t.Fatalf("floor %d, %v", p.Floor, err)
	}
	for target, want := range map[string]int{
		"/EntityEvent": 200, "/EntityEvent?last_event=0": 200, "/EntityEvent?$filter=EntityEventSequence gt 0": 200, "/EntityEvent?$filter=EntityEventSequence ge 1": 200,
		"/EntityEvent?last_event=1": 410, "/EntityEvent?last_event=7": 410, "/EntityEvent?last_event=8": 200, "/EntityEvent?last_event=1000": 200,
		"/EntityEvent?$filter=EntityEventSequence gt 7 and ResourceName eq 'Property'": 410, "/EntityEvent?$filter=EntityEventSequence ge 3": 410,
		"/EntityEvent?$filter=EntityEventSequence gt 3&$orderby=EntityEventSequence desc": 410, "/EntityEvent?$orderby=EntityEventSequence desc": 200,
		"/EntityEvent?$filter=not (EntityEventSequence le 5)": 410, "/EntityEvent?$filter=EntityEventSequence gt 5 or EntityEventSequence gt 9": 410,
		"/EntityEvent?$filter=(EntityEventSequence gt 5 and ResourceName eq 'Property') or (EntityEventSequence gt 5 and ResourceName eq 'Media')": 410,
		"/EntityEvent?$filter=EntityEventSequence gt 8 or EntityEventSequence gt 9":                                                                200,
		"/EntityEvent?$filter=EntityEventSequence gt 0 or EntityEventSequence gt 5":                                                                200,
		"/EntityEvent?$filter=EntityEventSequence gt 5 or ResourceName eq 'Media'":                                                                 200,
		"/EntityEvent?$filter=EntityEventSequence eq 4 or EntityEventSequence eq 3":                                                                200,
		"/EntityEvent?$filter=EntityEventSequence eq 4":                                                                                            200, "/EntityEvent(8)": 404, "/EntityEvent(9)": 200, "/EntityEvent/$count": 200, chain: 200, late: 410,
	} {
		a := s.get(target, "Prefer: wait=1")
		if a.status != want {
			t.Errorf("%s: %d, want %d: %s", target, a.status, want, a.body)
		}
		if want == http.StatusGone && (!strings.Contains(a.body, `"code":"Forgotten"`) || !strings.Contains(a.body, `"target":"EntityEventSequence"`) || !strings.Contains(a.body, "@odata.nextLink")) {
			t.Errorf("%s: %s", target, a.body)
		}
	}
	var got []string // what the chain that began at 0 still shows
	for target := chain; target != ""; {
		page := s.get(target).page(t)
		got = append(got, page.column("ResourceRecordKey"))
		if target = ""; page.Next != "" {
			target = below(t, page.Next)
		}
	}
	if strings.Join(got, " ") != "3 5 6 7" {
		t.Errorf("the rest of the chain: %v", got)
	}
}
