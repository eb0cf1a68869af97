package producer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
)

// checkResource refuses a name that nobody could ask for, and one that is another's but for its case: with the
// first record it would stand in the metadata for good.
func checkResource(ctx context.Context, schema *Schema, name string) error {
	switch {
	case name == "":
		return nil
	case strings.EqualFold(name, eventResource):
		return fmt.Errorf("%w: the resource %s: events are not imported: the log is written with the records", entityevent.ErrInvalid, name)
	case !metadata.Identifier(name):
		return fmt.Errorf("%w: %.100q cannot be the name of a resource: name it by letters, digits and _, a digit not first, as Property", entityevent.ErrInvalid, name)
	}
	_, _, known := schema.KeyField(name)
	if !known {
		if err := schema.Grow(ctx); err != nil {
			return err
		}
		_, _, known = schema.KeyField(name)
	}
	if like, other := schema.Resource(name); !known && other {
		return fmt.Errorf("%w: there is no resource %s: did you mean %s?", entityevent.ErrInvalid, name, like)
	}
	return nil
}

// key returns a record's key, having looked at the names of all of its members.
func (i *importer) key(resource string, record []byte) (string, error) {
	if resource == "" {
		if err := entityevent.EachMember(record, func(string, []byte) error { return nil }); err != nil {
			return "", err
		}
		return "", errors.New("it names no resource: give it a @reso.context (of several in a value array: before that), or name the resource of the import")
	}
	field, err := i.keyField(resource, record)
	if err != nil {
		return "", err
	}
	configured := i.schema.Configured()
	var key []byte
	err = entityevent.EachMember(record, func(name string, value []byte) error {
		switch {
		case name == field && key != nil:
			return fmt.Errorf("it has its %s twice", field)
		case name == field:
			key = value
		case !configured && i.isOwnKey(resource, name):
			return fmt.Errorf("it has a %s, but the records before it have the key %s: %s", name, field, nameKey)
		}
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case key == nil:
		return "", fmt.Errorf("it has no %s", field)
	case key[0] == '"' && bytes.IndexByte(key, '\\') < 0 && len(key) > 2:
		i.keys[resource] = field
		return string(key[1 : len(key)-1]), nil
	}
	text, err := bodyKey(record, field)
	if err == nil {
		i.keys[resource] = field
	}
	return text, err
}

// nameKey is what to do about a resource whose key is not clear.
const nameKey = "name its key in producer.keys of the configuration, or in an EDMX file that is its producer.metadata"

// isOwnKey says whether a member is named as the key of a resource that neither the configuration nor the
// Data Dictionary has.
func (i *importer) isOwnKey(resource, member string) bool {
	if len(member) != len(resource)+len("Key") || !strings.HasPrefix(member, resource) || !strings.HasSuffix(member, "Key") {
		return false
	}
	return !i.schema.knows(resource)
}

// keyField returns the key field of a resource: the schema's, else that of its records before this one,
// else what this record shows.
func (i *importer) keyField(resource string, record []byte) (string, error) {
	if field, ok := i.keys[resource]; ok {
		return field, nil
	}
	field, _, ok := i.schema.KeyField(resource)
	if !ok && !i.grown {
		if err := i.schema.Grow(i.ctx); err != nil {
			i.flushed = err
			return "", err
		}
		i.grown = true
		field, _, ok = i.schema.KeyField(resource)
	}
	switch {
	case ok:
		return field, nil
	case i.schema.Configured():
		return "", fmt.Errorf("the configured metadata have no resource %s", resource)
	}
	var names []string
	err := entityevent.EachMember(record, func(name string, _ []byte) error {
		names = append(names, name)
		return nil
	})
	if err != nil {
		return "", err
	}
	if field, ok = metadata.ChooseKey(resource, names); ok {
		if !metadata.Identifier(field) {
			return "", fmt.Errorf("the name of its key, %.100q, cannot stand in the metadata: rename it, or %s", field, nameKey)
		}
		return field, nil
	}
	if candidates := metadata.KeyCandidates(names); len(candidates) > 0 {
		return "", fmt.Errorf("which member is the key of %s is not clear (%.200s): %s", resource, strings.Join(candidates, ", "), nameKey)
	}
	return "", fmt.Errorf("no member of it ends in Key: %s", nameKey)
}
