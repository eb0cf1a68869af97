package producer

import (
	"slices"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/odata"
)

// maxMerges is how often a merge that depends on the record as it is is tried.
const maxMerges = 200

// merged returns a merge as the store takes it, which replaces whole members: what a complex field's object does not name
// stays as it is (OData 4.01 Protocol, 11.4.3). It then depends on the record as it is, and is pinned to it, unless the
// request is itself. A record does not grow beyond what may be sent at once.
func (x *exchange) merged(c entityevent.Change) (change entityevent.Change, pinned bool, err error) {
	if c.Op != entityevent.Merge {
		return c, false, nil
	}
	for record, err := range x.Store.Read(x.r.Context(), x.view, entityevent.Query{Resource: c.Resource, Keys: []string{c.Key}}) {
		if err != nil {
			return c, false, err
		}
		var body []byte
		deeper := false
		_ = x.Schema.look(func(m *metadata.Schema) error {
			body, deeper, err = mergeInto(m.Scope(c.Resource), record.Body, c.Body)
			return nil
		})
		if err != nil {
			return c, false, err
		}
		if limit := x.maxBody(); int64(len(record.Body)+len(body)) > limit {
			whole, err := entityevent.MergeBodies(record.Body, body)
			if err != nil {
				return c, false, err
			}
			if int64(len(whole)) > limit {
				return c, false, tooLarge(limit)
			}
		}
		if c.Body = body; deeper && c.IfHash.IsZero() {
			c.IfHash, pinned = record.Hash, true
		}
		return c, pinned, nil
	}
	return c, false, nil
}

// mergeInto returns a patch in which the objects of complex fields are merged with those of a record, and says whether
// there are any.
func mergeInto(scope odata.Scope, record, patch []byte) (body []byte, deeper bool, err error) {
	body = patch
	err = entityevent.EachMember(patch, func(name string, value []byte) error {
		if scope == nil || value[0] != '{' {
			return nil
		}
		t, ok := scope.Field(name)
		old := entityevent.Member(record, name)
		if !ok || t.Kind != odata.Complex || t.Collection || t.Fields == nil || len(old) == 0 || old[0] != '{' {
			return nil
		}
		inner, _, err := mergeInto(t.Fields, old, value)
		if err == nil {
			inner, err = entityevent.MergeBodies(old, inner)
		}
		if err == nil {
			deeper = true
			member := slices.Concat(append(appendString([]byte{'{'}, name), ':'), inner, []byte{'}'})
			body, err = entityevent.MergeBodies(body, member)
		}
		return err
	})
	return body, deeper, err
}
