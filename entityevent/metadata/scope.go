package metadata

import (
	"strings"

	"github.com/resosync/resosync/entityevent/odata"
)

// Scope returns what the names in a filter of a resource's records mean. It stays as it is while the schema
// grows. The scope of an inferred resource knows its ModificationTimestamp and its key before a record showed
// them. It is nil if there is no such resource.
func (s *Schema) Scope(resource string) odata.Scope {
	cached, ok := s.scopes.Load(resource)
	if !ok {
		fields := s.typed(resource)
		if fields == nil {
			return nil
		}
		cached, _ = s.scopes.LoadOrStore(resource, fields)
	}
	return &scope{fields: cached.(map[string]odata.Type), enums: s.enums}
}

type scope struct {
	fields map[string]odata.Type // shared and never changed
	enums  map[string]*odata.Enum
}

func (s *scope) Field(name string) (odata.Type, bool) {
	t, ok := s.fields[name]
	return t, ok
}

func (s *scope) Enum(name string) (*odata.Enum, bool) {
	e, ok := s.enums[name]
	return e, ok
}

// members is the scope of a complex type.
type members struct {
	schema *Schema
	of     *EntityType
}

func (m members) Field(name string) (odata.Type, bool) {
	f, _, ok := m.declared(name)
	if !ok {
		return odata.Type{}, false
	}
	return m.schema.typeOf(f.Type), true
}

// declared returns a field of the type or of one that it extends, and whether one of these is open.
func (m members) declared(name string) (f Field, open, ok bool) {
	t := m.of
	for n := 0; n < maxBases && t != nil; n++ {
		if i, ok := t.at(name); ok {
			return t.Fields[i], open, true
		}
		open = open || t.Open
		t = m.schema.complex[t.Base]
	}
	return Field{}, open, false
}

func (m members) Enum(name string) (*odata.Enum, bool) {
	e, ok := m.schema.enums[name]
	return e, ok
}

// typed returns the fields of a resource with their types, nil if there is no such resource.
func (s *Schema) typed(resource string) map[string]odata.Type {
	known, ok := s.KnownKey(resource)
	if s.Type(resource) == nil && (s.read || !ok) {
		return nil
	}
	fields := map[string]odata.Type{}
	for t := range s.bases(resource) {
		for _, f := range t.Fields {
			if _, own := fields[f.Name]; !own {
				fields[f.Name] = s.typeOf(f.Type)
			}
		}
	}
	if !s.read && resource != eventResource {
		if _, seen := fields[known]; ok && !seen {
			fields[known] = odata.Type{Kind: odata.String}
		}
		fields["ModificationTimestamp"] = odata.Type{Kind: odata.DateTimeOffset}
	}
	return fields
}

// kinds are the kinds of the primitive types. Those that no filter can compare are left out.
var kinds = map[string]odata.Kind{
	"": odata.Untyped, edmUntyped: odata.Untyped, "Edm.PrimitiveType": odata.Untyped, edmBoolean: odata.Bool,
	"Edm.Byte": odata.Int, "Edm.SByte": odata.Int, "Edm.Int16": odata.Int, "Edm.Int32": odata.Int, edmInt64: odata.Int,
	edmDecimal: odata.Decimal, "Edm.Double": odata.Decimal, "Edm.Single": odata.Decimal,
	edmString: odata.String, edmDate: odata.Date, edmDateTime: odata.DateTimeOffset, "Edm.Guid": odata.Guid,
	"Edm.TimeOfDay": odata.TimeOfDay,
}

// innerType returns the type of a collection's values, or the type itself.
func innerType(edmType string) string {
	inner, _ := strings.CutPrefix(edmType, "Collection(")
	return strings.TrimSuffix(inner, ")")
}

// typeOf returns the type of a field for filters.
func (s *Schema) typeOf(edmType string) odata.Type {
	inner := innerType(edmType)
	t := odata.Type{Collection: inner != edmType}
	if kind, ok := kinds[inner]; ok {
		t.Kind = kind
	} else if e, ok := s.enums[inner]; ok {
		t.Kind, t.Enum = odata.Enumeration, e
	} else if c := s.complex[inner]; c != nil {
		t.Kind, t.Fields = odata.Complex, members{s, c}
	} else {
		t.Kind = odata.Complex // Edm.Duration, Edm.GeographyPoint, …: nothing to compare it with
	}
	return t
}
