package metadata

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
)

const edm = "http://docs.oasis-open.org/odata/ns/edm"

// Write writes the schema as EDMX with exactly one Schema element. What was read from such a document
// is written as it was, with the types that were added since at their ends.
func (s *Schema) Write(w io.Writer) error {
	if s.raw != nil {
		_, err := w.Write(s.raw)
		return err
	}
	b := &bytes.Buffer{}
	b.WriteString(xml.Header + `<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">` + "\n  <edmx:DataServices>\n")
	fmt.Fprintf(b, "    <Schema Namespace=%s xmlns=%q>\n", attr(s.Namespace), edm)
	for _, t := range s.Types {
		t.write(b, "EntityType", "")
	}
	for _, t := range s.Complex {
		t.write(b, "ComplexType", "")
	}
	for _, e := range s.Enums {
		e.write(b)
	}
	b.WriteString("      <EntityContainer Name=\"Container\">\n")
	for _, set := range s.sets() {
		fmt.Fprintf(b, "        <EntitySet Name=%s EntityType=%s/>\n", attr(set.Name), attr(set.Type))
	}
	b.WriteString("      </EntityContainer>\n    </Schema>\n  </edmx:DataServices>\n</edmx:Edmx>\n")
	_, err := w.Write(b.Bytes())
	return err
}

func (s *Schema) sets() []Set {
	if len(s.Sets) > 0 {
		return s.Sets
	}
	sets := make([]Set, len(s.Types))
	for i, t := range s.Types {
		sets[i] = Set{Name: t.Name, Type: s.Namespace + "." + t.Name}
	}
	return sets
}

// splice writes a type that was added into the document that was read.
func (s *Schema) splice(t *EntityType) {
	if s.raw == nil {
		return
	}
	// The namespace stands on the elements themselves: the document may have given it a prefix.
	if s.setsEnd == 0 {
		container := fmt.Sprintf("<EntityContainer xmlns=%q Name=\"Container\">\n", edm)
		for _, set := range s.sets()[:len(s.Types)-1] {
			container += fmt.Sprintf("<EntitySet Name=%s EntityType=%s/>\n", attr(set.Name), attr(set.Type))
		}
		s.insert(s.schemaEnd, container+"</EntityContainer>\n")
		s.setsEnd = s.schemaEnd - len("</EntityContainer>\n")
	}
	s.insert(s.setsEnd, fmt.Sprintf("<EntitySet xmlns=%q Name=%s EntityType=%s/>\n", edm, attr(t.Name), attr(s.Namespace+"."+t.Name)))
	b := &bytes.Buffer{}
	t.write(b, "EntityType", edm)
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

func (t *EntityType) write(b *bytes.Buffer, element, namespace string) {
	fmt.Fprintf(b, "      <%s", element)
	if namespace != "" {
		fmt.Fprintf(b, " xmlns=%q", namespace)
	}
	fmt.Fprintf(b, " Name=%s", attr(t.Name))
	if t.Base != "" {
		fmt.Fprintf(b, " BaseType=%s", attr(t.Base))
	}
	b.WriteString(">\n")
	if len(t.Key) > 0 {
		b.WriteString("        <Key>\n")
		for _, k := range t.Key {
			fmt.Fprintf(b, "          <PropertyRef Name=%s/>\n", attr(k))
		}
		b.WriteString("        </Key>\n")
	}
	for _, f := range t.Fields {
		f.write(b)
	}
	for _, n := range t.Navigations {
		fmt.Fprintf(b, "        <NavigationProperty Name=%s Type=%s", attr(n.Name), attr(n.Type))
		if !n.Nullable {
			b.WriteString(` Nullable="false"`)
		}
		b.WriteString("/>\n")
	}
	fmt.Fprintf(b, "      </%s>\n", element)
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
	for _, facet := range [...]struct{ name, value string }{{"MaxLength", f.MaxLength}, {"Precision", f.Precision}, {"Scale", f.Scale}} {
		if facet.value != "" {
			fmt.Fprintf(b, " %s=%s", facet.name, attr(facet.value))
		}
	}
	if f.Lookup == "" {
		b.WriteString("/>\n")
		return
	}
	fmt.Fprintf(b, ">\n          <Annotation Term=%q String=%s/>\n        </Property>\n", lookupTerm, attr(f.Lookup))
}

func (e Enum) write(b *bytes.Buffer) {
	fmt.Fprintf(b, "      <EnumType Name=%s", attr(e.Name))
	if e.Underlying != "" {
		fmt.Fprintf(b, " UnderlyingType=%s", attr(e.Underlying))
	}
	if e.Flags {
		b.WriteString(` IsFlags="true"`)
	}
	b.WriteString(">\n")
	for _, m := range e.Members {
		fmt.Fprintf(b, "        <Member Name=%s", attr(m.Name))
		if m.Value != "" {
			fmt.Fprintf(b, " Value=%s", attr(m.Value))
		}
		b.WriteString("/>\n")
	}
	b.WriteString("      </EnumType>\n")
}

// attr returns v as an attribute's value with its quotes.
func attr(v string) string {
	b := &bytes.Buffer{}
	b.WriteByte('"')
	_ = xml.EscapeText(b, []byte(v)) // a buffer takes everything
	b.WriteByte('"')
	return b.String()
}
