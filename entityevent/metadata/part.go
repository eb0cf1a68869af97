package metadata

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
)

// Part is what of a schema somebody may know.
type Part interface {
	Resource(name string) bool
	Member(resource, name string) bool // a field or a navigation
}

// WritePart is Write for somebody who may know a part: it leaves out the rest, and what is said of it. A member that
// resources have from a common type stays if it may be known of one of them.
func (s *Schema) WritePart(w io.Writer, p Part) error {
	b := &bytes.Buffer{}
	if err := s.Write(b); err != nil {
		return err
	}
	root, err := parse(b.Bytes())
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	c := &cut{Schema: s, part: p, gone: map[string]bool{}}
	c.choose()
	for _, schema := range newDocument(root).schemas {
		c.schema(schema)
	}
	b.Reset()
	b.WriteString(xml.Header)
	root.write(b, "", "")
	_, err = w.Write(b.Bytes())
	return err
}

// cut takes out of a document what is not of a part.
type cut struct {
	*Schema
	part Part
	of   map[string][]string // type → the resources of the part of which it says something; the others go
	gone map[string]bool     // names of what was taken out
}

// choose looks which types stay: those of the resources, what these extend, and what extends them and is of no resource.
func (c *cut) choose() {
	c.of = map[string][]string{}
	sets, own := map[*EntityType]bool{}, map[*EntityType][]string{}
	for _, set := range c.sets() {
		t := c.byQualified(set.Type)
		sets[t] = true
		if !c.part.Resource(set.Name) {
			continue
		}
		own[t] = append(own[t], set.Name)
		for base := range c.bases(set.Name) {
			c.of[base.Name] = append(c.of[base.Name], set.Name)
		}
	}
	for _, t := range c.Types {
		base := t
		for n := 0; n < maxBases && base != nil && !sets[t]; n++ {
			c.of[t.Name] = append(c.of[t.Name], own[base]...)
			base = c.byQualified(base.Base)
		}
	}
}

// bare returns the name at the end of a reference, as of Collection(a.B).
func bare(reference string) string {
	name := innerType(reference)
	return name[strings.LastIndexByte(name, '.')+1:]
}

// foreign says whether a reference is to an entity type that goes.
func (c *cut) foreign(reference string) bool {
	return c.byType[bare(reference)] != nil && len(c.of[bare(reference)]) == 0
}

// lacks says whether a member of a type goes.
func (c *cut) lacks(typeName, member string) bool {
	return !slices.ContainsFunc(c.of[typeName], func(resource string) bool { return c.part.Member(resource, member) })
}

// drop takes children out, and notes their names.
func (c *cut) drop(e *element, goes func(*element) bool) {
	e.children = slices.DeleteFunc(e.children, func(child *element) bool {
		if !goes(child) {
			return false
		}
		if name := child.attr("Name"); name != "" {
			c.gone[name] = true
		}
		return true
	})
}

func (c *cut) schema(schema *element) {
	c.drop(schema, func(e *element) bool { return e.is(schema, "EntityType") && len(c.of[e.attr("Name")]) == 0 })
	for _, e := range schema.children {
		switch {
		case e.is(schema, "EntityType"):
			c.entity(e)
		case e.is(schema, "ComplexType"):
			c.drop(e, func(p *element) bool { return p.is(e, "NavigationProperty") && c.foreign(p.attr("Type")) })
		case e.is(schema, "EntityContainer"):
			c.container(e)
		}
	}
	c.drop(schema, func(e *element) bool { return (e.is(schema, "Function") || e.is(schema, "Action")) && c.refers(e) })
	for dropped := -1; dropped != len(c.gone); { // one may be what another alone referred to
		dropped = len(c.gone)
		used := map[string]bool{}
		for _, e := range schema.children {
			uses(e, used)
		}
		c.drop(schema, func(e *element) bool {
			return (e.is(schema, "EnumType") || e.is(schema, "ComplexType") || e.is(schema, "TypeDefinition")) && !used[e.attr("Name")]
		})
	}
	c.annotations(schema)
}

func (c *cut) entity(e *element) {
	own := e.attr("Name")
	c.drop(e, func(p *element) bool {
		navigates := p.is(e, "NavigationProperty")
		if !navigates && !p.is(e, "Property") {
			return false
		}
		to, secret := bare(p.attr("Type")), false
		p.each("ReferentialConstraint", func(r *element) {
			secret = secret || c.lacks(own, r.attr("Property")) || c.lacks(to, r.attr("ReferencedProperty"))
		})
		return secret || c.lacks(own, p.attr("Name")) || navigates && c.foreign(to)
	})
	e.each("NavigationProperty", func(p *element) {
		p.attrs = slices.DeleteFunc(p.attrs, func(a xml.Attr) bool { return a.Name.Local == "Partner" && c.lacks(bare(p.attr("Type")), a.Value) })
	})
}

func (c *cut) container(e *element) {
	last := func(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
	c.drop(e, func(set *element) bool {
		if set.is(e, "EntitySet") {
			return !c.part.Resource(set.attr("Name"))
		}
		to := set.attr("EntitySet")
		return c.foreign(set.attr("Type")) || to != "" && !c.part.Resource(last(to))
	})
	e.each("EntitySet", func(set *element) {
		c.drop(set, func(b *element) bool {
			first, _, _ := strings.Cut(b.attr("Path"), "/")
			return b.is(e, "NavigationPropertyBinding") && (!c.part.Resource(last(b.attr("Target"))) || !c.part.Member(set.attr("Name"), first))
		})
	})
}

// refers says whether something, or what is in it, is of an entity type that goes.
func (c *cut) refers(e *element) bool {
	return c.foreign(e.attr("Type")) || slices.ContainsFunc(e.children, c.refers)
}

// uses notes the types that something refers to.
func uses(e *element, used map[string]bool) {
	for _, a := range e.attrs {
		if a.Name.Space == "" && a.Name.Local != "Name" && a.Name.Local != "Target" {
			used[bare(a.Value)] = true
		}
	}
	for _, child := range e.children {
		uses(child, used)
	}
}

// pointing are the attributes, and the elements, in which annotations name parts of the schema.
var pointing = []string{"Target", "Path", "PropertyPath", "NavigationPropertyPath", "AnyPropertyPath", "AnnotationPath", "ModelElementPath", "Type", "EnumMember"}

// annotations drops those that name what was taken out.
func (c *cut) annotations(e *element) {
	c.drop(e, func(a *element) bool {
		return a.is(e, "Annotation") && c.names(a) || a.is(e, "Annotations") && c.pointed(a.attr("Target"))
	})
	for _, child := range e.children {
		if !child.is(e, "Annotation") {
			c.annotations(child)
		}
	}
}

func (c *cut) names(e *element) bool {
	for _, a := range e.attrs {
		if a.Name.Space == "" && slices.Contains(pointing, a.Name.Local) && c.pointed(a.Value) {
			return true
		}
	}
	return slices.Contains(pointing, e.name.Local) && c.pointed(string(e.text)) || slices.ContainsFunc(e.children, c.names)
}

// pointed says whether one of a list of paths leads to what was taken out.
func (c *cut) pointed(paths string) bool {
	for segment := range strings.FieldsFuncSeq(paths, func(r rune) bool { return r == '/' || unicode.IsSpace(r) }) {
		if c.gone[bare(segment)] {
			return true
		}
	}
	return false
}
