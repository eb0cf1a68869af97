package metadata_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent/metadata"
)

// some is a part that is given by its resources, and by what is hidden of them.
type some struct {
	resources []string
	hidden    map[string][]string
}

func (s some) Resource(name string) bool         { return slices.Contains(s.resources, name) }
func (s some) Member(resource, name string) bool { return !slices.Contains(s.hidden[resource], name) }

const partly = `<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">
<edmx:DataServices><Schema Namespace="a.b" Alias="x" xmlns="http://docs.oasis-open.org/odata/ns/edm">
<EnumType Name="Shown"><Member Name="S" Value="0"/></EnumType>
<EnumType Name="Secret"><Member Name="S" Value="0"/></EnumType>
<TypeDefinition Name="OfSecret" UnderlyingType="Edm.String"/>
<ComplexType Name="Used"><Property Name="In" Type="Collection(x.Shown)"/><NavigationProperty Name="ToHidden" Type="x.HiddenType"/></ComplexType>
<ComplexType Name="Alone"><Property Name="In" Type="a.b.OfSecret"/></ComplexType>
<EntityType Name="Base" Abstract="true"><Key><PropertyRef Name="Id"/></Key>
  <Property Name="Id" Type="Edm.String" Nullable="false"/><Property Name="Common" Type="Edm.String"/><Property Name="Never" Type="a.b.Secret"/></EntityType>
<EntityType Name="Listing" BaseType="a.b.Base">
  <Property Name="Price" Type="Edm.Decimal"><Annotation Term="T.Note" Path="Never"/><Annotation Term="T.Other" String="stays"/></Property>
  <Property Name="Key2" Type="Edm.String"/><Property Name="Place" Type="x.Used"/>
  <NavigationProperty Name="Agents" Type="Collection(a.b.Agent)" Partner="Of"/>
  <NavigationProperty Name="Hidden" Type="x.HiddenType" Partner="Listing"/>
  <NavigationProperty Name="ByNever" Type="a.b.Agent"><ReferentialConstraint Property="Never" ReferencedProperty="Id"/></NavigationProperty>
</EntityType>
<EntityType Name="Villa" BaseType="x.Listing"><Property Name="Pool" Type="Edm.Boolean"/></EntityType>
<EntityType Name="Agent" BaseType="x.Base"><Property Name="Fee" Type="Edm.Decimal"/><NavigationProperty Name="Of" Type="x.Listing" Partner="Agents"/></EntityType>
<EntityType Name="HiddenType" BaseType="x.Base"><Property Name="InHidden" Type="x.Alone"/><NavigationProperty Name="Listing" Type="x.Listing"/></EntityType>
<Function Name="Of"><ReturnType Type="Collection(x.HiddenType)"/></Function>
<Action Name="Do"><Parameter Name="p" Type="x.Listing"/></Action>
<EntityContainer Name="C">
  <EntitySet Name="Listings" EntityType="x.Listing"><NavigationPropertyBinding Path="Agents" Target="Agents"/><NavigationPropertyBinding Path="Hidden" Target="C/Hiddens"/></EntitySet>
  <EntitySet Name="Agents" EntityType="a.b.Agent"/>
  <EntitySet Name="Hiddens" EntityType="a.b.HiddenType"/>
  <Singleton Name="Top" Type="x.HiddenType"/><FunctionImport Name="Ofs" Function="a.b.Of" EntitySet="Hiddens"/>
</EntityContainer>
<Annotations Target="a.b.Listing/Never"><Annotation Term="T.Note" String="of what is hidden"/></Annotations>
<Annotations Target="a.b.C/Hiddens"><Annotation Term="T.Note" String="of a set"/></Annotations>
<Annotations Target="x.Secret"><Annotation Term="T.Note" String="of an enumeration"/></Annotations>
<Annotations Target="x.Listing/Price"><Annotation Term="T.Note" String="of a price"/><Annotation Term="T.Paths"><Collection><PropertyPath>Never</PropertyPath></Collection></Annotation></Annotations>
<Annotations Target="x.Villa/Pool"><Annotation Term="T.OneEnum" EnumMember="x.Secret/S"/><Annotation Term="T.ShownEnum" EnumMember="a.b.Shown/S"/>
  <Annotation Term="T.Enums"><Collection><EnumMember>x.Shown/S
    a.b.Secret/S</EnumMember></Collection></Annotation></Annotations>
</Schema></edmx:DataServices></edmx:Edmx>`

// TestWritePart: what is not of the part is nowhere in the document, and what is stays, as a document without faults.
func TestWritePart(t *testing.T) {
	s, err := metadata.Read(strings.NewReader(partly))
	if err != nil || s.Check() != nil {
		t.Fatal(err, s.Check())
	}
	s.Add(metadata.EntityEvent())
	for _, c := range []struct {
		name       string
		part       some
		has, lacks []string
	}{
		{"all", some{resources: []string{"Listings", "Agents", "Hiddens", "EntityEvent"}}, []string{"HiddenType", "Never", "Hiddens", "Secret", "Alone", "of what is hidden", "Singleton", `Partner="Of"`, "Pool", "T.OneEnum", "T.Enums"}, nil},
		{"one", some{[]string{"Listings", "EntityEvent"}, map[string][]string{"Listings": {"Never"}}},
			[]string{`Name="Base"`, "Common", "Villa", "Pool", "stays", "of a price", "Shown", "Used", "Do", "EntityEventSequence", `Name="Id"`, "T.ShownEnum"},
			[]string{"Never", "Agent", "Hidden", "Secret", "Alone", `"Of"`, "Ofs", "Top", "of a set", "of what", "of an", "T.Paths", "Fee", "T.OneEnum", "T.Enums"}},
		{"two", some{[]string{"Listings", "Agents"}, map[string][]string{"Listings": {"Never", "Agents"}, "Agents": {"Fee"}}},
			[]string{"Never", "Secret", `Name="Of"`}, []string{`"Agents" Type`, "Partner", "Fee", "Hidden", "ByHidden", "EntityEvent", `Path="Agents"`}},
		{"none", some{}, []string{"Schema"}, []string{"EntityType", "EntitySet", "Secret", "Shown"}},
	} {
		var b strings.Builder
		if err := s.WritePart(&b, c.part); err != nil {
			t.Fatal(err)
		}
		for _, text := range c.has {
			if !strings.Contains(b.String(), text) {
				t.Errorf("%s: %s is missing", c.name, text)
			}
		}
		for _, text := range c.lacks {
			if at := strings.Index(b.String(), text); at >= 0 {
				t.Errorf("%s: %s is there: %s", c.name, text, b.String()[max(0, at-60):min(at+60, b.Len())])
			}
		}
		if c.name == "none" {
			continue
		}
		read, err := metadata.Read(strings.NewReader(b.String()))
		if err != nil || read.Check() != nil {
			t.Errorf("%s: %v %v\n%s", c.name, err, read.Check(), b.String())
		}
	}
}
