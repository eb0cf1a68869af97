// Package listing makes up the records of an MLS for demonstrations, benchmarks and tests: offices,
// members, listings and their media, under the names of the RESO Data Dictionary 2.0, and what then
// happens to them: prices and statuses change, listings come and go with their media.
//
// The same Options give the same records and the same changes, byte for byte.
package listing

import (
	"encoding/json"
	"iter"
	"math/rand/v2"
	"time"
)

// Resources are the resources of a market, parents first.
var Resources = []string{"Office", "Member", "Property", "Media"}

// Options say what market to make up.
type Options struct {
	Seed    uint64
	Records int       // at the start, of all resources together. Default 2000, at least 10
	Start   time.Time // the first instant of the market's own clock. Default 2026-03-02 09:00 UTC
}

// Record is one record, as the owner of the data would write it.
type Record struct {
	Resource string
	Key      string
	Body     json.RawMessage // one JSON object that holds its key; a listing takes about 1.4 KB
}

// Op is what a change does.
type Op uint8

// The operations.
const (
	Create Op = iota // the record is new
	Update           // the body's members replace those of the record (PATCH)
	Remove           // the record goes away; no body
)

// Change is one write.
type Change struct {
	Op Op
	Record
}

// Market is a made-up MLS. It remembers little of each listing, so that a million fit into memory. It
// is not safe for concurrent use.
type Market struct {
	size    int
	random  *rand.Rand
	now     time.Time
	offices []office
	members []member
	homes   []home
	drawn   int // listings ever made
}

type office struct {
	key, id, name, phone string
	town                 town
}

type member struct {
	key, id, first, last string
	office               int
}

// home is what a market remembers of a listing.
type home struct {
	key    string
	price  int // dollars
	status string
	photos int
}

// New makes up a market.
func New(o Options) *Market {
	if o.Records == 0 {
		o.Records = 2000
	}
	o.Records = max(o.Records, 10)
	if o.Start.IsZero() {
		o.Start = time.Date(2026, time.March, 2, 9, 0, 0, 0, time.UTC)
	}
	return &Market{size: o.Records, random: rand.New(rand.NewPCG(o.Seed, uint64(o.Records))), now: o.Start}
}

// Records makes up the records of the start, parents first, and yields each once. It is called once,
// and read to its end, before Next.
func (m *Market) Records() iter.Seq[Record] {
	offices, members, homes := max(1, m.size/200), max(2, m.size/40), m.size*2/5
	photos := m.size - offices - members - homes
	return func(yield func(Record) bool) {
		for range offices {
			if !yield(m.newOffice()) {
				return
			}
		}
		for range members {
			if !yield(m.newMember()) {
				return
			}
		}
		for i := range homes {
			if !yield(m.newHome((i+1)*photos/homes - i*photos/homes)) {
				return
			}
		}
		for i := range m.homes {
			for n := range m.homes[i].photos {
				if !yield(m.photo(m.homes[i].key, n+1)) {
					return
				}
			}
		}
	}
}

// tick moves the market's clock to its next instant and returns it as a DateTimeOffset.
func (m *Market) tick() string {
	m.now = m.now.Add(time.Duration(1+m.random.IntN(20_000)) * time.Millisecond)
	return m.now.Format("2006-01-02T15:04:05.000Z")
}

func pick[T any](m *Market, from []T) T { return from[m.random.IntN(len(from))] }

func newRecord(resource, key string, body any) Record {
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err) // the types of this package always marshal
	}
	return Record{Resource: resource, Key: key, Body: raw}
}
