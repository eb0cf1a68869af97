package producer

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/odata"
)

// expansion is one navigation of $expand or of a path, bound.
type expansion struct {
	link   metadata.Link
	from   string     // the resource that it leads from
	parent odata.Kind // of what link.ParentField holds
	guid   bool       // the keys of what it leads to are Guids
	opaque bool       // it is declared, and nothing says how to follow it
	*reading
}

// expansion binds a link of a resource to what is read by it.
func (b *binder) expansion(from string, l metadata.Link, r *reading) expansion {
	e := expansion{link: l, from: from, parent: odata.String, reading: r}
	if scope := b.model.Scope(l.Target); scope != nil {
		if t, ok := scope.Field(l.ParentField); ok && t.Kind != odata.Untyped {
			e.parent = t.Kind
		}
		key, _ := scope.Field(r.key)
		e.guid = key.Kind == odata.Guid
	}
	_, declared := b.model.Link(from, l.Name)
	e.opaque = declared && !l.Followed()
	return e
}

// belonging asks for the records to which the link leads from those that have the keys.
func (e expansion) belonging(filter odata.Expr, keys []string) entityevent.Query {
	q := e.query()
	q.Filter = filter
	if e.link.Owned {
		for _, key := range keys {
			for _, key := range spellings(key, e.parent == odata.Guid) {
				q.Parents = append(q.Parents, entityevent.Ref{Resource: e.from, Key: key})
			}
		}
		return q
	}
	var values []odata.Literal
	for _, key := range keys {
		if l, ok := odata.ParseLiteral(key, e.parent); ok {
			values = append(values, l)
		}
	}
	terms := odata.Conjunction{odata.Membership{Left: odata.Field{Path: e.link.ParentField, Of: odata.Type{Kind: e.parent}}, Values: values}}
	if e.link.ParentResourceField != "" {
		terms = append(terms, odata.Comparison{
			Left: odata.Field{Path: e.link.ParentResourceField, Of: odata.Type{Kind: odata.String}}, Op: odata.Eq,
			Right: odata.Literal{Kind: odata.String, Text: e.from},
		})
	}
	if filter != nil {
		terms = append(terms, filter)
	}
	if q.Filter = terms; len(terms) == 1 {
		q.Filter = terms[0]
	}
	return q
}

// alike returns a key of ours as it is compared with that of another spelling.
func (e expansion) alike(key string) string {
	if e.parent == odata.Guid {
		return strings.ToLower(key)
	}
	return key
}

// keys returns under which keys the one record may stand to which the link leads, the likeliest first.
func (e expansion) keys(owner entityevent.Record) []string {
	return spellings(entityevent.StringMember(owner.Body, e.link.Field), e.guid)
}

// spellings returns how a key may be written: a Guid is the same in any case, and the key of a record is not.
func spellings(key string, guid bool) []string {
	switch {
	case key == "":
		return nil
	case guid:
		return slices.Compact([]string{key, strings.ToLower(key), strings.ToUpper(key)})
	default:
		return []string{key}
	}
}

// holdsInline says whether a record holds itself what the link leads to, for this client.
func (x *exchange) holdsInline(e expansion, owner entityevent.Record) bool {
	return len(entityevent.Member(owner.Body, e.link.Name)) > 0 && x.client.sees(owner.Resource, e.link.Target)
}

// held returns the family that stands in a record's body, where the link leads to no record of its own. It is unknown
// where neither the record nor the metadata tell: none would be read as an answer.
func (x *exchange) held(e expansion, owner entityevent.Record) family {
	switch holds := x.holdsInline(e, owner); {
	case !holds && e.opaque:
		return family{unknown: true}
	case !holds, e.link.Many && e.filter != nil && e.link.Followed() && x.exists(e.belonging(nil, []string{owner.Key})):
		return family{}
	}
	return x.inline(e, owner)
}

// unexplained refuses what is asked of an unknown family.
func (e expansion) unexplained() error {
	return notOffered("", "It is not known how to follow "+e.link.Name+": the metadata do not say which fields of "+e.from+" and "+
		e.link.Target+" belong together (a ReferentialConstraint, of the Partner where "+e.link.Name+" is a collection)")
}

// inline returns the family that stands in a record's body: some sources know Media only so. A member that
// holds no objects is none.
func (x *exchange) inline(e expansion, owner entityevent.Record) family {
	value := entityevent.Member(owner.Body, e.link.Name)
	var elements []json.RawMessage
	switch {
	case len(value) == 0, !x.client.sees(owner.Resource, e.link.Target):
	case e.link.Many && value[0] == '[':
		_ = json.Unmarshal(value, &elements) // a stored value is JSON
	case !e.link.Many && value[0] == '{':
		elements = []json.RawMessage{value}
	}
	var f family
	for _, element := range elements {
		if element[0] == '{' && (e.filter == nil || odata.Holds(e.filter, membersOf(element))) {
			ref := entityevent.Ref{Resource: e.resource, Key: entityevent.StringMember(element, e.key)}
			f.members = append(f.members, &entity{Record: entityevent.Record{Ref: ref, Body: element}})
		}
	}
	f.count = int64(len(f.members))
	if e.order != nil {
		slices.SortStableFunc(f.members, func(a, b *entity) int { return compare(e.order, a.Body, b.Body) })
	}
	f.members = f.members[min(e.options.Skip, f.count):]
	f.members = f.members[:min(e.top, int64(len(f.members)))]
	return f
}
