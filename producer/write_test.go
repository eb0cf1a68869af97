package producer_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/resosync/resosync/entityevent"
)

// log returns the events after a position, as "resource key". Their numbers rise, with or without gaps.
func (s *service) log(after entityevent.Sequence) []string {
	s.t.Helper()
	page := s.get(fmt.Sprintf("/EntityEvent?$filter=EntityEventSequence gt %d&$top=5000", after)).page(s.t)
	lines := make([]string, len(page.Value))
	for i, v := range page.Value {
		n, err := strconv.ParseInt(string(v["EntityEventSequence"]), 10, 64)
		if err != nil || entityevent.Sequence(n) <= after {
			s.t.Errorf("event %d after %d: %v", n, after, err)
		}
		after = entityevent.Sequence(n)
		lines[i] = fmt.Sprintf("%s %s", v["ResourceName"], v["ResourceRecordKey"])
	}
	return lines
}

func TestWrite(t *testing.T) {
	s := inferred(t)
	var events []string
	wantEvent := func(line string) {
		t.Helper()
		if line != "" {
			events = append(events, line)
		}
		if got := s.log(0); fmt.Sprint(got) != fmt.Sprint(events) {
			t.Fatalf("the log is %v, want %v", got, events)
		}
	}
	checkHeaders := func(a answer, key string) {
		t.Helper()
		at := root + "/Property('" + key + "')"
		for name, want := range map[string]string{"Location": at, "OData-EntityId": at, "EntityId": key} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}

	a := s.do("POST", "/Property", ` {"ListingKey":"k","ListPrice":1.0} `)
	a.want(t, 201)
	checkHeaders(a, "k")
	tag := a.header.Get("ETag")
	want := `{"@odata.context":"` + root + `/$metadata#Property/$entity","@odata.id":"` + root + `/Property('k')","@odata.editLink":"` + root +
		`/Property('k')","@odata.etag":` + string(mustJSON(tag)) + `,"ListingKey":"k","ListPrice":1.0}`
	if a.body != want {
		t.Errorf("%s", a.body)
	}
	wantEvent(`"Property" "k"`)

	a = s.do("POST", "/Property", `{"ListingKey":"k","ListPrice":2}`)
	a.want(t, 409)
	checkError(t, a)
	wantEvent("")

	a = s.do("PUT", "/Property('k')", `{"ListPrice":2,"City":"A"}`, "If-Match: "+tag)
	if a.want(t, 204) != "" {
		t.Errorf("a body: %s", a.body)
	}
	checkHeaders(a, "k")
	wantEvent(`"Property" "k"`)
	if got := s.get("/Property('k')").want(t, 200); !strings.HasSuffix(got, `,"ListingKey":"k","ListPrice":2,"City":"A"}`) {
		t.Errorf("%s", got)
	}

	a = s.do("PATCH", "/Property('k')", `{"City":"B","@odata.type":"x"}`, "Prefer: return=representation")
	if !strings.HasSuffix(a.want(t, 200), `,"ListingKey":"k","ListPrice":2,"City":"B"}`) || a.header.Get("Preference-Applied") != "return=representation" {
		t.Errorf("%s %v", a.body, a.header)
	}
	checkHeaders(a, "k")
	wantEvent(`"Property" "k"`)

	// What changes nothing is answered alike and yields no event.
	s.do("PATCH", "/Property('k')", `{"City":"B"}`).want(t, 204)
	s.do("PUT", "/Property('k')", `{"City":"\u0042", "ListPrice":2, "ListingKey":"k"}`).want(t, 204)
	s.do("PUT", "/Property('k')", `{"City":"B","ListPrice":2}`, "Prefer: return=representation").want(t, 200)
	wantEvent("")

	a = s.do("PUT", "/Property('n')", `{"ListingKey":"n"}`, "Prefer: return=minimal")
	if a.want(t, 204); a.header.Get("Preference-Applied") != "return=minimal" {
		t.Errorf("%v", a.header)
	}
	checkHeaders(a, "n")
	wantEvent(`"Property" "n"`)
	if a = s.do("PUT", "/Property('o')", `{}`); !strings.HasSuffix(a.want(t, 201), `,"ListingKey":"o"}`) {
		t.Errorf("%s", a.body)
	}
	wantEvent(`"Property" "o"`)

	s.do("DELETE", "/Property('n')", "").want(t, 204)
	wantEvent(`"Property" "n"`)
	s.get("/Property('n')").want(t, 404)
	for _, c := range []struct{ method, body string }{{"DELETE", ""}, {"PATCH", "{}"}} {
		a = s.do(c.method, "/Property('n')", c.body)
		a.want(t, 404)
		checkError(t, a)
	}
	wantEvent("")
	if a = s.do("POST", "/Property", `{"ListingKey":"n"}`, "Prefer: return=minimal"); a.want(t, 204) != "" {
		t.Errorf("%s", a.body)
	}
	wantEvent(`"Property" "n"`)

	a = s.do("POST", "/Property", `{"City":"C"}`)
	key := entityevent.StringMember([]byte(a.want(t, 201)), "ListingKey")
	if id, err := uuid.Parse(key); err != nil || id.Version() != 7 {
		t.Errorf("made key %q", key)
	}
	checkHeaders(a, key)
	wantEvent(`"Property" "` + key + `"`)
	a = s.do("POST", "/Member", `{}`)
	wantEvent(`"Member" "` + entityevent.StringMember([]byte(a.want(t, 201)), "MemberKey") + `"`)

	a = s.do("PUT", "/Property('O''Neil%20%D0%BA%2F')", `{"City":"D"}`)
	a.want(t, 201)
	if a.header.Get("EntityId") != "O'Neil%20%D0%BA%2F" || a.header.Get("Location") != root+"/Property('O''Neil%20%D0%BA%2F')" {
		t.Errorf("%v", a.header)
	}
	wantEvent(`"Property" "O'Neil к/"`)
}

func mustJSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

func TestWritePreconditions(t *testing.T) {
	s := inferred(t)
	current := func() string { return s.get("/Property('k')").header.Get("ETag") }
	s.put("Property", "k", `{"ListingKey":"k","V":0}`)
	old := current()
	s.put("Property", "k", `{"ListingKey":"k","V":1}`)
	for i, c := range []struct {
		method, target, header string
		status                 int
	}{
		{"PUT", "k", "If-Match: " + old, 412}, {"PATCH", "k", "If-Match: " + old, 412}, {"DELETE", "k", "If-Match: " + old, 412},
		{"PATCH", "k", `If-Match: "x"`, 412}, {"PATCH", "k", "If-Match: ,", 412}, {"PATCH", "k", `If-Match: W/"00000000000000000000000000000000"`, 412},
		{"DELETE", "k", "If-None-Match: *", 412}, {"PUT", "k", "If-None-Match: *", 412}, {"PUT", "absent", "If-Match: *", 412},
		{"PUT", "absent", "If-Match: " + old, 412}, {"PATCH", "absent", "If-Match: *", 404}, {"DELETE", "absent", "If-Match: *", 404},
		{"PATCH", "k", "If-Match: *", 204}, {"PATCH", "k", "If-Match: CURRENT", 204}, {"PUT", "k", "If-Match: WEAK", 204},
		{"PUT", "k", "If-Match: " + old + ", CURRENT", 204}, {"PUT", "new", "If-None-Match: *", 201},
		{"PUT", "absent", "If-Match: " + old + ", CURRENT", 412}, {"PATCH", "absent", "If-Match: " + old + ", CURRENT", 404},
		{"PUT", "k", "If-Match: " + old + `, "x"`, 412},
		{"PATCH", "k", "If-None-Match: CURRENT", 412}, {"PUT", "k", "If-None-Match: WEAK", 412}, {"DELETE", "k", "If-None-Match: " + old + ", CURRENT", 412},
		{"PATCH", "k", "If-None-Match: " + old, 204}, {"PUT", "new", "If-None-Match: " + old, 204}, {"PUT", "new2", "If-None-Match: " + old, 201},
		{"PATCH", "absent", "If-None-Match: *", 404}, {"PATCH", "absent", "If-None-Match: " + old, 404}, {"PATCH", "k", "If-None-Match: *", 412},
		// Both hold, or nothing is written.
		{"PUT", "k", "If-Match: *; If-None-Match: *", 412}, {"PUT", "absent", "If-Match: *; If-None-Match: *", 412}, {"PATCH", "k", "If-Match: *; If-None-Match: *", 412},
		{"PUT", "k", "If-Match: CURRENT; If-None-Match: *", 412}, {"PUT", "k", "If-Match: *; If-None-Match: CURRENT", 412},
		{"PUT", "k", "If-Match: " + old + "; If-None-Match: " + old, 412}, {"PATCH", "k", "If-Match: CURRENT; If-None-Match: " + old, 204},
		{"DELETE", "k", "If-Match: CURRENT", 204},
	} {
		header := strings.NewReplacer("CURRENT", current(), "WEAK", strings.TrimPrefix(current(), "W/")).Replace(c.header)
		before := current()
		a := s.do(c.method, "/Property('"+c.target+"')", fmt.Sprintf(`{"V":%d}`, i+2), strings.Split(header, "; ")...)
		if a.status != c.status {
			t.Errorf("%s %s %s: %d, want %d: %s", c.method, c.target, c.header, a.status, c.status, a.body)
		}
		if c.status >= 400 {
			checkError(t, a)
			if current() != before {
				t.Errorf("%s %s was refused and changed the record", c.method, c.header)
			}
		}
	}
	s.get("/Property('absent')").want(t, 404)
}

func TestWriteRefuses(t *testing.T) {
	s := inferred(t)
	s.put("Property", "k", `{"ListingKey":"k"}`)
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for _, c := range []struct {
		method, target, body, header string
		status                       int
	}{
		{"POST", "/Property", "", "", 415}, {"POST", "/Property", "{}", "Content-Type: text/plain", 415},
		{"POST", "/Property", "{}", "Content-Type: application/x-www-form-urlencoded", 415},
		{"POST", "/Property", "{}", "Content-Type: text/json", 415}, {"POST", "/Property", "{}", "Content-Encoding: br", 415},
		{"POST", "/Property", "{}", "Content-Encoding: gzip", 400}, {"POST", "/Property", zipped("{}")[:12], "Content-Encoding: gzip", 400},
		{"POST", "/Property", zipped(`{"A":"` + strings.Repeat("x", 5000) + `"}`), "Content-Encoding: gzip", 413},
		{"POST", "/Property", zipped(strings.Repeat(" ", 1<<20)), "Content-Encoding: gzip", 413},
		{"POST", "/Property", `{"value":[]}`, "", 400}, {"POST", "/Property", `{"@reso.context":"urn:reso:metadata:2.0:resource:property","value":[{"ListingKey":"v"}]}`, "", 400},
		{"POST", "/Property", `{"value":{"ListingKey":"v"}}`, "", 400}, {"POST", "/Property", `[{"ListingKey":"v"}]`, "", 400},
		{"POST", "/Property", `{"A":{"B":1,"B":2}}`, "", 400}, {"POST", "/Property", `{"A":"\ud800"`, "", 400},
		{"POST", "/Property", `{"ListPrice":-1}`, "", 400}, {"PATCH", "/Property('k')", `{"BedroomsTotal":-1}`, "", 400},
		{"PUT", "/Property('k')", `{"ListAgent@odata.bind":"Member('1')"}`, "", 400},
		{"POST", "/Property?$select=A", `{}`, "", 400}, {"POST", "/Property?$bogus=1", `{}`, "", 400}, {"DELETE", "/Property('k')?$filter=A eq 1", "", "", 400},
		{"PUT", "/Property('k')?$format=xml", `{}`, "", 501},
		{"POST", "/Property", "", "Content-Type: application/json", 400}, {"POST", "/Property", "{", "", 400}, {"POST", "/Property", "[]", "", 400},
		{"POST", "/Property", "null", "", 400}, {"POST", "/Property", "{} {}", "", 400}, {"POST", "/Property", `{"A":NaN}`, "", 400},
		{"POST", "/Property", `{"A":1,"A":2}`, "", 400}, {"POST", "/Property", `{"A":` + deep + `}`, "", 400}, {"POST", "/Property", "{\"A\":\"\xff\"}", "", 400},
		{"POST", "/Property", `{"A":"` + strings.Repeat("x", 5000) + `"}`, "", 413},
		{"POST", "/Property", `{"ListingKey":null}`, "", 400}, {"POST", "/Property", `{"ListingKey":""}`, "", 400}, {"POST", "/Property", `{"ListingKey":true}`, "", 400},
		{"POST", "/Property", `{"ListingKey":["k"]}`, "", 400}, {"POST", "/Property", `{"ListingKey":1.5}`, "", 400},
		{"POST", "/Property", `{"ListingKey":"` + strings.Repeat("k", 256) + `"}`, "", 400}, {"POST", "/Property", `{"ListingKey":"a\u0000b"}`, "", 400},
		{"PUT", "/Property('k')", `{"ListingKey":"other"}`, "", 400}, {"PATCH", "/Property('k')", `{"ListingKey":"other"}`, "", 400},
		{"PATCH", "/Property('k')", `{"ListingKey":null}`, "", 400}, {"PUT", "/Property('')", `{}`, "", 400},
		{"PUT", "/Property('" + strings.Repeat("k", 256) + "')", `{}`, "", 400}, {"PUT", "/Property('k')", `{"A":}`, "", 400},
		{"POST", "/Acme", `{"AcmeKey":"1"}`, "", 404}, {"PUT", "/Acme('1')", `{}`, "", 404}, {"DELETE", "/Acme('1')", "", "", 404},
		{"PUT", "/Property(MemberKey='k')", `{}`, "", 400},
	} {
		headers := []string{"X: y"}
		if c.header != "" {
			headers = append(headers, c.header)
		}
		a := s.do(c.method, c.target, c.body, headers...)
		if a.status != c.status {
			t.Errorf("%s %s %.60s %s: %d, want %d: %s", c.method, c.target, c.body, c.header, a.status, c.status, a.body)
		}
		checkError(t, a)
	}
	if got := s.log(1); len(got) != 0 {
		t.Errorf("refused writes are in the log: %v", got)
	}
	s.do("POST", "/Property", `{"A":1}`, "Content-Type: application/vnd.x+json; charset=UTF-8").want(t, 201)
	s.put("Acme", "1", `{"AcmeKey":"1"}`) // once it is in the data it may be written
	s.do("PATCH", "/Acme('1')", `{"B":1}`).want(t, 204)
}

func TestWriteWithConfiguredMetadata(t *testing.T) {
	s := configured(t)
	s.do("POST", "/Property", `{"ListingKey":"k","ListPrice":1,"@odata.type":"x"}`).want(t, 201)
	a := s.do("PATCH", "/Property('k')", `{"Wings":2,"ListPrice":"3","Appliances":["Oven",null],"PropertyType":"Boat"}`)
	a.want(t, 400)
	want := `{"error":{"code":"400","message":"4 fields are wrong, see details","target":"Wings","details":[` +
		`{"code":"400","target":"Wings","message":"Property has no field Wings"},` +
		`{"code":"400","target":"ListPrice","message":"ListPrice is a number of at most 14 digits, 2 of them after the point (Edm.Decimal)"},` +
		`{"code":"400","target":"Appliances","message":"Appliances[1] cannot be null"},` +
		`{"code":"400","target":"PropertyType","message":"PropertyType is a member of org.reso.metadata.PropertyType, which has no \"Boat\""}]}}`
	if strings.TrimSpace(a.body) != want {
		t.Errorf("%s", a.body)
	}
	a = s.do("PUT", "/OpenHouse('x')", `{"OpenHouseType":"Public"}`)
	want = `{"error":{"code":"400","message":"OpenHouseKey is a whole number of at most 64 bits (Edm.Int64)","target":"OpenHouseKey","details":[` +
		`{"code":"400","target":"OpenHouseKey","message":"OpenHouseKey is a whole number of at most 64 bits (Edm.Int64)"}]}}`
	if a.want(t, 400); strings.TrimSpace(a.body) != want {
		t.Errorf("%s", a.body)
	}
	s.do("POST", "/Lookup", `{"LookupKey":"1","LookupName":"City","LookupValue":"Springfield"}`).want(t, 201)
	s.do("PATCH", "/Lookup('1')", `{"LookupValue":"Shelbyville"}`).want(t, 204) // the others are there
	s.do("PUT", "/Lookup('1')", `{"LookupValue":"Shelbyville"}`).want(t, 400)
	if a = s.do("PATCH", "/Lookup('1')", `{"Foo@x.y":1}`); !strings.Contains(a.want(t, 400), `"message":"Lookup has no field Foo","target":"Foo"`) {
		t.Errorf("%s", a.body)
	}
	s.do("PATCH", "/Lookup('1')", `{"LookupValue@x.y":1,"@x.y":1}`).want(t, 204)
	var many strings.Builder
	for i := range 150 {
		fmt.Fprintf(&many, `,"W%d":1`, i)
	}
	if got := s.do("POST", "/Property", "{"+many.String()[1:]+"}").want(t, 400); strings.Count(got, "has no field") != 100 || !strings.Contains(got, `"150 fields are wrong, see details"`) {
		t.Errorf("%s", got)
	}
	a = s.do("POST", "/Lookup", `{"LookupName":"City"}`)
	if !strings.Contains(a.want(t, 400), `"message":"LookupValue is missing, and cannot be null","target":"LookupValue"`) {
		t.Errorf("%s", a.body)
	}
	s.do("POST", "/Teams", `{"TeamKey":"t"}`).want(t, 404)
	s.do("POST", "/OpenHouse", `{}`).want(t, 400) // nobody can make a number up
	a = s.do("PUT", "/OpenHouse(7)", `{"ListingKey":"k"}`)
	if !strings.HasSuffix(a.want(t, 201), `"OpenHouseKey":7,"ListingKey":"k"}`) || a.header.Get("Location") != root+"/OpenHouse(7)" {
		t.Errorf("%s %v", a.body, a.header)
	}
	s.do("PUT", "/OpenHouse('7')", `{"OpenHouseKey":7}`).want(t, 204)
	s.do("POST", "/OpenHouse", `{"OpenHouseKey":8}`).want(t, 201)
	if got := s.get("/OpenHouse").page(t).column("OpenHouseKey"); got != "7 8" {
		t.Errorf("%s", got)
	}
	if got := s.get("/OpenHouse?$filter=OpenHouseKey gt 7").page(t).column("OpenHouseKey"); got != "8" {
		t.Errorf("%s", got)
	}
}

// TestNoLostUpdates: patches of different fields at once all hold, and each is one event.
func TestNoLostUpdates(t *testing.T) {
	s := inferred(t)
	s.put("Property", "k", `{"ListingKey":"k"}`)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			a, err := s.try(t.Context(), "PATCH", "/Property('k')", fmt.Sprintf(`{"F%d":1}`, i))
			if err != nil || a.status != 204 {
				t.Error(err, a.status)
			}
			// The answer is the promise: the event can be read.
			if a, err = s.try(t.Context(), "GET", "/Property('k')", ""); err != nil || !strings.Contains(a.body, fmt.Sprintf(`"F%d":1`, i)) {
				t.Error(err, a.body)
			}
		})
	}
	wg.Wait()
	if got := s.log(1); len(got) != 20 {
		t.Errorf("%d events: %v", len(got), got)
	}
	last := s.get("/Property('k')").want(t, 200)
	for i := range 20 {
		if !strings.Contains(last, fmt.Sprintf(`"F%d":1`, i)) {
			t.Errorf("a later patch undid F%d: %s", i, last)
		}
	}
}

// TestNoLostUpdatesByTag: those who read, change and put with the ETag never undo what another put meanwhile.
func TestNoLostUpdatesByTag(t *testing.T) {
	s := inferred(t)
	s.put("Property", "k", `{"ListingKey":"k","N":0}`)
	const clients, each = 6, 5
	var wg sync.WaitGroup
	var refused atomic.Int64
	for range clients {
		wg.Go(func() {
			for done := 0; done < each; {
				a, err := s.try(t.Context(), "GET", "/Property('k')", "")
				var record struct{ N int }
				if err != nil || json.Unmarshal([]byte(a.body), &record) != nil {
					t.Error(err, a.body)
					return
				}
				a, err = s.try(t.Context(), "PUT", "/Property('k')", fmt.Sprintf(`{"N":%d}`, record.N+1), "If-Match: "+a.header.Get("ETag"))
				switch {
				case err == nil && a.status == 204:
					done++
				case err == nil && a.status == 412:
					refused.Add(1)
				default:
					t.Error(err, a.status, a.body)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := s.get("/Property('k')").want(t, 200); !strings.Contains(got, fmt.Sprintf(`"N":%d}`, clients*each)) {
		t.Errorf("%d were counted: %s", clients*each, got)
	}
	if got := s.log(1); len(got) != clients*each {
		t.Errorf("%d events, %d refusals", len(got), refused.Load())
	}
}
