package producer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

func restored(t testing.TB, store producer.Store) *producer.RestoredState {
	t.Helper()
	state, err := producer.Restored(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// A reader of EntityEvent that names our log and a position above its head proves that the store was
// restored from a backup. Nothing else does.
func TestReaderAhead(t *testing.T) {
	store := openStore(t, t.TempDir())
	s := serve(t, store, nil)
	s.putMany("Property", "ListingKey", "a", "b", "c")
	log := string(store.LogID())
	targets := []string{"/EntityEvent", "/EntityEvent?$filter=EntityEventSequence gt 3", "/EntityEvent?last_event=3&$top=0", "/EntityEvent(1)", "/EntityEvent(99)"}

	for _, cursor := range []string{
		"", log + ":3", log + "/all:3", log + ":0", log + ":1", "another:4", "another/all:4", ":4", "4", log, log + ":", log + ":+4", log + ":-4", log + ":4.0",
		log + ": 4", log + ":0x4", log + ":9223372036854775808", log + "x:4", "x" + log + ":4", strings.ToUpper(log) + ":4", "/" + log + ":4", log + ":4,",
	} {
		for _, target := range targets {
			if a := s.get(target, "EntityEvent-Cursor: "+cursor); a.status == 410 {
				t.Errorf("%s with %s: %s", target, cursor, a.body)
			}
		}
	}
	ahead := "EntityEvent-Cursor: " + log + "/all:4"
	for _, c := range []struct {
		target, authorization string
		status                int
	}{
		{"/EntityEvent", "", 401}, {"/EntityEvent", "Bearer forged", 401}, {"/EntityEvent", "Bearer push", 403}, // they prove nothing
		{"/Property", "Bearer all", 200}, {"/Property('a')", "Bearer all", 200}, {"/$metadata", "Bearer all", 200}, // nor is it asked for there
	} {
		s.get(c.target, ahead, "Authorization: "+c.authorization).want(t, c.status)
	}
	if got := restored(t, store); got != nil {
		t.Fatalf("%+v", got)
	}

	var logged bytes.Buffer
	s.server.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	for _, cursor := range []string{log + ":5", log + "/all:4", log + "/idx:9007199254740993", log + ":" + strconv.Itoa(math.MaxInt64)} {
		for _, target := range targets {
			a := s.get(target, "EntityEvent-Cursor: "+cursor, "Authorization: Bearer reader", "Prefer: wait=60")
			a.want(t, 410)
			checkError(t, a)
			if !strings.Contains(a.body, "restored from a backup") || a.header.Get("EntityEvent-Through") != "" {
				t.Errorf("%v %s", a.header, a.body)
			}
		}
		if a := s.do("HEAD", "/EntityEvent", "", "EntityEvent-Cursor: "+cursor); a.status != 410 {
			t.Errorf("HEAD: %d", a.status)
		}
	}
	got := restored(t, store)
	if got == nil || string(got.Log) != log || got.Seq != 5 || got.Head != 3 || got.By != "client test" || time.Since(got.At) > time.Minute {
		t.Fatalf("%+v", got)
	}
	if n := strings.Count(logged.String(), "\n"); n != 1 || !strings.Contains(logged.String(), "resosync log new-id") {
		t.Errorf("logged %s", logged.String())
	}
	s.get("/EntityEvent").want(t, 200) // who names no cursor reads on
	put(t, store, entityevent.Local, 10)
	s.get("/EntityEvent", ahead).want(t, 200) // it may hold other events up to 4: that the proof is kept is the point
	if got := restored(t, store); got == nil {
		t.Error("the proof went away by itself")
	}

	// The new name ends it, and can be proved wrong again.
	renamed, err := store.NewLog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := restored(t, store); got != nil {
		t.Errorf("%+v", got)
	}
	a := s.get("/EntityEvent", "EntityEvent-Cursor: "+log+":99")
	if a.want(t, 200); a.header.Get("EntityEvent-Log") != string(renamed)+"/all" {
		t.Errorf("%v", a.header)
	}
	s.get("/EntityEvent", "EntityEvent-Cursor: "+string(renamed)+":"+strconv.Itoa(1<<33)).want(t, 410)
	if got := restored(t, store); got == nil || got.Log != renamed {
		t.Errorf("%+v", got)
	}
}

// A reader whose claim was dismissed is told the same as before and proves nothing more; another one still does, and
// so does the first in a log of another name.
func TestReaderIsNotBelieved(t *testing.T) {
	dir := t.TempDir()
	store := openStore(t, dir)
	s := serve(t, store, nil)
	ahead := func(log entityevent.LogID) string { return "EntityEvent-Cursor: " + string(log) + ":9000000000000" }
	if _, err := producer.Disbelieve(t.Context(), store); !errors.Is(err, producer.ErrNotRestored) {
		t.Errorf("without a proof: %v", err)
	}
	s.get("/EntityEvent", ahead(store.LogID())).want(t, 410)
	if got, err := producer.Disbelieve(t.Context(), store); err != nil || got.By != "client test" || got.Seq != 9000000000000 {
		t.Errorf("%+v %v", got, err)
	}
	for range 2 {
		if got := restored(t, store); got != nil {
			t.Errorf("after it was dismissed: %+v", got)
		}
		if _, err := producer.Disbelieve(t.Context(), store); !errors.Is(err, producer.ErrNotRestored) {
			t.Errorf("dismissed twice: %v", err)
		}
		s.get("/EntityEvent", ahead(store.LogID())).want(t, 410)
	}
	s.get("/EntityEvent", ahead(store.LogID()), "Authorization: Bearer other").want(t, 410)
	if got := restored(t, store); got == nil || got.By != "client other" {
		t.Errorf("another reader: %+v", got)
	}
	if _, err := producer.Disbelieve(t.Context(), store); err != nil {
		t.Error(err)
	}
	s.get("/EntityEvent", ahead(store.LogID())).want(t, 410)
	if got := restored(t, store); got != nil {
		t.Errorf("the first, after the other was dismissed too: %+v", got)
	}
	log, err := store.NewLog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.get("/EntityEvent", ahead(log)).want(t, 410)
	if got := restored(t, store); got == nil || got.By != "client test" {
		t.Errorf("under another name: %+v", got)
	}
}

// Readers that follow a growing log are never ahead of it.
func TestReadersAreNotAheadOfWriters(t *testing.T) {
	store := openStore(t, t.TempDir())
	s := serve(t, store, nil)
	put(t, store, entityevent.Local, 1)
	log := string(store.LogID())
	var readers, writers sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		writers.Go(func() {
			for range 60 {
				put(t, store, entityevent.Local, 1)
			}
		})
	}
	for range 3 {
		readers.Go(func() {
			for at := "1"; ; {
				a, err := s.try(context.Background(), "GET", "/EntityEvent?last_event="+at, "", "EntityEvent-Cursor: "+log+":"+at)
				if err != nil || a.status != 200 {
					t.Errorf("at %s: %v %d %s", at, err, a.status, a.body)
					return
				}
				at = a.header.Get("EntityEvent-Through")
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	if got := restored(t, store); got != nil {
		t.Errorf("%+v", got)
	}
}

// A proof that cannot be stored is no answer: the reader comes again.
func TestReaderAheadOfAFullDisk(t *testing.T) {
	store := &fullDisk{Store: openStore(t, t.TempDir()), full: true}
	s := serve(t, store, nil)
	ahead := "EntityEvent-Cursor: " + string(store.LogID()) + ":1"
	a := s.get("/EntityEvent", ahead)
	a.want(t, 503)
	checkError(t, a)
	store.full = false
	s.get("/EntityEvent", ahead).want(t, 410)
	store.full = true
	s.get("/EntityEvent", ahead).want(t, 410) // it is stored: nothing is written
}

// Subscribers say in their answers how far they are, which proves the same.
func TestSubscriberAhead(t *testing.T) {
	for name, c := range map[string]struct {
		cursor string // %s: the log's name
		self   string // of one that its client registered
		by     string // who is believed to be ahead
	}{
		"none": {"", "", ""}, "at what was pushed": {"%s/all:2", "", ""}, "below": {"%s/all:1", "", ""}, "another log": {"another/all:99", "", ""},
		"malformed": {"%s/all:99x", "", ""}, "further, by polling what came meanwhile": {"%s/all:3", "", ""}, "ahead": {"%s/all:4", "", "subscription b"},
		"ahead, no profile": {"%s:4", "", "subscription b"}, "ahead, registered": {"%s:4", "/subscriptions/b", "client vendor"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var logged bytes.Buffer
				store := openStore(t, t.TempDir())
				subscribe(t, store, "b")
				want := put(t, store, "local", 2)
				s := newSubscriber()
				cursor := strings.ReplaceAll(c.cursor, "%s", string(store.LogID()))
				s.script = []reply{func(w http.ResponseWriter, r *http.Request, p pushed) {
					want = append(want, put(t, store, "local", 1)...) // before the answer
					status(200, "EntityEvent-Cursor", cursor)(w, r, p)
				}}
				s.always = status(200, "EntityEvent-Cursor", cursor)
				p := newPusher(t, store, s)
				p.Subscription.Client, p.Subscription.Self = "vendor", c.self
				p.Logger = slog.New(slog.NewTextHandler(&logged, nil))
				stop := start(t, p)
				pushes := []pushed{s.next(t), s.next(t)}
				want = append(want, put(t, store, "local", 1)...)
				pushes = append(pushes, s.next(t))
				time.Sleep(time.Second)
				stop()
				wantChain(t, 0, pushes, want) // whatever it says, it goes on from its cursor
				got := restored(t, store)
				if (got != nil) != (c.by != "") || got != nil && (got.Seq != 4 || got.Head != 3 || got.By != c.by) {
					t.Errorf("%+v", got)
				}
				if n := strings.Count(logged.String(), "resosync log new-id"); n != map[bool]int{true: 1}[c.by != ""] {
					t.Errorf("logged %d times: %s", n, logged.String())
				}
			})
		})
	}
}

// The whole of it: a store is put back to a backup, gives numbers out again, and gets another name.
func TestRestoredFromABackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		old := openStore(t, dir)
		subscribe(t, old, "b")
		first := put(t, old, "local", 3)
		s := newSubscriber()
		stop := start(t, newPusher(t, old, s))
		pushes := []pushed{s.next(t)}
		time.Sleep(time.Second)
		synctest.Wait()
		backup := filepath.Join(t.TempDir(), "resosync.db")
		if err := old.Backup(t.Context(), backup); err != nil {
			t.Fatal(err)
		}
		lost := put(t, old, "local", 2) // 4 and 5, read by all
		pushes = append(pushes, s.next(t))
		stop()
		wantChain(t, 0, pushes, append(first, lost...))

		store := openStore(t, filepath.Dir(backup))
		log := store.LogID()
		cursor := fmt.Sprintf("%s/all:%d", log, lost[1])
		s = newSubscriber()
		s.always = status(200, "EntityEvent-Cursor", cursor)
		start(t, newPusher(t, store, s))
		again := put(t, store, "local", 1) // 4 a second time
		if again[0] != lost[0] {
			t.Fatalf("%d is given out after the restore, want %d", again[0], lost[0])
		}
		pushes = []pushed{s.next(t)}
		synctest.Wait()
		if got := restored(t, store); got == nil || got.Seq != lost[1] || got.Head != again[0] {
			t.Fatalf("%+v", got)
		}
		renamed, err := store.NewLog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		later := put(t, store, "local", 2)
		pushes = append(pushes, s.next(t))
		synctest.Wait()
		wantChain(t, first[2], pushes, append(again, later...))
		if was, is := pushes[0].header.Get("EntityEvent-Log"), pushes[1].header.Get("EntityEvent-Log"); was != string(log)+"/all" || is != string(renamed)+"/all" {
			t.Errorf("the log is %s, then %s", was, is)
		}
		if got := restored(t, store); got != nil { // the answers still name the old log
			t.Errorf("%+v", got)
		}
	})
}

// A batch that was read, or even sent, before the log was named anew is true under the new name: what it
// holds stands in both. Its positions are those of the old numbering, from which the new one goes on.
func TestPushesInANewLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		subscribe(t, store, "b")
		want := put(t, store, "local", 15)
		old := string(store.LogID()) + "/all"
		var renamed string
		s := newSubscriber(func(w http.ResponseWriter, r *http.Request, p pushed) {
			log, err := store.NewLog(context.Background())
			if err != nil {
				t.Error(err)
			}
			renamed = string(log) + "/all"
			lost(w, r, p)
		})
		p := newPusher(t, store, s)
		p.Subscription.BatchEvents = 5
		start(t, p)
		first := s.next(t)
		synctest.Wait() // now the log is named anew
		want = append(want, put(t, store, "local", 2)...)
		if want[15] <= want[14]+1<<31 {
			t.Fatalf("%v", want)
		}
		pushes := []pushed{s.next(t), s.next(t), s.next(t), s.next(t)}
		wantChain(t, 0, pushes, want)
		if got := first.header.Get("EntityEvent-Log"); got != old {
			t.Errorf("the first names %s, want %s", got, old)
		}
		for _, p := range pushes {
			if got := p.header.Get("EntityEvent-Log"); got != renamed {
				t.Errorf("(%d, %d] names %s, want %s", p.after, p.through, got, renamed)
			}
		}
	})
}

// What is answered after the log was named anew says so, also a poll that was held meanwhile.
func TestPagesInANewLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, t.TempDir())
		put(t, store, entityevent.Local, 3)
		server := bubbleServer(t, store)
		for _, target := range []string{"/odata/EntityEvent", "/odata/EntityEvent?last_event=3", "/odata/EntityEvent?last_event=3&$top=0"} {
			w := record(t, server, target, "Authorization: Bearer all")
			if got := w.Header()["EntityEvent-Log"]; len(got) != 1 || got[0] != string(store.LogID())+"/all" {
				t.Errorf("%s: %v", target, got)
			}
		}
		go func() {
			time.Sleep(10 * time.Second)
			if _, err := store.NewLog(context.Background()); err != nil {
				t.Error(err)
			}
		}()
		old := store.LogID()
		w := record(t, server, "/odata/EntityEvent?last_event=3", "Authorization: Bearer all", "Prefer: wait=30")
		if got := w.Header()["EntityEvent-Log"][0]; got != string(store.LogID())+"/all" || store.LogID() == old {
			t.Errorf("a held poll names %s", got)
		}
		if got := w.Header()["EntityEvent-Through"][0]; got != strconv.Itoa(3+1<<32) {
			t.Errorf("Through %s", got)
		}
		seq := put(t, store, entityevent.Local, 1)[0]
		w = record(t, server, "/odata/EntityEvent?last_event=3", "Authorization: Bearer all", "Prefer: wait=30")
		if !strings.Contains(w.Body.String(), fmt.Sprintf(`"EntityEventSequence":%d,`, seq)) {
			t.Errorf("%s", w.Body)
		}
	})
}
