package producer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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

// Grow makes an inferred schema know every record that was committed before the call. It takes bounded
// steps; its work is proportional to the events since the last call. It saves what it learned if it can:
// what the log says can be learned again, and reading must not depend on a disk that can be written.
func (s *Schema) Grow(ctx context.Context) error {
	return s.growIf(ctx, func() (bool, error) { return true, nil })
}

// catchUp is Grow for who is in a hurry: it costs next to nothing if no record was committed since, and does not try
// again to save.
func (s *Schema) catchUp(ctx context.Context) error {
	if s.fixed {
		return nil
	}
	newer := func() (bool, error) { return s.newer(ctx) }
	if more, err := newer(); err != nil || !more {
		return err
	}
	return s.growIf(ctx, newer)
}

// newer says whether the log has something that the schema has not looked at.
func (s *Schema) newer(ctx context.Context) (bool, error) {
	s.mu.RLock()
	through, current := s.through, s.current
	s.mu.RUnlock()
	if !current {
		return true, nil
	}
	err := s.store.Wait(ctx, s.view(), entityevent.EventQuery{After: through, End: s.ended}) // the store knows its head
	if errors.Is(err, entityevent.ErrEnded) {
		return false, nil
	}
	return err == nil, err
}

// growIf is Grow, if that is needed when it is our turn.
func (s *Schema) growIf(ctx context.Context, needed func() (bool, error)) error {
	if s.fixed {
		return nil
	}
	if err := s.turn(ctx); err != nil {
		return err
	}
	defer s.done()
	ok, err := needed()
	if err == nil && ok {
		err = s.grow(ctx)
	}
	if err != nil {
		return fmt.Errorf("schema of feed %s: %w", s.feed, err)
	}
	return nil
}

// turn waits until nobody else grows the schema. Who was given it calls done.
func (s *Schema) turn(ctx context.Context) error {
	select {
	case s.growing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Schema) done() { <-s.growing }

func (s *Schema) view() entityevent.View {
	return entityevent.View{Feed: s.feed, Mask: entityevent.Everyone}
}

func (s *Schema) grow(ctx context.Context) error {
	var head entityevent.Sequence
	for {
		page, err := s.store.Events(ctx, s.view(), entityevent.EventQuery{After: s.through, Limit: growEvents})
		if err != nil {
			return err
		}
		if head == 0 {
			head = page.Head
		}
		changed, err := s.learn(ctx, page.Events)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.through = max(s.through, page.Through)
		s.current = s.current || s.through >= head
		s.mu.Unlock()
		s.unsaved = s.unsaved || changed
		if s.unsaved || s.through-s.saved >= growSave {
			if err := s.save(ctx); err != nil {
				return err
			}
		}
		if s.through >= head {
			return nil
		}
	}
}

// learn looks at the records that the events name.
func (s *Schema) learn(ctx context.Context, events []entityevent.Event) (changed bool, err error) {
	keys := map[string][]string{}
	for _, e := range events {
		keys[e.Resource] = append(keys[e.Resource], e.Key)
	}
	for resource, keys := range keys {
		for record, err := range s.store.Read(ctx, s.view(), entityevent.Query{Resource: resource, Keys: keys}) {
			if err != nil {
				return false, err
			}
			grown, err := s.infer(record)
			if err != nil {
				return false, err
			}
			changed = changed || grown
		}
		changed = s.name(resource) || changed
	}
	return changed, nil
}

// infer grows the schema by one record.
func (s *Schema) infer(record entityevent.Record) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err = entityevent.EachMember(record.Body, func(name string, value []byte) error {
		changed = s.model.InferMember(record.Resource, name, value) || changed
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("%s: %w", record.Ref, err)
	}
	if t := s.model.Type(record.Resource); t != nil && len(t.Key) == 0 {
		if key := s.keyOf(record); key != "" {
			changed = s.model.SetKey(record.Resource, key) || changed
		}
	}
	if changed {
		s.changes++
	}
	return changed, nil
}

// name makes a resource of the Data Dictionary known though all its records are gone, for the log names
// it (RCP-27, Certification).
func (s *Schema) name(resource string) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, ok := s.model.KnownKey(resource)
	if !ok || s.model.Type(resource) != nil {
		return false
	}
	s.changes++
	s.model.InferMember(resource, key, []byte("null"))
	return s.model.SetKey(resource, key)
}

// keep makes a field the key of a resource whose records are stored by it. It does nothing if the
// resource has a key.
func (s *Schema) keep(ctx context.Context, resource, field string) error {
	if err := s.turn(ctx); err != nil {
		return err
	}
	defer s.done()
	s.mu.Lock()
	s.changes++
	s.model.InferMember(resource, field, []byte("null"))
	changed := s.model.SetKey(resource, field)
	s.mu.Unlock()
	if !changed {
		return nil
	}
	s.unsaved = true
	return s.save(ctx)
}

// keyOf returns the name of the member that holds a record's key. Where the rule leaves a choice among
// those that have this value, any holds it: first those whose names end in Key.
func (s *Schema) keyOf(record entityevent.Record) string {
	var holders []string
	_ = entityevent.EachMember(record.Body, func(name string, _ []byte) error { // stored bodies are objects
		if entityevent.StringMember(record.Body, name) == record.Key {
			holders = append(holders, name)
		}
		return nil
	})
	key, ok := s.model.ChooseKey(record.Resource, holders)
	if _, told := s.keys[record.Resource]; ok || told {
		return key
	}
	for _, key := range slices.Concat(metadata.KeyCandidates(holders), holders) {
		return key
	}
	return ""
}

// save writes what was learned to the store. That it cannot is no error, unless ctx ended: it is tried
// again when the schema is asked for.
func (s *Schema) save(ctx context.Context) error {
	s.mu.RLock()
	body, err := json.Marshal(schemaDoc{s.through, s.model})
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	doc := entityevent.Doc{Kind: schemaKind, ID: s.feed, Version: s.version, Body: body}
	_, err = s.store.Apply(ctx, entityevent.Commit{Feed: s.feed, Docs: []entityevent.Doc{doc}})
	if errors.Is(err, entityevent.ErrConflict) {
		return s.load(ctx) // another process saved its own: go on from there
	}
	switch {
	case err == nil && s.failing:
		s.logger().Info("schema saved again", "feed", s.feed)
	case err != nil && !s.failing && ctx.Err() == nil:
		s.logger().Warn("schema not saved", "feed", s.feed, "err", err)
	}
	s.failing = err != nil && (s.failing || ctx.Err() == nil)
	if err != nil {
		return context.Cause(ctx)
	}
	s.version++
	s.saved, s.unsaved = s.through, false
	return nil
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
