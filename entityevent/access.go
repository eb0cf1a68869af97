package entityevent

import (
	"context"
	"time"

	"github.com/resosync/resosync/entityevent/odata"
)

// MaxProfiles is how many names of profiles a store can ever know: each has a bit of a Mask for ever.
const MaxProfiles = 62

// Profile is what the clients of one access profile may see.
type Profile struct {
	Name string
	// Resources are those that they may see anything of. A resource that is not named here is invisible to
	// them, and so are the events of its records.
	Resources map[string]Access
}

// Access is what a profile shows of one resource: the records for which Filter holds or, with With instead, those
// whose parent it shows.
type Access struct {
	// Filter is bound without a scope (its literals say the kinds) and uses the record's own fields; nil: all
	// records. now() is refused.
	Filter odata.Expr
	// With is the resource of the parents whose visibility the records share; "" for none. A record's parent is
	// the one that metadata.Parent names. While it is not there, or gone, or of another resource, the record is
	// invisible. The profile must name that resource too, and not With another.
	With string
	// Hide are the fields that readers leave out. The store keeps bodies as they are and shows them whole: it
	// only tells the profile of the records that it sees when these change. Readers leave them out of records that
	// stand in those of others as well, and all of such a record if its resource is not named or has a Filter: so when
	// that changes the store tells of every record that holds others.
	Hide []string
}

// Profiles keeps, beside the records, who may see them. Every commit writes it with the record, in the same
// transaction: Record.Views, Record.Seen and the mask of the event. It concerns all feeds alike.
//
// A record that leaves a profile's view has an event there, and a record that a profile never could see is
// never mentioned to it. When the views of a record change, the records that share them change with it, in
// the same transaction: their events come first and are for the profiles alone for which something changed.
type Profiles interface {
	// SetProfiles makes these the profiles and returns the mask of each, by name. A name has the same bit for
	// ever, and no bit serves two names: a name that was left out and is set again later finds its own.
	// ErrInvalid says what cannot be: a Filter with now() or beside a With, a With of two steps, more names than
	// MaxProfiles.
	// Then nothing changed.
	//
	// They count for every commit from then on, also after the store was closed and opened again, until
	// SetProfiles is called with others. It notes durably, with the profiles, which resources are to be
	// reviewed for whom; what an earlier call noted and Review has not done yet stays noted. To set what is
	// set already writes nothing.
	SetProfiles(ctx context.Context, profiles []Profile) (map[string]Mask, error)
	// PlanProfiles returns what SetProfiles would, and whether that would change anything. It writes nothing.
	PlanProfiles(ctx context.Context, profiles []Profile) (masks map[string]Mask, changed bool, err error)
	// Review takes one bounded step of what SetProfiles noted, in one durable transaction like any other, and
	// says whether more is to be done. It brings the views of existing records up to date, and tells a profile
	// of each record whose visibility to it changed and, where Hide concerns it, of each that it sees: by events
	// that carry the bits of the profiles under review alone, and leave the record's Version as it is.
	//
	// After a crash it goes on where it was. It may run beside all else; until it is done a profile sees the
	// records that were not written since as it saw them before. Hiding is the reader's, and immediate.
	Review(ctx context.Context) (more bool, err error)
}

// Compaction says what Compact may drop.
type Compaction struct {
	// Forget drops the last events and the marks of records that are gone since before it. Zero: never.
	Forget time.Time
}

// Compacted is what Compact dropped.
type Compacted struct {
	Events    int64 // superseded by newer ones
	Forgotten int64 // records, with their last events
}

// Compactor drops what no reader of the log needs.
type Compactor interface {
	// Compact drops every event for which newer events of its record are visible to all who could see it, so
	// that whoever reads from 0 still comes to the final state, gone records too. It may run beside readers
	// and writers, and blocks them no longer than a commit does: it works in bounded steps. A reader who goes
	// from page to page by position meanwhile misses nothing that is not told by an event after it.
	//
	// With Forget it also drops the last events of records long gone, and raises Page.Floor, in the same
	// transaction. A record that was forgotten and comes back is new: to Everyone, and to every profile.
	//
	// Each step is durable by itself. When ctx ends Compact stops between two and returns what it dropped so
	// far with ctx's cause; the next call begins anew.
	Compact(ctx context.Context, c Compaction) (Compacted, error)
}
