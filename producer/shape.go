package producer

import (
	"encoding/json"
	"slices"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
)

// shape says which members of a record leave, and how. The zero shape is the record as it is stored.
type shape struct {
	selected []string                 // nil: all
	hidden   []string                 // never
	inner    func(name string) *shape // of objects in a member; nil: as they are
	strings  func(name string) bool   // numbers of the member leave as strings
}

// shape returns what the client may see of a resource.
func (x *exchange) shape(resource string) shape {
	if len(x.client.Hide) == 0 {
		return shape{}
	}
	return shape{hidden: x.client.Hide[resource], inner: func(name string) *shape {
		inner := x.shape(x.Schema.target(resource, name))
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
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, name), ':')
		dst = s.appendValue(dst, name, value)
		return nil
	})
	return dst
}

func (s *shape) appendValue(dst []byte, name string, value []byte) []byte {
	object := value[0] == '{'
	var elements []json.RawMessage
	if value[0] == '[' && (s.inner != nil || s.strings != nil) {
		_ = json.Unmarshal(value, &elements) // a stored value is JSON
	}
	switch {
	case object && s.inner != nil:
		return append(s.inner(name).appendMembers(append(dst, '{'), value, nil), '}')
	case elements != nil:
		dst = append(dst, '[')
		for i, e := range elements {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = s.appendValue(dst, name, e)
		}
		return append(dst, ']')
	case s.strings != nil && (value[0] == '-' || value[0] >= '0' && value[0] <= '9') && s.strings(name):
		return append(append(append(dst, '"'), value...), '"')
	}
	return append(dst, value...)
}

// target returns the resource whose records may stand in a member of a record. Where nothing says it, the
// name does.
func (s *Schema) target(resource, member string) string {
	target := member
	_ = s.look(func(m *metadata.Schema) error {
		if l, ok := m.Link(resource, member); ok && l.Target != "" {
			target = l.Target
		}
		return nil
	})
	return target
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
