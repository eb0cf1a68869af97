package metadata

import (
	"errors"
	"fmt"
	"strings"
)

// Check tells what is wrong with the document that was read, with the lines: types that are nowhere
// declared, names that stand twice, resources without a key of one field. What it finds would mislead
// those who read the metadata, or leave a resource that cannot be served.
func (s *Schema) Check() error { return errors.Join(s.faults...) }

// maxFaults is how many faults are told.
const maxFaults = 20

func (b *builder) fault(line int, format string, args ...any) {
	if len(b.schema.faults) < maxFaults {
		b.schema.faults = append(b.schema.faults, fmt.Errorf("line %d: "+format, append([]any{line}, args...)...))
	}
}

// declare notes that something of this name is there.
func (b *builder) declare(e *element, what string) {
	name := b.schema.Namespace + "." + e.attr("Name")
	if before := b.declared[name]; before != "" {
		b.fault(e.line, "%s is declared a second time", name)
	}
	b.declared[name] = what
}

// refer notes that e refers to a type.
func (b *builder) refer(e *element, edmType, what string) {
	inner := strings.TrimSuffix(strings.TrimPrefix(edmType, "Collection("), ")")
	if inner != "" && !strings.HasPrefix(inner, "Edm.") {
		b.references = append(b.references, reference{inner, what, e.line})
	}
}

// check looks at what only shows when all is read.
func (b *builder) check() {
	s := b.schema
	for _, r := range b.references {
		if b.declared[r.to] == "" {
			b.fault(r.line, "%s is of the type %s, which is not declared", r.what, r.to)
		}
	}
	seen := map[string]bool{}
	for _, set := range s.Sets {
		switch {
		case seen[set.Name]:
			b.fault(set.line, "the EntitySet %s is declared a second time", set.Name)
		case s.byQualified(set.Type) == nil:
			b.fault(set.line, "the EntitySet %s is of the type %s, which is no EntityType here", set.Name, set.Type)
		default:
			b.checkKey(set.Name, set.line)
		}
		seen[set.Name] = true
	}
	for _, set := range s.Sets {
		for path, target := range set.Bindings {
			if target = target[strings.LastIndexByte(target, '/')+1:]; !seen[target] {
				b.fault(set.line, "the EntitySet %s binds %s to %s, which is no EntitySet", set.Name, path, target)
			}
		}
	}
	if len(s.Sets) == 0 {
		for _, t := range s.Types {
			if !t.abstract {
				b.checkKey(t.Name, t.line)
			}
		}
	}
}

// checkKey wants a resource to have a key of one field, for that is how records are named in the log.
func (b *builder) checkKey(resource string, line int) {
	key, edmType, ok := b.schema.KeyField(resource)
	switch {
	case !ok:
		b.fault(line, "%s has no Key of exactly one field", resource)
	case edmType == "":
		b.fault(line, "%s has no Property %s, which is its Key", resource, key)
	case strings.HasPrefix(edmType, "Collection("):
		b.fault(line, "the Key %s of %s is a collection", key, resource)
	}
}
