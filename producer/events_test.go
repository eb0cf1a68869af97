package producer_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/producer"
)

func TestEventFilters(t *testing.T) {
	s := inferred(t)
	for i, resource := range []string{"Property", "Member", "Property", "Office", "Media"} { // events 1 to 5
		s.put(resource, strconv.Itoa(i+1), `{"X":1}`)
	}
	for filter, want := range map[string]string{
		"":                          "1 2 3 4 5",
		"EntityEventSequence gt 2":  "3 4 5",
		"EntityEventSequence ge 2":  "2 3 4 5",
		"EntityEventSequence ge 0":  "1 2 3 4 5",
		"EntityEventSequence gt -5": "1 2 3 4 5",
		"EntityEventSequence ge -9223372036854775808":                                           "1 2 3 4 5",
		"EntityEventSequence gt 9223372036854775807":                                            "",
		"EntityEventSequence le 9223372036854775807":                                            "1 2 3 4 5",
		"EntityEventSequence eq 9223372036854775807":                                            "",
		"EntityEventSequence ge 9223372036854775807":                                            "",
		"EntityEventSequence lt 3":                                                              "1 2",
		"EntityEventSequence le 3":                                                              "1 2 3",
		"EntityEventSequence eq 3":                                                              "3",
		"EntityEventSequence eq 0":                                                              "",
		"EntityEventSequence lt 1":                                                              "",
		"EntityEventSequence lt -1":                                                             "",
		"3 lt EntityEventSequence":                                                              "4 5",
		"EntityEventSequence gt 1 and EntityEventSequence lt 4":                                 "2 3",
		"EntityEventSequence gt 3 and EntityEventSequence lt 4":                                 "",
		"EntityEventSequence gt 4 and EntityEventSequence lt 2":                                 "",
		"EntityEventSequence gt 0 and ResourceName eq 'Property'":                               "1 3",
		"ResourceName in ('Office','Media') AND (EntityEventSequence gt 4)":                     "5",
		"EntityEventSequence gt 0 and (ResourceName eq 'Office' or ResourceName eq 'Property')": "1 3 4",
		"ResourceName eq 'Office' and ResourceName eq 'Property'":                               "",
		"ResourceName eq 'property'":                                                            "",
		"ResourceName eq 'x''y'":                                                                "",
		"EntityEventSequence in (4,2,2,99,-1)":                                                  "2 4", "EntityEventSequence in (4,2) and EntityEventSequence gt 2": "4",
		"EntityEventSequence in (4,2) and EntityEventSequence in (2,3)": "2", "EntityEventSequence eq 2 and EntityEventSequence eq 3": "",
		"EntityEventSequence in (1,2,3) and ResourceName eq 'Property'": "1 3", "EntityEventSequence ne 1": "2 3 4 5",
		"EntityEventSequence gt 1.5": "2 3 4 5", "EntityEventSequence ge 1.5": "2 3 4 5", "EntityEventSequence lt 1.5": "1", "EntityEventSequence le 1.5": "1",
		"EntityEventSequence ge 2.0": "2 3 4 5", "EntityEventSequence lt 2.0": "1", "EntityEventSequence eq 1.5": "", "EntityEventSequence in (1.5,2.0)": "2",
		"EntityEventSequence gt null": "", "EntityEventSequence ne null": "1 2 3 4 5", "EntityEventSequence eq null": "",
		"not (EntityEventSequence gt 1)": "1", "EntityEventSequence gt 4 or ResourceName eq 'Member'": "2 5",
		"ResourceName ne 'Property'": "2 4 5", "contains(ResourceName,'f')": "4", "startswith(tolower(ResourceName),'me')": "2 5",
		"ResourceRecordKey in ('1','5')": "1 5", "EntityEventSequence gt 0 and not (ResourceRecordKey eq '1' or ResourceName eq 'Media')": "2 3 4",
		"ResourceRecordKey gt '3'": "4 5", "2020-01-01T00:00:00Z lt now()": "1 2 3 4 5", "true": "1 2 3 4 5", "false": "",
	} {
		target := "/EntityEvent"
		if filter != "" {
			target += "?$filter=" + filter
		}
		if got := s.get(target).page(t).column("EntityEventSequence"); got != want {
			t.Errorf("%s: %s, want %s", filter, got, want)
		}
		if got := s.get(strings.Replace(target, "?", "/$count?", 1)); filter != "" && got.body != strconv.Itoa(len(strings.Fields(want))) {
			t.Errorf("%s: counts %s, want %s", filter, got.body, want)
		}
	}
	for target, want := range map[string]string{
		"?last_event=3": "4 5", "?$orderby=EntityEventSequence desc": "5 4 3 2 1", "?$orderby=EntityEventSequence desc&$top=1": "5",
		"?$orderby=EntityEventSequence asc&$top=2": "1 2", "?$top=0": "", "?$skip=2": "3 4 5", "?$skip=2&$top=1": "3", "?$skip=9": "",
		"?$orderby=EntityEventSequence desc&$skip=1&$top=2": "4 3", "?other=1": "1 2 3 4 5",
		"?$filter=EntityEventSequence+gt+3": "4 5", "?%24filter=EntityEventSequence%20gt%203": "4 5",
		"?$filter=EntityEventSequence gt 1&$orderby=EntityEventSequence desc&$top=2": "5 4",
		"?$orderby=EntityEventSequence DESC,ResourceName&$top=2":                     "5 4", "?$orderby=EntityEventSequence,ResourceName desc&$top=2": "1 2",
		"?$filter=EntityEventSequence in (4,2,5)&$orderby=EntityEventSequence desc&$top=2": "5 4", "?$filter=EntityEventSequence in (4,2,5)&$skip=1": "4 5",
	} {
		if got := s.get("/EntityEvent" + target).page(t).column("EntityEventSequence"); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
	for target, status := range map[string]int{
		"?$filter=EntityEventSequence gt 'x'": 400, "?$filter=EntityEventSequence gtt 1": 400, "?$filter=EntityEventSequence": 400,
		"?$filter=EntityEventSequence gt 9223372036854775808": 400, "?$filter=EntityEventSequence in (1,9223372036854775808)": 400,
		"?$filter=Wings eq 1": 400, "?$filter=ResourceName eq 1": 400, "?$filter=length(ResourceName) eq 1": 400, "?$filter=ResourceName has 1": 400,
		"?$filter=ResourceRecordUrl eq 'x'": 501, "?$orderby=ResourceName": 501, "?$orderby=Wings": 400, "?$expand=Media": 400, "/$count/x": 501, "(1)/$count": 501,
		"/$count?$filter=Wings eq 1": 400, "?$skip=100000": 400, "?$select=Wings": 400, "?$top=-1": 400, "?$foo=1": 400, "?$search=x": 501, "?last_event=x": 400,
		"?$count=maybe": 400, "?$skiptoken=x": 400, "?$skiptoken=0.5": 400, "?$skiptoken=10.x": 400, "?$skiptoken=10.-1": 400, "?$skiptoken=10.": 400,
		"(1)?$top=1": 400, "(1)?$select=Wings": 400, "(9)": 404, "(x)": 404, "(Wings=1)": 400,
	} {
		a := s.get("/EntityEvent" + target)
		if a.status != status {
			t.Errorf("%s: %d, want %d: %s", target, a.status, status, a.body)
		}
		checkError(t, a)
	}
}

func TestEventByNumber(t *testing.T) {
	s := inferred(t)
	s.putMany("Property", "ListingKey", "a", "b")
	want := `{"@odata.context":"` + root + `/$metadata#EntityEvent/$entity","@odata.id":"` + root + `/EntityEvent(2)",` +
		`"EntityEventSequence":2,"ResourceName":"Property","ResourceRecordKey":"b","ResourceRecordUrl":"` + root + `/Property('b')"}`
	for _, target := range []string{"/EntityEvent(2)", "/EntityEvent('2')", "/EntityEvent(%272%27)", "/EntityEvent(EntityEventSequence=2)", "/EntityEvent(2)/"} {
		if got := s.get(target).want(t, 200); got != want {
			t.Errorf("%s: %s", target, got)
		}
	}
	for _, target := range []string{"/EntityEvent(3)", "/EntityEvent(0)", "/EntityEvent(-1)", "/EntityEvent('x')", "/EntityEvent(9223372036854775807)", "/EntityEvent(9223372036854775808)"} {
		a := s.get(target)
		a.want(t, 404)
		checkError(t, a)
	}
}

// TestEventGolden serves the standard's own example (RCP-27).
func TestEventGolden(t *testing.T) {
	store := openStore(t, t.TempDir())
	s := serve(t, fixedEvents{store, []entityevent.Event{
		{Sequence: 101, Ref: entityevent.Ref{Resource: "Member", Key: "21"}},
		{Sequence: 103, Ref: entityevent.Ref{Resource: "Property", Key: "539"}},
		{Sequence: 110, Ref: entityevent.Ref{Resource: "Media", Key: "1239"}},
	}}, nil)
	a := s.get("/EntityEvent?$filter=EntityEventSequence gt 100")
	golden(t, "entityevent-page.json", a.want(t, 200)+"\n")
	if got := a.header.Get("EntityEvent-Log"); got != "0b5e6f3e-5d5c-4f0e-9d5a-1f6f1a1c2f00/all" {
		t.Errorf("EntityEvent-Log %q", got)
	}
	events, err := entityevent.ParseEvents([]byte(`{"@odata.context": "https://host/odata/$metadata#EntityEvent",
 "value": [{"EntityEventSequence": 101, "ResourceName": "Member",   "ResourceRecordKey": "21"},
           {"EntityEventSequence": 103, "ResourceName": "Property", "ResourceRecordKey": "539"},
           {"EntityEventSequence": 110, "ResourceName": "Media",    "ResourceRecordKey": "1239"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := entityevent.ParseEvents([]byte(a.body))
	if err != nil || len(got) != len(events) {
		t.Fatal(err, got)
	}
	for i, e := range events {
		e.URL = root + "/" + e.Resource + "('" + e.Key + "')" // which a producer may compute
		if got[i] != e {
			t.Errorf("%+v, want %+v", got[i], e)
		}
	}
}

// TestSequencesAreExact: 2^53+1 is no float.
func TestSequencesAreExact(t *testing.T) {
	const n = 1<<53 + 1
	s := serve(t, fixedEvents{openStore(t, t.TempDir()), []entityevent.Event{{Sequence: n, Ref: entityevent.Ref{Resource: "Property", Key: "a"}}}}, nil)
	for _, target := range []string{"/EntityEvent?$filter=EntityEventSequence eq 9007199254740993", "/EntityEvent(9007199254740993)",
		"/EntityEvent('9007199254740993')", "/EntityEvent?last_event=9007199254740992", "/EntityEvent?$filter=EntityEventSequence gt 9007199254740992"} {
		if a := s.get(target); !strings.Contains(a.want(t, 200), `"EntityEventSequence":9007199254740993,`) {
			t.Errorf("%s: %s", target, a.body)
		}
	}
	a := s.get("/EntityEvent?$filter=EntityEventSequence gt 9007199254740993")
	if len(a.page(t).Value) != 0 || a.header.Get("EntityEvent-Through") != "9007199254740993" {
		t.Errorf("Through %s: %s", a.header.Get("EntityEvent-Through"), a.body)
	}
}

func TestEventPages(t *testing.T) {
	s := inferred(t)
	const n = 250
	put(t, s.store, entityevent.Local, n)
	first := s.get("/EntityEvent")
	page := first.page(t)
	if len(page.Value) != 100 || !strings.HasPrefix(page.Next, root+"/EntityEvent?$skiptoken=") || page.Context != root+"/$metadata#EntityEvent" {
		t.Errorf("%d events, context %s, next %s", len(page.Value), page.Context, page.Next)
	}
	if got := first.header.Get("EntityEvent-Through"); got != "100" {
		t.Errorf("Through %s", got)
	}
	if got := first.header.Get("EntityEvent-Log"); got != string(s.store.LogID())+"/all" {
		t.Errorf("Log %s", got)
	}
	for _, c := range []struct {
		target, prefer, applied string
		sizes                   []int
		lastThrough             string
	}{
		{"/EntityEvent?$filter=EntityEventSequence gt 0", "", "", []int{100, 100, 50}, "250"},
		{"/EntityEvent?$filter=EntityEventSequence gt 0", "odata.maxpagesize=120", "odata.maxpagesize=120", []int{120, 120, 10}, "250"},
		{"/EntityEvent?$filter=EntityEventSequence gt 0", "maxpagesize=125", "maxpagesize=125", []int{125, 125}, "250"},
		{"/EntityEvent?$filter=EntityEventSequence gt 0", "odata.maxpagesize=9999999", "odata.maxpagesize=5000", []int{250}, "250"},
		{"/EntityEvent?$filter=EntityEventSequence gt 0", "odata.maxpagesize=0, foo, =;,", "", []int{100, 100, 50}, "250"},
		{"/EntityEvent?$top=130", "", "", []int{130}, "130"},
		{"/EntityEvent?$top=130", "maxpagesize=100", "maxpagesize=100", []int{100, 30}, "130"},
		{"/EntityEvent?$top=1", "", "", []int{1}, "1"},
		{"/EntityEvent?$top=5000", "", "", []int{250}, "250"},
		{"/EntityEvent?$skip=20&$top=120", "", "", []int{120}, "140"},
		{"/EntityEvent?$skip=20&$top=120", "maxpagesize=100", "maxpagesize=100", []int{100, 20}, "140"},
		{"/EntityEvent?$orderby=EntityEventSequence desc", "maxpagesize=200", "maxpagesize=200", []int{200, 50}, "250"},
		{"/EntityEvent?$orderby=EntityEventSequence desc&$top=150", "maxpagesize=100", "maxpagesize=100", []int{100, 50}, "250"},
		{"/EntityEvent?$filter=EntityEventSequence lt 151&$orderby=EntityEventSequence desc", "", "", []int{100, 50}, "250"},
		{"/EntityEvent?$filter=ResourceName in ('Property','O''Neil %26 Söhne')&$select=EntityEventSequence", "", "", []int{100, 100, 50}, "250"},
	} {
		var sizes []int
		var last answer
		seen := map[string]bool{}
		for target, prefer := c.target, c.prefer; target != ""; prefer = "" {
			last = s.get(target, "Prefer: "+prefer)
			page := last.page(t)
			sizes = append(sizes, len(page.Value))
			for _, v := range page.Value {
				if n := string(v["EntityEventSequence"]); seen[n] {
					t.Errorf("%s: %s comes twice", c.target, n)
				} else {
					seen[n] = true
				}
			}
			if prefer != "" && last.header.Get("Preference-Applied") != c.applied {
				t.Errorf("%s: Preference-Applied %q", c.prefer, last.header.Get("Preference-Applied"))
			}
			if target = ""; page.Next != "" {
				target = below(t, page.Next)
			}
		}
		if fmt.Sprint(sizes) != fmt.Sprint(c.sizes) || last.header.Get("EntityEvent-Through") != c.lastThrough {
			t.Errorf("%s, %q: pages of %v, want %v; through %s", c.target, c.prefer, sizes, c.sizes, last.header.Get("EntityEvent-Through"))
		}
	}
	if got := s.get("/EntityEvent?$select=ResourceRecordKey,EntityEventSequence&$top=1").want(t, 200); !strings.HasPrefix(got,
		`{"@odata.context":"`+root+`/$metadata#EntityEvent(ResourceRecordKey,EntityEventSequence)","value":[{"EntityEventSequence":1,"ResourceRecordKey":"`) {
		t.Errorf("selected: %s", got)
	}
}

// TestPagingWhileTheLogGrows follows nextLinks while records change: what was there is seen once.
func TestPagingWhileTheLogGrows(t *testing.T) {
	s := inferred(t)
	put(t, s.store, entityevent.Local, 60)
	var got []string
	for target := "/EntityEvent?$filter=EntityEventSequence gt 0"; target != "" && len(got) < 200; {
		page := s.get(target, "Prefer: maxpagesize=7").page(t)
		got = append(got, strings.Fields(page.column("EntityEventSequence"))...)
		if target = ""; page.Next != "" {
			target = below(t, page.Next)
		}
		if len(got) < 60 {
			put(t, s.store, entityevent.Local, 5)
		}
	}
	for i, n := range got {
		if n != strconv.Itoa(i+1) {
			t.Fatalf("event %d is %s", i+1, n)
		}
	}
	if len(got) < 60 {
		t.Errorf("%d events", len(got))
	}
}

func TestThroughPassesWhatTheFilterDoesNotWant(t *testing.T) {
	s := inferred(t)
	put(t, s.store, entityevent.Local, 5)
	s.put("Member", "m", `{"MemberKey":"m"}`)
	put(t, s.store, entityevent.Local, 4)
	for target, want := range map[string]string{
		"?$filter=EntityEventSequence gt 0 and ResourceName eq 'Member'": "10", "?$filter=EntityEventSequence gt 10": "10",
		"?$filter=EntityEventSequence gt 0 and EntityEventSequence le 4": "4", "?$orderby=EntityEventSequence desc&$top=1": "10", "?$top=2": "2",
		"?$top=0": "0", "?$filter=EntityEventSequence lt 0": "10",
	} {
		a := s.get("/EntityEvent" + target)
		a.page(t)
		if got := a.header.Get("EntityEvent-Through"); got != want {
			t.Errorf("%s: Through %s, want %s", target, got, want)
		}
	}
}

// held is a request that the server holds.
type held struct {
	answer chan answer
	cancel context.CancelFunc
}

// hold sends a request that is held, and returns once it is.
func (s *service) hold(t *testing.T, parked *parking, target, prefer string) held {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	h := held{make(chan answer, 1), cancel}
	t.Cleanup(cancel)
	go func() {
		a, err := s.try(ctx, "GET", target, "", "Prefer: "+prefer)
		if err != nil {
			a.body = err.Error()
		}
		h.answer <- a
	}()
	parked.arrived(t)
	return h
}

// stays fails if the request was woken.
func (h held) stays(t *testing.T, parked *parking) {
	t.Helper()
	select {
	case a := <-h.answer:
		t.Fatalf("answered: %s", a.body)
	case <-parked.leave:
		t.Fatal("woken")
	default:
	}
}

// parking tells when a request waits, and when it is woken.
type parking struct {
	entityevent.Store
	arrive, leave chan struct{}
}

func park(store entityevent.Store) *parking {
	return &parking{store, make(chan struct{}, 100), make(chan struct{}, 100)}
}

func (p *parking) Wait(ctx context.Context, v entityevent.View, q entityevent.EventQuery) error {
	p.arrive <- struct{}{}
	defer func() { p.leave <- struct{}{} }()
	return p.Store.Wait(ctx, v, q)
}

func (p *parking) arrived(t *testing.T) { receive(t, p.arrive) }
func (p *parking) left(t *testing.T)    { receive(t, p.leave) }

func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came for 20 s")
		panic("unreachable")
	}
}

func TestLongPoll(t *testing.T) {
	parked := park(openStore(t, t.TempDir()))
	s := serve(t, parked, nil)
	s.putMany("Property", "ListingKey", "a")

	t.Run("answers at once what is there", func(t *testing.T) {
		a := s.get("/EntityEvent?$filter=EntityEventSequence gt 0", "Prefer: wait=60")
		if got := a.page(t).column("EntityEventSequence"); got != "1" || a.header.Get("Preference-Applied") != "wait=60" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %v", got, a.header)
		}
	})
	t.Run("wakes on the next event", func(t *testing.T) {
		for _, target := range []string{"/EntityEvent?last_event=", "/EntityEvent?$filter=EntityEventSequence gt "} {
			a := s.get("/EntityEvent?$orderby=EntityEventSequence desc&$top=1")
			head := a.header.Get("EntityEvent-Through")
			h := s.hold(t, parked, target+head, "wait=60, maxpagesize=5")
			key := strconv.Itoa(int(keys.next()))
			s.putMany("Property", "ListingKey", key)
			a = receive(t, h.answer)
			if got := a.page(t).column("ResourceRecordKey"); got != key {
				t.Errorf("woken with %q, want %q", got, key)
			}
			if got := strings.Join(a.header.Values("Preference-Applied"), ", "); got != "maxpagesize=5, wait=60" {
				t.Errorf("Preference-Applied %q", got)
			}
			parked.left(t)
		}
	})
	t.Run("counts what it answers with", func(t *testing.T) {
		h := s.hold(t, parked, "/EntityEvent?$count=true&$filter=EntityEventSequence gt 3 and ResourceName eq 'Teams'", "wait=60")
		s.putMany("Teams", "TeamKey", "counted") // event 4
		if a := receive(t, h.answer); *a.page(t).Count != 1 || a.page(t).column("ResourceRecordKey") != "counted" {
			t.Error(a.body)
		}
		parked.left(t)
	})
	t.Run("wakes on a match of the whole filter only", func(t *testing.T) {
		h := s.hold(t, parked, "/EntityEvent?$filter=EntityEventSequence gt 4 and ResourceName eq 'Office' and not contains(ResourceRecordKey,'x')", "wait=60")
		s.putMany("Property", "ListingKey", "other") // event 5
		s.putMany("Office", "OfficeKey", "x")
		h.stays(t, parked)
		s.putMany("Office", "OfficeKey", "o")
		a := receive(t, h.answer)
		if got := a.page(t).column("ResourceRecordKey"); got != "o" {
			t.Errorf("woken with %q", got)
		}
		if got := a.header.Get("EntityEvent-Through"); got != "7" {
			t.Errorf("Through %s", got)
		}
		parked.left(t)
	})
	t.Run("ends when the client is gone", func(t *testing.T) {
		h := s.hold(t, parked, "/EntityEvent?last_event=1000", "wait=60")
		h.cancel()
		receive(t, h.answer)
		parked.left(t)
	})
	t.Run("is held above the head until something comes there", func(t *testing.T) {
		h := s.hold(t, parked, "/EntityEvent?last_event=1000", "wait=60")
		s.putMany("Property", "ListingKey", "below 1000")
		h.stays(t, parked)
		h.cancel()
		receive(t, h.answer)
		parked.left(t)
	})
	t.Run("within bounds", func(t *testing.T) {
		for _, bounds := range []string{"gt %d and EntityEventSequence le %d", "gt %d and EntityEventSequence in (1,%d)"} {
			head, err := strconv.Atoi(s.get("/EntityEvent/$count").want(t, 200))
			if err != nil {
				t.Fatal(err)
			}
			h := s.hold(t, parked, "/EntityEvent?$filter=EntityEventSequence "+fmt.Sprintf(bounds, head+1, head+2), "wait=60")
			s.putMany("Property", "ListingKey", strconv.Itoa(int(keys.next())))
			h.stays(t, parked)
			s.putMany("Property", "ListingKey", strconv.Itoa(int(keys.next())))
			if got := receive(t, h.answer).page(t).column("EntityEventSequence"); got != strconv.Itoa(head+2) {
				t.Errorf("%s: woken with %q", bounds, got)
			}
			parked.left(t)
		}
	})
	t.Run("not where nothing new can come", func(t *testing.T) {
		for _, target := range []string{
			"/EntityEvent?$filter=EntityEventSequence gt 7 and EntityEventSequence lt 3", "/EntityEvent?$filter=EntityEventSequence eq 90",
			"/EntityEvent?$filter=EntityEventSequence gt 90 and EntityEventSequence in (3,4)", "/EntityEvent?last_event=90&$skip=1",
			"/EntityEvent?$filter=EntityEventSequence gt 90&$orderby=EntityEventSequence desc", "/EntityEvent?$filter=ResourceName eq 'x'",
			"/EntityEvent?last_event=90&$top=0",
		} {
			a := s.get(target, "Prefer: wait=60")
			if applied := a.header.Get("Preference-Applied"); len(a.page(t).Value) != 0 || strings.Contains(applied, "wait") && !strings.Contains(target, "in (3,4)") {
				t.Errorf("%s: %q %s", target, applied, a.body)
			}
		}
		if a := s.do("HEAD", "/EntityEvent?last_event=90", "", "Prefer: wait=60"); a.status != 200 {
			t.Errorf("HEAD: %d", a.status)
		}
	})
	t.Run("ends with the server", func(t *testing.T) { // the last one: nothing is held afterwards
		first := s.hold(t, parked, "/EntityEvent?last_event=90", "wait=60")
		second := s.hold(t, parked, "/EntityEvent?last_event=91", "wait=60")
		s.server.Drain()
		for _, h := range []held{first, second} {
			if a := receive(t, h.answer); a.status != 200 || len(a.page(t).Value) != 0 {
				t.Errorf("%d %s", a.status, a.body)
			}
		}
		if a := s.get("/EntityEvent?last_event=90", "Prefer: wait=60"); len(a.page(t).Value) != 0 {
			t.Error(a.body)
		}
	})
}

// revocable is a gate that can be shut.
type revocable struct {
	gate
	shut atomic.Bool
}

func (g *revocable) Admit(r *http.Request, scope string) (producer.Client, error) {
	if g.shut.Load() {
		return producer.Client{}, bearer.ErrUnauthorized
	}
	return g.gate.Admit(r, scope)
}

// TestHeldClientIsRevoked: what happens after a client was revoked it is not told, also if its request came before.
func TestHeldClientIsRevoked(t *testing.T) {
	parked := park(openStore(t, t.TempDir()))
	s := serve(t, parked, nil)
	g := &revocable{}
	s.server.Gate = g
	s.putMany("Property", "ListingKey", "a")
	head := s.get("/EntityEvent?$orderby=EntityEventSequence desc&$top=1").header.Get("EntityEvent-Through")
	h := s.hold(t, parked, "/EntityEvent?last_event="+head, "wait=60")
	g.shut.Store(true)
	put(t, s.store, entityevent.Local, 1)
	a := receive(t, h.answer)
	if a.status != 401 || a.header.Get("WWW-Authenticate") == "" || a.header.Get("Preference-Applied") != "" || a.header.Get("EntityEvent-Through") != "" || strings.Contains(a.body, "value") {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
}

// TestHeldRequestsAreLimited: those that would be too many, of all servers that share the holds, are told when to come
// back.
func TestHeldRequestsAreLimited(t *testing.T) {
	parked := park(openStore(t, t.TempDir()))
	s := serve(t, parked, nil)
	other := serve(t, parked, nil)
	s.server.Holds = &producer.Holds{Most: 2}
	other.server.Holds = s.server.Holds
	for n := range 2 { // those that have ended do not count
		first := s.hold(t, parked, "/EntityEvent?last_event=1000", "wait=60")
		second := other.hold(t, parked, "/EntityEvent?last_event=1001", "wait=60")
		a := s.get("/EntityEvent?last_event=1000", "Prefer: wait=60")
		if a.status != 503 || a.header.Get("Retry-After") != "30" || a.header.Get("Preference-Applied") != "" || !strings.Contains(a.body, "wait for news") {
			t.Errorf("%d: %d %v %s", n, a.status, a.header, a.body)
		}
		if a := s.get("/EntityEvent?last_event=1000"); a.status != 200 {
			t.Errorf("%d: without a wait: %d", n, a.status)
		}
		for _, h := range []held{first, second} {
			h.cancel()
			receive(t, h.answer)
			parked.left(t)
		}
		for s.server.Holds.Len() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// TestLongPollTimes is about how long a request is held, in a time of its own.
func TestLongPollTimes(t *testing.T) {
	for prefer, want := range map[string]time.Duration{
		"wait=30": 30 * time.Second, "wait=100000": 120 * time.Second, "wait=0": 0, "wait=x": 0, "wait=-1": 0,
		`respond-async, wait="5"`: 5 * time.Second, "wait=7, wait=60": 7 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			store := openStore(t, t.TempDir())
			put(t, store, entityevent.Local, 3)
			server := bubbleServer(t, store)
			began := time.Now()
			w := record(t, server, "/odata/EntityEvent?last_event=3", "Authorization: Bearer all", "Prefer: "+prefer)
			early := want / 10
			if want < 10*time.Second {
				early = 0
			}
			if took := time.Since(began); took > want || took < want-early {
				t.Errorf("%s: held for %s", prefer, took)
			}
			if w.Code != http.StatusOK || !strings.HasSuffix(w.Body.String(), `"value":[]}`) || w.Header()["EntityEvent-Through"][0] != "3" {
				t.Errorf("%s: %d %s", prefer, w.Code, w.Body)
			}
			applied := ""
			if want > 0 {
				applied = fmt.Sprintf("wait=%d", int(want.Seconds()))
			}
			if got := w.Header().Get("Preference-Applied"); got != applied {
				t.Errorf("%s: Preference-Applied %q", prefer, got)
			}
		})
	}
}

// bubbleServer serves a store to record.
func bubbleServer(t testing.TB, store producer.Store) *producer.Server {
	t.Helper()
	schema, err := producer.OpenSchema(t.Context(), store, entityevent.Local, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &producer.Server{Store: store, Schema: schema, Gate: gate{}, Root: root, Prefix: "/odata", Writable: true}
}
