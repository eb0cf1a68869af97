package producer

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// resource returns the key field of the path's resource. One that nobody knows yet may be in records
// that the schema has not looked at.
func (x *exchange) resource() (key, edmType string, err error) {
	key, edmType, ok := x.Schema.KeyField(x.path.Resource)
	if !ok {
		if err := x.Schema.Grow(x.r.Context()); err != nil {
			return "", "", err
		}
		key, edmType, ok = x.Schema.KeyField(x.path.Resource)
	}
	if !ok {
		return "", "", notFound("There is no resource " + strconv.Quote(x.path.Resource))
	}
	if x.path.KeyName != "" && x.path.KeyName != key {
		return "", "", badRequest("", "The key of "+x.path.Resource+" is "+key)
	}
	return key, edmType, nil
}

// records answers GET Property, Property('key') and Property/$count.
func (x *exchange) records() error {
	p, o := x.path, x.options
	key, edmType, err := x.resource()
	if err != nil {
		return err
	}
	if o.LastEvent != nil {
		return badRequest("last_event", "last_event is for EntityEvent")
	}
	if o.Expand != nil {
		return notOffered("$expand", "$expand is not offered")
	}
	selected, err := x.selects()
	if err != nil {
		return err
	}
	for _, field := range selected {
		if !x.Schema.Allows(p.Resource, field) {
			return badRequest("$select", p.Resource+" has no field "+field)
		}
	}
	switch {
	case p.Key != nil && len(p.Rest) > 0, len(p.Rest) > 1, len(p.Rest) == 1 && p.Rest[0] != "$count":
		return notOffered("", "Below "+p.Resource+" only $count is offered")
	case p.Key != nil:
		return x.record(*p.Key, edmType)
	}
	q := recordQuery{resource: p.Resource, key: key, ordered: quoted(edmType)}
	filter, err := x.filter()
	if err != nil {
		return err
	}
	if err := q.bind(filter); err != nil {
		return err
	}
	if len(p.Rest) == 1 {
		return x.count(q)
	}
	descending, err := x.ordered(key)
	if err != nil {
		return err
	}
	if descending {
		return notOffered("$orderby", "Descending order is not offered for records")
	}
	w, err := x.window()
	if err != nil {
		return err
	}
	return x.collection(q, w)
}

func (x *exchange) count(q recordQuery) error {
	n, err := x.countOf(q)
	if err != nil {
		return err
	}
	x.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if _, err := fmt.Fprint(x.w, n); err != nil {
		x.abort(x.r, err)
	}
	return nil
}

func (x *exchange) countOf(q recordQuery) (int64, error) {
	if q.some && len(q.keys) == 0 {
		return 0, nil
	}
	return x.Store.Count(x.r.Context(), x.view, entityevent.Query{Resource: q.resource, Keys: q.keys, After: q.after})
}

// collection answers with a page of records, in order of their keys.
func (x *exchange) collection(q recordQuery, w window) error {
	s := x.stream(http.StatusOK)
	defer s.release()
	x.context(s, "")
	if x.options.Count {
		n, err := x.countOf(q)
		if err != nil {
			return err
		}
		s.text(`,"@odata.count":` + strconv.FormatInt(n, 10))
	}
	s.text(`,"value":[`)
	n, skip, last, more := 0, w.skip, "", false
	query := entityevent.Query{Resource: q.resource, Keys: q.keys, After: max(q.after, w.from), Limit: skip + w.limit + 1}
	if w.limit > 0 && !(q.some && len(q.keys) == 0) {
		for record, err := range x.Store.Read(x.r.Context(), x.view, query) {
			if err != nil && !s.sent {
				return err
			}
			if err != nil {
				x.abort(x.r, err)
			}
			if skip > 0 {
				skip--
				continue
			}
			if more = n == w.limit; more {
				break
			}
			if n > 0 {
				s.buf = append(s.buf, ',')
			}
			s.buf = x.appendBody(s.buf, record.Body)
			s.room()
			n, last = n+1, record.Key
		}
	}
	s.text("]")
	if more {
		if next := x.next(w, n, last); next != "" {
			s.text(`,"@odata.nextLink":`)
			s.quoted(next)
		}
	}
	s.text("}")
	s.end()
	return nil
}

// appendBody appends a record: its stored text, or the members of $select.
func (x *exchange) appendBody(dst []byte, body json.RawMessage) []byte {
	selected := x.selected()
	if selected == nil {
		return append(dst, body...)
	}
	return append(appendMembers(append(dst, '{'), body, selected), '}')
}

// appendMembers appends the members of a record that are picked; nil: all.
func appendMembers(dst []byte, body json.RawMessage, picked []string) []byte {
	if picked == nil {
		return append(dst, body[1:len(body)-1]...)
	}
	start := len(dst)
	_ = entityevent.EachMember(body, func(name string, value []byte) error { // stored bodies are objects
		if slices.Contains(picked, name) {
			dst = append(append(appendString(dst, name), ':'), value...)
			dst = append(dst, ',')
		}
		return nil
	})
	if len(dst) > start {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// find reads one record.
func (x *exchange) find(ctx context.Context, key string) (entityevent.Record, error) {
	query := entityevent.Query{Resource: x.path.Resource, Keys: []string{key}}
	for record, err := range x.Store.Read(ctx, x.view, query) {
		return record, err
	}
	return entityevent.Record{}, x.absent(key)
}

func (x *exchange) absent(key string) error {
	return notFound("There is no " + x.path.Resource + " with the key " + strconv.Quote(key))
}

// record answers GET Property('key').
func (x *exchange) record(key, edmType string) error {
	o := x.options
	if o.Filter != nil || o.OrderBy != nil || o.Top != nil || o.Skip > 0 || o.Count || o.SkipToken != nil {
		return badRequest("", "One record takes no option but $select and $format")
	}
	record, err := x.find(x.r.Context(), key)
	if err != nil {
		return err
	}
	tag := etag(record.Hash)
	if asked := x.r.Header.Get("If-None-Match"); asked != "" && matches(asked, record.Hash) {
		x.w.Header().Set("ETag", tag)
		x.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	x.writeRecord(http.StatusOK, record, edmType)
	return nil
}

// writeRecord answers with a record.
func (x *exchange) writeRecord(status int, record entityevent.Record, edmType string) {
	x.w.Header().Set("ETag", etag(record.Hash))
	at := x.url(record.Key, edmType)
	s := x.stream(status)
	defer s.release()
	x.context(s, "/$entity")
	s.text(`,"@odata.id":"` + at + `"`)
	if writes(x.r.Method) {
		s.text(`,"@odata.editLink":"` + at + `"`)
	}
	s.text(`,"@odata.etag":`)
	s.quoted(etag(record.Hash))
	before := len(s.buf)
	s.text(",")
	if s.buf = appendMembers(s.buf, record.Body, x.selected()); len(s.buf) == before+1 {
		s.buf = s.buf[:before]
	}
	s.text("}")
	s.end()
}

// url returns the absolute URL of a record of the path's resource.
func (x *exchange) url(key, edmType string) string {
	return x.Root + "/" + odata.KeySegment(x.path.Resource, key, quoted(edmType))
}

func etag(h entityevent.Hash) string { return `W/"` + h.String() + `"` }

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
