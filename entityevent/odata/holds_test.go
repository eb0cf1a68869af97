package odata_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/odata/odatatest"
)

// TestHolds says of each record which filters hold.
func TestHolds(t *testing.T) {
	for _, c := range []struct {
		record  string
		yes, no []string
	}{
		{
			`{"City":"Ab","Beds":3,"PoolYN":true,"ViewYN":false}`,
			[]string{
				"City eq 'Ab'", "City ne 'ab'", "'Ab' eq City", "City gt 'AA'", "City lt 'a'", "City in ('x','Ab')", "tolower(City) eq 'ab'", "City ne tolower(City)",
				"toupper(City) eq toupper('aB')", "contains(City,'b')", "startswith(City,'A')", "endswith(City,'b')", "contains(City,'')", "contains(City,'x') eq false",
				"PoolYN", "not ViewYN", "PoolYN eq true", "PoolYN ne ViewYN", "PoolYN gt ViewYN", "Beds eq 3.0", "Beds gt 2.9", "Beds lt 3.5", "Beds ne 3.5", "(Uses has 'A') eq null", "Beds in (1,3)", "Beds eq Beds",
				"PoolYN and not ViewYN", "ViewYN or PoolYN", "(PoolYN and ViewYN) eq false", "(City eq 'Ab') eq (Beds eq 3)", "true", "not false",
			},
			[]string{
				"City eq 'ab'", "City eq null", "contains(City,'B')", "startswith(City,'b')", "endswith(City,'A')", "ViewYN", "Beds gt 3", "Beds lt 3", "Beds ge 3.5", "not (Uses has 'A')", "false", "PoolYN and false",
			},
		}, {
			`{"Beds":"3","City":7,"PoolYN":"true","ListPrice":null,"Id":1,"Status":[1],"CloseDate":"2024-5-6","ModificationTimestamp":"2024-05-06"}`,
			[]string{
				"Beds eq null", "Beds ne 3", "null eq City", "City ne 'x'", "PoolYN eq null", "ListPrice eq null", "Id eq null", "Status eq null", "CloseDate eq null",
				"ModificationTimestamp eq null", "Baths eq null", "Baths eq ClosePrice", "Beds in (1,null)", "not (City gt 'x')", "not (Beds in (1,2))", "Status ne 'Active'",
				"contains(City,'x') or Beds eq null", "contains(City,'x') eq null", "tolower(City) eq null", "not (contains(City,'x') and Beds eq 3)", "Odd eq null", "Address eq null",
				"Appliances eq null", "Start eq null", "(PoolYN and true) eq null", "(PoolYN or false) eq null", "PoolYN or true", "not PoolYN eq null", "not (PoolYN eq true)",
			},
			[]string{
				"Beds eq 3", "City eq '7'", "PoolYN", "not PoolYN", "PoolYN and true", "not (PoolYN or false)", "not (PoolYN and true)", "not PoolYN eq true", "contains(City,'x')", "not contains(City,'x')",
				"City gt ''", "City le ''", "Beds ge null", "null le null", "Baths le ClosePrice", "not (contains(City,'7') or Beds eq 3)",
			},
		}, {
			`{"Beds":9007199254740993,"Baths":9223372036854775807,"ListPrice":9007199254740992.0,"ClosePrice":9223372036854775808}`,
			[]string{
				"Beds eq 9007199254740993", "Beds ne 9007199254740992", "Beds gt ListPrice", "Beds gt 9007199254740992.0", "ListPrice eq 9007199254740992", "Baths lt ClosePrice",
				"Baths gt 9223372036854775806", "Baths le 9223372036854775807", "ClosePrice gt 9223372036854775807", "ClosePrice eq 9223372036854775808", "Beds in (1.5,9007199254740993)",
				"Baths ge -9223372036854775808", "Beds lt 1e300", "Beds gt -1e300", "Beds lt 9007199254740993.5e1",
			},
			[]string{"Beds eq 9007199254740992", "Beds le ListPrice", "Beds eq 9007199254740993.0", "Baths eq ClosePrice", "Baths lt 9223372036854775807"},
		}, {
			`{"ModificationTimestamp":"2024-05-06T10:00:00.500Z","PhotosChangeTimestamp":"2024-05-06T12:00:00.5000009+02:00","CloseDate":"2024-05-06","Odd":"2024-05-06T00:00:00Z"}`,
			[]string{
				"Odd eq 2024-05-06", "Odd eq CloseDate", "CloseDate le Odd", "Odd lt ModificationTimestamp", "Odd in (2024-05-05,2024-05-06T02:00:00+02:00)", "Odd lt now()",
				"ModificationTimestamp gt 2024-05-06T10:00:00Z", "ModificationTimestamp eq 2024-05-06T10:00:00.5Z", "ModificationTimestamp eq PhotosChangeTimestamp",
				"ModificationTimestamp eq 2024-05-06t11:00:00.500000+01:00", "ModificationTimestamp gt 2024-05-06", "ModificationTimestamp lt 2024-05-07", "ModificationTimestamp lt now()",
				"2024-05-06T09:59Z lt ModificationTimestamp", "CloseDate eq 2024-05-06", "CloseDate lt 2024-05-07", "ModificationTimestamp in (2024-05-06,2024-05-06T10:00:00.5Z)",
				"now() gt 2024-05-06",
			},
			[]string{"ModificationTimestamp le 2024-05-06T10:00:00Z", "ModificationTimestamp gt 2024-05-06T11:00:00Z", "CloseDate gt 2024-05-06", "ModificationTimestamp ge now()"},
		}, {
			`{"Id":"4B1E3D6D-5b61-4f6d-a38f-9e3b1cb71ffa","OriginId":"00000000-0000-0000-0000-00000000000A","Status":"Active","OldStatus":"Active","Uses":"A, C","OldUses":["B","C"]}`,
			[]string{
				"Id eq 4b1e3d6d-5b61-4f6d-a38f-9e3b1cb71ffa", "Id gt OriginId", "Status eq 'Active'", "Status eq org.reso.test.Status'Active'", "Status in ('Pending',Status'Active')",
				"Status has 'Active'", "Status eq OldStatus", "Status ne 'Pending'", "Uses has 'A'", "Uses has Uses'C,A'", "Uses has 'A' and not (Uses has 'B')", "OldUses has 'C,B'", "OldUses eq null",
			},
			[]string{"Uses has 'B'", "Uses has 'A,B'", "OldUses has 'A'", "Status has 'Pending'", "Uses eq 'A,B'", "Uses ne 'A,C'"},
		}, {
			`{"Uses":"B,A","OldUses":"A, B ,A","Days":"Sun, Sat","OldDays":"Weekend","Shifts":["Mon,Sat","None"]}`,
			[]string{
				"Uses eq 'A,B'", "Uses eq OldUses", "Uses in ('C','A, B')", "Days eq OldDays", "Days eq Days'96'", "Days in ('Mon','Weekend')", "Days has 'Weekend'", "OldDays has 'Sun'",
				"Shifts/any(d:d eq '33')", "Shifts/any(d:d eq 'None')", "Shifts/all(d:d ne 'Sat')", "Shifts has 'Mon'", "not (Days has 'None')",
			},
			[]string{"Uses ne 'B,A'", "Uses eq 'A'", "Days ne 'Sat,Sun'", "Days eq 'Sat'", "OldDays has 'Mon'", "Days in ('Sat','97')", "Shifts has 'Weekend'", "Days eq 'None'"},
		}, {
			`{"Appliances":["X","Y",null,7],"Floors":[1,2],"Opened":[],"Statuses":["Active"],"Flags":"A","Address":{"City":"a\u0062","Lines":["1"],"Place":{"Height":1e1}}}`,
			[]string{
				"Appliances/any(a:a eq 'X')", "Appliances/any(a:a eq 'Z' OR a eq 'Y')", "Appliances/any()", "Appliances/any(a:a eq null)", "not Appliances/all(a:a ne null)", "Floors/all(f:f gt 0)",
				"Floors/any(f:f eq 2) eq true", "Opened/all(o:o gt now())", "not Opened/any()", "Statuses/any(s:s eq Status'Active')", "Statuses has 'Active'", "Flags/all(f:f)", "not Flags/any()",
				"Address/City eq 'ab'", "Address/Place/Height eq 10", "Address ne null", "Address/Lines/any(l:l eq '1')", "Address/Zip eq null", "Floors/any(f:f eq 1 and Address/City eq 'ab')",
				"Statuses/any(s:s in ('Pending','Active'))", "Appliances/any(a:contains(a,'X'))", "Appliances ne null", "Appliances has 'X,Y'",
			},
			[]string{
				"Appliances/all(a:a eq 'X')", "Appliances/any(a:a eq 'Z')", "Floors/all(f:f gt 1)", "Opened/any()", "Statuses/any(s:s eq 'Pending')", "Flags/any(f:f)", "Appliances/any(a:not contains(a,''))",
				"Address/Place/Seen ne null", "Statuses has 'Pending'", "Appliances/all(a:contains(a,''))",
			},
		},
		{
			`{"Opened":["2024-05-06T10:00:00Z"],"Appliances":["a\"]","b\\"],"Address":{"Lines":["}"],"City":"\"}","Zip": 5 ,"Place":{ "Height" : -1.5 } }}`,
			[]string{
				"Opened/any(o:o lt now())", "Opened/all(o:o lt now() and o gt 2024-05-06)", "Appliances/any(a:a eq 'b\\')", `Appliances/any(a:endswith(a,'"]'))`, "Address/Zip eq 5",
				`Address/City eq '"}'`, "Address/Place/Height lt -1", "Address/Place/Height gt -2", "Address/Zip gt Address/Place/Height",
			},
			[]string{"Opened/any(o:o gt now())", "Appliances/any(a:a eq 'b')", "Address/Place/Height gt -1", "Address/Place/Height eq -1"},
		},
	} {
		member := odatatest.Member([]byte(c.record))
		for want, filters := range map[bool][]string{true: c.yes, false: c.no} {
			for _, text := range filters {
				e, err := odata.ParseFilter(text, odatatest.Scope())
				if err != nil {
					t.Errorf("%s: %v", text, err)
					continue
				}
				e = odata.At(e, time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)))
				if got := odata.Holds(e, member); got != want {
					t.Errorf("%s of %s: %v, want %v", text, c.record, got, want)
				}
			}
		}
	}
}

// TestHoldsWithoutScope: the kinds come from the literals, as in the filter of an access profile.
func TestHoldsWithoutScope(t *testing.T) {
	member := odatatest.Member([]byte(`{"Status":"Active","Price":5,"At":"2024-05-06T10:00:00Z","On":"2024-05-06","Days":["2024-05-06","2024-05-07T00:00:00+02:00","x"],"YN":true,"List":["a"],"Object":{"A":"x"}}`))
	for text, want := range map[string]bool{
		"Status in ('Active','Pending')": true, "Status eq org.reso.Any'Active'": true, "Status has 'Active'": true, "Price ge 5": true, "5.0 eq Price": true, "YN": true, "not YN": false,
		"At gt 2024-05-06T09:00:00Z": true, "At gt 2024-05-06": true, "List/any(x:x eq 'a')": true, "Object/A eq 'x'": true, "tolower(Status) eq 'active'": true, "Object ne null": true,
		"On gt 2024-05-05": true, "On eq 2024-05-06": true, "On eq 2024-05-06T02:00:00+02:00": true, "On lt 2024-05-06T00:00:01Z": true, "On gt 2024-05-06T00:00:00Z": false,
		"At lt 2024-05-07": true, "2024-05-06 lt At": true, "At eq 2024-05-06": false, "At in (2024-05-06,2024-05-06T10:00:00Z)": true, "On in (2024-05-06T10:00:00Z,2024-05-06)": true,
		"Status gt 2024-05-06": false, "Status ne 2024-05-06": true, "Gone eq 2024-05-06": false, "Gone in (2024-05-06,null)": true,
		"Days/any(d:d eq 2024-05-06)": true, "Days/any(d:d eq 2024-05-06T22:00:00Z)": true, "Days/all(d:d ge 2024-05-06)": false,
		"Price eq '5'": false, "Price ne null": true, "Gone eq null": true, "startswith(Status,'A')": true, "List/any(x:x eq 1)": false, "List/all(x:x)": false,
	} {
		e, err := odata.ParseFilter(text, nil)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := odata.Holds(e, member); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestHoldsIsCheap: it runs within the transaction of a writer.
func TestHoldsIsCheap(t *testing.T) {
	members := map[string][]byte{
		"Status": []byte(`"Active"`), "ListPrice": []byte("250000.50"), "Beds": []byte("3"), "ModificationTimestamp": []byte(`"2024-05-06T10:00:00.5+02:00"`),
		"City": []byte(`"Springfield"`), "PoolYN": []byte("true"), "Appliances": []byte(`["Range","Oven"]`),
	}
	member := func(name string) []byte { return members[name] }
	e, err := odata.ParseFilter("Status in ('Pending','Active') and ListPrice gt 1000.5 and Beds ge 3 and ModificationTimestamp gt 2024-01-01 and "+
		"startswith(City,'S') and PoolYN and Appliances/any(a:a eq 'Oven') and not (City eq 'x')", odatatest.Scope())
	if err != nil {
		t.Fatal(err)
	}
	if !odata.Holds(e, member) {
		t.Error("it does not hold")
	}
	if n := testing.AllocsPerRun(100, func() { odata.Holds(e, member) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHolds(b *testing.B) {
	e, err := odata.ParseFilter("Status in ('Pending','Active') and ListPrice gt 1000 and Appliances/any(a:a eq 'Oven')", odatatest.Scope())
	if err != nil {
		b.Fatal(err)
	}
	member := odatatest.Member([]byte(`{"Status":"Active","ListPrice":250000.50,"Appliances":["Range","Oven"]}`))
	b.ReportAllocs()
	for b.Loop() {
		odata.Holds(e, member)
	}
}

// BenchmarkParseFilter reads the filter that fetches 100 records.
func BenchmarkParseFilter(b *testing.B) {
	keys := make([]string, 100)
	for i := range keys {
		keys[i] = fmt.Sprintf("P%08d", i)
	}
	text, scope := odata.In("City", keys, true), odatatest.Scope()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := odata.ParseFilter(text, scope); err != nil {
			b.Fatal(err)
		}
	}
}
