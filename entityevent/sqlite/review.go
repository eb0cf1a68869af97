package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"
	"fmt"
	"slices"

	"github.com/resosync/resosync/entityevent"
)

// steps are how much the passes over all records do at once.
type steps struct {
	reviewed  int // records that a step of a review looks at, in the writer's transaction, and after how many events it ends
	compacted int // events that a step of a compaction looks at, and then drops
}

var defaultSteps = steps{reviewed: 500, compacted: 1000}

// reviewBytes of bodies end a step, too.
const reviewBytes = 1 << 20

const (
	// The body is read only where there is a filter to ask, or who is told depends on what it holds.
	reviewQuery = `SELECT key, rowid, views, seen, told, parent_resource, parent_key, body IS NULL,
		CASE WHEN ?4 THEN CAST(body AS BLOB) END FROM records
		WHERE feed = ?1 AND resource = ?2 AND key > ?3 ORDER BY key LIMIT ?5+0`
	nextFeed = `SELECT feed FROM records WHERE feed > ? ORDER BY feed LIMIT 1`
)

// Review implements entityevent.Profiles.
func (s *Store) Review(ctx context.Context) (more bool, err error) {
	if len(s.writer.rules.Load().access.Reviews) == 0 {
		return false, nil
	}
	err = s.write(ctx, &call{rows: s.steps.reviewed, run: func(t *tx) error {
		if err := t.review(s.steps.reviewed); err != nil {
			return err
		}
		more = len(t.rules.access.Reviews) > 0
		return nil
	}})
	if err != nil {
		return false, fmt.Errorf("review: %w", err)
	}
	return more, nil
}

// review takes the next step and notes, with what it changed, how far it came.
func (t *tx) review(rows int) error {
	a := t.rules.access
	if len(a.Reviews) == 0 {
		return nil
	}
	r := a.Reviews[0]
	var err error
	last := r.Feed == ""
	if !last {
		last, err = t.reviewSome(&r, rows)
	}
	left := append([]review{r}, a.Reviews[1:]...)
	if err == nil && last {
		var found bool
		found, err = t.one(nextFeed, func(row []driver.Value) { left[0].Feed, left[0].Key = str(row[0]), "" }, r.Feed)
		if !found {
			left = left[1:]
		}
	}
	if err != nil {
		return err
	}
	next := *t.rules
	next.access = &access{Profiles: a.Profiles, Reviews: left}
	return t.setRules(&next)
}

// reviewed is one record under review.
type reviewed struct {
	viewed
	parentResource, parentKey any
	body                      []byte
}

// reviewSome looks at the next records of a resource in one feed, and says whether they were the last.
func (t *tx) reviewSome(r *review, limit int) (last bool, err error) {
	rule := t.rules.of[r.Resource]
	reads := r.Inner != 0 || rule != nil && slices.ContainsFunc(rule.filters, func(c condition) bool { return c.mask&r.Bits != 0 })
	var records []reviewed
	var damage error
	rows, size := 0, 0
	err = t.query(context.Background(), reviewQuery, func(row []driver.Value) bool {
		rows++
		r.Key = str(row[0])
		if integer(row[7]) != 0 {
			return true // nobody sees what is gone
		}
		one := reviewed{viewed: viewed{
			ref: entityevent.Ref{Resource: r.Resource, Key: r.Key}, row: integer(row[1]),
			views: entityevent.Mask(integer(row[2])), seen: entityevent.Mask(integer(row[3])),
		}, parentResource: row[5], parentKey: row[6]}
		one.told, damage = toldOf(row[4])
		one.body, _ = row[8].([]byte)
		if reads && damage == nil && !whole(one.body) {
			damage = errDamaged
		}
		if damage != nil {
			damage = fmt.Errorf("%w: the row of %s", damage, one.ref)
			return false
		}
		records = append(records, one)
		size += len(one.body)
		return size < reviewBytes
	}, r.Feed, r.Resource, r.Key, flag(reads), int64(limit))
	if err == nil {
		err = damage
	}
	for i := 0; err == nil && i < len(records); i++ {
		err = t.reviewOne(r, &records[i])
		if len(t.events) >= limit && i+1 < len(records) { // for their children
			r.Key = records[i].ref.Key
			return false, err
		}
	}
	return rows < limit && size < reviewBytes, err
}

func (t *tx) reviewOne(r *review, one *reviewed) error {
	is, err := t.views(r.Feed, one.ref, one.body, one.parentResource, one.parentKey)
	if err != nil {
		return err
	}
	views := one.views&^r.Bits | is&r.Bits
	announce := r.Announce
	if r.Inner != 0 && holdsObjects(one.body) {
		announce |= r.Inner
	}
	return t.tell(r.Feed, one.viewed, views, announce&views)
}

// holdsObjects says whether there may be objects in a record: a brace in a text looks the same.
func holdsObjects(body []byte) bool { return bytes.LastIndexByte(body, '{') > 0 }
