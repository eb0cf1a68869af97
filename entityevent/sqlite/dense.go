package sqlite

import (
	"database/sql/driver"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// Events whose numbers follow each other, as those of a reader do who may see everything, come without what
// costs most of the time of a page: a limit, and their numbers. Keys stand between zero characters. The resource
// stands before a key, behind a zero character of its own, if it is not that of the first event.
const (
	denseKeys    = `SELECT group_concat(CASE resource WHEN ?5 THEN key ELSE char(0) || resource || char(0) || key END, char(0)), count(*) `
	denseNumbers = `SELECT group_concat(seq, char(0)) `
	denseTimes   = `SELECT group_concat(at, char(0)) `
)

// dense adds the events whose numbers come next, of which there are just enough if none is missing.
func (r *eventReader) dense(c *conn) error {
	part := stretch{r.rest.low, min(r.rest.high, r.rest.low+int64(min(r.limit, pageWork))+2)}
	r.rest.low = part.high - 1
	args := []any{r.view.Feed, part.low, part.high, int64(r.view.Mask), r.first}
	var keys, numbers, times string
	var n int64
	if _, err := c.one(denseKeys+eventRange, func(row []driver.Value) { keys, n = str(row[0]), integer(row[1]) }, args...); err != nil || n == 0 {
		return err
	}
	gaps := n < part.high-part.low-1
	if gaps {
		if _, err := c.one(denseNumbers+eventRange, func(row []driver.Value) { numbers = str(row[0]) }, args[:4]...); err != nil {
			return err
		}
	}
	if r.times {
		if _, err := c.one(denseTimes+eventRange, func(row []driver.Value) { times = str(row[0]) }, args[:4]...); err != nil {
			return err
		}
	}
	r.page.Events = make([]entityevent.Event, n)
	more := true
	for i := range r.page.Events {
		e := &r.page.Events[i]
		e.Resource, e.Sequence = r.first, entityevent.Sequence(part.low+1+int64(i))
		if e.Key, keys, more = strings.Cut(keys, "\x00"); e.Key == "" {
			e.Resource, keys, _ = strings.Cut(keys, "\x00")
			e.Key, keys, more = strings.Cut(keys, "\x00")
		}
		if e.Key == "" || e.Resource == "" {
			return fmt.Errorf("%w: the row of event %d", errDamaged, e.Sequence)
		}
		if err := r.date(e, gaps, &numbers, &times); err != nil {
			return fmt.Errorf("%w: the row of event %d: %w", errDamaged, e.Sequence, err)
		}
	}
	if more {
		return fmt.Errorf("%w: an event below %d", errDamaged, part.high)
	}
	return nil
}

// date takes the number and the time of the next event from theirs, if there are any.
func (r *eventReader) date(e *entityevent.Event, gaps bool, numbers, times *string) error {
	if gaps {
		n, err := cutNumber(numbers)
		if err != nil {
			return err
		}
		e.Sequence = entityevent.Sequence(n)
	}
	if r.times {
		n, err := cutNumber(times)
		if err != nil {
			return err
		}
		e.At = time.UnixMicro(n).UTC()
	}
	return nil
}

// cutNumber takes the first number from a list.
func cutNumber(list *string) (int64, error) {
	text, rest, _ := strings.Cut(*list, "\x00")
	*list = rest
	return strconv.ParseInt(text, 10, 64)
}
