package metadata

import (
	"slices"
	"strings"
)

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

// KnownKey returns the key field that s.Keys or else the Data Dictionary gives a resource.
func (s *Schema) KnownKey(resource string) (field string, ok bool) {
	if field, ok = s.Keys[resource]; ok {
		return field, true
	}
	return KnownKey(resource)
}

// ChooseKey picks a key field as the function ChooseKey does, but first that of s.Keys, and then no other.
func (s *Schema) ChooseKey(resource string, members []string) (field string, ok bool) {
	if field, ok = s.Keys[resource]; ok {
		return field, slices.Contains(members, field)
	}
	return ChooseKey(resource, members)
}

// KnownResource returns the resource of s.Keys or the Data Dictionary's of this name in any case, for
// @reso.context writes it in lower case.
func (s *Schema) KnownResource(name string) (resource string, ok bool) {
	for r := range s.Keys {
		if strings.EqualFold(r, name) {
			return r, true
		}
	}
	return KnownResource(name)
}

// ChooseKey picks the key field of a resource from the names of a record's members, where no schema says
// it: the Data Dictionary's, else the one named after the resource, else the only one that ends in Key. It
// is false when this leaves a choice, for by the wrong key different records would be taken for one.
func ChooseKey(resource string, members []string) (field string, ok bool) {
	if known, ok := KnownKey(resource); ok && slices.Contains(members, known) {
		return known, true
	}
	if own := resource + "Key"; slices.Contains(members, own) {
		return own, true
	}
	candidates := KeyCandidates(members)
	if len(candidates) != 1 {
		return "", false
	}
	return candidates[0], true
}

// KeyCandidates returns the members whose names end in Key. Annotations are none.
func KeyCandidates(members []string) []string {
	var candidates []string
	for _, m := range members {
		if strings.HasSuffix(m, "Key") && !strings.Contains(m, "@") {
			candidates = append(candidates, m)
		}
	}
	return candidates
}

// KnownResource returns the Data Dictionary's resource of this name in any case.
func KnownResource(name string) (resource string, ok bool) {
	for r := range keys {
		if strings.EqualFold(r, name) {
			return r, true
		}
	}
	return "", false
}
