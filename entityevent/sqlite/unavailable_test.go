package sqlite_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

// TestUnavailableIsHeard overwrites the pages of an open store: the next write and the next read fail, the
// caller learns why and what to do, and so does whoever listens.
func TestUnavailableIsHeard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	fill, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	put := func(s *sqlite.Store, key string) error {
		_, err := s.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{
			{Ref: entityevent.Ref{Resource: "Property", Key: key}, Body: json.RawMessage(`{"K":"` + key + `"}`)}}})
		return err
	}
	if err := errors.Join(put(fill, "a"), fill.Close()); err != nil {
		t.Fatal(err)
	}
	var heard []*sqlite.UnavailableError
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Unavailable: func(e *sqlite.UnavailableError) { heard = append(heard, e) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	if _, err := f.WriteAt(make([]byte, info.Size()-page), page); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	check := func(what string, err error) {
		t.Helper()
		var u *sqlite.UnavailableError
		if !errors.Is(err, entityevent.ErrUnavailable) || !errors.As(err, &u) || !u.Damaged || u.Remedy == "" || u.Path != path {
			t.Errorf("%s: %v", what, err)
		}
		if len(heard) != 1 || !heard[0].Damaged {
			t.Errorf("%s: heard %v", what, heard)
		}
		heard = nil
	}
	check("a write", put(s, "b"))
	_, err = s.Count(t.Context(), entityevent.View{Feed: entityevent.Local, Mask: entityevent.Everyone}, entityevent.Query{Resource: "Property"})
	check("a read", err)
}
