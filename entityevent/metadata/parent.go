package metadata

// parent is how the records of a resource name the record that they belong to.
type parent struct {
	Resource      string // "": what ResourceField says
	ResourceField string
	Field         string // holds the parent's key
}

const (
	resourceName      = "ResourceName"
	resourceRecordKey = "ResourceRecordKey"
)

// parents are the Data Dictionary's resources whose records belong to a record of another.
var parents = map[string]parent{
	"CaravanStop":               {"Caravan", "", "CaravanKey"},
	"ContactListingNotes":       {"Contacts", "", "ContactKey"},
	"ContactListings":           {"Contacts", "", "ContactKey"},
	"HistoryTransactional":      {"", resourceName, resourceRecordKey},
	"LockOrBox":                 {"Property", "", "ListingKey"},
	"Media":                     {"", resourceName, resourceRecordKey},
	"MemberAssociation":         {"Member", "", "MemberKey"},
	"MemberStateLicense":        {"Member", "", "MemberKey"},
	"OfficeAssociation":         {"Office", "", "OfficeKey"},
	"OfficeCorporateLicense":    {"Office", "", "OfficeKey"},
	"OpenHouse":                 {"Property", "", "ListingKey"},
	"OtherPhone":                {"", resourceName, resourceRecordKey},
	"PropertyGreenVerification": {"Property", "", "ListingKey"},
	"PropertyPowerProduction":   {"Property", "", "ListingKey"},
	"PropertyPowerStorage":      {"Property", "", "ListingKey"},
	"PropertyRooms":             {"Property", "", "ListingKey"},
	"PropertyUnitTypes":         {"Property", "", "ListingKey"},
	"Queue":                     {"", resourceName, resourceRecordKey},
	"Showing":                   {"Property", "", "ListingKey"},
	"ShowingAppointment":        {"Property", "", "ListingKey"},
	"ShowingAvailability":       {"Property", "", "ListingKey"},
	"ShowingRequest":            {"Property", "", "ListingKey"},
	"SocialMedia":               {"", resourceName, resourceRecordKey},
	"TeamMembers":               {"Teams", "", "TeamKey"},
	"TransactionManagement":     {"Property", "", "ListingKey"},
}

// Parent returns the record to which a record of the resource belongs by the Data Dictionary: a Media
// record to what its ResourceName (Property, if it has none) and ResourceRecordKey say, a room to the
// listing of its ListingKey. member returns a member of the record as text, "" if it has none. It is
// false for records that belong to none. The parent need not exist.
func Parent(resource string, member func(name string) string) (parentResource, parentKey string, ok bool) {
	p, ok := parents[resource]
	if !ok {
		return "", "", false
	}
	if parentKey = member(p.Field); parentKey == "" {
		return "", "", false
	}
	if p.Resource != "" {
		return p.Resource, parentKey, true
	}
	parentResource = member(p.ResourceField)
	if parentResource == "" {
		parentResource = "Property"
	}
	if _, exact := keys[parentResource]; !exact {
		if known, ok := KnownResource(parentResource); ok {
			parentResource = known // "property" belongs to Property
		}
	}
	return parentResource, parentKey, true
}
