package sqlite

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/resosync/resosync/entityevent"
)

// A transaction takes in no more calls beyond these; a single larger call is still one transaction.
const (
	groupRows  = 1000
	groupBytes = 1 << 20
)

// writer runs calls on the one connection that writes. Calls that arrive while a transaction is being
// committed share the next one. There is no goroutine behind it: the first caller leads, which means that
// it runs a group on behalf of everyone in it, and then hands over to the first one waiting.
type writer struct {
	conn     *conn
	notifier *entityevent.Notifier
	known    *known
	log      atomic.Value          // entityevent.LogID, as of the last commit
	rules    atomic.Pointer[rules] // as of the last commit
	observe  func(Committed)
	failed   func(error)
	logger   *slog.Logger

	path     string
	file     identity
	seen     time.Time // in its place
	recheck  time.Duration
	spoiled  bool // conn must be replaced before its next use
	walLimit int64
	commits  int   // since the WAL was looked at
	written  int   // bytes, roughly, since then
	trimmed  error // what kept the last checkpoint from its work

	mu      sync.Mutex
	queue   []*call
	leading bool // somebody leads, or was told to
}

// call is one unit that commits wholly or not at all.
type call struct {
	run         func(*tx) error
	rows, bytes int

	turn     chan struct{} // one signal: lead, or answered
	leads    bool
	answered bool
	err      error
	panicked any
}

// do runs c in a transaction, shared with other calls, and returns when it is durable or refused. ctx
// counts while c stands in the queue only: once it is under way do waits for its outcome.
func (w *writer) do(ctx context.Context, c *call) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.turn = make(chan struct{}, 1)
	w.mu.Lock()
	w.queue = append(w.queue, c)
	if !w.leading {
		w.leading, c.leads = true, true
		c.turn <- struct{}{}
	}
	w.mu.Unlock()

	select {
	case <-c.turn:
	case <-ctx.Done():
		if w.withdraw(c) {
			return context.Cause(ctx)
		}
		<-c.turn
	}
	if !c.answered {
		w.lead()
	}
	if c.panicked != nil {
		panic(c.panicked)
	}
	return c.err
}

// withdraw takes c out of the queue, unless it is under way or leads.
func (w *writer) withdraw(c *call) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.leads {
		return false
	}
	for i, q := range w.queue {
		if q == c {
			w.queue = append(w.queue[:i], w.queue[i+1:]...)
			return true
		}
	}
	return false
}

// lead runs the group at the head of the queue, in which the leader's own call comes first, hands over,
// and answers everybody.
func (w *writer) lead() {
	group := w.take()
	defer func() {
		w.handOver()
		for _, c := range group {
			c.answered = true
			c.turn <- struct{}{}
		}
	}()
	w.commit(group)
	w.trim(group)
}

func (w *writer) handOver() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		w.queue, w.leading = nil, false
		return
	}
	w.queue[0].leads = true
	w.queue[0].turn <- struct{}{}
}

func (w *writer) take() []*call {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, rows, bytes := 0, 0, 0
	for _, c := range w.queue {
		rows, bytes = rows+c.rows, bytes+c.bytes
		if n > 0 && (rows > groupRows || bytes > groupBytes) {
			break
		}
		n++
	}
	group := w.queue[:n:n]
	w.queue = w.queue[n:]
	return group
}

// Committed tells of one transaction of the writer.
type Committed struct {
	Calls  int           // how many calls of Apply, Receive and NewLog it carried
	Rows   int           // what they asked to write: changes, events, inbox rows, documents
	Events int           // how many it appended to the log
	Took   time.Duration // from its begin to the return of its COMMIT
	Err    error         // why nothing of it was stored; a call's own refusal, as a conflict, is none
}

// commit runs a group in one transaction and sets every call's outcome. Who waits for events is woken
// after COMMIT returned, and the callers are answered after that.
func (w *writer) commit(group []*call) {
	t := &tx{rules: w.rules.Load(), known: w.known}
	start := time.Now()
	err := errUnfinished // for a panic
	defer func() {
		took := time.Since(start)
		if err != nil {
			err = w.giveUp(group, err)
		}
		w.known.done()
		w.tell(group, err)
		w.report(group, t, took, err)
	}()
	if err = w.transact(t, group); err != nil {
		return
	}
	if t.log != "" {
		w.log.Store(t.log)
	}
	w.rules.Store(t.rules)
	w.notifier.Publish(t.notices)
}

func (w *writer) transact(t *tx, group []*call) error {
	if err := w.ready(); err != nil {
		return err
	}
	t.conn = w.conn
	if err := t.begin(); err != nil {
		return err
	}
	if err := t.runAll(group); err != nil {
		return err
	}
	return t.commit()
}

// The file is looked for in its place so often. What is written until it is missed goes the way of all that
// is in it.
const recheck = 100 * time.Millisecond

// ready sees that the file is the one that was opened, and replaces a connection that is of no more use.
func (w *writer) ready() error {
	if now := time.Now(); now.Sub(w.seen) >= w.recheck {
		if err := w.file.check(); err != nil {
			return err
		}
		w.seen = now
	}
	if !w.spoiled {
		return nil
	}
	c, err := openWriter(w.path)
	if err != nil {
		return err
	}
	// The new one comes first, for the last connection that is closed takes the WAL with it.
	if err := w.conn.close(); err != nil {
		w.logger.Warn("connection not closed", "path", w.path, "err", err)
	}
	w.conn, w.spoiled = c, false
	return nil
}

func (w *writer) report(group []*call, t *tx, took time.Duration, err error) {
	if w.observe == nil {
		return
	}
	c := Committed{Calls: len(group), Took: took}
	for _, call := range group {
		c.Rows += call.rows
	}
	switch {
	case err == nil:
		c.Events = len(t.notices)
	case errors.Is(err, entityevent.ErrUnavailable):
		c.Err = err
	}
	w.observe(c)
}

var errUnfinished = errors.New("transaction left unfinished")

// giveUp undoes the whole transaction and returns what its calls are told. A call that was refused for a
// reason of its own keeps it.
func (w *writer) giveUp(group []*call, err error) error {
	if w.conn.inTx() {
		if _, rerr := w.conn.exec("ROLLBACK"); rerr != nil {
			err = errors.Join(err, rerr)
		}
	}
	err = unavailable(w.path, err)
	w.spoiled = w.spoiled || w.conn.inTx() || spoils(err)
	for _, c := range group {
		if c.err == nil && c.panicked == nil {
			c.err = err
		}
	}
	return err
}

// tell says of every error that means that the store cannot do its work, a call's own as well, that it does.
func (w *writer) tell(group []*call, err error) {
	for _, c := range group {
		c.err = unavailable(w.path, c.err)
		if err == nil {
			w.failed(c.err)
		}
	}
	w.failed(err)
}

// runAll runs the calls of a group, each under its own savepoint. It returns an error when the whole
// transaction is lost.
func (t *tx) runAll(group []*call) error {
	if len(group) == 1 {
		c := group[0]
		t.try(c)
		if c.panicked != nil {
			return errUnfinished
		}
		return c.err
	}
	for _, c := range group {
		if _, err := t.exec("SAVEPOINT call"); err != nil {
			return err
		}
		counter, notices, rules := t.counter, len(t.notices), t.rules
		t.try(c)
		if c.err != nil || c.panicked != nil {
			if fatal(c.err) || !t.inTx() {
				return errors.Join(errUnfinished, c.err)
			}
			if _, err := t.exec("ROLLBACK TO call"); err != nil {
				return err
			}
			t.counter, t.notices, t.rules = counter, t.notices[:notices], rules
		}
		if _, err := t.exec("RELEASE call"); err != nil {
			return err
		}
	}
	return nil
}

// try runs one call. A panic in it becomes its outcome, and goes on in the goroutine of its caller.
func (t *tx) try(c *call) {
	defer func() {
		t.events = t.events[:0]
		clear(t.sights)
		if p := recover(); p != nil {
			c.panicked = p
		}
	}()
	if c.err = c.run(t); c.err == nil {
		c.err = errors.Join(t.forgetBetween(), t.flush())
	}
}

// fatal says whether an error of SQLite leaves nothing of the transaction to trust: all but those which
// a single statement's values bring about.
func fatal(err error) bool {
	var e sqlite3.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case sqlite3.ErrConstraint, sqlite3.ErrTooBig, sqlite3.ErrMismatch, sqlite3.ErrError:
		return false
	}
	return true
}

// spoils says whether a connection that met an error may go on meeting it when the reason is gone: it may
// have been opened on a file system that could not be written, or remember a damaged page.
func spoils(err error) bool {
	var e sqlite3.Error
	switch {
	case !errors.Is(err, entityevent.ErrUnavailable):
		return false
	case errors.As(err, &e):
		return e.Code != sqlite3.ErrFull && e.Code != sqlite3.ErrBusy
	}
	return errors.Is(err, errDamaged)
}
