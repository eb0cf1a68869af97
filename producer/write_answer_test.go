package producer_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// TestWriteAnswers: each way to write, with the status, the headers and the body of its answer, and
// whether it makes an event. TAG stands for the record's ETag, KEY for a key that was made up.
func TestWriteAnswers(t *testing.T) {
	const single, entity = root + "/Property('k')", "k"
	record := func(key, members string) string {
		return `{"@odata.context":"` + root + `/$metadata#Property/$entity","@odata.id":"` + root + `/Property('` + key + `')","@odata.editLink":"` + root +
			`/Property('` + key + `')","@odata.etag":"TAG","ListingKey":"` + key + `",` + members + `}`
	}
	for _, c := range []struct {
		name, method, target, body, prefer string
		status                             int
		location, id, applied, want        string
		event                              string
	}{
		{"POST", "POST", "/Property", `{"ListingKey":"k","ListPrice":1.50}`, "", 201, single, entity, "return=representation", record("k", `"ListPrice":1.50`), "k"},
		{"POST representation", "POST", "/Property", `{"ListingKey":"k","ListPrice":1.50}`, "return=representation", 201, single, entity, "return=representation", record("k", `"ListPrice":1.50`), "k"},
		{"POST minimal", "POST", "/Property", `{"ListingKey":"k","ListPrice":1.50}`, "return=minimal", 204, single, entity, "return=minimal", "", "k"},
		{"POST without a key", "POST", "/Property", `{"ListPrice":1.50}`, "", 201, root + "/Property('KEY')", "KEY", "return=representation", record("KEY", `"ListPrice":1.50`), "KEY"},
		{"PUT creates", "PUT", "/Property('k')", `{"ListPrice":1.50}`, "", 201, single, entity, "return=representation", record("k", `"ListPrice":1.50`), "k"},
		{"PUT creates, minimal", "PUT", "/Property('k')", `{"ListPrice":1.50}`, "return=minimal", 204, single, entity, "return=minimal", "", "k"},
		{"PUT replaces", "PUT", "/Property('old')", `{"City":"B"}`, "", 204, root + "/Property('old')", "old", "return=minimal", "", "old"},
		{"PUT replaces, representation", "PUT", "/Property('old')", `{"City":"B"}`, "return=representation", 200, root + "/Property('old')", "old", "return=representation", record("old", `"City":"B"`), "old"},
		{"PUT changes nothing", "PUT", "/Property('old')", `{"ListPrice":9,"City":"A"}`, "", 204, root + "/Property('old')", "old", "return=minimal", "", ""},
		{"PUT changes nothing, representation", "PUT", "/Property('old')", ` { "City" : "\u0041" , "ListPrice":9}`, "return=representation", 200, root + "/Property('old')", "old", "return=representation", record("old", `"City":"\u0041","ListPrice":9`), ""},
		{"PATCH", "PATCH", "/Property('old')", `{"ListPrice":2}`, "", 204, root + "/Property('old')", "old", "return=minimal", "", "old"},
		{"PATCH representation", "PATCH", "/Property('old')", `{"ListPrice":2,"City":null}`, "return=representation", 200, root + "/Property('old')", "old", "return=representation", record("old", `"City":null,"ListPrice":2`), "old"},
		{"PATCH minimal", "PATCH", "/Property('old')", `{"ListPrice":2}`, "return=minimal", 204, root + "/Property('old')", "old", "return=minimal", "", "old"},
		{"PATCH changes nothing", "PATCH", "/Property('old')", `{"ListPrice":9}`, "", 204, root + "/Property('old')", "old", "return=minimal", "", ""},
		{"DELETE", "DELETE", "/Property('old')", "", "", 204, "", "", "", "", "old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := configured(t)
			s.put("Property", "old", `{"ListingKey":"old","City":"A","ListPrice":9}`)
			headers := []string{"X: y"}
			if c.prefer != "" {
				headers = append(headers, "Prefer: "+c.prefer)
			}
			a := s.do(c.method, c.target, c.body, headers...)
			key := c.id
			if key == "KEY" {
				key = a.header.Get("EntityId")
			}
			current := s.get("/Property('" + key + "')").header.Get("ETag")
			put := strings.NewReplacer("KEY", key, "TAG", strings.ReplaceAll(current, `"`, `\"`)).Replace
			if a.status != c.status || strings.TrimSpace(a.body) != put(c.want) {
				t.Errorf("%d %s\nwant %d %s", a.status, a.body, c.status, put(c.want))
			}
			want := http.Header{}
			for name, value := range map[string]string{
				"Location": put(c.location), "EntityId": put(c.id), "OData-EntityId": put(c.location), "Preference-Applied": c.applied,
				"ETag": current, "OData-Version": "4.01", "Cache-Control": "no-store",
			} {
				if value != "" {
					want.Set(name, value)
				}
			}
			got := a.header.Clone()
			for _, name := range []string{"Date", "Content-Length", "Vary"} {
				got.Del(name)
			}
			if c.want != "" {
				want.Set("Content-Type", got.Get("Content-Type"))
				if !strings.HasPrefix(got.Get("Content-Type"), "application/json") {
					t.Errorf("Content-Type: %s", got.Get("Content-Type"))
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			var events []string
			if c.event != "" {
				events = []string{`"Property" "` + put(c.event) + `"`}
			}
			if d := cmp.Diff(events, s.log(1), cmp.Transformer("", func(lines []string) string { return strings.Join(lines, "\n") })); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestWriteRefusalsByStatus: what API.md names beside the successes.
func TestWriteRefusalsByStatus(t *testing.T) {
	s := configured(t)
	s.put("Property", "k", `{"ListingKey":"k"}`)
	const allowRecord, allowSet, allowLog = "GET, HEAD, OPTIONS, PUT, PATCH, DELETE", "GET, HEAD, OPTIONS, POST", "GET, HEAD, OPTIONS"
	for _, c := range []struct {
		method, target, body string
		headers              []string
		status               int
		header, want         string
	}{
		{"POST", "/Property", `{"ListingKey":"k"}`, nil, 409, "", ""},
		{"PATCH", "/Property('absent')", `{}`, nil, 404, "", ""},
		{"DELETE", "/Property('absent')", ``, nil, 404, "", ""},
		{"PUT", "/Boat('1')", `{}`, nil, 404, "", ""}, {"POST", "/Boat", `{}`, nil, 404, "", ""}, {"PATCH", "/Teams('1')", `{}`, nil, 404, "", ""},
		{"PUT", "/Property('k')", `{}`, []string{`If-Match: W/"00000000000000000000000000000001"`}, 412, "", ""},
		{"PATCH", "/Property('k')", `{}`, []string{`If-Match: W/"00000000000000000000000000000001"`}, 412, "", ""},
		{"DELETE", "/Property('k')", ``, []string{`If-Match: "00000000000000000000000000000001"`}, 412, "", ""},
		{"PUT", "/Property('k')", `{}`, []string{"If-None-Match: *"}, 412, "", ""},
		{"POST", "/EntityEvent", `{}`, nil, 405, "Allow", allowLog}, {"PATCH", "/EntityEvent(1)", `{}`, nil, 405, "Allow", allowLog},
		{"PUT", "/EntityEvent(1)", `{}`, nil, 405, "Allow", allowLog}, {"DELETE", "/EntityEvent(1)", ``, nil, 405, "Allow", allowLog},
		{"POST", "/Property('k')", `{}`, nil, 405, "Allow", allowRecord}, {"DELETE", "/Property", ``, nil, 405, "Allow", allowSet},
		{"PATCH", "/Property/$count", `{}`, nil, 405, "Allow", allowLog},
		{"POST", "/Property", `{}`, []string{"Content-Type: text/xml"}, 415, "", ""},
		{"POST", "/Property", `{`, []string{"Content-Type: application/json; charset=utf8"}, 400, "", ""}, // it is read
		{"POST", "/Property", `{}`, []string{"Content-Encoding: deflate"}, 415, "Accept-Encoding", "gzip, identity"},
		{"POST", "/Property", `{"PublicRemarks":"` + strings.Repeat("x", 4096) + `"}`, nil, 413, "", ""},
		{"POST", "/Property", `{`, nil, 400, "", ""},
		{"POST", "/Property", `{}`, []string{"Authorization: Bearer reader"}, 403, "", ""},
		{"POST", "/Property", `{}`, []string{"Authorization: Bearer nobody"}, 401, "WWW-Authenticate", `Bearer realm="resosync", error="invalid_token"`},
	} {
		a := s.do(c.method, c.target, c.body, c.headers...)
		if a.status != c.status || c.header != "" && a.header.Get(c.header) != c.want {
			t.Errorf("%s %s %v: %d, %s %q; want %d, %q", c.method, c.target, c.headers, a.status, c.header, a.header.Get(c.header), c.status, c.want)
		}
		checkError(t, a)
		for _, name := range []string{"Location", "EntityId", "ETag", "Preference-Applied"} {
			if a.header.Get(name) != "" {
				t.Errorf("%s %s: a refusal with %s", c.method, c.target, name)
			}
		}
	}
	if got := s.log(1); len(got) != 0 {
		t.Errorf("refusals in the log: %v", got)
	}
}

func TestWriteBodies(t *testing.T) {
	s := configured(t)
	const body = `{"ListingKey":"k","ListPrice":123456789012.50}`
	for _, encoding := range []string{"gzip", "x-gzip", "GZIP"} {
		s.do("PUT", "/Property('k')", `{}`)
		s.do("PUT", "/Property('k')", zipped(body), "Content-Encoding: "+encoding).want(t, 204)
		if got := s.get("/Property('k')").want(t, 200); !strings.HasSuffix(got, `"ListingKey":"k","ListPrice":123456789012.50}`) {
			t.Errorf("%s: %s", encoding, got)
		}
	}
	// Numbers as strings, as they are read with the same parameter.
	const compatible = "Content-Type: application/json;IEEE754Compatible=true"
	s.do("PUT", "/Property('k')", `{"ListPrice":"9.50","BedroomsTotal":"9007199254740993","PhotosCount":3,"City":"7"}`, compatible).want(t, 204)
	if got := s.get("/Property('k')").want(t, 200); !strings.HasSuffix(got, `"ListingKey":"k","ListPrice":9.50,"BedroomsTotal":9007199254740993,"PhotosCount":3,"City":"7"}`) {
		t.Errorf("%s", got)
	}
	for _, body := range []string{`{"ListPrice":"much"}`, `{"ListPrice":"\u0031"}`, `{"BedroomsTotal":"1.5"}`, `{"PhotosCount":"3"}`, `{"ListPrice":""}`, `{"ListPrice":"1","ListPrice":2}`, `{"ListPrice":"1"`} {
		s.do("PUT", "/Property('k')", body, compatible).want(t, 400)
	}
	s.do("PUT", "/Property('k')", `{"ListPrice":"9.50"}`).want(t, 400)
}

// TestWriteErrorsTellThePlace in the body as it was sent: without the key that it gets, with the space around it.
func TestWriteErrorsTellThePlace(t *testing.T) {
	s := configured(t)
	for body, want := range map[string]string{
		`{"City":"a","City":"b"}`:          `invalid JSON at byte 23: the name "City" stands twice in one object`,
		`  {"Rooms":[{"B":1,"B":2}]}`:      `invalid JSON at byte 25: the name "B" stands twice in one object`,
		`{"ListPrice":"1","City":"a",}`:    `invalid JSON at byte 28: want a string`,
		`{"ListPrice":"1","A":{"B":"\x"}}`: `invalid JSON at byte 28: an unknown escape`,
	} {
		for _, kind := range []string{"application/json", "application/json;IEEE754Compatible=true"} {
			for _, request := range []string{"PUT /Property('k')", "POST /Property", "PATCH /Property('k')"} {
				method, target, _ := strings.Cut(request, " ")
				a := s.do(method, target, body, "Content-Type: "+kind)
				if got := entityevent.StringMember(entityevent.Member([]byte(a.want(t, 400)), "error"), "message"); got != want {
					t.Errorf("%s %s %s: %q, want %q", request, kind, body, got, want)
				}
			}
		}
	}
}

// TestWriteGrowsTheSchema: without an EDMX nothing is refused for its type.
func TestWriteGrowsTheSchema(t *testing.T) {
	s := inferred(t)
	s.do("POST", "/Showing", `{"ShowingKey":"a","Guests":3}`).want(t, 201)
	for _, c := range []struct{ body, edmType string }{{`{"Guests":3.5}`, "Edm.Decimal"}, {`{"Guests":"many"}`, "Edm.Untyped"}} {
		if s.do("PATCH", "/Showing('a')", c.body).want(t, 204); !strings.Contains(s.get("/$metadata").want(t, 200), `<Property Name="Guests" Type="`+c.edmType+`"/>`) {
			t.Errorf("after %s the field is not %s", c.body, c.edmType)
		}
	}
	if s.do("PATCH", "/Showing('a')", `{"Fresh":true}`).want(t, 204); !strings.Contains(s.get("/$metadata").want(t, 200), `<Property Name="Fresh" Type="Edm.Boolean"/>`) {
		t.Error("a new field is not in the metadata")
	}
	if got := s.log(0); len(got) != 4 || got[0] != `"Showing" "a"` {
		t.Errorf("%v", got)
	}
}

// TestWriteWithAKeyOfTheConfiguration keeps records by the field that is told, not by the one inferred.
func TestWriteWithAKeyOfTheConfiguration(t *testing.T) {
	s := inferred(t)
	keyed, err := producer.OpenSchema(t.Context(), s.store, entityevent.Local, nil, map[string]string{"Showing": "ShowingId", "Boat": "Hull"})
	if err != nil {
		t.Fatal(err)
	}
	s.server.Schema = keyed
	a := s.do("POST", "/Showing", `{"ShowingId":"7","ShowingKey":"x"}`)
	if a.want(t, 201); a.header.Get("Location") != root+"/Showing('7')" {
		t.Errorf("%v", a.header)
	}
	s.do("PUT", "/Boat('h')", `{"BoatKey":"b"}`).want(t, 201)
	if got := entityevent.StringMember([]byte(s.get("/Boat('h')").want(t, 200)), "Hull"); got != "h" {
		t.Errorf("%q", got)
	}
	if got, err := s.load("Boat", `{"Hull":"i","BoatKey":"b"}`+"\n"+`{"BoatKey":"c"}`); err != nil || got.New != 1 || got.Refused != 1 {
		t.Errorf("%+v %v", got, err)
	}
	text := s.get("/$metadata").want(t, 200)
	for _, key := range []string{"ShowingId", "Hull"} {
		if !strings.Contains(text, `<PropertyRef Name="`+key+`"/>`) {
			t.Errorf("%s is no key in\n%s", key, text)
		}
	}
	if _, err := producer.OpenSchema(t.Context(), s.store, entityevent.Local, nil, map[string]string{"Boat": "BoatKey"}); err == nil || !strings.Contains(err.Error(), "kept by Hull") {
		t.Errorf("another key than the records': %v", err)
	}
}
