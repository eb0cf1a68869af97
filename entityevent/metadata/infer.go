package metadata

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// The types that inference knows.
const (
	edmString   = "Edm.String"
	edmInt64    = "Edm.Int64"
	edmDecimal  = "Edm.Decimal"
	edmBoolean  = "Edm.Boolean"
	edmDate     = "Edm.Date"
	edmDateTime = "Edm.DateTimeOffset"
	edmUntyped  = "Edm.Untyped"
)

// Infer grows the schema by a record, one JSON object: its resource, fields it did not know, and types
// wide enough for its values. The key field is that of s.ChooseKey; once found it stays. What is no object
// changes nothing.
func (s *Schema) Infer(resource string, body []byte) (changed bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return false
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return changed
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return changed
		}
		if s.InferMember(resource, name.(string), value) {
			changed = true
		}
	}
	t := s.Type(resource)
	if t == nil || len(t.Key) > 0 {
		return changed
	}
	names := make([]string, len(t.Fields))
	for i, f := range t.Fields {
		names[i] = f.Name
	}
	key, ok := s.ChooseKey(resource, names)
	return ok && s.SetKey(resource, key) || changed
}

// InferMember grows the schema by one member of a record. Annotations, which have an @ in their name,
// change nothing.
func (s *Schema) InferMember(resource, name string, value []byte) (changed bool) {
	if strings.Contains(name, "@") || name == "" || len(value) == 0 {
		return false
	}
	t := s.Type(resource)
	if t == nil {
		s.Add(&EntityType{Name: resource})
		t = s.Type(resource)
	}
	i, ok := t.at(name)
	if !ok {
		s.scopes.Delete(resource)
		edmType := typeOf(value)
		t.index[name] = len(t.Fields)
		t.Fields = append(t.Fields, Field{Name: name, Type: edmType, Nullable: !strings.HasPrefix(edmType, "Collection(")})
		return true
	}
	f := &t.Fields[i]
	wide := widen(f.Type, typeOf(value))
	if len(t.Key) == 1 && t.Key[0] == name {
		wide = edmString
	}
	if wide == f.Type {
		return false
	}
	s.scopes.Delete(resource)
	f.Type = wide
	return true
}

// SetKey makes a field the key of a resource that has none yet. Its type is Edm.String whatever its
// values look like: a key is opaque, and 007 is another one than 7.
func (s *Schema) SetKey(resource, field string) (changed bool) {
	t := s.Type(resource)
	if t == nil || len(t.Key) > 0 {
		return false
	}
	i, ok := t.at(field)
	if !ok {
		return false
	}
	s.scopes.Delete(resource)
	t.Key = []string{field}
	t.Fields[i].Type, t.Fields[i].Nullable = edmString, false
	return true
}

// typeOf returns the type of a JSON value, "" for null and Collection() for an empty array.
func typeOf(value []byte) string {
	switch value[0] {
	case 'n':
		return ""
	case 't', 'f':
		return edmBoolean
	case '{':
		return edmUntyped
	case '[':
		return collectionOf(value)
	case '"':
		return textType(value[1:max(1, len(value)-1)])
	}
	if _, err := strconv.ParseInt(string(value), 10, 64); err != nil {
		return edmDecimal
	}
	return edmInt64
}

func textType(text []byte) string {
	// Every listing has hundreds of texts: look at the shape before parsing.
	if len(text) < 10 || text[4] != '-' || text[7] != '-' {
		return edmString
	}
	if len(text) == 10 {
		if _, err := time.Parse(time.DateOnly, string(text)); err == nil {
			return edmDate
		}
		return edmString
	}
	if _, err := time.Parse(time.RFC3339Nano, string(text)); err == nil {
		return edmDateTime
	}
	return edmString
}

func collectionOf(value []byte) string {
	var elements []json.RawMessage
	if json.Unmarshal(value, &elements) != nil {
		return "Collection(" + edmUntyped + ")"
	}
	inner := ""
	for _, e := range elements {
		inner = widen(inner, typeOf(e))
	}
	switch {
	case inner == edmDate, inner == edmDateTime:
		inner = edmString
	case strings.HasPrefix(inner, "Collection("):
		inner = edmUntyped
	}
	return "Collection(" + inner + ")"
}

// widen returns a type for the values of both.
func widen(a, b string) string {
	texts := func(t string) bool { return t == edmString || t == edmDate || t == edmDateTime }
	numbers := func(t string) bool { return t == edmInt64 || t == edmDecimal }
	innerA, collectionA := strings.CutPrefix(a, "Collection(")
	innerB, collectionB := strings.CutPrefix(b, "Collection(")
	switch {
	case a == b || b == "":
		return a
	case a == "":
		return b
	case texts(a) && texts(b):
		return edmString
	case numbers(a) && numbers(b):
		return edmDecimal
	case collectionA && collectionB:
		return "Collection(" + widen(strings.TrimSuffix(innerA, ")"), strings.TrimSuffix(innerB, ")")) + ")"
	}
	return edmUntyped
}
