package sqlite

import (
	"errors"
	"fmt"

	"github.com/mattn/go-sqlite3"

	"github.com/resosync/resosync/entityevent"
)

// Remedies, for people.
const (
	makeRoom = "the disk is full: make room on the disk of the data folder"
	readOnly = "it cannot be written: mount the file system of the data folder for writing, and let this user write the file and its folder"
	moved    = "the file was removed or replaced while it was in use: stop the agent, put the file back and start it again"
	damaged  = "it is damaged: stop the agent, restore a backup and run `resosync log new-id`; " +
		"of a replica, remove the database and load it again"
	failing = "reading or writing failed: look at the disk and at the system's log"
	cannot  = "it cannot be opened: look at the data folder, its owner and its disk"
	held    = "another program holds it: end that program"
	memory  = "there is not enough memory"
)

// remedy says what people can do about an error of SQLite; "" for one that a single statement or its
// values brought about.
func remedy(e sqlite3.Error) string {
	if e.ExtendedCode == sqlite3.ErrReadonlyDbMoved {
		return moved
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
		return memory
	}
	return ""
}

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

// unavailable makes an UnavailableError of an error of SQLite that says that the store cannot do its work.
// Any other error it returns as it is.
func unavailable(path string, err error) error {
	var e sqlite3.Error
	if err == nil || errors.Is(err, entityevent.ErrUnavailable) || !errors.As(err, &e) {
		return err
	}
	if r := remedy(e); r != "" {
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
