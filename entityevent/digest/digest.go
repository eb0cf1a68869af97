// Package digest says what a copy of records holds in a few bytes, so that two copies can be compared without sending
// them: a count and a hash for each resource, and for each range of its keys.
//
// It promises that two digests over the same ranges are equal if and only if the records are, as far as SHA-256 and the
// 128 bits of entityevent.Hash can tell, in any store and in either role.
package digest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"

	"github.com/resosync/resosync/entityevent"
)

// RangeRecords is how many records are in a range, if the ranges are not given.
const RangeRecords = 1000

// Digest is what one reader sees of a log's records.
type Digest struct {
	// Log is the log's name and the reader's profile, as in EntityEvent-Log.
	Log string `json:"log"`
	// Sequence is the head of the log before the first record was read, and Through the head after the last: the digest
	// may have what a record was anywhere between the two, so a range with a record that changed there proves nothing.
	Sequence  entityevent.Sequence `json:"sequence"`
	Through   entityevent.Sequence `json:"through"`
	Resources map[string]Resource  `json:"resources"`
}

// Resource is the digest of the records of one resource.
type Resource struct {
	Count  int64   `json:"count"`
	Hash   string  `json:"hash"` // of all records in the ranges, as that of one range
	Ranges []Range `json:"ranges"`
}

// Range is the digest of the records whose keys are above After and not above To, by their bytes.
type Range struct {
	After string `json:"after"`        // "": from the first key
	To    string `json:"to,omitempty"` // "": to the last key
	Count int64  `json:"count"`
	// Hash is the SHA-256, in hexadecimal, over the records in order of their keys: of each the key, a zero byte, and
	// the 16 bytes of its content hash (entityevent.Canonicalize).
	Hash string `json:"hash"`
}

// Holds says whether a key is in the range.
func (r Range) Holds(key string) bool { return key > r.After && (r.To == "" || key <= r.To) }

// Builder makes the digest of one resource out of its records. It needs memory for the ranges alone.
type Builder struct {
	given      []Range // those that are not begun
	fixed      bool    // the ranges are given
	open       *Range  // nil: what is left lies behind all of them
	last       string
	whole, one hash.Hash // of the resource and of the open range
	digest     Resource
	buf        []byte
}

// New returns a Builder of ranges of RangeRecords records each: the first begins before all keys, the last ends after
// all. There is one even if there are no records.
func New() *Builder {
	return &Builder{open: &Range{}, whole: sha256.New(), one: sha256.New(), digest: Resource{Ranges: []Range{}}}
}

// Over returns a Builder of these ranges, as another digest has them: their After and To count. Records outside of them
// are left out. ErrInvalid if a range is empty or begins before the end of the one before.
func Over(ranges []Range) (*Builder, error) {
	b := New()
	b.fixed = true
	for i, r := range ranges {
		if r.To != "" && r.To <= r.After || i > 0 && (ranges[i-1].To == "" || r.After < ranges[i-1].To) {
			return nil, fmt.Errorf("%w range of keys: after %q to %q is empty, or begins before the end of the one before", entityevent.ErrInvalid, r.After, r.To)
		}
		b.given = append(b.given, Range{After: r.After, To: r.To})
	}
	b.next()
	return b, nil
}

// Add takes the next record, in order of the keys' bytes; ErrInvalid if it is not.
func (b *Builder) Add(key string, h entityevent.Hash) error {
	if key <= b.last {
		return fmt.Errorf("%w order of keys: %q after %q", entityevent.ErrInvalid, key, b.last)
	}
	for b.open != nil && b.open.To != "" && key > b.open.To {
		b.close()
	}
	if !b.fixed && b.open.Count == RangeRecords {
		b.open.To = b.last
		b.close()
		b.open = &Range{After: b.last}
	}
	b.last = key
	if b.open == nil || !b.open.Holds(key) {
		return nil
	}
	b.buf = append(append(append(b.buf[:0], key...), 0), h[:]...)
	b.whole.Write(b.buf)
	b.one.Write(b.buf)
	b.open.Count++
	b.digest.Count++
	return nil
}

// close ends the open range.
func (b *Builder) close() {
	b.open.Hash = hex.EncodeToString(b.one.Sum(nil))
	b.one.Reset()
	b.digest.Ranges = append(b.digest.Ranges, *b.open)
	b.next()
}

func (b *Builder) next() {
	if b.open = nil; len(b.given) > 0 {
		b.open, b.given = &b.given[0], b.given[1:]
	}
}

// Resource returns the digest of what was added. It is called once, after the last record.
func (b *Builder) Resource() Resource {
	for b.open != nil {
		b.close()
	}
	b.digest.Hash = hex.EncodeToString(b.whole.Sum(nil))
	return b.digest
}
