package consumer

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/resosync/resosync/entityevent"
)

// again compares ranges once more, divided as long as they do not become too many.
func (v *verification) again(ctx context.Context, left []differing) (still []differing, err error) {
	parts := min(verifyParts, max(1, verifyAsked/len(left)))
	var ranges []keyRange
	for _, d := range left {
		divided, err := v.divide(ctx, d, parts)
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, divided...)
	}
	for part := range slices.Chunk(ranges, verifyRanges) {
		found, err := v.compare(ctx, job{Type: digestJob, Ranges: part})
		if err != nil {
			return nil, err
		}
		still = append(still, found...)
	}
	return still, nil
}

// divide divides a range by the copy's keys, into so many parts and perhaps one more. If the parts have a record each
// and something is busy, each record gets a range that holds no other key, and what lies between two gets its own.
func (v *verification) divide(ctx context.Context, d differing, parts int) (ranges []keyRange, err error) {
	each := max(1, (d.here.Count+int64(parts)-1)/int64(parts))
	after, n := d.there.After, int64(0)
	cut := func(at string) {
		if at > after && at != d.there.To {
			ranges = append(ranges, keyRange{d.resource, after, at})
			after = at
		}
	}
	err = v.each(ctx, d.resource, d.there.After, d.there.To, func(r entityevent.Record) error {
		if n++; n%each != 0 || n/each > int64(parts) {
			return nil
		}
		if each == 1 && d.busy {
			cut(before(r.Key))
		}
		cut(r.Key)
		return nil
	})
	return append(ranges, keyRange{d.resource, after, d.there.To}), err
}

// alone says that there can be but one record in the range: that of its last key.
func (d differing) alone() bool { return d.there.To != "" && d.there.After == before(d.there.To) }

// before returns a text that comes before a key and after every other key that does: the key whose last character is
// the one before, and the last of all characters, which no key has. "": there is none.
func before(key string) string {
	last, size := utf8.DecodeLastRuneInString(key)
	if last <= 1 || !utf8.ValidRune(last-1) || last == utf8.RuneError {
		return ""
	}
	return key[:len(key)-size] + string(last-1) + string(utf8.MaxRune)
}

// behind returns the key that a text comes before; another text is one itself.
func behind(text string) string {
	short, ok := strings.CutSuffix(text, string(utf8.MaxRune))
	if !ok || short == "" {
		return text
	}
	last, size := utf8.DecodeLastRuneInString(short)
	return short[:len(short)-size] + string(last+1)
}
