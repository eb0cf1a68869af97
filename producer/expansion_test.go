package producer_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
)

// linked has keys that are no texts, and navigations that nothing explains.
const linked = `<?xml version="1.0" encoding="UTF-8"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
<Schema Namespace="X" xmlns="http://docs.oasis-open.org/odata/ns/edm">
<EntityType Name="Property"><Key><PropertyRef Name="Number"/></Key><Property Name="Number" Type="Edm.Int64" Nullable="false"/>
 <NavigationProperty Name="Notes" Type="Collection(X.Note)" Partner="Listing"/>
 <NavigationProperty Name="Tags" Type="Collection(X.Tag)"/><NavigationProperty Name="Best" Type="X.Tag"/></EntityType>
<EntityType Name="Note"><Key><PropertyRef Name="NoteKey"/></Key><Property Name="NoteKey" Type="Edm.String" Nullable="false"/>
 <Property Name="Of" Type="Edm.Int64"/><Property Name="Rank" Type="Edm.Int32"/><Property Name="DeskId" Type="Edm.Guid"/>
 <NavigationProperty Name="Listing" Type="X.Property" Partner="Notes"><ReferentialConstraint Property="Of" ReferencedProperty="Number"/></NavigationProperty>
 <NavigationProperty Name="Desk" Type="X.Desk" Partner="Notes"><ReferentialConstraint Property="DeskId" ReferencedProperty="Id"/></NavigationProperty></EntityType>
<EntityType Name="Tag"><Key><PropertyRef Name="TagKey"/></Key><Property Name="TagKey" Type="Edm.String" Nullable="false"/></EntityType>
<EntityType Name="Desk"><Key><PropertyRef Name="Id"/></Key><Property Name="Id" Type="Edm.Guid" Nullable="false"/>
 <NavigationProperty Name="Notes" Type="Collection(X.Note)" Partner="Desk"/></EntityType>
<EntityContainer Name="C"><EntitySet Name="Property" EntityType="X.Property"/><EntitySet Name="Note" EntityType="X.Note"/><EntitySet Name="Tag" EntityType="X.Tag"/>
 <EntitySet Name="Desk" EntityType="X.Desk"/></EntityContainer></Schema></edmx:DataServices></edmx:Edmx>`

// linkedService serves two listings with notes. One note names its desk in other letters than the desk itself, another by a
// desk that is not there.
func linkedService(t *testing.T) *service {
	t.Helper()
	edmx, err := metadata.Read(strings.NewReader(linked))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, openStore(t, t.TempDir()), edmx)
	for target, body := range map[string]string{
		"/Property(1)": `{}`, "/Property(20)": `{}`, "/Property(3)": `{}`, "/Desk(aaaaaaaa-0000-0000-0000-00000000000a)": `{}`,
		"/Note('n1')": `{"Of":1,"Rank":2,"DeskId":"AAAAAAAA-0000-0000-0000-00000000000A"}`, "/Note('n2')": `{"Of":20,"Rank":1,"DeskId":"aaaaaaaa-0000-0000-0000-00000000000a"}`,
		"/Note('n3')": `{"Of":1,"Rank":1,"DeskId":"bbbbbbbb-0000-0000-0000-00000000000b"}`, "/Note('n4')": `{"Of":null}`,
	} {
		s.do("PUT", target, body).want(t, 201)
	}
	return s
}

// TestLinksByOtherKeys: a link leads on whatever the key is.
func TestLinksByOtherKeys(t *testing.T) {
	t.Parallel()
	s := linkedService(t)
	const desk = `"aaaaaaaa-0000-0000-0000-00000000000a"`
	for target, want := range map[string]string{
		"/Property(1)/Notes?$select=NoteKey":                                   `{"value":[{"NoteKey":"n1"},{"NoteKey":"n3"}]}`,
		"/Property(1)/Notes?$select=NoteKey&$filter=Rank gt 1":                 `{"value":[{"NoteKey":"n1"}]}`,
		"/Property(1)/Notes/$count":                                            `2`,
		"/Property(3)/Notes":                                                   `{"value":[]}`,
		"/Property(20)?$expand=Notes($select=NoteKey)":                         `{"Number":20,"Notes":[{"NoteKey":"n2"}]}`,
		"/Property?$orderby=Number&$expand=Notes($select=NoteKey;$count=true)": `{"value":[{"Number":1,"Notes@odata.count":2,"Notes":[{"NoteKey":"n1"},{"NoteKey":"n3"}]},{"Number":3,"Notes@odata.count":0,"Notes":[]},{"Number":20,"Notes@odata.count":1,"Notes":[{"NoteKey":"n2"}]}]}`,
		"/Note('n2')/Listing":                                                  `{"Number":20}`,
		"/Note('n1')/Desk":                                                     `{"Id":` + desk + `}`,
		"/Note?$select=NoteKey&$expand=Desk":                                   `{"value":[{"NoteKey":"n1","Desk":{"Id":` + desk + `}},{"NoteKey":"n2","Desk":{"Id":` + desk + `}},{"NoteKey":"n3","Desk":null},{"NoteKey":"n4","Desk":null}]}`,
		"/Desk(aaaaaaaa-0000-0000-0000-00000000000a)/Notes?$select=NoteKey":    `{"value":[{"NoteKey":"n1"},{"NoteKey":"n2"}]}`,
		"/Desk?$expand=Notes($select=NoteKey)":                                 `{"value":[{"Id":` + desk + `,"Notes":[{"NoteKey":"n1"},{"NoteKey":"n2"}]}]}`,
	} {
		if d := cmp.Diff(want, s.get(target, bare).want(t, 200)); d != "" {
			t.Errorf("%s: %s", target, d)
		}
	}
	s.get("/Note('n3')/Desk").want(t, 404)
	s.get("/Note('n4')/Desk").want(t, 204)
}

// TestOpaqueLinks: what nobody explains is not known to be empty, unless the record says it.
func TestOpaqueLinks(t *testing.T) {
	t.Parallel()
	s := linkedService(t)
	for _, target := range []string{
		"/Property(1)/Tags", "/Property(1)/Tags/$count", "/Property(1)/Best",
	} {
		a := s.get(target)
		a.want(t, 501)
		checkError(t, a)
		if !strings.Contains(a.body, "ReferentialConstraint") {
			t.Errorf("%s: %s", target, a.body)
		}
	}
	for _, c := range []entityevent.Change{ // as another server sent them
		{Ref: entityevent.Ref{Resource: "Property", Key: "1"}, Body: []byte(`{"Number":1,"Tags":[{"TagKey":"t"}],"Best":{"TagKey":"t"}}`)},
		{Ref: entityevent.Ref{Resource: "Property", Key: "3"}, Body: []byte(`{"Number":3,"Tags":[],"Best":null}`)},
	} {
		if _, err := s.store.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{c}}); err != nil {
			t.Fatal(err)
		}
	}
	for target, want := range map[string]string{
		"/Property(1)?$expand=Tags,Best": `{"Number":1,"Tags":[{"TagKey":"t"}],"Best":{"TagKey":"t"}}`, "/Property(1)/Tags": `{"value":[{"TagKey":"t"}]}`, "/Property(1)/Best": `{"TagKey":"t"}`,
		"/Property(3)?$expand=Tags,Best": `{"Number":3,"Tags":[],"Best":null}`, "/Property(3)/Tags/$count": `0`,
	} {
		if d := cmp.Diff(want, s.get(target, bare).want(t, 200)); d != "" {
			t.Errorf("%s: %s", target, d)
		}
	}
	s.get("/Property(3)/Best").want(t, 204)
	s.get("/Property(20)/Tags").want(t, 501)
	// A page is not refused for one record of which nothing is known.
	if page := s.get("/Property?$select=Number&$expand=Tags($select=TagKey),Best", bare).want(t, 200); !strings.Contains(page, `{"Number":1,"Tags":[{"TagKey":"t"}],"Best":{"TagKey":"t"}}`) ||
		!strings.Contains(page, `{"Number":20}`) {
		t.Error(page)
	}
}

// TestFilterOfChildren: a filter does not change which children a record has.
func TestFilterOfChildren(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	s.put("Property", "p", `{"ListingKey":"p","Media":[{"MediaKey":"i","Order":1},{"MediaKey":"j","Order":9}]}`)
	s.put("Property", "q", `{"ListingKey":"q","Media":[{"MediaKey":"k","Order":9}]}`)
	s.put("Media", "own", `{"MediaKey":"own","ResourceName":"Property","ResourceRecordKey":"p","Order":1}`)
	for target, want := range map[string]string{
		"/Property('p')/Media?$select=MediaKey":                                           `{"value":[{"MediaKey":"own"}]}`,
		"/Property('p')/Media?$select=MediaKey&$filter=Order eq 9":                        `{"value":[]}`,
		"/Property('p')/Media?$select=MediaKey&$skip=1":                                   `{"value":[]}`,
		"/Property('p')/Media/$count?$filter=Order eq 9":                                  `0`,
		"/Property?$select=ListingKey&$expand=Media($select=MediaKey;$filter=Order eq 9)": `{"value":[{"ListingKey":"p","Media":[]},{"ListingKey":"q","Media":[{"MediaKey":"k"}]}]}`,
		"/Property('q')/Media?$select=MediaKey&$filter=Order eq 9":                        `{"value":[{"MediaKey":"k"}]}`,
	} {
		if d := cmp.Diff(want, s.get(target, bare).want(t, 200)); d != "" {
			t.Errorf("%s: %s", target, d)
		}
	}
}
