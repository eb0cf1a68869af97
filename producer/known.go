package producer

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/odata"
)

// known are the resources that are there for the client, of the schema's: the log, those that its profile names, and
// those that its log names. A resource that was taken out of a profile is empty for those who have records of it: they
// are told that these changed, and that none is left proves that they are gone.
func (x *exchange) known(names []string) (map[string]bool, error) {
	known := map[string]bool{}
	others := false
	for _, name := range names {
		known[name] = x.client.knows(name)
		others = others || !known[name]
	}
	if !others {
		return known, nil
	}
	told, err := x.told.by(x)
	for name := range told {
		known[name] = true
	}
	return known, err
}

// told are the resources that logs name, by who may see them. The zero told is ready to use.
type told struct {
	mu sync.Mutex
	of map[whom]telling
}

type whom struct {
	mask  entityevent.Mask
	knows string // the resources of the profile
}

type telling struct {
	names   map[string]bool // never changed
	through entityevent.Sequence
}

// by returns the resources that the client's log names, beside those that it knows anyhow. It goes through the log once.
func (t *told) by(x *exchange) (map[string]bool, error) {
	who := whom{x.client.Mask, strings.Join(x.client.Resources, "/")}
	t.mu.Lock()
	known := t.of[who]
	t.mu.Unlock()
	for more := true; more; {
		q := entityevent.EventQuery{After: known.through, Limit: 1, Filter: others(x.client.Resources, known.names)}
		page, err := x.Store.Events(x.r.Context(), x.view, q)
		if err != nil {
			return nil, err
		}
		for _, e := range page.Events {
			known.names = maps.Clone(known.names)
			if known.names == nil {
				known.names = map[string]bool{}
			}
			known.names[e.Resource] = true
		}
		known.through, more = max(known.through, page.Through), page.More
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[whom]telling{}
	}
	if known.through >= t.of[who].through {
		t.of[who] = known
	}
	return known.names, nil
}

// others is the filter of the events of other resources than these.
func others(names []string, more map[string]bool) odata.Expr {
	var values []odata.Literal
	for _, name := range slices.Concat(names, slices.Sorted(maps.Keys(more))) {
		values = append(values, odata.Literal{Kind: odata.String, Text: name})
	}
	if values == nil {
		return nil
	}
	return odata.Negation{Term: odata.Membership{Left: odata.Field{Path: resourceField, Of: odata.Type{Kind: odata.String}}, Values: values}}
}

// part is what the client may know of the schema. It implements metadata.Part.
type part struct {
	binder    *binder
	resources map[string]bool
}

func (p part) Resource(name string) bool { return p.resources[name] }

func (p part) Member(resource, name string) bool {
	if _, link := p.binder.link(resource, name); link {
		return true
	}
	scope := p.binder.scope(resource)
	if p.binder.model.Scope(resource) == nil {
		return false
	}
	_, field := scope.Field(name)
	return field
}

var _ metadata.Part = part{}
