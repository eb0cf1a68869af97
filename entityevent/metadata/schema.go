// Package metadata holds the schema of a RESO data source: it reads and writes the EDMX that
// $metadata serves (OData CSDL XML), and grows a schema out of records where nobody wrote one.
//
// It promises that a document with one Schema element is served as it was written, that several are
// merged into one, and that an inferred type is wide enough for every value that was shown to it.
package metadata

import (
	"encoding/json"
	"iter"
	"strings"
)

// Namespace is that of the schemas which this package makes.
const Namespace = "org.reso.metadata"

// Schema is the schema of one service root. Several may read it at once while nobody changes it.
type Schema struct {
	Namespace string        `json:"namespace"`
	Types     []*EntityType `json:"types"`
	Complex   []*EntityType `json:"complex,omitempty"` // without a key
	Enums     []Enum        `json:"enums,omitempty"`
	Sets      []Set         `json:"sets,omitempty"` // none: one for each type, of its name

	read      bool                   // from a document: what it does not declare is not there
	raw       []byte                 // the document as it was read, if it has exactly one Schema element
	schemaEnd int                    // where </Schema> stands in raw
	setsEnd   int                    // where </EntityContainer> stands in raw; 0: there is none
	byName    map[string]*EntityType // by the names of resources and of types
	byType    map[string]*EntityType // by the names of types alone
}

// EntityType is the type of a resource's records.
type EntityType struct {
	Name        string       `json:"name"`
	Base        string       `json:"base,omitempty"` // qualified name of the type that it extends
	Key         []string     `json:"key,omitempty"`
	Fields      []Field      `json:"fields"`
	Navigations []Navigation `json:"navigations,omitempty"`

	index map[string]int
}

// Field is one property of a type.
type Field struct {
	Name      string `json:"name"`
	Type      string `json:"type"` // Edm.String, Collection(Edm.String), …; "": only null was seen so far
	Nullable  bool   `json:"nullable,omitempty"`
	MaxLength string `json:"max_length,omitempty"`
	Precision string `json:"precision,omitempty"`
	Scale     string `json:"scale,omitempty"`
	Lookup    string `json:"lookup,omitempty"` // the annotation RESO.OData.Metadata.LookupName
}

// Navigation leads from a record to others, as Property to Media.
type Navigation struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Nullable bool   `json:"nullable,omitempty"`
	Partner  string `json:"partner,omitempty"` // the navigation of Type that leads back
	// Constraints say which of our fields hold which of Type's.
	Constraints []Constraint `json:"constraints,omitempty"`
}

// Constraint is a referential constraint: Field has the value of the other record's Referenced.
type Constraint struct {
	Field      string `json:"field"`
	Referenced string `json:"referenced"`
}

// Enum is an enumeration.
type Enum struct {
	Name       string       `json:"name"`
	Underlying string       `json:"underlying,omitempty"`
	Flags      bool         `json:"flags,omitempty"`
	Members    []EnumMember `json:"members"`
}

// EnumMember is one value of an enumeration.
type EnumMember struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// Set is a resource: the name in URLs and the qualified name of its type.
type Set struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// Bindings are the sets to which navigations lead.
	Bindings map[string]string `json:"bindings,omitempty"`
}

// Type returns the type of a resource, nil if the schema has no such resource.
func (s *Schema) Type(resource string) *EntityType { return s.byName[resource] }

// prepare makes the indexes anew.
func (s *Schema) prepare() {
	s.byName, s.byType = map[string]*EntityType{}, map[string]*EntityType{}
	for _, t := range s.Types {
		s.byName[t.Name] = t
		if s.byType[t.Name] == nil { // the first of a name that stands twice
			s.byType[t.Name] = t
		}
		t.index = make(map[string]int, len(t.Fields))
		for i, f := range t.Fields {
			t.index[f.Name] = i
		}
	}
	for _, set := range s.Sets {
		if t := s.byQualified(set.Type); t != nil {
			s.byName[set.Name] = t
		}
	}
}

// UnmarshalJSON reads what json.Marshal wrote.
func (s *Schema) UnmarshalJSON(text []byte) error {
	type plain Schema
	if err := json.Unmarshal(text, (*plain)(s)); err != nil {
		return err
	}
	s.prepare()
	return nil
}

func (s *Schema) byQualified(name string) *EntityType {
	short, ok := strings.CutPrefix(name, s.Namespace+".")
	if !ok {
		return nil
	}
	return s.byType[short]
}

// Resources returns the names of the resources, in the order of the document.
func (s *Schema) Resources() []string {
	var names []string
	for _, set := range s.Sets {
		names = append(names, set.Name)
	}
	if names == nil {
		for _, t := range s.Types {
			names = append(names, t.Name)
		}
	}
	return names
}

// KeyField returns the name and the type of a resource's key field. It is false when the schema does
// not have the resource, or its key is not exactly one field.
func (s *Schema) KeyField(resource string) (name, edmType string, ok bool) {
	for t := range s.bases(resource) {
		switch len(t.Key) {
		case 0:
		case 1:
			f, _ := s.Field(resource, t.Key[0])
			return t.Key[0], f.Type, true
		default:
			return "", "", false
		}
	}
	return "", "", false
}

// bases yields the type of a resource, the type that it extends, and so on: at most ten, for a document
// may go in a circle.
func (s *Schema) bases(resource string) iter.Seq[*EntityType] {
	return func(yield func(*EntityType) bool) {
		t := s.Type(resource)
		for n := 0; n < 10 && t != nil && yield(t); n++ {
			t = s.byQualified(t.Base)
		}
	}
}

// Field returns a field of a resource, also one that its type inherits.
func (s *Schema) Field(resource, name string) (Field, bool) {
	for t := range s.bases(resource) {
		if i, ok := t.at(name); ok {
			return t.Fields[i], true
		}
	}
	return Field{}, false
}

// HasMember says whether a record of the resource may have this member: a field, or expanded records.
func (s *Schema) HasMember(resource, name string) bool {
	if _, ok := s.Field(resource, name); ok {
		return true
	}
	_, ok := s.navigation(resource, name)
	return ok
}

func (t *EntityType) at(name string) (int, bool) {
	i, ok := t.index[name]
	return i, ok
}

// Add adds a type and a resource of its name. It does nothing if the schema has that resource.
func (s *Schema) Add(t *EntityType) {
	if s.Type(t.Name) != nil {
		return
	}
	if len(s.Sets) > 0 {
		s.Sets = append(s.Sets, Set{Name: t.Name, Type: s.Namespace + "." + t.Name})
	}
	s.Types = append(s.Types, t)
	s.prepare()
	s.splice(t)
}

// EntityEvent returns the type of the EntityEvent resource (RCP-27).
func EntityEvent() *EntityType {
	return &EntityType{
		Name: "EntityEvent",
		Key:  []string{"EntityEventSequence"},
		Fields: []Field{
			{Name: "EntityEventSequence", Type: "Edm.Int64"},
			{Name: "ResourceName", Type: "Edm.String", MaxLength: "255"},
			{Name: "ResourceRecordKey", Type: "Edm.String", MaxLength: "255"},
			{Name: "ResourceRecordUrl", Type: "Edm.String", MaxLength: "8000", Nullable: true},
		},
	}
}
