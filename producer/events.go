package producer

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// gatherFor is how long one answer looks for events that few clients may see before it says how far it
// came.
const gatherFor = time.Second

// events answers GET EntityEvent and EntityEvent(7).
func (x *exchange) events() error {
	if err := x.checkCursor(); err != nil {
		return err
	}
	p, o := x.path, x.options
	if o.Expand != nil {
		return notOffered("$expand", "EntityEvent has nothing to expand")
	}
	selected, err := x.selects()
	if err != nil {
		return err
	}
	for _, field := range selected {
		if !slices.Contains(eventFields, field) {
			return badRequest("$select", "EntityEvent has no field "+field)
		}
	}
	if p.KeyName != "" && p.KeyName != sequenceField {
		return badRequest("", "The key of EntityEvent is "+sequenceField)
	}
	if len(p.Rest) > 0 || o.Count {
		return notOffered("$count", "EntityEvent offers neither $count nor paths below an event")
	}
	if p.Key != nil {
		return x.event(*p.Key)
	}
	var q eventQuery
	filter, err := x.filter()
	if err != nil {
		return err
	}
	if err := q.bind(filter); err != nil {
		return err
	}
	if o.LastEvent != nil {
		q.after, q.follows = max(q.after, *o.LastEvent), true
	}
	w, err := x.window()
	if err != nil {
		return err
	}
	order := entityevent.OldestFirst
	descending, err := x.ordered(sequenceField)
	if err != nil {
		return err
	}
	if descending {
		order = entityevent.NewestFirst
	}
	if err := q.resume(w.from, order); err != nil {
		return err
	}
	page, err := x.page(q, w, order)
	if err != nil {
		return err
	}
	x.writeEvents(page, w, order)
	return nil
}

// resume narrows the query to what follows a $skiptoken.
func (q *eventQuery) resume(from string, order entityevent.Order) error {
	if from == "" {
		return nil
	}
	n, err := strconv.ParseInt(from, 10, 64)
	if err != nil || n < 0 {
		return badRequest("$skiptoken", "The $skiptoken is not one of ours: begin again without it")
	}
	if order == entityevent.OldestFirst {
		q.after = max(q.after, n)
	} else if q.before == 0 || n < q.before {
		q.before = n
		q.empty = q.empty || n == 0
	}
	return nil
}

// page reads the page that is asked for, and waits for it if it is preferred to.
func (x *exchange) page(q eventQuery, w window, order entityevent.Order) (entityevent.Page, error) {
	if q.empties() || w.limit == 0 {
		// The store still says which log this is and how far it goes.
		page, err := x.Store.Events(x.r.Context(), x.view, entityevent.EventQuery{Order: entityevent.NewestFirst, Limit: 1})
		page.Events, page.More, page.Through = nil, false, page.Head
		if w.limit == 0 {
			page.Through = min(entityevent.Sequence(q.after), page.Head)
		}
		return page, err
	}
	page, err := x.gather(q, w, order)
	if err != nil || x.prefer.wait == 0 {
		return page, err
	}
	applied(x.w.Header(), "wait", strconv.Itoa(x.prefer.wait))
	holds := q.follows && q.before == 0 && order == entityevent.OldestFirst && w.skip == 0 && x.r.Method != http.MethodHead
	if !holds || len(page.Events) > 0 || page.More {
		return page, nil
	}
	return x.hold(q, w, page)
}

// hold waits until an event matches, the preferred time is over, or the server drains.
func (x *exchange) hold(q eventQuery, w window, page entityevent.Page) (entityevent.Page, error) {
	ctx, cancel := context.WithTimeout(x.r.Context(), time.Duration(x.prefer.wait)*time.Second)
	defer cancel()
	defer context.AfterFunc(x.drained, cancel)()
	for len(page.Events) == 0 {
		page.Events = nil // a parked request holds no memory that it does not need
		err := x.Store.Wait(ctx, x.view, max(page.Through, entityevent.Sequence(q.after)))
		switch {
		case x.r.Context().Err() != nil:
			return page, x.r.Context().Err()
		case ctx.Err() != nil && page.Log != x.Store.LogID():
			return x.gather(q, w, entityevent.OldestFirst) // the log was named anew meanwhile
		case ctx.Err() != nil, errors.Is(err, entityevent.ErrClosed):
			return page, nil
		case err != nil:
			return page, err
		}
		q.after = max(q.after, int64(page.Through))
		if page, err = x.gather(q, w, entityevent.OldestFirst); err != nil {
			return page, err
		}
	}
	return page, nil
}

// gather reads pages of the store until one of ours is full, nothing is left, or it took long.
func (x *exchange) gather(q eventQuery, w window, order entityevent.Order) (entityevent.Page, error) {
	began := time.Now()
	want := w.skip + w.limit
	var all entityevent.Page
	for {
		page, err := x.Store.Events(x.r.Context(), x.view, q.query(order, want-len(all.Events)))
		if err != nil {
			return page, err
		}
		if all.Events != nil {
			page.Events = slices.Concat(all.Events, page.Events)
		}
		all = page
		if !page.More || len(all.Events) == want || time.Since(began) >= gatherFor {
			break
		}
		if order == entityevent.OldestFirst {
			q.after = int64(page.Through)
		} else {
			q.before = int64(page.Through)
		}
	}
	all.Events = all.Events[min(w.skip, len(all.Events)):]
	return all, nil
}

// writeEvents answers with a page.
func (x *exchange) writeEvents(page entityevent.Page, w window, order entityevent.Order) {
	through := page.Through
	if order == entityevent.NewestFirst {
		through = page.Head // where such a page begins to look
	}
	x.logHeaders(page.Log, through)
	s := x.stream(http.StatusOK)
	defer s.release()
	x.context(s, "")
	s.text(`,"value":[`)
	e := x.eventWriter()
	for i, event := range page.Events {
		if i > 0 {
			s.buf = append(s.buf, ',')
		}
		s.buf = append(e.members(append(s.buf, '{'), event), '}')
		s.room()
	}
	s.text("]")
	if page.More {
		// Through is the last event's, or of a page that is not full where it stopped looking.
		if next := x.next(w, len(page.Events), page.Through.String()); next != "" {
			s.text(`,"@odata.nextLink":`)
			s.quoted(next)
		}
	}
	s.text("}")
	s.end()
}

func (x *exchange) logHeaders(log entityevent.LogID, through entityevent.Sequence) {
	profile := x.client.Profile
	if profile == "" {
		profile = "all"
	}
	x.w.Header()["EntityEvent-Log"] = []string{string(log) + "/" + profile}
	x.w.Header()["EntityEvent-Through"] = []string{through.String()}
}

// event answers GET EntityEvent(7).
func (x *exchange) event(key string) error {
	absent := notFound("There is no event with the number " + strconv.Quote(key))
	n, err := strconv.ParseInt(key, 10, 64)
	if err != nil {
		return absent
	}
	var q eventQuery
	if err := q.bound(odata.Eq, odata.Literal{Kind: odata.Int, Text: strconv.FormatInt(n, 10)}); err != nil {
		return err
	}
	if q.empties() {
		return absent
	}
	page, err := x.Store.Events(x.r.Context(), x.view, q.query(entityevent.OldestFirst, 1))
	if err != nil {
		return err
	}
	if len(page.Events) == 0 {
		return absent
	}
	s := x.stream(http.StatusOK)
	defer s.release()
	x.context(s, "/$entity")
	s.text(`,"@odata.id":"` + x.Root + "/" + odata.KeySegment(eventResource, strconv.FormatInt(n, 10), false) + `",`)
	s.buf = append(x.eventWriter().members(s.buf, page.Events[0]), '}')
	s.end()
	return nil
}

// eventWriter writes events as records, with the URLs of what they name.
type eventWriter struct {
	x      *exchange
	picked []string // of $select; nil: all
	quoted map[string]bool
}

func (x *exchange) eventWriter() eventWriter {
	return eventWriter{x, x.selected(), map[string]bool{}}
}

func (e eventWriter) picks(field string) bool {
	return e.picked == nil || slices.Contains(e.picked, field)
}

// members appends the members of an event.
func (e eventWriter) members(dst []byte, event entityevent.Event) []byte {
	start := len(dst)
	if e.picks(sequenceField) {
		dst = append(dst, `"EntityEventSequence":`...)
		dst = append(strconv.AppendInt(dst, int64(event.Sequence), 10), ',')
	}
	if e.picks(resourceField) {
		dst = append(dst, `"ResourceName":`...)
		dst = append(appendString(dst, event.Resource), ',')
	}
	if e.picks("ResourceRecordKey") {
		dst = append(dst, `"ResourceRecordKey":`...)
		dst = append(appendString(dst, event.Key), ',')
	}
	if e.picks("ResourceRecordUrl") {
		dst = e.url(dst, event.Ref)
	}
	if len(dst) > start {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// url appends the URL of an event's record, unless it is longer than the standard allows.
func (e eventWriter) url(dst []byte, ref entityevent.Ref) []byte {
	inQuotes, known := e.quoted[ref.Resource]
	if !known {
		_, edmType, _ := e.x.Schema.KeyField(ref.Resource)
		inQuotes = quoted(edmType)
		e.quoted[ref.Resource] = inQuotes
	}
	before := len(dst)
	dst = append(dst, `"ResourceRecordUrl":"`...)
	start := len(dst)
	dst = append(append(dst, e.x.Root...), '/')
	dst = odata.AppendKeySegment(dst, ref.Resource, ref.Key, inQuotes)
	if len(dst)-start > entityevent.MaxURL {
		return dst[:before]
	}
	return append(dst, `",`...)
}
