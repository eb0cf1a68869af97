package odata_test

import (
	"fmt"
	"time"

	"github.com/resosync/resosync/entityevent/odata"
)

func ExampleParseFilter() {
	scope := odata.Fields{
		"ListPrice":             {Kind: odata.Decimal},
		"City":                  {Kind: odata.String},
		"Appliances":            {Kind: odata.String, Collection: true},
		"ModificationTimestamp": {Kind: odata.DateTimeOffset},
	}
	filter, err := odata.ParseFilter("100000 LT ListPrice AND Appliances/any(a:a eq 'Oven' OR a eq 'Range')", scope)
	fmt.Println(filter, err)
	_, err = odata.ParseFilter("ListPrice gt 100000 and City eq 5", scope)
	fmt.Println(err)

	filter, _ = odata.ParseFilter("tolower(City) eq tolower('PARIS') and ModificationTimestamp lt now()", scope)
	filter = odata.At(filter, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	fmt.Println(filter)
	record := map[string]string{"City": `"Paris"`, "ModificationTimestamp": `"2026-01-01T23:00:00-05:00"`}
	fmt.Println(odata.Holds(filter, func(name string) []byte { return []byte(record[name]) }))
	// Output:
	// ListPrice gt 100000 and Appliances/any(a:a eq 'Oven' or a eq 'Range') <nil>
	// City is Edm.String and does not compare with 5, Edm.Int64 at position 32
	// tolower(City) eq 'paris' and ModificationTimestamp lt 2026-01-02T03:04:05.000000Z
	// false
}
