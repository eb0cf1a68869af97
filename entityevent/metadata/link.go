package metadata

import (
	"cmp"
	"slices"
	"strings"
)

// Link leads from a record to others: a navigation property, and how to follow it.
type Link struct {
	Name   string
	Target string // the resource
	Many   bool

	Field string // one: our field that holds Target's key

	ParentField         string // many: the field of Target's records that holds our key
	ParentResourceField string // many: the one that holds our resource's name; "": there is none
	// Owned says that Parent names our record for those of Target: a store finds them by their parent.
	Owned bool
}

// Followed says that it is known how to follow the link. A document may declare more than it explains.
func (l Link) Followed() bool { return l.Field != "" || l.ParentField != "" }

// ones are the Data Dictionary's links to one record, whose key stands in the field of the link's name
// with Key after it.
var ones = map[string]map[string]string{
	"CaravanStop":               {"Listing": "Property"},
	"ContactListingNotes":       {"Contact": "Contacts", "Listing": "Property"},
	"ContactListings":           {"Contact": "Contacts", "Listing": "Property"},
	"Contacts":                  {"OwnerMember": "Member"},
	"HistoryTransactional":      {"ChangedByMember": "Member"},
	"LockOrBox":                 {"Listing": "Property"},
	"Media":                     {"ChangedByMember": "Member"},
	"Member":                    {"Office": "Office"},
	"MemberAssociation":         {"Member": "Member", "Association": "Association"},
	"MemberStateLicense":        {"Member": "Member"},
	"OUID":                      {"ChangedByMember": "Member"},
	"Office":                    {"MainOffice": "Office", "OfficeBroker": "Member", "OfficeManager": "Member"},
	"OfficeAssociation":         {"Office": "Office", "Association": "Association"},
	"OfficeCorporateLicense":    {"Office": "Office"},
	"OpenHouse":                 {"Listing": "Property", "ShowingAgent": "Member"},
	"PropertyGreenVerification": {"Listing": "Property"},
	"PropertyPowerProduction":   {"Listing": "Property"},
	"PropertyPowerStorage":      {"Listing": "Property"},
	"PropertyRooms":             {"Listing": "Property"},
	"PropertyUnitTypes":         {"Listing": "Property"},
	"Prospecting":               {"Contact": "Contacts", "OwnerMember": "Member", "SavedSearch": "SavedSearch"},
	"SavedSearch":               {"Member": "Member"},
	"Showing":                   {"Listing": "Property", "ShowingAgent": "Member"},
	"TeamMembers":               {"Member": "Member"},
	"Teams":                     {"TeamLead": "Member"},
	"Property": {
		"ListAgent": "Member", "CoListAgent": "Member", "BuyerAgent": "Member", "CoBuyerAgent": "Member",
		"ListOffice": "Office", "CoListOffice": "Office", "BuyerOffice": "Office", "CoBuyerOffice": "Office",
		"ListTeam": "Teams", "BuyerTeam": "Teams",
	},
}

// manies are the Data Dictionary's links to records that belong to ours.
var manies = map[string]map[string]string{
	"Caravan":   {"CaravanStop": "CaravanStop"},
	"Contacts":  {"Media": "Media", "OtherPhone": "OtherPhone", "SocialMedia": "SocialMedia", "HistoryTransactional": "HistoryTransactional"},
	"Member":    {"Media": "Media", "OtherPhone": "OtherPhone", "SocialMedia": "SocialMedia", "MemberStateLicense": "MemberStateLicense", "HistoryTransactional": "HistoryTransactional"},
	"OUID":      {"Media": "Media", "SocialMedia": "SocialMedia", "HistoryTransactional": "HistoryTransactional"},
	"Office":    {"Media": "Media", "SocialMedia": "SocialMedia", "OfficeCorporateLicense": "OfficeCorporateLicense", "HistoryTransactional": "HistoryTransactional"},
	"OpenHouse": {"Media": "Media", "SocialMedia": "SocialMedia", "HistoryTransactional": "HistoryTransactional"},
	"Showing":   {"Media": "Media", "SocialMedia": "SocialMedia", "HistoryTransactional": "HistoryTransactional"},
	"Teams":     {"Media": "Media", "SocialMedia": "SocialMedia", "TeamMembers": "TeamMembers", "HistoryTransactional": "HistoryTransactional"},
	"Property": {
		"Media": "Media", "Rooms": "PropertyRooms", "UnitTypes": "PropertyUnitTypes", "OpenHouse": "OpenHouse",
		"GreenBuildingVerification": "PropertyGreenVerification", "PowerProduction": "PropertyPowerProduction",
		"PowerStorage": "PropertyPowerStorage", "SocialMedia": "SocialMedia", "HistoryTransactional": "HistoryTransactional",
	},
}

// Link returns a navigation of a resource: one that the document declares, or one of the Data Dictionary, in
// a document between resources that it has. That some records hold themselves what it leads to changes nothing
// for the others, unless the document declares such a field. How to follow it say the document's referential constraints and
// partners, else the Data Dictionary's fields, if the resources have them; if nothing says it the link is
// not Followed. It is false for a name that is no navigation.
func (s *Schema) Link(resource, name string) (Link, bool) {
	if s.read && s.Type(resource) == nil {
		return Link{}, false
	}
	if n, ok := s.navigation(resource, name); ok {
		return s.declared(resource, n), true
	}
	if _, ok := s.Field(resource, name); ok && s.read {
		return Link{}, false // the records hold it themselves
	}
	l := Link{Name: name}
	l.Target, l.Many = dictionary(resource, name)
	if l.Target == "" || s.read && s.Type(l.Target) == nil {
		return Link{}, false
	}
	s.guess(resource, &l)
	return l, l.Followed()
}

// dictionary returns where a link of the Data Dictionary leads, "" if it has none of the name.
func dictionary(resource, name string) (target string, many bool) {
	if target, many = manies[resource][name]; many {
		return target, true
	}
	return ones[resource][name], false
}

// Target returns the resource whose records may stand in a member of a resource's: the one to which a link of
// this name leads, else the one of this name, "" if there is neither. In an object that is no record (resource
// "") the member may be any link of the Data Dictionary.
func (s *Schema) Target(resource, member string) string {
	if n, ok := s.navigation(resource, member); ok {
		return s.declared(resource, n).Target
	}
	target, _ := dictionary(resource, member)
	if resource == "" {
		for _, links := range [...]map[string]map[string]string{ones, manies} {
			for of := range links {
				target = cmp.Or(target, links[of][member]) // a name leads to the same from everywhere
			}
		}
	}
	if _, known := s.KnownKey(member); target == "" && (known || s.Type(member) != nil) {
		target = member
	}
	if s.read && s.Type(target) == nil {
		return ""
	}
	return target
}

// Links returns the names of a resource's navigations that can be followed, to resources that the schema
// has, in order of the alphabet.
func (s *Schema) Links(resource string) []string {
	var names []string
	add := func(name string) {
		if l, ok := s.Link(resource, name); ok && l.Followed() && s.Type(l.Target) != nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for t := range s.bases(resource) {
		for _, n := range t.Navigations {
			add(n.Name)
		}
	}
	for name := range ones[resource] {
		add(name)
	}
	for name := range manies[resource] {
		add(name)
	}
	slices.Sort(names)
	return names
}

// navigation returns a navigation that a resource's type declares, or inherits.
func (s *Schema) navigation(resource, name string) (Navigation, bool) {
	for t := range s.bases(resource) {
		for _, n := range t.Navigations {
			if n.Name == name {
				return n, true
			}
		}
	}
	return Navigation{}, false
}

// declared explains a navigation of the document.
func (s *Schema) declared(resource string, n Navigation) Link {
	inner, many := strings.CutPrefix(n.Type, "Collection(")
	inner = strings.TrimSuffix(inner, ")")
	l := Link{Name: n.Name, Many: many, Target: s.target(resource, n.Name, inner)}
	key, _, ok := s.KeyField(l.Target)
	switch {
	case !ok:
		return l
	case !many && len(n.Constraints) == 1 && n.Constraints[0].Referenced == key:
		l.Field = n.Constraints[0].Field
	case !many && len(n.Constraints) > 0:
		return l // by fields that are no key
	case many && n.Partner != "":
		own, _, _ := s.KeyField(resource)
		back, ok := s.navigation(l.Target, n.Partner)
		if ok && len(back.Constraints) == 1 && back.Constraints[0].Referenced == own {
			l.ParentField = back.Constraints[0].Field
		}
	}
	if !l.Followed() {
		s.guess(resource, &l)
	}
	p := parents[l.Target]
	l.Owned = l.Owned || many && l.ParentField != "" && p == parent{resource, "", l.ParentField}
	return l
}

// target returns the resource to which a navigation leads: the one that it is bound to, else the first
// whose records are of the type.
func (s *Schema) target(resource, name, edmType string) string {
	for _, set := range s.Sets {
		if set.Name == resource && set.Bindings[name] != "" {
			_, bound, found := strings.Cut(set.Bindings[name], "/") // Container/Set, or Set alone
			if !found {
				bound = set.Bindings[name]
			}
			if s.Type(bound) != nil {
				return bound
			}
		}
	}
	for _, set := range s.sets() {
		if set.Type == edmType {
			return set.Name
		}
	}
	return ""
}

// guess says how to follow a link by the rules that the Data Dictionary's own obey: to one record by the
// field that is named after the link, to several by what says to whom they belong.
func (s *Schema) guess(resource string, l *Link) {
	has := func(resource, field string) bool {
		if field == "" {
			return true
		}
		_, ok := s.Field(resource, field)
		return ok
	}
	if !l.Many {
		// The …SystemKey fields of the Data Dictionary hold the record's key over there, not a record's here.
		if field := l.Name + "Key"; !strings.HasSuffix(l.Name, "System") && (!s.read || has(resource, field)) {
			l.Field = field
		}
		return
	}
	p, ok := parents[l.Target]
	if !ok || p.Resource != "" && p.Resource != resource || s.read && (!has(l.Target, p.Field) || !has(l.Target, p.ResourceField)) {
		return
	}
	l.ParentField, l.ParentResourceField, l.Owned = p.Field, p.ResourceField, true
}
