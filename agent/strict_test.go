package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestSchemasAreStrict looks for objects in answers and pushes of which the document does not say whether they may have
// other members: a check against such a schema would pass what nobody described. Requests may have any.
func TestSchemasAreStrict(t *testing.T) {
	text, err := description()
	if err != nil {
		t.Fatal(err)
	}
	w := strictness{objects: map[string]bool{}}
	if err := json.Unmarshal(text, &w.document); err != nil {
		t.Fatal(err)
	}
	w.walk(w.document["paths"], "/paths", false, false)
	w.walk(w.document["webhooks"], "/webhooks", false, true)
	for at, closed := range w.objects {
		if !closed {
			t.Errorf("%s: say additionalProperties or unevaluatedProperties", at)
		}
	}
	if len(w.objects) < 20 {
		t.Errorf("found only %d schemas of objects", len(w.objects))
	}
}

// strictness finds the schemas of objects, and whether each, or what it is a part of, says which other members there
// may be.
type strictness struct {
	document map[string]any
	objects  map[string]bool
}

// walk looks at v and below. Own requests are those that the producer sends.
func (w strictness) walk(v any, at string, within, own bool) {
	switch v := v.(type) {
	case []any:
		for _, element := range v {
			w.walk(element, at, within, own)
		}
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			at += " " + ref
			if strings.Count(at, ref) == 1 { // not again within itself
				w.walk(w.find(ref), at, within, own)
			}
		}
		_, additional := v["additionalProperties"]
		_, unevaluated := v["unevaluatedProperties"]
		_, properties := v["properties"].(map[string]any)
		closed := within || additional || unevaluated
		if properties || v["type"] == "object" {
			name := at[strings.LastIndex(at, " ")+1:]
			before, known := w.objects[name]
			w.objects[name] = closed && (before || !known)
		}
		for name, value := range v {
			switch {
			case slices.Contains([]string{"example", "examples", "default", "const", "parameters"}, name):
			case name == "requestBody" && !own:
			default: // only what is combined with a schema is closed by it
				combined := slices.Contains([]string{"allOf", "anyOf", "oneOf", "if", "then", "else"}, name)
				w.walk(value, at+"/"+name, closed && combined, own || name == "callbacks")
			}
		}
	}
}

// find returns what a reference within the document means.
func (w strictness) find(ref string) any {
	var v any = w.document
	for name := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		v = v.(map[string]any)[name]
	}
	return v
}
