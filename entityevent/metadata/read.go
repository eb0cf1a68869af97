package metadata

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The elements of CSDL XML that are read; the namespace prefix and the version do not matter.
type (
	xmlEdmx struct {
		XMLName xml.Name    `xml:"Edmx"`
		Schemas []xmlSchema `xml:"DataServices>Schema"`
	}
	xmlSchema struct {
		Namespace string    `xml:"Namespace,attr"`
		Alias     string    `xml:"Alias,attr"`
		Entities  []xmlType `xml:"EntityType"`
		Complex   []xmlType `xml:"ComplexType"`
		Enums     []xmlEnum `xml:"EnumType"`
		Sets      []struct {
			Name     string `xml:"Name,attr"`
			Type     string `xml:"EntityType,attr"`
			Bindings []struct {
				Path   string `xml:"Path,attr"`
				Target string `xml:"Target,attr"`
			} `xml:"NavigationPropertyBinding"`
		} `xml:"EntityContainer>EntitySet"`
	}
	xmlType struct {
		Name string `xml:"Name,attr"`
		Base string `xml:"BaseType,attr"`
		Key  []struct {
			Name string `xml:"Name,attr"`
		} `xml:"Key>PropertyRef"`
		Fields      []xmlField `xml:"Property"`
		Navigations []xmlField `xml:"NavigationProperty"`
	}
	xmlField struct {
		Name        string `xml:"Name,attr"`
		Type        string `xml:"Type,attr"`
		Nullable    string `xml:"Nullable,attr"`
		MaxLength   string `xml:"MaxLength,attr"`
		Precision   string `xml:"Precision,attr"`
		Scale       string `xml:"Scale,attr"`
		Partner     string `xml:"Partner,attr"`
		Constraints []struct {
			Field      string `xml:"Property,attr"`
			Referenced string `xml:"ReferencedProperty,attr"`
		} `xml:"ReferentialConstraint"`
		Annotations []struct {
			Term   string `xml:"Term,attr"`
			String string `xml:"String,attr"`
		} `xml:"Annotation"`
	}
	xmlEnum struct {
		Name       string `xml:"Name,attr"`
		Underlying string `xml:"UnderlyingType,attr"`
		Flags      string `xml:"IsFlags,attr"`
		Members    []struct {
			Name  string `xml:"Name,attr"`
			Value string `xml:"Value,attr"`
		} `xml:"Member"`
	}
)

// lookupTerm annotates a field with the name of its lookup.
const lookupTerm = "RESO.OData.Metadata.LookupName"

// maxDocument bounds an EDMX document, in bytes.
const maxDocument = 64 << 20

// Read reads an EDMX document. Several Schema elements become one, that of the first which has entity
// types; where two have a type of the same name, the later one gets a number.
func Read(r io.Reader) (*Schema, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if len(raw) > maxDocument {
		return nil, fmt.Errorf("metadata: larger than %d bytes", maxDocument)
	}
	var doc xmlEdmx
	if err := xml.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("metadata: no EDMX: %w", err)
	}
	s := merge(doc.Schemas)
	if len(s.Types) == 0 {
		return nil, errors.New("metadata: the document has no EntityType")
	}
	s.prepare()
	if len(doc.Schemas) == 1 {
		s.keep(raw)
	}
	return s, nil
}

// merge puts the types of all schemas into one namespace.
func merge(schemas []xmlSchema) *Schema {
	s := &Schema{read: true}
	for _, in := range schemas {
		if len(in.Entities) > 0 {
			s.Namespace = in.Namespace
			break
		}
	}
	names := map[string]string{} // qualified as in the document → qualified in s
	taken := map[string]int{}    // names in s → the number that the next of this name gets
	own := func(in xmlSchema, name string) string {
		unique := name
		for n := max(2, taken[name]); taken[unique] > 0; n++ {
			unique = fmt.Sprintf("%s%d", name, n)
			taken[name] = n + 1
		}
		taken[unique] = max(taken[unique], 1)
		names[in.Namespace+"."+name] = s.Namespace + "." + unique
		if in.Alias != "" {
			names[in.Alias+"."+name] = s.Namespace + "." + unique
		}
		return unique
	}
	for _, in := range schemas {
		for _, t := range in.Entities {
			s.Types = append(s.Types, t.entity(own(in, t.Name)))
		}
	}
	for _, in := range schemas {
		for _, t := range in.Complex {
			s.Complex = append(s.Complex, t.entity(own(in, t.Name)))
		}
		for _, e := range in.Enums {
			s.Enums = append(s.Enums, e.enum(own(in, e.Name)))
		}
	}
	for _, in := range schemas {
		for _, set := range in.Sets {
			own := Set{Name: set.Name, Type: renamed(names, set.Type)}
			for _, b := range set.Bindings {
				if own.Bindings == nil {
					own.Bindings = map[string]string{}
				}
				own.Bindings[b.Path] = b.Target
			}
			s.Sets = append(s.Sets, own)
		}
	}
	for _, t := range append(s.Types[:len(s.Types):len(s.Types)], s.Complex...) {
		t.Base = renamed(names, t.Base)
		for i := range t.Fields {
			t.Fields[i].Type = renamed(names, t.Fields[i].Type)
		}
		for i := range t.Navigations {
			t.Navigations[i].Type = renamed(names, t.Navigations[i].Type)
		}
	}
	return s
}

func renamed(names map[string]string, edmType string) string {
	inner, collection := strings.CutPrefix(edmType, "Collection(")
	inner, closed := strings.CutSuffix(inner, ")")
	if to, ok := names[inner]; ok && collection == closed {
		if collection {
			return "Collection(" + to + ")"
		}
		return to
	}
	return edmType
}

func (t xmlType) entity(name string) *EntityType {
	e := &EntityType{Name: name, Base: t.Base}
	for _, k := range t.Key {
		e.Key = append(e.Key, k.Name)
	}
	for _, f := range t.Fields {
		field := Field{Name: f.Name, Type: f.Type, Nullable: f.Nullable != "false", MaxLength: f.MaxLength, Precision: f.Precision, Scale: f.Scale}
		for _, a := range f.Annotations {
			if a.Term == lookupTerm {
				field.Lookup = a.String
			}
		}
		e.Fields = append(e.Fields, field)
	}
	for _, n := range t.Navigations {
		own := Navigation{Name: n.Name, Type: n.Type, Nullable: n.Nullable != "false", Partner: n.Partner}
		for _, c := range n.Constraints {
			own.Constraints = append(own.Constraints, Constraint{c.Field, c.Referenced})
		}
		e.Navigations = append(e.Navigations, own)
	}
	return e
}

func (e xmlEnum) enum(name string) Enum {
	out := Enum{Name: name, Underlying: e.Underlying, Flags: e.Flags == "true"}
	for _, m := range e.Members {
		out.Members = append(out.Members, EnumMember{m.Name, m.Value})
	}
	return out
}

// keep remembers the document and where its schema and its container end.
func (s *Schema) keep(raw []byte) {
	d := xml.NewDecoder(bytes.NewReader(raw))
	for {
		at := int(d.InputOffset())
		token, err := d.Token()
		if err != nil {
			break
		}
		end, ok := token.(xml.EndElement)
		if !ok || !bytes.HasPrefix(raw[at:], []byte("</")) { // <X/> has no place inside
			continue
		}
		switch end.Name.Local {
		case "Schema":
			s.schemaEnd = at
		case "EntityContainer":
			s.setsEnd = at
		}
	}
	if s.schemaEnd > 0 && (s.setsEnd > 0 || len(s.Sets) == 0) {
		s.raw = raw
	}
}
