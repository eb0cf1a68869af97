package consumer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/retry"
)

var pollBackoff = retry.Backoff{Min: time.Second, Max: 15 * time.Minute}

const (
	// breath is how long a failing producer is left alone even if it pushes.
	breath = 5 * time.Second
	// tooSoon is an answer to a poll that claims to have been held and cannot have been.
	tooSoon = time.Second
)

// Follow polls the producer until ctx ends, which is no error: at first, on the schedule, when a push
// shows that events are missing, and continuously where the producer holds polls. A feed that never was
// loaded, or whose producer has another log, is loaded first. Failures are tried again, for ever.
func (f *Feed) Follow(ctx context.Context) error {
	if err := f.Check(); err != nil {
		return err
	}
	level, hasty := false, 0
	for ctx.Err() == nil {
		hold := level && f.LongPoll && f.waits.may()
		start := time.Now()
		end, err := f.catchUp(ctx, hold, toTheEnd)
		if ctx.Err() != nil {
			break
		}
		failures := f.state.polled(f.Logger, err)
		var incomplete *partial
		level = err == nil || errors.As(err, &incomplete)
		switch {
		case !level:
			delay := pauseAfter(err, pollBackoff, failures)
			if errors.Is(err, errRestored) {
				// It answers. As soon as it has another name all is well again.
				delay = min(delay, time.Until(f.schedule.Next(time.Now())))
			}
			f.rest(ctx, min(delay, breath))
			f.nap(ctx, delay-breath)
		case !end.over:
			hasty = 0
		case end.Unsettled:
			f.nap(ctx, f.Settle)
		case !f.LongPoll || !f.waits.may():
			f.nap(ctx, time.Until(f.schedule.Next(time.Now())))
		case hold && end.events == 0 && time.Since(start) < tooSoon:
			// It shuts down, or only says that it holds.
			hasty++
			f.nap(ctx, min(pollBackoff.Delay(hasty), time.Until(f.schedule.Next(time.Now()))))
		default:
			hasty = 0
		}
	}
	return nil
}

// nap waits until d has passed or a push shows that events are missing.
func (f *Feed) nap(ctx context.Context, d time.Duration) { doze(ctx, f.pull, d) }

// doze waits until d has passed or c is woken. With both at once it is woken, so that a run repeats.
func doze(ctx context.Context, c <-chan struct{}, d time.Duration) {
	select {
	case <-c:
		return
	default:
	}
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-c:
	case <-t.C:
	}
}

// reached is where a poll ended.
type reached struct {
	entityevent.Position
	events int  // received
	over   bool // nothing followed
}

// toTheEnd is as far as a log can be polled.
const toTheEnd = entityevent.Sequence(math.MaxInt64)

// catchUp loads what is not loaded and polls through a position of the producer's log, or to its end.
func (f *Feed) catchUp(ctx context.Context, hold bool, through entityevent.Sequence) (reached, error) {
	loadErr := f.load(ctx)
	var incomplete *partial
	if loadErr != nil && !errors.As(loadErr, &incomplete) {
		return reached{}, loadErr
	}
	end, err := f.poll(ctx, hold, through)
	if errors.Is(err, entityevent.ErrAnotherLog) {
		f.Logger.Warn("the producer has another log", "err", err)
		if err = f.resynchronise(ctx); err == nil {
			end, err = f.poll(ctx, false, through)
		}
	}
	if err == nil {
		err = loadErr
	}
	return end, err
}

// poll receives every event after the cursor, until a page is empty or the cursor is through a position. With hold, the producer is asked to
// wait for news. Where events must settle it may end before, for the next poll to look again at what this
// one saw: on a busy server there always is one more event.
func (f *Feed) poll(ctx context.Context, hold bool, through entityevent.Sequence) (reached, error) {
	p, err := f.Store.Position(ctx, f.Name)
	end := reached{Position: p}
	if err != nil {
		return end, err
	}
	f.client.pace.named(p.Log != "")
	asked := p.Sequence
	var first time.Time // when the page after the cursor was asked for: none looked there later
	for {
		held := atOnce
		if hold && !end.Behind() {
			held = longPoll
		}
		page, err := f.eventsAfter(ctx, end.Position, asked, held)
		if err != nil {
			if isProper(err, http.StatusGone) {
				err = f.gone(ctx, end.Position, err)
			}
			return end, err
		}
		if held == longPoll {
			f.waits.learn(page.held)
		}
		if first.IsZero() {
			first = page.asked
		}
		page.asked = first
		if page.log != end.Log {
			return end, fmt.Errorf("%w: a page names another log than the one followed", entityevent.ErrAnotherLog)
		}
		if page.through < asked {
			return end, fmt.Errorf("%w: it ends at %d, we are at %d", errRestored, page.through, asked)
		}
		over := len(page.events) == 0 && !(page.next != "" && page.through > asked)
		if over && page.log == "" && end.events == 0 {
			if err := f.checkHead(ctx, asked); err != nil {
				return end, err
			}
		}
		f.state.followed(end.Behind())
		f.state.heard(over, len(page.events))
		end.events += len(page.events)
		end.over = over
		if end.Position, err = f.receive(ctx, page, asked, end.Position, over); err != nil || over || end.Sequence >= through {
			return end, err
		}
		if end.Unsettled && time.Since(first) > f.Settle {
			return end, nil
		}
		asked = page.through
	}
}

// receive stores a page that was asked for after a position.
func (f *Feed) receive(ctx context.Context, page eventPage, asked entityevent.Sequence, p entityevent.Position, over bool) (entityevent.Position, error) {
	if over && page.through <= p.Sequence && !p.Behind() && !p.Unsettled {
		return p, nil // nothing to store
	}
	d := entityevent.Delivery{Feed: f.Name, Log: page.log, Chained: true, After: asked, Through: page.through, Events: page.events}
	if page.log == "" {
		// The pages since the cursor are in the store already, though the cursor waits for them to settle:
		// until all of them are read again, beginning when they may have.
		d.After, d.Asked, d.Settle = min(asked, p.Sequence), page.asked, f.Settle
	}
	if over {
		d.Clears = p.Marked
	}
	p, err := f.Store.Receive(ctx, d)
	f.stats.polled.Add(int64(p.Stored))
	if err == nil && p.Stored > 0 {
		wake(f.apply)
	}
	return p, err
}
