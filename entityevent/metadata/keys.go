package metadata

import "strings"

// keys are the resources of the Data Dictionary and their key fields.
var keys = map[string]string{
	"Association":               "AssociationKey",
	"Caravan":                   "CaravanKey",
	"CaravanStop":               "CaravanStopKey",
	"ContactListingNotes":       "ContactListingNotesKey",
	"ContactListings":           "ContactListingsKey",
	"Contacts":                  "ContactKey",
	"EntityEvent":               "EntityEventSequence",
	"Field":                     "FieldKey",
	"HistoryTransactional":      "HistoryTransactionalKey",
	"InternetTracking":          "EventKey",
	"LockOrBox":                 "LockOrBoxKey",
	"Lookup":                    "LookupKey",
	"Media":                     "MediaKey",
	"Member":                    "MemberKey",
	"MemberAssociation":         "MemberAssociationKey",
	"MemberStateLicense":        "MemberStateLicenseKey",
	"OUID":                      "OrganizationUniqueIdKey",
	"Office":                    "OfficeKey",
	"OfficeAssociation":         "OfficeAssociationKey",
	"OfficeCorporateLicense":    "OfficeCorporateLicenseKey",
	"OpenHouse":                 "OpenHouseKey",
	"OtherPhone":                "OtherPhoneKey",
	"Property":                  "ListingKey",
	"PropertyGreenVerification": "GreenBuildingVerificationKey",
	"PropertyPowerProduction":   "PowerProductionKey",
	"PropertyPowerStorage":      "PowerStorageKey",
	"PropertyRooms":             "RoomKey",
	"PropertyUnitTypes":         "UnitTypeKey",
	"Prospecting":               "ProspectingKey",
	"Queue":                     "QueueTransactionKey",
	"Rules":                     "RuleKey",
	"SavedSearch":               "SavedSearchKey",
	"Showing":                   "ShowingKey",
	"ShowingAppointment":        "ShowingAppointmentKey",
	"ShowingAvailability":       "ShowingAvailabilityKey",
	"ShowingRequest":            "ShowingRequestKey",
	"SocialMedia":               "SocialMediaKey",
	"TeamMembers":               "TeamMemberKey",
	"Teams":                     "TeamKey",
	"TransactionManagement":     "TransactionKey",
}

// KnownKey returns the key field that the Data Dictionary gives a resource.
func KnownKey(resource string) (field string, ok bool) {
	field, ok = keys[resource]
	return field, ok
}

// KnownResource returns the Data Dictionary's resource of this name in any case, for @reso.context
// writes it in lower case.
func KnownResource(name string) (resource string, ok bool) {
	for r := range keys {
		if strings.EqualFold(r, name) {
			return r, true
		}
	}
	return "", false
}
