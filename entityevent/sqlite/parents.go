package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/mattn/go-sqlite3"
	"github.com/pressly/goose/v3"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/odata"
)

// parentOf returns the columns that say to whom a record belongs, NULL for one that belongs to none.
func parentOf(resource string, body []byte) (parentResource, parentKey any) {
	r, k, ok := metadata.Parent(resource, func(name string) string { return entityevent.StringMember(body, name) })
	if !ok {
		return nil, nil
	}
	return r, k
}

// modifiedAt returns the column of a record's ModificationTimestamp: exactly what odata compares.
func modifiedAt(c entityevent.Content) any {
	if !c.Modified.IsZero() {
		return c.Modified.UnixMicro()
	}
	return modifiedIn(c.Body) // none, or the first instant of year 1, which some systems send for it
}

func modifiedIn(body []byte) any {
	us, ok := odata.ParseInstant(entityevent.StringMember(body, "ModificationTimestamp"))
	if !ok {
		return nil
	}
	return us
}

// registerColumns gives a connection the functions with which migrations fill columns.
func registerColumns(c *sqlite3.SQLiteConn) error {
	parent := func(resource string, body any) (r, k any) {
		text, _ := body.(string) // of a gone record NULL
		return parentOf(resource, []byte(text))
	}
	return errors.Join(
		c.RegisterFunc("record_parent_resource", func(resource string, body any) any { r, _ := parent(resource, body); return r }, true),
		c.RegisterFunc("record_parent_key", func(resource string, body any) any { _, k := parent(resource, body); return k }, true),
		c.RegisterFunc("record_modified", func(body any) any { text, _ := body.(string); return modifiedIn([]byte(text)) }, true),
	)
}

// The records, with what they belong to. The body stays last, so the table is built anew. SQLite must not look
// for the table in people's views while it is not there: hence the pragma.
//
// The indexes leave out what nobody asks them for: gone records, and records without a parent.
const (
	recordsCreate = `CREATE TABLE records_new (
		feed            TEXT NOT NULL,
		resource        TEXT NOT NULL,
		key             TEXT NOT NULL,
		hash            BLOB NOT NULL,
		version         INTEGER NOT NULL, -- of its last event that is not for some profiles alone
		views           INTEGER NOT NULL, -- who sees it now
		seen            INTEGER NOT NULL, -- who ever saw it
		modified_at     INTEGER,          -- unix microseconds
		pass            INTEGER NOT NULL DEFAULT 0,
		parent_resource TEXT,             -- to whom it belongs by the Data Dictionary
		parent_key      TEXT,
		told            BLOB,             -- its events above version: pairs of a sequence and a mask, of 8 bytes each
		body            TEXT
	) STRICT`
	recordsCopy = `INSERT INTO records_new (rowid, feed, resource, key, hash, version, views, seen, modified_at, pass, parent_resource,
		parent_key, body) SELECT rowid, feed, resource, key, hash, version, views, seen, record_modified(body), pass,
		record_parent_resource(resource, body), record_parent_key(resource, body), body FROM records ORDER BY rowid`
	legacyRename    = `PRAGMA legacy_alter_table = ON`
	recordsRename   = `ALTER TABLE records_new RENAME TO records`
	recordsRef      = `CREATE UNIQUE INDEX records_ref ON records (feed, resource, key)`
	recordsModified = `CREATE INDEX records_modified ON records (feed, resource, modified_at, key) WHERE views <> 0`
	recordsParent   = `CREATE INDEX records_parent ON records (feed, parent_key, resource, key, parent_resource) WHERE parent_key IS NOT NULL`

	// What people hang on the table goes with it and comes back.
	attachedQuery = `SELECT sql FROM sqlite_schema WHERE tbl_name = 'records' AND type IN ('index', 'trigger') AND sql IS NOT NULL
		AND name <> 'records_ref' ORDER BY type, name`
)

var addParents = goose.NewGoMigration(2, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
	attached, err := allTexts(ctx, tx, attachedQuery)
	if err != nil {
		return err
	}
	steps := append([]string{
		legacyRename, recordsCreate, recordsCopy, `DROP TABLE records`, recordsRename,
		recordsRef, recordsModified, recordsParent,
	}, attached...)
	for _, s := range append(steps, `PRAGMA legacy_alter_table = OFF`) {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.40s…: %w", s, err)
		}
	}
	return nil
}}, nil)

func allTexts(ctx context.Context, tx *sql.Tx, query string) (all []string, err error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, rows.Err()
}
