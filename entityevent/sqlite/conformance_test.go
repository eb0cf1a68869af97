package sqlite_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/entityevent/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openConforming(t *testing.T, dir string) entityevent.Store {
	s, err := sqlite.Open(t.Context(), filepath.Join(dir, "resosync.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) { storetest.Run(t, openConforming) }

// TestConformanceInSmallLooks: where one statement ends and the next begins does not show.
func TestConformanceInSmallLooks(t *testing.T) {
	storetest.RunReads(t, func(t *testing.T, dir string) entityevent.Store {
		s := openConforming(t, dir)
		s.(*sqlite.Store).SmallLooks()
		return s
	})
}

func TestConformanceOfBackups(t *testing.T) {
	storetest.RunBackup(t, openConforming, func(s entityevent.Store, dir string) error {
		return s.(*sqlite.Store).Backup(t.Context(), filepath.Join(dir, "resosync.db"))
	})
}
