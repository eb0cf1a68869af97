package producer

import (
	"slices"

	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/odata"
)

// limited says that there is something that the client does not see of the records that it may read.
func (c Client) limited() bool { return c.Profile != "" || len(c.Hide) > 0 }

// knows says whether a resource is there for the client. The log always is, and so are objects that are no records.
func (c Client) knows(resource string) bool {
	return c.Profile == "" || resource == "" || resource == eventResource || slices.Contains(c.Resources, resource)
}

// sees says whether the client sees records of a resource where they stand in those of another. A record in
// another's body cannot be judged by the filter of its own resource.
func (c Client) sees(within, resource string) bool {
	if c.Profile == "" || resource == "" {
		return true
	}
	parent, ok := c.Inline[resource]
	return ok && (parent == "" || parent == within)
}

// follows says whether the client may follow a link of a resource: to one that it knows, and to follow it tells what
// the fields hold.
func (c Client) follows(resource string, l metadata.Link) bool {
	hides := func(resource, field string) bool { return slices.Contains(c.Hide[resource], field) }
	return c.knows(l.Target) && !hides(resource, l.Field) && !hides(l.Target, l.ParentField) && !hides(l.Target, l.ParentResourceField)
}

// inner returns the resource whose records may stand in a member, and whether the client may see them there.
func (c Client) inner(m *metadata.Schema, resource, member string) (target string, shown bool) {
	target = m.Target(resource, member)
	l, _ := m.Link(resource, member)
	return target, c.sees(resource, target) && !slices.Contains(c.Hide[resource], l.Field)
}

// sight is a scope without what a client does not know, at any depth.
type sight struct {
	scope    odata.Scope // nil: nothing is known, and every name is a field
	resource string      // "": of an object that is no record
	*binder
}

func (s *sight) Field(name string) (odata.Type, bool) {
	t, ok := odata.Type{}, true
	if s.scope != nil {
		t, ok = s.scope.Field(name)
	}
	switch {
	case !ok, slices.Contains(s.client.Hide[s.resource], name):
		return odata.Type{}, false
	case t.Kind != odata.Untyped && t.Kind != odata.Complex:
		return t, true
	}
	target, shown := s.client.inner(s.model, s.resource, name)
	if !shown {
		return odata.Type{}, false
	}
	s.guesses = s.guesses || target == "" // records of a resource of this name may come
	t.Fields = &sight{t.Fields, target, s.binder}
	return t, true
}

func (s *sight) Enum(name string) (*odata.Enum, bool) {
	if s.scope == nil {
		return nil, false
	}
	return s.scope.Enum(name)
}

// open is a scope in which what is not known is a field all the same.
type open struct{ odata.Scope }

func (o open) Field(name string) (odata.Type, bool) {
	t, _ := o.Scope.Field(name)
	return t, true
}

// scope returns what the names in a request mean to the client: nil if every name is a field. Of a resource that its
// profile does not name, an inferred schema would tell what fields hidden records have.
func (b *binder) scope(resource string) odata.Scope {
	if !b.client.knows(resource) && !b.Schema.Configured() {
		key, _, _ := b.Schema.keyField(resource)
		return b.limit(open{odata.Fields{key: {Kind: odata.String}, "ModificationTimestamp": {Kind: odata.DateTimeOffset}}}, resource)
	}
	return b.limit(b.model.Scope(resource), resource)
}

// inner returns the scope of what a link leads to. Records that stand in others may have fields that those of
// their own have not.
func (b *binder) inner(resource string, l metadata.Link) odata.Scope {
	target := b.model.Scope(l.Target)
	var held odata.Type
	ok := false
	if own := b.model.Scope(resource); own != nil {
		held, ok = own.Field(l.Name)
	}
	switch {
	case !ok || held.Kind != odata.Untyped && held.Kind != odata.Complex:
	case l.Followed() && target != nil:
		target = open{target}
	default:
		target = held.Fields
	}
	return b.limit(target, l.Target)
}

func (b *binder) limit(scope odata.Scope, resource string) odata.Scope {
	if !b.client.limited() {
		return scope
	}
	return &sight{scope, resource, b}
}
