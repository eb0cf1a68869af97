// Package odatatest makes random records, filters and orders, so that the ways to answer a filter can be
// compared: odata.Holds, and each store.
package odatatest

import (
	"encoding/json"

	"github.com/resosync/resosync/entityevent/odata"
)

// Namespace is the one that Scope declares.
const Namespace = "org.reso.test"

var (
	status = &odata.Enum{Name: Namespace + ".Status", Members: []string{"Active", "Pending", "ActiveUnderContract", "Größe"}}
	uses   = &odata.Enum{Name: Namespace + ".Uses", Flags: true, Members: []string{"A", "B", "C"}}
	days   = &odata.Enum{Name: Namespace + ".Days", Flags: true, Members: []string{"None", "Sat", "Sun", "Weekend", "Mon"}, Values: []int64{0, 32, 64, 96, 1}}
)

// scope is a Scope with three enumerations.
type scope struct{ odata.Fields }

func (scope) Enum(name string) (*odata.Enum, bool) {
	switch name {
	case "Status", status.Name:
		return status, true
	case "Uses", uses.Name:
		return uses, true
	case "Days", days.Name:
		return days, true
	}
	return nil, false
}

// Scope returns the fields that Record fills and Filter asks for: two or more of every kind, collections
// and complex ones.
func Scope() odata.Scope {
	of := func(k odata.Kind) odata.Type { return odata.Type{Kind: k} }
	list := func(k odata.Kind) odata.Type { return odata.Type{Kind: k, Collection: true} }
	return scope{odata.Fields{
		"City": of(odata.String), "Straße": of(odata.String), "in": of(odata.String),
		"Beds": of(odata.Int), "Baths": of(odata.Int),
		"ListPrice": of(odata.Decimal), "ClosePrice": of(odata.Decimal),
		"PoolYN": of(odata.Bool), "ViewYN": of(odata.Bool),
		"ModificationTimestamp": of(odata.DateTimeOffset), "PhotosChangeTimestamp": of(odata.DateTimeOffset),
		"ListingContractDate": of(odata.Date), "CloseDate": of(odata.Date),
		"Id": of(odata.Guid), "OriginId": of(odata.Guid),
		"Status": {Kind: odata.Enumeration, Enum: status}, "OldStatus": {Kind: odata.Enumeration, Enum: status},
		"Days": {Kind: odata.Enumeration, Enum: days}, "OldDays": {Kind: odata.Enumeration, Enum: days}, "Shifts": {Kind: odata.Enumeration, Enum: days, Collection: true},
		"Uses": {Kind: odata.Enumeration, Enum: uses}, "OldUses": {Kind: odata.Enumeration, Enum: uses},
		"Appliances": list(odata.String), "Floors": list(odata.Int), "Opened": list(odata.DateTimeOffset), "Flags": list(odata.Bool),
		"Statuses": {Kind: odata.Enumeration, Enum: status, Collection: true},
		"Start":    of(odata.TimeOfDay),
		"Odd":      of(odata.Untyped), "Odds": list(odata.Untyped),
		"Address": {Kind: odata.Complex, Fields: odata.Fields{
			"City": of(odata.String), "Zip": of(odata.Int), "Lines": list(odata.String),
			"Place": {Kind: odata.Complex, Fields: odata.Fields{"Height": of(odata.Decimal), "Seen": of(odata.DateTimeOffset)}},
		}},
	}}
}

// Member returns what odata.Holds asks a record with.
func Member(body []byte) func(name string) []byte {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		panic(err) // a body of Record is an object
	}
	return func(name string) []byte { return members[name] }
}
