package producer

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// separated appends the comma that stands before a further member of an object.
func separated(dst []byte) []byte {
	if n := len(dst); n > 0 && dst[n-1] == '{' {
		return dst
	}
	return append(dst, ',')
}

// appendEntity appends a record with its annotations and what was expanded. Its members are those of the
// stored text, as they are where nothing forces otherwise.
func (x *exchange) appendEntity(dst []byte, r *reading, e *entity) []byte {
	dst = append(dst, '{')
	if !x.format.bare() && !e.Hash.IsZero() { // what stands in another record's body has no tag
		if r.keyless {
			dst = append(dst, `"@odata.id":"`...)
			dst = append(append(dst, x.Root...), '/')
			dst = append(odata.AppendKeySegment(dst, r.resource, e.Key, r.quoted), `",`...)
		}
		dst = appendTag(append(dst, `"@odata.etag":`...), x.tag(e.Hash))
	}
	return append(x.appendContent(dst, r, e), '}')
}

// appendContent appends the members of a record to an object that may have others.
func (x *exchange) appendContent(dst []byte, r *reading, e *entity) []byte {
	var replaced []string
	for _, f := range r.expands {
		// Most bodies do not hold what is expanded, and need not be looked through.
		if bytes.Contains(e.Body, []byte(f.link.Name)) || bytes.IndexByte(e.Body, '\\') >= 0 {
			replaced = append(replaced, f.link.Name)
		}
	}
	before := len(dst)
	dst = separated(dst)
	start := len(dst)
	if dst = r.shape.appendMembers(dst, e.Body, replaced); len(dst) == start {
		dst = dst[:before]
	}
	for i, f := range e.families {
		dst = x.appendFamily(dst, r, e, r.expands[i], f)
	}
	return dst
}

func etag(h entityevent.Hash) string { return `W/"` + h.String() + `"` }

// appendTag appends an entity tag as a JSON string.
func appendTag(dst []byte, h entityevent.Hash) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, `"W/\"`...)
	for _, b := range h {
		dst = append(dst, hex[b>>4], hex[b&15])
	}
	return append(dst, `\""`...)
}

// appendInt appends an Edm.Int64.
func (x *exchange) appendInt(dst []byte, n int64) []byte {
	if !x.format.strings {
		return strconv.AppendInt(dst, n, 10)
	}
	return append(strconv.AppendInt(append(dst, '"'), n, 10), '"')
}

// selectList is what the context URL of a reading says after the resource: (ListingKey,Media(MediaKey)).
// In version 4.01 an expansion without a $select of its own is named too.
func (x *exchange) selectList(r *reading) string {
	var names []string
	for _, name := range r.shape.selected {
		if !r.expandsTo(name) {
			names = append(names, name)
		}
	}
	for _, e := range r.expands {
		switch inner := x.selectList(e.reading); {
		case inner != "":
			names = append(names, e.link.Name+inner)
		case x.version != "4.0":
			names = append(names, e.link.Name+"()")
		}
	}
	if names == nil {
		return ""
	}
	return "(" + strings.Join(names, ",") + ")"
}

func (r *reading) expandsTo(name string) bool {
	for _, e := range r.expands {
		if e.link.Name == name {
			return true
		}
	}
	return false
}

// fromPlace writes where a record stands in the order of a query as a text, and toPlace reads it again. The text has the
// kinds of the order's fields too: a walk keeps the order that it began with, though a field may have another type by
// now and its values another order.
func fromPlace(q entityevent.Query, last entityevent.Record) string {
	p := q.PlaceOf(last)
	texts := make([]string, 1, 1+len(p.Values))
	texts[0] = p.Key
	for i, v := range p.Values {
		texts = append(texts, string([]rune{'a' + rune(q.OrderBy[i].Field.Of.Kind), 'a' + rune(v.Kind)})+v.Text)
	}
	text, err := json.Marshal(texts)
	if err != nil { // strings always have a JSON form
		return ""
	}
	return string(text)
}

func toPlace(from string, order []odata.Order) (*entityevent.Place, []odata.Order, error) {
	var texts []string
	if json.Unmarshal([]byte(from), &texts) != nil || len(texts) != 1+len(order) {
		return nil, nil, errToken()
	}
	p := &entityevent.Place{Key: texts[0]}
	order = slices.Clone(order)
	for i, text := range texts[1:] {
		if len(text) < 2 || min(text[0], text[1]) < 'a' || max(text[0], text[1]) > 'a'+byte(odata.Enumeration) {
			return nil, nil, errToken()
		}
		if began := odata.Kind(text[0] - 'a'); began != order[i].Field.Of.Kind {
			order[i].Field.Of = odata.Type{Kind: began}
		}
		p.Values = append(p.Values, odata.Literal{Kind: odata.Kind(text[1] - 'a'), Text: text[2:]})
	}
	return p, order, nil
}
