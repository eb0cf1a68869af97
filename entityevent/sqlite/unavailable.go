package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/mattn/go-sqlite3"

	"github.com/resosync/resosync/entityevent"
)

// What people can do when the store cannot do its work.
const (
	makeRoom = "the disk is full: make room on the disk of the data folder"
	readOnly = "it cannot be written: mount the file system of the data folder for writing, and let this user write the file and its folder"
	putBack  = "the file was removed or replaced while it was in use: put it back, or stop the agent and start it again"
	damaged  = "it is damaged: stop the agent, restore a backup and run `resosync log new-id`; " +
		"of a replica, remove the database and load it again"
	failing   = "reading or writing fails: look at the disk and at the system's log"
	cannot    = "it cannot be opened: look at the data folder, its owner and its disk"
	held      = "another program holds it: end that program"
	noMemory  = "there is not enough memory: give the agent more"
	localDisk = "its file system cannot share memory: put the data folder on a local disk"
)

var (
	errMoved   = errors.New("not the file that was opened")
	errDamaged = errors.New("what it holds makes no sense")
	errNoWAL   = errors.New("no write-ahead log")
)

// UnavailableError is why the store cannot do its work: errors.As finds it in every error of the store that
// wraps entityevent.ErrUnavailable.
type UnavailableError struct {
	Path    string // of the store's file
	Remedy  string // what people can do
	Damaged bool   // what the file holds is wrong: it does not heal by itself
	Err     error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("%v: %s: %s (%v)", entityevent.ErrUnavailable, e.Path, e.Remedy, e.Err)
}

// Unwrap returns entityevent.ErrUnavailable and what SQLite said.
func (e *UnavailableError) Unwrap() []error { return []error{entityevent.ErrUnavailable, e.Err} }

// unavailable makes an UnavailableError of an error that says that the store cannot do its work. It returns
// any other error as it is.
func unavailable(path string, err error) error {
	if err == nil || errors.Is(err, entityevent.ErrUnavailable) {
		return err
	}
	if r := remedy(err); r != "" {
		return &UnavailableError{Path: path, Remedy: r, Damaged: r == damaged, Err: err}
	}
	return err
}

// tell lets listen hear of the errors that say that the store cannot do its work.
func tell(listen func(*UnavailableError)) func(error) {
	return func(err error) {
		var u *UnavailableError
		if listen != nil && errors.As(err, &u) {
			listen(u)
		}
	}
}

func remedy(err error) string {
	var e sqlite3.Error
	switch {
	case errors.Is(err, errMoved):
		return putBack
	case errors.Is(err, errDamaged):
		return damaged
	case errors.Is(err, errNoWAL):
		return localDisk
	case errors.As(err, &e):
		if r := remedyOfSystem(e.SystemErrno); r != "" {
			return r
		}
		return remedyOfSQLite(e)
	}
	var number syscall.Errno
	errors.As(err, &number)
	return remedyOfSystem(number)
}

// remedyOfSQLite returns "" for what a single statement or its values brought about.
func remedyOfSQLite(e sqlite3.Error) string {
	switch e.ExtendedCode {
	case sqlite3.ErrReadonlyDbMoved:
		return putBack
	case sqlite3.ErrIoErrSHMSize: // its file cannot grow
		return makeRoom
	}
	switch e.Code {
	case sqlite3.ErrFull:
		return makeRoom
	case sqlite3.ErrReadonly, sqlite3.ErrPerm:
		return readOnly
	case sqlite3.ErrCorrupt, sqlite3.ErrNotADB, sqlite3.ErrFormat:
		return damaged
	case sqlite3.ErrIoErr:
		return failing
	case sqlite3.ErrCantOpen:
		return cannot
	case sqlite3.ErrBusy, sqlite3.ErrLocked, sqlite3.ErrProtocol:
		return held
	case sqlite3.ErrNomem:
		return noMemory
	}
	return ""
}

func remedyOfSystem(number syscall.Errno) string {
	switch number {
	case syscall.ENOSPC, syscall.EDQUOT:
		return makeRoom
	case syscall.EROFS, syscall.EACCES, syscall.EPERM:
		return readOnly
	case syscall.EIO:
		return failing
	default:
		return ""
	}
}

// identity knows the two files of an open database again. SQLite does not: it goes on writing to a file
// that was removed, and all that it holds is lost when it is closed.
type identity struct {
	path    string
	db, wal os.FileInfo
}

func identify(path string) (id identity, err error) {
	id.path = path
	if id.db, err = os.Stat(path); err == nil {
		id.wal, err = os.Stat(path + "-wal")
	}
	return id, err
}

// check returns errMoved unless both files are still in their places.
func (id *identity) check() error {
	now, err := identify(id.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", errMoved, err)
	case err != nil:
		return err
	case !os.SameFile(now.db, id.db) || !os.SameFile(now.wal, id.wal):
		return errMoved
	}
	return nil
}
