package metadata

import (
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// document is an EDMX document.
type document struct {
	root     *element
	services *element   // DataServices
	schemas  []*element // in it
}

func newDocument(root *element) document {
	d := document{root: root}
	if root.name.Local != "Edmx" {
		return d
	}
	root.each("DataServices", func(services *element) {
		d.services = services
		for _, c := range services.children {
			if c.name.Local == "Schema" {
				d.schemas = append(d.schemas, c)
			}
		}
	})
	return d
}

// named are the children of a schema whose names belong to its namespace.
var named = []string{"EntityType", "ComplexType", "EnumType", "TypeDefinition", "Term", "Function", "Action", "EntityContainer"}

// merge makes one schema of all: that of the first which has entity types, whose names stay as they are.
// Where another's name is taken, it gets a number. It returns the qualified names of the document, by
// namespace and by alias, and those by the aliases of the merged schema, with those of it. References are
// rewritten.
func (d *document) merge() (names map[string]string) {
	first := max(0, slices.IndexFunc(d.schemas, func(s *element) bool {
		return slices.ContainsFunc(s.children, func(c *element) bool { return c.is(s, "EntityType") })
	}))
	ordered := slices.Concat(d.schemas[first:first+1], d.schemas[:first], d.schemas[first+1:])
	merged := &element{name: ordered[0].name, attrs: ordered[0].attrs, line: ordered[0].line, end: ordered[0].end}
	n := naming{space: merged.attr("Namespace"), names: map[string]string{}, taken: map[string]int{}, aliases: d.aliases()}
	var container *element
	for _, s := range ordered {
		for _, c := range s.children {
			if c.name.Space != s.name.Space || !slices.Contains(named, c.name.Local) {
				continue
			}
			if c.name.Local == "EntityContainer" && container != nil {
				n.add(s, c, container.attr("Name"))
				continue
			}
			n.add(s, c, "")
			if c.name.Local == "EntityContainer" {
				container = c
			}
		}
	}
	for _, s := range ordered {
		n.rewrite(s)
		for _, c := range s.children {
			if c.is(s, "EntityContainer") && c != container {
				container.children = append(container.children, c.children...)
				continue
			}
			merged.children = append(merged.children, c)
		}
	}
	n.shorten()
	d.services.children = slices.DeleteFunc(d.services.children, func(c *element) bool { return c.name.Local == "Schema" })
	d.services.children = append(d.services.children, merged)
	d.schemas = []*element{merged}
	return n.names
}

// maxAliases is how many short names of one namespace are read.
const maxAliases = 10

// aliases returns the short names that the document gives to namespaces.
func (d *document) aliases() map[string][]string {
	aliases := map[string][]string{}
	add := func(space, alias string) {
		if known := aliases[space]; alias != "" && len(known) < maxAliases && !slices.Contains(known, alias) {
			aliases[space] = append(known, alias)
		}
	}
	for _, s := range d.schemas {
		add(s.attr("Namespace"), s.attr("Alias"))
	}
	d.root.each("Reference", func(r *element) {
		r.each("Include", func(i *element) { add(i.attr("Namespace"), i.attr("Alias")) })
	})
	return aliases
}

// naming gives the names of a merged schema.
type naming struct {
	space   string
	names   map[string]string   // qualified as in the document → qualified in space
	taken   map[string]int      // names in space → the number that the next of this name gets
	aliases map[string][]string // of namespaces
}

// add names a child of a schema, as it was if that is free, or as it is told to.
func (n *naming) add(schema, child *element, name string) {
	space, own := schema.attr("Namespace"), child.attr("Name")
	if own == "" {
		return
	}
	if known, again := n.names[space+"."+own]; again { // overloaded functions; else it is a fault, see Check
		name = known[len(n.space)+1:]
	}
	if name == "" {
		name = own
		for i := max(2, n.taken[own]); n.taken[name] > 0; i++ {
			name = fmt.Sprintf("%s%d", own, i)
			n.taken[own] = i + 1
		}
		n.taken[name] = max(n.taken[name], 1)
	}
	n.names[space+"."+own] = n.space + "." + name
	for _, alias := range n.aliases[space] {
		n.names[alias+"."+own] = n.space + "." + name
	}
	if name != own {
		child.attrs = slices.Clone(child.attrs)
		for i := range child.attrs {
			if child.attrs[i].Name == (xml.Name{Local: "Name"}) {
				child.attrs[i].Value = name
			}
		}
	}
}

// shorten makes known by the aliases of the merged schema what came from others: it is served as theirs. The
// document's own references are rewritten before, for they could not mean it.
func (n *naming) shorten() {
	for _, to := range slices.Collect(maps.Values(n.names)) {
		for _, alias := range n.aliases[n.space] {
			n.names[alias+to[len(n.space):]] = to
		}
	}
}

// referring are the attributes, and the elements, that may refer to something by its qualified name.
var referring = map[string]bool{
	"Type": true, "BaseType": true, "EntityType": true, "UnderlyingType": true, "Target": true, "Path": true, "Term": true,
	"BaseTerm": true, "Action": true, "Function": true, "EnumMember": true, "Extends": true, "EntitySetPath": true,
	"PropertyPath": true, "NavigationPropertyPath": true, "AnnotationPath": true, "ModelElementPath": true,
}

// rewrite puts the new names in place of the old ones.
func (n *naming) rewrite(e *element) {
	for i, a := range e.attrs {
		if a.Name.Space == "" && referring[a.Name.Local] {
			e.attrs[i].Value = n.renamed(a.Value)
		}
	}
	if referring[e.name.Local] {
		e.text = []byte(n.renamed(string(e.text)))
	}
	for _, c := range e.children {
		n.rewrite(c)
	}
}

// renamed replaces each qualified name in the text of a reference: Collection(a.B), a.B/Member a.B/Other.
func (n *naming) renamed(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		end := strings.IndexAny(text, " /(),@#")
		if end < 0 {
			end = len(text)
		}
		name := text[:end]
		if to, ok := n.names[name]; ok {
			name = to
		}
		b.WriteString(name)
		if end < len(text) {
			b.WriteByte(text[end])
			end++
		}
		text = text[end:]
	}
	return b.String()
}
