package consumer_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"testing/synctest"

	_ "github.com/mattn/go-sqlite3"

	"github.com/resosync/resosync/consumer"
)

// A body that somebody altered in the database, beside the hash that is stored with it, is found, and put right by a
// full load, without an event: the record's version is that of its content, which is what it was.
func TestFullLoadMendsBodies(t *testing.T) {
	for name, body := range map[string]string{
		"another content": `replace(body, '2026', '1999')`,
		"no JSON":         `'{"ListingKey":}'`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := making(50)
				dir := t.TempDir()
				store := open(t, dir)
				defer store.Close()
				f := newFeedOn(store, to(m))
				catchUp(t, f)
				before := replica(t, store, "Property")["P0011"]
				db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "test.db")+"?_busy_timeout=10000")
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				if _, err := db.ExecContext(t.Context(), `UPDATE records SET body = `+body+` WHERE key = 'P0011'`); err != nil {
					t.Fatal(err)
				}
				if v, err := f.Verify(t.Context(), nil); err != nil || v.Equal {
					t.Errorf("%+v, %v", v, err)
				}
				if err := f.Sync(t.Context(), consumer.SyncOptions{Full: true}, nil); err != nil {
					t.Fatal(err)
				}
				if v := verify(t, f); !v.Equal {
					t.Errorf("%+v", v)
				}
				after := replica(t, store, "Property")["P0011"]
				if string(after.Body) != string(before.Body) || after.Version != before.Version {
					t.Errorf("%s at %d, and was %s at %d", after.Body, after.Version, before.Body, before.Version)
				}
			})
		})
	}
}
