package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mattn/go-sqlite3"

	"github.com/resosync/resosync/entityevent"
)

// Backup writes a consistent copy of the store to path, with mode 0600, while the store is in use, and
// returns when the copy is durable. It holds everything that was answered before the call began. A file
// at path is refused and stays as it is; when Backup fails, or ctx ends, it leaves no file. First it
// reads every page to see that the store is sound: a copy of a damaged one is not worth having.
//
// It reads in long transactions, one after the other: meanwhile what is written stays in the WAL, which grows by it and shrinks
// again afterwards. A store opened on the copy carries on the same log: whoever puts it in the place of
// the original calls NewLog.
func (s *Store) Backup(ctx context.Context, path string) error {
	s.life.RLock()
	defer s.life.RUnlock()
	err := entityevent.ErrClosed
	if !s.closed {
		err = s.backup(ctx, path)
	}
	if err != nil {
		return fmt.Errorf("backup to %s: %w", path, err)
	}
	return nil
}

func (s *Store) backup(ctx context.Context, path string) (err error) {
	if err := free(path); err != nil {
		return err
	}
	// Made here for its mode. SQLite fills an empty file.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if rerr := os.Remove(f.Name()); !errors.Is(rerr, fs.ErrNotExist) { // renamed
			err = errors.Join(err, rerr)
		}
	}()
	if err := s.copyTo(ctx, f.Name()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := publish(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// copyTo fills an empty file, on a connection of its own: the pool's are for short looks.
func (s *Store) copyTo(ctx context.Context, path string) (err error) {
	c, err := s.openReader()
	if err != nil {
		return unavailable(s.path, err)
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.pragma("query_only=false"); err != nil {
		return unavailable(s.path, err)
	}
	if err = check(ctx, c); err == nil {
		err = c.query(ctx, `VACUUM INTO ?`, func([]driver.Value) bool { return true }, path)
	}
	var e sqlite3.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case remedy(err) == damaged:
		err = unavailable(s.path, err)
		s.failed(err)
		return err
	case errors.As(err, &e) && e.Code == sqlite3.ErrFull: // of the copy's disk, not of the store's
		return fmt.Errorf("there is no room for it: make some, or choose another disk (%w)", err)
	}
	return err
}

const (
	pagesCheck = `PRAGMA quick_check(1)`
	// SQLite looks at the structure alone, and the pages of a long body have next to none: see whole.
	bodiesCheck = `SELECT 'body of ' || resource || ' ' || key FROM records WHERE body IS NOT NULL AND
		(substr(CAST(body AS BLOB), -1) <> x'7d' OR instr(CAST(body AS BLOB), x'00') > 0) LIMIT 1`
)

// check reads every page and returns errDamaged if one of them makes no sense.
func check(ctx context.Context, c *conn) error {
	for _, query := range []string{pagesCheck, bodiesCheck} {
		said := "ok"
		err := c.query(ctx, query, func(row []driver.Value) bool { said = str(row[0]); return true })
		if err != nil {
			return err
		}
		if said != "ok" {
			return fmt.Errorf("%w: %s", errDamaged, said)
		}
	}
	return nil
}

// free says that nothing stands at path.
func free(path string) error {
	switch _, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: choose another name or remove it", fs.ErrExist)
}

// publish gives a finished file its name, without ever replacing another. A file system without links
// leaves a moment between the look and the rename.
func publish(from, path string) error {
	err := os.Link(from, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := free(path); err != nil {
		return err
	}
	return os.Rename(from, path)
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
