package sqlite_test

import (
	"database/sql"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"github.com/resosync/resosync/entityevent/sqlite"
)

// TestMigrationOfRecords: a store of the first version gets the columns of its records filled, and keeps
// what people hung on the table.
func TestMigrationOfRecords(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/resosync.db"
	db := raw(t, path)
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migrations"), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct{ resource, key, body string }{
		{"Property", "p", `{"ListingKey":"p","ModificationTimestamp":"2024-05-06T07:08:09.1234567+02:00"}`},
		{"Media", "1", `{"MediaKey":"1","ResourceRecordKey":"p"}`},
		{"Media", "2", `{"MediaKey":"2","ResourceName":"member","ResourceRecordKey":7}`},
		{"Media", "3", `{"MediaKey":"3"}`},
		{"PropertyRooms", "r", `{"RoomKey":"r","ListingKey":"O'Neil"}`},
		{"Anything", "a", `{"ListingKey":"p","ModificationTimestamp":"0001-01-01T00:00:00Z"}`},
	} {
		if _, err := db.ExecContext(t.Context(), `INSERT INTO records (feed, resource, key, hash, version, views, seen, pass, body)
			VALUES ('local', ?, ?, zeroblob(16), 3, 1, 1, 7, ?)`, r.resource, r.key, r.body); err != nil {
			t.Fatal(err)
		}
	}
	run(t, db, `INSERT INTO records (feed, resource, key, hash, version, views, seen) VALUES ('local', 'Media', 'gone', zeroblob(16), 4, 0, 1)`)
	run(t, db, `CREATE TABLE ledger (key)`)
	run(t, db, `CREATE TRIGGER ledger AFTER INSERT ON records BEGIN INSERT INTO ledger VALUES (new.key); END`)
	run(t, db, `CREATE INDEX mine ON records (version)`)
	run(t, db, `CREATE VIEW listings AS SELECT key FROM records WHERE resource = 'Property'`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	s := open(t, path, sqlite.Options{})
	db = raw(t, path)
	want := []string{
		"Anything a -62135596800000000  ", "Media 1  Property p", "Media 2  Member 7", "Media 3   ", "Media gone   ",
		"Property p 1714972089123456  ", "PropertyRooms r  Property O'Neil",
	}
	if d := cmp.Diff(want, lines(t, db, `SELECT resource || ' ' || key || ' ' || coalesce(modified_at, '') || ' ' || coalesce(parent_resource, '')
		|| ' ' || coalesce(parent_key, '') FROM records ORDER BY resource, key`)); d != "" {
		t.Errorf("migrated: want -, got +\n%s", d)
	}
	if got := lines(t, db, `SELECT key || version || views || seen || pass || hex(hash) || body FROM records WHERE key = 'r'`); got[0] !=
		"r3117"+strings.Repeat("0", 32)+`{"RoomKey":"r","ListingKey":"O'Neil"}` {
		t.Errorf("the rest of a row became %s", got)
	}
	if columns := lines(t, db, `SELECT name FROM pragma_table_info('records') ORDER BY cid`); columns[len(columns)-1] != "body" {
		t.Errorf("the body does not stand last: %v", columns)
	}
	for kind, want := range map[string]string{"index": "mine records_modified records_parent records_ref", "trigger": "ledger", "view": "listings"} {
		if got := strings.Join(lines(t, db, `SELECT name FROM sqlite_schema WHERE type = ? AND (tbl_name = 'records' OR type = 'view')
			AND sql IS NOT NULL ORDER BY name`, kind), " "); got != want {
			t.Errorf("%s: %s, want %s", kind, got, want)
		}
	}
	if got := lines(t, db, `SELECT key FROM listings`); !cmp.Equal(got, []string{"p"}) {
		t.Errorf("the view shows %v", got)
	}
	apply(t, s, put("new", `{}`))
	if got := lines(t, db, `SELECT key FROM ledger`); !cmp.Equal(got, []string{"new"}) {
		t.Errorf("the trigger wrote %v", got)
	}
	if got := lines(t, db, `PRAGMA integrity_check`); !cmp.Equal(got, []string{"ok"}) {
		t.Error(got)
	}
}

// lines returns the one column of a query.
func lines(t *testing.T, db *sql.DB, query string, args ...any) (all []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
