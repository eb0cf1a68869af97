package producer

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
)

// shape says which members of a record leave, and how. The zero shape is the record as it is stored.
type shape struct {
	selected []string                 // nil: all
	hidden   []string                 // never
	inner    func(name string) *shape // of objects in a member, nil if they are not shown; without it they leave as they are
	strings  func(name string) bool   // numbers of the member leave as strings
}

// shape returns what the client may see of a resource.
func (x *exchange) shape(resource string) shape {
	if !x.client.limited() {
		return shape{}
	}
	return shape{hidden: x.client.Hide[resource], inner: func(name string) *shape {
		var target string
		var shown bool
		look := func(m *metadata.Schema) error {
			target, shown = x.client.inner(m, resource, name)
			return nil
		}
		_ = x.Schema.look(look)
		if shown && target == "" { // unless a resource of this name came meanwhile
			if x.Schema.catchUp(x.r.Context()) != nil {
				return nil
			}
			_ = x.Schema.look(look)
		}
		if !shown {
			return nil
		}
		inner := x.shape(target)
		return &inner
	}}
}

// appendMembers appends the members of a record, without braces, but for those in whose place others stand.
func (s *shape) appendMembers(dst, body []byte, replaced []string) []byte {
	if s.selected == nil && s.hidden == nil && s.inner == nil && s.strings == nil && len(replaced) == 0 {
		return append(dst, body[1:len(body)-1]...)
	}
	start := len(dst)
	_ = entityevent.EachMember(body, func(name string, value []byte) error { // stored bodies are objects
		if s.selected != nil && !slices.Contains(s.selected, name) || slices.Contains(s.hidden, name) || slices.Contains(replaced, name) {
			return nil
		}
		var inner *shape
		if s.inner != nil && bytes.IndexByte(value, '{') >= 0 && (value[0] == '{' || value[0] == '[') {
			if inner = s.inner(name); inner == nil {
				return nil
			}
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, name), ':')
		dst = s.appendValue(dst, name, value, inner)
		return nil
	})
	return dst
}

func (s *shape) appendValue(dst []byte, name string, value []byte, inner *shape) []byte {
	var elements []json.RawMessage
	if value[0] == '[' && (inner != nil || s.strings != nil) {
		_ = json.Unmarshal(value, &elements) // a stored value is JSON
	}
	switch {
	case value[0] == '{' && inner != nil:
		return append(inner.appendMembers(append(dst, '{'), value, nil), '}')
	case elements != nil:
		dst = append(dst, '[')
		for i, e := range elements {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = s.appendValue(dst, name, e, inner)
		}
		return append(dst, ']')
	case s.strings != nil && (value[0] == '-' || value[0] >= '0' && value[0] <= '9') && s.strings(name):
		return append(append(append(dst, '"'), value...), '"')
	}
	return append(dst, value...)
}

// large says of a resource's members whether their numbers may be beyond what a float64 holds: Edm.Int64
// and Edm.Decimal, and what is not known.
func (s *Schema) large(resource string) func(name string) bool {
	return func(name string) (large bool) {
		_ = s.look(func(m *metadata.Schema) error {
			f, ok := m.Field(resource, name)
			switch f.Type {
			case "Edm.Int64", "Edm.Decimal", "Collection(Edm.Int64)", "Collection(Edm.Decimal)":
				large = true
			default:
				large = !ok
			}
			return nil
		})
		return large
	}
}
