package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

// appends measures durable changes per second, beside raw inserts of the same rows with the same pragmas.
func (b *bench) appends(ctx context.Context) error {
	dir, err := b.folder()
	if err != nil {
		return err
	}
	raw, pragmas, err := openRaw(ctx, dir)
	if err != nil {
		return err
	}
	defer raw.Close()
	title("durable changes, each a record of 1.4 KB and its event (limit: raw inserts of both rows; %s)", pragmas)

	limits := map[int]float64{}
	seq := 0
	for _, batch := range []int{1, 100, 1000} {
		n, spent := 0, time.Duration(0)
		for ; spent < 2*time.Second; n += batch {
			took, err := rawInsert(ctx, raw, seq, batch)
			if err != nil {
				return err
			}
			seq += batch
			spent += took
		}
		limits[batch] = float64(n) / spent.Seconds()
	}

	store, err := sqlite.Open(ctx, filepath.Join(dir, "store.db"), sqlite.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	var next atomic.Int64
	change := func() entityevent.Change {
		n := next.Add(1)
		return entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: key(int(n))}, Op: entityevent.Put, Body: body(int(n), 0)}
	}
	var writers errgroup.Group
	var done atomic.Int64
	start := time.Now()
	for range 32 {
		writers.Go(func() error {
			for time.Since(start) < 3*time.Second {
				if _, err := store.Apply(ctx, entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{change()}}); err != nil {
					return err
				}
				done.Add(1)
			}
			return nil
		})
	}
	if err := writers.Wait(); err != nil {
		return err
	}
	line("one change a call, 32 writers (limit: 1 a transaction)", float64(done.Load())/time.Since(start).Seconds(), limits[1], "changes/s")
	for _, batch := range []int{100, 1000} {
		n, spent := 0, time.Duration(0)
		for ; spent < 3*time.Second; n += batch {
			c := entityevent.Commit{Feed: entityevent.Local}
			for range batch {
				c.Changes = append(c.Changes, change())
			}
			start := time.Now()
			if _, err := store.Apply(ctx, c); err != nil {
				return err
			}
			spent += time.Since(start)
		}
		line(fmt.Sprintf("%d changes a call, 1 writer", batch), float64(n)/spent.Seconds(), limits[batch], "changes/s")
	}
	return nil
}

// openRaw opens a database with our pragmas and with tables as ours, and says what the pragmas are.
func openRaw(ctx context.Context, dir string) (*sql.DB, string, error) {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "raw.db")+"?_journal_mode=WAL&_synchronous=FULL&_txlock=immediate")
	if err != nil {
		return nil, "", err
	}
	db.SetMaxOpenConns(1)
	for _, statement := range []string{
		`CREATE TABLE records(feed, resource, key, body TEXT, hash BLOB, version INTEGER, views INTEGER, seen INTEGER, modified_at INTEGER, pass INTEGER)`,
		`CREATE UNIQUE INDEX records_key ON records(feed, resource, key)`,
		`CREATE TABLE events(seq INTEGER, feed, resource, key, views INTEGER, at INTEGER, PRIMARY KEY(feed, seq)) WITHOUT ROWID`,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, "", err
		}
	}
	var journal string
	var synchronous int
	if err := db.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&journal); err != nil {
		return nil, "", err
	}
	err = db.QueryRowContext(ctx, `PRAGMA synchronous`).Scan(&synchronous)
	return db, fmt.Sprintf("journal_mode=%s, synchronous=%d", journal, synchronous), err
}

// rawInsert inserts n records and n events in one transaction and returns how long that took.
func rawInsert(ctx context.Context, db *sql.DB, first, n int) (time.Duration, error) {
	bodies := make([]string, n)
	for i := range bodies {
		bodies[i] = string(body(first+i, 0))
	}
	start := time.Now()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	record, err := tx.PrepareContext(ctx, `INSERT INTO records VALUES ('local', 'Property', ?, ?, ?, ?, 1, 1, 0, 0)`)
	if err != nil {
		return 0, err
	}
	defer record.Close()
	event, err := tx.PrepareContext(ctx, `INSERT INTO events VALUES (?, 'local', 'Property', ?, 1, 0)`)
	if err != nil {
		return 0, err
	}
	defer event.Close()
	hash := make([]byte, 16)
	for i, text := range bodies {
		if _, err := record.ExecContext(ctx, key(first+i), text, hash, first+i); err != nil {
			return 0, err
		}
		if _, err := event.ExecContext(ctx, first+i, key(first+i)); err != nil {
			return 0, err
		}
	}
	err = tx.Commit()
	return time.Since(start), err
}
