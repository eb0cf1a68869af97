package sqlite

import (
	"database/sql/driver"
	"fmt"
	"strings"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// tx is the writer's open transaction, shared by the calls of a group.
type tx struct {
	*conn
	now     int64             // unix microseconds, the same for all events of the transaction
	counter int64             // the newest sequence given out, as of this point of the transaction
	began   int64             // the counter that it began with
	log     entityevent.LogID // drawn in this transaction; empty: the log keeps its name
	rules   *rules            // that count, as of this point of the transaction
	known   *known
	events  []event
	sights  map[sighted]sight // of the call under way
	notices []entityevent.Notice
}

// event is one row for the log.
type event struct {
	feed  string
	seq   int64
	ref   entityevent.Ref
	views entityevent.Mask
}

const (
	counterQuery  = `SELECT counter FROM meta`
	counterUpdate = `UPDATE meta SET counter = ?`
)

func (t *tx) begin() error {
	if _, err := t.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	t.now = time.Now().UnixMicro()
	found, err := t.one(counterQuery, func(row []driver.Value) { t.counter = integer(row[0]) })
	if err == nil && !found {
		err = fmt.Errorf("%w: no meta row", errDamaged)
	}
	t.began = t.counter
	return err
}

// commit writes the counter, once for all calls: under each one's savepoint it would be a page more to keep for
// undoing, with which SQLite begins to write such pages to a file.
func (t *tx) commit() error {
	if t.counter != t.began {
		if _, err := t.exec(counterUpdate, t.counter); err != nil {
			return err
		}
	}
	_, err := t.exec("COMMIT")
	return err
}

// next gives out a number: in order, and only as long as nobody else can commit.
func (t *tx) next() int64 {
	t.counter++
	return t.counter
}

func (t *tx) append(e event) { t.events = append(t.events, e) }

// flush writes the events of one call.
func (t *tx) flush() error {
	if len(t.events) == 0 {
		return nil
	}
	if _, err := t.insert(eventInsert, len(t.events), func(i int, args []any) []any {
		e := t.events[i]
		return append(args, e.feed, e.seq, e.ref.Resource, e.ref.Key, int64(e.views), t.now)
	}); err != nil {
		return err
	}
	for _, e := range t.events {
		t.notices = append(t.notices, entityevent.Notice{
			Feed: e.feed, Sequence: entityevent.Sequence(e.seq), Ref: e.ref, Views: e.views,
		})
	}
	return nil
}

var eventInsert = newInsert(`INSERT INTO events (feed, seq, resource, key, views, at) VALUES `, 6, ``)

// insertion is an INSERT of many rows, in a few sizes so that each is prepared once.
type insertion struct {
	columns int
	sizes   []int // descending, the last is 1
	queries []string
}

func newInsert(head string, columns int, tail string) insertion {
	in := insertion{columns: columns, sizes: []int{100, 10, 1}}
	row := "(?" + strings.Repeat(",?", columns-1) + ")"
	for _, n := range in.sizes {
		in.queries = append(in.queries, head+row+strings.Repeat(","+row, n-1)+tail)
	}
	return in
}

// insert writes n rows and returns how many it changed. add appends the arguments of row i.
func (t *tx) insert(in insertion, n int, add func(i int, args []any) []any) (int64, error) {
	var changed int64
	args := make([]any, 0, in.columns*min(n, in.sizes[0]))
	for i, k := 0, 0; i < n; {
		for in.sizes[k] > n-i {
			k++
		}
		args = args[:0]
		for end := i + in.sizes[k]; i < end; i++ {
			args = add(i, args)
		}
		c, err := t.exec(in.queries[k], args...)
		if err != nil {
			return changed, err
		}
		changed += c
	}
	return changed, nil
}

func integer(v driver.Value) int64 {
	i, _ := v.(int64) // NULL is 0
	return i
}

func str(v driver.Value) string {
	s, _ := v.(string)
	return s
}
