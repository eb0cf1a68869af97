package task_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/digest"
)

// copied is a client's copy: the text of each record.
type copied map[entityevent.Ref]string

var resources = map[string]string{"property": "Property", "media": "Media", "member": "Member"}

var keys = map[string]string{"Property": "ListingKey", "Media": "MediaKey", "Member": "MemberKey"}

// parse reads a snapshot. Its records stand by resource, parents first, and by key.
func parse(t rapid.TB, text string) copied {
	all := copied{}
	var order []string
	for line := range strings.Lines(text) {
		const begin = `{"@reso.context":"urn:reso:metadata:2.0:resource:`
		rest, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), begin)
		name, rest, cut := strings.Cut(rest, `",`)
		resource := resources[name]
		if !ok || !cut || resource == "" {
			t.Fatalf("no line of a snapshot: %.200s", line)
		}
		ref := entityevent.Ref{Resource: resource, Key: entityevent.StringMember([]byte("{"+rest), keys[resource])}
		if _, twice := all[ref]; twice {
			t.Fatalf("%s stands twice", ref)
		}
		all[ref] = "{" + rest
		order = append(order, map[string]string{"Member": "0", "Property": "1", "Media": "2"}[resource]+ref.Key)
	}
	if !sort.StringsAreSorted(order) {
		t.Fatalf("the records are not in order: %v", order)
	}
	return all
}

// shown is what a page of a resource shows a client, by key: for some keys, or all.
func (r *rig) shown(t rapid.TB, client, resource, query string) copied {
	q := httptest.NewRequest(http.MethodGet, "/odata/"+resource+"?$top=5000"+query, nil)
	q.Header.Set("Authorization", "Bearer "+client)
	q.Header.Set("Accept", "application/json;odata.metadata=none")
	w := httptest.NewRecorder()
	r.tasks.Server.ServeHTTP(w, q)
	all := copied{}
	if w.Code == http.StatusNotFound {
		return all
	}
	_, err := entityevent.ReadPage(w.Body.Bytes(), keys[resource], func(key string, record []byte) error {
		all[entityevent.Ref{Resource: resource, Key: key}] = string(record)
		return nil
	})
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("%s: %d %v %s", resource, w.Code, err, w.Body)
	}
	return all
}

// whole is all that a client sees.
func (r *rig) whole(t rapid.TB, client string) copied {
	all := copied{}
	for resource := range keys {
		for ref, text := range r.shown(t, client, resource, "") {
			all[ref] = text
		}
	}
	return all
}

// TestSnapshotIsExact: whatever is written while a snapshot is made, who loads it and then reads the records that the
// events from its sequence through its through name holds what the producer shows. Profiles, hidden fields, records of
// which others decide who sees them, and records that go are among it.
func TestSnapshotIsExact(t *testing.T) {
	t.Parallel()
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		check := &scoped{TB: outer}
		defer check.end()
		r := newRig(check)
		write := func(n int) {
			var changes []entityevent.Change
			for range n {
				changes = append(changes, change(t))
			}
			r.apply(changes...)
		}
		write(rapid.IntRange(0, 25).Draw(t, "before"))
		client := rapid.SampledFrom([]string{"alice", "idx"}).Draw(t, "client")
		turns := r.store.hold()
		r.run()
		path := r.create(`{"type":"snapshot"}`, "Authorization: Bearer "+client)
		done := make(chan map[string]any)
		go func() { done <- r.done(path, "Authorization: Bearer "+client) }()
		var members map[string]any
		var last entityevent.Sequence // the head when the last record was read
		for members == nil {          // a write or a few between any two records
			write(rapid.IntRange(0, 3).Draw(t, "writes"))
			head := r.events(t, client, entityevent.EventQuery{}).Head
			select {
			case turns <- nil:
				last = head
			case members = <-done:
			}
		}
		r.store.release()
		a := r.get(path+"/result", "Authorization: Bearer "+client)
		a.want(http.StatusOK)
		have := parse(t, a.body)
		if n := int(members["count"].(float64)); n != len(have) {
			t.Fatalf("count %d, and there are %d records", n, len(have))
		}
		through := entityevent.Sequence(members["through"].(float64))
		if through < last {
			t.Fatalf("through %d, and a record was read at %d", through, last)
		}
		page := r.events(t, client, entityevent.EventQuery{After: entityevent.Sequence(members["sequence"].(float64)), Before: through + 1, Limit: 5000})
		for _, e := range page.Events {
			now := r.shown(t, client, e.Resource, "&$filter="+keys[e.Resource]+"%20eq%20'"+e.Key+"'")
			if delete(have, e.Ref); now[e.Ref] != "" {
				have[e.Ref] = now[e.Ref]
			}
		}
		if page.Head != through { // what was written since is no part of it
			for e, text := range r.changedAfter(t, through, client) {
				if delete(have, e); text != "" {
					have[e] = text
				}
			}
		}
		if d := cmp.Diff(r.whole(t, client), have); d != "" {
			t.Fatalf("%s: %s", client, d)
		}
		r.checkDigest(t, client, have)
	})
}

// change changes a random record.
func change(t *rapid.T) entityevent.Change {
	n := rapid.IntRange(0, 5).Draw(t, "n")
	resource := rapid.SampledFrom([]string{"Property", "Property", "Media", "Member"}).Draw(t, "resource")
	key := fmt.Sprintf("k%d", n)
	version := rapid.IntRange(0, 9).Draw(t, "version")
	body := ""
	switch {
	case rapid.IntRange(0, 4).Draw(t, "gone") == 0: // it goes
	case resource == "Property":
		price := rapid.SampledFrom([]int{100, 499, 500, 900}).Draw(t, "price")
		body = fmt.Sprintf(`{"ListingKey":%q,"ListPrice":%d,"PrivateRemarks":"secret %d","ListAgent":{"MemberKey":"m","MemberEmail":"secret@x","Office":{"OfficeKey":"%d"}},"Media":[{"MediaKey":"i%d"}]}`,
			key, price, version, version, n)
	case resource == "Media":
		body = fmt.Sprintf(`{"MediaKey":%q,"ResourceName":"Property","ResourceRecordKey":"k%d","Order":%d}`, key, rapid.IntRange(0, 5).Draw(t, "parent"), version)
	default:
		body = fmt.Sprintf(`{"MemberKey":%q,"MemberEmail":"secret%d@x","MemberFirstName":"é%d"}`, key, version, version/3)
	}
	return put(resource, key, body)
}

// events is what a client sees of the log.
func (r *rig) events(t *rapid.T, client string, q entityevent.EventQuery) entityevent.Page {
	c, _ := r.gate.client(client)
	page, err := r.store.Events(context.Background(), entityevent.View{Feed: entityevent.Local, Mask: c.Mask}, q)
	if err != nil || page.More && q.Limit > 0 {
		t.Fatal(err, page.More)
	}
	return page
}

// changedAfter is what became of the records of later events.
func (r *rig) changedAfter(t *rapid.T, after entityevent.Sequence, client string) copied {
	all := copied{}
	for _, e := range r.events(t, client, entityevent.EventQuery{After: after, Limit: 5000}).Events {
		all[e.Ref] = r.shown(t, client, e.Resource, "&$filter="+keys[e.Resource]+"%20eq%20'"+e.Key+"'")[e.Ref]
	}
	return all
}

// checkDigest compares the digest with the one of a copy.
func (r *rig) checkDigest(t *rapid.T, client string, have copied) {
	var got digest.Digest
	path := r.create(`{"type":"digest"}`, "Authorization: Bearer "+client)
	r.done(path, "Authorization: Bearer "+client)
	a := r.get(path+"/result", "Authorization: Bearer "+client)
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatal(err)
	}
	for resource, of := range got.Resources {
		b, err := digest.Over(of.Ranges)
		if err != nil {
			t.Fatal(err)
		}
		var mine []string
		for ref := range have {
			if ref.Resource == resource {
				mine = append(mine, ref.Key)
			}
		}
		sort.Strings(mine)
		for _, key := range mine {
			content, err := entityevent.Canonicalize([]byte(have[entityevent.Ref{Resource: resource, Key: key}]))
			if err == nil {
				err = b.Add(key, content.Hash)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(of, b.Resource()); d != "" {
			t.Fatalf("%s for %s: %s", resource, client, d)
		}
	}
}

// scoped is the test of one check among many, which ends before the others begin.
type scoped struct {
	testing.TB
	ends []func()
}

func (s *scoped) Cleanup(f func()) { s.ends = append(s.ends, f) }

func (s *scoped) TempDir() string {
	dir, err := os.MkdirTemp(s.TB.TempDir(), "check")
	if err != nil {
		s.Fatal(err)
	}
	return dir
}

func (s *scoped) end() {
	for _, f := range slices.Backward(s.ends) {
		f()
	}
}
