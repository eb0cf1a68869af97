package producer

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// What one step of expanding reads.
const (
	expandRecords = 100     // parents whose children are read together
	expandBytes   = 1 << 20 // of these parents; then they are fewer
	expandMost    = 1000    // children of one parent; then a nextLink
	expandCrowd   = 10_000  // children read together; then the parents are fewer
)

// entity is a record with what was expanded.
type entity struct {
	entityevent.Record
	families []family // one for each expansion
}

// family is what one navigation of one record leads to.
type family struct {
	members []*entity
	count   int64 // of those that match, also beyond $skip, $top and the bound
	more    bool  // a nextLink leads to the others
	unknown bool  // nothing says whether there are any
}

// errCrowd says that less must be expanded at once. Whoever gets it nests expansions in what stands in bodies.
var errCrowd = fmt.Errorf("%w $expand: it leads to too many records", entityevent.ErrInvalid)

// expanded fills the families of records, and calls each with those that are filled. As many records as
// possible are expanded together, with one query for each navigation.
func (x *exchange) expanded(ctx context.Context, r *reading, all []*entity, each func(*entity)) error {
	err := x.expand(ctx, r, all, expandMost)
	for most := expandMost / 10; most > 0 && len(all) == 1 && errors.Is(err, errCrowd); most /= 10 {
		err = x.expand(ctx, r, all, most)
	}
	if half := len(all) / 2; half > 0 && errors.Is(err, errCrowd) {
		if err := x.expanded(ctx, r, all[:half], each); err != nil {
			return err
		}
		return x.expanded(ctx, r, all[half:], each)
	}
	if err != nil {
		return err
	}
	for _, e := range all {
		each(e)
	}
	return nil
}

// expand fills the families of records, each of at most so many.
func (x *exchange) expand(ctx context.Context, r *reading, all []*entity, most int) error {
	for _, e := range all {
		e.families = make([]family, len(r.expands))
	}
	for i, e := range r.expands {
		var found []*entity
		var err error
		switch {
		case len(all) == 0 || !e.link.Followed():
		case e.link.Many:
			found, err = x.children(ctx, r, i, all, most)
		default:
			found, err = x.others(ctx, i, e, all)
		}
		if err != nil {
			return err
		}
		for _, owner := range all {
			f := &owner.families[i]
			if len(f.members) > 0 || f.count > 0 {
				continue
			}
			*f = x.held(e, owner.Record)
			found = append(found, f.members...)
		}
		if len(e.expands) > 0 {
			if err := x.expand(ctx, e.reading, found, most); err != nil {
				return err
			}
		}
	}
	return nil
}

// children reads what belongs to all these records, in one query.
func (x *exchange) children(ctx context.Context, r *reading, i int, all []*entity, most int) ([]*entity, error) {
	e := r.expands[i]
	keys := make([]string, len(all))
	families := make(map[string]*family, len(all))
	for n, owner := range all {
		keys[n] = owner.Key
		families[e.alike(owner.Key)] = &owner.families[i]
	}
	q := e.belonging(e.filter, keys)
	limit, skip := int(min(int64(most), e.top)), e.options.Skip
	q.Limit = expandCrowd + 1
	if len(all) == 1 {
		q.Limit = int(skip) + limit + 1
	}
	var found []*entity
	n := 0
	for record, err := range x.Store.Read(ctx, x.view, q) {
		if err != nil {
			return nil, err
		}
		if n++; len(all) > 1 && n > expandCrowd {
			return nil, errCrowd
		}
		f := families[e.alike(entityevent.StringMember(record.Body, e.link.ParentField))]
		if f == nil {
			continue // it moved to another parent while it was read
		}
		switch f.count++; {
		case f.count <= skip:
		case len(f.members) == limit:
			f.more = e.top > int64(limit)
		default:
			child := &entity{Record: record}
			f.members = append(f.members, child)
			found = append(found, child)
		}
	}
	if len(all) == 1 && e.options.Count && n == q.Limit {
		var err error
		all[0].families[i].count, err = x.Store.Count(ctx, x.view, q)
		return found, err
	}
	return found, nil
}

// others reads the records whose keys stand in fields of all these records, in one query.
func (x *exchange) others(ctx context.Context, i int, e expansion, all []*entity) (found []*entity, err error) {
	q := e.query()
	byKey := map[string]*entity{}
	for _, owner := range all {
		for _, key := range e.keys(owner.Record) {
			if _, ok := byKey[key]; !ok {
				byKey[key] = nil
				q.Keys = append(q.Keys, key)
			}
		}
	}
	if q.Keys == nil {
		return nil, nil
	}
	for record, err := range x.Store.Read(ctx, x.view, q) {
		if err != nil {
			return nil, err
		}
		byKey[record.Key] = &entity{Record: record}
		found = append(found, byKey[record.Key])
	}
	for _, owner := range all {
		for _, key := range e.keys(owner.Record) {
			if other, f := byKey[key], &owner.families[i]; other != nil && f.count == 0 {
				f.members, f.count = []*entity{other}, 1
			}
		}
	}
	return found, nil
}

func membersOf(body []byte) func(name string) []byte {
	return func(name string) []byte { return entityevent.Member(body, name) }
}

// compare compares two records by $orderby.
func compare(order []odata.Order, a, b []byte) int {
	for _, o := range order {
		c := o.Field.Value(membersOf(a)).Compare(o.Field.Value(membersOf(b)))
		if o.Desc {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// appendFamily appends what an expansion leads to, as members of its record.
func (x *exchange) appendFamily(dst []byte, owner *reading, of *entity, e expansion, f family) []byte {
	name := e.link.Name
	if f.unknown { // others of the page may hold theirs: this one is left without, for none would be an answer
		return dst
	}
	if !e.link.Many {
		dst = append(appendString(separated(dst), name), ':')
		if len(f.members) == 0 {
			return append(dst, "null"...)
		}
		return x.appendEntity(dst, e.reading, f.members[0])
	}
	if e.options.Count {
		dst = x.appendInt(append(appendString(separated(dst), name+"@odata.count"), ':'), f.count)
	}
	dst = append(appendString(separated(dst), name), ":["...)
	for i, member := range f.members {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = x.appendEntity(dst, e.reading, member)
	}
	dst = append(dst, ']')
	if f.more {
		dst = append(appendString(separated(dst), name+"@odata.nextLink"), ':')
		dst = appendString(dst, x.rest(owner, of, e, f))
	}
	return dst
}

// rest is the URL of what an expansion did not show.
func (x *exchange) rest(owner *reading, of *entity, e expansion, f family) string {
	o, name := e.options, "/"+url.PathEscape(e.link.Name)
	var b strings.Builder
	b.WriteString(x.Root + "/" + odata.KeySegment(owner.resource, of.Key, owner.quoted) + name + "?")
	for _, option := range [...]struct {
		name string
		text *string
	}{{"$filter", o.Filter}, {"$select", o.Select}, {"$orderby", o.OrderBy}, {"$expand", o.Expand}} {
		if option.text != nil {
			b.WriteString(option.name + "=" + odata.EscapeQuery(*option.text) + "&")
		}
	}
	if o.Count {
		b.WriteString("$count=true&")
	}
	if o.Top != nil {
		b.WriteString("$top=" + strconv.FormatInt(*o.Top-int64(len(f.members)), 10) + "&")
	}
	last := f.members[len(f.members)-1].Record
	b.WriteString("$skiptoken=" + token(odata.KeySegment(owner.resource, of.Key, true)+name, o, defaultPage, fromPlace(e.query(), last)))
	return b.String()
}
