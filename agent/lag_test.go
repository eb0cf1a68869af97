package main_test

import (
	"strings"
	"testing"
)

// TestLagOfSomeEventTypes: a subscription that is narrowed is behind by what it wants.
func TestLagOfSomeEventTypes(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.write("resosync.yaml", strings.Replace(producerConfig(freeAddress(t)), "name: vendor", "name: vendor, scopes: [read, subscribe]", 1)+"  allow_callbacks: [127.0.0.0/8]\n")
	put := func(resource, lines string) {
		t.Helper()
		s.pipe(lines, "import", "--resource", resource, "-").must(t, 0, "new", "import")
	}
	subscribe := func(types ...string) string {
		t.Helper()
		return strings.TrimSpace(s.must(0, "^[0-9a-f-]{36}\n", append([]string{"subscribe", "http://127.0.0.1:9/hook", "--client", "vendor", "--from", "0"}, types...)...).stdout)
	}
	narrowed := subscribe("--event-types", "Member,Media")
	put("Property", `{"ListingKey":"1"}`+"\n"+`{"ListingKey":"2"}`+"\n")
	s.must(0, `subscription `+narrowed+` of vendor: active at 0, 0 behind\n`, "status")
	s.must(0, `"registered": {\n +"active": 1,\n +"suspended": 0,\n +"cancelled": 0,\n +"lag": 0,`, "status", "--json")
	put("Media", `{"MediaKey":"1"}`)
	put("Property", `{"ListingKey":"3"}`)
	put("Member", `{"MemberKey":"1"}`)
	put("Property", `{"ListingKey":"4"}`)
	s.must(0, `subscription `+narrowed+` of vendor: active at 0, 2 behind for `, "status")
	s.must(0, `subscription `+subscribe()+` of vendor: active at 0, 6 behind for `, "status")
}
