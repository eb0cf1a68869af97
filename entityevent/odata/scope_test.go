package odata_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/odata/odatatest"
)

// TestParseFilterInScope: each notation is read as one tree, which is printed in one way.
func TestParseFilterInScope(t *testing.T) {
	for text, want := range map[string]string{
		"Status eq org.reso.test.Status'Active'":                       "Status eq 'Active'",
		"Status'Active' ne Status":                                     "Status ne 'Active'",
		"City eq Status'Active'":                                       "City eq 'Active'",
		"Uses eq Uses'A, B'":                                           "Uses eq 'A,B'",
		"Uses HAS org.reso.test.Uses'A,B'":                             "Uses has 'A,B'",
		"City has 'x'":                                                 "City has 'x'",
		"Uses eq 'C, A'":                                               "Uses eq 'A,C'",
		"City eq Uses'B, A'":                                           "City eq 'B, A'",
		"Days eq Days'Sun,Sat'":                                        "Days eq 'Sat,Sun,Weekend'",
		"Days has org.reso.test.Days'97'":                              "Days has 'Sat,Sun,Weekend,Mon'",
		"Days in ('65',Days'0','None,Mon')":                            "Days in ('Sun,Mon','None','Mon')",
		"Status in (Status'Active','Pending',null)":                    "Status in ('Active','Pending',null)",
		"not PoolYN":                                                   "not PoolYN",
		"NOT(PoolYN)":                                                  "not PoolYN",
		"not (PoolYN and ViewYN)":                                      "not (PoolYN and ViewYN)",
		"not not not PoolYN":                                           "not not not PoolYN",
		"not PoolYN eq true":                                           "(not PoolYN) eq true",
		"not (PoolYN eq true)":                                         "not (PoolYN eq true)",
		"not not PoolYN ne ViewYN and ViewYN":                          "(not not PoolYN) ne ViewYN and ViewYN",
		"not PoolYN in (true) or not ViewYN":                           "(not PoolYN) in (true) or not ViewYN",
		"not contains(City,'x') eq true":                               "(not contains(City,'x')) eq true",
		"not City eq 'x' and not City in ('x')":                        "not (City eq 'x') and not (City in ('x'))",
		"not Odd eq true or not Odd in (null,false)":                   "(not Odd) eq true or (not Odd) in (null,false)",
		"not Odd eq 'x' and not Odd eq null":                           "not (Odd eq 'x') and not (Odd eq null)",
		"true eq PoolYN":                                               "PoolYN eq true",
		"CONTAINS( City , 'x' ) eq True":                               "contains(City,'x') eq true",
		"(PoolYN and (ViewYN and PoolYN)) or ViewYN":                   "PoolYN and (ViewYN and PoolYN) or ViewYN",
		"(Beds eq 1) ne (Baths eq 2)":                                  "(Beds eq 1) ne (Baths eq 2)",
		"Appliances/ANY(a:a eq 'X' OR a eq 'Y')":                       "Appliances/any(a:a eq 'X' or a eq 'Y')",
		"Appliances/any( ä : tolower(ä) eq tolower('X'))":              "Appliances/any(ä:tolower(ä) eq 'x')",
		"Appliances/all(City:City eq 'X')":                             "Appliances/all(City:City eq 'X')",
		"Appliances/any()":                                             "Appliances/any()",
		"Statuses/any(s:s eq Status'Active')":                          "Statuses/any(s:s eq 'Active')",
		"ModificationTimestamp ge 2024-05-06":                          "ModificationTimestamp ge 2024-05-06T00:00:00Z",
		"2024-05-06T10:00Z gt ModificationTimestamp":                   "ModificationTimestamp lt 2024-05-06T10:00:00Z",
		"ModificationTimestamp lt NOW()":                               "ModificationTimestamp lt now()",
		"now() ge ModificationTimestamp":                               "ModificationTimestamp le now()",
		"ModificationTimestamp in (2024-05-06)":                        "ModificationTimestamp in (2024-05-06T00:00:00Z)",
		"Id eq 4B1E3D6D-5B61-4F6D-A38F-9E3B1CB71FFA":                   "Id eq 4B1E3D6D-5B61-4F6D-A38F-9E3B1CB71FFA",
		"Address/Place/Height gt 1e-3":                                 "Address/Place/Height gt 1e-3",
		"ListPrice lt 99999999999999999999":                            "ListPrice lt 99999999999999999999",
		"Beds ge 9223372036854775807":                                  "Beds ge 9223372036854775807",
		"Beds gt ListPrice":                                            "Beds gt ListPrice",
		"in in ('a')":                                                  "in in ('a')",
		"Odd eq null":                                                  "Odd eq null",
		"Odd eq 5 or Odd eq 'x' or Odd":                                "Odd eq 5 or Odd eq 'x' or Odd",
		"Odd in (null,5)":                                              "Odd in (null,5)",
		"Address eq null and Appliances ne null":                       "Address eq null and Appliances ne null",
		"1 eq 1.0 and 'a' in ('b') or null eq null":                    "true and false or true",
		"contains('abc',tolower('B')) and Status'Active' eq 'Pending'": "true and false",
		"startswith(City,'O''N')":                                      "startswith(City,'O''N')",
	} {
		e, err := odata.ParseFilter(text, odatatest.Scope())
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := e.String(); got != want {
			t.Errorf("%s: printed as %s, want %s", text, got, want)
		}
	}
}

// TestParseFilterInScopeRefuses: each refusal names what it is about, and where.
func TestParseFilterInScopeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"Nope eq 1":                             `There is no field "Nope" at position 0`,
		"City eq 'x' and nope eq 1":             `There is no field "nope" at position 16`,
		"city eq 'x'":                           `There is no field "city" at position 0`,
		"City/Name eq 'x'":                      `There is no field "City/Name" at position 0`,
		"Address/Nope eq 'x'":                   `There is no field "Address/Nope" at position 0`,
		"ListAgent/MemberFullName eq 'x'":       `There is no field "ListAgent/MemberFullName" at position 0`,
		"Appliances/City eq 'x'":                `There is no field "Appliances/City" at position 0`,
		"City":                                  "City is Edm.String, no condition at position 0",
		"Appliances":                            "Appliances is Collection(Edm.String), no condition at position 0",
		"not City":                              "City is Edm.String, no condition at position 4",
		"PoolYN and 5":                          "5 is Edm.Int64, no condition at position 11",
		"5 or PoolYN":                           "5 is Edm.Int64, no condition at position 0",
		"null":                                  "null is null, no condition at position 0",
		"Status'Active'":                        "'Active' is org.reso.test.Status, no condition at position 0",
		"City eq 5":                             "City is Edm.String and does not compare with 5, Edm.Int64 at position 8",
		"5 eq City":                             "City is Edm.String and does not compare with 5, Edm.Int64 at position 0",
		"ListPrice gt '5'":                      "ListPrice is Edm.Decimal and does not compare with '5', Edm.String at position 13",
		"Beds in (1,'2')":                       "Beds is Edm.Int64 and does not compare with '2', Edm.String at position 11",
		"ModificationTimestamp gt '2024-05-06'": "ModificationTimestamp is Edm.DateTimeOffset and does not compare with '2024-05-06', Edm.String at position 25",
		"CloseDate lt now()":                    "CloseDate is Edm.Date and does not compare with now(), Edm.DateTimeOffset at position 13",
		"CloseDate lt 2024-05-06T00:00:00Z":     "CloseDate is Edm.Date and does not compare with 2024-05-06T00:00:00Z, Edm.DateTimeOffset at position 13",
		"PoolYN eq 1":                           "PoolYN is Edm.Boolean and does not compare with 1, Edm.Int64 at position 10",
		"Id eq '4b1e3d6d-5b61-4f6d-a38f-9e3b1cb71ffa'": "Id is Edm.Guid and does not compare with '4b1e3d6d-5b61-4f6d-a38f-9e3b1cb71ffa', Edm.String at position 6",
		"City eq Beds":                            "City is Edm.String and does not compare with Beds, Edm.Int64 at position 8",
		"Status eq City":                          "Status is org.reso.test.Status and does not compare with City, Edm.String at position 10",
		"Status eq Uses":                          "Status is org.reso.test.Status and does not compare with Uses, org.reso.test.Uses at position 10",
		"Status eq 'Closed'":                      `org.reso.test.Status has no member "Closed" at position 10`,
		"Status eq 'active'":                      `org.reso.test.Status has no member "active" at position 10`,
		"Status eq Status'Closed'":                `org.reso.test.Status has no member "Closed" at position 10`,
		"Status eq Uses'A'":                       "Status is org.reso.test.Status and does not compare with 'A', org.reso.test.Uses at position 10",
		"Status eq org.other.Status'Active'":      `There is no enumeration "org.other.Status" at position 10`,
		"Status gt 'Active'":                      "gt does not order Status, org.reso.test.Status at position 7",
		"Status in ('Active','x')":                `org.reso.test.Status has no member "x" at position 20`,
		"Uses has 'A,D'":                          `org.reso.test.Uses has no member "D" at position 9`,
		"Days eq '2'":                             `org.reso.test.Days has no member "2" at position 8`,
		"Days eq Days'-1'":                        `org.reso.test.Days has no member "-1" at position 8`,
		"Uses eq Uses'3'":                         `org.reso.test.Uses has no member "3" at position 8`,
		"Status eq Status'0'":                     `org.reso.test.Status has no member "0" at position 10`,
		"Uses has Status'Active'":                 "Uses is org.reso.test.Uses and does not compare with 'Active', org.reso.test.Status at position 9",
		"Uses has 5":                              "Uses is org.reso.test.Uses and does not compare with 5, Edm.Int64 at position 9",
		"City has ''":                             `has wants a member, not "" at position 9`,
		"Beds has 'A'":                            "Beds is Edm.Int64 and does not compare with 'A', Edm.String at position 9",
		"tolower(City) has 'A'":                   `has wants a field, not "tolower(City)" at position 0`,
		"Appliances eq 'X'":                       "Appliances is Collection(Edm.String): look into it with any or all at position 0",
		"City eq Appliances":                      "Appliances is Collection(Edm.String): look into it with any or all at position 8",
		"Appliances in ('X')":                     "Appliances is Collection(Edm.String): look into it with any or all at position 0",
		"Address eq 'x'":                          "Address is Edm.ComplexType and compares with null alone at position 0",
		"Start gt 'x'":                            "Start is Edm.TimeOfDay and compares with null alone at position 0",
		"Start eq 10:00:00":                       `"10:00:00" is no number, date, time with its zone (Z, or +02:00 with the + as %2B), or Guid at position 9`,
		"Beds gt 9223372036854775808":             "9223372036854775808 is outside of Edm.Int64 at position 8",
		"Odd eq Odd":                              "Odd and Odd are of unknown types and do not compare at position 7",
		"contains(Beds,'1')":                      "contains takes a string, and Beds is Edm.Int64 at position 9",
		"contains(Status,'A')":                    "contains takes a string, and Status is org.reso.test.Status at position 9",
		"contains(City,null)":                     "contains takes a string, and null is null at position 14",
		"contains(City)":                          "contains takes 2 arguments, not 1, at position 0",
		"tolower() eq 'a'":                        "tolower takes 1 arguments, not 0, at position 0",
		"now(1) eq ModificationTimestamp":         "now takes 0 arguments, not 1, at position 0",
		"year(CloseDate) eq 2024":                 `There is no function "year" at position 0`,
		"geo.distance(City,'x') lt 1":             `There is no function "geo.distance" at position 0`,
		"Beds add 1 eq 2":                         "The operator add is not offered at position 5",
		"Beds in (Baths)":                         `Want a literal, not "Baths" at position 9`,
		"ModificationTimestamp in (now())":        `Want a literal, not "now()" at position 26`,
		"Media/any(m:m/Order eq 1)":               `any over "Media" is not offered: only over a field that is a collection of values at position 0`,
		"City/any(c:c eq 'x')":                    `any over "City" is not offered: only over a field that is a collection of values at position 0`,
		"Address/all(a:a eq 'x')":                 `all over "Address" is not offered: only over a field that is a collection of values at position 0`,
		"Appliances/all()":                        "all wants a condition at position 0",
		"Appliances/any(a eq 'x')":                "any wants a variable and a colon at position 15",
		"Appliances/any(a:b eq 'x')":              `There is no field "b" at position 17`,
		"Appliances/any(a:a eq 5)":                "a is Edm.String and does not compare with 5, Edm.Int64 at position 22",
		"Appliances/any(a:a)":                     "a is Edm.String, no condition at position 17",
		"Appliances/any(a:Floors/any(f:f eq 1))":  `any and all within any or all are not offered: "Floors/any" at position 17`,
		"Appliances/any(a:a eq 'x') and a eq 'x'": `There is no field "a" at position 31`,
		"Appliances/$count gt 1":                  `Unexpected "Appliances/$count" at position 0`,
		"City eq @p":                              `Unexpected "@p" at position 8`,
		"City eq 'x' eq true":                     `Unexpected "eq" at position 12`,
		"ModificationTimestamp gt 2024-05-06T10:00:00 02:00": `"2024-05-06T10:00:00" is no number, date, time with its zone (Z, or +02:00 with the + as %2B), or Guid at position 25`,
		"Straße eq 'ü' and Größe eq 1":                       `There is no field "Größe" at position 18`,
		strings.Repeat("tolower(", 101) + "City":             "Nested deeper than 100 at position 807",
		strings.Repeat("not ", 101) + "PoolYN":               "Nested deeper than 100 at position 403",
		strings.Repeat("N", 100) + " eq 1":                   `There is no field "` + strings.Repeat("N", 60) + `…" at position 0`,
	} {
		e, err := odata.ParseFilter(text, odatatest.Scope())
		checkError(t, text, e, err, http.StatusBadRequest, "$filter", want)
	}
}

// TestNames: what OData calls a simple identifier is a name, and nothing else.
func TestNames(t *testing.T) {
	name := regexp.MustCompile(`^[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Nd}\p{Mn}\p{Mc}\p{Pc}\p{Cf}]*$`)
	for r := rune(1); r < 0x11000; r++ {
		for _, text := range []string{string(r), "A" + string(r)} {
			fields, err := odata.ParseSelect(text, nil)
			if got, want := err == nil && len(fields) == 1 && fields[0] == text, name.MatchString(text); got != want {
				t.Fatalf("%q: %v", text, got)
			}
		}
	}
}
