package listing

import (
	"fmt"
	"strconv"
	"strings"
)

// dollars is an amount, written with its cents as MLS systems do.
type dollars int

func (d dollars) MarshalJSON() ([]byte, error) {
	return append(strconv.AppendInt(nil, int64(d), 10), ".00"...), nil
}

type officeBody struct {
	OfficeKey             string
	OfficeMlsId           string
	OfficeName            string
	OfficePhone           string
	OfficeEmail           string
	OfficeAddress1        string
	OfficeCity            string
	OfficeStateOrProvince string
	OfficePostalCode      string
	OfficeStatus          string
	ModificationTimestamp string
}

func (m *Market) newOffice() Record {
	n := len(m.offices) + 101
	t := pick(m, towns)
	o := office{id: fmt.Sprintf("BRK%d", n), key: fmt.Sprintf("OF-%d", n), name: pick(m, lastNames) + " " + pick(m, brokerages),
		town: t, phone: m.phone(t.area)}
	if len(m.offices)%7 == 2 { // as real keys sometimes are
		o.key = fmt.Sprintf("O'NEIL/%d #1", n)
		o.name = "O'Neil & Söhne " + pick(m, brokerages)
	}
	m.offices = append(m.offices, o)
	return newRecord("Office", o.key, officeBody{OfficeKey: o.key, OfficeMlsId: o.id, OfficeName: o.name, OfficePhone: o.phone,
		OfficeEmail: "office@" + strings.ToLower(o.id) + ".example", OfficeAddress1: m.street(), OfficeCity: t.city,
		OfficeStateOrProvince: t.state, OfficePostalCode: t.zip, OfficeStatus: "Active", ModificationTimestamp: m.tick()})
}

type memberBody struct {
	MemberKey             string
	MemberMlsId           string
	MemberFirstName       string
	MemberLastName        string
	MemberFullName        string
	MemberEmail           string
	MemberMobilePhone     string
	MemberStateLicense    string
	MemberStatus          string
	MemberType            string
	OfficeKey             string
	OfficeMlsId           string
	OfficeName            string
	ModificationTimestamp string
}

func (m *Market) newMember() Record {
	n := len(m.members) + 10_001
	a := member{key: fmt.Sprintf("M%d", n), id: fmt.Sprintf("%06d", 400_000+n), first: pick(m, firstNames), last: pick(m, lastNames),
		office: m.random.IntN(len(m.offices))}
	m.members = append(m.members, a)
	o := m.offices[a.office]
	return newRecord("Member", a.key, memberBody{MemberKey: a.key, MemberMlsId: a.id, MemberFirstName: a.first, MemberLastName: a.last,
		MemberFullName: a.first + " " + a.last, MemberEmail: strings.ToLower(a.first) + "@" + strings.ToLower(o.id) + ".example",
		MemberMobilePhone: m.phone(o.town.area), MemberStateLicense: fmt.Sprintf("SL%07d", 3_100_000+n), MemberStatus: "Active",
		MemberType: "MLS Participant", OfficeKey: o.key, OfficeMlsId: o.id, OfficeName: o.name, ModificationTimestamp: m.tick()})
}

type homeBody struct {
	ListingKey                     string
	ListingId                      string
	StandardStatus                 string
	MlsStatus                      string
	ListPrice                      dollars
	OriginalListPrice              dollars
	PropertyType                   string
	PropertySubType                string
	StreetNumber                   string
	StreetName                     string
	StreetSuffix                   string
	UnparsedAddress                string
	City                           string
	StateOrProvince                string
	PostalCode                     string
	Country                        string
	Latitude                       coordinate
	Longitude                      coordinate
	BedroomsTotal                  int
	BathroomsTotalInteger          int
	LivingArea                     int
	LotSizeSquareFeet              int
	YearBuilt                      int
	GarageSpaces                   int
	NewConstructionYN              bool
	PoolPrivateYN                  bool
	Heating                        []string
	InteriorFeatures               []string
	TaxAnnualAmount                dollars
	ListAgentKey                   string
	ListAgentMlsId                 string
	ListAgentFullName              string
	ListOfficeKey                  string
	ListOfficeName                 string
	ListingContractDate            string
	OnMarketDate                   string
	DaysOnMarket                   int
	PhotosCount                    int
	PublicRemarks                  string
	PriceChangeTimestamp           *string
	StatusChangeTimestamp          string
	OriginalEntryTimestamp         string
	ModificationTimestamp          string
	InternetEntireListingDisplayYN bool
}

// coordinate is in millionths of a degree.
type coordinate int

func (c coordinate) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(c)/1e6, 'f', 6, 64), nil
}

func (m *Market) newHome(photos int) Record {
	m.drawn++
	n := m.drawn + 1_000_000
	agent := pick(m, m.members)
	o, t := m.offices[agent.office], pick(m, towns)
	h := home{key: fmt.Sprintf("LK%d", n), price: 1000 * (150 + m.random.IntN(1200)), status: "Active", photos: photos}
	m.homes = append(m.homes, h)
	number, name, suffix := strconv.Itoa(100+m.random.IntN(9000)), pick(m, streets), pick(m, suffixes)
	beds, baths := 1+m.random.IntN(5), 1+m.random.IntN(4)
	area, built := 700+150*beds+m.random.IntN(2500), 1900+m.random.IntN(126)
	day, now := m.now.Format("2006-01-02"), m.tick()
	return newRecord("Property", h.key, homeBody{
		ListingKey: h.key, ListingId: fmt.Sprintf("%s-%d", t.state, n), StandardStatus: h.status, MlsStatus: h.status,
		ListPrice: dollars(h.price), OriginalListPrice: dollars(h.price),
		PropertyType: "Residential", PropertySubType: pick(m, subTypes),
		StreetNumber: number, StreetName: name, StreetSuffix: suffix,
		UnparsedAddress: fmt.Sprintf("%s %s %s, %s, %s %s", number, name, suffix, t.city, t.state, t.zip),
		City:            t.city, StateOrProvince: t.state, PostalCode: t.zip, Country: "US",
		Latitude: coordinate(t.lat + m.random.IntN(80_000)), Longitude: coordinate(t.long - m.random.IntN(80_000)),
		BedroomsTotal: beds, BathroomsTotalInteger: baths, LivingArea: area, LotSizeSquareFeet: area * (2 + m.random.IntN(6)),
		YearBuilt: built, GarageSpaces: m.random.IntN(4), NewConstructionYN: built > 2023, PoolPrivateYN: m.random.IntN(5) == 0,
		Heating: []string{pick(m, heatings)}, InteriorFeatures: m.some(interiors, 3), TaxAnnualAmount: dollars(h.price / 80),
		ListAgentKey: agent.key, ListAgentMlsId: agent.id, ListAgentFullName: agent.first + " " + agent.last,
		ListOfficeKey: o.key, ListOfficeName: o.name, ListingContractDate: day, OnMarketDate: day, DaysOnMarket: 0,
		PhotosCount: h.photos, PublicRemarks: m.remarks(beds, baths, area, t.city),
		StatusChangeTimestamp: now, OriginalEntryTimestamp: now, ModificationTimestamp: now, InternetEntireListingDisplayYN: true,
	})
}

type photoBody struct {
	MediaKey                   string
	ResourceName               string
	ResourceRecordKey          string
	Order                      int
	MediaCategory              string
	MediaType                  string
	MediaURL                   string
	ShortDescription           string
	ImageWidth                 int
	ImageHeight                int
	PreferredPhotoYN           bool
	MediaModificationTimestamp string
	ModificationTimestamp      string
}

func photoKey(home string, n int) string { return fmt.Sprintf("%s-%02d", home, n) }

func (m *Market) photo(home string, n int) Record {
	key, now := photoKey(home, n), m.tick()
	return newRecord("Media", key, photoBody{MediaKey: key, ResourceName: "Property", ResourceRecordKey: home, Order: n,
		MediaCategory: "Photo", MediaType: "jpeg", MediaURL: "https://media.example/" + key + ".jpg", ShortDescription: pick(m, rooms),
		ImageWidth: 1600, ImageHeight: 1067, PreferredPhotoYN: n == 1, MediaModificationTimestamp: now, ModificationTimestamp: now})
}
