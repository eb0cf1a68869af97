package producer_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// Every kind of wait and of suspension is kept over a crash right after the answer, and a clock that was
// set back an hour meanwhile lengthens none.
func TestPushWaitsOutliveTheProcess(t *testing.T) {
	const never = 1000 * time.Hour
	for _, c := range []struct {
		name     string
		script   []reply
		from, to time.Duration // after the last of them
	}{
		{"a failure", []reply{status(500)}, time.Second / 2, time.Second},
		{"no answer", []reply{lost}, time.Second / 2, time.Second},
		{"many failures", []reply{lost, silent, status(502), status(404), lost, lost}, 16 * time.Second, 32 * time.Second},
		{"a halt by seconds", []reply{status(429, "Retry-After", "3600")}, time.Hour, time.Hour},
		{"a halt by date", []reply{status(503, "Retry-After", "Sat, 01 Jan 2000 05:00:00 GMT")}, 5 * time.Hour, 5 * time.Hour},
		{"a halt of a day", []reply{status(429, "Retry-After", "86400")}, 24 * time.Hour, 24 * time.Hour},
		{"a halt of no length", []reply{status(429), status(429), status(429)}, 2 * time.Second, 4 * time.Second},
		{"a halt after failures", []reply{status(500), status(500), status(503, "Retry-After", "600")}, 10 * time.Minute, 10 * time.Minute},
		{"the first refusal", []reply{status(401)}, time.Minute, time.Minute},
		{"the second refusal", []reply{status(403), status(401)}, time.Minute, time.Minute},
		{"the third refusal", []reply{status(403), status(401), status(401)}, never, never},
		{"gone", []reply{status(410)}, never, never},
		{"a halt too long", []reply{status(429, "Retry-After", "86401")}, never, never},
		{"too large at last", []reply{status(413), status(413), status(413)}, never, never},
	} {
		for _, clock := range []time.Duration{0, time.Hour} {
			t.Run(c.name+map[bool]string{true: ", the clock set back"}[clock > 0], func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					dir := t.TempDir()
					store := openStore(t, dir)
					subscribe(t, store, "b")
					want := put(t, store, "local", 4)
					s := newSubscriber(c.script...)
					s.always = silent
					process := &mortal{Store: store}
					stop := start(t, newPusher(t, process, s))
					for range c.script {
						s.next(t)
					}
					settled := func() bool { return stateOf(t, store, "b").Attempts == len(c.script) }
					for !settled() {
						time.Sleep(time.Millisecond)
					}
					process.kill()
					before := stateOf(t, store, "b")
					stop()
					if clock > 0 {
						setBack(t, store, clock)
					}

					began := time.Now()
					s = newSubscriber()
					store = openStore(t, dir)
					p := newPusher(t, store, s)
					start(t, p)
					if c.from == never {
						time.Sleep(48 * time.Hour)
						s.none(t)
						got := stateOf(t, store, "b")
						if got.Status != producer.Suspended || got.Reason != before.Reason || got.LastError != before.LastError || got.Cursor != 0 {
							t.Errorf("%+v, before %+v", got, before)
						}
						if err := producer.Resume(t.Context(), store, "b"); err != nil {
							t.Fatal(err)
						}
						p.Wake()
						wantChain(t, 0, []pushed{s.next(t)}, want)
						return
					}
					again := s.next(t)
					wantChain(t, 0, []pushed{again}, want)
					if wait := again.at.Sub(before.HaltedAt); clock == 0 && (wait < c.from || wait > c.to+time.Millisecond) || again.at.Sub(began) > c.to {
						t.Errorf("pushed again after %v, %v of them after the restart", wait, again.at.Sub(began))
					}
				})
			})
		}
	}
}

// setBack makes the stored state one that was written before the clock was set back.
func setBack(t *testing.T, store producer.Store, by time.Duration) {
	t.Helper()
	doc, err := store.Get(t.Context(), producer.SubscriptionKind, "b")
	if err != nil {
		t.Fatal(err)
	}
	var state producer.SubscriptionState
	if err := json.Unmarshal(doc.Body, &state); err != nil {
		t.Fatal(err)
	}
	for _, at := range []*time.Time{&state.HaltedUntil, &state.HaltedAt, &state.FailingSince, &state.SucceededAt} {
		if !at.IsZero() {
			*at = at.Add(by)
		}
	}
	if doc.Body, err = json.Marshal(state); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Apply(t.Context(), entityevent.Commit{Docs: []entityevent.Doc{doc}}); err != nil {
		t.Fatal(err)
	}
}

// A batch that was halved stays so over a restart.
func TestPushBatchLimitOutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		store := openStore(t, dir)
		subscribe(t, store, "b")
		put(t, store, "local", 100)
		s := newSubscriber(status(413), status(413), silent)
		stop := start(t, newPusher(t, store, s))
		s.next(t)
		s.next(t)
		s.next(t)
		stop()
		s = newSubscriber()
		start(t, newPusher(t, openStore(t, dir), s))
		if p := s.next(t); len(p.events) != 25 {
			t.Errorf("%d events after a restart, want 25", len(p.events))
		}
	})
}

// The day of failure that suspends is one of trying: restarts and a clock that was set back do not make
// it longer, and the time in which the agent did not run does not count.
func TestPushDayOfFailure(t *testing.T) {
	for _, c := range []struct {
		name           string
		back, off, yet time.Duration
	}{
		{"a restart", 0, 0, time.Hour},
		{"the clock set back", time.Hour, 0, time.Hour},
		{"a week off", 0, 7 * 24 * time.Hour, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				store := openStore(t, dir)
				subscribe(t, store, "b")
				put(t, store, "local", 2)
				s := newSubscriber()
				s.always = lost
				stop := start(t, newPusher(t, store, s))
				time.Sleep(23 * time.Hour)
				stop()
				if c.back > 0 {
					setBack(t, store, c.back)
				}
				time.Sleep(c.off)
				start(t, newPusher(t, openStore(t, dir), s))
				began := time.Now()
				for stateOf(t, store, "b").Status == producer.Active {
					time.Sleep(time.Minute)
				}
				if took := time.Since(began); took < c.yet-20*time.Minute || took > c.yet+20*time.Minute {
					t.Errorf("suspended %v after the restart, want %v", took, c.yet)
				}
				if got := stateOf(t, store, "b"); !strings.Contains(got.Reason, "not one push was taken for 24h") {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// Who resumes while the pusher writes its state is heard; what fails then fails anew, with counters that
// begin anew.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		want := put(t, store, "local", 2)
		s := newSubscriber()
		s.always = status(401)
		p := newPusher(t, store, s)
		start(t, p)
		for round := range 3 {
			for n := range 3 {
				s.next(t)
				synctest.Wait()
				if got := stateOf(t, store, "b"); got.Attempts != n+1 || got.Refusals != n+1 || (got.Status == producer.Suspended) != (n == 2) {
					t.Fatalf("round %d, refusal %d: %+v", round, n+1, got)
				}
			}
			time.Sleep(48 * time.Hour)
			s.none(t)
			if err := producer.Resume(t.Context(), meddling{store, 3, new(counter)}, "b"); err != nil {
				t.Fatal(err)
			}
			if got := stateOf(t, store, "b"); got.Status != producer.Active || got.Reason != "" || got.LastError != "" || got.Attempts != 0 || !got.FailingSince.IsZero() {
				t.Errorf("resumed: %+v", got)
			}
			p.Wake()
		}
		s.mu.Lock()
		s.always = status(429, "Retry-After", "7200")
		s.mu.Unlock()
		s.next(t)
		synctest.Wait()
		s.none(t)
		s.mu.Lock()
		s.always = nil
		s.mu.Unlock()
		if err := producer.Resume(t.Context(), store, "b"); err != nil { // it is halted, not suspended
			t.Fatal(err)
		}
		p.Wake()
		resumed := time.Now()
		again := s.next(t)
		if !again.at.Equal(resumed) {
			t.Errorf("a halted one went on after %v", again.at.Sub(resumed))
		}
		wantChain(t, 0, []pushed{again}, want)
		if err := producer.Resume(t.Context(), store, "nobody"); !errors.Is(err, entityevent.ErrAbsent) {
			t.Errorf("%v, want ErrAbsent", err)
		}
		if err := producer.Resume(t.Context(), &breaking{Store: store, err: entityevent.ErrUnavailable}, "b"); !errors.Is(err, entityevent.ErrUnavailable) {
			t.Errorf("%v, want ErrUnavailable", err)
		}
	})
}

// meddling is a store in which the document changes between each read and the write that follows, so often.
type meddling struct {
	producer.Store
	times int64
	met   *counter
}

func (m meddling) Get(ctx context.Context, kind, id string) (entityevent.Doc, error) {
	doc, err := m.Store.Get(ctx, kind, id)
	if err == nil && m.met.next() <= m.times {
		_, err = m.Store.Apply(ctx, entityevent.Commit{Docs: []entityevent.Doc{doc}})
	}
	return doc, err
}
