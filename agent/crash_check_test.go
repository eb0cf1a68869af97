package main_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// checkCursor looks into the dead consumer's store: every record whose last event is at or below the
// cursor is pending or has the producer's content.
func (p *pair) checkCursor(t *testing.T) {
	type state struct {
		version int64
		hash    string
	}
	want := map[string]state{}
	var cursor int64
	have, pending := map[string]string{}, map[string]bool{}
	p.consumer.sql(t, func(db *sql.DB) {
		if err := db.QueryRow(`SELECT seq FROM cursors WHERE feed = 'mls'`).Scan(&cursor); err != nil {
			t.Fatal(err)
		}
		scan(t, db, `SELECT key, coalesce(hex(hash), '') FROM records WHERE feed = 'mls' AND body IS NOT NULL`, func(key, hash string) { have[key] = hash })
		scan(t, db, `SELECT key, '' FROM inbox UNION SELECT key, '' FROM aside`, func(key, _ string) { pending[key] = true })
	})
	p.producer.sql(t, func(db *sql.DB) {
		scan(t, db, `SELECT key || '|' || version, CASE WHEN body IS NULL THEN '' ELSE hex(hash) END FROM records WHERE feed = 'local'`,
			func(key, hash string) {
				key, version, _ := strings.Cut(key, "|")
				var v int64
				fmt.Sscan(version, &v)
				want[key] = state{v, hash}
			})
	})
	for key, w := range want {
		if w.version <= cursor && !pending[key] && have[key] != w.hash {
			t.Errorf("the cursor is ahead: %s changed last at %d, the cursor is %d, and the record is neither pending nor equal", key, w.version, cursor)
		}
	}
}

// waitEqual waits until the replica has what the producer has.
func (p *pair) waitEqual(t *testing.T) {
	deadline := time.Now().Add(2 * time.Minute)
	var differences []string
	for {
		want, have := p.producer.records(t, "local"), p.consumer.records(t, "mls")
		differences = nil
		for ref, hash := range want {
			if have[ref] != hash {
				differences = append(differences, "missing or stale: "+ref)
			}
		}
		for ref := range have {
			if _, ok := want[ref]; !ok {
				differences = append(differences, "not at the producer: "+ref)
			}
		}
		if len(differences) == 0 && len(want) > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not equal, %d differences: %v\nproducer:\n%s\nconsumer:\n%s", len(differences),
				differences[:min(5, len(differences))], p.producer.tail(), p.consumer.tail())
		}
		time.Sleep(50 * time.Millisecond) // two other processes; their files are all there is to look at
	}
}

// checkModel compares the producer with what was acknowledged to the writers.
func (p *pair) checkModel(t *testing.T) {
	have := p.producer.records(t, "local")
	for key, h := range p.model {
		if have["Property/"+key] != h.last {
			t.Errorf("%s: the last acknowledged write was lost", key)
		}
	}
}

// checkLedger reads every content that a record of the replica ever had.
func (p *pair) checkLedger(t *testing.T) {
	entries, last, rev := 0, map[string]string{}, map[string]int{}
	p.consumer.sql(t, func(db *sql.DB) {
		scan(t, db, `SELECT key, coalesce(body, '') FROM test_ledger WHERE resource = 'Property' ORDER BY id`, func(key, body string) {
			entries++
			h := p.model[key]
			if h == nil {
				t.Errorf("ledger: %s was never written", key)
				return
			}
			hash := ""
			if body != "" {
				hash = mustHash([]byte(body))
				place, known := h.contents[hash]
				if !known {
					t.Errorf("ledger: %s had content that the producer never had: %.120s", key, body)
				}
				if place < rev[key] {
					t.Errorf("ledger: %s went back in time, from %d to %d", key, rev[key], place)
				}
				rev[key] = place
			} else if !h.removed {
				t.Errorf("ledger: %s was removed, and never was at the producer", key)
			}
			if before, ok := last[key]; ok && before == hash {
				t.Errorf("ledger: %s had the same content twice running", key)
			}
			last[key] = hash
		})
	})
	if entries < changesInAll/10 {
		t.Errorf("the ledger has %d entries only: the triggers did not see the work", entries)
	}
	t.Logf("ledger: %d entries", entries)
}

func mustHash(body []byte) string {
	content, err := entityevent.Canonicalize(body)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%X", content.Hash[:])
}

func mustExec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

func scan(t *testing.T, db *sql.DB, query string, each func(a, b string)) {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var a, b string
		if err := rows.Scan(&a, &b); err != nil {
			t.Fatal(err)
		}
		each(a, b)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}
