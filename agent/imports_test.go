package main_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/resosync/resosync"

// TestImportsPointInward holds every package to the direction of imports: agent → {config, producer/…,
// producer, consumer, stores} → entityevent and its leaves. Tests may use a store.
func TestImportsPointInward(t *testing.T) {
	root := ".."
	looked := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".."):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		looked++
		from, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		from = filepath.ToSlash(from)
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			to, ours := strings.CutPrefix(imported, module+"/")
			if ours && from != to && !mayImport(from, to, strings.HasSuffix(path, "_test.go")) {
				t.Errorf("%s imports %s: imports point inward, agent → config, producer, consumer, stores → entityevent", path, to)
			}
			if from == "entityevent" && !ours && strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") && !strings.HasSuffix(path, "_test.go") {
				t.Errorf("%s imports %s: the domain needs the standard library only", path, imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if looked < 20 {
		t.Fatalf("looked at %d files only: is %s the root of the module?", looked, root)
	}
}

// leaves are the packages below entityevent that any other may use.
var leaves = map[string]bool{"entityevent": true, "entityevent/odata": true, "entityevent/metadata": true, "entityevent/bearer": true, "entityevent/retry": true,
	"entityevent/reply": true, "entityevent/seal": true, "entityevent/digest": true}

func mayImport(from, to string, test bool) bool {
	store := to == "entityevent/sqlite" || to == "entityevent/postgres"
	suite := to == "entityevent/storetest" || to == "entityevent/odata/odatatest" || to == "entityevent/openapitest"
	switch top, _, _ := strings.Cut(from, "/"); {
	case top == "agent":
		return !suite || test && to == "entityevent/openapitest"
	case test && (store || suite):
		return true
	case top == "producer", top == "consumer", top == "config":
		return leaves[to] || from != top && to == top // what is below it uses it, never the other way round
	case from == "entityevent/storetest" && to == "entityevent/odata/odatatest": // it makes random filters
		return true
	case from == "entityevent/sqlite", from == "entityevent/postgres", from == "entityevent/storetest":
		return leaves[to]
	case top == "entityevent": // the domain and its leaves: the domain may use odata, the leaves the domain
		return from == "entityevent" && to == "entityevent/odata" || from != "entityevent" && leaves[to]
	}
	return false
}

func TestTheRuleItself(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"agent", "producer", true}, {"agent/internal/bench", "entityevent/sqlite", true}, {"producer", "entityevent/odata", true},
		{"producer", "consumer", false}, {"consumer", "producer", false}, {"producer", "entityevent/sqlite", false},
		{"producer/box", "producer", true}, {"producer", "producer/box", false}, {"producer/box", "producer/task", false}, {"producer/box", "consumer", false},
		{"consumer", "config", false}, {"entityevent", "producer", false}, {"entityevent/sqlite", "agent", false}, {"entityevent", "entityevent/sqlite", false},
	} {
		if got := mayImport(c.from, c.to, false); got != c.want {
			t.Errorf("%s may import %s: %v, want %v", c.from, c.to, got, c.want)
		}
	}
}
