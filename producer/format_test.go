package producer_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestFormats(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	s.put("Property", "p", `{"ListingKey":"p","N":1}`)
	const plain, minimal, none = "application/json", "application/json;odata.metadata=minimal", "application/json;odata.metadata=none"
	for _, c := range []struct{ target, accept, want string }{
		{"", "", plain}, {"", "*/*", plain}, {"", "application/json", plain}, {"", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", plain},
		{"", "application/xml", plain}, {"", "application+json", plain}, {"", ";;q=,", plain}, {"", "text/html", plain}, {"", "application/json;q=0", plain},
		{"", "application/json;odata.metadata=minimal", minimal}, {"", "application/json;odata.metadata=full", minimal}, {"", "application/json; metadata=None", none},
		{"", "application/json;odata.metadata=minimal;q=0.5, application/json;odata.metadata=none;q=0.9", none}, {"", "application/json;odata.streaming=true;charset=utf-8", plain},
		{"", "application/json;IEEE754Compatible=true", plain + ";IEEE754Compatible=true"}, {"", "application/json;IEEE754Compatible=false", plain},
		{"", `application/json;odata.metadata="none";ieee754compatible=true`, none + ";IEEE754Compatible=true"},
		{"?$format=json", none, plain}, {"?$format=application/json", none, plain}, {"?$format=application/json;odata.metadata=none", plain, none},
		{"?$format=application/json;odata.metadata=full;IEEE754Compatible=true", "text/html", minimal + ";IEEE754Compatible=true"}, {"?$format=JSON", "", plain},
	} {
		for _, target := range []string{"/Property", "/Property('p')", "/EntityEvent", "/"} {
			a := s.get(target+c.target, "Accept: "+c.accept)
			a.want(t, 200)
			if got := a.header.Get("Content-Type"); got != c.want || a.header.Get("Vary") != "Accept, Accept-Encoding" {
				t.Errorf("%s%s, Accept %s: %s, Vary %s", target, c.target, c.accept, got, a.header.Get("Vary"))
			}
			if bare := strings.Contains(c.want, "none"); strings.Contains(a.body, "@odata") == bare {
				t.Errorf("%s%s, Accept %s: %s", target, c.target, c.accept, a.body)
			}
		}
	}
	for target, want := range map[string]string{
		"/$metadata": "application/xml; charset=utf-8", "/$metadata?$format=xml": "application/xml; charset=utf-8", "/$metadata?$format=application/xml;charset=utf-8": "application/xml; charset=utf-8",
		"/Property/$count": "text/plain; charset=utf-8", "/Property/$count?$format=text/plain": "text/plain; charset=utf-8", "/Property/$count?$format=json": "text/plain; charset=utf-8",
	} {
		if got := s.get(target, "Accept: application/json").header.Get("Content-Type"); got != want {
			t.Errorf("%s: %s", target, got)
		}
	}
	for _, target := range []string{"/Property?$format=xml", "/Property?$format=atom", "/$metadata?$format=json", "/$metadata?$format=application/json", "/Property/$count?$format=xml", "/EntityEvent?$format=text/plain"} {
		a := s.get(target)
		a.want(t, 501)
		checkError(t, a)
	}
	s.get("/Property?$format=").want(t, 400)
	if a := s.get("/NoSuch", "Accept: application/xml"); a.status != 404 { // errors ignore Accept
		t.Errorf("%d", a.status)
	} else {
		checkError(t, a)
	}
}

// TestIEEE754Compatible (OData JSON Format 4.01, 3.2): what a float64 may not hold leaves as a string, and
// only when that is asked for.
func TestIEEE754Compatible(t *testing.T) {
	t.Parallel()
	const body = `{"ListingKey":"p","ListPrice":12345678901234567.89,"BedroomsTotal":9007199254740993,"PhotosCount":3,"City":"1","Latitude":-1e-8,"InternetEntireListingDisplayYN":true,"Unknown":[1,"x",null]}`
	s := configured(t)
	s.put("Property", "p", body)
	s.put("OpenHouse", "7", `{"OpenHouseKey":7,"ListingKey":"p"}`)
	const want = `{"ListingKey":"p","ListPrice":"12345678901234567.89","BedroomsTotal":"9007199254740993","PhotosCount":3,"City":"1","Latitude":"-1e-8","InternetEntireListingDisplayYN":true,"Unknown":["1","x",null]}`
	const accept = "Accept: application/json;odata.metadata=none;IEEE754Compatible=true"
	for target, want := range map[string]string{
		"/Property('p')": want, "/Property": `{"value":[` + want + `]}`, "/Property?$count=true&$select=PhotosCount": `{"@odata.count":"1","value":[{"PhotosCount":3}]}`,
		"/Property?$select=BedroomsTotal&$expand=OpenHouse($count=true)": `{"value":[{"BedroomsTotal":"9007199254740993","OpenHouse@odata.count":"1","OpenHouse":[{"OpenHouseKey":"7","ListingKey":"p"}]}]}`,
		"/Property/$count": "1",
		"/EntityEvent(1)?$select=EntityEventSequence":     `{"EntityEventSequence":"1"}`,
		"/EntityEvent?$select=EntityEventSequence&$top=1": `{"value":[{"EntityEventSequence":"1"}]}`,
	} {
		if got := s.get(target, accept).want(t, 200); got != want {
			t.Errorf("%s: %s", target, got)
		}
	}
	if got := s.get("/Property('p')", bare).want(t, 200); got != body {
		t.Errorf("%s", got)
	}
	a := s.do(http.MethodPatch, "/Property('p')", `{"City":"2"}`, accept, "Prefer: return=representation")
	if a.want(t, 200); !strings.Contains(a.body, `"BedroomsTotal":"9007199254740993"`) || !strings.HasSuffix(a.header.Get("Content-Type"), ";IEEE754Compatible=true") {
		t.Errorf("%s: %s", a.header.Get("Content-Type"), a.body)
	}
}
