package producer_test

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// askedEvents keeps what was asked of the log last.
type askedEvents struct {
	entityevent.Store
	last entityevent.EventQuery
}

func (a *askedEvents) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	a.last = q
	return a.Store.Events(ctx, v, q)
}

// TestEventSpans: where the log is read does not depend on the form of the filter.
func TestEventSpans(t *testing.T) {
	t.Parallel()
	store := &askedEvents{Store: openStore(t, t.TempDir())}
	s := serve(t, store, nil)
	s.putMany("Property", "ListingKey", "1", "2")
	for filter, want := range map[string][2]int{ // after, before
		"EntityEventSequence gt 5":                                    {5, 0},
		"not (EntityEventSequence le 5)":                              {5, 0},
		"not (EntityEventSequence lt 5)":                              {4, 0},
		"not not (EntityEventSequence gt 5)":                          {5, 0},
		"EntityEventSequence gt 5 or EntityEventSequence gt 9":        {5, 0},
		"EntityEventSequence gt 9 or EntityEventSequence ge 6":        {5, 0},
		"EntityEventSequence gt 5.5 or EntityEventSequence ge 6.5":    {5, 0},
		"EntityEventSequence lt 9 or EntityEventSequence le 5":        {0, 9},
		"not (EntityEventSequence gt 5 or EntityEventSequence gt 9)":  {0, 6},
		"not (EntityEventSequence le 5 and EntityEventSequence le 9)": {5, 0},
		"EntityEventSequence eq 6 or EntityEventSequence in (9,8)":    {5, 10},
		"not (EntityEventSequence ne 6)":                              {5, 7},
		"EntityEventSequence lt 0 or EntityEventSequence gt 5":        {5, 0},
		"(EntityEventSequence gt 5 and ResourceName eq 'Property') or (EntityEventSequence gt 7 and ResourceName eq 'Media')":   {5, 0},
		"(EntityEventSequence gt 5 and EntityEventSequence le 9 or EntityEventSequence eq 7) and not (ResourceName eq 'Media')": {5, 10},
		"EntityEventSequence gt 3 and (EntityEventSequence gt 5 or ResourceName eq 'Media')":                                    {3, 0},
		"EntityEventSequence gt 5 or ResourceName eq 'Property'":                                                                {0, 0},
		"not (EntityEventSequence le 5 and ResourceName eq 'Property')":                                                         {0, 0},
		"EntityEventSequence gt 5 or EntityEventSequence in (9,null)":                                                           {0, 0},
		"EntityEventSequence gt 5 or not (EntityEventSequence in (9,10))":                                                       {0, 0},
		"not (EntityEventSequence gt null) or EntityEventSequence gt 5":                                                         {0, 0},
		"EntityEventSequence gt 5 or true":                                                                                      {0, 0},
	} {
		s.get("/EntityEvent?$filter="+url.QueryEscape(filter)).want(t, 200)
		if got := [2]int{int(store.last.After), int(store.last.Before)}; got != want {
			t.Errorf("%s: read after %d and before %d, want %d and %d", filter, got[0], got[1], want[0], want[1])
		}
	}
}

// TestEventSpansLoseNothing: any filter by the sequence finds what it says.
func TestEventSpansLoseNothing(t *testing.T) {
	t.Parallel()
	s := inferred(t)
	const events = 6
	for i := range events {
		s.put([]string{"Property", "Media"}[i%2], strconv.Itoa(i), `{"X":1}`)
	}
	all := s.get("/EntityEvent").page(t).Value
	scope := odata.Fields{"EntityEventSequence": {Kind: odata.Int}, "ResourceName": {Kind: odata.String}}
	var condition func(r *rapid.T, depth int) string
	condition = func(r *rapid.T, depth int) string {
		switch n := rapid.IntRange(0, 7).Draw(r, "form"); {
		case n < 4 && depth > 0:
			return "(" + condition(r, depth-1) + []string{" and ", " or "}[n%2] + condition(r, depth-1) + ")"
		case n == 4 && depth > 0:
			return "not (" + condition(r, depth-1) + ")"
		case n == 5:
			return "ResourceName eq 'Property'"
		case n == 6:
			return fmt.Sprintf("EntityEventSequence in (%d,%d)", rapid.IntRange(-1, events+1).Draw(r, "number"), rapid.IntRange(0, events).Draw(r, "number"))
		}
		value := rapid.SampledFrom([]string{"-1", "0", "0.5", "1", "2", "2.5", "3.0", "4", "5", "6", "7", "null"}).Draw(r, "value")
		return "EntityEventSequence " + rapid.SampledFrom([]string{"eq", "ne", "gt", "ge", "lt", "le"}).Draw(r, "operator") + " " + value
	}
	rapid.Check(t, func(r *rapid.T) {
		text := condition(r, 3)
		e, err := odata.ParseFilter(text, scope)
		if err != nil {
			r.Fatal(err)
		}
		var want []string
		for _, event := range all {
			if odata.Holds(e, func(name string) []byte { return event[name] }) {
				want = append(want, string(event["EntityEventSequence"]))
			}
		}
		target := "/EntityEvent?$filter=" + url.QueryEscape(text)
		if got := s.get(target).page(t).column("EntityEventSequence"); got != strings.Join(want, " ") {
			r.Fatalf("%s: %s, want %v", text, got, want)
		}
	})
}
