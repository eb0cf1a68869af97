package sqlite_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

const page = 8192

// furnished makes a small store in which every table and index has pages of its own, and returns its file.
func furnished(t *testing.T, path string) []byte {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := entityevent.Commit{Feed: "acme"}
	var received []entityevent.Event
	for n := range 150 {
		name := fmt.Sprintf("%03d-%s", n, strings.Repeat("k", 120))
		body := fmt.Sprintf(`{"N":%d}`, n)
		if n%40 == 0 { // on several pages
			body = big(n)
		}
		c.Changes = append(c.Changes, put(name, body))
		ref := entityevent.Ref{Resource: "Property", Key: name}
		received = append(received, entityevent.Event{Sequence: entityevent.Sequence(n + 100), Ref: ref, URL: "https://example.test/" + name})
		c.Aside = append(c.Aside, entityevent.Setback{Ref: ref, Kind: "held", NextAt: time.Unix(int64(n), 0).UTC()})
		doc := fmt.Sprintf(`{"D":%d,"S":%q}`, n, strings.Repeat("s", 100))
		c.Docs = append(c.Docs, entityevent.Doc{Kind: "k", ID: name, Body: json.RawMessage(doc)})
	}
	for _, d := range []entityevent.Delivery{
		{Feed: "acme", Log: "log", Adopt: true, Through: 50}, {Feed: "acme", Log: "log", Events: received},
	} {
		if _, err := s.Receive(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// everything reads all that a store has, part by part: what each part is, or why it cannot be read.
func everything(ctx context.Context, s *sqlite.Store) (parts map[string]any, errs map[string]error) {
	parts, errs = map[string]any{}, map[string]error{}
	note := func(part string, v any, err error) {
		if err != nil {
			errs[part] = err
			return
		}
		parts[part] = v
	}
	view := entityevent.View{Feed: "acme", Mask: entityevent.Everyone}
	p, err := s.Events(ctx, view, entityevent.EventQuery{Limit: 10_000})
	note("events", p, err)
	var records []entityevent.Record
	var keys []string
	for r, rerr := range s.Read(ctx, view, entityevent.Query{Resource: "Property", Gone: true}) {
		if err = rerr; err != nil {
			break
		}
		records = append(records, r)
	}
	note("records", records, err)
	for n := 0; n < 150; n += 7 {
		keys = append(keys, fmt.Sprintf("%03d-%s", n, strings.Repeat("k", 120)))
	}
	for _, key := range keys {
		for r, err := range s.Read(ctx, view, entityevent.Query{Resource: "Property", Keys: []string{key}}) {
			note("record "+key[:3], r, err)
		}
		d, err := s.Get(ctx, "k", key)
		note("document "+key[:3], d, err)
	}
	n, err := s.Count(ctx, view, entityevent.Query{Resource: "Property"})
	note("count", n, err)
	items, err := s.Take(ctx, "acme", 0)
	note("inbox", items, err)
	n, err = s.Depth(ctx, "acme")
	note("depth", n, err)
	aside, err := s.Aside(ctx, "acme", time.Time{}, 0)
	note("aside", aside, err)
	aside, err = s.Aside(ctx, "acme", time.Unix(1000, 0), 0)
	note("due", aside, err)
	kinds, err := s.CountAside(ctx, "acme")
	note("aside by kind", kinds, err)
	docs, err := s.List(ctx, "k")
	note("documents", docs, err)
	pos, err := s.Position(ctx, "acme")
	note("position", pos, err)
	return parts, errs
}

// compare says what of a damaged store is wrong: all of it must be as it was, or unavailable.
func compare(t *testing.T, what string, want, got map[string]any, errs map[string]error) {
	t.Helper()
	for part, err := range errs {
		if !errors.Is(err, entityevent.ErrUnavailable) {
			t.Errorf("%s: %s: %v", what, part, err)
		}
	}
	for part := range want {
		if errs[part] == nil && !reflect.DeepEqual(want[part], got[part]) {
			t.Errorf("%s: %s is wrong: %.300s", what, part, cmp.Diff(want[part], got[part]))
		}
	}
}

var overwrite = map[string]func(page []byte, random *rand.Rand){
	"zeros": func(page []byte, _ *rand.Rand) { clear(page) },
	"noise": func(page []byte, random *rand.Rand) {
		for i := range page {
			page[i] = byte(random.Uint32())
		}
	},
	"text": func(page []byte, _ *rand.Rand) { copy(page, strings.Repeat("all work and no play ", 400)) },
}

// TestDamagedPages overwrites each page of a closed store in several ways. Whatever needs it says that the
// store is damaged and what to do; the rest is as it was. A write says so as well, or is readable after it.
func TestDamagedPages(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	sound := furnished(t, path)
	s := open(t, path, sqlite.Options{})
	want, errs := everything(t.Context(), s)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for name, fill := range overwrite {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, 2))
			noticed := 0
			for at := 0; at < len(sound); at += page {
				what := fmt.Sprintf("page %d of %s", at/page+1, name)
				content := append([]byte(nil), sound...)
				fill(content[at:at+page], random)
				path := filepath.Join(dir, fmt.Sprint(name, at))
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				s, err := sqlite.Open(t.Context(), path, sqlite.Options{ReadConns: 1})
				if err != nil {
					noticed++
					if !errors.Is(err, entityevent.ErrUnavailable) || !strings.Contains(err.Error(), "restore a backup") {
						t.Errorf("%s: open: %v", what, err)
					}
					continue
				}
				got, errs := everything(t.Context(), s)
				compare(t, what, want, got, errs)
				if len(errs) > 0 {
					noticed++
					// It may be on a page that a copy does not need, as one that is free.
					if err := s.Backup(t.Context(), path+".copy"); err != nil && !errors.Is(err, entityevent.ErrUnavailable) {
						t.Errorf("%s: backup: %v", what, err)
					} else if err == nil {
						t.Errorf("%s: a copy was made", what)
					}
				}
				for n := range 3 {
					change := put(fmt.Sprintf("%03d-%s", n*60, strings.Repeat("k", 120)), `{"new":1}`)
					if _, err := s.Apply(t.Context(), entityevent.Commit{Feed: "acme", Changes: []entityevent.Change{change}}); err != nil && !errors.Is(err, entityevent.ErrUnavailable) {
						t.Errorf("%s: apply: %v", what, err)
					}
				}
				s.Close() // may fail, as its last checkpoint may
				os.Remove(path)
			}
			if pages := len(sound) / page; noticed < pages*3/4 {
				t.Errorf("%d of %d damaged pages were noticed", noticed, pages)
			}
		})
	}
}

// TestDamagedWhileOpen overwrites all pages of an open store, and puts them back.
func TestDamagedWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	furnished(t, path)
	for name, fill := range overwrite {
		s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		want, errs := everything(t.Context(), s)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = sqlite.Open(t.Context(), path, sqlite.Options{}); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		broken := append([]byte(nil), before...)
		random := rand.New(rand.NewPCG(1, 2))
		for at := 0; at < len(broken); at += page {
			fill(broken[at:at+page], random)
		}
		if _, err := f.WriteAt(broken, 0); err != nil {
			t.Fatal(err)
		}
		got, errs := everything(t.Context(), s)
		compare(t, name, want, got, errs)
		if len(errs) < len(want)/2 {
			t.Errorf("%s: only %d of %d were noticed", name, len(errs), len(want))
		}
		_, err = s.Apply(t.Context(), entityevent.Commit{Feed: "acme", Changes: []entityevent.Change{put("000-"+strings.Repeat("k", 120), `{"new":1}`)}})
		wantUnavailable(t, err, path, "restore a backup")

		if _, err := f.WriteAt(before, 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
		got, errs = everything(t.Context(), s)
		if len(errs) > 0 {
			t.Errorf("%s: mended: %v", name, errs)
		}
		compare(t, name+" mended", want, got, nil)
		apply(t, s, put(name, `{}`))
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestCutFile: a file that lost its end is damaged, wherever it was cut.
func TestCutFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	sound := furnished(t, path)
	for size := 1; size < len(sound); size += page*3 + 1234 {
		cut := filepath.Join(dir, fmt.Sprint("cut", size))
		if err := os.WriteFile(cut, sound[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := sqlite.Open(t.Context(), cut, sqlite.Options{})
		if err == nil {
			_, errs := everything(t.Context(), s)
			s.Close()
			for _, err = range errs {
				break
			}
		}
		if err == nil {
			t.Errorf("cut at %d of %d: not noticed", size, len(sound))
			continue
		}
		wantUnavailable(t, err, cut, "restore a backup")
	}
}

// TestBackupOfATornPage: a page of which the second half was lost looks like a good one with fewer rows. Reads
// cannot tell; a copy would make it last.
func TestBackupOfATornPage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	sound := furnished(t, path)
	for at := page * 2; at < len(sound); at += page * 7 {
		torn := filepath.Join(dir, fmt.Sprint("torn", at))
		content := append([]byte(nil), sound...)
		clear(content[at+page/2 : at+page])
		if err := os.WriteFile(torn, content, 0o600); err != nil {
			t.Fatal(err)
		}
		told := 0
		s, err := sqlite.Open(t.Context(), torn, sqlite.Options{Unavailable: func(*sqlite.UnavailableError) { told++ }})
		if err == nil {
			err = s.Backup(t.Context(), torn+".copy")
			s.Close()
			if told == 0 {
				t.Errorf("page %d: whoever watches the store was not told", at/page+1)
			}
		}
		if err == nil {
			t.Errorf("page %d: a copy was made", at/page+1)
			continue
		}
		wantUnavailable(t, err, torn, "restore a backup")
	}
}

// TestTornBody: of a long body half a page was lost, in its middle too.
func TestTornBody(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	body := `{"A":"` + strings.Repeat("é", 30_000) + `"}`
	apply(t, s, put("1", body))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	noticed := 0
	for at := len(sound) - 7*page; at < len(sound); at += page {
		for _, fill := range []func([]byte){func(half []byte) { clear(half) }, func(half []byte) {
			for i := range half {
				half[i] = 0xa0
			}
		}} {
			content := append([]byte(nil), sound...)
			fill(content[at+page/2+4 : at+page])
			torn := filepath.Join(dir, "torn.db")
			if err := os.WriteFile(torn, content, 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := sqlite.Open(t.Context(), torn, sqlite.Options{})
			if err != nil {
				wantUnavailable(t, err, torn)
				continue
			}
			for r, err := range c.Read(t.Context(), everyone, entityevent.Query{Resource: "Property"}) {
				if err == nil && string(r.Body) != body {
					t.Errorf("page %d: another body was read", at/page+1)
				}
				if err != nil {
					noticed++
					wantUnavailable(t, err, torn, "restore a backup")
				}
			}
			change := put("1", `{"B":1}`)
			change.Op = entityevent.Merge
			if _, err := c.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{change}}); err != nil {
				wantUnavailable(t, err, torn, "restore a backup")
			}
			c.Close()
			if err := errors.Join(os.Remove(torn)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if noticed < 10 {
		t.Errorf("%d noticed", noticed)
	}
}
