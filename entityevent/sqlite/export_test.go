package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/resosync/resosync/entityevent"
)

// Pragma returns a pragma's value on every connection: the writer's first.
func (s *Store) Pragma(name string) (values []string, err error) {
	ask := func(c *conn) error {
		_, err := c.one("PRAGMA "+name, func(row []driver.Value) { values = append(values, fmt.Sprint(row[0])) })
		return err
	}
	if err := ask(s.writer.conn); err != nil {
		return nil, err
	}
	return values, s.everyReader(ask)
}

// everyReader calls f with every connection of the pool at once held.
func (s *Store) everyReader(f func(*conn) error) error {
	var hold func(n int) error
	hold = func(n int) error {
		if n == 0 {
			return nil
		}
		return s.read(context.Background(), func(c *conn) error {
			if err := f(c); err != nil {
				return err
			}
			return hold(n - 1)
		})
	}
	return hold(cap(s.readers))
}

// Do runs f inside the writer's transaction, as one call of a group.
func (s *Store) Do(ctx context.Context, f func()) error {
	return s.write(ctx, &call{run: func(*tx) error { f(); return nil }})
}

// Queued returns how many calls wait for the writer.
func (s *Store) Queued() int {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	return len(s.writer.queue)
}

// Leading says that a group is under way and nobody waits for the next.
func (s *Store) Leading() bool {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	return s.writer.leading && len(s.writer.queue) == 0
}

// WriterPragma sets a pragma of the writer's connection, in its turn.
func (s *Store) WriterPragma(text string) error {
	return s.write(context.Background(), &call{run: func(t *tx) error { return t.pragma(text) }})
}

func (s *Store) SetWALLimit(bytes int64) { s.writer.walLimit = bytes }

// SmallLooks makes every statement of a read look at a handful of rows.
func (s *Store) SmallLooks() {
	s.looks = looks{rows: 2, bytes: 500, window: 3, bodies: 2, pass: 3, few: 4}
}

// SetSteps sets how many records a step of a review looks at, and events one of a compaction.
func (s *Store) SetSteps(reviewed, compacted int) { s.steps = steps{reviewed, compacted} }

// CheckAlways makes every transaction look for the file in its place.
func (s *Store) CheckAlways() { s.writer.recheck = 0 }

// HotQueries are those whose cost must not grow with the size of the store.
func HotQueries() []string {
	return []string{
		recordQuery, recordUpdate, bodyUpdate, passUpdate, eventPage + eventRange + ascending, eventPage + eventRange + descending,
		nextEvent, previousEvent, takeQuery, depthQuery, itemDelete,
		asideQuery, asideDueQuery, asideDelete, cursorQuery, recentQuery, recentClear, unsettledQuery, settledQuery,
		docQuery, docUpdate, viewsQuery, childrenQuery, tellUpdate, toldQuery, seenUpdate, reviewQuery, nextFeed,
		eventFeeds, compactQuery, eventDelete, recordDelete,
	}
}

// Statements returns what the readers' connections keep prepared.
func (s *Store) Statements() (texts []string) {
	s.everyReader(func(c *conn) error {
		for text := range c.stmts {
			texts = append(texts, text)
		}
		return nil
	})
	return texts
}

// OnParse has f called for whatever SQLite finds in a text that it reads, on every connection.
func (s *Store) OnParse(f func()) error {
	found := func(int, string, string, string) int { f(); return 0 }
	s.writer.conn.db.RegisterAuthorizer(found)
	return s.everyReader(func(c *conn) error { c.db.RegisterAuthorizer(found); return nil })
}

// RunHot runs a hot query with the nth arguments, none of which finds anything.
func (s *Store) RunHot(query string, n int) error {
	return s.write(context.Background(), &call{run: func(t *tx) error {
		st, err := t.prepare(query)
		if err != nil {
			return err
		}
		args := make([]any, len(st.args))
		for i := range args {
			args[i] = int64(-n - i)
		}
		return t.query(context.Background(), query, func([]driver.Value) bool { return true }, args...)
	}})
}

// OnLower has f called whenever a reader compares a text in lower case.
func (s *Store) OnLower(f func()) error {
	return s.everyReader(func(c *conn) error {
		return c.db.RegisterFunc("odata_tolower", func(v any) any { f(); return v }, true)
	})
}

// Plan returns how SQLite runs a query.
func (s *Store) Plan(query string) (steps []string, err error) {
	err = s.read(context.Background(), func(c *conn) error {
		st, err := c.prepare("EXPLAIN QUERY PLAN " + query)
		if err != nil {
			return err
		}
		return c.query(context.Background(), "EXPLAIN QUERY PLAN "+query, func(row []driver.Value) bool {
			steps = append(steps, str(row[3]))
			return true
		}, make([]any, len(st.args))...)
	})
	return steps, err
}

// Checkpoint runs what the writer runs when the WAL is too large.
func (s *Store) Checkpoint() {
	s.write(context.Background(), &call{run: func(*tx) error { return nil }}) // nobody else leads
	s.writer.checkpoint()
}

// FailCommits lets a function refuse the commits of the writer's present connection.
func (s *Store) FailCommits(refuse func() bool) {
	s.write(context.Background(), &call{run: func(t *tx) error {
		t.db.RegisterCommitHook(func() int { return int(flag(refuse())) })
		return nil
	}})
}

// Known returns how many documents are kept in memory, the bytes of their bodies, and those of the largest.
func (s *Store) Known() (n, size, largest int) {
	s.known.mu.Lock()
	defer s.known.mu.Unlock()
	for _, d := range s.known.docs {
		size += len(d.Body)
		largest = max(largest, len(d.Body))
	}
	return len(s.known.docs), size, largest
}

// KeptLate says whether a document is kept that was read before a transaction wrote it, when that has ended.
func KeptLate() bool {
	var k known
	_, _, mark := k.get("kind", "id")
	k.change("kind", "id")
	k.done()
	k.keep(entityevent.Doc{Kind: "kind", ID: "id"}, mark)
	_, ok, _ := k.get("kind", "id")
	return ok
}
