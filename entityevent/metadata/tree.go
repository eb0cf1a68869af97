package metadata

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
)

// element is an element of an XML document. All of the document is kept, for annotations may be of any
// shape; only comments and white space between elements are not.
type element struct {
	name     xml.Name
	attrs    []xml.Attr
	text     []byte // without the white space around it
	children []*element
	line     int
	end      int // where </X> stands in the document; 0: it is written <X/>
}

// Limits of a document, beside its bytes.
const (
	maxElements = 1_000_000
	maxNesting  = 1000
)

// parse reads an XML document.
func parse(raw []byte) (*element, error) {
	d := xml.NewDecoder(bytes.NewReader(raw))
	top := &element{}
	open := []*element{top}
	for count := 0; ; {
		line, _ := d.InputPos()
		at := int(d.InputOffset())
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		inner := open[len(open)-1]
		switch token := token.(type) {
		case xml.StartElement:
			if count++; count > maxElements || len(open) > maxNesting {
				return nil, fmt.Errorf("line %d: more than %d elements, or %d inside each other", line, maxElements, maxNesting)
			}
			e := &element{name: token.Name, attrs: token.Attr, line: line}
			inner.children = append(inner.children, e)
			open = append(open, e)
		case xml.EndElement:
			inner.text = bytes.TrimSpace(inner.text)
			if int(d.InputOffset()) > at { // else it is the end of <X/>, which the decoder makes up
				inner.end = at
			}
			open = open[:len(open)-1]
		case xml.CharData:
			inner.text = append(inner.text, token...)
		}
	}
	if len(top.children) != 1 {
		return nil, errors.New("no document")
	}
	return top.children[0], nil
}

// attr returns an attribute without a namespace, "" if it is absent.
func (e *element) attr(name string) string {
	for _, a := range e.attrs {
		if a.Name.Local == name && a.Name.Space == "" {
			return a.Value
		}
	}
	return ""
}

// each calls f at every child of this name in the namespace of e itself.
func (e *element) each(name string, f func(*element)) {
	for _, c := range e.children {
		if c.is(e, name) {
			f(c)
		}
	}
}

// is says whether e has this name in the namespace of another element: which one that is differs from
// version to version.
func (e *element) is(of *element, name string) bool {
	return e.name.Local == name && e.name.Space == of.name.Space
}

// write writes the element as a document of its own would have it, inside one of the given namespace.
func (e *element) write(b *bytes.Buffer, indent, space string) {
	b.WriteString(indent + "<" + e.name.Local)
	if e.name.Space != space {
		b.WriteString(" xmlns=" + attr(e.name.Space))
	}
	for i, a := range e.attrs {
		switch a.Name.Space {
		case "":
			if a.Name.Local != "xmlns" {
				b.WriteString(" " + a.Name.Local + "=" + attr(a.Value))
			}
		case "xmlns": // each element and attribute says its namespace itself
		case "http://www.w3.org/XML/1998/namespace":
			b.WriteString(" xml:" + a.Name.Local + "=" + attr(a.Value))
		default:
			fmt.Fprintf(b, " xmlns:n%d=%s n%d:%s=%s", i, attr(a.Name.Space), i, a.Name.Local, attr(a.Value))
		}
	}
	if len(e.children) == 0 && len(e.text) == 0 {
		b.WriteString("/>\n")
		return
	}
	b.WriteString(">")
	_ = xml.EscapeText(b, e.text) // a buffer takes everything
	if len(e.children) > 0 {
		b.WriteString("\n")
		for _, c := range e.children {
			c.write(b, indent+"  ", e.name.Space)
		}
		b.WriteString(indent)
	}
	b.WriteString("</" + e.name.Local + ">\n")
}
