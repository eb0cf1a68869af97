package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

func writeDoc(ctx context.Context, s *sqlite.Store, d entityevent.Doc) error {
	_, err := s.Apply(ctx, entityevent.Commit{Docs: []entityevent.Doc{d}})
	return err
}

// TestDocumentsAreAsWritten: a write that was answered is what everybody reads from then on, and one that was refused
// nobody.
func TestDocumentsAreAsWritten(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "s.db"), sqlite.Options{})
	var refuse atomic.Bool
	s.FailCommits(refuse.Load)
	var answered, begun atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				least := answered.Load()
				d, err := s.Get(ctx, "kind", "id")
				if errors.Is(err, context.Canceled) {
					return
				}
				if most := begun.Load(); err != nil || d.Version < least || d.Version > most {
					t.Errorf("version %d, error %v: %d was answered, and %d begun", d.Version, err, least, most)
					return
				}
			}
		})
	}
	for version := range int64(200) {
		d := entityevent.Doc{Kind: "kind", ID: "id", Version: version, Body: []byte(`{}`)}
		if version%5 == 1 {
			refuse.Store(true)
			if err := writeDoc(ctx, s, d); err == nil {
				t.Error("a commit that was refused has no error")
			}
			refuse.Store(false)
		}
		begun.Add(1)
		if err := writeDoc(ctx, s, d); err != nil {
			t.Error(err)
			break
		}
		answered.Add(1)
	}
	stop()
	readers.Wait()
	if sqlite.KeptLate() {
		t.Error("what was read before a write is kept after it")
	}
	if _, err := s.Get(ctx, "kind", "id"); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context's end: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "kind", "id"); !errors.Is(err, entityevent.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestKnownDocumentsAreBounded: what is kept of documents in memory does not grow with what is read.
func TestKnownDocumentsAreBounded(t *testing.T) {
	t.Parallel()
	s := opened(t)
	large := []byte(`"` + strings.Repeat("x", 15<<10) + `"`)
	for i := range 200 {
		d := entityevent.Doc{Kind: "kind", ID: fmt.Sprint(i), Body: large}
		if i%10 == 0 {
			d.Body = []byte(`"` + strings.Repeat("x", 100<<10) + `"`)
		}
		if err := writeDoc(t.Context(), s, d); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{d.ID, d.ID, "none " + d.ID} {
			got, err := s.Get(t.Context(), "kind", id)
			if wrote := id == d.ID; err != nil || wrote != (got.Version == 1) || wrote && !bytes.Equal(got.Body, d.Body) {
				t.Fatalf("%s: version %d, %d bytes, error %v", id, got.Version, len(got.Body), err)
			}
		}
		if n, size, largest := s.Known(); size > 1<<20 || n == 0 || largest > 16<<10 {
			t.Fatalf("%d documents of %d bytes are kept, the largest of %d", n, size, largest)
		}
	}
}
