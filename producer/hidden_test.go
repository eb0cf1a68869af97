package producer_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestHiddenFields: a client does not know them: they are in no answer, and asking for one is asking for
// nothing known.
func TestHiddenFields(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*service{"inferred": inferred(t), "configured": configured(t)} {
		listings(s)
		s.put("Property", "p4", `{"ListingKey":"p4","Priv\u0061teRemarks":"dog","Media":[{"MediaKey":"i","ShortDescription":"dog"}],"X_Address":{"Lines":["dog"],"PrivateRemarks":"cat"}}`)
		get := func(target string) answer { return s.get(target, "Authorization: Bearer hidden", bare) }
		for target, want := range map[string]string{
			"/Property('p1')":                   `{"ListingKey":"p1","ListPrice":100,"CoListAgentKey":"m2","ListOfficeKey":"o1"}`,
			"/Property('p4')?$expand=OpenHouse": `{"ListingKey":"p4","Media":[{"MediaKey":"i"}],"X_Address":{"Lines":["dog"],"PrivateRemarks":"cat"},"OpenHouse":[]}`,
			"/Property('p4')?$expand=Media":     `{"ListingKey":"p4","X_Address":{"Lines":["dog"],"PrivateRemarks":"cat"},"Media":[{"MediaKey":"i"}]}`,
			"/Property('p4')/Media":             `{"value":[{"MediaKey":"i"}]}`,
			"/Property('p1')?$select=ListingKey&$expand=Media($top=1),CoListAgent": `{"ListingKey":"p1","Media":[{"MediaKey":"x0","ResourceName":"Property","ResourceRecordKey":"p1","Order":9}],` +
				`"CoListAgent":{"MemberKey":"m2","MemberFullName":"Bob","OfficeKey":"o9"}}`,
			"/Property('p1')/Media?$top=1":       `{"value":[{"MediaKey":"x0","ResourceName":"Property","ResourceRecordKey":"p1","Order":9}]}`,
			"/Member('m1')":                      `{"MemberKey":"m1","MemberFullName":"Ann","OfficeKey":"o1"}`,
			"/Property('p1')?$select=*":          `{"ListingKey":"p1","ListPrice":100,"CoListAgentKey":"m2","ListOfficeKey":"o1"}`,
			"/Property?$filter=ListPrice eq 100": `{"value":[{"ListingKey":"p1","ListPrice":100,"CoListAgentKey":"m2","ListOfficeKey":"o1"}]}`,
		} {
			if d := cmp.Diff(want, get(target).want(t, 200)); d != "" {
				t.Errorf("%s %s: %s", name, target, d)
			}
		}
		for _, target := range []string{
			"/Property?$filter=PrivateRemarks eq 'dog'", "/Property?$filter=ListPrice gt 1 and contains(PrivateRemarks,'d')", "/Property?$orderby=PrivateRemarks", "/Property?$select=PrivateRemarks",
			"/Property('p1')?$select=ListingKey,PrivateRemarks", "/Property/$count?$filter=PrivateRemarks ne null", "/Media?$filter=ShortDescription ne null",
			"/Property?$expand=CoListAgent($select=MemberEmail)", "/Member?$expand=Media($filter=ShortDescription eq 'd4')", "/Member?$expand=Media($orderby=ShortDescription)",
			"/Property?$expand=ListAgent", // would tell what ListAgentKey holds
		} {
			a := get(target)
			a.want(t, 400)
			checkError(t, a)
			if unknown := get(strings.NewReplacer("PrivateRemarks", "PrivatXRemarks", "ShortDescription", "ShortDescriptioX", "MemberEmail", "MemberEmaiX", "=ListAgent", "=ListXgent").Replace(target)); len(unknown.body) != len(a.body) {
				t.Errorf("%s: hidden %s, unknown %s", target, a.body, unknown.body)
			}
			s.get(target).want(t, 200)
		}
		get("/Property('p1')/ListAgent").want(t, 404)
		get("/Office('o1')/Media").want(t, 404)
		get("/Office?$expand=Media").want(t, 400)
		get("/Property?$expand=ListOffice($expand=Media)").want(t, 400)
	}
}
