package producer_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent"
)

// TestWebAPICore asks what the certification of RESO Web API Core 2.0 asks, in its order and under its
// names.
func TestWebAPICore(t *testing.T) {
	t.Parallel()
	s := configured(t)
	for i, more := range []string{
		`"ListPrice":100.5,"BedroomsTotal":1,"City":"Ulm","ListingContractDate":"2026-01-01","ModificationTimestamp":"2026-01-01T00:00:00Z","PropertyType":"Land","StandardStatus":"Active","ShowingDays":"Monday,Friday","ArchitecturalStyle":["Ranch"],"Appliances":["Oven"],"ListAgentKey":"m1"`,
		`"ListPrice":200,"BedroomsTotal":2,"City":"Köln","ListingContractDate":"2026-01-02","ModificationTimestamp":"2026-01-02T00:00:00.000Z","PropertyType":"Residential","StandardStatus":"Pending","ShowingDays":"Monday","ArchitecturalStyle":["Ranch","CapeCod"],"Appliances":[],"InternetEntireListingDisplayYN":true`,
		`"ListPrice":300.25,"BedroomsTotal":3,"City":"O'Fallon","ListingContractDate":"2026-01-03","ModificationTimestamp":"2026-01-02T02:00:00+01:00","PropertyType":"Residential","StandardStatus":"Active","ArchitecturalStyle":[],"SourceSystemGuid":"0195F3E2-7c1b-7d44-9c1a-000000000000"`,
		`"BedroomsTotal":null,"ModificationTimestamp":"2099-01-01T00:00:00Z","InternetEntireListingDisplayYN":false`,
	} {
		s.put("Property", fmt.Sprint(i+1), fmt.Sprintf(`{"ListingKey":"%d",%s}`, i+1, more))
	}
	s.put("Media", "x", `{"MediaKey":"x","ResourceName":"Property","ResourceRecordKey":"1"}`)
	s.put("Member", "m1", `{"MemberKey":"m1","MemberFullName":"Ann"}`)
	for _, c := range []struct{ name, query, want string }{
		{"filter-int-eq", "$filter=BedroomsTotal eq 2", "2"},
		{"filter-int-ne", "$filter=BedroomsTotal ne 2", "1 3 4"},
		{"filter-int-gt", "$filter=BedroomsTotal gt 1", "2 3"},
		{"filter-int-ge", "$filter=BedroomsTotal ge 2", "2 3"},
		{"filter-int-lt", "$filter=BedroomsTotal lt 3", "1 2"},
		{"filter-int-le", "$filter=BedroomsTotal le 2", "1 2"},
		{"filter-int-and", "$filter=BedroomsTotal gt 1 and BedroomsTotal lt 3", "2"},
		{"filter-int-or", "$filter=BedroomsTotal eq 1 OR BedroomsTotal eq 3", "1 3"},
		{"filter-int-not", "$filter=not (BedroomsTotal eq 2)", "1 3 4"},
		{"filter-null", "$filter=BedroomsTotal eq null", "4"},
		{"filter-decimal-eq", "$filter=ListPrice eq 200", "2"},
		{"filter-decimal-ne", "$filter=ListPrice ne 200.00", "1 3 4"},
		{"filter-decimal-gt", "$filter=ListPrice gt 100.5", "2 3"},
		{"filter-decimal-ge", "$filter=ListPrice ge 100.5", "1 2 3"},
		{"filter-decimal-lt", "$filter=ListPrice lt 300.25", "1 2"},
		{"filter-decimal-le", "$filter=ListPrice le 300.25", "1 2 3"},
		{"filter-date-eq", "$filter=ListingContractDate eq 2026-01-02", "2"},
		{"filter-date-ne", "$filter=ListingContractDate ne 2026-01-02", "1 3 4"},
		{"filter-date-gt", "$filter=ListingContractDate gt 2026-01-01", "2 3"},
		{"filter-date-le", "$filter=ListingContractDate le 2026-01-02", "1 2"},
		{"filter-datetime-eq", "$filter=ModificationTimestamp eq 2026-01-02T01:00:00Z", "3"},
		{"filter-datetime-gt", "$filter=ModificationTimestamp gt 2026-01-02T00:00:00Z", "3 4"},
		{"filter-datetime-ge", "$filter=ModificationTimestamp ge 2026-01-02T00:00:00.000Z and ModificationTimestamp le 2026-01-02T02:00:00%2B01:00", "2 3"},
		{"filter-datetime-lt-now", "$filter=ModificationTimestamp lt now()", "1 2 3"},
		{"filter-datetime-gt-now", "$filter=ModificationTimestamp gt now()", "4"},
		{"filter-boolean-eq", "$filter=InternetEntireListingDisplayYN eq true", "2"},
		{"filter-boolean-ne", "$filter=InternetEntireListingDisplayYN ne true", "1 3 4"},
		{"filter-guid-eq", "$filter=SourceSystemGuid eq 0195f3e2-7C1B-7d44-9c1a-000000000000", "3"},
		{"filter-string-eq", "$filter=City eq 'O''Fallon'", "3"},
		{"filter-string-in", "$filter=City in ('Ulm','O''Fallon','Nowhere')", "1 3"},
		{"filter-string-contains", "$filter=contains(City,'''')", "3"},
		{"filter-string-startswith", "$filter=startswith(City,'K')", "2"},
		{"filter-string-endswith", "$filter=endswith(City,'ln')", "2"},
		{"filter-string-tolower", "$filter=tolower(City) eq 'köln'", "2"},
		{"filter-string-toupper", "$filter=contains(toupper(City),'FALL')", "3"},
		{"filter-enum-single-eq", "$filter=PropertyType eq org.reso.metadata.enums.PropertyType'Land'", "1"},
		{"filter-enum-single-ne", "$filter=PropertyType ne 'Land'", "2 3 4"},
		{"filter-enum-single-has", "$filter=PropertyType has org.reso.metadata.enums.PropertyType'Residential'", "2 3"},
		{"filter-enum-multi-has", "$filter=ShowingDays has org.reso.metadata.enums.ShowingDays'Monday'", "1 2"},
		{"filter-enum-single-number", "$filter=PropertyType eq org.reso.metadata.enums.PropertyType'2'", "1"},
		{"filter-enum-multi-eq", "$filter=ShowingDays eq 'Friday, Monday'", "1"},
		{"filter-enum-multi-ne", "$filter=ShowingDays ne 'Friday,Monday'", "2 3 4"},
		{"filter-enum-multi-in", "$filter=ShowingDays in ('Tuesday','Friday,Monday','1')", "1 2"},
		{"filter-enum-multi-number", "$filter=ShowingDays has org.reso.metadata.enums.ShowingDays'17'", "1"},
		{"filter-enum-multi-has-and", "$filter=ShowingDays has 'Monday' and ShowingDays has 'Friday'", "1"},
		{"filter-coll-enum-any", "$filter=ArchitecturalStyle/any(a:a eq org.reso.metadata.enums.ArchitecturalStyle'CapeCod')", "2"},
		{"filter-coll-enum-any-or", "$filter=ArchitecturalStyle/any(a:a eq 'CapeCod' OR a eq 'Ranch')", "1 2"},
		{"filter-coll-enum-all", "$filter=ArchitecturalStyle/all(a:a eq 'Ranch')", "1 3 4"},
		{"filter-coll-string-any", "$filter=Appliances/any(a:a eq 'Oven')", "1"},
		{"filter-coll-any-empty", "$filter=not Appliances/any()", "2 3 4"},
		{"filter-lookup-string", "$filter=StandardStatus eq 'Active' and City ne 'Ulm'", "3"},
		{"orderby-timestamp-asc", "$orderby=ModificationTimestamp asc", "1 2 3 4"},
		{"orderby-timestamp-desc", "$orderby=ModificationTimestamp desc", "4 3 2 1"},
		{"orderby-timestamp-asc-filter-int-gt", "$orderby=ModificationTimestamp asc&$filter=BedroomsTotal gt 1", "2 3"},
		{"orderby-timestamp-desc-filter-int-gt", "$orderby=ModificationTimestamp desc&$filter=BedroomsTotal gt 1", "3 2"},
		{"orderby-decimal-nulls", "$orderby=ListPrice", "4 1 2 3"},
		{"orderby-several", "$orderby=StandardStatus desc,ListPrice desc", "2 3 1 4"},
		{"top", "$top=2", "1 2"}, {"skip", "$skip=2", "3 4"}, {"skip-top", "$skip=1&$top=2&$orderby=ListingKey desc", "3 2"},
		{"count-true", "$count=true&$top=1", "1"}, {"select", "$select=ListingKey,City", "1 2 3 4"},
		{"expand", "$expand=Media,ListAgent", "1 2 3 4"}, {"replication", "$filter=ModificationTimestamp gt 2026-01-01T00:00:00Z&$orderby=ModificationTimestamp,ListingKey&$top=2", "2 3"},
	} {
		for _, version := range []string{"4.0", "4.01"} {
			a := s.get("/Property?"+c.query, "OData-Version: "+version)
			if got := a.page(t).column("ListingKey"); got != c.want || a.header.Get("OData-Version") != version {
				t.Errorf("%s in %s: %s, want %s", c.name, a.header.Get("OData-Version"), got, c.want)
			}
		}
		if filter, ok := strings.CutPrefix(c.query, "$filter="); ok && !strings.Contains(filter, "&") {
			if got := s.get("/Property/$count?$filter="+filter).want(t, 200); got != fmt.Sprint(len(strings.Fields(c.want))) {
				t.Errorf("%s counts %s", c.name, got)
			}
		}
	}
	for _, c := range []struct {
		name, target string
		status       int
		says         string
	}{
		{"service-document", "/", 200, `{"name":"Property","kind":"EntitySet","url":"Property"}`},
		{"metadata", "/$metadata", 200, `<EntityType Name="Property"`}, {"metadata-format", "/$metadata?$format=application/xml", 200, "Edmx"},
		{"fetch-by-key", "/Property('1')", 200, `"City":"Ulm"`}, {"fetch-media", "/Property('1')/Media", 200, `"MediaKey":"x"`}, {"fetch-agent", "/Property('1')/ListAgent", 200, `"MemberFullName":"Ann"`},
		{"lookup", "/Lookup", 200, `"value":[]`}, {"count", "/Property/$count", 200, "4"},
		{"response-code-404", "/Property('9')", 404, `"code":"404"`}, {"response-code-404-resource", "/Nothing", 404, `"code":"404"`},
		{"response-code-400", "/Property?$filter=Nothing eq 1", 400, `"code":"400"`}, {"response-code-400-syntax", "/Property?$filter=City eq", 400, `"code":"400"`},
		{"response-code-400-type", "/Property?$filter=BedroomsTotal eq 'x'", 400, "BedroomsTotal"}, {"response-code-400-member", "/Property?$filter=PropertyType eq 'Castle'", 400, "Castle"},
		{"response-code-400-function", "/Property?$filter=length(City) gt 1", 400, "length"}, {"response-code-501", "/Property?$search=x", 501, "$search"},
	} {
		a := s.get(c.target)
		if a.want(t, c.status); !strings.Contains(a.body, c.says) {
			t.Errorf("%s: %s", c.name, a.body)
		}
		if c.status >= 400 {
			checkError(t, a)
		}
	}
}

// TestLookupAndField are there before anything is in them (Data Dictionary 2.0).
func TestLookupAndField(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	for _, resource := range []string{"Lookup", "Field", "Property", "Media"} {
		for target, want := range map[string]string{
			"/" + resource: `{"value":[]}`, "/" + resource + "?$filter=ModificationTimestamp gt 2026-01-01T00:00:00Z&$orderby=" + resource + "Key": `{"value":[]}`, "/" + resource + "/$count": "0",
		} {
			target = strings.Replace(target, "PropertyKey", "ListingKey", 1)
			if got := s.get(target, bare).want(t, 200); got != want {
				t.Errorf("%s: %s", target, got)
			}
		}
		s.get("/"+resource+"('x')").want(t, 404)
	}
	s.put("Lookup", "l", `{"LookupKey":"l","LookupName":"City","LookupValue":"Ulm"}`)
	// What nobody looked at yet is looked at before it is called unknown.
	if got := s.get("/Lookup?$filter=LookupName eq 'City'&$select=LookupValue", bare).want(t, 200); got != `{"value":[{"LookupValue":"Ulm"}]}` {
		t.Errorf("%s", got)
	}
	if _, err := s.store.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{
		{Ref: entityevent.Ref{Resource: "Lookup", Key: "l"}, Op: entityevent.Merge, Body: []byte(`{"LegacyODataValue":"U"}`)}}}); err != nil {
		t.Fatal(err)
	}
	s.get("/Lookup?$orderby=LegacyODataValue").want(t, 200)
	s.get("/Lookup?$orderby=Nothing").want(t, 400)
}
