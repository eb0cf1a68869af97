package producer_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// TestNavigationBesideInline: a listing that holds its media and its agent itself takes nothing from the others.
func TestNavigationBesideInline(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	s.put("Property", "p1", `{"ListingKey":"p1","ListAgentKey":"m1"}`)
	s.put("Member", "m1", `{"MemberKey":"m1"}`)
	s.put("Media", "x1", `{"MediaKey":"x1","ResourceName":"Property","ResourceRecordKey":"p1"}`)
	before := map[string]answer{}
	targets := []string{"/Property('p1')/Media", "/Property('p1')/Media/$count", "/Property('p1')/ListAgent", "/Property('p1')?$expand=Media,ListAgent"}
	for _, target := range targets {
		before[target] = s.get(target)
	}
	s.put("Property", "p2", `{"ListingKey":"p2","Media":[{"MediaKey":"i","Order":2},{"MediaKey":"j","Order":1}],"ListAgent":{"MemberKey":"m9"},"X_Lot":{"Acres":2}}`)
	s.put("Property", "p3", `{"ListingKey":"p3","ListAgentKey":"gone","ListAgent":{"MemberKey":"gone"}}`)
	s.put("Property", "p4", `{"ListingKey":"p4","ListAgentKey":"m1","ListAgent":{"MemberKey":"old"}}`)
	s.get("/$metadata").want(t, 200) // the schema has looked at them
	for _, target := range targets {
		if after := s.get(target); after.status != before[target].status || after.body != before[target].body {
			t.Errorf("%s: %d %s\nbefore: %d %s", target, after.status, after.body, before[target].status, before[target].body)
		}
	}
	for target, want := range map[string]string{
		"/Property('p2')/Media/$count":                                                              "2",
		"/Property('p2')/Media?$select=Order&$count=true":                                           `{"@odata.count":2,"value":[{"Order":2},{"Order":1}]}`,
		"/Property('p2')/Media?$filter=Order lt 2&$select=MediaKey":                                 `{"value":[{"MediaKey":"j"}]}`,
		"/Property?$select=ListingKey&$expand=Media($filter=Order gt 1)&$filter=ListingKey lt 'p3'": `{"value":[{"ListingKey":"p1","Media":[]},{"ListingKey":"p2","Media":[{"MediaKey":"i","Order":2}]}]}`,
		"/Property('p2')/ListAgent":                                                                 `{"MemberKey":"m9"}`,
		"/Property('p3')/ListAgent":                                                                 `{"MemberKey":"gone"}`,
		"/Property('p4')/ListAgent":                                                                 `{"MemberKey":"m1"}`,
		"/Property?$select=ListingKey&$expand=ListAgent":                                            `{"value":[{"ListingKey":"p1","ListAgent":{"MemberKey":"m1"}},{"ListingKey":"p2","ListAgent":{"MemberKey":"m9"}},{"ListingKey":"p3","ListAgent":{"MemberKey":"gone"}},{"ListingKey":"p4","ListAgent":{"MemberKey":"m1"}}]}`,
		"/Property?$filter=ListAgent/MemberKey eq 'm9'&$select=ListingKey":                          `{"value":[{"ListingKey":"p2"}]}`,
	} {
		if d := cmp.Diff(want, s.get(target, bare).want(t, 200)); d != "" {
			t.Errorf("%s: %s", target, d)
		}
	}
	for target, want := range map[string]string{
		"/Property('p2')/Media": "#Media", "/Property('p2')/ListAgent": "#Member/$entity", "/Property('p2')/X_Lot": "#Edm.Untyped",
	} {
		if got := entityevent.StringMember([]byte(s.get(target).want(t, 200)), "@odata.context"); got != root+"/$metadata"+want {
			t.Errorf("%s: %s", target, got)
		}
	}
}

// TestHiddenInInlineRecords: what is hidden of a resource is hidden in its records wherever they stand, and nobody
// finds it by asking.
func TestHiddenInInlineRecords(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*service{"inferred": inferred(t), "configured": configured(t)} {
		s.put("Member", "m1", `{"MemberKey":"m1","MemberEmail":"secret@x"}`)
		s.put("Property", "p1", `{"ListingKey":"p1","CoListAgent":{"MemberKey":"m1","MemberEmail":"secret@x","Media":[{"MediaKey":"i","ShortDescription":"secret"}]},`+
			`"ListAgent":{"MemberKey":"secret"},"X_Team":{"Lead":{"Name":"Ann"},"BuyerAgent":{"MemberKey":"m2","MemberEmail":"secret@y"}}}`)
		hidden := func(target string) answer { return s.get(target, "Authorization: Bearer hidden", bare) }
		const agent = `{"MemberKey":"m1","Media":[{"MediaKey":"i"}]}`
		whole := `{"ListingKey":"p1","CoListAgent":` + agent + `,"X_Team":{"Lead":{"Name":"Ann"},"BuyerAgent":{"MemberKey":"m2"}}}` // ListAgentKey is hidden
		want := map[string]string{"/Property('p1')": whole, "/Property('p1')/CoListAgent": agent, "/Property?$select=CoListAgent": `{"value":[{"CoListAgent":` + agent + `}]}`,
			"/Property?$select=ListingKey&$expand=CoListAgent": `{"value":[{"ListingKey":"p1","CoListAgent":` + agent + `}]}`}
		if name == "inferred" {
			want["/Property('p1')/X_Team"] = `{"Lead":{"Name":"Ann"},"BuyerAgent":{"MemberKey":"m2"}}`
			want["/Property?$filter=X_Team/Lead/Name eq 'Ann' and CoListAgent/MemberKey eq 'm1'&$select=ListingKey"] = `{"value":[{"ListingKey":"p1"}]}`
		}
		for target, want := range want {
			if d := cmp.Diff(want, hidden(target).want(t, 200)); d != "" {
				t.Errorf("%s %s: %s", name, target, d)
			}
		}
		for _, target := range []string{
			"/Property?$filter=startswith(CoListAgent/MemberEmail,'sec')", "/Property?$orderby=CoListAgent/MemberEmail", "/Property?$filter=X_Team/BuyerAgent/MemberEmail ne null",
			"/Property?$filter=ListAgent/MemberKey eq 'secret'", "/Property?$filter=ListAgent ne null", "/Property?$expand=ListAgent", "/Property?$expand=CoListAgent($select=MemberEmail)",
			"/Property('p1')/CoListAgent?$select=MemberEmail",
		} {
			if a := hidden(target); a.status != 400 {
				t.Errorf("%s %s asks for what is hidden: %d %s", name, target, a.status, a.body)
			}
		}
		if name == "inferred" {
			for _, target := range []string{"/Property?$filter=startswith(CoListAgent/MemberEmail,'sec')", "/Property?$orderby=CoListAgent/MemberEmail", "/Property('p1')/CoListAgent?$select=MemberEmail"} {
				if a := s.get(target, bare); !strings.Contains(a.want(t, 200), "p1") && !strings.Contains(a.body, "secret@x") {
					t.Errorf("who sees all: %s", a.body)
				}
			}
		}
	}
}

// shownTo admits a client of a profile, or another who sees everything.
type shownTo struct{ client producer.Client }

func (g shownTo) Admit(r *http.Request, _ string) (producer.Client, error) {
	if r.Header.Get("Authorization") == "Bearer all" {
		return producer.Client{Name: "all", Mask: entityevent.Everyone}, nil
	}
	return g.client, nil
}

// TestInlineRecordsOfAProfile: records that stand in others are those of a resource that the profile shows whole, or
// with the record in which they stand.
func TestInlineRecordsOfAProfile(t *testing.T) {
	t.Parallel()
	const body = `{"ListingKey":"p1","Media":[{"MediaKey":"i","Order":1}],"ListAgent":{"MemberKey":"m1","Media":[{"MediaKey":"j"}]},"X_Lot":{"Acres":2},"Rooms":["Kitchen"]}`
	for name, s := range map[string]*service{"inferred": inferred(t), "configured": configured(t)} {
		s.put("Property", "p1", body)
		s.put("Property", "p2", `{"ListingKey":"p2"}`)
		s.put("Media", "x2", `{"MediaKey":"x2","ResourceName":"Property","ResourceRecordKey":"p2"}`)
		for _, c := range []struct {
			inline map[string]string
			whole  string // p1
			media  string // of p1
			agent  int    // the status of its ListAgent
			knows  bool   // Media as a field of an inferred resource
		}{
			{nil, `{"ListingKey":"p1","X_Lot":{"Acres":2},"Rooms":["Kitchen"]}`, `{"value":[]}`, 204, false},
			{map[string]string{"Property": ""}, `{"ListingKey":"p1","X_Lot":{"Acres":2},"Rooms":["Kitchen"]}`, `{"value":[]}`, 204, false},
			{map[string]string{"Property": "", "Media": "Property"}, `{"ListingKey":"p1","Media":[{"MediaKey":"i","Order":1}],"X_Lot":{"Acres":2},"Rooms":["Kitchen"]}`, `{"value":[{"MediaKey":"i","Order":1}]}`, 204, true},
			{map[string]string{"Member": "", "Media": "Property"}, `{"ListingKey":"p1","Media":[{"MediaKey":"i","Order":1}],"ListAgent":{"MemberKey":"m1"},"X_Lot":{"Acres":2},"Rooms":["Kitchen"]}`, `{"value":[{"MediaKey":"i","Order":1}]}`, 200, true},
			{map[string]string{"Member": "", "Media": ""}, body, `{"value":[{"MediaKey":"i","Order":1}]}`, 200, true},
		} {
			s.server.Gate = shownTo{producer.Client{Name: "portal", Profile: "idx", Mask: entityevent.Everyone, Resources: []string{"Property", "Media", "Member"}, Inline: c.inline}}
			get := func(target string) answer { return s.get(target, "Authorization: Bearer portal", bare) }
			if got := get("/Property('p1')").want(t, 200); got != c.whole {
				t.Errorf("%s %v: %s", name, c.inline, got)
			}
			if got := get("/Property('p1')/Media").want(t, 200); got != c.media {
				t.Errorf("%s %v Media: %s", name, c.inline, got)
			}
			expanded := `{"ListingKey":"p1","Media":` + strings.TrimSuffix(strings.TrimPrefix(c.media, `{"value":`), "}") + "}"
			if got := get("/Property('p1')?$select=ListingKey&$expand=Media").want(t, 200); got != expanded {
				t.Errorf("%s %v $expand: %s", name, c.inline, got)
			}
			get("/Property('p1')/ListAgent").want(t, c.agent)
			if got := get("/Property('p2')/Media").want(t, 200); got != `{"value":[{"MediaKey":"x2","ResourceName":"Property","ResourceRecordKey":"p2"}]}` {
				t.Errorf("%s %v: records of their own: %s", name, c.inline, got)
			}
			if name == "inferred" {
				status := map[bool]int{true: 200, false: 400}
				get("/Property?$filter=Media ne null").want(t, status[c.knows])
				get("/Property?$filter=ListAgent/MemberKey ne 'm7'").want(t, status[c.agent == 200])
			}
			if got := s.get("/Property('p1')", bare).want(t, 200); got != body {
				t.Errorf("%s without a profile: %s", name, got)
			}
		}
	}
}
