package main

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/resosync/resosync/entityevent/openapitest"
)

func TestDocumentIsOpenAPI(t *testing.T) {
	text, err := description()
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range append(documents(), text) {
		if _, err := openapitest.Open(text); err != nil {
			t.Errorf("document %d: %v", i, err)
		}
	}
}

// TestDocumentsAgree compares what has the same name in more than one of the documents that become one. How
// they answer elsewhere is the agent's to say.
func TestDocumentsAgree(t *testing.T) {
	seen := map[string][]byte{}
	add := func(kind string, named map[string]json.RawMessage) {
		for name, text := range named {
			var plain bytes.Buffer
			if err := json.Compact(&plain, text); err != nil {
				t.Fatal(err)
			}
			at := kind + " " + name
			if before := seen[at]; before != nil && at != "pathItems elsewhere" && !bytes.Equal(before, plain.Bytes()) {
				t.Errorf("two documents differ in %s:\n%s\n%s", at, before, plain.Bytes())
			}
			seen[at] = plain.Bytes()
		}
	}
	for _, text := range documents() {
		var part openAPI
		if err := json.Unmarshal(text, &part); err != nil {
			t.Fatal(err)
		}
		add("paths", part.Paths)
		add("webhooks", part.Webhooks)
		for kind, named := range part.Components {
			add(kind, named)
		}
	}
}

// TestEveryRouteIsInTheDocument looks for paths in the source of what answers them.
func TestEveryRouteIsInTheDocument(t *testing.T) {
	text, err := description()
	if err != nil {
		t.Fatal(err)
	}
	var document openAPI
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	var source []byte
	for _, file := range []string{"routes.go", "follow.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, text...)
	}
	written := map[string]string{"/webhooks": "/webhooks/{feed}", "/odata": "/odata/{resource}", "/feeds/": "/odata", "/2.0": "/2.0/events",
		"/webhooks/": "/webhooks/{feed}"}
	found := regexp.MustCompile(`"(/[a-z2][^" ]*)"`).FindAllSubmatch(source, -1)
	for _, match := range found {
		path := string(match[1])
		if other := written[path]; other != "" {
			path = other
		}
		if path != "/admin" && document.Paths[path] == nil {
			t.Errorf("%s is answered and not in the document", path)
		}
	}
	if len(found) < 20 {
		t.Errorf("found only %d paths", len(found))
	}
}
