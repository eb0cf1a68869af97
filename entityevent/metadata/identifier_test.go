package metadata_test

import (
	"strings"
	"testing"

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
