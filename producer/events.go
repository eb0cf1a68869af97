package producer

import (
	"context"
	"fmt"
	"math"
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

// events answers GET EntityEvent, EntityEvent(7) and EntityEvent/$count.
func (x *exchange) events() error {
	if err := x.checkCursor(); err != nil {
		return err
	}
	p, o := x.path, x.options
	if p.KeyName != "" && p.KeyName != sequenceField {
		return badRequest("", "The key of EntityEvent is "+sequenceField)
	}
	if o.Expand != nil {
		_, err := odata.ParseExpand(*o.Expand, func(string) bool { return false })
		return err
	}
	picked, err := x.eventSelect()
	if err != nil {
		return err
	}
	switch {
	case p.Key != nil && len(p.Rest) == 0:
		return x.event(*p.Key, picked)
	case p.Key != nil, len(p.Rest) > 1, len(p.Rest) == 1 && p.Rest[0] != "$count":
		return notOffered("", "Below EntityEvent only $count is offered")
	}
	q, err := x.eventQuery()
	if err != nil {
		return err
	}
	if len(p.Rest) == 1 {
		return x.countEvents(q)
	}
	return x.eventPage(q, picked)
}

// eventSelect reads $select; nil: all fields.
func (x *exchange) eventSelect() ([]string, error) {
	if x.options.Select == nil {
		return nil, nil
	}
	return odata.ParseSelect(*x.options.Select, &eventFields{})
}

// eventOrder reads $orderby. What follows the sequence makes no difference.
func (x *exchange) eventOrder() (entityevent.Order, error) {
	if x.options.OrderBy == nil {
		return entityevent.OldestFirst, nil
	}
	orders, err := odata.ParseOrderBy(*x.options.OrderBy, &eventFields{})
	switch {
	case err != nil:
		return 0, err
	case orders[0].Field.Path != sequenceField:
		return 0, notOffered("$orderby", "The only order of EntityEvent is by "+sequenceField)
	case orders[0].Desc:
		return entityevent.NewestFirst, nil
	}
	return entityevent.OldestFirst, nil
}

// eventAsk is what a request asks of the collection.
type eventAsk struct {
	eventQuery
	w      window
	order  entityevent.Order
	began  int64    // the position that the request names, before a $skiptoken; 0: the beginning
	picked []string // nil: all fields
	count  int64    // -1: not asked for
}

// eventPage answers with a page.
func (x *exchange) eventPage(q eventQuery, picked []string) (err error) {
	a := &eventAsk{eventQuery: q, picked: picked, count: -1, began: q.after}
	if a.w, err = x.window(); err != nil {
		return err
	}
	if a.order, err = x.eventOrder(); err != nil {
		return err
	}
	if x.options.Count {
		if a.count, err = x.countOfEvents(q); err != nil {
			return err
		}
	}
	if err := a.resume(a.w.from, a.order); err != nil {
		return err
	}
	page, err := x.page(a)
	if err != nil {
		return err
	}
	if x.waits(a, page) {
		return x.pause(a, page)
	}
	return x.answerEvents(a, page)
}

// answerEvents answers with a page that was read.
func (x *exchange) answerEvents(a *eventAsk, page entityevent.Page) error {
	// Who began at 0 reads on: what was forgotten behind a nextLink was gone before.
	if at := entityevent.Sequence(a.after); a.began > 0 && a.follows && at < page.Floor {
		x.w.Header().Del("Preference-Applied")
		return &odata.Error{Status: http.StatusGone, Code: "Forgotten", Target: sequenceField, Message: fmt.Sprintf(
			"Events up to %d were forgotten for good, so what follows %d is not all that happened: read from 0, and follow each @odata.nextLink to its end", page.Floor, at)}
	}
	x.writeEvents(a, page)
	return nil
}

// page reads the page that is asked for.
func (x *exchange) page(a *eventAsk) (entityevent.Page, error) {
	if !a.empties() && a.w.limit > 0 {
		return x.gather(x.r.Context(), a.eventQuery, a.w, a.order)
	}
	page, err := x.head(x.r.Context())
	if a.w.limit == 0 {
		page.Through = min(entityevent.Sequence(a.after), page.Head)
	}
	return page, err
}

// waits says whether a page is empty that its reader prefers to wait for.
func (x *exchange) waits(a *eventAsk, page entityevent.Page) bool {
	if x.prefer.wait == 0 || a.empties() || a.w.limit == 0 || !a.follows || a.order != entityevent.OldestFirst || a.w.skip > 0 {
		return false
	}
	applied(x.w.Header(), "wait", strconv.Itoa(x.prefer.wait))
	return len(page.Events) == 0 && !page.More && a.open(page.Head) && x.r.Method != http.MethodHead
}

// head reads which log this is and how far it goes, in an empty page.
func (x *exchange) head(ctx context.Context) (entityevent.Page, error) {
	return x.Store.Events(ctx, x.view, entityevent.EventQuery{After: math.MaxInt64, Limit: 1})
}

// gather reads pages of the store until one of ours is full, nothing is left, or it took long.
func (x *exchange) gather(ctx context.Context, q eventQuery, w window, order entityevent.Order) (entityevent.Page, error) {
	if q.numbers != nil {
		return x.pick(ctx, q, w, order)
	}
	began := time.Now()
	want := w.skip + w.limit
	var all entityevent.Page
	for {
		page, err := x.Store.Events(ctx, x.view, q.query(order, want-len(all.Events)))
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

// pick reads a page of events whose numbers are named: each is its own place in the log.
func (x *exchange) pick(ctx context.Context, q eventQuery, w window, order entityevent.Order) (entityevent.Page, error) {
	all, err := x.head(ctx)
	if err != nil {
		return all, err
	}
	numbers := slices.Clone(q.numbers)
	if order == entityevent.NewestFirst {
		slices.Reverse(numbers)
	}
	skip := w.skip
	for _, n := range numbers {
		if n <= q.after || q.before > 0 && n >= q.before || n > int64(all.Head) {
			continue
		}
		page, err := x.Store.Events(ctx, x.view, entityevent.EventQuery{
			After: entityevent.Sequence(n - 1), Before: entityevent.Sequence(n) + 1, Filter: q.filter, Limit: 1,
		})
		switch {
		case err != nil:
			return page, err
		case len(page.Events) == 0:
		case skip > 0:
			skip--
		case len(all.Events) == w.limit:
			all.More, all.Through = true, all.Events[w.limit-1].Sequence
			return all, nil
		default:
			all.Events = append(all.Events, page.Events[0])
		}
	}
	return all, nil
}

// countEvents answers EntityEvent/$count.
func (x *exchange) countEvents(q eventQuery) error {
	n, err := x.countOfEvents(q)
	if err != nil {
		return err
	}
	return x.writeCount(n)
}

func (x *exchange) countOfEvents(q eventQuery) (int64, error) {
	if q.empties() {
		return 0, nil
	}
	if q.numbers != nil {
		page, err := x.pick(x.r.Context(), q, window{limit: math.MaxInt}, entityevent.OldestFirst)
		return int64(len(page.Events)), err
	}
	return x.Store.CountEvents(x.r.Context(), x.view, q.query(entityevent.OldestFirst, 0))
}

// event answers GET EntityEvent(7).
func (x *exchange) event(key string, picked []string) error {
	if err := x.onlySelect(); err != nil {
		return err
	}
	absent := notFound("There is no event with the number " + strconv.Quote(key))
	n, err := strconv.ParseInt(key, 10, 64)
	if err != nil || n < 1 || n == math.MaxInt64 { // no store counts so far, and n + 1 has no form
		return absent
	}
	page, err := x.Store.Events(x.r.Context(), x.view, entityevent.EventQuery{
		After: entityevent.Sequence(n - 1), Before: entityevent.Sequence(n) + 1, Limit: 1,
	})
	if err != nil {
		return err
	}
	if len(page.Events) == 0 {
		return absent
	}
	x.writeEvent(page.Events[0], picked)
	return nil
}

func (x *exchange) writeCount(n int64) error {
	x.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if _, err := fmt.Fprint(x.w, n); err != nil {
		x.abort(x.r, err)
	}
	return nil
}

func (x *exchange) onlySelect() error {
	o := x.options
	if o.Filter != nil || o.OrderBy != nil || o.Top != nil || o.Skip > 0 || o.Count || o.SkipToken != nil || o.LastEvent != nil {
		return badRequest("", "One event takes no option but $select and $format")
	}
	return nil
}
