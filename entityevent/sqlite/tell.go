package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"fmt"

	"github.com/resosync/resosync/entityevent"
)

const (
	// The records that share the views of their parent may be many: their bodies are not read.
	childrenQuery = `SELECT resource, key, rowid, views, seen, told FROM records
		WHERE feed = ? AND parent_resource = ? AND parent_key = ? AND body IS NOT NULL ORDER BY resource, key`
	tellUpdate = `UPDATE records SET views = ?, seen = ?, told = ? WHERE rowid = ?`
)

// viewed is who sees one record, as its row says.
type viewed struct {
	ref         entityevent.Ref
	row         int64
	views, seen entityevent.Mask
	told        told
}

// follow gives the records that share the views of a parent what is to be their views, and tells those for whom
// something changes. It comes before the parent's own event.
func (t *tx) follow(feed string, parent entityevent.Ref, was, is entityevent.Mask) error {
	shares := t.rules.shares[parent.Resource]
	concerned := false
	for _, m := range shares {
		concerned = concerned || (was^is)&m != 0
	}
	if !concerned {
		return nil
	}
	var children []viewed
	var damage error
	err := t.query(context.Background(), childrenQuery, func(row []driver.Value) bool {
		if shares[str(row[0])] == 0 {
			return true
		}
		child := viewed{
			ref: entityevent.Ref{Resource: str(row[0]), Key: str(row[1])}, row: integer(row[2]),
			views: entityevent.Mask(integer(row[3])), seen: entityevent.Mask(integer(row[4])),
		}
		child.told, damage = toldOf(row[5])
		children = append(children, child)
		return damage == nil
	}, feed, parent.Resource, parent.Key)
	if err == nil {
		err = damage
	}
	for i := 0; err == nil && i < len(children); i++ {
		shared := shares[children[i].ref.Resource]
		err = t.tell(feed, children[i], children[i].views&^shared|is&shared, 0)
	}
	return err
}

// tell changes who sees a record, and tells those for whom it changed, and those whom it is announced to. Its event is
// for them alone: to all others nothing happened, and the record keeps its version.
func (t *tx) tell(feed string, v viewed, views, announce entityevent.Mask) error {
	mask := v.views ^ views | announce
	if mask == 0 {
		return nil
	}
	if err := t.follow(feed, v.ref, v.views, views); err != nil {
		return err
	}
	seq := t.next()
	t.sees(feed, v.ref, v.seen, views)
	_, err := t.exec(tellUpdate, int64(views), int64(v.seen|views), v.told.add(seq, mask).column(), v.row)
	t.append(event{feed, seq, v.ref, mask})
	return err
}

// lookAgain is for content that changed without an event: for some it may be one.
func (t *tx) lookAgain(feed string, ref entityevent.Ref, old stored, body []byte, parentResource, parentKey any) error {
	if t.rules.of[ref.Resource] == nil {
		return nil
	}
	is, err := t.views(feed, ref, body, parentResource, parentKey)
	if err != nil {
		return err
	}
	v := viewed{ref, old.row, old.views, old.seen, old.told}
	return t.tell(feed, v, old.views&^t.rules.bits|is&t.rules.bits, 0)
}

// told are the newest events of a record that were for some profiles alone, each with those who have none newer.
// Events at or below the record's version are superseded by the one there, which all see who saw any before.
type told []telling

type telling struct {
	seq  int64
	mask entityevent.Mask
}

func (all told) add(seq int64, m entityevent.Mask) told {
	return append(all.without(m), telling{seq, m})
}

func (all told) without(m entityevent.Mask) (left told) {
	for _, e := range all {
		if e.mask &^= m; e.mask != 0 {
			left = append(left, e)
		}
	}
	return left
}

func (all told) has(seq int64) bool {
	for _, e := range all {
		if e.seq == seq {
			return true
		}
	}
	return false
}

const tellingBytes = 16

// column returns what is stored; NULL for none.
func (all told) column() any {
	if len(all) == 0 {
		return nil
	}
	b := make([]byte, 0, len(all)*tellingBytes)
	for _, e := range all {
		b = binary.BigEndian.AppendUint64(b, uint64(e.seq))
		b = binary.BigEndian.AppendUint64(b, uint64(e.mask))
	}
	return b
}

func toldOf(v driver.Value) (all told, err error) {
	b, _ := v.([]byte)
	if len(b)%tellingBytes != 0 {
		return nil, fmt.Errorf("%w: whom a record's events told", errDamaged)
	}
	for ; len(b) > 0; b = b[tellingBytes:] {
		all = append(all, telling{int64(binary.BigEndian.Uint64(b)), entityevent.Mask(binary.BigEndian.Uint64(b[8:]))})
	}
	return all, nil
}
