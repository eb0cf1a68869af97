package metadata

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// lookupTerm annotates a field with the name of its lookup.
const lookupTerm = "RESO.OData.Metadata.LookupName"

// maxDocument bounds an EDMX document, in bytes.
const maxDocument = 64 << 20

// Read reads an EDMX document. Several Schema elements become one, that of the first which has entity
// types; where two have something of the same name, the later one gets a number. It takes documents with
// faults too: Check tells them.
func Read(r io.Reader) (*Schema, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if len(raw) > maxDocument {
		return nil, fmt.Errorf("metadata: larger than %d bytes", maxDocument)
	}
	root, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("metadata: no EDMX: %w", err)
	}
	d := newDocument(root)
	if len(d.schemas) == 0 {
		return nil, errors.New("metadata: the document has no Edmx/DataServices/Schema")
	}
	asItIs := len(d.schemas) == 1 && extensible(d.schemas[0])
	b := &builder{schema: &Schema{read: true, names: d.merge()}}
	b.build(d.schemas[0])
	s := b.schema
	if len(s.Types) == 0 {
		return nil, errors.New("metadata: the document has no EntityType")
	}
	if !asItIs {
		if raw, err = rewritten(&d); err != nil {
			return nil, err
		}
	}
	s.keep(raw, d.schemas[0])
	return s, nil
}

// extensible says whether types and sets can be added to the text of a schema.
func extensible(schema *element) bool {
	containers, closed := 0, schema.end > 0
	schema.each("EntityContainer", func(c *element) {
		containers++
		closed = closed && c.end > 0
	})
	return closed && containers <= 1
}

// rewritten writes the merged document anew. It then stands in d with its own places.
func rewritten(d *document) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	schema := d.schemas[0]
	schema.each("EntityContainer", func(c *element) {
		if len(c.children) == 0 {
			c.text = []byte(" ") // so that it has an end tag, before which sets can be added
		}
	})
	d.root.write(&b, "", "")
	root, err := parse(b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("metadata: the schemas cannot be merged: %w", err)
	}
	*d = newDocument(root)
	return b.Bytes(), nil
}

// keep remembers the document and where its schema and its container end.
func (s *Schema) keep(raw []byte, schema *element) {
	s.raw, s.space, s.schemaEnd = raw, schema.name.Space, schema.end
	schema.each("EntityContainer", func(c *element) { s.setsEnd = c.end })
}

// builder makes a Schema of a merged Schema element. What is wrong with it becomes the schema's faults.
type builder struct {
	schema      *Schema
	definitions map[string]Field  // type definitions, by their qualified names
	references  []reference       // to types
	declared    map[string]string // qualified names, with what they are
}

type reference struct {
	to, what string
	line     int
}

func (b *builder) build(in *element) {
	s := b.schema
	s.Namespace = in.attr("Namespace")
	b.definitions, b.declared = map[string]Field{}, map[string]string{}
	in.each("TypeDefinition", func(e *element) {
		f := facets(e, "UnderlyingType")
		b.declare(e, "TypeDefinition")
		b.definitions[s.Namespace+"."+f.Name] = f
	})
	in.each("EnumType", func(e *element) {
		b.declare(e, "EnumType")
		s.Enums = append(s.Enums, b.enum(e))
	})
	in.each("ComplexType", func(e *element) {
		b.declare(e, "ComplexType")
		s.Complex = append(s.Complex, b.entity(e))
	})
	in.each("EntityType", func(e *element) {
		b.declare(e, "EntityType")
		s.Types = append(s.Types, b.entity(e))
	})
	in.each("EntityContainer", func(c *element) {
		c.each("EntitySet", func(e *element) { s.Sets = append(s.Sets, b.set(e)) })
	})
	s.prepare()
	in.each("Annotations", b.outside)
	b.check()
}

// entity reads an EntityType or a ComplexType.
func (b *builder) entity(e *element) *EntityType {
	t := &EntityType{Name: e.attr("Name"), Base: e.attr("BaseType"), Open: e.attr("OpenType") == "true", abstract: e.attr("Abstract") == "true", line: e.line}
	b.refer(e, t.Base, t.Name)
	e.each("Key", func(key *element) {
		key.each("PropertyRef", func(ref *element) { t.Key = append(t.Key, ref.attr("Name")) })
	})
	seen := map[string]bool{}
	once := func(c *element) {
		name := c.attr("Name")
		if seen[name] || name == "" {
			b.fault(c.line, "%s has a second %s named %q", t.Name, c.name.Local, name)
		}
		seen[name] = true
	}
	e.each("Property", func(p *element) {
		once(p)
		t.Fields = append(t.Fields, b.field(p, t.Name))
	})
	e.each("NavigationProperty", func(p *element) {
		once(p)
		n := Navigation{Name: p.attr("Name"), Type: p.attr("Type"), Nullable: p.attr("Nullable") != "false", Partner: p.attr("Partner")}
		b.refer(p, n.Type, t.Name+"/"+n.Name)
		p.each("ReferentialConstraint", func(c *element) {
			n.Constraints = append(n.Constraints, Constraint{c.attr("Property"), c.attr("ReferencedProperty")})
		})
		t.Navigations = append(t.Navigations, n)
	})
	return t
}

// facets reads what a Property and a TypeDefinition have in common.
func facets(e *element, typeName string) Field {
	return Field{
		Name: e.attr("Name"), Type: e.attr(typeName), Nullable: e.attr("Nullable") != "false",
		MaxLength: e.attr("MaxLength"), Precision: e.attr("Precision"), Scale: e.attr("Scale"), Default: e.attr("DefaultValue"),
	}
}

func (b *builder) field(e *element, of string) Field {
	f := facets(e, "Type")
	if f.Type == "" {
		b.fault(e.line, "%s/%s has no Type", of, f.Name)
	}
	b.refer(e, f.Type, of+"/"+f.Name)
	for _, facet := range [...]struct {
		name, value string
		words       []string
	}{{"MaxLength", f.MaxLength, []string{"max"}}, {"Precision", f.Precision, nil}, {"Scale", f.Scale, []string{"variable", "floating"}}} {
		if _, err := strconv.ParseUint(facet.value, 10, 31); err != nil && facet.value != "" && !slices.Contains(facet.words, strings.ToLower(facet.value)) {
			b.fault(e.line, "%s/%s has the %s %q, which is no number", of, f.Name, facet.name, facet.value)
		}
	}
	inner, collection := strings.CutPrefix(f.Type, "Collection(")
	if d, ok := b.definitions[strings.TrimSuffix(inner, ")")]; ok {
		f.Type = d.Type
		if collection {
			f.Type = "Collection(" + d.Type + ")"
		}
		for own, defined := range map[*string]string{&f.MaxLength: d.MaxLength, &f.Precision: d.Precision, &f.Scale: d.Scale} {
			if *own == "" {
				*own = defined
			}
		}
	}
	f.Lookup = lookup(e)
	return f
}

// lookup returns the name of the lookup that an element is annotated with.
func lookup(e *element) (name string) {
	e.each("Annotation", func(a *element) {
		if a.attr("Term") != lookupTerm {
			return
		}
		name = a.attr("String")
		a.each("String", func(s *element) { name = string(s.text) })
	})
	return name
}

// outside reads annotations that stand beside the types.
func (b *builder) outside(e *element) {
	name := lookup(e)
	qualified, field, _ := strings.Cut(e.attr("Target"), "/")
	if t := b.schema.byQualified(qualified); t != nil && name != "" {
		if i, ok := t.at(field); ok {
			t.Fields[i].Lookup = name
		}
	}
}

func (b *builder) enum(e *element) Enum {
	out := Enum{Name: e.attr("Name"), Underlying: e.attr("UnderlyingType"), Flags: e.attr("IsFlags") == "true"}
	seen := map[string]bool{}
	e.each("Member", func(m *element) {
		name := m.attr("Name")
		if seen[name] || name == "" {
			b.fault(m.line, "%s has a second Member named %q", out.Name, name)
		}
		seen[name] = true
		out.Members = append(out.Members, EnumMember{name, m.attr("Value")})
	})
	return out
}

func (b *builder) set(e *element) Set {
	s := Set{Name: e.attr("Name"), Type: e.attr("EntityType"), line: e.line}
	e.each("NavigationPropertyBinding", func(n *element) {
		if s.Bindings == nil {
			s.Bindings = map[string]string{}
		}
		s.Bindings[n.attr("Path")] = n.attr("Target")
	})
	return s
}
