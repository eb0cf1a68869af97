package metadata_test

import (
	"fmt"
	"testing"

	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/odata"
)

// typeOf writes the type of a field of a resource, "" if a filter does not know it.
func typeOf(s *metadata.Schema, resource, field string) string {
	scope := s.Scope(resource)
	if scope == nil {
		return "no resource"
	}
	t, ok := scope.Field(field)
	if !ok {
		return ""
	}
	return t.String()
}

func TestScopeOfInferred(t *testing.T) {
	s := &metadata.Schema{Namespace: metadata.Namespace}
	if got := typeOf(s, "Property", "ListingKey"); got != "Edm.String" {
		t.Errorf("the key of a resource without records: %q", got)
	}
	if s.Scope("Boat") != nil {
		t.Error("a resource that nobody knows has a scope")
	}
	s.Infer("Property", []byte(`{"ListPrice":1,"N":null,"A":["a"],"B":true,"D":"2026-01-01","G":{"a":1},"ModificationTimestamp":"yesterday"}`))
	early := s.Scope("Property")
	for field, want := range map[string]string{
		"ListPrice": "Edm.Int64", "N": "Edm.Untyped", "A": "Collection(Edm.String)", "B": "Edm.Boolean", "D": "Edm.Date",
		"G": "Edm.Untyped", "ListingKey": "Edm.String", "ModificationTimestamp": "Edm.DateTimeOffset", "Other": "", "listprice": "",
	} {
		if got := typeOf(s, "Property", field); got != want {
			t.Errorf("%s is %q, not %q", field, got, want)
		}
	}
	s.Infer("Property", []byte(`{"ListPrice":1.5}`))
	if got := typeOf(s, "Property", "ListPrice"); got != "Edm.Decimal" {
		t.Errorf("a wider field is %s", got)
	}
	s.Infer("Property", []byte(`{"Other":1}`))
	if _, ok := early.Field("Other"); ok {
		t.Error("a scope changed while the schema grew")
	}
	if typeOf(s, "Property", "Other") != "Edm.Int64" {
		t.Error("a later scope does not know what was learned")
	}
	s.Infer("Boat", []byte(`{"BoatKey":7}`))
	if got := typeOf(s, "Boat", "BoatKey"); got != "Edm.String" {
		t.Errorf("an inferred key: %q", got)
	}
}

func TestScopeOfADocument(t *testing.T) {
	s := read(t, `<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
<Schema Namespace="a.enums" Alias="en" xmlns="http://docs.oasis-open.org/odata/ns/edm">
 <EnumType Name="Status" IsFlags="true"><Member Name="Active"/><Member Name="Sold"/></EnumType>
 <EnumType Name="Home"><Member Name="X"/></EnumType>
</Schema>
<Schema Namespace="a" Alias="self" xmlns="http://docs.oasis-open.org/odata/ns/edm">
 <EnumType Name="Status"><Member Name="Other"/></EnumType>
 <ComplexType Name="Place"><Property Name="City" Type="Edm.String"/><Property Name="Within" Type="self.Place"/></ComplexType>
 <ComplexType Name="Corner" BaseType="a.Place"><Property Name="Status" Type="en.Status"/></ComplexType>
 <EntityType Name="Base" Abstract="true"><Key><PropertyRef Name="Id"/></Key><Property Name="Id" Type="Edm.Int16"/></EntityType>
 <EntityType Name="Home" BaseType="a.Base"><Property Name="Status" Type="en.Status"/><Property Name="Kinds" Type="Collection(a.enums.Home)"/><Property Name="At" Type="a.Corner"/>
  <Property Name="Double" Type="Edm.Double"/><Property Name="Guid" Type="Edm.Guid"/><Property Name="Time" Type="Edm.TimeOfDay"/><Property Name="Length" Type="Edm.Duration"/></EntityType>
</Schema></edmx:DataServices></edmx:Edmx>`)
	for field, want := range map[string]string{
		"Id": "Edm.Int64", "Kinds": "Collection(a.Home2)", "Double": "Edm.Decimal", "Guid": "Edm.Guid", "Time": "Edm.TimeOfDay",
		"Length": "Edm.ComplexType", "At": "Edm.ComplexType", "ModificationTimestamp": "", "ListingKey": "",
	} {
		if got := typeOf(s, "Home", field); got != want {
			t.Errorf("%s is %q, not %q", field, got, want)
		}
	}
	if s.Scope("Place") != nil || s.Scope("Property") != nil {
		t.Error("a scope of what is no resource of the document")
	}
	scope := s.Scope("Home")
	at, _ := scope.Field("At")
	inner, ok := at.Fields.Field("Within")
	if city, ok2 := inner.Fields.Field("City"); !ok || !ok2 || city.Kind != odata.String {
		t.Errorf("At/Within/City is %v", city)
	}
	if status, _ := at.Fields.Field("Status"); status.Enum == nil || !status.Enum.Flags {
		t.Errorf("At/Status is %v", status)
	}
	if _, ok := at.Fields.Field("Id"); ok {
		t.Error("At has an Id")
	}
	for name, want := range map[string]string{
		"a.enums.Status": "[Active Sold]", "en.Status": "[Active Sold]", "a.Status2": "[Active Sold]",
		"self.Status": "[Other]", "a.Status": "[Other]", "Status": "[Other]", "a.enums.Home": "[X]", "Home": "[X]", "en.Home": "[X]",
		"self.Status2": "[Active Sold]", "a.Home2": "[X]", "self.Home2": "[X]", // as $metadata calls them
		"b.Status": "[]", "": "[]", "Base": "[]",
	} {
		var members []string
		if e, ok := scope.Enum(name); ok {
			members = e.Members
		}
		if got := fmt.Sprint(members); got != want {
			t.Errorf("%s has the members %s, not %s", name, got, want)
		}
	}
}
