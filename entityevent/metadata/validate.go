package metadata

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"github.com/resosync/resosync/entityevent"
)

// Fault is what is wrong with one field of a record.
type Fault struct {
	Field  string
	Reason string // a sentence for people, beginning with the field; without the record's values
}

// Validate returns what is wrong with a record, a fault for each wrong field, in the order of its members.
// By a schema that was read from a document, members are declared and fit their types and facets, and what
// cannot be null is there. An inferred schema takes any value, for it grows. By either, numbers whose
// name says that they are a price, a count or an area are not negative (RCP-10). Of annotations it looks
// only at what they stand beside, which is declared too. The error is of a body that is no JSON object.
func (s *Schema) Validate(resource string, body []byte) ([]Fault, error) {
	faults, met, err := s.validate(resource, body)
	if err != nil || !s.read {
		return faults, err
	}
	key, _, _ := s.KeyField(resource)
	for t := range s.bases(resource) {
		for _, f := range t.Fields {
			if !f.Nullable && f.Default == "" && f.Name != key && !strings.HasPrefix(f.Type, "Collection(") && !met[f.Name] {
				faults = append(faults, Fault{f.Name, f.Name + " is missing, and cannot be null"})
			}
		}
	}
	return faults, nil
}

// ValidateChange is Validate for members that are merged into a record: none needs to be there.
func (s *Schema) ValidateChange(resource string, body []byte) ([]Fault, error) {
	faults, _, err := s.validate(resource, body)
	return faults, err
}

// validate also returns which of the fields that cannot be null were met.
func (s *Schema) validate(resource string, body []byte) (faults []Fault, met map[string]bool, err error) {
	err = entityevent.EachMember(body, func(name string, value []byte) error {
		if reason := s.reason(resource, name, value); reason != "" {
			field, _, _ := strings.Cut(name, "@")
			faults = append(faults, Fault{field, reason})
		}
		if f, ok := s.Field(resource, name); ok && !f.Nullable && s.read {
			if met == nil {
				met = map[string]bool{}
			}
			met[name] = true
		}
		return nil
	})
	return faults, met, err
}

// reason says what is wrong with a member of a record, "" if nothing is.
func (s *Schema) reason(resource, name string, value []byte) string {
	if field, annotation, ok := strings.Cut(name, "@"); ok {
		return s.annotationReason(resource, field, annotation)
	}
	f, known := s.Field(resource, name)
	switch {
	case s.read && !known && s.isNavigation(resource, name):
		return name + " is a navigation: its records are written to their own resource"
	case s.read && !known && !s.open(resource):
		return fmt.Sprintf("%s has no field %.100s", resource, name)
	case len(value) > 1 && value[0] == '-' && neverNegative(name) && !isZero(value):
		return name + " is never negative"
	case !s.read || !known:
		return ""
	}
	if at, wrong := s.misfit(f, value); wrong != "" {
		return name + at + " " + wrong
	}
	return ""
}

// annotationReason is reason for what stands beside a field, or for the record if field is "".
func (s *Schema) annotationReason(resource, field, annotation string) string {
	_, link := s.Link(resource, field)
	switch {
	case field != "" && annotation == "odata.bind":
		return fmt.Sprintf("%.100q is not offered: write the field that holds the key", field+"@"+annotation)
	case field != "" && s.read && !link && !s.HasMember(resource, field) && !s.open(resource):
		return fmt.Sprintf("%s has no field %.100s", resource, field)
	}
	return ""
}

func (s *Schema) isNavigation(resource, name string) bool {
	_, ok := s.navigation(resource, name)
	return ok
}

// open says whether records of the resource may have members that are not declared.
func (s *Schema) open(resource string) bool {
	for t := range s.bases(resource) {
		if t.Open {
			return true
		}
	}
	return false
}

// misfit says where in a field's value it does not fit the field, as [2] or /City, and how: "" if it fits.
func (s *Schema) misfit(f Field, value []byte) (at, wrong string) {
	inner, collection := strings.CutPrefix(f.Type, "Collection(")
	switch {
	case collection:
		f.Type = strings.TrimSuffix(inner, ")")
		return s.collectionMisfit(f, value)
	case value[0] == 'n' && f.Nullable, f.Type == edmUntyped, f.Type == "Edm.PrimitiveType":
		return "", ""
	case value[0] == 'n':
		return "", "cannot be null"
	}
	if want, ok := formats[f.Type]; ok {
		if !want.fits(f, value) {
			return "", want.describe(f)
		}
		return "", ""
	}
	if e, ok := s.enums[f.Type]; ok {
		return "", enumMisfit(e, value)
	}
	if t := s.complex[f.Type]; t != nil {
		return s.complexMisfit(t, value)
	}
	return "", ""
}

func (s *Schema) collectionMisfit(f Field, value []byte) (at, wrong string) {
	if value[0] != '[' {
		return "", "is a collection: write an array, [] for none"
	}
	if len(value) == 2 {
		return "", ""
	}
	var elements []json.RawMessage
	if json.Unmarshal(value, &elements) != nil {
		return "", "cannot be read"
	}
	for i, e := range elements {
		if at, wrong := s.misfit(f, e); wrong != "" {
			return fmt.Sprintf("[%d]%s", i, at), wrong
		}
	}
	return "", ""
}

func (s *Schema) complexMisfit(t *EntityType, value []byte) (at, wrong string) {
	if value[0] != '{' {
		return "", "is an object of the type " + t.Name
	}
	scope := members{s, t}
	err := entityevent.EachMember(value, func(name string, value []byte) error {
		field, _, annotation := strings.Cut(name, "@")
		if wrong != "" || field == "" {
			return nil
		}
		f, open, ok := scope.declared(field)
		if !ok && !open {
			at, wrong = "", fmt.Sprintf("has no field %.100s", field)
		}
		if !ok || annotation {
			return nil
		}
		inside, reason := s.misfit(f, value)
		at, wrong = "/"+name+inside, reason
		return nil
	})
	if err != nil {
		return "", "cannot be read"
	}
	if wrong == "" {
		at = ""
	}
	return at, wrong
}

// neverNegative says whether a number of this name is a price, a count or an area, by the words of the
// Data Dictionary's names. A change of one may be negative.
func neverNegative(name string) bool {
	found, word := false, 0
	for i := 1; i <= len(name); i++ {
		if i < len(name) && !unicode.IsUpper(rune(name[i])) {
			continue
		}
		switch name[word:i] {
		case "Price", "Count", "Area", "Acres", "Feet", "Total", "Number", "Bedrooms", "Bathrooms", "Spaces", "Stories", "Units", "Size":
			found = true
		case "Change", "Difference", "Delta", "Adjustment":
			return false
		}
		word = i
	}
	return found
}

// isZero says whether a number is written as -0, -0.00 and the like.
func isZero(number []byte) bool {
	for _, c := range number {
		if c == 'e' || c == 'E' {
			break
		}
		if c >= '1' && c <= '9' {
			return false
		}
	}
	return true
}
