package metadata_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent/metadata"
)

func read(t *testing.T, text string) *metadata.Schema {
	t.Helper()
	s, err := metadata.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, s *metadata.Schema) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func fixture(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../testdata/metadata.xml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// single is the fixture with one schema, in the notations of other hands than ours.
func single(t *testing.T) string {
	t.Helper()
	text := write(t, read(t, fixture(t)))
	return strings.ReplaceAll(text, "  ", "\t") + "<!-- made by hand -->\n"
}

func TestOneSchemaIsWrittenAsItWas(t *testing.T) {
	text := single(t)
	s := read(t, text)
	if got := write(t, s); got != text {
		t.Error(cmp.Diff(text, got))
	}
	name, edmType, ok := s.KeyField("OpenHouse")
	if name != "OpenHouseKey" || edmType != "Edm.Int64" || !ok {
		t.Errorf("key of OpenHouse: %s %s %v", name, edmType, ok)
	}
	if _, _, ok := s.KeyField("Teams"); ok {
		t.Error("Teams has a key though the document does not have it")
	}
	f, ok := s.Field("Property", "StandardStatus")
	if want := (metadata.Field{Name: "StandardStatus", Type: "Edm.String", Nullable: true, Lookup: "StandardStatus"}); !ok || f != want {
		t.Errorf("StandardStatus: %+v", f)
	}
	if !s.HasMember("Property", "Media") || s.HasMember("Property", "Wings") {
		t.Error("HasMember does not know navigations, or knows too much")
	}
}

func TestAddIntoTheDocumentThatWasRead(t *testing.T) {
	bare := `<E:Edmx xmlns:E="http://docs.oasis-open.org/odata/ns/edmx"><E:DataServices><d:Schema xmlns:d="http://docs.oasis-open.org/odata/ns/edm" Namespace="x"><d:EntityType Name="Foo"><d:Key><d:PropertyRef Name="K"/></d:Key><d:Property Name="K" Type="Edm.String"/></d:EntityType></d:Schema></E:DataServices></E:Edmx>`
	closed := strings.Replace(bare, "</d:Schema>", `<d:EntityContainer Name="C"/></d:Schema>`, 1)
	typeOnly := strings.Replace(bare, "</d:Schema>", `<d:EntityType Name="EntityEvent"><d:Key><d:PropertyRef Name="EntityEventSequence"/></d:Key><d:Property Name="EntityEventSequence" Type="Edm.Int64"/></d:EntityType><d:EntityContainer Name="C"><d:EntitySet Name="Foo" EntityType="x.Foo"/></d:EntityContainer></d:Schema>`, 1)
	for _, text := range []string{fixture(t), single(t), bare, closed, typeOnly} {
		s := read(t, text)
		s.Add(metadata.EntityEvent())
		s.Add(&metadata.EntityType{Name: "Extra", Key: []string{"ExtraKey"}, Fields: []metadata.Field{{Name: "ExtraKey", Type: "Edm.String"}}})
		s.Add(metadata.EntityEvent())
		got := write(t, s)
		checkCSDL(t, got)
		again := read(t, got)
		if d := cmp.Diff(append(read(t, text).Resources(), "EntityEvent", "Extra"), again.Resources()); d != "" {
			t.Errorf("%s\n%s", d, got)
		}
		for _, resource := range again.Resources() {
			if _, _, ok := again.KeyField(resource); !ok {
				t.Errorf("%s has no key in\n%s", resource, got)
			}
		}
		if n := strings.Count(got, "Schema>"); n != 1 {
			t.Errorf("%d ends of schemas", n)
		}
	}
}

func TestSeveralSchemasBecomeOne(t *testing.T) {
	s := read(t, `<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
<Schema Namespace="a.enums" Alias="en" xmlns="http://docs.oasis-open.org/odata/ns/edm">
 <EnumType Name="Status" UnderlyingType="Edm.Int32" IsFlags="true"><Member Name="Active" Value="1"/><Member Name="Sold"/></EnumType>
 <EnumType Name="Property"><Member Name="X"/></EnumType>
</Schema>
<Schema Namespace="a" xmlns="http://docs.oasis-open.org/odata/ns/edm">
 <EntityType Name="Base" Abstract="true"><Key><PropertyRef Name="Id"/></Key><Property Name="Id" Type="Edm.Int64" Nullable="false"/></EntityType>
 <EntityType Name="Property" BaseType="a.Base"><Property Name="Status" Type="en.Status"/><Property Name="Kinds" Type="Collection(a.enums.Property)"/><NavigationProperty Name="Members" Type="Collection(a.Member)"/></EntityType>
 <EntityType Name="Member"><Key><PropertyRef Name="K&lt;"/></Key><Property Name="K&lt;" Type="Edm.String"/></EntityType>
</Schema>
<Schema Namespace="Default" xmlns="http://docs.oasis-open.org/odata/ns/edm"><EntityContainer Name="C"><EntitySet Name="Property" EntityType="a.Property"/><EntitySet Name="People" EntityType="a.Member"/></EntityContainer></Schema>
</edmx:DataServices></edmx:Edmx>`)
	text := write(t, s)
	if n := strings.Count(text, "<Schema "); n != 1 {
		t.Errorf("%d schemas in\n%s", n, text)
	}
	again := read(t, text)
	if d := cmp.Diff([]string{"Property", "People"}, again.Resources()); d != "" {
		t.Error(d)
	}
	if name, edmType, ok := again.KeyField("Property"); name != "Id" || edmType != "Edm.Int64" || !ok {
		t.Errorf("inherited key: %s %s %v", name, edmType, ok)
	}
	if name, _, _ := again.KeyField("People"); name != "K<" {
		t.Errorf("key of People: %s", name)
	}
	status, _ := again.Field("Property", "Status")
	kinds, _ := again.Field("Property", "Kinds")
	if status.Type != "a.Status" || kinds.Type != "Collection(a.Property2)" {
		t.Errorf("types %s and %s", status.Type, kinds.Type)
	}
	if d := cmp.Diff(s.Enums, again.Enums); d != "" || len(s.Enums) != 2 {
		t.Error(d)
	}
}

func TestReadRefuses(t *testing.T) {
	for _, text := range []string{"", "<html></html>", "{}", "<a><b></a>", `<edmx:Edmx xmlns:edmx="x"><edmx:DataServices/></edmx:Edmx>`} {
		if s, err := metadata.Read(strings.NewReader(text)); err == nil {
			t.Errorf("%s: read as %+v", text, s)
		}
	}
}

func TestReadsTheRecordedServer(t *testing.T) {
	path, err := filepath.Abs("../../../shared/capture/metadata.xml")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("SKIPPED: the recorded server is not here: %v", err)
	}
	s := read(t, string(raw))
	if n := len(s.Resources()); n != 15 {
		t.Errorf("%d resources", n)
	}
	for _, resource := range s.Resources() {
		name, _, ok := s.KeyField(resource)
		known, _ := metadata.KnownKey(resource)
		if !ok || name != known {
			t.Errorf("%s: key %s, by the Data Dictionary %s", resource, name, known)
		}
	}
	if got := write(t, s); got != string(raw) {
		t.Error("not written as it was read")
	}
}

func TestInfer(t *testing.T) {
	s := &metadata.Schema{Namespace: metadata.Namespace}
	if !s.Infer("Property", []byte(`{"@odata.id":"x","ListPrice":1,"OfficeKey":"o","ListingKey":"7","A":null,"T":"2026-01-01T10:00:00.5Z","D":"2026-01-01","B":true,"C":["a"],"E":[],"Media@odata.count":1,"Media":[{"MediaKey":"1"}],"G":{"type":"Point"}}`)) {
		t.Error("a first record changes nothing")
	}
	second := []byte(`{"ListingKey":"8","ListPrice":1.5,"A":5,"T":"2026-01-01T10:00:00+01:00","D":"soon","B":null,"C":[],"E":[1],"N":18446744073709551615}`)
	if !s.Infer("Property", second) || s.Infer("Property", second) {
		t.Error("a record changes nothing at first, or something when it comes again")
	}
	s.Infer("Local", []byte(`{"Name":"a","LocalKey":5,"OtherKey":"b"}`))
	s.Infer("Local", []byte(`{"LocalKey":"x"}`))
	want := []metadata.Field{
		{Name: "ListPrice", Type: "Edm.Decimal", Nullable: true}, {Name: "OfficeKey", Type: "Edm.String", Nullable: true},
		{Name: "ListingKey", Type: "Edm.String"}, {Name: "A", Type: "Edm.Int64", Nullable: true},
		{Name: "T", Type: "Edm.DateTimeOffset", Nullable: true}, {Name: "D", Type: "Edm.String", Nullable: true},
		{Name: "B", Type: "Edm.Boolean", Nullable: true}, {Name: "C", Type: "Collection(Edm.String)"},
		{Name: "E", Type: "Collection(Edm.Int64)"}, {Name: "Media", Type: "Collection(Edm.Untyped)"},
		{Name: "G", Type: "Edm.Untyped", Nullable: true}, {Name: "N", Type: "Edm.Decimal", Nullable: true},
	}
	if d := cmp.Diff(want, s.Type("Property").Fields); d != "" {
		t.Error(d)
	}
	for resource, key := range map[string]string{"Property": "ListingKey", "Local": "LocalKey"} {
		if name, edmType, ok := s.KeyField(resource); name != key || edmType != "Edm.String" || !ok {
			t.Errorf("key of %s: %s %s %v", resource, name, edmType, ok)
		}
	}
	for _, body := range []string{"", "[]", "null", `{"a":`, `{"a" 1}`} {
		if s.Infer("Property", []byte(body)) {
			t.Errorf("%s changes the schema", body)
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back metadata.Schema
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if write(t, s) != write(t, &back) {
		t.Error("the schema changes on its way through JSON")
	}
	if got := read(t, write(t, s)); len(got.Resources()) != 2 {
		t.Errorf("resources %v", got.Resources())
	}
}

func TestKnownKeys(t *testing.T) {
	for resource, want := range map[string]string{
		"Property": "ListingKey", "PropertyRooms": "RoomKey", "PropertyUnitTypes": "UnitTypeKey", "Teams": "TeamKey",
		"OUID": "OrganizationUniqueIdKey", "Media": "MediaKey", "Lookup": "LookupKey", "EntityEvent": "EntityEventSequence",
	} {
		if got, ok := metadata.KnownKey(resource); got != want || !ok {
			t.Errorf("%s: %s", resource, got)
		}
		if got, ok := metadata.KnownResource(strings.ToLower(resource)); got != resource || !ok {
			t.Errorf("%s by its lower case: %s", resource, got)
		}
	}
	if _, ok := metadata.KnownKey("property"); ok {
		t.Error("names of resources are case-sensitive")
	}
}

func TestChooseKey(t *testing.T) {
	for _, c := range []struct{ resource, members, want string }{
		{"Property", "PropertyKey AKey ListingKey", "ListingKey"}, {"Property", "AKey PropertyKey", "PropertyKey"},
		{"MyShowing", "ListingKey MyShowingKey", "MyShowingKey"}, {"MyShowing", "ListingKey Key@odata.type x@Key", "ListingKey"},
		{"MyShowing", "ListingKey AgentKey", ""}, {"MyShowing", "MyShowingId Keys", ""}, {"MyShowing", "", ""},
	} {
		if got, ok := metadata.ChooseKey(c.resource, strings.Fields(c.members)); got != c.want || ok != (c.want != "") {
			t.Errorf("%s of %s: %q %v, want %q", c.resource, c.members, got, ok, c.want)
		}
	}
}
