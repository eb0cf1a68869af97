// Package entityevent is the domain of a replication agent: the records of a RESO data source, the
// append-only log of what changed in them (RESO RCP-27, EntityEvent), the RESO Common Format in which
// both travel (RCP-25), and the contracts of a store that keeps them.
//
// The package promises nothing by itself; it says what every store promises, and storetest holds a
// store to it. It imports the standard library and its own leaf packages only.
package entityevent

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Sequence is a position in a log: the number of an event (RCP-27, EntityEventSequence). It is
// positive, unique, never reused, and strictly increasing in the order in which events become visible.
// Gaps are normal and mean nothing. 0 is the position before every event.
type Sequence int64

func (s Sequence) String() string { return strconv.FormatInt(int64(s), 10) }

// LogID names one log. It is drawn with the database, and drawn again when the database was restored
// from a backup, so that a reader can tell one numbering from another. Empty: the log has no name.
type LogID string

// Ref names one record: a resource of the Data Dictionary and a key, opaque and case-sensitive.
type Ref struct {
	Resource string // at most MaxResource characters
	Key      string // at most MaxKey characters
}

func (r Ref) String() string { return r.Resource + "('" + r.Key + "')" }

// Validate returns ErrInvalid for a name that no store can keep: one that is empty, too long, not UTF-8,
// or has a zero character in it.
func (r Ref) Validate() error {
	if err := checkName("resource", r.Resource, MaxResource); err != nil {
		return err
	}
	return checkName("key", r.Key, MaxKey)
}

func checkName(what, name string, most int) error {
	switch {
	case name == "":
		return fmt.Errorf("%w %s: it is empty", ErrInvalid, what)
	case len(name) > most && utf8.RuneCountInString(name) > most:
		return fmt.Errorf("%w %s: it is longer than %d", ErrInvalid, what, most)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w %s: it is not UTF-8", ErrInvalid, what)
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("%w %s: it has a zero character", ErrInvalid, what)
	}
	return nil
}

// Event says that a record changed: its content, its visibility, or its existence (RCP-27). It does
// not say how: whoever reads it fetches the record, and removes it when it is no longer there.
type Event struct {
	Sequence Sequence
	Ref
	URL string    // ResourceRecordUrl, if a foreign producer sent one, at most MaxURL characters; "" otherwise
	At  time.Time // when the event was committed, to the microsecond; zero when it was not asked for, or received from another agent
}

// Validate returns ErrInvalid for an event that no store can keep.
func (e Event) Validate() error {
	if e.Sequence <= 0 {
		return fmt.Errorf("%w event: sequence %d", ErrInvalid, e.Sequence)
	}
	if err := e.Ref.Validate(); err != nil {
		return fmt.Errorf("event %d: %w", e.Sequence, err)
	}
	if e.URL != "" {
		if err := checkName("ResourceRecordUrl", e.URL, MaxURL); err != nil {
			return fmt.Errorf("event %d: %w", e.Sequence, err)
		}
	}
	return nil
}

// Mask says who may see a record or an event: one bit for each access profile.
type Mask int64

// Everyone is the bit of clients without a profile: they see every record.
const Everyone Mask = 1

// View is what a reader may see: one feed, and in it whatever shares a bit with Mask.
type View struct {
	Feed string
	Mask Mask
}

// Local is the feed that the write API and imports change. The other feeds are copies of other
// producers' records, each under the name of its feed in the configuration.
const Local = "local"

// Record is one record as it is stored.
type Record struct {
	Ref
	Body     json.RawMessage // one JSON object without annotations; nil when the record is gone
	Hash     Hash            // of the canonical content; zero when gone
	Version  Sequence        // of its last event; those that only change who sees it do not count
	Views    Mask            // who sees it now
	Seen     Mask            // who ever saw it; only grows
	Modified time.Time       // its ModificationTimestamp, to the microsecond; zero if it has none
}

// Gone says that the record was removed: it is kept as a mark, without a body.
func (r Record) Gone() bool { return r.Body == nil }

// What callers test for. A store wraps them with the operation and its subject.
var (
	// ErrConflict: a precondition of a change, or the version of a document, did not hold.
	ErrConflict = errors.New("changed meanwhile")
	// ErrAbsent: the change wants an existing record, and there is none.
	ErrAbsent = errors.New("no such record")
	// ErrExists: the change wants the record to be new, and it exists.
	ErrExists = errors.New("record exists already")
	// ErrInvalid: the input can never be accepted, by any store, in any state.
	ErrInvalid = errors.New("invalid")
	// ErrUnavailable: the store cannot do its work at present, for a reason that is not the call's: a full
	// or read-only disk, an I/O error, a damaged file. The error that wraps it says what to do.
	ErrUnavailable = errors.New("store unavailable")
	// ErrAnotherLog: a delivery contradicts the log that the feed follows; nothing was stored.
	ErrAnotherLog = errors.New("another log")
)
