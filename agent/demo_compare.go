package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	_ "github.com/mattn/go-sqlite3" // to read the replica by SQL, past our own store

	"github.com/resosync/resosync/agent/internal/listing"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/odata"
)

// comparison is the number of records of one resource on each side.
type comparison struct {
	Producer int `json:"producer"`
	Replica  int `json:"replica"`
}

// differencesShown is how many differences are named.
const differencesShown = 10

// tamperWith changes one row of the replica behind the consumer's back.
func (d *demo) tamperWith(ctx context.Context, p *pair) error {
	d.say("   --tamper: setting the price of one listing in the replica to 1\n")
	return withReplica(ctx, p, func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, `UPDATE records SET body = json_set(body, '$.ListPrice', 1) WHERE rowid IN
			(SELECT rowid FROM records WHERE feed = ? AND resource = 'Property' AND body IS NOT NULL ORDER BY key LIMIT 1)`, demoFeed)
		return err
	})
}

func withReplica(_ context.Context, p *pair, use func(*sql.DB) error) error {
	db, err := sql.Open("sqlite3", "file:"+(&url.URL{Path: p.consumer.store()}).EscapedPath()+"?_busy_timeout=10000")
	if err != nil {
		return err
	}
	return errors.Join(use(db), db.Close())
}

// compare compares the two sides record by record: the hashes of all that the producer serves over HTTP
// with those of all rows of the replica.
func (d *demo) compare(ctx context.Context, p *pair) error {
	d.say("4. compare     every record: the producer over HTTP, the replica by SQL\n\n")
	reader := remoteSession(p.producer.url, p.reader, nil)
	defer reader.close() //nolint:errcheck // it cannot fail
	d.report.Seed, d.report.Producer, d.report.Consumer = d.seed, p.producer.store(), p.consumer.store()
	d.report.Resources, d.report.Difference = map[string]comparison{}, []string{}

	served := map[entityevent.Ref]entityevent.Hash{}
	for _, resource := range listing.Resources {
		if err := reader.eachServed(ctx, resource, func(ref entityevent.Ref, h entityevent.Hash) { served[ref] = h }); err != nil {
			return fmt.Errorf("read %s of the producer: %w", resource, err)
		}
	}
	for ref := range served {
		c := d.report.Resources[ref.Resource]
		c.Producer++
		d.report.Resources[ref.Resource] = c
	}
	differences := 0
	differ := func(format string, args ...any) {
		if differences++; differences <= differencesShown {
			d.report.Difference = append(d.report.Difference, fmt.Sprintf(format, args...))
		}
	}
	err := withReplica(ctx, p, func(db *sql.DB) error {
		return eachReplicated(ctx, db, func(ref entityevent.Ref, body []byte) error {
			c := d.report.Resources[ref.Resource]
			c.Replica++
			d.report.Resources[ref.Resource] = c
			content, err := entityevent.Canonicalize(body)
			if err != nil {
				return fmt.Errorf("%v in the replica: %w", ref, err)
			}
			switch hash, exists := served[ref]; {
			case !exists:
				differ("%v is only in the replica", ref)
			case hash != content.Hash:
				differ("%v differs: %s", ref, reader.members(ctx, ref, body))
			}
			delete(served, ref)
			return nil
		})
	})
	if err != nil {
		return err
	}
	for ref := range served {
		differ("%v is only at the producer", ref)
	}
	if d.report.Result = "equal"; differences > 0 {
		d.report.Result = "different"
	}
	if differences > differencesShown {
		d.report.Difference = append(d.report.Difference, fmt.Sprintf("and %d more", differences-differencesShown))
	}
	return nil
}

// eachServed reads a resource page by page.
func (s *session) eachServed(ctx context.Context, resource string, each func(entityevent.Ref, entityevent.Hash)) error {
	key, _ := metadata.KnownKey(resource)
	for next := "/odata/" + resource; next != ""; {
		raw, err := s.body(ctx, next, "odata.maxpagesize=1000")
		if err != nil {
			return err
		}
		_, err = entityevent.EachRecord(raw, func(record []byte) error {
			content, err := entityevent.Canonicalize(record)
			each(entityevent.Ref{Resource: resource, Key: entityevent.StringMember(record, key)}, content.Hash)
			return err
		})
		if err != nil {
			return err
		}
		next = strings.TrimPrefix(entityevent.StringMember(raw, "@odata.nextLink"), s.base)
	}
	return nil
}

// body reads a whole answer.
func (s *session) body(ctx context.Context, path string, prefer ...string) ([]byte, error) {
	raw, _, err := s.answer(ctx, path, prefer...)
	return raw, err
}

// answer reads a whole answer with its header.
func (s *session) answer(ctx context.Context, path string, prefer ...string) ([]byte, http.Header, error) {
	header := http.Header{"Accept": {"application/json"}}
	if len(prefer) > 0 {
		header.Set("Prefer", strings.Join(prefer, ", "))
	}
	resp, err := s.send(ctx, http.MethodGet, path, header, nil)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, nil, fmt.Errorf("the answer was cut: %w", err)
	}
	return raw, resp.Header, nil
}

func eachReplicated(ctx context.Context, db *sql.DB, each func(entityevent.Ref, []byte) error) error {
	rows, err := db.QueryContext(ctx, `SELECT resource, key, body FROM records WHERE feed = ? AND body IS NOT NULL`, demoFeed)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var ref entityevent.Ref
		var body []byte
		if err := rows.Scan(&ref.Resource, &ref.Key, &body); err != nil {
			return err
		}
		if err := each(ref, body); err != nil {
			return err
		}
	}
	return rows.Err()
}

// members names the members in which a record of the replica differs from the producer's.
func (s *session) members(ctx context.Context, ref entityevent.Ref, replica []byte) string {
	served, err := s.body(ctx, "/odata/"+odata.KeySegment(ref.Resource, ref.Key, true))
	if err != nil {
		return err.Error()
	}
	sides := [2]map[string]string{{}, {}}
	for i, raw := range [][]byte{served, replica} {
		err := entityevent.EachMember(raw, func(name string, value []byte) error {
			if !strings.Contains(name, "@") {
				sides[i][name] = string(value)
			}
			return nil
		})
		if err != nil {
			return err.Error()
		}
	}
	var names []string
	all := maps.Clone(sides[0])
	maps.Copy(all, sides[1])
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if sides[0][name] != sides[1][name] {
			names = append(names, fmt.Sprintf("%s is %s at the producer and %s in the replica", name, orNone(sides[0][name]), orNone(sides[1][name])))
		}
	}
	return strings.Join(names, ", ")
}

func orNone(text string) string {
	if text == "" {
		return "absent"
	}
	return text
}

func (d *demo) printComparison() {
	d.printf("   %-10s %10s %10s\n", "", "producer", "replica")
	for _, resource := range slices.Sorted(maps.Keys(d.report.Resources)) {
		c := d.report.Resources[resource]
		d.printf("   %-10s %10s %10s\n", resource, count(int64(c.Producer)), count(int64(c.Replica)))
	}
	d.printf("\n")
	for _, text := range d.report.Difference {
		d.printf("   %s\n", text)
	}
	d.printf("%s\n", d.report.Result)
}
