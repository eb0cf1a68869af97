package metadata_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/resosync/resosync/entityevent/metadata"
)

const smallest = `<edmx:Edmx xmlns:edmx="x"><edmx:DataServices><Schema Namespace="a"><EntityType Name="B"><Key><PropertyRef Name="K"/></Key><Property Name="K" Type="Edm.String"/></EntityType></Schema></edmx:DataServices></edmx:Edmx>`

// FuzzRead: what is read can be asked, grown, written and read again as the same.
func FuzzRead(f *testing.F) {
	f.Add([]byte(smallest))
	f.Add([]byte(strings.Replace(smallest, "</EntityType>", `<NavigationProperty Name="N" Type="Collection(a.B)"/></EntityType><EntityType Name="C" BaseType="a.C"/><EnumType Name="E"><Member Name="m"/></EnumType><EntityContainer Name="x"><EntitySet Name="Bs" EntityType="a.B"/></EntityContainer>`, 1)))
	schema := `<Schema Namespace="%s" Alias="%[1]s1"><EntityType Name="B"><Property Name="K" Type="Collection(b.C)"/></EntityType><ComplexType Name="C"/></Schema>`
	f.Add([]byte(`<Edmx><DataServices>` + fmt.Sprintf(schema, "a") + fmt.Sprintf(schema, "b") + `</DataServices></Edmx>`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := metadata.Read(bytes.NewReader(raw))
		if err != nil {
			return
		}
		before := s.Resources()
		s.Add(metadata.EntityEvent())
		for _, resource := range s.Resources() {
			s.KeyField(resource)
			s.HasMember(resource, "X")
		}
		var text bytes.Buffer
		if err := s.Write(&text); err != nil {
			t.Fatal(err)
		}
		again, err := metadata.Read(bytes.NewReader(text.Bytes()))
		if err != nil {
			t.Fatalf("%q is written as %q, which is refused: %v", raw, text.Bytes(), err)
		}
		if !reflect.DeepEqual(again.Resources(), s.Resources()) || len(again.Resources()) < len(before) {
			t.Fatalf("resources %q became %q", s.Resources(), again.Resources())
		}
		for _, resource := range s.Resources() {
			name, kind, ok := s.KeyField(resource)
			name2, kind2, ok2 := again.KeyField(resource)
			if name != name2 || kind != kind2 || ok != ok2 {
				t.Fatalf("the key of %q was %q %q %v, is %q %q %v", resource, name, kind, ok, name2, kind2, ok2)
			}
		}
	})
}

// FuzzInfer: a schema that has seen a record is wide enough for it, and for it written and read again.
func FuzzInfer(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"ListingKey":"1","ListPrice":1,"A":[1,2.5],"B":null}`, `{"ListPrice":1.5,"A":["x"],"B":"2024-05-06T07:08:09Z"}`},
		{`{"A":[[1]],"B":"2024-05-06"}`, `{"A":[],"B":true}`}, {`{"A":1e999,"A":"x"}`, `{"@odata.id":"x","":1,"AKey":7}`}, {`[]`, `{"A":`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := &metadata.Schema{Namespace: metadata.Namespace}
		for _, body := range [][]byte{first, second} {
			s.Infer("Thing", body)
		}
		for _, body := range [][]byte{second, first} {
			if s.Infer("Thing", body) {
				t.Fatalf("it was not wide enough for %q", body)
			}
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again metadata.Schema
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		if utf8.Valid(first) && utf8.Valid(second) && (again.Infer("Thing", first) || again.Infer("Thing", second)) {
			t.Fatalf("kept as %s it is not wide enough for %q and %q", text, first, second)
		}
	})
}

// TestHostileDocument is read, or refused, in a time that grows with its length alone.
func TestHostileDocument(t *testing.T) {
	const many = 50_000
	document := func(inside string) string {
		return `<Edmx><DataServices><Schema Namespace="a">` + inside + `</Schema></DataServices></Edmx>`
	}
	types := strings.Repeat(`<EntityType Name="B"/>`, many)
	sets := strings.Repeat(`<EntitySet Name="S" EntityType="a.C"/>`, many)
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"types of one name":    {document(types), true},
		"sets of no type":      {document(types + `<EntityContainer>` + sets + `</EntityContainer>`), true},
		"many schemas":         {`<Edmx><DataServices>` + strings.Repeat(`<Schema Namespace="a"><EntityType Name="B"/></Schema>`, many) + `</DataServices></Edmx>`, true},
		"deeply nested":        {document(strings.Repeat(`<x>`, many)), false},
		"nested in a type":     {document(strings.Repeat(`<EntityType Name="B">`, many)), false},
		"deeply nested, whole": {document(types[:22] + strings.Repeat(`<x>`, 100) + strings.Repeat(`</x>`, 100)), true},
		"an entity bomb":       {`<!DOCTYPE x [<!ENTITY a "` + strings.Repeat("a", 1000) + `"><!ENTITY b "&a;&a;&a;">]>` + document(`<EntityType Name="&b;"/>`), false},
		"a circle of bases":    {document(`<EntityType Name="B" BaseType="a.C"/><EntityType Name="C" BaseType="a.B"/>`), true},
		"no schema":            {`<Edmx/>`, false},
		"nothing":              {``, false},
	} {
		s, err := metadata.Read(strings.NewReader(c.text))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			if len(err.Error()) > 500 {
				t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
			}
			continue
		}
		if err := s.Write(&bytes.Buffer{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, ok := s.KeyField("B"); ok {
			t.Errorf("%s: B has a key", name)
		}
	}
}
