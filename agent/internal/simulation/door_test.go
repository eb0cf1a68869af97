package simulation

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// door is a part of a node's way to its store: every call takes a moment, is written down, and may be the
// last of this life, before it is carried out or after.
type door struct {
	entityevent.Store
	life *life
	who  string

	applied  func(entityevent.Commit, []entityevent.Outcome, error) // hears of every commit that was carried out
	received func(entityevent.Delivery, entityevent.Position, error)
	turn     time.Duration // after which a call goes on, in place of a moment at random. Default 0: at random.
	swift    bool          // changes take no time: they are made under a lock that is not the bubble's to wait for
}

func (d *door) do(ctx context.Context, what string, odds float64, call func() error) error {
	what = " " + d.who + " " + what
	if name, ok := ctx.Value(worker{}).(string); ok {
		what = " " + name + what
	}
	var err error
	if d.turn > 0 {
		err = d.life.takes(ctx, d.turn, what, odds)
	} else {
		err = d.life.await(ctx, what, odds)
	}
	if err != nil {
		return err
	}
	err = call()
	d.life.w.note(d.life.name + what + ": " + result(err))
	if d.turn > 0 { // all of a transaction are answered at one instant
		if cerr := d.life.takes(context.WithoutCancel(ctx), time.Millisecond+d.turn, what, 0); cerr != nil {
			return cerr
		}
	}
	if cerr := d.life.mayCrash(what+" after", odds); cerr != nil {
		return cerr
	}
	return err
}

func (d *door) Apply(ctx context.Context, c entityevent.Commit) (outcomes []entityevent.Outcome, err error) {
	what := fmt.Sprintf("Apply %d done %d aside %d", len(c.Changes), len(c.Done), len(c.Aside))
	if len(c.Changes) > 0 {
		what += " " + c.Changes[0].String()
	}
	for _, doc := range c.Docs {
		what += " " + doc.Kind + "/" + doc.ID
	}
	call := func() error {
		outcomes, err = d.Store.Apply(ctx, c)
		if d.applied != nil && (err == nil || errors.Is(err, entityevent.ErrConflict)) {
			d.applied(c, outcomes, err)
		}
		return err
	}
	if d.swift && len(c.Changes) > 0 {
		if err := d.life.mayCrash(what, atWrite); err != nil {
			return nil, err
		}
		err := call()
		d.life.w.note(d.life.name + " " + d.who + " " + what + ": " + result(err))
		if cerr := d.life.mayCrash(what+" after", atWrite); cerr != nil {
			return nil, cerr
		}
		return outcomes, err
	}
	if err := d.do(ctx, what, atWrite, call); err != nil {
		return nil, err
	}
	return outcomes, nil
}

func (d *door) Receive(ctx context.Context, r entityevent.Delivery) (p entityevent.Position, err error) {
	err = d.do(ctx, fmt.Sprintf("Receive %d-%d of %d adopt %v", r.After, r.Through, len(r.Events), r.Adopt), atWrite, func() error {
		p, err = d.Store.Receive(ctx, r)
		if d.received != nil {
			d.received(r, p, err)
		}
		return err
	})
	return p, err
}

func (d *door) Events(ctx context.Context, v entityevent.View, q entityevent.EventQuery) (p entityevent.Page, err error) {
	err = d.do(ctx, fmt.Sprintf("Events %d %d %d", q.After, q.Before, q.Order), atRead, func() error {
		p, err = d.Store.Events(ctx, v, q)
		return err
	})
	if err == nil { // whoever wrote what was read has heard of it by then
		err = d.life.await(ctx, " "+d.who+" has Events", 0)
	}
	return p, err
}

func (d *door) Wait(ctx context.Context, v entityevent.View, q entityevent.EventQuery) error {
	if err := d.life.await(ctx, fmt.Sprintf(" %s Wait %d", d.who, q.After), 0); err != nil {
		return err
	}
	if err := d.Store.Wait(ctx, v, q); err != nil {
		return err
	}
	return d.life.await(ctx, fmt.Sprintf(" %s woken %d", d.who, q.After), atRead)
}

func (d *door) Read(ctx context.Context, v entityevent.View, q entityevent.Query) iter.Seq2[entityevent.Record, error] {
	return func(yield func(entityevent.Record, error) bool) {
		what := fmt.Sprintf("Read %s %d %q", q.Resource, len(q.Keys), q.After)
		if len(q.Keys) > 0 {
			what += slices.Min(q.Keys) // their order means nothing
		}
		var records []entityevent.Record
		err := d.do(ctx, what, atRead, func() error {
			for r, err := range d.Store.Read(ctx, v, q) {
				if err != nil {
					return err
				}
				records = append(records, r)
			}
			return nil
		})
		if err != nil {
			yield(entityevent.Record{}, err)
			return
		}
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (d *door) Count(ctx context.Context, v entityevent.View, q entityevent.Query) (n int64, err error) {
	err = d.do(ctx, "Count "+q.Resource, atRead, func() error {
		n, err = d.Store.Count(ctx, v, q)
		return err
	})
	return n, err
}

func (d *door) Get(ctx context.Context, kind, id string) (doc entityevent.Doc, err error) {
	err = d.do(ctx, "Get "+kind+"/"+id, atRead, func() error {
		doc, err = d.Store.Get(ctx, kind, id)
		return err
	})
	return doc, err
}

func (d *door) List(ctx context.Context, kind string) (docs []entityevent.Doc, err error) {
	err = d.do(ctx, "List "+kind, atRead, func() error {
		docs, err = d.Store.List(ctx, kind)
		return err
	})
	return docs, err
}

func (d *door) Position(ctx context.Context, feed string) (p entityevent.Position, err error) {
	err = d.do(ctx, "Position", atRead, func() error {
		p, err = d.Store.Position(ctx, feed)
		return err
	})
	return p, err
}

func (d *door) Take(ctx context.Context, feed string, limit int) (items []entityevent.Item, err error) {
	err = d.do(ctx, "Take", atRead, func() error {
		items, err = d.Store.Take(ctx, feed, limit)
		return err
	})
	return items, err
}

func (d *door) Depth(ctx context.Context, feed string) (n int64, err error) {
	err = d.do(ctx, "Depth", atRead, func() error {
		n, err = d.Store.Depth(ctx, feed)
		return err
	})
	return n, err
}

func (d *door) Aside(ctx context.Context, feed string, due time.Time, limit int) (list []entityevent.Setback, err error) {
	err = d.do(ctx, "Aside", atRead, func() error {
		list, err = d.Store.Aside(ctx, feed, due, limit)
		return err
	})
	return list, err
}

func (d *door) CountAside(ctx context.Context, feed string) (kinds map[string]int64, err error) {
	err = d.do(ctx, "CountAside", atRead, func() error {
		kinds, err = d.Store.CountAside(ctx, feed)
		return err
	})
	return kinds, err
}

func (d *door) NewLog(ctx context.Context) (log entityevent.LogID, err error) {
	err = d.do(ctx, "NewLog", atRead, func() error {
		log, err = d.Store.NewLog(ctx)
		return err
	})
	return log, err
}
