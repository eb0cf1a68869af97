package producer

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/odata"
)

// reading is what a request asks of one resource. Each name in it is known, to this client too.
type reading struct {
	resource string // "" for objects that stand in another record's body and of which nothing is known
	key      string // the name of the key field
	quoted   bool   // keys are written in quotes
	options  odata.Options
	filter   odata.Expr
	order    []odata.Order
	top      int64 // math.MaxInt64: no limit
	shape    shape
	keyless  bool // the key is not selected, so that a record does not say which it is
	expands  []expansion
}

// maxExpand is how deep expansions may stand in each other, and maxExpansions how many a request may have.
const (
	maxExpand     = 3
	maxExpansions = 20
)

// understand binds the options of the request to a resource.
func (x *exchange) understand(resource string) (r *reading, err error) {
	err = x.bound(func(b *binder) (err error) {
		r, err = b.reading(resource, b.scope(resource), x.options, 1)
		return err
	})
	return r, err
}

// bound calls bind with the schema as it is. If that refuses, or if inferred types decided, it must know every record
// that was committed before: bind is called once more if they changed it.
func (x *exchange) bound(bind func(*binder) error) error {
	var b *binder
	changes := 0
	attempt := func(m *metadata.Schema) error {
		b = &binder{exchange: x, model: m}
		changes = x.Schema.changes
		return bind(b)
	}
	refused := x.Schema.look(attempt)
	if x.Schema.Configured() || refused == nil && !b.guesses {
		return refused
	}
	if err := x.Schema.catchUp(x.r.Context()); err != nil {
		return err
	}
	return x.Schema.look(func(m *metadata.Schema) error {
		if changes == x.Schema.changes {
			return refused
		}
		return attempt(m)
	})
}

// binder reads options by a schema that does not change meanwhile.
type binder struct {
	*exchange
	model    *metadata.Schema
	expanded int
	guesses  bool // types decide that an inferred schema may still change
}

// noted is a scope that tells whether inferred types are asked for. Those of the key and of ModificationTimestamp do not
// change: who replicates by these waits for nothing.
type noted struct {
	odata.Scope
	binder *binder
	key    string
}

func (n noted) Field(name string) (odata.Type, bool) {
	n.binder.guesses = n.binder.guesses || name != n.key && name != "ModificationTimestamp"
	return n.Scope.Field(name)
}

// typed returns a scope for what compares values.
func (b *binder) typed(scope odata.Scope, key string) odata.Scope {
	if scope == nil {
		b.guesses = true
		return nil
	}
	return noted{scope, b, key}
}

func (b *binder) reading(resource string, scope odata.Scope, o odata.Options, level int) (*reading, error) {
	r := &reading{resource: resource, options: o, top: math.MaxInt64, shape: b.shape(resource)}
	var edmType string
	r.key, edmType, _ = b.Schema.keyField(resource)
	r.quoted = quoted(edmType)
	if o.Top != nil {
		r.top = *o.Top
	}
	if o.Filter != nil {
		filter, err := odata.ParseFilter(*o.Filter, b.typed(scope, r.key))
		if err != nil {
			return nil, err
		}
		r.filter = odata.At(filter, time.Now())
	}
	if o.OrderBy != nil {
		var err error
		if r.order, err = odata.ParseOrderBy(*o.OrderBy, b.typed(scope, r.key)); err != nil {
			return nil, err
		}
	}
	if o.Select != nil {
		selected, err := odata.ParseSelect(*o.Select, b.selectable(resource, scope))
		if err != nil {
			return nil, err
		}
		for _, path := range selected {
			name, _, _ := strings.Cut(path, "/") // of a complex field the whole
			if !slices.Contains(r.shape.selected, name) {
				r.shape.selected = append(r.shape.selected, name)
			}
		}
		r.keyless = r.shape.selected != nil && !slices.Contains(r.shape.selected, r.key)
	}
	if b.format.strings {
		b.guesses = true
		r.shape.strings = b.Schema.large(resource)
	}
	if o.Expand == nil {
		return r, nil
	}
	return r, b.expand(r, level)
}

// selectable is a scope with the navigations beside the fields: a record that holds its Media itself may be
// asked for them by name.
func (b *binder) selectable(resource string, scope odata.Scope) odata.Scope {
	if scope == nil {
		return nil
	}
	return navigable{scope, func(name string) bool {
		_, ok := b.link(resource, name)
		return ok
	}}
}

type navigable struct {
	odata.Scope
	leads func(name string) bool
}

func (n navigable) Field(name string) (odata.Type, bool) {
	if t, ok := n.Scope.Field(name); ok || !n.leads(name) {
		return t, ok
	}
	return odata.Type{Kind: odata.Complex}, true
}

// expand binds $expand.
func (b *binder) expand(r *reading, level int) error {
	all, err := odata.ParseExpand(*r.options.Expand, func(name string) bool {
		_, ok := b.link(r.resource, name)
		return ok
	})
	if err != nil {
		return err
	}
	if b.expanded += len(all); level > maxExpand || b.expanded > maxExpansions {
		return badRequest("$expand", "At most "+strconv.Itoa(maxExpansions)+" navigations are expanded, and no deeper than "+strconv.Itoa(maxExpand))
	}
	for _, e := range all {
		if slices.ContainsFunc(r.expands, func(other expansion) bool { return other.link.Name == e.Name }) {
			return badRequest("$expand", e.Name+" stands twice in $expand")
		}
		link, _ := b.link(r.resource, e.Name)
		if err := b.suits(link, e.Options); err != nil {
			return e.Within(err)
		}
		inner, err := b.reading(link.Target, b.inner(r.resource, link), e.Options, level+1)
		if err != nil {
			return e.Within(err)
		}
		r.expands = append(r.expands, b.expansion(r.resource, link, inner))
	}
	return nil
}

// suits refuses the options that an expansion does not have.
func (b *binder) suits(link metadata.Link, o odata.Options) error {
	if o.Skip > maxPage {
		return badRequest("$skip", "An expansion skips at most "+strconv.Itoa(maxPage)+": read "+link.Name+" of one record, and follow the nextLink")
	}
	if !link.Many && (o.Filter != nil || o.OrderBy != nil || o.Top != nil || o.Skip > 0 || o.Count) {
		return badRequest("$expand", link.Name+" is one record: it takes $select and $expand")
	}
	return nil
}

// link returns a navigation that the client may follow. One that the schema does not know as such may still
// be: records that hold others themselves.
func (b *binder) link(resource, name string) (metadata.Link, bool) {
	if slices.Contains(b.client.Hide[resource], name) {
		return metadata.Link{}, false
	}
	l, ok := b.model.Link(resource, name)
	if ok {
		return l, b.client.follows(resource, l)
	}
	if b.model.Scope(resource) == nil {
		return l, false
	}
	t, ok := b.scope(resource).Field(name)
	if !ok || t.Kind != odata.Untyped && t.Kind != odata.Complex {
		return l, false
	}
	b.guesses = true
	return metadata.Link{Name: name, Many: t.Collection, Target: b.model.Target(resource, name)}, true
}

// query is the reading as the store takes it.
func (r *reading) query() entityevent.Query {
	return entityevent.Query{Resource: r.resource, KeyField: r.key, Filter: r.filter, OrderBy: r.order}
}
