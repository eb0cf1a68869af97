package consumer

// parents are the resources that others point at, in the order in which they are written: a record is
// then rarely seen before what it belongs to (RCP-27, Producers). Removals go the other way. Resources
// that do not stand here come after them.
var parents = map[string]int{
	"Lookup": 0, "Field": 0, "OUID": 1, "Association": 1,
	"Office": 2, "Member": 3, "MemberAssociation": 4, "OfficeAssociation": 4, "Teams": 4, "TeamMembers": 5,
	"Contacts": 6, "ContactListings": 8, "Property": 7,
}

// rank orders resources: parents first.
func rank(resource string) int {
	if r, ok := parents[resource]; ok {
		return r
	}
	return len(parents)
}
