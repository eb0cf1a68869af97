package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// RunAccess holds a store with profiles and compaction to entityevent.Profiles and entityevent.Compactor. The steps
// of both may be as small as the store likes.
func RunAccess(t *testing.T, open func(t *testing.T, dir string) entityevent.Store) {
	for _, part := range []struct {
		name string
		run  func(*guarded)
	}{
		{"Views", testViews},
		{"Unfiltered", testUnfiltered},
		{"VolatileViews", testViewsOfEqualContent},
		{"With", testWith},
		{"WithInOneCommit", testWithInOneCommit},
		{"WithMoves", testWithMoves},
		{"WithMany", testWithMany},
		{"WithForSome", testWithForSome},
		{"BitsForEver", testBitsForEver},
		{"ProfilesRefused", testProfilesRefused},
		{"ProfilesAfterReopen", testProfilesAfterReopen},
		{"Review", testReview},
		{"ReviewLeavesVersions", testReviewLeavesVersions},
		{"ReviewWith", testReviewWith},
		{"ReviewManyChildren", testReviewManyChildren},
		{"ReviewFeeds", testReviewFeeds},
		{"ReviewHide", testReviewHide}, {"ReviewInside", testReviewInside},
		{"ReviewInterrupted", testReviewInterrupted},
		{"ReviewWhileWriting", testReviewWhileWriting},
		{"ProfileTakenAway", testProfileTakenAway},
		{"Compact", testCompact},
		{"CompactForProfiles", testCompactForProfiles},
		{"CompactFeeds", testCompactFeeds},
		{"CompactCancelled", testCompactCancelled},
		{"CompactWhilePaging", testCompactWhilePaging},
		{"CompactAndWait", testCompactAndWait},
		{"Forget", testForget},
		{"ForgetComesBack", testForgetComesBack},
		{"ForgetWhileWriting", testForgetWhileWriting},
		{"ForgetNothingElse", testForgetNothingElse},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(newGuarded(newBox(t, open, t.TempDir()))) })
	}
	t.Run("Model", func(t *testing.T) { testAccessModel(t, open) })
}

// guarded is a box whose store has profiles.
type guarded struct {
	*box
	masks map[string]entityevent.Mask // of the profiles set last
}

func newGuarded(b *box) *guarded { return &guarded{box: b} }

// rules are what a profile shows, by resource: a filter, "all", or "with Property".
type rules map[string]string

func profile(name string, r rules, hide ...string) entityevent.Profile {
	p := entityevent.Profile{Name: name, Resources: map[string]entityevent.Access{}}
	for resource, rule := range r {
		var a entityevent.Access
		if with, ok := strings.CutPrefix(rule, "with "); ok {
			a.With = with
		} else if rule != "all" {
			filter, err := odata.ParseFilter(rule, nil)
			if err != nil {
				panic(err)
			}
			a.Filter = filter
		}
		if resource == "Property" {
			a.Hide = hide
		}
		p.Resources[resource] = a
	}
	return p
}

// active is the profile that most tests use: listings of S 1, and their media.
func active(name string) entityevent.Profile {
	return profile(name, rules{"Property": "S eq 1", "Media": "with Property"})
}

func (b *guarded) trySet(profiles ...entityevent.Profile) error {
	b.Helper()
	store := b.Store.(entityevent.Profiles)
	planned, _, planErr := store.PlanProfiles(b.Context(), profiles)
	masks, err := store.SetProfiles(b.Context(), profiles)
	b.equal("planned error", planErr != nil, err != nil)
	if err == nil {
		b.masks = masks
		b.equal("planned masks", planned, masks)
		_, changed, _ := store.PlanProfiles(b.Context(), profiles)
		b.equal("what is left to change", changed, false)
	}
	return err
}

func (b *guarded) set(profiles ...entityevent.Profile) {
	b.Helper()
	if err := b.trySet(profiles...); err != nil {
		b.Fatalf("set profiles: %v", err)
	}
	if len(b.masks) != len(profiles) {
		b.Fatalf("masks %v of %d profiles", b.masks, len(profiles))
	}
}

// step takes one step of the review.
func (b *guarded) step() (more bool) {
	b.Helper()
	more, err := b.Store.(entityevent.Profiles).Review(b.Context())
	if err != nil {
		b.Fatalf("review: %v", err)
	}
	return more
}

func (b *guarded) review() (steps int) {
	b.Helper()
	for steps = 1; b.step(); steps++ {
	}
	return steps
}

func (b *guarded) compact(c entityevent.Compaction) entityevent.Compacted {
	b.Helper()
	done, err := b.Store.(entityevent.Compactor).Compact(b.Context(), c)
	if err != nil {
		b.Fatalf("compact: %v", err)
	}
	return done
}

func (b *guarded) view(name string) entityevent.View {
	b.Helper()
	if name == "" {
		return everyone(feed)
	}
	m, ok := b.masks[name]
	if !ok || m&entityevent.Everyone != 0 {
		b.Fatalf("no mask of %s in %v", name, b.masks)
	}
	return entityevent.View{Feed: feed, Mask: m}
}

// told returns the records that events after a position name to a profile; "": to who has none.
func (b *guarded) told(name string, after entityevent.Sequence) []string {
	b.Helper()
	refs := []string{}
	for {
		p := b.page(b.view(name), entityevent.EventQuery{After: after, Limit: 50})
		for _, e := range p.Events {
			refs = append(refs, e.Ref.String())
		}
		if !p.More {
			return refs
		}
		after = p.Through
	}
}

func (b *guarded) head() entityevent.Sequence {
	return b.page(everyone(feed), entityevent.EventQuery{}).Head
}

// news calls do and wants these events of it for a profile, in this order.
func (b *guarded) news(name string, do func(), want ...string) {
	b.Helper()
	after := b.head()
	do()
	b.equal("news for "+name, b.told(name, after), append([]string{}, want...))
}

// sees returns the records that a profile may read.
func (b *guarded) sees(name string) []string {
	b.Helper()
	refs := []string{}
	for _, resource := range []string{"Property", "Media", "Member"} {
		q := entityevent.Query{Resource: resource}
		n, err := b.Count(b.Context(), b.view(name), q)
		if err != nil {
			b.Fatal(err)
		}
		for r, err := range b.Read(b.Context(), b.view(name), q) {
			if err != nil {
				b.Fatal(err)
			}
			n--
			refs = append(refs, r.Ref.String())
		}
		b.equal("count of "+resource, n, int64(0))
	}
	return refs
}

func (b *guarded) wantSees(name string, want ...string) {
	b.Helper()
	b.equal(name+" sees", b.sees(name), append([]string{}, want...))
}

func media(key, parent string) entityevent.Change {
	return entityevent.Change{Ref: entityevent.Ref{Resource: "Media", Key: key},
		Body: json.RawMessage(fmt.Sprintf(`{"ResourceRecordKey":%q}`, parent))}
}

func member(key, body string) entityevent.Change {
	return entityevent.Change{Ref: entityevent.Ref{Resource: "Member", Key: key}, Body: json.RawMessage(body)}
}

func gone(ref entityevent.Ref) entityevent.Change {
	return entityevent.Change{Ref: ref, Op: entityevent.Remove}
}

// reader is a client that follows its feed, as one does over HTTP.
type reader struct {
	*guarded
	name  string
	view  entityevent.View
	after entityevent.Sequence
	chain time.Time // when it began at 0, until it comes to the end
	has   map[entityevent.Ref]string
	told  map[entityevent.Ref]bool
}

func (b *guarded) reader(name string) *reader {
	return &reader{guarded: b, name: name, view: b.view(name), has: map[entityevent.Ref]string{}, told: map[entityevent.Ref]bool{}}
}

// page reads the next page and what its events name, and says whether more follows.
func (r *reader) page(ctx context.Context, limit int) (more bool, err error) {
	if r.after == 0 {
		r.chain = time.Now()
	}
	p, err := r.Events(ctx, r.view, entityevent.EventQuery{After: r.after, Limit: limit})
	if err != nil {
		return false, err
	}
	if r.chain.IsZero() && r.after < p.Floor { // it begins anew
		r.after, r.has = 0, map[entityevent.Ref]string{}
		return true, nil
	}
	for _, e := range p.Events {
		if e.Sequence <= r.after {
			return false, fmt.Errorf("%s: event %d after %d", r.name, e.Sequence, r.after)
		}
		r.after = e.Sequence
		r.told[e.Ref] = true
		delete(r.has, e.Ref)
		for record, err := range r.Read(ctx, r.view, entityevent.Query{Resource: e.Resource, Keys: []string{e.Key}}) {
			if err != nil {
				return false, err
			}
			r.has[e.Ref] = string(record.Body)
		}
	}
	if p.Through < r.after {
		return false, errors.New("a page that looked less far than its events")
	}
	if r.after = p.Through; !p.More {
		r.chain = time.Time{}
	}
	return p.More, nil
}

// catchUp reads to the end and wants the reader to have what it may see.
func (r *reader) catchUp(limit int) {
	r.Helper()
	for more := true; more; {
		var err error
		if more, err = r.page(r.Context(), limit); err != nil {
			r.Fatal(err)
		}
	}
	r.equal(r.name+" has", r.has, r.may())
}

// may returns what a reader may see.
func (r *reader) may() map[entityevent.Ref]string {
	r.Helper()
	all := map[entityevent.Ref]string{}
	for _, resource := range []string{"Property", "Media", "Member"} {
		for record, err := range r.Read(r.Context(), r.view, entityevent.Query{Resource: resource}) {
			if err != nil {
				r.Fatal(err)
			}
			all[record.Ref] = string(record.Body)
		}
	}
	return all
}

// everyEvent returns the log as it stands, whoever it is for.
func (b *guarded) everyEvent(feed string) []entityevent.Event {
	b.Helper()
	p := b.page(entityevent.View{Feed: feed, Mask: -1}, entityevent.EventQuery{Limit: 100_000})
	return slices.Clip(p.Events)
}
