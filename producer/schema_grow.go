package producer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
)

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
