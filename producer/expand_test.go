package producer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
)

// bare is a request whose answers have no annotations but counts and nextLinks.
const bare = "Accept: application/json;odata.metadata=none"

// listings is a small MLS: two listings with photos, rooms, agents and an office.
func listings(s *service) {
	s.put("Office", "o1", `{"OfficeKey":"o1","OfficeName":"Main"}`)
	s.put("Member", "m1", `{"MemberKey":"m1","MemberFullName":"Ann","OfficeKey":"o1","MemberEmail":"a@x"}`)
	s.put("Member", "m2", `{"MemberKey":"m2","MemberFullName":"Bob","OfficeKey":"o9"}`)
	s.put("Property", "p1", `{"ListingKey":"p1","ListPrice":100,"ListAgentKey":"m1","CoListAgentKey":"m2","ListOfficeKey":"o1","PrivateRemarks":"dog"}`)
	s.put("Property", "p2", `{"ListingKey":"p2","ListPrice":200,"ListAgentKey":"m9","CoListAgentKey":null}`)
	s.put("Property", "p3", `{"ListingKey":"p3","ListPrice":300,"ListAgentKey":"m1"}`)
	for i, of := range []string{"p1", "p2", "p1", "p1", "m1"} {
		resource := "Property"
		if of == "m1" {
			resource = "Member"
		}
		key := fmt.Sprintf("x%d", i)
		s.put("Media", key, fmt.Sprintf(`{"MediaKey":"%s","ResourceName":"%s","ResourceRecordKey":"%s","Order":%d,"ShortDescription":"d%d"}`, key, resource, of, 9-i, i))
	}
	s.put("PropertyRooms", "r1", `{"RoomKey":"r1","ListingKey":"p1","RoomType":"Kitchen"}`)
}

func TestExpand(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	listings(s)
	for target, want := range map[string]string{
		"/Property?$select=ListingKey&$expand=Media($select=MediaKey)": `{"value":[{"ListingKey":"p1","Media":[{"MediaKey":"x0"},{"MediaKey":"x2"},{"MediaKey":"x3"}]},` +
			`{"ListingKey":"p2","Media":[{"MediaKey":"x1"}]},{"ListingKey":"p3","Media":[]}]}`,
		"/Property('p1')?$select=ListingKey&$expand=Media($select=MediaKey;$orderby=Order;$top=2;$count=true)": `{"ListingKey":"p1","Media@odata.count":3,"Media":[{"MediaKey":"x3"},{"MediaKey":"x2"}]}`,
		"/Property('p1')?$select=ListingKey&$expand=Media($select=MediaKey;$skip=1;$top=1)":                    `{"ListingKey":"p1","Media":[{"MediaKey":"x2"}]}`,
		"/Property('p1')?$select=ListingKey&$expand=Media($select=MediaKey;$skip=1;$count=true)":               `{"ListingKey":"p1","Media@odata.count":3,"Media":[{"MediaKey":"x2"},{"MediaKey":"x3"}]}`,
		"/Property?$select=ListingKey&$expand=Media($select=MediaKey;$filter=Order gt 7;$count=true)&$top=2": `{"value":[{"ListingKey":"p1","Media@odata.count":1,"Media":[{"MediaKey":"x0"}]},` +
			`{"ListingKey":"p2","Media@odata.count":1,"Media":[{"MediaKey":"x1"}]}]}`,
		"/Property?$select=ListingKey&$expand=Media($top=0;$count=true),Rooms($select=RoomType)&$top=1": `{"value":[{"ListingKey":"p1","Media@odata.count":3,"Media":[],"Rooms":[{"RoomType":"Kitchen"}]}]}`,
		"/Property?$select=ListingKey&$expand=ListAgent($select=MemberFullName),CoListAgent($select=MemberKey)": `{"value":[{"ListingKey":"p1","ListAgent":{"MemberFullName":"Ann"},"CoListAgent":{"MemberKey":"m2"}},` +
			`{"ListingKey":"p2","ListAgent":null,"CoListAgent":null},{"ListingKey":"p3","ListAgent":{"MemberFullName":"Ann"},"CoListAgent":null}]}`,
		"/Property('p1')?$select=ListingKey&$expand=ListAgent($select=MemberKey;$expand=Office($select=OfficeName),Media($select=MediaKey))": `{"ListingKey":"p1","ListAgent":{"MemberKey":"m1",` +
			`"Office":{"OfficeName":"Main"},"Media":[{"MediaKey":"x4"}]}}`,
		"/Property('p1')/Media?$select=MediaKey&$filter=Order lt 9&$orderby=Order&$count=true": `{"@odata.count":2,"value":[{"MediaKey":"x3"},{"MediaKey":"x2"}]}`,
		"/Property('p3')/Media": `{"value":[]}`, "/Property('p1')/Rooms?$select=RoomType": `{"value":[{"RoomType":"Kitchen"}]}`,
		"/Property('p1')/ListAgent?$select=MemberFullName&$expand=Office($select=OfficeKey)": `{"MemberFullName":"Ann","Office":{"OfficeKey":"o1"}}`,
		"/Property('p1')/Media/$count": `3`, "/Property('p1')/Media/$count?$filter=Order lt 9": `2`, "/Member('m1')/Media/$count": `1`, "/Property('p1')/OpenHouse/$count": `0`,
		"/Property('p1')?$select=ListingKey,Media&$expand=Media($select=MediaKey;$top=1)": `{"ListingKey":"p1","Media":[{"MediaKey":"x0"}]}`,
	} {
		if d := cmp.Diff(want, s.get(target, bare).want(t, 200)); d != "" {
			t.Errorf("%s: %s", target, d)
		}
	}
	for target, status := range map[string]int{
		"/Property('p2')/ListAgent": 404, "/Property('p2')/CoListAgent": 204, "/Property('p3')/ListOffice": 204, "/Property('no')/Media": 404,
		"/Property('no')/Media/$count": 404, "/Property('p1')/Media?$top=x": 400, "/Property('p1')/Media?$filter=Wings eq 1": 400, "/Property('p1')/ListAgent?$top=1": 400,
		"/Property?$expand=ListAgent($expand=Office($expand=OfficeBroker))":                 200,
		"/Property?$expand=ListAgent($expand=Office($expand=OfficeBroker($expand=Office)))": 400,
		"/Property?$expand=Media($levels=2)":                                                501, "/Property?$expand=Media($wings=2)": 400, "/Property?$expand=Media($skip=5001)": 400,
	} {
		a := s.get(target)
		a.want(t, status)
		if status >= 400 {
			checkError(t, a)
		}
	}
}

// TestContextURLs (OData 4.01 Protocol, 10).
func TestContextURLs(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	listings(s)
	const v4 = "4.0"
	for _, c := range []struct{ target, header, want string }{
		{"/", "", ""}, {"/Property", "", "#Property"}, {"/Property('p1')", "", "#Property/$entity"}, {"/Property?$select=ListingKey,ListPrice", "", "#Property(ListingKey,ListPrice)"},
		{"/Property('p1')?$select=ListPrice", "", "#Property(ListPrice)/$entity"}, {"/Property?$select=*", "", "#Property"},
		{"/Property('p1')?$select=ListingKey&$expand=Media($select=MediaKey)", "", "#Property(ListingKey,Media(MediaKey))/$entity"},
		{"/Property?$expand=Media", "", "#Property(Media())"}, {"/Property?$expand=Media", v4, "#Property"},
		{"/Property?$select=ListingKey,Media&$expand=Media", "", "#Property(ListingKey,Media())"},
		{"/Property?$expand=ListAgent($expand=Office($select=OfficeKey))", v4, "#Property(ListAgent(Office(OfficeKey)))"},
		{"/Property('p1')/Media", "", "#Media"}, {"/Property('p1')/ListAgent?$select=MemberKey", "", "#Member(MemberKey)/$entity"},
		{"/EntityEvent", "", "#EntityEvent"}, {"/EntityEvent(1)?$select=ResourceName", "", "#EntityEvent(ResourceName)/$entity"},
	} {
		a := s.get(c.target, "OData-Version: "+c.header)
		if got := entityevent.StringMember([]byte(a.want(t, 200)), "@odata.context"); got != root+"/$metadata"+c.want {
			t.Errorf("%s %s: %s", c.target, c.header, got)
		}
	}
}

// TestAnnotations: what the standard calls minimal, and what is left of it with none.
func TestAnnotations(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	listings(s)
	tag := func(target string) string { return s.get(target).header.Get("ETag") }
	quote := func(v string) string { q, _ := json.Marshal(v); return string(q) }
	got := s.get("/Property('p1')?$select=ListPrice&$expand=Media($top=1),ListAgent($select=MemberFullName)").want(t, 200)
	want := `{"@odata.context":"` + root + `/$metadata#Property(ListPrice,Media(),ListAgent(MemberFullName))/$entity","@odata.id":"` + root + `/Property('p1')","@odata.etag":` + quote(tag("/Property('p1')")) +
		`,"ListPrice":100,"Media":[{"@odata.etag":` + quote(tag("/Media('x0')")) + `,"MediaKey":"x0","ResourceName":"Property","ResourceRecordKey":"p1","Order":9,"ShortDescription":"d0"}],` +
		`"ListAgent":{"@odata.id":"` + root + `/Member('m1')","@odata.etag":` + quote(tag("/Member('m1')")) + `,"MemberFullName":"Ann"}}`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for target, want := range map[string]string{
		"/Office": `{"value":[{"OfficeKey":"o1","OfficeName":"Main"}]}`, "/Office('o1')": `{"OfficeKey":"o1","OfficeName":"Main"}`,
		"/Office?$count=true&$select=OfficeName": `{"@odata.count":1,"value":[{"OfficeName":"Main"}]}`,
		"/EntityEvent(1)?$select=ResourceName":   `{"ResourceName":"Office"}`, "/EntityEvent?$top=1&$select=ResourceName&$count=true": `{"@odata.count":12,"value":[{"ResourceName":"Office"}]}`,
	} {
		if d := cmp.Diff(want, s.get(target, bare).want(t, 200)); d != "" {
			t.Errorf("%s: %s", target, d)
		}
	}
	if got := s.get("/Property?$top=1", bare, "Prefer: maxpagesize=1"); strings.Contains(got.body, "odata") {
		t.Errorf("%s", got.body)
	}
	if got := s.get("/", bare).want(t, 200); !strings.HasPrefix(got, `{"value":[{"name":"EntityEvent",`) {
		t.Errorf("%s", got)
	}
}

// TestExpandedPages: children beyond the bound, and pages of them, each once.
func TestExpandedPages(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	const n = 1250
	c := entityevent.Commit{Feed: entityevent.Local}
	for i := range n {
		key := fmt.Sprintf("%04d", i)
		c.Changes = append(c.Changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Media", Key: key},
			Body: json.RawMessage(fmt.Sprintf(`{"MediaKey":"%s","ResourceRecordKey":"p","Order":%d}`, key, i%7))})
	}
	if _, err := s.store.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	s.put("Property", "p", `{"ListingKey":"p"}`)
	s.put("Property", "q", `{"ListingKey":"q"}`)
	for _, c := range []struct {
		options string
		want    int
	}{{"$orderby=Order desc;$select=MediaKey;$count=true", n}, {"$top=1200;$orderby=Order;$filter=Order le 7", 1200}, {"$select=MediaKey", n}} {
		var record struct {
			Media []struct{ MediaKey string }
			Count int    `json:"Media@odata.count"`
			Next  string `json:"Media@odata.nextLink"`
		}
		var all struct{ Value []json.RawMessage }
		body := s.get("/Property?$expand=Media("+c.options+")").want(t, 200)
		if err := json.Unmarshal([]byte(body), &all); err != nil || len(all.Value) != 2 {
			t.Fatal(err, len(all.Value))
		}
		if err := json.Unmarshal(all.Value[0], &record); err != nil {
			t.Fatal(err)
		}
		if len(record.Media) != 1000 || record.Next == "" || strings.Contains(c.options, "$count") && record.Count != n {
			t.Fatalf("%s: %d of %d, next %q", c.options, len(record.Media), record.Count, record.Next)
		}
		seen := map[string]bool{}
		for _, m := range record.Media {
			seen[m.MediaKey] = true
		}
		total := len(record.Media)
		for next := record.Next; next != ""; {
			page := s.get(below(t, next)).page(t)
			for _, m := range page.Value {
				seen[string(m["MediaKey"])[1:5]] = true
			}
			total, next = total+len(page.Value), page.Next
		}
		if total != c.want || len(seen) != c.want {
			t.Errorf("%s: %d, of which %d differ, of %d", c.options, total, len(seen), c.want)
		}
	}
}

// countingQueries counts what is read.
type countingQueries struct {
	entityevent.Store
	resources map[string]int
}

func (c *countingQueries) Read(ctx context.Context, v entityevent.View, q entityevent.Query) iter.Seq2[entityevent.Record, error] {
	c.resources[q.Resource]++
	return c.Store.Read(ctx, v, q)
}

// TestExpandReadsInBatches: a page and a navigation are one query each.
func TestExpandReadsInBatches(t *testing.T) {
	t.Parallel()
	store := &countingQueries{openStore(t, t.TempDir()), map[string]int{}}
	s := serve(t, store, nil)
	listings(s)
	s.get("/$metadata").want(t, 200)
	store.resources = map[string]int{}
	s.get("/Property?$expand=Media,ListAgent($expand=Office,Media),CoListAgent").want(t, 200)
	if d := cmp.Diff(map[string]int{"Property": 1, "Media": 2, "Member": 2, "Office": 1}, store.resources); d != "" {
		t.Error(d)
	}
}

// TestCrowdedExpand: what does not fit in one step is expanded in several, and all the same.
func TestCrowdedExpand(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	const listings, photos = 24, 500 // 12,000 photos
	for i := range listings {
		c := entityevent.Commit{Feed: entityevent.Local}
		key := fmt.Sprintf("p%02d", i)
		c.Changes = append(c.Changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: key}, Body: json.RawMessage(`{"ListingKey":"` + key + `"}`)})
		for n := range photos {
			photo := fmt.Sprintf("%s-%03d", key, n)
			c.Changes = append(c.Changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Media", Key: photo},
				Body: json.RawMessage(`{"MediaKey":"` + photo + `","ResourceRecordKey":"` + key + `"}`)})
		}
		if _, err := s.store.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	page := s.get("/Property?$expand=Media($select=MediaKey;$count=true)").page(t)
	if got := page.column("ListingKey"); len(page.Value) != listings || !strings.HasPrefix(got, "p00 p01 p02") {
		t.Errorf("%s", got)
	}
	for _, v := range page.Value {
		var media []struct{ MediaKey string }
		if err := json.Unmarshal(v["Media"], &media); err != nil || len(media) != photos || string(v["Media@odata.count"]) != "500" ||
			!strings.HasPrefix(media[0].MediaKey, strings.Trim(string(v["ListingKey"]), `"`)) {
			t.Errorf("%s: %d %s", v["ListingKey"], len(media), v["Media@odata.count"])
		}
	}
}

// TestExpandWhatTheBodyHolds: a source that knows Media as a member of its listings alone.
func TestExpandWhatTheBodyHolds(t *testing.T) {
	t.Parallel()
	body := `{"ListingKey":"p1","Media":[{"MediaKey":"a","Order":2,"ShortDescription":"s"},{"MediaKey":"b","Order":1},{"MediaKey":"c"}]}`
	for _, s := range []*service{inferred(t), configured(t)} {
		s.put("Property", "p1", body)
		s.put("Property", "p2", `{"ListingKey":"p2","Media":null}`)
		for target, want := range map[string]string{
			"/Property('p1')":                                                     body,
			"/Property('p1')?$expand=Media":                                       body,
			"/Property('p2')?$expand=Media":                                       `{"ListingKey":"p2","Media":[]}`,
			"/Property('p1')?$select=ListingKey":                                  `{"ListingKey":"p1"}`,
			"/Property('p1')?$select=ListingKey,Media":                            body,
			"/Property('p1')?$expand=Media($select=MediaKey)":                     `{"ListingKey":"p1","Media":[{"MediaKey":"a"},{"MediaKey":"b"},{"MediaKey":"c"}]}`,
			"/Property('p1')?$expand=Media($top=1;$count=true)":                   `{"ListingKey":"p1","Media@odata.count":3,"Media":[{"MediaKey":"a","Order":2,"ShortDescription":"s"}]}`,
			"/Property('p1')/Media?$skip=2":                                       `{"value":[{"MediaKey":"c"}]}`,
			"/Property('p1')/Media/$count":                                        "3",
			"/Property('p2')/Media":                                               `{"value":[]}`,
			"/Property('p1')/Media?$select=MediaKey&$count=true":                  `{"@odata.count":3,"value":[{"MediaKey":"a"},{"MediaKey":"b"},{"MediaKey":"c"}]}`,
			"/Property?$select=ListingKey&$expand=Media($select=MediaKey;$top=1)": `{"value":[{"ListingKey":"p1","Media":[{"MediaKey":"a"}]},{"ListingKey":"p2","Media":[]}]}`,
		} {
			if d := cmp.Diff(want, s.get(target, bare).want(t, 200)); d != "" {
				t.Errorf("%s: %s", target, d)
			}
		}
	}
	s := configured(t) // where it is known what is in them
	s.put("Property", "p1", body)
	want := `{"ListingKey":"p1","Media":[{"MediaKey":"b","Order":1},{"MediaKey":"a","Order":2,"ShortDescription":"s"}]}`
	if got := s.get("/Property('p1')?$expand=Media($filter=Order gt 0;$orderby=Order)", bare).want(t, 200); got != want {
		t.Errorf("%s", got)
	}
	s.put("Media", "m", `{"MediaKey":"m","ResourceName":"Property","ResourceRecordKey":"p1"}`)
	want = `{"ListingKey":"p1","Media":[{"MediaKey":"m","ResourceName":"Property","ResourceRecordKey":"p1"}]}`
	if got := s.get("/Property('p1')?$expand=Media", bare).want(t, 200); got != want {
		t.Errorf("records of their own: %s", got)
	}
}
