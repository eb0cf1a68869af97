// Package producer serves a store to others and pushes its log to those who subscribed.
//
// It promises that what it serves and pushes is what the store has committed, that nobody is shown or
// told of a record that he may not see, and that a subscription never skips an event: a position moves
// only past what was acknowledged, or what the subscriber may not see.
package producer

import (
	"github.com/resosync/resosync/entityevent"
)

// Store is what a producer needs of a store.
type Store interface {
	entityevent.Log
	entityevent.Records
	entityevent.Docs
	// LogID returns the name of the log.
	LogID() entityevent.LogID
}
