package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// The budgets of a producer without a log id, if none are given: somewhat less than the public limits of
// real platforms, 7,200 requests in an hour and 40,000 in a day.
const (
	defaultHourly = 6800
	defaultDaily  = 38_000
)

// block bounds how many requests are written down at once as sent, before they are: so many a crash may
// count too many.
const block = 16

// kept is the share of a window, in percent, that an errand leaves to those before it. Without it a load
// in the morning would spend what the changes of the evening need.
var kept = [errands]int{forInbox: 0, forPoll: 5, forLoad: 15, forReconcile: 30}

// kindBudget is the kind of the documents of budgets, one for each feed under its name.
const kindBudget = "budget"

// budget bounds the requests of a feed in every hour and day of UTC. What may be sent is written down
// before, in blocks: neither a restart nor a crash lets a window have more than its limit. It is part of
// a pace, whose mutex guards it.
type budget struct {
	store  Store
	feed   string
	logger *slog.Logger

	writing chan struct{} // held by the one who reads or writes the document
	opened  bool          // it was read
	doc     entityevent.Doc
	hour    window
	day     window
}

// window is one hour or day.
type window struct {
	length time.Duration
	given  int // its limit. Default: usual for producers without a log id, none for others.
	usual  int

	start time.Time // in UTC; zero: none yet
	spent int       // written down as sent
	left  int       // of these, not sent yet
	end   time.Time // with the reading of the monotonic clock: setting the other one back moves nothing
	told  bool      // that it is spent
}

func newBudget(s Store, feed string, hourly, daily int, l *slog.Logger) *budget {
	return &budget{store: s, feed: feed, logger: l, writing: make(chan struct{}, 1),
		hour: window{length: time.Hour, given: hourly, usual: defaultHourly},
		day:  window{length: 24 * time.Hour, given: daily, usual: defaultDaily}}
}

// limit returns how many requests the window has; 0: no limit.
func (w *window) limit(named bool) int {
	if w.given <= 0 && !named {
		return w.usual
	}
	return max(w.given, 0)
}

// roll begins the next window when its time has come. A window that began in the future shows that the
// clock was set back: it is the present one, and what was spent counts.
func (w *window) roll(now time.Time) {
	start := now.UTC().Truncate(w.length)
	begins := now.Add(start.Sub(now))
	switch {
	case start.After(w.start), !w.end.IsZero() && !now.Before(w.end):
		w.start, w.spent, w.left, w.end, w.told = start, 0, 0, begins.Add(w.length), false
	case start.Before(w.start), w.end.IsZero():
		w.start = start
		if w.end.IsZero() {
			w.end = begins.Add(w.length)
		}
	}
}

// resume goes on with a window that was written down.
func (w *window) resume(now, start time.Time, spent int) {
	w.start, w.spent, w.left, w.end = start, spent, 0, time.Time{}
	w.roll(now)
}

// allowed is how many of limit an errand may have sent when it is through.
func allowed(limit int, e errand) int { return limit - limit*kept[e]/100 }

// delay is how long an errand has to wait for the budget.
func (b *budget) delay(now time.Time, e errand, named bool) (d time.Duration) {
	for _, w := range []*window{&b.hour, &b.day} {
		w.roll(now)
		limit := w.limit(named)
		if limit == 0 || w.spent-w.left < allowed(limit, e) {
			continue
		}
		d = max(d, w.end.Sub(now))
		if e <= forPoll && !w.told {
			w.told = true
			b.logger.Warn("the budget of requests is spent; what needs more waits", "limit", limit, "window", w.length.String(), "until", w.start.Add(w.length))
		}
	}
	return d
}

// take counts one request, or says that the budget has to be written down before.
func (b *budget) take(named bool) bool {
	for _, w := range []*window{&b.hour, &b.day} {
		if w.limit(named) > 0 && w.left == 0 {
			return false
		}
	}
	for _, w := range []*window{&b.hour, &b.day} {
		if w.limit(named) > 0 {
			w.left--
		}
	}
	return true
}

// more is how many requests a window writes down next.
func (w *window) more(named bool) int {
	limit := w.limit(named)
	if limit == 0 || w.left > 0 {
		return 0
	}
	return min(max(1, min(block, limit/20)), limit-w.spent)
}

// ledger is what is kept of a pace.
type ledger struct {
	Hour     time.Time     `json:"hour"` // when it began
	InHour   int           `json:"in_hour"`
	Day      time.Time     `json:"day"`
	InDay    int           `json:"in_day"`
	Halted   time.Time     `json:"halted,omitzero"` // when the producer last wanted no more requests
	Halt     time.Duration `json:"halt,omitzero"`   // and for how long, in nanoseconds
	Refusals int           `json:"refusals,omitzero"`
}

// open reads what was spent, and how long the producer wants no requests, before the first request.
func (p *pace) open(ctx context.Context) error {
	b := p.budget
	p.mu.Lock()
	opened := b.opened
	p.mu.Unlock()
	if opened {
		return nil
	}
	if err := hold(ctx, b.writing); err != nil {
		return err
	}
	defer func() { <-b.writing }()
	return p.read(ctx)
}

// read takes over what the document says. The caller holds writing.
func (p *pace) read(ctx context.Context) error {
	b := p.budget
	doc, err := b.store.Get(ctx, kindBudget, b.feed)
	var l ledger
	if err == nil && doc.Body != nil {
		err = json.Unmarshal(doc.Body, &l)
	}
	if err != nil {
		return fmt.Errorf("budget of feed %s: %w", b.feed, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	b.opened, b.doc = true, entityevent.Doc{Kind: kindBudget, ID: b.feed, Version: doc.Version}
	b.hour.resume(now, l.Hour, l.InHour)
	b.day.resume(now, l.Day, l.InDay)
	// A halt that was asked for in the future shows a clock that was set back: it would last too long.
	if age := now.Sub(l.Halted); age >= 0 {
		all := &p.halts[everything]
		all.refusals = max(all.refusals, l.Refusals)
		if until := now.Add(min(l.Halt, longestHalt) - age); until.After(all.until) {
			all.until = until
		}
	}
	return nil
}

// reserve writes down that more requests are sent, before they are.
func (p *pace) reserve(ctx context.Context) error {
	b := p.budget
	if err := hold(ctx, b.writing); err != nil {
		return err
	}
	defer func() { <-b.writing }()
	for {
		p.mu.Lock()
		hour, day := b.hour.more(p.free), b.day.more(p.free)
		start := [2]time.Time{b.hour.start, b.day.start}
		doc := p.entry(hour, day)
		p.mu.Unlock()
		if hour+day == 0 {
			return nil // somebody else did
		}
		_, err := b.store.Apply(ctx, entityevent.Commit{Feed: b.feed, Docs: []entityevent.Doc{doc}})
		if errors.Is(err, entityevent.ErrConflict) {
			// Another process or feed of this name did; it counts too.
			if err = p.read(ctx); err == nil {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("budget of feed %s: %w", b.feed, err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		b.doc.Version++
		for i, w := range []*window{&b.hour, &b.day} {
			if n := [2]int{hour, day}[i]; w.start.Equal(start[i]) { // else it is over
				w.spent += n
				w.left += n
			}
		}
		return nil
	}
}

// entry is the document after so many more requests. The caller holds mu.
func (p *pace) entry(hour, day int) entityevent.Doc {
	b := p.budget
	now, all := time.Now(), p.halts[everything]
	l := ledger{Hour: b.hour.start, InHour: b.hour.spent + hour, Day: b.day.start, InDay: b.day.spent + day, Refusals: all.refusals}
	if left := all.until.Sub(now); left > 0 {
		l.Halted, l.Halt = now.UTC(), left
	} else if all.refusals > 0 {
		l.Halted = now.UTC()
	}
	return with(b.doc, l)
}

// note writes down what the producer said of requests, so that a restart does not forget it. What cannot
// be written is in force all the same, until then.
func (p *pace) note(ctx context.Context) {
	b := p.budget
	ctx = context.WithoutCancel(ctx)
	if hold(ctx, b.writing) != nil {
		return
	}
	defer func() { <-b.writing }()
	for range 2 {
		p.mu.Lock()
		doc := p.entry(0, 0)
		p.mu.Unlock()
		_, err := b.store.Apply(ctx, entityevent.Commit{Feed: b.feed, Docs: []entityevent.Doc{doc}})
		if err == nil {
			p.mu.Lock()
			b.doc.Version++
			p.mu.Unlock()
			return
		}
		if !errors.Is(err, entityevent.ErrConflict) || p.read(ctx) != nil {
			return
		}
	}
}
