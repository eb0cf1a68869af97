package listing

// Next makes up the next thing that happens on the market: the writes that it takes, in the order in
// which they are made. Of 100 things about 60 are price changes, 25 statuses, 8 new listings with
// their photos, and 7 removals of a listing and its photos.
func (m *Market) Next() []Change {
	switch n := m.random.IntN(100); {
	case n < 8 || len(m.homes) == 0:
		return m.list()
	case n < 15:
		return m.withdraw()
	case n < 40:
		return []Change{m.status()}
	default:
		return []Change{m.price()}
	}
}

func (m *Market) list() []Change {
	photos := 1 + m.random.IntN(3)
	home := m.newHome(photos)
	changes := []Change{{Op: Create, Record: home}}
	for n := range photos {
		changes = append(changes, Change{Op: Create, Record: m.photo(home.Key, n+1)})
	}
	return changes
}

// withdraw removes a listing, its photos first.
func (m *Market) withdraw() []Change {
	i := m.random.IntN(len(m.homes))
	h := m.homes[i]
	last := len(m.homes) - 1
	m.homes[i] = m.homes[last]
	m.homes = m.homes[:last]
	var changes []Change
	for n := range h.photos {
		changes = append(changes, Change{Op: Remove, Record: Record{Resource: "Media", Key: photoKey(h.key, n+1)}})
	}
	return append(changes, Change{Op: Remove, Record: Record{Resource: "Property", Key: h.key}})
}

type pricePatch struct {
	ListPrice             dollars
	PreviousListPrice     dollars
	PriceChangeTimestamp  string
	ModificationTimestamp string
}

func (m *Market) price() Change {
	h := &m.homes[m.random.IntN(len(m.homes))]
	before := h.price
	step := 1000 * (1 + m.random.IntN(25))
	if h.price -= step; h.price < 60_000 {
		h.price = before + step
	}
	now := m.tick()
	return Change{Op: Update, Record: newRecord("Property", h.key, pricePatch{dollars(h.price), dollars(before), now, now})}
}

type statusPatch struct {
	StandardStatus        string
	MlsStatus             string
	StatusChangeTimestamp string
	ModificationTimestamp string
}

// next says which statuses may follow a status.
var next = map[string][]string{
	"Active":                {"Active Under Contract", "Pending", "Hold"},
	"Active Under Contract": {"Pending", "Active"},
	"Pending":               {"Closed", "Active"},
	"Hold":                  {"Active"},
	"Closed":                {"Active"}, // sold again
}

func (m *Market) status() Change {
	h := &m.homes[m.random.IntN(len(m.homes))]
	h.status = pick(m, next[h.status])
	now := m.tick()
	return Change{Op: Update, Record: newRecord("Property", h.key, statusPatch{h.status, h.status, now, now})}
}
