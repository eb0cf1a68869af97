package entityevent

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent/odata"
)

// Hash is the first 128 bits of the SHA-256 of a record's canonical content. The zero hash stands for
// "no record".
type Hash [16]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero says that h stands for no record.
func (h Hash) IsZero() bool { return h == Hash{} }

// Content is a record's content, ready to store.
type Content struct {
	// Body is the object in its own order, without white space and annotations; numbers keep their text, and half
	// a surrogate pair becomes U+FFFD.
	Body     json.RawMessage
	Hash     Hash      // equal for equal content
	Modified time.Time // its ModificationTimestamp, to the microsecond; zero without one
}

// Canonicalize reads one record: a JSON object. Two records are equal, here and wherever this project
// says so, if their hashes are: the hash ignores the order of members, white space, how a string is
// escaped, annotations (members with an @ in their name, as @odata.id) at any depth, and the volatile
// members at the top level. It keeps the text of numbers: 1.0 is not 1.
//
// It returns ErrInvalid for anything that is not one object, or is not UTF-8, repeats a name, or is
// nested deeper than 64.
func Canonicalize(raw []byte, volatile ...string) (Content, error) {
	c := canonicals.Get().(*canonical)
	defer canonicals.Put(c)
	c.reset(raw, volatile)
	if c.space() != '{' {
		return Content{}, c.errorf("want one object")
	}
	if err := c.objectValue(1); err != nil {
		return Content{}, err
	}
	if err := c.end(); err != nil {
		return Content{}, err
	}
	content := Content{Body: bytes.Clone(c.body), Modified: c.modified}
	sum := sha256.Sum256(c.canon)
	copy(content.Hash[:], sum[:])
	return content, nil
}

var canonicals = sync.Pool{New: func() any { return new(canonical) }}

// canonical writes two texts while it walks a record: the body to store and the text to hash.
type canonical struct {
	scanner
	body     []byte
	canon    []byte
	swap     []byte   // room to reorder members
	members  []member // those of the open objects
	volatile []string
	met      []int // which of volatile were met
	modified time.Time
}

// member is one member of an object: where it stands in canon, and the first bytes of its name, which
// nearly always decide the order.
type member struct {
	start, name, end int
	prefix           uint64
}

func prefix(name []byte) uint64 {
	var first [8]byte
	copy(first[:], name)
	return binary.BigEndian.Uint64(first[:])
}

func (c *canonical) reset(raw []byte, volatile []string) {
	c.scanner = scanner{src: raw}
	c.body, c.canon, c.members = c.body[:0], c.canon[:0], c.members[:0]
	c.volatile, c.met, c.modified = volatile, c.met[:0], time.Time{}
}

func (c *canonical) value(depth int) error {
	if depth > maxDepth {
		return c.errorf("nested deeper than %d", maxDepth)
	}
	switch c.space() {
	case '{':
		return c.objectValue(depth)
	case '[':
		return c.arrayValue(depth)
	case '"':
		text, err := c.text()
		if err == nil && loneSurrogate(text) { // no Unicode text; programs differ in what they make of it
			c.body = appendQuoted(c.body, unquote(text))
		} else {
			c.body = append(c.body, text...)
		}
		c.hashText(text)
		return err
	default:
		text, err := c.atom()
		c.body = append(c.body, text...)
		c.canon = append(c.canon, text...)
		return err
	}
}

func (c *canonical) hashText(text []byte) {
	if bytes.IndexByte(text, '\\') < 0 {
		c.canon = append(c.canon, text...)
	} else {
		c.canon = appendQuoted(c.canon, unquote(text))
	}
}

func (c *canonical) arrayValue(depth int) error {
	c.body, c.canon = append(c.body, '['), append(c.canon, '[')
	first := true
	err := c.list('[', ']', func() error {
		if !first {
			c.body, c.canon = append(c.body, ','), append(c.canon, ',')
		}
		first = false
		return c.value(depth + 1)
	})
	c.body, c.canon = append(c.body, ']'), append(c.canon, ']')
	return err
}

func (c *canonical) objectValue(depth int) error {
	c.body, c.canon = append(c.body, '{'), append(c.canon, '{')
	open, start := len(c.members), len(c.canon)
	empty := true
	err := c.object(func(text []byte) error {
		m := member{start: len(c.canon)}
		c.hashText(text)
		m.name = len(c.canon)
		name := c.canon[m.start+1 : m.name-1] // without quotes and needless escapes
		if bytes.IndexByte(name, '@') >= 0 {
			c.canon = c.canon[:m.start]
			_, err := c.skip(depth + 1)
			return err
		}
		if !empty {
			c.body = append(c.body, ',')
		}
		empty = false
		c.body = append(append(c.body, text...), ':')
		c.canon = append(c.canon, ':')
		volatile, modified := -1, false
		if depth == 1 {
			volatile = slices.IndexFunc(c.volatile, func(v string) bool { return v == string(name) })
			modified = string(name) == "ModificationTimestamp"
		}
		from := len(c.body)
		if err := c.value(depth + 1); err != nil {
			return err
		}
		if modified {
			c.modified = timestamp(c.body[from:])
		}
		if volatile >= 0 {
			c.canon = c.canon[:m.start]
			return c.foundVolatile(volatile)
		}
		c.canon = append(c.canon, ',')
		m.end = len(c.canon)
		m.prefix = prefix(c.canon[m.start+1 : m.name])
		c.members = append(c.members, m)
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.order(c.members[open:], start); err != nil {
		return err
	}
	c.members = c.members[:open]
	c.body, c.canon = append(c.body, '}'), append(c.canon, '}')
	return nil
}

// order puts the members of an object, which stand in canon from start to its end, in order of their names.
func (c *canonical) order(members []member, start int) error {
	byName := func(a, b member) int {
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		return bytes.Compare(c.canon[a.start:a.name], c.canon[b.start:b.name])
	}
	sorted := slices.IsSortedFunc(members, byName)
	if !sorted {
		slices.SortFunc(members, byName)
	}
	for i := 1; i < len(members); i++ {
		if byName(members[i-1], members[i]) == 0 {
			return c.errorf("the name %s stands twice in one object", c.canon[members[i].start:members[i].name])
		}
	}
	if !sorted {
		c.swap = c.swap[:0]
		for _, m := range members {
			c.swap = append(c.swap, c.canon[m.start:m.end]...)
		}
		copy(c.canon[start:], c.swap)
	}
	return nil
}

// foundVolatile notes that a volatile member was met: order does not see it.
func (c *canonical) foundVolatile(i int) error {
	if slices.Contains(c.met, i) {
		return c.errorf("the name %q stands twice in one object", c.volatile[i])
	}
	c.met = append(c.met, i)
	return nil
}

// timestamp reads an Edm.DateTimeOffset in a string's text; the zero time if it is none.
func timestamp(text []byte) time.Time {
	if len(text) < 2 || text[0] != '"' {
		return time.Time{}
	}
	micros, ok := odata.ParseInstant(string(unquote(text)))
	if !ok {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}
