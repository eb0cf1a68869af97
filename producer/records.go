package producer

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

const maxSkip = 100_000 // records that a $skip passes over

// resource returns the key field of the path's resource. One that nobody knows yet may be in records
// that the schema has not looked at.
func (x *exchange) resource() (key, edmType string, err error) {
	key, edmType, ok := x.Schema.KeyField(x.path.Resource)
	if !ok {
		if err := x.Schema.catchUp(x.r.Context()); err != nil {
			return "", "", err
		}
		key, edmType, ok = x.Schema.KeyField(x.path.Resource)
	}
	if ok && !x.client.knows(x.path.Resource) && !x.Schema.public(x.path.Resource) {
		known, err := x.known([]string{x.path.Resource})
		if err != nil {
			return "", "", err
		}
		ok = known[x.path.Resource]
	}
	if !ok {
		return "", "", notFound("There is no resource " + strconv.Quote(x.path.Resource))
	}
	if x.path.KeyName != "" && x.path.KeyName != key {
		return "", "", badRequest("", "The key of "+x.path.Resource+" is "+key)
	}
	return key, edmType, nil
}

// records answers GET Property, Property('key'), Property/$count and what lies below a record.
func (x *exchange) records() error {
	p := x.path
	if _, _, err := x.resource(); err != nil {
		return err
	}
	if x.options.LastEvent != nil {
		return badRequest("last_event", "last_event is for EntityEvent")
	}
	if err := x.secretTags(); err != nil {
		return err
	}
	if p.Key != nil && len(p.Rest) > 0 {
		return x.navigate(*p.Key, p.Rest)
	}
	r, err := x.understand(p.Resource)
	switch {
	case err != nil:
		return err
	case p.Key != nil:
		return x.record(r, *p.Key)
	case len(p.Rest) == 0:
		return x.collection(r, r.query())
	case len(p.Rest) == 1 && p.Rest[0] == "$count":
		return x.count(r.query())
	}
	return notFound("Below " + p.Resource + " there is nothing but $count, and what lies below one record")
}

func (x *exchange) count(q entityevent.Query) error {
	n, err := x.Store.Count(x.r.Context(), x.view, q)
	if err != nil {
		return err
	}
	return x.writeCount(n)
}

// collection answers with a page of records.
func (x *exchange) collection(r *reading, q entityevent.Query) error {
	w, err := x.window()
	if err != nil {
		return err
	}
	ctx := x.r.Context()
	s := x.stream(http.StatusOK)
	defer s.release()
	x.begin(s, r.resource+x.selectList(r))
	if x.options.Count {
		n, err := x.Store.Count(ctx, x.view, q)
		if err != nil {
			return err
		}
		s.member("@odata.count")
		s.buf = x.appendInt(s.buf, n)
	}
	if w.from != "" {
		if q.From, q.OrderBy, err = toPlace(w.from, r.order); err != nil {
			return err
		}
	}
	s.member("value")
	s.text("[")
	q.Skip, q.Limit = w.skip, w.limit+1
	next := ""
	if w.limit > 0 {
		if next, err = x.writePage(s, r, q, w); err != nil {
			return err
		}
	}
	s.text("]")
	if next != "" {
		s.member("@odata.nextLink")
		s.quoted(next)
	}
	s.text("}")
	s.end()
	return nil
}

// writePage writes the records of a page, and returns the URL of the next. It returns an error only if nothing
// was sent yet.
func (x *exchange) writePage(s *stream, r *reading, q entityevent.Query, w window) (next string, err error) {
	n, size, first := 0, 0, true
	var last entityevent.Record
	var group []*entity
	write := func(e *entity) {
		if !first {
			s.buf = append(s.buf, ',')
		}
		first = false
		s.buf = x.appendEntity(s.buf, r, e)
		s.room()
	}
	failed := func(err error) error {
		if s.sent {
			x.abort(x.r, err)
		}
		return err
	}
	one := &entity{}
	for record, err := range x.Store.Read(x.r.Context(), x.view, q) {
		if err != nil {
			return "", failed(err)
		}
		if n == w.limit {
			next = x.next(w, n, fromPlace(q, last))
			break
		}
		n, last = n+1, record
		if len(r.expands) == 0 {
			one.Record = record
			write(one)
			continue
		}
		group = append(group, &entity{Record: record})
		if size += len(record.Body); len(group) < expandRecords && size < expandBytes {
			continue
		}
		if err := x.expanded(x.r.Context(), r, group, write); err != nil {
			return "", failed(err)
		}
		group, size = nil, 0
	}
	if err := x.expanded(x.r.Context(), r, group, write); err != nil {
		return "", failed(err)
	}
	return next, nil
}

// find reads one record of the path's resource.
func (x *exchange) find(ctx context.Context, key string) (entityevent.Record, error) {
	query := entityevent.Query{Resource: x.path.Resource, Keys: []string{key}}
	for record, err := range x.Store.Read(ctx, x.view, query) {
		return record, err
	}
	return entityevent.Record{}, x.absent(key)
}

func (x *exchange) absent(key string) error { return absent(x.path.Resource, key) }

func absent(resource, key string) error {
	return notFound("There is no " + resource + " with the key " + strconv.Quote(key))
}

// record answers with one record.
func (x *exchange) record(r *reading, key string) error {
	o := x.options
	if o.Filter != nil || o.OrderBy != nil || o.Top != nil || o.Skip > 0 || o.Count || o.SkipToken != nil {
		return badRequest("", "One record takes no option but $select, $expand and $format")
	}
	ctx := x.r.Context()
	for record, err := range x.Store.Read(ctx, x.view, entityevent.Query{Resource: r.resource, Keys: []string{key}}) {
		if err != nil {
			return err
		}
		return x.answer(ctx, r, record)
	}
	return absent(r.resource, key)
}

// answer answers with a record, if it is not the one that the client has.
func (x *exchange) answer(ctx context.Context, r *reading, record entityevent.Record) error {
	if asked := x.r.Header.Get("If-Match"); asked != "" && !matches(asked, x.tag(record.Hash)) {
		return stale("If-Match")
	}
	// The tag is the record's alone: what is expanded may have changed.
	if asked := x.r.Header.Get("If-None-Match"); asked != "" && r.expands == nil && matches(asked, x.tag(record.Hash)) {
		x.w.Header().Set("ETag", etag(x.tag(record.Hash)))
		x.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	e := &entity{Record: record}
	return x.expanded(ctx, r, []*entity{e}, func(e *entity) { x.writeEntity(http.StatusOK, r, e) })
}

// writeRecord answers a write with the record.
func (x *exchange) writeRecord(status int, record entityevent.Record, edmType string) {
	r := &reading{resource: record.Resource, quoted: quoted(edmType), shape: x.shape(record.Resource)}
	if x.format.strings {
		r.shape.strings = x.Schema.large(record.Resource)
	}
	x.writeEntity(status, r, &entity{Record: record})
}

func (x *exchange) writeEntity(status int, r *reading, e *entity) {
	s := x.stream(status)
	defer s.release()
	context := r.resource + x.selectList(r) + "/$entity"
	if r.resource == "" {
		context = "Edm.Untyped"
	}
	x.begin(s, context)
	if !e.Hash.IsZero() {
		x.w.Header().Set("ETag", etag(x.tag(e.Hash)))
	}
	if !x.format.bare() && !e.Hash.IsZero() {
		at := x.Root + "/" + odata.KeySegment(r.resource, e.Key, r.quoted)
		s.member("@odata.id")
		s.quoted(at)
		if writes(x.r.Method) {
			s.member("@odata.editLink")
			s.quoted(at)
		}
		s.member("@odata.etag")
		s.buf = appendTag(s.buf, x.tag(e.Hash))
	}
	s.buf = append(x.appendContent(s.buf, r, e), '}')
	s.end()
}

// url returns the absolute URL of a record of the path's resource.
func (x *exchange) url(key, edmType string) string {
	return x.Root + "/" + odata.KeySegment(x.path.Resource, key, quoted(edmType))
}

// tags reads a list of entity tags; weak and strong ones are alike here.
func tags(list string) []string {
	var all []string
	for tag := range strings.SplitSeq(list, ",") {
		all = append(all, strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`))
	}
	return all
}

// matches says whether a list of entity tags has this record's, compared weakly.
func matches(list string, h entityevent.Hash) bool {
	return strings.TrimSpace(list) == "*" || slices.Contains(tags(list), h.String())
}
