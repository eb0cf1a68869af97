package task_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent/digest"
)

// digestOf is a digest as a client gets it.
func (r *rig) digestOf(client, body string) digest.Digest {
	r.Helper()
	token := "Authorization: Bearer " + client
	path := r.create(body, token)
	members := r.done(path, token)
	a := r.get(path+"/result", token).has("Content-Type: application/json")
	a.want(200)
	var d digest.Digest
	if err := json.Unmarshal([]byte(a.body), &d); err != nil {
		r.Fatal(err)
	}
	count := int64(0)
	for _, of := range d.Resources {
		count += of.Count
	}
	if members["count"] != float64(count) || members["log"] != d.Log || members["sequence"] != float64(d.Sequence) {
		r.Errorf("%v: %v", members, d)
	}
	return d
}

// TestDigestsCompare: two stores with equal content have equal digests, however they came to it, and each difference of
// one record shows, to the clients who see it.
func TestDigestsCompare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newRig(t).run(), newRig(t).run()
		one.put("Property", "p1", `{"ListingKey":"p1","ListPrice":1,"PrivateRemarks":"x","Media":[{"MediaKey":"i"}]}`)
		one.put("Member", "m1", `{"MemberKey":"m1","MemberEmail":"m1@x"}`)
		one.put("Media", "a1", `{"MediaKey":"a1","ResourceRecordKey":"p1"}`)
		two.put("Media", "a1", `{"ResourceRecordKey":"p1", "MediaKey":"\u0061\u0031"}`)
		two.put("Property", "p9", `{"ListingKey":"p9"}`)
		two.put("Property", "p9", "")
		two.put("Member", "m1", `{"MemberKey":"m1"}`)
		two.put("Member", "m1", `{"MemberEmail":"m1@x","MemberKey":"m1"}`)
		two.put("Property", "p1", `{"Media":[{"MediaKey":"i"}],"PrivateRemarks":"x","ListPrice":1,"ListingKey":"p1","@odata.id":"y"}`)
		differ := func(what string, all, idx bool) {
			t.Helper()
			for client, want := range map[string]bool{"alice": all, "idx": idx} {
				a, b := one.digestOf(client, `{"type":"digest"}`).Resources, two.digestOf(client, `{"type":"digest"}`).Resources
				if d := cmp.Diff(a, b); (d != "") != want {
					t.Errorf("%s for %s: differs %t, want %t: %s", what, client, d != "", want, d)
				}
			}
		}
		differ("equal content", false, false)
		for _, c := range []struct {
			what, resource, key, body string
			all, idx                  bool
		}{
			{"another price", "Property", "p1", `{"ListingKey":"p1","ListPrice":2,"PrivateRemarks":"x","Media":[{"MediaKey":"i"}]}`, true, true},
			{"a number of another text", "Property", "p1", `{"ListingKey":"p1","ListPrice":1.0,"PrivateRemarks":"x","Media":[{"MediaKey":"i"}]}`, true, true},
			{"other remarks that are hidden", "Property", "p1", `{"ListingKey":"p1","ListPrice":1,"PrivateRemarks":"y","Media":[{"MediaKey":"i"}]}`, true, false},
			{"other photos inside", "Property", "p1", `{"ListingKey":"p1","ListPrice":1,"PrivateRemarks":"x","Media":[{"MediaKey":"j"}]}`, true, true},
			{"another address that is hidden", "Member", "m1", `{"MemberKey":"m1","MemberEmail":"m2@x"}`, true, false},
			{"a listing too dear", "Property", "p2", `{"ListingKey":"p2","ListPrice":500}`, true, false},
			{"a photo of nothing", "Media", "a2", `{"MediaKey":"a2","ResourceRecordKey":"p7"}`, true, false},
			{"a listing more", "Property", "p2", `{"ListingKey":"p2","ListPrice":499}`, true, true},
			{"a resource more", "Office", "o1", `{"OfficeKey":"o1"}`, true, false},
		} {
			before := ""
			for r, err := range one.store.Read(t.Context(), everyone, query(c.resource, c.key)) {
				if err != nil {
					t.Fatal(err)
				}
				before = string(r.Body)
			}
			two.put(c.resource, c.key, c.body)
			differ(c.what, c.all, c.idx)
			two.put(c.resource, c.key, before)
		}
	})
}

// TestDigestOfRanges: a part of a digest is that of the whole.
func TestDigestOfRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t).run()
		r.listings(2500, 10)
		r.put("Member", "m1", `{"MemberKey":"m1"}`)
		r.digestOf("alice", `{"type":"digest","resources":["Member","Property","Member"]}`) // each once
		whole := r.digestOf("alice", `{"type":"digest"}`)
		all := whole.Resources["Property"]
		if len(whole.Resources) != 2 || all.Count != 2500 || len(all.Ranges) != 3 || all.Ranges[1].After != "p0000999" || all.Ranges[1].To != "p0001999" || whole.Log != string(r.store.LogID())+"/all" {
			t.Fatalf("%+v", whole)
		}
		part := r.digestOf("alice", fmt.Sprintf(`{"type":"digest","ranges":[{"resource":"Property","to":%q},{"resource":"Property","after":%q}]}`, all.Ranges[0].To, all.Ranges[2].After))
		if d := cmp.Diff([]digest.Range{all.Ranges[0], all.Ranges[2]}, part.Resources["Property"].Ranges); d != "" || len(part.Resources) != 1 {
			t.Error(d, part.Resources)
		}
		r.restart() // what is asked for is read when its turn comes
		path := r.create(`{"type":"digest","ranges":[{"resource":"Property","to":"p0000002"}]}`)
		r.restart()
		r.run()
		r.done(path)
		if got := r.get(path + "/result").want(200)["resources"].(map[string]any); len(got) != 1 || got["Property"].(map[string]any)["count"] != 3. {
			t.Error(got)
		}
		part = r.digestOf("alice", `{"type":"digest","resources":["Member","OpenHouse"],"ranges":[{"resource":"Property","after":"p0000010","to":"p0000013"}]}`)
		if p := part.Resources["Property"]; len(part.Resources) != 3 || part.Resources["Member"].Count != 1 || part.Resources["OpenHouse"].Count != 0 || p.Count != 3 || p.Ranges[0].To != "p0000013" {
			t.Errorf("%+v", part)
		}
	})
}
