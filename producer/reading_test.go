package producer_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestReadingOnTheWire holds the answers to each kind of request for records to what they were: status,
// every header, and the body.
func TestReadingOnTheWire(t *testing.T) {
	t.Parallel()
	s := configured(t)
	listings(s)
	s.put("OpenHouse", "7", `{"OpenHouseKey":7,"ListingKey":"p1"}`)
	s.put("Property", "a//b", `{"ListingKey":"a//b"}`)
	tag := s.get("/Office('o1')").header.Get("ETag")
	var b strings.Builder
	for _, request := range []string{
		"GET /", "GET ", "HEAD /", "OPTIONS /", "POST /", "GET /?$format=json", "GET /$metadata?$format=json", "OPTIONS /$metadata", "DELETE /$metadata",
		"GET /Office", "HEAD /Office", "OPTIONS /Office", "PUT /Office", "GET /Office/", "GET /Office?$count=true&$select=OfficeName", "GET /Office?x=1&$top=1", "GET /Property?$select=ListingKey&$top=1&$expand=Media($select=MediaKey)",
		"GET /Office('o1')", "HEAD /Office('o1')", "GET /Office%28%27o1%27%29/", "GET /Office(OfficeKey='o1')?$select=OfficeName", "GET /OpenHouse(7)", "GET /OpenHouse('7')", "GET /Property('a//b')?$select=ListingKey",
		"GET /Office('o1') If-None-Match: " + tag, "GET /Office('o1') If-None-Match: *", "HEAD /Office('o1') If-None-Match: " + tag, `GET /Office('o1') If-Match: W/"0"`,
		"OPTIONS /Office('o1')", "POST /Office('o1')", "GET /Office/$count", "HEAD /Office/$count", "GET /Office/$count?$filter=OfficeKey eq 'x'", "POST /Office/$count",
		"GET /Property('p1')/ListOffice", "GET /Property('p3')/ListOffice", "GET /Property('p2')/ListAgent", "GET /Property('p1')/OpenHouse", "GET /Property('p1')/Media/$count", "PUT /Property('p1')/Media",
		"GET /Lookup", "GET /Nothing", "GET /Office('x')", "GET /Office('x')/Media", "GET /Office?$filter=Nothing eq 1", "GET /Office?$search=x", "GET /Office?$skiptoken=x", "GET /Office?$format=xml",
		"GET /Office OData-Version: 4.0", "GET /Office OData-Version: 3.0", "GET /Office OData-MaxVersion: 4.0", "GET /Office Accept: application/json;odata.metadata=none;IEEE754Compatible=true",
		"GET /Office Prefer: odata.maxpagesize=5", "GET /Property?$select=ListingKey&$orderby=ListPrice desc Prefer: maxpagesize=1", "GET /Office Authorization: none",
	} {
		method, rest, _ := strings.Cut(request, " ")
		target, header := rest, "X: y"
		for _, name := range []string{"If-", "OData-", "Accept", "Prefer", "Authorization"} {
			if before, after, ok := strings.Cut(rest, " "+name); ok {
				target, header = before, name+after
			}
		}
		a := s.do(method, target, "", header)
		a.header.Del("Date")
		fmt.Fprintf(&b, "%s\n  %d\n", request, a.status)
		for _, name := range slices.Sorted(maps.Keys(a.header)) {
			fmt.Fprintf(&b, "  %s: %s\n", name, strings.Join(a.header[name], " | "))
		}
		if body := strings.TrimSpace(a.body); body != "" {
			fmt.Fprintf(&b, "  %s\n", body)
		}
		b.WriteString("\n")
	}
	golden(t, "reading.http", b.String())
}
