package metadata

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"slices"

	"github.com/resosync/resosync/entityevent/odata"
)

const edm = "http://docs.oasis-open.org/odata/ns/edm"

// Write writes the schema as EDMX with exactly one Schema element. A document with one is written as it was
// read, with what was added since at the ends of its schema and its container. Of an inferred schema it leaves out
// what has no Identifier for a name.
func (s *Schema) Write(w io.Writer) error {
	if s.raw != nil {
		_, err := w.Write(s.raw)
		return err
	}
	b := &bytes.Buffer{}
	b.WriteString(xml.Header + `<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">` + "\n  <edmx:DataServices>\n")
	fmt.Fprintf(b, "    <Schema Namespace=%s xmlns=%q>\n", attr(s.Namespace), edm)
	for _, t := range s.Types {
		if s.Shows(t.Name) {
			s.writeType(b, t, "")
		}
	}
	b.WriteString("      <EntityContainer Name=\"Container\">\n")
	for _, set := range s.sets() {
		if s.Shows(set.Name) {
			s.writeSet(b, set, "")
		}
	}
	b.WriteString("      </EntityContainer>\n    </Schema>\n  </edmx:DataServices>\n</edmx:Edmx>\n")
	_, err := w.Write(b.Bytes())
	return err
}

// Shows says whether Write writes a resource: one that it has, unless records brought a name, or a key, that is none.
func (s *Schema) Shows(resource string) bool {
	t := s.Type(resource)
	return t != nil && (s.read || Identifier(resource) && !slices.ContainsFunc(t.Key, func(key string) bool { return !Identifier(key) }))
}

// sets returns the resources.
func (s *Schema) sets() []Set {
	if len(s.Sets) > 0 {
		return s.Sets
	}
	var sets []Set
	for _, t := range s.Types {
		if !t.abstract {
			sets = append(sets, Set{Name: t.Name, Type: s.Namespace + "." + t.Name})
		}
	}
	return sets
}

// splice writes what was added into the document: sets, and a type if it is new.
func (s *Schema) splice(sets []Set, t *EntityType) {
	if s.raw == nil {
		return
	}
	// The namespace stands on the elements themselves: the document may have given it a prefix.
	space := " xmlns=" + attr(s.space)
	b := &bytes.Buffer{}
	if s.setsEnd == 0 {
		const end = "</EntityContainer>\n"
		s.insert(s.schemaEnd, fmt.Sprintf("<EntityContainer%s Name=\"Container\">\n%s", space, end))
		s.setsEnd = s.schemaEnd - len(end)
	}
	for _, set := range sets {
		s.writeSet(b, set, space)
	}
	s.insert(s.setsEnd, b.String())
	if t == nil {
		return
	}
	b.Reset()
	s.writeType(b, t, space)
	s.insert(s.schemaEnd, b.String())
}

// insert puts text into the document; what ends there or later moves.
func (s *Schema) insert(at int, text string) {
	s.raw = slices.Insert(slices.Clone(s.raw), at, []byte(text)...)
	s.schemaEnd += len(text)
	if s.setsEnd >= at {
		s.setsEnd += len(text)
	}
}

func (s *Schema) writeSet(b *bytes.Buffer, set Set, space string) {
	fmt.Fprintf(b, "        <EntitySet%s Name=%s EntityType=%s", space, attr(set.Name), attr(set.Type))
	links := s.written(set.Name)
	if len(links) == 0 {
		b.WriteString("/>\n")
		return
	}
	b.WriteString(">\n")
	for _, l := range links {
		fmt.Fprintf(b, "          <NavigationPropertyBinding Path=%s Target=%s/>\n", attr(l.Name), attr(l.Target))
	}
	b.WriteString("        </EntitySet>\n")
}

// written returns the links of an inferred resource. Those of a document stand in it. A link takes the place of
// a field of its name in which records stand; a name stands for one thing only.
func (s *Schema) written(resource string) []Link {
	if s.read {
		return nil
	}
	var links []Link
	for _, name := range s.Links(resource) {
		if f, own := s.Field(resource, name); own && kinds[innerType(f.Type)] != odata.Untyped {
			continue
		}
		if l, _ := s.Link(resource, name); s.Shows(l.Target) {
			links = append(links, l)
		}
	}
	return links
}

func (s *Schema) writeType(b *bytes.Buffer, t *EntityType, space string) {
	fmt.Fprintf(b, "      <EntityType%s Name=%s>\n", space, attr(t.Name))
	if len(t.Key) > 0 {
		b.WriteString("        <Key>\n")
		for _, k := range t.Key {
			fmt.Fprintf(b, "          <PropertyRef Name=%s/>\n", attr(k))
		}
		b.WriteString("        </Key>\n")
	}
	links := s.written(t.Name)
	for _, f := range t.Fields {
		if Identifier(f.Name) && !slices.ContainsFunc(links, func(l Link) bool { return l.Name == f.Name }) {
			f.write(b)
		}
	}
	for _, l := range links {
		s.writeLink(b, t, l)
	}
	b.WriteString("      </EntityType>\n")
}

func (s *Schema) writeLink(b *bytes.Buffer, t *EntityType, l Link) {
	edmType := s.Namespace + "." + l.Target
	if l.Many {
		edmType = "Collection(" + edmType + ")"
	}
	fmt.Fprintf(b, "        <NavigationProperty Name=%s Type=%s", attr(l.Name), attr(edmType))
	key, _, ok := s.KeyField(l.Target)
	if _, own := t.at(l.Field); !own || !ok {
		b.WriteString("/>\n")
		return
	}
	fmt.Fprintf(b, ">\n          <ReferentialConstraint Property=%s ReferencedProperty=%s/>\n        </NavigationProperty>\n", attr(l.Field), attr(key))
}

func (f Field) write(b *bytes.Buffer) {
	edmType := f.Type
	switch edmType {
	case "":
		edmType = edmString
	case "Collection()":
		edmType = "Collection(" + edmString + ")"
	}
	fmt.Fprintf(b, "        <Property Name=%s Type=%s", attr(f.Name), attr(edmType))
	if !f.Nullable {
		b.WriteString(` Nullable="false"`)
	}
	if f.MaxLength != "" {
		fmt.Fprintf(b, " MaxLength=%s", attr(f.MaxLength))
	}
	b.WriteString("/>\n")
}

// attr returns v as an attribute's value with its quotes.
func attr(v string) string {
	b := &bytes.Buffer{}
	b.WriteByte('"')
	_ = xml.EscapeText(b, []byte(v)) // a buffer takes everything
	b.WriteByte('"')
	return b.String()
}
