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

// TestGenerated: what the generators make is read, printed and read back as the same, and evaluated.
func TestGenerated(t *testing.T) {
	holds, nulls, texts := 0, 0, 0
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
		body := odatatest.Record().Draw(r, "record")
		if !json.Valid(body) {
			r.Fatalf("no JSON: %s", body)
		}
		e = odata.At(e, time.Date(2024, 5, 6, 10, 0, 0, 0, time.UTC))
		member := odatatest.Member(body)
		if odata.Holds(e, member) {
			holds++
		}
		if !odata.Holds(e, member) && !odata.Holds(odata.Negation{Term: e}, member) {
			nulls++
		}
		order := odatatest.OrderBy().Draw(r, "order")
		if _, err := odata.ParseOrderBy(order, scope); err != nil {
			r.Fatalf("%s: %v", order, err)
		}
		texts++
	})
	if holds < texts/10 || holds > texts*9/10 || nulls == 0 {
		t.Errorf("%d of %d filters hold, %d are null: the data does not meet the filters", holds, texts, nulls)
	}
}
