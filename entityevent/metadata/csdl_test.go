package metadata_test

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent/metadata"
)

// csdl is a document read by nothing of the package under test.
type csdl struct {
	Services []struct {
		Schemas []struct {
			Namespace string     `xml:",attr"`
			Alias     string     `xml:",attr"`
			Children  []csdlNode `xml:",any"`
		} `xml:"http://docs.oasis-open.org/odata/ns/edm Schema"`
	} `xml:"http://docs.oasis-open.org/odata/ns/edmx DataServices"`
}

type csdlNode struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Children []csdlNode `xml:",any"`
	Text     string     `xml:",chardata"`
}

func (n csdlNode) attr(name string) string {
	for _, a := range n.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// walk calls f at every node with the names of those around it.
func (n csdlNode) walk(path string, f func(path string, n csdlNode)) {
	path += "/" + n.XMLName.Local
	if name := n.attr("Name"); name != "" {
		path += "=" + name
	}
	f(path, n)
	for _, c := range n.Children {
		c.walk(path, f)
	}
}

// checkCSDL holds a served document to what Go can tell of CSDL: one schema, one container at most,
// each name once, every type that is referred to declared, every set with a key and its bindings with
// sets, EntityEvent there.
func checkCSDL(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	var doc csdl
	if err := d.Decode(&doc); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if _, more := token.(xml.StartElement); err != nil || more {
			t.Fatalf("after the document: %v %v", token, err)
		}
	}
	if len(doc.Services) != 1 || len(doc.Services[0].Schemas) != 1 {
		t.Fatalf("not exactly one Schema in\n%s", text)
	}
	schema := doc.Services[0].Schemas[0]
	types, entities, sets := map[string]string{}, map[string]csdlNode{}, map[string]string{}
	seen := map[string]bool{}
	containers := 0
	for _, n := range schema.Children {
		name := schema.Namespace + "." + n.attr("Name")
		switch n.XMLName.Local {
		case "EntityType", "ComplexType", "EnumType", "TypeDefinition":
			types[name] = n.XMLName.Local
		case "EntityContainer":
			containers++
			for _, set := range n.Children {
				if set.XMLName.Local == "EntitySet" {
					sets[set.attr("Name")] = set.attr("EntityType")
				}
			}
		}
		if n.XMLName.Local == "EntityType" {
			entities[name] = n
		}
		if n.attr("Name") != "" && seen[name] && n.XMLName.Local != "Function" {
			t.Errorf("%s stands twice", name)
		}
		seen[name] = true
	}
	if containers != 1 || sets["EntityEvent"] == "" {
		t.Errorf("%d containers, EntityEvent of %q in\n%s", containers, sets["EntityEvent"], text)
	}
	refer := func(path, name string) {
		inner := strings.TrimSuffix(strings.TrimPrefix(name, "Collection("), ")")
		if strings.HasPrefix(inner, "Edm.") || strings.HasPrefix(inner, "Core.") || schema.Alias != "" && types[schema.Namespace+strings.TrimPrefix(inner, schema.Alias)] != "" {
			return
		}
		if types[inner] == "" {
			t.Errorf("%s is of the type %q, which is not declared", path, name)
		}
	}
	for _, n := range schema.Children {
		n.walk("", func(path string, n csdlNode) {
			switch n.XMLName.Local {
			case "Property", "NavigationProperty":
				refer(path, n.attr("Type"))
			case "EntitySet":
				refer(path, n.attr("EntityType"))
			case "NavigationPropertyBinding":
				if sets[n.attr("Target")] == "" {
					t.Errorf("%s is bound to %q", path, n.attr("Target"))
				}
			}
			if base := n.attr("BaseType"); base != "" {
				refer(path, base)
			}
			if n.XMLName.Local == "EntityType" || n.XMLName.Local == "ComplexType" {
				fields := map[string]bool{}
				for _, f := range n.Children {
					if name := f.attr("Name"); name != "" && fields[name] {
						t.Errorf("%s has %s twice", path, name)
					}
					fields[f.attr("Name")] = true
				}
			}
			for _, a := range n.Attrs {
				member, ok := strings.CutPrefix(a.Value, schema.Namespace+".")
				if a.Name.Local == "EnumMember" && ok && types[schema.Namespace+"."+member[:strings.IndexByte(member+"/", '/')]] != "EnumType" {
					t.Errorf("%s has the member %s of no enumeration", path, a.Value)
				}
			}
		})
	}
	for set, name := range sets {
		for n := 0; ; n++ {
			e, ok := entities[name]
			if !ok || n == 10 {
				t.Errorf("the set %s of %s has no key", set, name)
				break
			}
			if slices.ContainsFunc(e.Children, func(c csdlNode) bool { return c.XMLName.Local == "Key" }) {
				break
			}
			name = e.attr("BaseType")
		}
	}
}

// annotations are all annotations of a document, as "where: term=value".
func annotations(t *testing.T, text string) []string {
	t.Helper()
	var doc csdl
	if err := xml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, schema := range doc.Services[0].Schemas {
		for _, n := range schema.Children {
			n.walk("", func(path string, n csdlNode) {
				if n.XMLName.Local == "Annotations" {
					for _, a := range n.Children {
						a.walk(n.attr("Target"), func(path string, a csdlNode) {
							all = append(all, path+": "+a.attr("Term")+a.attr("EnumMember")+a.attr("Type"))
						})
					}
				}
				if n.XMLName.Local == "Annotation" && !strings.HasPrefix(path, "/Annotations") {
					value := n.attr("String")
					for _, c := range n.Children {
						value += c.Text
					}
					all = append(all, path+": "+n.attr("Term")+"="+value)
				}
			})
		}
	}
	slices.Sort(all)
	return all
}

func TestServedIsCSDL(t *testing.T) {
	served := func(s *metadata.Schema) string {
		s.Add(metadata.EntityEvent())
		return write(t, s)
	}
	checkCSDL(t, served(read(t, fixture(t))))
	checkCSDL(t, served(read(t, single(t))))
	checkCSDL(t, served(read(t, typed)))
	s := inferred(t, "Property", "Media", "Member", "Office", "OpenHouse", "PropertyRooms", "Teams")
	s.Infer("Property", []byte(`{"ListAgentKey":"1","A":[],"B":null,"C":{"x":1},"D":[{"x":1}],"E":[1,"x"],"F<":1}`))
	text := served(s)
	checkCSDL(t, text)
	for _, want := range []string{
		`<NavigationProperty Name="ListAgent" Type="org.reso.metadata.Member">`, `<ReferentialConstraint Property="ListAgentKey" ReferencedProperty="MemberKey"/>`,
		`<NavigationProperty Name="Rooms" Type="Collection(org.reso.metadata.PropertyRooms)"/>`, `<NavigationPropertyBinding Path="Rooms" Target="PropertyRooms"/>`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if again := read(t, text); again.Check() != nil {
		t.Error(again.Check())
	}
}

// TestMergingKeepsAnnotations wherever they stand, with the names of what was merged.
func TestMergingKeepsAnnotations(t *testing.T) {
	before := annotations(t, fixture(t))
	for i := range before {
		before[i] = strings.NewReplacer("org.reso.metadata.enums.", "org.reso.metadata.", "org.reso.service.", "org.reso.metadata.").Replace(before[i])
	}
	slices.Sort(before)
	after := annotations(t, write(t, read(t, fixture(t))))
	if d := cmp.Diff(before, after); d != "" || len(before) < 15 {
		t.Errorf("%d annotations\n%s", len(before), d)
	}
	s := read(t, fixture(t))
	if f, _ := s.Field("Property", "PostalCode"); f.Lookup != "PostalCode" {
		t.Errorf("the annotation from outside is not read: %+v", f)
	}
	if e, ok := s.Scope("Property").Enum("org.reso.metadata.enums.PropertyType"); !ok || len(e.Members) != 5 || e.Flags {
		t.Errorf("%+v", e)
	}
	if e, ok := s.Scope("Property").Enum("reso.PropertyType"); !ok || len(e.Members) != 5 {
		t.Errorf("by the alias of the schema that is served: %+v", e)
	}
	if e, ok := s.Scope("Property").Enum("ShowingDays"); !ok || !e.Flags {
		t.Errorf("%+v", e)
	}
	if f, _ := s.Field("Property", "X_Address"); f.Type != "org.reso.metadata.X_Address" {
		t.Errorf("%+v", f)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

func TestMergingRewritesEveryReference(t *testing.T) {
	s := read(t, `<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" xmlns:sap="urn:sap"><edmx:Reference Uri="x"><edmx:Include Namespace="b" Alias="bee"/></edmx:Reference><edmx:DataServices>
<Schema Namespace="b" Alias="B" xmlns="http://docs.oasis-open.org/odata/ns/edm">
 <EnumType Name="Home"><Member Name="X" Value="1"/></EnumType><TypeDefinition Name="Money" UnderlyingType="Edm.Decimal"/>
 <Term Name="Note" Type="Edm.String"/><Function Name="F"><ReturnType Type="b.Home"/></Function><Function Name="F"><Parameter Name="p" Type="Collection(B.Home)"/><ReturnType Type="b.Money"/></Function>
 <ComplexType Name="Home2"/>
 <EntityContainer Name="C2"><EntitySet Name="Other" EntityType="a.Home"/><FunctionImport Name="F" Function="b.F"/></EntityContainer>
</Schema>
<Schema Namespace="a" xmlns="http://docs.oasis-open.org/odata/ns/edm">
 <EntityType Name="Home"><Key><PropertyRef Name="K"/></Key><Property Name="K" Type="Edm.String" sap:Type="b.Home"/><Property Name="H" Type="b.Home"/><Property Name="I" Type="Collection(bee.Home)" DefaultValue="X"/><Property Name="J" Type="b.Home2"/>
  <Annotation Term="b.Note" String="b.Home"/><Annotation Term="x.Enums"><Collection><EnumMember>b.Home/X b.Home/X</EnumMember></Collection></Annotation></EntityType>
 <EntityContainer Name="C"><EntitySet Name="Homes" EntityType="a.Home"/></EntityContainer>
 <Annotations Target="b.C2/Other"><Annotation Term="B.Note" String="kept" xml:lang="en"/></Annotations>
</Schema></edmx:DataServices></edmx:Edmx>`)
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	s.Add(metadata.EntityEvent())
	text := write(t, s)
	checkCSDL(t, text)
	for _, want := range []string{
		`<EnumType Name="Home2">`, `<ComplexType Name="Home22"/>`, `<Property Name="H" Type="a.Home2"/>`, `<Property Name="I" Type="Collection(a.Home2)" DefaultValue="X"/>`,
		`<Property Name="J" Type="a.Home22"/>`, `<ReturnType Type="a.Home2"/>`, `<Parameter Name="p" Type="Collection(a.Home2)"/>`, `<ReturnType Type="a.Money"/>`,
		`Function="a.F"`, `<Annotation Term="a.Note" String="b.Home"/>`, `<EnumMember>a.Home2/X a.Home2/X</EnumMember>`, `<Annotations Target="a.C/Other">`, `String="kept" xml:lang="en"/>`,
		`="urn:sap" n2:Type="b.Home"/>`, `<EntitySet Name="Other" EntityType="a.Home"/>`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if e, ok := s.Scope("Homes").Enum("bee.Home"); !ok || e.Name != "a.Home2" {
		t.Errorf("an alias of a reference: %+v", e)
	}
}

func TestCheck(t *testing.T) {
	const head = `<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices><Schema Namespace="a" xmlns="http://docs.oasis-open.org/odata/ns/edm">
`
	const key = `<Key><PropertyRef Name="K"/></Key><Property Name="K" Type="Edm.String"/>`
	for inside, want := range map[string]string{
		`<EntityType Name="A">` + key + `</EntityType>`:                                              "",
		"\n" + `<EntityType Name="A">` + key + "\n" + `<Property Name="X" Type="a.B"/></EntityType>`: "line 4: A/X is of the type a.B, which is not declared",
		`<EntityType Name="A">` + key + "\n" + `<Property Name="K" Type="Edm.Date"/></EntityType>`:   `line 3: A has a second Property named "K"`,
		`<EntityType Name="A">` + key + `</EntityType>` + "\n" + `<EnumType Name="A"/>`:              "line 2: a.A is declared a second time",
		`<EntityType Name="A"/>`: "line 2: A has no Key of exactly one field",
		`<EntityType Name="A"><Key><PropertyRef Name="X"/></Key></EntityType>`:                                                                                                                       "line 2: A has no Property X, which is its Key",
		`<EntityType Name="A"><Key><PropertyRef Name="X"/></Key><Property Name="X" Type="Collection(Edm.String)"/></EntityType>`:                                                                     "line 2: the Key X of A is a collection",
		`<EntityType Name="A" Abstract="true"/>`:                                                                                                                                                     "",
		`<EntityType Name="A" BaseType="a.A">` + key + `</EntityType>`:                                                                                                                               "",
		`<EntityType Name="A" BaseType="a.B">` + key + `</EntityType>`:                                                                                                                               "line 2: A is of the type a.B, which is not declared",
		`<EntityType Name="A">` + key + `<Property Name="X" Type="Edm.String" MaxLength="long"/></EntityType>`:                                                                                       `line 2: A/X has the MaxLength "long", which is no number`,
		`<EntityType Name="A">` + key + `<Property Name="X" Type="Edm.String" MaxLength="max"/><Property Name="Y" Type="Edm.Decimal" Scale="variable"/></EntityType>`:                                "",
		`<EntityType Name="A">` + key + `<Property Name="X"/></EntityType>`:                                                                                                                          "line 2: A/X has no Type",
		`<EntityType Name="A">` + key + `</EntityType><EnumType Name="E"><Member Name="m"/><Member Name="m"/></EnumType>`:                                                                            `line 2: E has a second Member named "m"`,
		`<EntityType Name="A">` + key + `</EntityType><EntityContainer Name="C"><EntitySet Name="S" EntityType="a.B"/></EntityContainer>`:                                                            "line 2: the EntitySet S is of the type a.B, which is no EntityType here",
		`<EntityType Name="A">` + key + `</EntityType><EntityContainer Name="C"><EntitySet Name="S" EntityType="a.A"/>` + "\n" + `<EntitySet Name="S" EntityType="a.A"/></EntityContainer>`:          "line 3: the EntitySet S is declared a second time",
		`<EntityType Name="A">` + key + `</EntityType><EntityContainer Name="C"><EntitySet Name="S" EntityType="a.A"><NavigationPropertyBinding Path="M" Target="N"/></EntitySet></EntityContainer>`: "line 2: the EntitySet S binds M to N, which is no EntitySet",
	} {
		got := ""
		if err := read(t, head+inside+`</Schema></edmx:DataServices></edmx:Edmx>`).Check(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s\n%s, want\n%s", inside, got, want)
		}
	}
	if _, err := metadata.Read(strings.NewReader(head + "<EntityType>\n</Schema>")); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("%v", err)
	}
}
