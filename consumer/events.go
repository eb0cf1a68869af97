package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// How long a producer is asked to hold a poll until there is news.
const (
	atOnce   = time.Duration(0)
	longPoll = 30 * time.Second
)

// waits remembers whether the producer holds a poll (RFC 7240, wait).
type waits struct {
	mu    sync.Mutex
	known bool
	holds bool
}

func (w *waits) may() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.known || w.holds
}

func (w *waits) learn(holds bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known, w.holds = true, holds
}

// replays recognises pages of events that something on the way repeats without saying so: a cache that
// sends no Age keeps the producer's Date.
type replays struct {
	mu    sync.Mutex
	dates map[string]stamp // by target
}

// stamp is the Date of an answer, and when it was here.
type stamp struct {
	date  string
	heard time.Time
}

// seen says whether the producer's clock stood still since the answer before to the same question, and
// notes this one.
func (r *replays) seen(target, date string, asked time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, known := r.dates[target]
	if known && date != "" && date == last.date && asked.Sub(last.heard) >= 2*time.Second {
		return true
	}
	if len(r.dates) >= 16 || r.dates == nil {
		r.dates = map[string]stamp{} // few questions are asked again
	}
	r.dates[target] = stamp{date, time.Now()}
	return false
}

// eventPage is a page of the producer's log.
type eventPage struct {
	log     entityevent.LogID // empty: it names none
	events  []entityevent.Event
	through entityevent.Sequence // how far it looked
	asked   time.Time
	next    string // where the producer says that more follows
	held    bool   // the producer applied Prefer: wait
}

// eventsAfter asks for the events after a number, oldest first, and tells where the feed stands.
func (f *Feed) eventsAfter(ctx context.Context, at entityevent.Position, after entityevent.Sequence, hold time.Duration) (eventPage, error) {
	prefer := []string{fmt.Sprintf("odata.maxpagesize=%d", f.PageSize)}
	if hold > 0 {
		prefer = append(prefer, fmt.Sprintf("wait=%d", int(hold.Seconds())))
	}
	query := fmt.Sprintf("$filter=EntityEventSequence%%20gt%%20%d&$orderby=EntityEventSequence%%20asc&$top=%d", after, f.PageSize)
	p, err := f.events(ctx, f.client.as(forPoll).at(at), query, after, prefer...)
	if err != nil {
		return p, fmt.Errorf("EntityEvent after %d: %w", after, err)
	}
	last := after
	for _, e := range p.events {
		if e.Sequence <= last {
			return p, fmt.Errorf("EntityEvent after %d: %w: not in ascending order", after, errUnexpected)
		}
		last = e.Sequence
	}
	if p.log == "" {
		p.through = last
	} else if len(p.events) > 0 && p.through < last {
		return p, fmt.Errorf("EntityEvent after %d: %w: EntityEvent-Through is missing or below the last event", after, errUnexpected)
	}
	return p, nil
}

// head asks for the newest event: its log, its number, and how far the producer has looked.
func (f *Feed) head(ctx context.Context) (eventPage, error) {
	p, err := f.events(ctx, f.client.as(forPoll), "$orderby=EntityEventSequence%20desc&$top=1", 0)
	if err != nil {
		return p, fmt.Errorf("head of EntityEvent: %w", err)
	}
	if len(p.events) > 1 {
		return p, fmt.Errorf("head of EntityEvent: %w: it ignores $top", errUnexpected)
	}
	if len(p.events) == 1 {
		p.through = max(p.through, p.events[0].Sequence)
	}
	return p, nil
}

// newest is head for whoever relies on it: a producer without a log id may know no other order of its log
// than the ascending one, and answer with the oldest.
func (f *Feed) newest(ctx context.Context) (eventPage, error) {
	head, err := f.head(ctx)
	if err == nil && head.log == "" {
		head.through, err = f.climb(ctx, head.through)
	}
	return head, err
}

// climb looks for the newest event from one that is known, by few questions: it doubles its step until
// nothing lies above, and then halves what is left, down to the last page. So it ends although more is
// published meanwhile.
func (f *Feed) climb(ctx context.Context, low entityevent.Sequence) (entityevent.Sequence, error) {
	step := entityevent.Sequence(0) // at first there is nothing above, of any server that knows its order
	for high := entityevent.Sequence(math.MaxInt64); low < high; {
		at := low + min(step, (high-low)/2)
		page, err := f.eventsAfter(ctx, entityevent.Position{}, at, atOnce)
		if err != nil {
			return low, err
		}
		if len(page.events) == 0 {
			high = at
			continue
		}
		if low = page.through; len(page.events) < f.PageSize && page.next == "" {
			break
		}
		step = max(2*min(step, high/4), entityevent.Sequence(f.PageSize))
	}
	return low, nil
}

// events asks for events. A page may be empty though more follows (RCP-27): it follows the nextLink, unless
// the page itself says that the producer looked further than after.
func (f *Feed) events(ctx context.Context, c *client, query string, after entityevent.Sequence, prefer ...string) (eventPage, error) {
	p, err := f.eventPage(ctx, c, "EntityEvent?"+query, prefer...)
	asked, seen := p.asked, map[string]bool{}
	for err == nil && len(p.events) == 0 && p.next != "" && (p.log == "" || p.through <= after) {
		if seen[p.next] {
			return p, fmt.Errorf("%w: nextLinks that lead in a circle", errUnexpected)
		}
		seen[p.next] = true
		p, err = f.eventPage(ctx, c, p.next, prefer...)
	}
	p.asked = asked
	return p, err
}

func (f *Feed) eventPage(ctx context.Context, c *client, target string, prefer ...string) (eventPage, error) {
	p := eventPage{asked: time.Now()}
	a, err := c.get(ctx, target, asJSON, prefer...)
	if err != nil {
		return p, err
	}
	defer a.Close()
	if entityevent.Member(a.Body, "value") == nil {
		return p, fmt.Errorf("%w: no value array", errUnexpected)
	}
	if p.events, err = entityevent.ParseEvents(a.Body); err != nil {
		return p, fmt.Errorf("%w: %w", errUnexpected, err)
	}
	if f.replays.seen(target, a.Header.Get("Date"), p.asked) {
		return p, fmt.Errorf("%w: %w", errUnexpected, errCached)
	}
	p.log = entityevent.LogID(a.Header.Get(logHeader))
	p.held = strings.Contains(strings.ToLower(strings.Join(a.Header.Values("Preference-Applied"), ",")), "wait")
	f.client.pace.named(p.log != "")
	if a.Header.Get(throughHeader) != "" {
		if p.through, err = sequence(a.Header, throughHeader); err != nil {
			return p, fmt.Errorf("%w: %w", errUnexpected, err)
		}
	}
	next := cmp.Or(entityevent.StringMember(a.Body, "@odata.nextLink"), entityevent.StringMember(a.Body, "@nextLink"))
	p.next, err = a.link(next)
	return p, err
}

// Headers that our producers send beside what the standards ask for.
const (
	logHeader     = "EntityEvent-Log"
	afterHeader   = "EntityEvent-After"
	throughHeader = "EntityEvent-Through"
	cursorHeader  = "EntityEvent-Cursor"
)

func sequence(h http.Header, name string) (entityevent.Sequence, error) {
	n, err := strconv.ParseInt(h.Get(name), 10, 64)
	if err != nil || n < 0 {
		return 0, errors.New(name + " is not a number from 0 to 9223372036854775807")
	}
	return entityevent.Sequence(n), nil
}
