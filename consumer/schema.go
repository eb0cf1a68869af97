package consumer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/resosync/resosync/entityevent/metadata"
)

const (
	// stale is when the producer's metadata may be asked for again, because it did not name a resource.
	stale = 10 * time.Minute
	// renewEvery is how often, because it refused the literals of a key.
	renewEvery = time.Minute
)

// keyField is the key of a resource, as the producer writes it.
type keyField struct {
	Name   string
	Quoted bool // its literals stand in quotes
}

// schema remembers the keys of the producer's resources.
type schema struct {
	client *client
	lock   chan struct{} // held by the one who reads the rest, or asks for it

	read *metadata.Schema
	at   time.Time // when it was asked for
}

// key returns the key of a resource: as the producer's metadata say, or else as the Data Dictionary does.
// It blocks on the network the first time, and again for a resource that the metadata did not name.
func (s *schema) key(ctx context.Context, resource string) (keyField, error) {
	if err := hold(ctx, s.lock); err != nil {
		return keyField{}, err
	}
	defer func() { <-s.lock }()
	if k, ok := s.known(resource); ok {
		return k, nil
	}
	if s.at.IsZero() || time.Since(s.at) >= stale {
		if err := s.fetch(ctx); err != nil {
			return keyField{}, fmt.Errorf("$metadata: %w", err)
		}
		if k, ok := s.known(resource); ok {
			return k, nil
		}
	}
	if name, ok := metadata.KnownKey(resource); ok {
		return keyField{Name: name, Quoted: true}, nil
	}
	return keyField{}, fmt.Errorf("%w: neither the producer's $metadata nor the Data Dictionary know the key of %s", errUnexpected, resource)
}

func (s *schema) known(resource string) (keyField, bool) {
	if s.read == nil {
		return keyField{}, false
	}
	name, kind, ok := s.read.KeyField(resource)
	return keyField{Name: name, Quoted: quoted(kind)}, ok && name != ""
}

// renew asks for the metadata again, because the producer refused literals of the key that they named:
// one that infers its schema widens the type of a key when it has to. It does so at most once a minute,
// and says whether the key is another one now.
func (s *schema) renew(ctx context.Context, resource string, was keyField) (now keyField, changed bool, err error) {
	if err := hold(ctx, s.lock); err != nil {
		return was, false, err
	}
	defer func() { <-s.lock }()
	if k, ok := s.known(resource); ok && k == was && time.Since(s.at) >= renewEvery {
		if err := s.fetch(ctx); err != nil {
			return was, false, fmt.Errorf("$metadata: %w", err)
		}
	}
	k, ok := s.known(resource)
	if !ok {
		return was, false, nil
	}
	return k, k != was, nil
}

// fetch reads the metadata. That a producer has none, or none that can be read, is no failure.
func (s *schema) fetch(ctx context.Context) error {
	a, err := s.client.get(ctx, "$metadata", asXML)
	if err != nil {
		var r *refusal
		if !errors.As(err, &r) || r.Status == http.StatusUnauthorized || halts(r.Status) {
			return err
		}
		s.at = time.Now()
		return nil
	}
	defer a.Close()
	s.at = time.Now()
	if read, err := metadata.Read(bytes.NewReader(a.Body)); err == nil {
		s.read = read
	}
	return nil
}

// quoted says whether a literal of the type stands in quotes (OData URL Conventions, 5.1.1.6.1).
func quoted(kind string) bool {
	switch kind {
	case "Edm.Byte", "Edm.SByte", "Edm.Int16", "Edm.Int32", "Edm.Int64", "Edm.Decimal", "Edm.Double", "Edm.Single",
		"Edm.Guid", "Edm.Date", "Edm.DateTimeOffset", "Edm.Boolean":
		return false
	}
	return true
}
