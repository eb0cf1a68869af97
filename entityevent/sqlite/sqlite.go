// Package sqlite is the embedded store: one SQLite file that holds the records, the log of their changes,
// the inbox of what was received, and small documents.
//
// It promises what entityevent.Store does. An answered write survives kill -9 and a power cut: WAL with
// synchronous=FULL on every connection. Numbers come from a counter row that is raised in the transaction
// of the events that carry them, so that they become visible in order. There is one writer; concurrent
// calls share its transactions. Reads take a connection of a pool for one bounded look each, and block
// nobody. The store starts no goroutines.
//
// Who may see a record stands beside it, and is written with it (entityevent.Profiles). Whatever goes over all
// records or events does so in steps that are no longer than other commits and reads.
//
// When it cannot do its work every call says why, as an UnavailableError, and goes on by itself when the
// reason is gone. Damage is noticed where it is met, but SQLite keeps no checksums of its pages: one that
// still looks like a page, with half its rows missing, only Backup notices, which looks at all of them.
package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/resosync/resosync/entityevent"
)

// Options are how a store is opened. The zero Options are good.
type Options struct {
	// ReadConns is how many reads run at once. Default 4.
	ReadConns int
	// Volatile names, for each resource, top-level members whose change alone makes no event (rotating
	// signed URLs).
	Volatile map[string][]string
	// Logger hears what does not fail a call. Default: nobody.
	Logger *slog.Logger
	// Observe hears of each transaction of the writer when it has ended, one after another, before its
	// callers are answered: it must be quick and not call the store. Default: nobody.
	Observe func(Committed)
	// Unavailable hears of every read and every transaction that failed because the store cannot do its
	// work, and of damage that Backup found, perhaps of several at once: it must be quick and not call the store. Default: nobody.
	Unavailable func(*UnavailableError)
}

// Store is a store in one file. Its methods may be called from many goroutines.
type Store struct {
	path     string
	failed   func(error) // tells Options.Unavailable
	opened   int64       // the counter when it was opened
	volatile map[string][]string
	steps    steps
	notifier entityevent.Notifier
	known    known
	writer   writer
	readers  chan *conn // nil: not yet opened
	looks    looks

	life   sync.RWMutex // read-locked during every call
	closed bool
}

var (
	_ entityevent.Store     = (*Store)(nil)
	_ entityevent.Profiles  = (*Store)(nil)
	_ entityevent.Compactor = (*Store)(nil)
)

// Open opens the file at path and makes it, with mode 0600, if there is none; its folder must exist. It
// brings an older schema up to date and refuses a newer one. Only one process may have a file open; the
// caller sees to that.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	s, err := open(ctx, path, o)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, unavailable(path, err))
	}
	return s, nil
}

func open(ctx context.Context, path string, o Options) (*Store, error) {
	if err := create(path); err != nil {
		return nil, err
	}
	if err := migrate(ctx, path); err != nil {
		return nil, err
	}
	if o.ReadConns <= 0 {
		o.ReadConns = 4
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := openWriter(path)
	if err != nil {
		return nil, err
	}
	s := &Store{
		path: path, volatile: o.Volatile, failed: tell(o.Unavailable),
		readers: make(chan *conn, o.ReadConns), steps: defaultSteps, looks: usualLooks,
	}
	s.writer = writer{
		conn: c, notifier: &s.notifier, known: &s.known, observe: o.Observe, failed: s.failed, path: path, walLimit: walLimit, recheck: recheck, logger: o.Logger,
	}
	found, err := c.one(logQuery, func(row []driver.Value) {
		s.writer.log.Store(entityevent.LogID(str(row[0])))
		s.opened = integer(row[1])
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: no meta row", errDamaged)
	}
	if err == nil {
		var r *rules
		r, err = c.readRules()
		s.writer.rules.Store(r)
	}
	if err == nil {
		err = c.wantWAL()
	}
	if err == nil {
		s.writer.file, err = identify(path)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	for range o.ReadConns {
		s.readers <- nil
	}
	return s, nil
}

// WALSize returns the size in bytes of the file that holds what was not yet copied into the database.
func (s *Store) WALSize() int64 {
	info, err := os.Stat(s.path + "-wal")
	if err != nil {
		return 0
	}
	return info.Size()
}

// Close implements entityevent.Store. Waits end with entityevent.ErrClosed, as does every later call.
func (s *Store) Close() error {
	s.notifier.Close()
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for range cap(s.readers) {
		if c := <-s.readers; c != nil {
			errs = append(errs, c.close())
		}
	}
	// The readers are closed first, for the checkpoint to reach the end of the WAL and empty it.
	s.writer.checkpoint()
	if err := errors.Join(append(errs, s.writer.conn.close())...); err != nil {
		return fmt.Errorf("close store %s: %w", s.path, err)
	}
	return nil
}

// write runs c in the writer's next transaction.
func (s *Store) write(ctx context.Context, c *call) error {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return entityevent.ErrClosed
	}
	return s.writer.do(ctx, c)
}

// alive says why a call that reads what is in memory cannot.
func (s *Store) alive(ctx context.Context) error {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return entityevent.ErrClosed
	}
	return context.Cause(ctx)
}

// read runs look on a connection of the pool, which it waits for.
func (s *Store) read(ctx context.Context, look func(*conn) error) (err error) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return entityevent.ErrClosed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var c *conn
	select {
	case c = <-s.readers:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() {
		s.readers <- c
		s.failed(err)
	}()
	if c == nil {
		if c, err = s.openReader(); err != nil {
			return unavailable(s.path, err)
		}
	}
	err = unavailable(s.path, look(c))
	if spoils(err) {
		err = errors.Join(err, c.close())
		c = nil
	}
	if err != nil && errors.Is(err, ctx.Err()) { // the driver does not know of causes
		err = context.Cause(ctx)
	}
	return err
}

// openReader opens a connection on the same file as the others.
func (s *Store) openReader() (*conn, error) {
	if err := s.writer.file.check(); err != nil {
		return nil, err
	}
	c, err := openConn(s.path, readerPragmas)
	if err != nil {
		return nil, err
	}
	if err := s.writer.file.check(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// snapshot runs look in one read transaction. look must be short: what it reads cannot be checkpointed.
func (s *Store) snapshot(ctx context.Context, look func(*conn) error) error {
	return s.read(ctx, func(c *conn) (err error) {
		if _, err = c.exec("BEGIN"); err != nil {
			return err
		}
		defer func() {
			if _, cerr := c.exec("ROLLBACK"); err == nil {
				err = cerr
			}
		}()
		return look(c)
	})
}
