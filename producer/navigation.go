package producer

import (
	"net/http"
	"strconv"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
)

// navigate answers GET Property('key')/Media, /Media/$count and /ListAgent.
func (x *exchange) navigate(key string, rest []string) error {
	p := x.path
	var link metadata.Link
	var e expansion
	counts := false
	err := x.bound(func(b *binder) (err error) {
		if link, err = b.below(p.Resource, rest[0]); err != nil {
			return err
		}
		counts = len(rest) == 2 && rest[1] == "$count" && link.Many
		if len(rest) > 1 && !counts {
			return notFound("Below " + link.Name + " of a record there is nothing but $count")
		}
		r, err := b.reading(link.Target, b.inner(p.Resource, link), x.options, 1)
		if err == nil {
			e = b.expansion(p.Resource, link, r)
		}
		return err
	})
	if err != nil {
		return err
	}
	owner, err := x.find(x.r.Context(), key)
	if err != nil {
		return err
	}
	if !link.Many {
		return x.other(e, owner)
	}
	if link.Followed() && (!x.holdsInline(e, owner) || x.exists(e.belonging(nil, []string{key}))) {
		q := e.belonging(e.filter, []string{key})
		if counts {
			return x.count(q)
		}
		return x.collection(e.reading, q)
	}
	return x.inlined(e, owner, counts)
}

// below returns the link that a path follows.
func (b *binder) below(resource, name string) (metadata.Link, error) {
	link, ok := b.link(resource, name)
	if ok {
		return link, nil
	}
	if b.model.Scope(resource) != nil {
		if _, ok := b.scope(resource).Field(name); ok {
			return link, notOffered("", "A single field of a record is not offered: read the record with $select="+name)
		}
	}
	return link, notFound(resource + " leads to nothing called " + strconv.Quote(name))
}

// other answers with the one record to which a link leads: 204 if it leads to none.
func (x *exchange) other(e expansion, owner entityevent.Record) error {
	f := x.held(e, owner)
	if f.unknown {
		return e.unexplained()
	}
	if e.link.Followed() {
		keys := e.keys(owner)
		for i, key := range keys {
			last := i == len(keys)-1
			if last && len(f.members) == 0 || x.exists(entityevent.Query{Resource: e.link.Target, Keys: []string{key}}) {
				return x.record(e.reading, key)
			}
		}
	}
	if len(f.members) == 0 {
		x.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return x.expanded(x.r.Context(), e.reading, f.members, func(m *entity) { x.writeEntity(http.StatusOK, e.reading, m) })
}

// exists says whether a query finds a record.
func (x *exchange) exists(q entityevent.Query) bool {
	q.Limit = 1
	for _, err := range x.Store.Read(x.r.Context(), x.view, q) {
		return err == nil
	}
	return false
}

// inlined answers with the records that stand in the body of their owner.
func (x *exchange) inlined(e expansion, owner entityevent.Record, counts bool) error {
	f := x.held(e, owner)
	if f.unknown {
		return e.unexplained()
	}
	if counts {
		return x.writeCount(f.count)
	}
	s := x.stream(http.StatusOK)
	defer s.release()
	context := e.resource + x.selectList(e.reading)
	if e.resource == "" {
		context = "Collection(Edm.Untyped)"
	}
	x.begin(s, context)
	if e.options.Count {
		s.member("@odata.count")
		s.buf = x.appendInt(s.buf, f.count)
	}
	s.member("value")
	s.text("[")
	first := true
	err := x.expanded(x.r.Context(), e.reading, f.members, func(m *entity) {
		if !first {
			s.buf = append(s.buf, ',')
		}
		first = false
		s.buf = x.appendEntity(s.buf, e.reading, m)
		s.room()
	})
	if err != nil {
		if s.sent {
			x.abort(x.r, err)
		}
		return err
	}
	s.text("]}")
	s.end()
	return nil
}
