package entityevent

import (
	"context"
	"iter"
)

// Passes finds what a pass over the records did not meet.
type Passes interface {
	// Unmarked yields the keys, in order of their bytes, of the records of a resource that are not gone and
	// whose mark is not that of the pass (Change.Pass). It ends at the first error, which it yields. No
	// transaction stays open while the caller holds a key, so changes meanwhile may show. It looks at
	// every record of the resource, in short steps.
	Unmarked(ctx context.Context, feed, resource string, pass int64) iter.Seq2[string, error]
}
