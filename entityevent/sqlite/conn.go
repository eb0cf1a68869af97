package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"
)

// Every connection says synchronous=FULL, because the driver's default is NORMAL: a commit that was
// answered must survive a power cut.
const (
	busyTimeout   = "10000" // milliseconds to wait for another process
	pragmas       = "_journal_mode=WAL&_synchronous=FULL&_busy_timeout=" + busyTimeout
	writerPragmas = pragmas + "&_txlock=immediate&_cache_size=-16000"
	readerPragmas = pragmas + "&_query_only=true"
)

const (
	// A page of 8 KB holds several records of the usual size, where one of 4 KB, SQLite's default, wastes a
	// third.
	pageSize = "8192"
	// The WAL is copied into the file when it has this many pages (16 MB): below that the same pages of an
	// index are copied over and over during a load.
	checkpointPages = "2000"
)

func dsn(path, pragmas string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + pragmas
}

// A connection keeps so many statements, with texts of so many bytes: those that it used last. Callers think up
// filters without end.
const (
	keptStatements = 150
	keptText       = 256 << 10
)

// conn is one connection with its prepared statements. It is used by one goroutine at a time. It goes
// past database/sql, whose pool and conversions cost as much as SQLite does for a row of this size.
type conn struct {
	db    *sqlite3.SQLiteConn
	stmts map[string]*stmt
	text  int   // bytes of their texts
	uses  int64 // of statements, so far
}

type stmt struct {
	used    int64 // when, as a count of uses
	execer  driver.StmtExecContext
	queryer driver.StmtQueryContext
	closer  io.Closer
	args    []driver.NamedValue
	row     []driver.Value
}

func openConn(path, pragmas string) (*conn, error) {
	db, err := (&sqlite3.SQLiteDriver{ConnectHook: register}).Open(dsn(path, pragmas))
	if err != nil {
		return nil, err
	}
	c := &conn{db: db.(*sqlite3.SQLiteConn), stmts: map[string]*stmt{}}
	// What a savepoint may have to undo goes to a folder for temporary files when it is much. In memory it
	// costs a tenth of the time of small writes, so only where there is no such folder.
	if !tempFolder() {
		if err := c.pragma("temp_store=MEMORY"); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

// tempFolder says whether SQLite will find a folder for temporary files: in a container whose root cannot be
// written there may be none.
func tempFolder() bool {
	for _, dir := range []string{os.Getenv("SQLITE_TMPDIR"), os.Getenv("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp", "."} {
		if unix.Access(dir, unix.W_OK|unix.X_OK) == nil {
			return true
		}
	}
	return false
}

// create makes an empty database if there is no file, whole or not at all. The size of its pages cannot be
// changed later. What is left of a database it does not touch: somebody may still want it.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		info, err := f.Stat()
		// SQLite would take so short a file for a new one.
		if err = errors.Join(err, f.Close()); err == nil && info.Size() < 512 {
			err = fmt.Errorf("%w: the file has %d bytes", errDamaged, info.Size())
		}
		return err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if wal, err := os.Stat(path + "-wal"); err == nil && wal.Size() > 0 {
		return fmt.Errorf("%s-wal is there without its database: put the database back beside it, or remove it as well", path)
	}
	made := path + ".new"
	if f, err = os.OpenFile(made, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return err
	}
	err = format(made)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(made))
	}
	return syncFolder(filepath.Dir(path))
}

func format(path string) error {
	c, err := openConn(path, "_synchronous=FULL")
	if err != nil {
		return err
	}
	return errors.Join(c.pragma("page_size="+pageSize), c.pragma("journal_mode=WAL"), c.close())
}

func openWriter(path string) (*conn, error) {
	c, err := openConn(path, writerPragmas)
	if err != nil {
		return nil, err
	}
	if err := c.pragma("wal_autocheckpoint=" + checkpointPages); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// wantWAL refuses what SQLite falls back to in silence.
func (c *conn) wantWAL() error {
	var mode string
	if _, err := c.one("PRAGMA journal_mode", func(row []driver.Value) { mode = str(row[0]) }); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("%w: the journal mode is %s", errNoWAL, mode)
	}
	return nil
}

// pragma runs a pragma and drops what it answers.
func (c *conn) pragma(text string) error {
	return c.query(context.Background(), "PRAGMA "+text, func([]driver.Value) bool { return true })
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.closer.Close())
	}
	return errors.Join(append(errs, c.db.Close())...)
}

// inTx says whether a transaction is open: SQLite ends one by itself on errors such as a full disk.
func (c *conn) inTx() bool { return !c.db.AutoCommit() }

func (c *conn) prepare(query string) (*stmt, error) {
	c.uses++
	if s := c.stmts[query]; s != nil {
		s.used = c.uses
		return s, nil
	}
	if err := c.makeRoom(len(query)); err != nil {
		return nil, err
	}
	p, err := c.db.Prepare(query)
	if err != nil {
		return nil, err
	}
	s := &stmt{
		execer:  p.(driver.StmtExecContext),
		queryer: p.(driver.StmtQueryContext),
		closer:  p,
		args:    make([]driver.NamedValue, p.NumInput()),
	}
	for i := range s.args {
		s.args[i].Ordinal = i + 1
	}
	s.used = c.uses
	c.stmts[query] = s
	c.text += len(query)
	return s, nil
}

// makeRoom closes statements until one with a text of so many bytes may be kept, first those that were not
// used for longest. The last two stay: a caller may be going through the rows of one.
func (c *conn) makeRoom(bytes int) error {
	for len(c.stmts) >= keptStatements || len(c.stmts) > 0 && c.text+bytes > keptText {
		var oldest string
		used := c.uses - 2
		for query, s := range c.stmts {
			if s.used < used {
				oldest, used = query, s.used
			}
		}
		if oldest == "" {
			return nil
		}
		err := c.stmts[oldest].closer.Close()
		delete(c.stmts, oldest)
		if c.text -= len(oldest); err != nil {
			return err
		}
	}
	return nil
}

// bind returns the arguments in place; they are valid until the statement's next use.
func (s *stmt) bind(args []any) []driver.NamedValue {
	if len(args) != len(s.args) {
		panic("sqlite: wrong number of arguments")
	}
	for i, a := range args {
		s.args[i].Value = a
	}
	return s.args
}

// exec runs a statement without rows and returns how many it changed. Arguments are nil, int64, string
// or []byte.
func (c *conn) exec(query string, args ...any) (int64, error) {
	s, err := c.prepare(query)
	if err != nil {
		return 0, err
	}
	r, err := s.execer.ExecContext(context.Background(), s.bind(args))
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// query calls each for every row until it returns false. Values are nil, int64, string or []byte, and
// each's to keep; the row is not. When ctx ends, so does the query.
func (c *conn) query(ctx context.Context, query string, each func(row []driver.Value) bool, args ...any) (err error) {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	rows, err := s.queryer.QueryContext(ctx, s.bind(args))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := rows.Close(); err == nil {
			err = cerr
		}
	}()
	if n := len(rows.Columns()); len(s.row) != n {
		s.row = make([]driver.Value, n)
	}
	for {
		switch err := rows.Next(s.row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if !each(s.row) {
			return nil
		}
	}
}

// one runs a query for at most one row and says whether there was one.
func (c *conn) one(query string, scan func(row []driver.Value), args ...any) (found bool, err error) {
	err = c.query(context.Background(), query, func(row []driver.Value) bool {
		found = true
		scan(row)
		return false
	}, args...)
	return found, err
}

// text views a body as a string, so that SQLite stores it as TEXT. Nobody changes a body's bytes.
func text(body []byte) string { return unsafe.String(unsafe.SliceData(body), len(body)) }
