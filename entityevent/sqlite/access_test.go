package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/entityevent/storetest"
)

func TestAccess(t *testing.T) {
	t.Parallel()
	storetest.RunAccess(t, openConforming)
}

// TestAccessInSmallSteps: each step ends in the middle of something.
func TestAccessInSmallSteps(t *testing.T) {
	t.Parallel()
	storetest.RunAccess(t, func(t *testing.T, dir string) entityevent.Store {
		s, err := sqlite.Open(t.Context(), filepath.Join(dir, "resosync.db"), sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s.SetSteps(5, 7)
		return s
	})
}
