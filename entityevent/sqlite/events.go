package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// pageWork is how many numbers of the log one page looks at, at most: few of them are unused. A reader who
// may see few events gets a short page that says how far it looked.
const pageWork = 50_000

// Each value of a row costs several calls of the driver, so a page comes as one row: the parts of an event,
// and the events, stand between zero characters, which no name holds.
const (
	eventPage  = `SELECT group_concat(seq || char(0) || resource || char(0) || key, char(0)), NULL FROM (SELECT seq, resource, key `
	eventTimes = `SELECT group_concat(seq || char(0) || resource || char(0) || key, char(0)), group_concat(at, char(0)) FROM (SELECT seq, resource, key, at `
	eventCount = `SELECT count(*) FROM (SELECT 1 `
	eventRange = `FROM events WHERE feed = ?1 AND seq > ?2 AND seq < ?3 AND views & ?4 <> 0`
	ascending  = ` ORDER BY seq LIMIT ?5+0)`
	descending = ` ORDER BY seq DESC LIMIT ?5+0)`

	placeQuery = `SELECT log, counter, (SELECT seq FROM floors WHERE feed = ?) FROM meta`

	// Where the log goes on.
	nextEvent     = `SELECT seq, resource FROM events WHERE feed = ? AND seq > ? AND seq < ? ORDER BY seq LIMIT 1`
	previousEvent = `SELECT seq FROM events WHERE feed = ? AND seq > ? AND seq < ? ORDER BY seq DESC LIMIT 1`
)

// Events implements entityevent.Log.
func (s *Store) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (entityevent.Page, error) {
	r := newEventReader(v, q)
	if err := s.snapshot(ctx, r.read); err != nil {
		return entityevent.Page{}, fmt.Errorf("events of feed %q: %w", v.Feed, err)
	}
	if log := s.LogID(); log == r.page.Log { // one text for all pages that somebody keeps
		r.page.Log = log
	}
	return r.page, nil
}

// CountEvents implements entityevent.Log.
func (s *Store) CountEvents(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (int64, error) {
	q.Order = entityevent.OldestFirst
	r := newEventReader(v, q)
	var n int64
	for more := true; more; {
		err := s.snapshot(ctx, func(c *conn) (err error) {
			more, err = r.count(c, &n)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("count events of feed %q: %w", v.Feed, err)
		}
	}
	return n, nil
}

// stretch is the numbers between two others.
type stretch struct{ low, high int64 }

func (s stretch) empty() bool { return s.high-s.low <= 1 }

// eventReader looks at a part of the log, stretch by stretch.
type eventReader struct {
	view      entityevent.View
	filter    odata.Expr
	limit     int
	times     bool
	backwards bool
	rest      stretch // to be looked at
	first     string  // the resource of the event that the rest begins with
	page      entityevent.Page
}

func newEventReader(v entityevent.View, q entityevent.EventQuery) *eventReader {
	r := &eventReader{view: v, filter: q.Filter, limit: q.Limit, times: q.Times, backwards: q.Order == entityevent.NewestFirst}
	r.rest = stretch{max(int64(q.After), 0), math.MaxInt64}
	if q.Before > 0 {
		r.rest.high = int64(q.Before)
	}
	if r.limit <= 0 {
		r.limit = 100
	}
	return r
}

var eventColumns = map[string]column{
	"EntityEventSequence": {"seq", odata.Int}, "ResourceName": {"resource", odata.String}, "ResourceRecordKey": {"key", odata.String},
}

// ask runs a query for one row about a stretch.
func (r *eventReader) ask(c *conn, head, order string, part stretch, limit int, scan func(row []driver.Value)) error {
	args := []any{r.view.Feed, part.low, part.high, int64(r.view.Mask), int64(limit)}
	if r.filter == nil {
		_, err := c.one(head+eventRange+order, scan, args...)
		return err
	}
	filter := compiler{columns: eventColumns, args: args}
	query := head + eventRange + " AND " + filter.condition(r.filter) + order
	if filter.err != nil {
		return filter.err
	}
	_, err := c.one(query, scan, filter.args...)
	return err
}

// begin reads what is the log's own.
func (r *eventReader) begin(c *conn) error {
	_, err := c.one(placeQuery, func(row []driver.Value) {
		r.page.Log, r.page.Head = entityevent.LogID(str(row[0])), entityevent.Sequence(integer(row[1]))
		r.page.Floor = entityevent.Sequence(integer(row[2]))
	}, r.view.Feed)
	r.rest.high = min(r.rest.high, int64(r.page.Head)+1)
	return err
}

// read reads a page.
func (r *eventReader) read(c *conn) error {
	if err := r.begin(c); err != nil {
		return err
	}
	p := &r.page
	if p.Through = entityevent.Sequence(r.rest.high - 1); r.backwards {
		p.Through = entityevent.Sequence(r.rest.low) + 1
	}
	if more, err := r.seek(c); err != nil || !more {
		return err
	}
	if err := r.look(c); err != nil || p.More {
		return err
	}
	more, err := r.seek(c)
	if p.More = more; more {
		if p.Through = entityevent.Sequence(r.rest.low); r.backwards {
			p.Through = entityevent.Sequence(r.rest.high)
		}
	}
	return err
}

// seek makes the rest begin with an event, and says whether there is one.
func (r *eventReader) seek(c *conn) (bool, error) {
	if r.rest.empty() {
		return false, nil
	}
	if r.backwards {
		return c.one(previousEvent, func(row []driver.Value) { r.rest.high = integer(row[0]) + 1 }, r.view.Feed, r.rest.low, r.rest.high)
	}
	return c.one(nextEvent, func(row []driver.Value) { r.rest.low, r.first = integer(row[0])-1, str(row[1]) }, r.view.Feed, r.rest.low, r.rest.high)
}

// take takes what one look may take in from the rest.
func (r *eventReader) take() stretch {
	part := r.rest
	switch {
	case part.high-part.low <= pageWork:
		r.rest = stretch{}
	case r.backwards:
		part.low = part.high - pageWork
		r.rest.high = part.low + 1
	default:
		part.high = part.low + pageWork
		r.rest.low = part.high - 1
	}
	return part
}

// look adds the events that come next to the page, which says where it ended if it is full.
func (r *eventReader) look(c *conn) error {
	if r.filter == nil && !r.backwards {
		if err := r.dense(c); err != nil || len(r.page.Events) > r.limit || r.rest.empty() {
			r.end()
			return err
		}
	}
	query, order := eventPage, ascending
	if r.times {
		query = eventTimes
	}
	if r.backwards {
		order = descending
	}
	var text, times string
	p := &r.page
	// One more tells that more follow.
	err := r.ask(c, query, order, r.take(), r.limit+1-len(p.Events), func(row []driver.Value) { text, times = str(row[0]), str(row[1]) })
	if err != nil || text == "" {
		return err
	}
	events, err := parseEvents(text, times)
	if err != nil {
		return err
	}
	if len(p.Events) > 0 {
		events = append(p.Events, events...)
	}
	p.Events = events
	r.end()
	return nil
}

// end says where a page ended that is full.
func (r *eventReader) end() {
	p := &r.page
	if p.More = len(p.Events) > r.limit; p.More {
		p.Events = p.Events[:r.limit]
		p.Through = p.Events[r.limit-1].Sequence
	}
}

// parseEvents reads the row of a page. Its events share its memory.
func parseEvents(text, times string) ([]entityevent.Event, error) {
	events := make([]entityevent.Event, strings.Count(text, "\x00")/3+1)
	for i := range events {
		e := &events[i]
		seq, rest, _ := strings.Cut(text, "\x00")
		e.Resource, rest, _ = strings.Cut(rest, "\x00")
		e.Key, text, _ = strings.Cut(rest, "\x00")
		n, err := strconv.ParseInt(seq, 10, 64)
		if err != nil || e.Key == "" {
			return nil, fmt.Errorf("%w: the row of event %q", errDamaged, seq)
		}
		e.Sequence = entityevent.Sequence(n)
		if times != "" {
			var at string
			at, times, _ = strings.Cut(times, "\x00")
			if n, err = strconv.ParseInt(at, 10, 64); err != nil {
				return nil, fmt.Errorf("%w: the time of event %q", errDamaged, seq)
			}
			e.At = time.UnixMicro(n).UTC()
		}
	}
	return events, nil
}

// count counts the next stretch that holds events, and says whether the rest may hold more.
func (r *eventReader) count(c *conn, n *int64) (more bool, err error) {
	if r.page.Head == 0 {
		if err := r.begin(c); err != nil {
			return false, err
		}
	}
	if more, err := r.seek(c); err != nil || !more {
		return false, err
	}
	err = r.ask(c, eventCount, ascending, r.take(), pageWork, func(row []driver.Value) { *n += integer(row[0]) })
	return !r.rest.empty(), err
}

// Wait implements entityevent.Log. The notifier knows what is published while it waits; what came before is
// looked for in the log.
func (s *Store) Wait(ctx context.Context, v entityevent.View, q entityevent.EventQuery) error {
	q.Order, q.Limit = entityevent.OldestFirst, 1
	for look := int64(q.After) < s.opened; ; look = true {
		for look {
			p, err := s.Events(ctx, v, q)
			if err != nil || len(p.Events) > 0 {
				return err
			}
			if q.After, look = max(q.After, p.Through), p.More; !p.More {
				q.After = max(q.After, p.Head)
			}
		}
		if published, err := s.notifier.Wait(ctx, v, q); published || err != nil {
			return err
		}
	}
}
