package producer_test

import (
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/producer"
)

// TestWhatAProfileDoesNotName: a resource that the profile does not name, and a field that it hides, is answered like one
// that has no records, or does not exist, by whatever way it is asked for.
func TestWhatAProfileDoesNotName(t *testing.T) {
	t.Parallel()
	unknown := strings.NewReplacer("Acme_Deal", "Acme_Dial", "Member", "Mamber", "Media", "Madia", "ListAgent", "LostAgent", "PrivateRemarks", "PrivateRamarks").Replace
	for name, s := range map[string]*service{"inferred": inferred(t), "configured": configured(t)} {
		masks, err := s.store.(entityevent.Profiles).SetProfiles(t.Context(), []entityevent.Profile{{Name: "idx", Resources: map[string]entityevent.Access{"Property": {Hide: []string{"PrivateRemarks"}}, "OpenHouse": {}}}})
		if err != nil {
			t.Fatal(err)
		}
		s.put("Property", "p1", `{"ListingKey":"p1","ListAgentKey":"m1","PrivateRemarks":"dog","City":"Ulm"}`)
		s.put("Member", "m1", `{"MemberKey":"m1","MemberEmail":"a@b"}`)
		s.put("Media", "x", `{"MediaKey":"x","ResourceName":"Property","ResourceRecordKey":"p1"}`)
		if name == "inferred" {
			s.put("Member", "m1", `{"MemberKey":"m1","MemberEmail":"a@b","MemberOdd":true}`)
			if _, err := s.store.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{
				{Ref: entityevent.Ref{Resource: "Acme_Deal", Key: "d"}, Body: []byte(`{"Acme_DealKey":"d","Odd":1}`)}}}); err != nil {
				t.Fatal(err)
			}
		}
		s.put("OpenHouse", "7", `{"OpenHouseKey":7,"ListingKey":"p1"}`)
		client := producer.Client{Name: "portal", Profile: "idx", Mask: masks["idx"], Resources: []string{"Property", "OpenHouse"}, Hide: map[string][]string{"Property": {"PrivateRemarks"}}}
		s.server.Gate = shownTo{client}
		get := func(target string) answer { return s.get(target, "Authorization: Bearer portal") }
		for _, target := range []string{
			"/Acme_Deal", "/Acme_Deal('d')", "/Acme_Deal/$count", "/Acme_Deal?$filter=Odd eq 1",
			"/Property('p1')/Media", "/Property('p1')/Media/$count", "/Property('p1')/ListAgent", "/Property('nothing')/Media", "/Property?$expand=Media", "/Property?$expand=OpenHouse($expand=Media)", "/Property?$expand=ListAgent($select=MemberEmail)",
			"/Property?$select=Media", "/Property?$select=ListAgent", "/Property?$filter=Media/any(m:m/Order eq 1)", "/Property?$filter=ListAgent/MemberEmail eq 'x'", "/Property?$filter=PrivateRemarks eq 'dog'", "/Property?$orderby=PrivateRemarks",
			"/Property?$select=PrivateRemarks", "/Property('p1')/PrivateRemarks",
		} {
			a, b := get(target), get(unknown(target))
			if a.status < 400 || a.status != b.status || unknown(a.body) != unknown(b.body) {
				t.Errorf("%s %s: %d %s, and %s: %d %s", name, target, a.status, a.body, unknown(target), b.status, b.body)
			}
			checkError(t, a)
		}
		// What everybody knows of is empty, so that who asks for them all goes on: as much as where there are no records.
		for _, target := range []string{
			"/Member", "/Member('m1')", "/Member('m1')?$select=MemberKey", "/Member/$count", "/Member?$filter=MemberKey eq 'm1'&$count=true", "/Member?$filter=MemberOdd eq 5&$orderby=MemberOdd", "/Member('m1')/Media", "/Member(MemberKey='m1')",
			"/Member(Nothing='m1')", "/Member?$orderby=ModificationTimestamp,MemberKey&$select=MemberKey", "/Member?$expand=Media",
		} {
			none := strings.NewReplacer("Member", "Office")
			if a, b := get(target), get(none.Replace(target)); a.status != b.status || none.Replace(a.body) != b.body || strings.Contains(a.body, `"m1","`) {
				t.Errorf("%s %s: %d %s, and where there are none: %d %s", name, target, a.status, a.body, b.status, b.body)
			}
		}
		if got := get("/Member").page(t).Value; len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
		text := get("/$metadata").want(t, 200)
		for _, secret := range []string{"\"Member", ".Member", "Media", "PrivateRemarks", "\"Office", ".Office", "ListAgent\"", "Lookup\""} {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s: $metadata names %s: %s", name, secret, text[max(0, at-80):at+40])
			}
		}
		read, err := metadata.Read(strings.NewReader(text))
		if err != nil || read.Check() != nil {
			t.Fatalf("%s: %v %v %s", name, err, read.Check(), text)
		}
		for _, resource := range []string{"Property", "OpenHouse", "EntityEvent"} {
			if _, _, ok := read.KeyField(resource); !ok {
				t.Errorf("%s: $metadata lacks %s", name, resource)
			}
		}
		if _, ok := read.Field("Property", "City"); !ok {
			t.Errorf("%s: $metadata lacks Property/City", name)
		}
		if l, ok := read.Link("OpenHouse", "Listing"); !ok || !l.Followed() {
			t.Errorf("%s: $metadata lacks OpenHouse/Listing", name)
		}
		if n := strings.Count(get("/").want(t, 200), `"EntitySet"`); n != 3 {
			t.Errorf("%s: %d resources: %s", name, n, get("/").body)
		}
		if !strings.Contains(s.get("/$metadata").want(t, 200), "MemberEmail") {
			t.Errorf("%s: who sees all sees less", name)
		}
		get("/Property('p1')/OpenHouse").want(t, 200)
		get("/Property?$expand=OpenHouse").want(t, 200)

		// A profile that names less than before: who was told of records can see that they are gone.
		if _, err := s.store.(entityevent.Profiles).SetProfiles(t.Context(), []entityevent.Profile{{Name: "idx", Resources: map[string]entityevent.Access{"Property": {}}}}); err != nil {
			t.Fatal(err)
		}
		for more := true; more; {
			if more, err = s.store.(entityevent.Profiles).Review(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		client.Resources = []string{"Property"}
		s.server.Gate = shownTo{client}
		if got := get("/OpenHouse").page(t).Value; len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
		if a := get("/OpenHouse(7)"); a.status != 404 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if got := get("/Member").page(t).Value; len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
		if text := get("/$metadata").want(t, 200); !strings.Contains(text, `EntitySet Name="OpenHouse"`) {
			t.Errorf("%s: whose records they were told of, of that nobody knows the key", name)
		}
	}
}
