package metadata_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent/metadata"
)

func TestIdentifier(t *testing.T) {
	for name, want := range map[string]bool{
		"ListPrice": true, "X_Note": true, "_1": true, "Straße": true, "null": true, strings.Repeat("ß", 128): true,
		"": false, "1a": false, "a b": false, "a/b": false, "a.b": false, "a-b": false, "$metadata": false, "A(B": false, "<x>": false,
		"a\x00b": false, "a\xffb": false, "a@b": false, strings.Repeat("a", 129): false,
	} {
		if got := metadata.Identifier(name); got != want {
			t.Errorf("Identifier(%q) = %v, want %v", name, got, want)
		}
	}
}

// TestNamesThatAreNone: what records brought under names that no document may have is known, and not written.
func TestNamesThatAreNone(t *testing.T) {
	s := &metadata.Schema{Namespace: metadata.Namespace}
	s.Infer("Property", []byte(`{"ListingKey":"x","City":"Ulm","a b":1,"a/b":2,"$x":3,"1a":4,"a-b":5,"a\u0000b":6,"<&>":7,"`+strings.Repeat("a", 129)+`":8,"Straße":9}`))
	s.Infer("Bad Name", []byte(`{"BadKey":"x"}`))
	s.Infer("A(B", []byte(`{"AKey":"x"}`))
	s.Infer("Boat", []byte(`{"Hull Key":"x"}`))
	s.Infer("Media", []byte(`{"MediaKey":"x"}`))
	kept, err := json.Marshal(s) // as stores have it that were written before
	if err != nil {
		t.Fatal(err)
	}
	opened := &metadata.Schema{}
	if err := json.Unmarshal(kept, opened); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*metadata.Schema{s, opened} {
		var b strings.Builder
		if err := s.Write(&b); err != nil {
			t.Fatal(err)
		}
		read, err := metadata.Read(strings.NewReader(b.String()))
		if err != nil || read.Check() != nil {
			t.Fatal(err, read.Check())
		}
		if d := cmp.Diff([]string{"Property", "Media"}, read.Resources()); d != "" {
			t.Error(d)
		}
		var names []string
		for _, f := range read.Type("Property").Fields {
			names = append(names, f.Name)
		}
		if d := cmp.Diff([]string{"ListingKey", "City", "Straße"}, names); d != "" {
			t.Error(d)
		}
		if key, _, ok := s.KeyField("Bad Name"); !ok || key != "BadKey" {
			t.Errorf("its records are kept by %q", key)
		}
	}
}
