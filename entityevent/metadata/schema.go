// Package metadata holds the schema of a RESO data source: it reads and writes the EDMX that
// $metadata serves (OData CSDL XML), and grows a schema out of records where nobody wrote one.
//
// It promises that a document with one Schema element is served as it was written, that several are
// merged into one, and that an inferred type is wide enough for every value that was shown to it.
package metadata

import (
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/resosync/resosync/entityevent/odata"
)

// Namespace is that of the schemas which this package makes.
const Namespace = "org.reso.metadata"

// Schema is the schema of one service root. Several may read it at once while nobody changes it.
type Schema struct {
	Namespace string        `json:"namespace"`
	Types     []*EntityType `json:"types"`
	Complex   []*EntityType `json:"-"` // without a key
	Enums     []Enum        `json:"-"`
	Sets      []Set         `json:"-"` // none: one for each type, of its name
	// Keys are the key fields of resources whose key is not the Data Dictionary's, or not in it. They are
	// for inferring.
	Keys map[string]string `json:"-"`

	read      bool                   // from a document: what it does not declare is not there
	faults    []error                // what Check tells
	raw       []byte                 // the document
	space     string                 // the XML namespace of its schema
	schemaEnd int                    // where </Schema> stands in raw
	setsEnd   int                    // where </EntityContainer> stands in raw; 0: there is none
	byName    map[string]*EntityType // by the names of resources
	byType    map[string]*EntityType // by the names of types
	complex   map[string]*EntityType // by their qualified names
	names     map[string]string      // qualified as in the document → as it is written
	enums     map[string]*odata.Enum // by each name that the document gives them
	scopes    sync.Map               // resource → map[string]odata.Type, until its type changes
}

// EntityType is the type of a resource's records.
type EntityType struct {
	Name        string       `json:"name"`
	Base        string       `json:"-"` // qualified name of the type that it extends
	Key         []string     `json:"key,omitempty"`
	Fields      []Field      `json:"fields"`
	Navigations []Navigation `json:"-"`
	Open        bool         `json:"-"` // records may have members that are not declared

	abstract bool
	line     int // of the document
	index    map[string]int
}

// Field is one property of a type.
type Field struct {
	Name      string `json:"name"`
	Type      string `json:"type"` // Edm.String, Collection(Edm.String), …; "": only null was seen so far
	Nullable  bool   `json:"nullable,omitempty"`
	MaxLength string `json:"max_length,omitempty"`
	Precision string `json:"precision,omitempty"`
	Scale     string `json:"scale,omitempty"`
	Default   string `json:"-"`                // what it is if it is not written
	Lookup    string `json:"lookup,omitempty"` // the annotation RESO.OData.Metadata.LookupName
}

// Navigation leads from a record to others, as Property to Media.
type Navigation struct {
	Name     string
	Type     string
	Nullable bool
	Partner  string // the navigation of Type that leads back
	// Constraints say which of our fields hold which of Type's.
	Constraints []Constraint
}

// Constraint is a referential constraint: Field has the value of the other record's Referenced.
type Constraint struct {
	Field      string
	Referenced string
}

// Enum is an enumeration.
type Enum struct {
	Name       string
	Underlying string
	Flags      bool
	Members    []EnumMember
}

// EnumMember is one value of an enumeration.
type EnumMember struct {
	Name  string
	Value string
}

// Set is a resource: the name in URLs and the qualified name of its type.
type Set struct {
	Name string
	Type string
	// Bindings are the sets to which navigations lead.
	Bindings map[string]string

	line int // of the document
}

// Type returns the type of a resource, nil if the schema has no such resource.
func (s *Schema) Type(resource string) *EntityType { return s.byName[resource] }

// prepare makes the indexes anew.
func (s *Schema) prepare() {
	s.byName, s.byType = map[string]*EntityType{}, map[string]*EntityType{}
	s.scopes.Clear()
	s.nameEnums()
	s.complex = map[string]*EntityType{}
	for _, t := range s.Complex {
		s.complex[s.Namespace+"."+t.Name] = t
		t.number()
	}
	for _, t := range s.Types {
		if s.byType[t.Name] == nil { // the first of a name that stands twice
			s.byType[t.Name] = t
		}
		t.number()
	}
	for _, set := range s.sets() {
		if t := s.byQualified(set.Type); t != nil && s.byName[set.Name] == nil {
			s.byName[set.Name] = t
		}
	}
}

// number makes the index of the fields anew.
func (t *EntityType) number() {
	t.index = make(map[string]int, len(t.Fields))
	for i, f := range t.Fields {
		t.index[f.Name] = i
	}
}

// nameEnums makes the enumerations known by their qualified names in every namespace and alias that the
// document gave them, and by their bare names, of which the document's own come first.
func (s *Schema) nameEnums() {
	s.enums = map[string]*odata.Enum{}
	for _, in := range s.Enums {
		e := &odata.Enum{Name: s.Namespace + "." + in.Name, Flags: in.Flags}
		for _, m := range in.Members {
			e.Members = append(e.Members, m.Name)
		}
		e.Values = numbered(in.Members)
		s.enums[e.Name], s.enums[in.Name] = e, e
	}
	for _, written := range slices.Sorted(maps.Keys(s.names)) {
		e := s.enums[s.names[written]] // the two names are the same within s.Namespace
		if e == nil {
			continue
		}
		s.enums[written] = e
		if bare := written[strings.LastIndexByte(written, '.')+1:]; s.enums[bare] == nil {
			s.enums[bare] = e
		}
	}
}

// numbered returns the values of members, nil if not each has its own: then nobody can go by them.
func numbered(members []EnumMember) []int64 {
	values := make([]int64, len(members))
	for i, m := range members {
		n, err := strconv.ParseInt(m.Value, 10, 64)
		if err != nil || slices.Contains(values[:i], n) {
			return nil
		}
		values[i] = n
	}
	return values
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
	for _, set := range s.sets() {
		names = append(names, set.Name)
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

const maxBases = 10 // for a document may go in a circle

// bases yields the type of a resource, the type that it extends, and so on.
func (s *Schema) bases(resource string) iter.Seq[*EntityType] {
	return func(yield func(*EntityType) bool) {
		t := s.Type(resource)
		for n := 0; n < maxBases && t != nil && yield(t); n++ {
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

// Add adds a type and a resource of its name. It does nothing if the schema has that resource; if it has
// the type alone, that becomes the resource's.
func (s *Schema) Add(t *EntityType) {
	if s.Type(t.Name) != nil {
		return
	}
	sets := []Set{{Name: t.Name, Type: s.Namespace + "." + t.Name}}
	if s.read && len(s.Sets) == 0 { // with one set the others need theirs
		sets = append(s.sets(), sets[0])
	}
	if s.read {
		s.Sets = append(s.Sets, sets...)
	}
	if s.byType[t.Name] == nil {
		s.Types = append(s.Types, t)
	} else {
		t = nil
	}
	s.prepare()
	s.splice(sets, t)
}

const eventResource = "EntityEvent"

// EntityEvent returns the type of the EntityEvent resource (RCP-27).
func EntityEvent() *EntityType {
	return &EntityType{
		Name: eventResource,
		Key:  []string{"EntityEventSequence"},
		Fields: []Field{
			{Name: "EntityEventSequence", Type: "Edm.Int64"},
			{Name: "ResourceName", Type: "Edm.String", MaxLength: "255"},
			{Name: "ResourceRecordKey", Type: "Edm.String", MaxLength: "255"},
			{Name: "ResourceRecordUrl", Type: "Edm.String", MaxLength: "8000", Nullable: true},
		},
	}
}
