package metadata

// ranks are the resources that others point at, in the order in which they are written: a record is then rarely seen
// before what it belongs to (RCP-27, Producers).
var ranks = map[string]int{
	"Lookup": 0, "Field": 0, "OUID": 1, "Association": 1,
	"Office": 2, "Member": 3, "MemberAssociation": 4, "OfficeAssociation": 4, "Teams": 4, "TeamMembers": 5,
	"Contacts": 6, "ContactListings": 8, "Property": 7,
}

// Rank orders resources: parents first. Those of which nothing is known come last.
func Rank(resource string) int {
	if r, ok := ranks[resource]; ok {
		return r
	}
	return len(ranks)
}
