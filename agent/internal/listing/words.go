package listing

import (
	"fmt"
	"strings"
)

// town is a place of the market; lat and long in millionths of a degree.
type town struct {
	city, state, zip, area string
	lat, long              int
}

var towns = []town{
	{"Austin", "TX", "78704", "512", 30_240_000, -97_760_000},
	{"Boise", "ID", "83702", "208", 43_610_000, -116_200_000},
	{"Columbus", "OH", "43215", "614", 39_960_000, -82_990_000},
	{"Denver", "CO", "80205", "303", 39_750_000, -104_960_000},
	{"Fargo", "ND", "58102", "701", 46_910_000, -96_800_000},
	{"Raleigh", "NC", "27601", "919", 35_770_000, -78_630_000},
	{"Sacramento", "CA", "95814", "916", 38_580_000, -121_490_000},
	{"Coeur d'Alene", "ID", "83814", "208", 47_690_000, -116_780_000},
}

var (
	firstNames = []string{"Alice", "Ben", "Chloe", "Daniel", "Elena", "Frank", "Grace", "Hiro", "Inés", "Jamal", "Kim", "Lena", "Marta", "Noah", "Olga", "Priya"}
	lastNames  = []string{"Alvarez", "Baker", "Chen", "Dubois", "Edwards", "Fischer", "Garcia", "Hughes", "Ivanova", "Johnson", "Kowalski", "Lindqvist", "Martinez", "Nguyen"}
	brokerages = []string{"Realty", "Homes", "& Partners", "Real Estate Group", "Brokerage"}
	streets    = []string{"Oak", "Maple", "Cedar", "Juniper", "Lakeview", "Mill", "Prairie", "Washington", "Sunset", "St. Mary's", "Martin Luther King Jr"}
	suffixes   = []string{"Street", "Avenue", "Drive", "Lane", "Court", "Boulevard"}
	subTypes   = []string{"Single Family Residence", "Condominium", "Townhouse", "Duplex"}
	heatings   = []string{"Forced Air", "Heat Pump", "Radiant", "Natural Gas"}
	interiors  = []string{"Ceiling Fan(s)", "Eat-in Kitchen", "Granite Counters", "High Ceilings", "Kitchen Island", "Pantry", "Walk-In Closet(s)"}
	rooms      = []string{"Street view", "Kitchen", "Living room", "Primary bedroom", "Back yard", "Bathroom"}
	openings   = []string{"Welcome to", "Don't miss", "Move right in to", "First time on the market:"}
	praises    = []string{
		"The kitchen was redone last year with quartz counters and a gas range.",
		"Morning light fills the living room, and the fenced yard is ready for a garden.",
		"New roof and water heater; the basement is dry and framed for one more room.",
		"Walk to the school, the farmers' market and the trail along the river.",
		"The seller offers a one-year home warranty and will leave the appliances.",
		"Quiet street, wide porch, \"best sunset in town\" as the neighbours say.",
	}
)

func (m *Market) phone(area string) string {
	return fmt.Sprintf("%s-555-%04d", area, 100+m.random.IntN(100))
}

func (m *Market) street() string {
	return fmt.Sprintf("%d %s %s", 1+m.random.IntN(999), pick(m, streets), pick(m, suffixes))
}

// some returns up to n different words, in their order.
func (m *Market) some(words []string, n int) []string {
	start := m.random.IntN(len(words))
	out := words[start:min(start+n, len(words))]
	return out
}

func (m *Market) remarks(beds, baths, area int, city string) string {
	text := []string{fmt.Sprintf("%s this %d bedroom, %d bath home of %d square feet in %s.", pick(m, openings), beds, baths, area, city)}
	first := m.random.IntN(len(praises))
	for i := range 2 {
		text = append(text, praises[(first+i)%len(praises)])
	}
	return strings.Join(text, " ")
}
