package metadata_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent/metadata"
)

// inferred returns a schema that has seen one empty record of each resource.
func inferred(t *testing.T, resources ...string) *metadata.Schema {
	t.Helper()
	s := &metadata.Schema{Namespace: metadata.Namespace}
	for _, r := range resources {
		key, ok := metadata.KnownKey(r)
		if !ok {
			t.Fatalf("%s is not in the Data Dictionary", r)
		}
		s.Infer(r, []byte(`{"`+key+`":"1"}`))
	}
	return s
}

func TestLinksOfTheDataDictionary(t *testing.T) {
	s := inferred(t, "Property", "Media", "Member", "Office", "OpenHouse", "PropertyRooms", "PropertyUnitTypes", "Teams", "TeamMembers", "PropertyGreenVerification", "PropertyPowerProduction")
	owned := func(name, target string) metadata.Link {
		return metadata.Link{Name: name, Target: target, Many: true, ParentField: "ListingKey", Owned: true}
	}
	media := metadata.Link{Name: "Media", Target: "Media", Many: true, ParentField: "ResourceRecordKey", ParentResourceField: "ResourceName", Owned: true}
	one := func(name, target string) metadata.Link {
		return metadata.Link{Name: name, Target: target, Field: name + "Key"}
	}
	for _, c := range []struct {
		resource string
		want     metadata.Link
	}{
		{"Property", media}, {"Member", media}, {"Office", media}, {"OpenHouse", media}, {"Teams", media},
		{"Property", owned("Rooms", "PropertyRooms")}, {"Property", owned("UnitTypes", "PropertyUnitTypes")},
		{"Property", owned("OpenHouse", "OpenHouse")},
		{"Property", owned("GreenBuildingVerification", "PropertyGreenVerification")},
		{"Property", owned("PowerProduction", "PropertyPowerProduction")},
		{"Property", one("ListAgent", "Member")}, {"Property", one("CoListAgent", "Member")},
		{"Property", one("BuyerAgent", "Member")}, {"Property", one("CoBuyerAgent", "Member")},
		{"Property", one("ListOffice", "Office")}, {"Property", one("CoListOffice", "Office")},
		{"Property", one("BuyerOffice", "Office")}, {"Property", one("CoBuyerOffice", "Office")},
		{"Property", one("ListTeam", "Teams")}, {"Property", one("BuyerTeam", "Teams")},
		{"Member", one("Office", "Office")}, {"Office", one("MainOffice", "Office")},
		{"OpenHouse", one("Listing", "Property")}, {"Media", one("ChangedByMember", "Member")},
		{"Property", metadata.Link{Name: "PowerStorage", Target: "PropertyPowerStorage", Many: true, ParentField: "ListingKey", Owned: true}}, // of which there are none yet
		{"Teams", metadata.Link{Name: "TeamMembers", Target: "TeamMembers", Many: true, ParentField: "TeamKey", Owned: true}},
	} {
		got, ok := s.Link(c.resource, c.want.Name)
		if d := cmp.Diff(c.want, got); d != "" || !ok {
			t.Errorf("%s/%s: %v\n%s", c.resource, c.want.Name, ok, d)
		}
	}
	for _, c := range [][2]string{
		{"Property", "ListPrice"}, {"Property", ""}, {"Nothing", "Media"}, {"Property", "media"},
		{"Media", "Media"},
	} {
		if l, ok := s.Link(c[0], c[1]); ok {
			t.Errorf("%s/%s leads to %+v", c[0], c[1], l)
		}
	}
	s.Infer("Property", []byte(`{"Media":[{"MediaKey":"1"}],"ListAgent":{"MemberKey":"1"},"ListOffice":"Main"}`))
	for _, want := range []metadata.Link{media, one("ListAgent", "Member"), one("ListOffice", "Office")} {
		if l, ok := s.Link("Property", want.Name); !ok || l != want {
			t.Errorf("one record holds its %s, and it leads to %v %+v for all", want.Name, ok, l)
		}
	}
}

func TestLinksOfADocument(t *testing.T) {
	s := read(t, `<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
<Schema Namespace="a" Alias="al" xmlns="http://docs.oasis-open.org/odata/ns/edm">
 <EntityType Name="Base" Abstract="true"><NavigationProperty Name="Agent" Type="al.Person"><ReferentialConstraint Property="Broker" ReferencedProperty="Id"/></NavigationProperty></EntityType>
 <EntityType Name="Home" BaseType="a.Base"><Key><PropertyRef Name="HomeKey"/></Key><Property Name="HomeKey" Type="Edm.String"/><Property Name="Broker" Type="Edm.Int64"/><Property Name="SellerKey" Type="Edm.Int64"/><Property Name="HostSystemKey" Type="Edm.String"/><Property Name="NamedKey" Type="Edm.Int64"/>
  <NavigationProperty Name="Seller" Type="a.Person"/>
  <NavigationProperty Name="Buyer" Type="a.Person"/>
  <NavigationProperty Name="Named" Type="a.Person"><ReferentialConstraint Property="SellerKey" ReferencedProperty="Name"/></NavigationProperty>
  <NavigationProperty Name="HostSystem" Type="a.Person"/>
  <NavigationProperty Name="Rooms" Type="Collection(a.Room)" Partner="Home"/>
  <NavigationProperty Name="Visits" Type="Collection(a.Visit)"/>
  <NavigationProperty Name="Nowhere" Type="a.Unset"/><NavigationProperty Name="Media" Type="Collection(a.Media)"/>
 </EntityType>
 <EntityType Name="Person"><Key><PropertyRef Name="Id"/></Key><Property Name="Id" Type="Edm.Int64"/><Property Name="Name" Type="Edm.String"/></EntityType>
 <EntityType Name="Room"><Key><PropertyRef Name="Id"/></Key><Property Name="Id" Type="Edm.Int64"/><Property Name="In" Type="Edm.String"/>
  <NavigationProperty Name="Home" Type="a.Home" Partner="Rooms"><ReferentialConstraint Property="In" ReferencedProperty="HomeKey"/></NavigationProperty></EntityType>
 <EntityType Name="Visit"><Key><PropertyRef Name="Id"/></Key><Property Name="Id" Type="Edm.Int64"/></EntityType>
 <EntityType Name="Unset"/><EntityType Name="Media"><Key><PropertyRef Name="Id"/></Key><Property Name="Id" Type="Edm.Int64"/><Property Name="ResourceName" Type="Edm.String"/></EntityType>
 <EntityContainer Name="C"><EntitySet Name="Homes" EntityType="a.Home"><NavigationPropertyBinding Path="Agent" Target="Agents"/><NavigationPropertyBinding Path="Seller" Target="a.C/Agents"/></EntitySet>
  <EntitySet Name="People" EntityType="a.Person"/><EntitySet Name="Agents" EntityType="a.Person"/><EntitySet Name="Rooms" EntityType="a.Room"/><EntitySet Name="Visits" EntityType="a.Visit"/><EntitySet Name="Media" EntityType="a.Media"/></EntityContainer>
</Schema></edmx:DataServices></edmx:Edmx>`)
	for _, want := range []metadata.Link{
		{Name: "Agent", Target: "Agents", Field: "Broker"},
		{Name: "Seller", Target: "Agents", Field: "SellerKey"},
		{Name: "Buyer", Target: "People"},
		{Name: "Named", Target: "People"},
		{Name: "HostSystem", Target: "People"},
		{Name: "Rooms", Target: "Rooms", Many: true, ParentField: "In"},
		{Name: "Visits", Target: "Visits", Many: true},
		{Name: "Nowhere"},
		{Name: "Media", Target: "Media", Many: true},
	} {
		got, ok := s.Link("Homes", want.Name)
		if d := cmp.Diff(want, got); d != "" || !ok {
			t.Errorf("%s: %v\n%s", want.Name, ok, d)
		}
		if followed := want.Field != "" || want.ParentField != ""; got.Followed() != followed {
			t.Errorf("%s is followed: %v", want.Name, got.Followed())
		}
	}
	if d := cmp.Diff([]string{"Agent", "Rooms", "Seller"}, s.Links("Homes")); d != "" {
		t.Error(d)
	}
}

// TestLinksOfTheFixture: by a partner's constraint, by an own one, by the Data Dictionary; and one of unknown meaning.
func TestLinksOfTheFixture(t *testing.T) {
	s := read(t, fixture(t))
	for _, want := range []metadata.Link{
		{Name: "OpenHouse", Target: "OpenHouse", Many: true, ParentField: "ListingKey", Owned: true},
		{Name: "Media", Target: "Media", Many: true, ParentField: "ResourceRecordKey", ParentResourceField: "ResourceName", Owned: true},
		{Name: "ListAgent", Target: "Member", Field: "ListAgentKey"}, {Name: "BuyerAgent", Target: "Member", Field: "BuyerAgentKey"},
		{Name: "OriginatingSystem", Target: "Office"},
	} {
		if got, ok := s.Link("Property", want.Name); !ok || got != want {
			t.Errorf("%s: %v %+v", want.Name, ok, got)
		}
	}
}

func TestParent(t *testing.T) {
	for _, c := range []struct {
		resource      string
		members       map[string]string
		parent, child string
	}{
		{"Media", map[string]string{"ResourceName": "Member", "ResourceRecordKey": "7"}, "Member", "7"},
		{"Media", map[string]string{"ResourceName": "property", "ResourceRecordKey": "7"}, "Property", "7"},
		{"Media", map[string]string{"ResourceName": "Boat", "ResourceRecordKey": "7"}, "Boat", "7"},
		{"Media", map[string]string{"ResourceRecordKey": "7"}, "Property", "7"},
		{"Media", map[string]string{"ResourceName": "Property"}, "", ""},
		{"OpenHouse", map[string]string{"ListingKey": "7", "ResourceRecordKey": "8"}, "Property", "7"},
		{"PropertyRooms", map[string]string{"ListingKey": "7"}, "Property", "7"},
		{"PropertyUnitTypes", map[string]string{"ListingKey": "7"}, "Property", "7"},
		{"PropertyRooms", nil, "", ""},
		{"TeamMembers", map[string]string{"TeamKey": "7", "MemberKey": "8"}, "Teams", "7"},
		{"Property", map[string]string{"ListingKey": "7"}, "", ""},
		{"Boat", map[string]string{"ListingKey": "7"}, "", ""},
	} {
		parent, key, ok := metadata.Parent(c.resource, func(name string) string { return c.members[name] })
		if parent != c.parent || key != c.child || ok != (c.parent != "") {
			t.Errorf("%s %v belongs to %q %q %v", c.resource, c.members, parent, key, ok)
		}
	}
}

// TestTarget: whose records may stand in a member.
func TestTarget(t *testing.T) {
	inferred, document := &metadata.Schema{Namespace: metadata.Namespace}, read(t, fixture(t))
	inferred.Infer("Boat", []byte(`{"BoatKey":"1","Media":[{}]}`))
	for _, c := range []struct {
		schema                 *metadata.Schema
		resource, member, want string
	}{
		{inferred, "Property", "ListAgent", "Member"}, {inferred, "Property", "Rooms", "PropertyRooms"}, {inferred, "Property", "Media", "Media"},
		{inferred, "Property", "X_Address", ""}, {inferred, "Property", "Boat", "Boat"}, {inferred, "Boat", "Media", "Media"}, {inferred, "Boat", "ListAgent", ""},
		{inferred, "", "ListAgent", "Member"}, {inferred, "", "Rooms", "PropertyRooms"}, {inferred, "", "Yacht", ""},
		{document, "Property", "ListAgent", "Member"}, {document, "Property", "OriginatingSystem", "Office"}, {document, "Property", "Rooms", ""},
		{document, "", "ListAgent", "Member"}, {document, "Property", "Showing", ""},
	} {
		if got := c.schema.Target(c.resource, c.member); got != c.want {
			t.Errorf("%s in %q: %q, not %q", c.member, c.resource, got, c.want)
		}
	}
}

// TestLinkInPlaceOfAField: records of their own have a navigation also where some listings hold them.
func TestLinkInPlaceOfAField(t *testing.T) {
	s := inferred(t, "Property", "Media", "Member")
	s.Infer("Property", []byte(`{"Media":[{"MediaKey":"1"}],"ListAgent":"Ann","UnitTypes":[{}]}`))
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	written := read(t, b.String())
	if err := written.Check(); err != nil {
		t.Error(err)
	}
	got := map[string]bool{}
	for _, name := range []string{"Media", "ListAgent", "UnitTypes"} {
		_, got[name] = written.Field("Property", name)
	}
	if d := cmp.Diff(map[string]bool{"Media": false, "ListAgent": true, "UnitTypes": true}, got); d != "" {
		t.Errorf("the fields: %s", d)
	}
	if l, ok := written.Link("Property", "Media"); !ok || !l.Many || l.Target != "Media" {
		t.Errorf("Media: %v %+v", ok, l)
	}
}
