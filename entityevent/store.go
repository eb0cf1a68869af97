package entityevent

import (
	"context"
	"encoding/json"
	"iter"
	"strconv"
	"time"

	"github.com/resosync/resosync/entityevent/odata"
)

// Log is the append-only log of one store and its only way in.
type Log interface {
	// Apply commits c as one unit and answers per change, in order. It may share its transaction with
	// other calls; it returns only after the commit is durable (it survives a power cut), and only then
	// is anybody woken. Events become visible in sequence order.
	//
	// A change whose precondition fails has its own error in its Outcome, makes no event, and leaves
	// the rest of the commit alone. Any other error is the whole commit's: nothing of it is stored.
	// When ctx ends while the commit is under way Apply still waits for its outcome: it never returns
	// an error for something that was committed.
	Apply(ctx context.Context, c Commit) ([]Outcome, error)
	// Events returns the events that v may see and q asks for, and how far it looked. The work of one
	// call is bounded whatever the size of the log: a page may be empty though more follows.
	Events(ctx context.Context, v View, q EventQuery) (Page, error)
	// CountEvents returns how many events Events would return without a limit. It works in bounded steps,
	// and its work grows with the part of the log between After and Before.
	CountEvents(ctx context.Context, v View, q EventQuery) (int64, error)
	// Wait blocks until an event that v may see and q asks for exists, or ctx ends; then it returns ctx's
	// cause. At q.End it returns ErrEnded. Events that q does not ask for do not end it. Closing the store ends it with ErrClosed.
	Wait(ctx context.Context, v View, q EventQuery) error
}

// Records reads the current records.
type Records interface {
	// Read yields what q asks for and v may see, in the order of q; gone records are left out unless q wants
	// them. It ends at the first error, which it yields. No transaction stays open while the caller holds a
	// record, so changes meanwhile may show. Records are the caller's to keep.
	//
	// Keys, Parents, and an order by key or by ModificationTimestamp have an index, as have conditions on these
	// that the Filter makes at its top: what such a query costs does not grow with the number of records. Others
	// look at all that are left, in steps that are short, until q.Limit is reached or ctx ends.
	Read(ctx context.Context, v View, q Query) iter.Seq2[Record, error]
	// Count returns how many records Read would yield without Skip and Limit.
	Count(ctx context.Context, v View, q Query) (int64, error)
}

// Docs reads the small documents that producer and consumer keep beside the log: subscriptions,
// tokens, checkpoints. They are written by Apply (Commit.Docs) and Receive (Delivery.Docs).
type Docs interface {
	// Get returns the document, with Version 0 and no body when there is none.
	Get(ctx context.Context, kind, id string) (Doc, error)
	// List returns the documents of a kind, in order of their id.
	List(ctx context.Context, kind string) ([]Doc, error)
}

// Inbox holds what a consumer has received and not yet applied.
type Inbox interface {
	// Receive stores a delivery and moves the feed's cursor in one durable transaction: the one method
	// that moves it. A repeat stores nothing and does not move it. It returns the position after it, also
	// with ErrAnotherLog. After any other error nothing was written. The rules are those of Delivery.
	Receive(ctx context.Context, d Delivery) (Position, error)
	// Position returns where a feed stands.
	Position(ctx context.Context, feed string) (Position, error)
	// Take returns the oldest pending items of a feed, at most limit; 0: all. It removes nothing:
	// Commit.Done does.
	Take(ctx context.Context, feed string, limit int) ([]Item, error)
	// Depth returns how many items are pending.
	Depth(ctx context.Context, feed string) (int64, error)
	// Aside returns the records of a feed that were set aside, in order of NextAt and then of their
	// names, at most limit; 0: all. With a due time only those that have a NextAt not after it.
	Aside(ctx context.Context, feed string, due time.Time, limit int) ([]Setback, error)
	// CountAside returns how many records of a feed were set aside, by Setback.Kind. A kind without any is
	// not named.
	CountAside(ctx context.Context, feed string) (map[string]int64, error)
}

// Restart is the sum that NewLog adds to the counter. What a reader saw of a log, before its store was
// restored from a backup, is not beyond it.
const Restart Sequence = 1 << 32

// Store is all of it. Any of its calls returns an error that wraps ErrUnavailable while the store cannot
// do its work; whoever calls again when the reason is gone finds it working.
type Store interface {
	Log
	Records
	Passes
	Docs
	Inbox
	// LogID returns the name of the log as of now: NewLog changes it. A page names its own log.
	LogID() LogID
	// NewLog draws a new name for the log and adds Restart to the counter, in one durable transaction, and
	// returns the name. It is what follows a restore from a backup: no number that was given out since the
	// backup was made comes again, and readers that know logs by name see another one. A page names the old
	// log and ends below the new numbers, or it names the new one.
	NewLog(ctx context.Context) (LogID, error)
	// Close releases the store. Calls under way end first; later ones return ErrClosed.
	Close() error
}

// Commit is one unit of writing, as data, so that a store can put many into one transaction.
type Commit struct {
	Feed    string   // whose records change
	Changes []Change // applied in order
	// Done are the inbox items that these changes settle. An item is kept if a change of its record in
	// this commit was refused. Unless Aside names it again, a settled record is no longer set aside; an
	// item of sequence 0 settles a record that was set aside and is not pending.
	Done  []Item
	Aside []Setback // put or replaced, at most one per record
	Docs  []Doc     // compare-and-set: one whose version differs fails the whole commit with ErrConflict
}

// Op is what a change does to a record.
type Op uint8

// The operations.
const (
	Put    Op = iota // the body replaces the record
	Merge            // the body's members replace those of the record, at the top level; ErrAbsent without a record
	Remove           // the record becomes gone; of an absent one, nothing changes
)

// Change changes one record. A change that leaves the content equal makes no event: equal is the same
// Hash. Its preconditions are evaluated inside the writer's transaction, and all of them must hold.
type Change struct {
	Ref
	Op   Op
	Body json.RawMessage // one JSON object; annotations are dropped; nil for Remove
	// Only makes the change depend on the record's existence: ErrExists or ErrAbsent.
	Only Existence
	// IfHash is an If-Match: the record exists and has this hash, or ErrConflict. Zero: no condition.
	IfHash Hash
	// UnchangedSince is the local head that was noted before the content was asked for: the record's
	// version is not above it, or ErrConflict. nil: no condition.
	UnchangedSince *Sequence
	// Pass marks the record as seen by this pass of a load. 0: leaves the mark as it is.
	Pass int64
}

// Existence is a precondition on whether a record is there.
type Existence uint8

// The conditions.
const (
	Any     Existence = iota // no condition
	New                      // ErrExists if the record exists and is not gone
	Present                  // ErrAbsent if there is no such record or it is gone
)

// Outcome is what became of one change.
type Outcome struct {
	Sequence Sequence // of its event; 0: nothing changed
	Hash     Hash     // of the record after it; zero: gone or absent
	Before   Hash     // of the record before it; zero: there was none
	Err      error    // ErrConflict, ErrAbsent, ErrExists or ErrInvalid, wrapped: the change was refused
}

// EventQuery asks for a page of events.
type EventQuery struct {
	After  Sequence // only events above it
	Before Sequence // only events below it; 0: no bound
	// Filter is what else must hold of an event: bound, without now(), over the fields that Event.Member
	// knows. nil: nothing. Bounds of the sequence belong into After and Before, which cost nothing.
	Filter odata.Expr
	Order  Order
	Limit  int  // events at most; Default 100
	Times  bool // wants Event.At, which costs as much as a third of the rest
	// End is when a Wait is over, if nothing else ends it before. nil: never.
	End <-chan time.Time
}

// Order is the direction of a page of events.
type Order uint8

// The directions.
const (
	OldestFirst Order = iota
	NewestFirst
)

// Page is a run of events, read in one snapshot.
type Page struct {
	Events []Event
	// Through says how far the page looked. Oldest first, the page holds every event in (After, Through]
	// that the query asks for: it is the last event's sequence if more may follow, or where the page
	// stopped looking, else the head, but below Before if that is set. Newest first, the page holds
	// every event in [Through, Before).
	Through Sequence
	More    bool     // more may follow beyond Through
	Head    Sequence // the newest sequence given out, in this snapshot, to anyone
	Log     LogID
	// Floor is the newest event that Compact forgot, 0 if it never did: a reader who stands above 0 and below it
	// cannot learn all that happened since, and must begin anew at 0.
	Floor Sequence
}

// Query asks for records of one resource. Its conditions hold all at once.
type Query struct {
	Resource string
	Keys     []string // only these; empty: all
	Parents  []Ref    // only records that belong to one of these, by metadata.Parent; empty: all
	After    string   // only keys above it, by their bytes
	// KeyField is the field that holds the key: in Filter and OrderBy its value is the record's key, of a gone
	// one too; if the field is a number, the integer whose digits the key is. Empty: there is none.
	KeyField string
	// Filter says which records, as odata.Holds has it: read in the scope of the resource, without now(). nil:
	// all. A gone record has no members but its key.
	Filter odata.Expr
	// OrderBy is the order; nil: by key, by its bytes. Among equals the key decides, in the direction of the last
	// of these.
	OrderBy []odata.Order
	From    *Place // only what follows this place in the order; nil: from the start
	Skip    int    // leaves out so many of those that are left
	Limit   int    // then at most so many; 0: no limit
	Gone    bool   // yields the marks of gone records too
}

// Place is a place in the order of a Query: where a record stands, or stood. Whoever reads page by page, each
// From the place of the last record of the one before, meets every record that did not change meanwhile once.
type Place struct {
	Values []odata.Literal // of the fields of OrderBy
	Key    string
}

// PlaceOf returns where a record stands in the query's order.
func (q Query) PlaceOf(r Record) Place {
	p := Place{Values: make([]odata.Literal, len(q.OrderBy)), Key: r.Key}
	for i, o := range q.OrderBy {
		p.Values[i] = o.Field.Value(func(name string) []byte {
			if name == q.KeyField {
				return keyText(r.Key, o.Field.Of.Kind)
			}
			return Member(r.Body, name)
		})
	}
	return p
}

// keyText returns the JSON text of a key in its field.
func keyText(key string, kind odata.Kind) []byte {
	if kind != odata.Int && kind != odata.Decimal {
		return appendQuotedString(nil, key)
	}
	if n, err := strconv.ParseInt(key, 10, 64); err == nil && strconv.FormatInt(n, 10) == key {
		return []byte(key)
	}
	return nil
}

// Doc is a small JSON document. To write one, give it the Version that was read, 0 for a new one; nil
// Body removes it. A written document's version is one higher. One that was removed counts from 1 when it
// is made again: a version must not be kept beyond the document's removal, for it may then fit another.
type Doc struct {
	Kind, ID string
	Version  int64
	Body     json.RawMessage
}

// Item is one received event that waits to be applied.
type Item struct {
	Sequence Sequence
	Ref
	URL string
}

// Setback is a record set aside: why, and when it is tried again. The cursor and other records go on.
type Setback struct {
	Ref
	Kind   string    // poison, recheck or held
	Reason string    // for people; without secrets
	Tries  int       // so far
	NextAt time.Time // zero: not by itself
}

// Delivery is a run of events from a producer, pushed or polled.
type Delivery struct {
	Feed string
	Log  LogID // of the producer; empty if it names none

	// Chained says that Events holds every event in (After, Through] that this feed may see. If Log is
	// the feed's and After is not above the cursor, the cursor becomes max(cursor, Through); events at
	// or below the cursor are known and not stored again. If After is above the cursor, the events are
	// stored, the cursor stays and the feed is marked behind.
	//
	// Not Chained (a producer that sends no positions): the events are stored as hints of what to fetch,
	// the cursor stays and the feed is marked behind, for polling owns the cursor.
	//
	// Nor is it a chain without a Log when the feed's has a name.
	//
	// A delivery that names another log than the feed's stores nothing and marks the feed behind, and
	// Receive returns ErrAnotherLog: only a poll can tell which of the two is current.
	Chained        bool
	After, Through Sequence
	Events         []Event

	// Adopt begins a load: the feed follows Log from Through, whatever it followed before, and is not
	// behind. If the log changed, pending items and what was remembered of the old one are dropped, for
	// the load reads what they name; a log without a name counts as changed. Before a feed's first Adopt
	// deliveries are stored and move nothing, and stay pending when it comes.
	Adopt bool

	// Asked and Settle serve producers without a log id, which may publish out of order. Several pages may
	// have read, one after another, what follows the cursor; Asked is when the first of them was asked for,
	// so that none of it was read before. With a Settle above zero an event first seen after Asked−Settle
	// is not settled, and the cursor moves only to the highest event that was seen, at or below Through and
	// below the lowest such event: not to Through itself, for a number between the two may yet be
	// published. An event is first seen when Receive is called with it, or at Asked, whichever is later.
	// What was seen above the cursor is remembered, also from hints, and not stored again. If it was
	// remembered with another record, nothing is stored, the feed is marked behind, and Receive returns
	// ErrAnotherLog.
	Asked  time.Time
	Settle time.Duration

	// Clears is the Position.Marked that was read before asking, if the producer then had nothing after
	// Through: the feed is no longer behind unless it was marked again meanwhile. It counts only for a
	// chain that is not broken.
	Clears int64

	Docs []Doc // compare-and-set in the same transaction
}

// Position is where a feed stands.
type Position struct {
	Log       LogID
	Sequence  Sequence // the cursor: every event up to it that the feed may see is in the inbox or applied
	Started   bool     // a load has begun: the cursor means something
	Marked    int64    // how often the feed was marked behind
	Cleared   int64    // the mark up to which it caught up
	Unsettled bool     // events above the cursor wait to settle: poll again after Settle
	Stored    int      // how many events of the delivery were new
}

// Behind says that events are known to be missing: a poll must fetch them.
func (p Position) Behind() bool { return p.Marked > p.Cleared }
