package producer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
)

// Schema is the schema of one feed: the one of the configuration, or one inferred from the records. An
// inferred one grows along the log, when somebody asks for what it decides, and is kept in the store with the
// position up to which it has looked, so that no event is looked at twice. What is answered never depends on who
// asked before.
type Schema struct {
	Logger *slog.Logger // Default: discards. Set it before the first use.

	store Store
	feed  string
	fixed bool
	keys  map[string]string // the configuration's, for inferring

	mu      sync.RWMutex // of what follows, and written by who grows the schema alone
	model   *metadata.Schema
	changes int // of model
	through entityevent.Sequence
	current bool // it has been at the head of the log since it was opened

	growing chan struct{}  // a mutex of what follows, and one need not wait for it longer than one wants to
	ended   chan time.Time // closed
	saved   entityevent.Sequence
	version int64 // of the document
	unsaved bool  // something was learned since
	failing bool  // it could not be saved the last time

	replacing sync.Mutex // held by the Replacement of this feed
}

const (
	schemaKind = "schema"
	growEvents = 1000   // looked at in one step
	growSave   = 10_000 // how far the position moves before it is saved for its own sake
)

type schemaDoc struct {
	Through entityevent.Sequence `json:"through"`
	Schema  *metadata.Schema     `json:"schema"`
}

// OpenSchema returns the schema of a feed. With an EDMX, which becomes the Schema's own, it is that one
// and EntityEvent; without, it is inferred, and keys are the key fields of resources whose key is not
// the Data Dictionary's. An EDMX with faults is refused, and so is a key by which records are not kept.
func OpenSchema(ctx context.Context, store Store, feed string, edmx *metadata.Schema, keys map[string]string) (*Schema, error) {
	s := &Schema{store: store, feed: feed, fixed: edmx != nil, model: edmx, keys: keys, growing: make(chan struct{}, 1), ended: make(chan time.Time)}
	close(s.ended)
	if s.fixed {
		if err := edmx.Check(); err != nil {
			return nil, fmt.Errorf("the metadata have faults, mend them first:\n%w", err)
		}
		s.model.Add(metadata.EntityEvent())
		return s, nil
	}
	if err := s.load(ctx); err != nil {
		return nil, fmt.Errorf("schema of feed %s: %w", feed, err)
	}
	return s, nil
}

// load takes over what the store has.
func (s *Schema) load(ctx context.Context) error {
	doc, err := s.store.Get(ctx, schemaKind, s.feed)
	if err != nil {
		return err
	}
	kept := schemaDoc{Schema: &metadata.Schema{Namespace: metadata.Namespace, Keys: s.keys}}
	if doc.Version > 0 && doc.Body != nil {
		if err := json.Unmarshal(doc.Body, &kept); err != nil {
			return err
		}
	}
	kept.Schema.Add(metadata.EntityEvent())
	for resource, key := range s.keys {
		if t := kept.Schema.Type(resource); t != nil && len(t.Key) == 1 && t.Key[0] != key {
			return fmt.Errorf("the records of %s are kept by %s, not by %s: leave the key as it is, or import them into a new store", resource, t.Key[0], key)
		}
	}
	s.mu.Lock()
	s.model, s.through = kept.Schema, kept.Through
	s.changes++
	s.mu.Unlock()
	s.version, s.saved, s.unsaved = doc.Version, kept.Through, false
	return nil
}

func (s *Schema) view() entityevent.View {
	return entityevent.View{Feed: s.feed, Mask: entityevent.Everyone}
}

func (s *Schema) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}

// Configured says that the schema is the configuration's: there is nothing beside what it names.
func (s *Schema) Configured() bool { return s.fixed }

// KeyField returns the name and type of a resource's key field. It is false for a resource that is
// neither in the schema nor, if that is inferred, in the Data Dictionary.
func (s *Schema) KeyField(resource string) (name, edmType string, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.keyField(resource)
}

// keyField is KeyField for whoever looks.
func (s *Schema) keyField(resource string) (name, edmType string, ok bool) {
	if name, edmType, ok = s.model.KeyField(resource); ok || s.fixed {
		return name, edmType, ok
	}
	name, ok = s.model.KnownKey(resource)
	return name, "Edm.String", ok
}

// public says whether a resource is there whatever records say: in the configured schema, or in the Data Dictionary.
func (s *Schema) public(resource string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fixed {
		return true
	}
	_, ok := s.model.KnownKey(resource)
	return ok
}

// look calls each with the schema, which does not change meanwhile.
func (s *Schema) look(at func(*metadata.Schema) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return at(s.model)
}

// Allows says whether a record of the resource may have this member.
func (s *Schema) Allows(resource, member string) bool {
	if !s.fixed || strings.Contains(member, "@") {
		return true
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.model.HasMember(resource, member)
}

// Resource returns the resource of this name in any case, for @reso.context writes it in lower case.
func (s *Schema) Resource(name string) (resource string, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, r := range s.model.Resources() {
		if strings.EqualFold(r, name) {
			return r, true
		}
	}
	if s.fixed {
		return "", false
	}
	return s.model.KnownResource(name)
}

// Resources returns the names of the resources as of now.
func (s *Schema) Resources(ctx context.Context) ([]string, error) {
	if err := s.Grow(ctx); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.model.Resources(), nil
}

// EDMX returns the schema as of now, with exactly one Schema element.
func (s *Schema) EDMX(ctx context.Context) ([]byte, error) {
	if err := s.Grow(ctx); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var b bytes.Buffer
	err := s.model.Write(&b)
	return b.Bytes(), err
}

// quoted says whether keys of this type are written in quotes.
func quoted(edmType string) bool {
	switch edmType {
	case "Edm.Int64", "Edm.Int32", "Edm.Int16", "Edm.Byte", "Edm.SByte", "Edm.Guid":
		return false
	}
	return true
}
