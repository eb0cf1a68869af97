package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/entityevent/storetest"
)

func TestAccess(t *testing.T) {
	t.Parallel()
	storetest.RunAccess(t, openConforming)
}

// TestAccessInSmallSteps: each step ends in the middle of something.
func TestAccessInSmallSteps(t *testing.T) {
	t.Parallel()
	storetest.RunAccess(t, func(t *testing.T, dir string) entityevent.Store {
		s, err := sqlite.Open(t.Context(), filepath.Join(dir, "resosync.db"), sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s.SetSteps(5, 7)
		return s
	})
}

// TestViewsOfVolatileMembers: what is no news about the content may still be about who sees it, to those alone.
func TestViewsOfVolatileMembers(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "s.db"), sqlite.Options{Volatile: map[string][]string{"Property": {"V"}}})
	masks, err := s.SetProfiles(t.Context(), []entityevent.Profile{{Name: "p", Resources: map[string]entityevent.Access{
		"Property": {Filter: filter(t, "V eq 1")}, "Media": {With: "Property"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	view := entityevent.View{Feed: "local", Mask: masks["p"]}
	told := func() (all []string) {
		p, err := s.Events(t.Context(), view, entityevent.EventQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Events {
			all = append(all, e.Ref.String())
		}
		return all
	}
	apply(t, s, put("a", `{"A":1,"V":2}`), entityevent.Change{Ref: entityevent.Ref{Resource: "Media", Key: "1"}, Body: []byte(`{"ResourceRecordKey":"a"}`)})
	for _, step := range []struct {
		body string
		want []string
	}{
		{`{"A":1,"V":3}`, nil},
		{`{"A":1,"V":1}`, []string{"Media('1')", "Property('a')"}},
		{`{"V":1,"A":1}`, []string{"Media('1')", "Property('a')"}},
		{`{"A":1,"V":2}`, []string{"Media('1')", "Property('a')", "Media('1')", "Property('a')"}},
	} {
		apply(t, s, put("a", step.body))
		if d := cmp.Diff(step.want, told()); d != "" {
			t.Fatalf("%s, want -, told +\n%s", step.body, d)
		}
	}
	p, err := s.Events(t.Context(), everyone, entityevent.EventQuery{})
	if err != nil || len(p.Events) != 2 {
		t.Errorf("%d events for all, %v", len(p.Events), err)
	}
	if done, err := s.Compact(t.Context(), entityevent.Compaction{}); err != nil || done.Events != 2 {
		t.Errorf("%+v, %v", done, err)
	}
}
