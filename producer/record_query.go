package producer

import (
	"fmt"
	"slices"

	"github.com/resosync/resosync/entityevent/odata"
)

// recordQuery is a $filter on a resource, as keys.
type recordQuery struct {
	resource string
	key      string // the name of the key field
	ordered  bool   // keys are texts, so that gt compares as the store does
	keys     []string
	some     bool   // only keys, of which there may be none
	after    string // only keys above it
}

// bind narrows the query by a filter. What is no choice of keys is not offered.
func (q *recordQuery) bind(e odata.Expr) error {
	switch e := e.(type) {
	case nil:
		return nil
	case odata.Conjunction:
		for _, term := range e {
			if err := q.bind(term); err != nil {
				return err
			}
		}
		return nil
	case odata.Comparison:
		if field, value, ok := sides(e); ok && field == q.key && e.Op == odata.Gt && q.ordered {
			if value.Kind != odata.String {
				return badRequest("$filter", q.key+" is compared with a string")
			}
			q.after = max(q.after, value.Text)
			return nil
		}
	}
	keys, err := q.keysOf(e)
	if err != nil {
		return err
	}
	if q.some {
		keys = slices.DeleteFunc(keys, func(k string) bool { return !slices.Contains(q.keys, k) })
	}
	q.keys, q.some = keys, true
	return nil
}

// keysOf reads Key eq 'a', Key in ('a','b'), or several of these with or.
func (q *recordQuery) keysOf(e odata.Expr) ([]string, error) {
	var values []odata.Literal
	switch e := e.(type) {
	case odata.Disjunction:
		var all []string
		for _, term := range e {
			some, err := q.keysOf(term)
			if err != nil {
				return nil, err
			}
			all = append(all, some...)
		}
		return all, nil
	case odata.Comparison:
		if field, value, ok := sides(e); ok && field == q.key && e.Op == odata.Eq {
			values = []odata.Literal{value}
		}
	case odata.Membership:
		if e.Left.String() == q.key {
			values = e.Values
		}
	}
	if values == nil {
		message := fmt.Sprintf("Filtering %s by %s is not offered: only %s eq, in and or", q.resource, shorten(e.String()), q.key)
		if q.ordered {
			message += ", and " + q.key + " gt"
		}
		return nil, notOffered("$filter", message)
	}
	keys := make([]string, 0, len(values))
	for _, v := range values {
		switch v.Kind {
		case odata.String, odata.Int, odata.Guid:
			keys = append(keys, v.Text)
		case odata.Null: // no key is null
		default:
			return nil, badRequest("$filter", fmt.Sprintf("%s is no key of %s", v, q.resource))
		}
	}
	return keys, nil
}

// shorten keeps a message readable.
func shorten(text string) string {
	runes := []rune(text)
	if len(runes) <= 100 {
		return text
	}
	return string(runes[:100]) + "…"
}
