package odata_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/odata/odatatest"
)

var moment = time.Date(2024, 5, 6, 10, 0, 0, 0, time.UTC)

// TestGenerated: what the generators make is read, printed and read back as the same.
func TestGenerated(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		scope := odatatest.Scope()
		text := odatatest.Filter().Draw(r, "filter")
		e, err := odata.ParseFilter(text, scope)
		if err != nil {
			r.Fatalf("%s: %v", text, err)
		}
		again, err := odata.ParseFilter(e.String(), scope)
		if err != nil || !reflect.DeepEqual(e, again) {
			r.Fatalf("%s is printed as %s and read as %v, %v", text, e, again, err)
		}
		if body := odatatest.Record().Draw(r, "record"); !json.Valid(body) {
			r.Fatalf("no JSON: %s", body)
		}
		order := odatatest.OrderBy().Draw(r, "order")
		if _, err := odata.ParseOrderBy(order, scope); err != nil {
			r.Fatalf("%s: %v", order, err)
		}
	})
}

// TestGeneratedMeets: the records meet the filters often enough for a comparison of answers to mean something.
func TestGeneratedMeets(t *testing.T) {
	const all = 2000
	holds, fails := 0, 0
	filters, records := odatatest.Filter(), odatatest.Record()
	for seed := range all {
		e, err := odata.ParseFilter(filters.Example(seed), odatatest.Scope())
		if err != nil {
			t.Fatal(err)
		}
		e = odata.At(e, moment)
		switch member := odatatest.Member(records.Example(seed)); {
		case odata.Holds(e, member):
			holds++
		case odata.Holds(odata.Negation{Term: e}, member):
			fails++
		}
	}
	if holds < all/4 || fails < all/4 || holds+fails > all*99/100 {
		t.Errorf("of %d filters %d are true and %d false", all, holds, fails)
	}
}
