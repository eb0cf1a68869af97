package consumer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
)

func verify(t *testing.T, f *consumer.Feed) consumer.Verified {
	t.Helper()
	v, err := f.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// plant changes the copy behind the feed's back.
func plant(t *testing.T, f *consumer.Feed, changes ...entityevent.Change) {
	t.Helper()
	outcomes, err := f.Store.Apply(t.Context(), entityevent.Commit{Feed: "mls", Changes: changes})
	for _, o := range outcomes {
		err = errors.Join(err, o.Err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func planted(key string, op entityevent.Op, body string) entityevent.Change {
	c := entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: key}, Op: op}
	if body != "" {
		c.Body = json.RawMessage(body)
	}
	return c
}

// A copy that is equal is proven so by one digest, and no record is asked for.
func TestVerifyEqual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(3500)
		m.put("Member", "M1", `{"MemberKey":"M1"}`)
		f := newFeed(t, to(m), "Property", "Member", "Media")
		catchUp(t, f)
		before := len(m.asked("Property"))
		v := verify(t, f)
		if !v.Equal || v.Rounds != 1 || v.Through != 3501 || v.Ended.IsZero() {
			t.Errorf("%+v", v)
		}
		want := []consumer.VerifiedResource{{Resource: "Media"}, {Resource: "Member", Records: 1}, {Resource: "Property", Records: 3500}}
		if d := cmp.Diff(want, v.Resources); d != "" {
			t.Error(d)
		}
		if n := len(m.asked("Property")); n != before {
			t.Errorf("records were asked for: %v", m.asked("Property")[before:])
		}
		m.tasks(t)
	})
}

// What differs is found and named, each record of it and no other, wherever it is.
func TestVerifyFindsWhatDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(3500)
		f := newFeed(t, to(m), "Property")
		catchUp(t, f)
		plant(t, f,
			planted("P0000", entityevent.Remove, ""),
			planted("P0999x", entityevent.Put, `{"ListingKey":"P0999x"}`),
			planted("P1000", entityevent.Put, property("P1000", 7)),
			planted("P2000", entityevent.Remove, ""),
			planted("P3500", entityevent.Put, property("P3500", 7)),
			planted("A", entityevent.Put, property("A", 7)))
		v := verify(t, f)
		want := []consumer.VerifiedResource{{Resource: "Property", Records: 3500, Differences: 6, Differs: []consumer.VerifiedRecord{
			{Key: "A", What: "extra"}, {Key: "P0000", What: "missing"}, {Key: "P0999x", What: "extra"}, {Key: "P1000", What: "changed"},
			{Key: "P2000", What: "missing"}, {Key: "P3500", What: "extra"},
		}}}
		if d := cmp.Diff(want, v.Resources); d != "" || v.Equal {
			t.Errorf("equal %t: %s", v.Equal, d)
		}
		if n := m.tasks(t); n > 1+6+1 {
			t.Errorf("%d tasks", n)
		}
		if s := status(t, f); s.Recheck+s.Aside+s.Held != 0 || s.Sequence != 3500 {
			t.Errorf("it wrote: %+v", s)
		}
	})
}

// A copy that lacks nearly all is told by ranges, and not by thousands of keys.
func TestVerifyOfRuins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(5000)
		f := newFeed(t, to(m), "Property")
		catchUp(t, f)
		var gone []entityevent.Change
		for i := range 4990 {
			gone = append(gone, planted(fmt.Sprintf("P%04d", i), entityevent.Remove, ""))
		}
		plant(t, f, gone...)
		v := verify(t, f)
		if v.Equal || len(v.Resources) != 1 {
			t.Fatalf("%+v", v)
		}
		found := v.Resources[0].Differences
		for _, r := range v.Resources[0].Ranges {
			found += r.There - r.Here
		}
		if found != 4990 || len(v.Resources[0].Differs) > 100 || len(v.Resources[0].Ranges) == 0 {
			t.Errorf("%d differences: %+v", found, v.Resources[0])
		}
	})
}

// Nor is one that has thousands too many looked at record by record.
func TestVerifyOfTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, to(making(10)), "Property")
		catchUp(t, f)
		var more []entityevent.Change
		for i := range 2100 {
			key := fmt.Sprintf("Q%04d", i)
			more = append(more, planted(key, entityevent.Put, property(key, 1)))
		}
		plant(t, f, more...)
		v := verify(t, f)
		if v.Equal || len(v.Resources) != 1 || len(v.Resources[0].Ranges) == 0 {
			t.Fatalf("%+v", v)
		}
		found := v.Resources[0].Differences
		for _, r := range v.Resources[0].Ranges {
			found += r.Here - r.There
		}
		if found != 2100 {
			t.Errorf("%d differences: %+v", found, v.Resources[0])
		}
	})
}

// What was busy at one look is judged by the others, and what was right at one of them is right. Keys may have quotes.
func TestVerifyLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(3000)
		f := newFeed(t, to(m), "Property")
		catchUp(t, f)
		wrong := func(key string) entityevent.Change { return planted(key, entityevent.Put, property(key, 7)) }
		plant(t, f, planted("P'1500", entityevent.Put, property("P'1500", 7)), wrong("P0000"), wrong("P1500"), wrong("P1600"), wrong("P1700"))
		right := planted("P1700", entityevent.Put, property("P1700", 2700))
		looks := map[string]int{}
		m.answer = func(w http.ResponseWriter, r *http.Request) bool {
			filter := r.URL.Query().Get("$filter")
			_, key, last := strings.Cut(filter, " le '")
			if !last {
				return false
			}
			key = strings.TrimSuffix(key, "'")
			looks[key]++
			if looks[key] == 2 && key == "P1500" {
				plant(t, f, wrong(key))
			}
			if looks[key] == 2 && key == "P1700" {
				plant(t, f, right)
			}
			m.serveBetween(w, r, filter)
			if looks[key] == 1 && key == "P1500" || looks[key] > 1 && key == "P1600" {
				m.put("Property", key, property(key, 100+looks[key])) // busy
			}
			return true
		}
		v := verify(t, f)
		want := []consumer.VerifiedResource{{Resource: "Property", Records: 3000, Differences: 4, Differs: []consumer.VerifiedRecord{
			{Key: "P'1500", What: "extra"}, {Key: "P0000", What: "changed"}, {Key: "P1500", What: "changed"}, {Key: "P1600", What: "changed"},
		}}}
		if d := cmp.Diff(want, v.Resources); d != "" || v.Equal {
			t.Errorf("equal %t, after %v: %s", v.Equal, looks, d)
		}
	})
}

// What the feed knows of a record that differs is said.
func TestVerifySaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(50)
		f := newFeed(t, to(m), "Property")
		catchUp(t, f)
		for i := range 40 { // more than the brake lets through
			m.remove("Property", fmt.Sprintf("P%04d", i))
		}
		m.put("Property", "P0049", `{"ListingKey":"P0049","ListPrice":1,"ListPrice":2}`) // nothing that can be kept
		catchUp(t, f)
		m.quiet("Property", "P0049", property("P0049", 3))
		v := verify(t, f)
		if v.Equal || len(v.Resources) != 1 || v.Resources[0].Differences != int64(status(t, f).Held)+1 {
			t.Fatalf("%+v", v)
		}
		for _, d := range v.Resources[0].Differs {
			what, why := "extra", "its removal is held, as "
			if d.Key == "P0049" {
				what, why = "changed", "set aside: "
			}
			if d.Held != (what == "extra") {
				t.Errorf("held %t: %+v", d.Held, d)
			}
			if d.What != what || !strings.HasPrefix(d.Reason, why) || strings.Count(d.Reason, "held") > 1 || len(d.Reason) == len(why) {
				t.Errorf("%+v", d)
			}
		}
	})
}

// Held removals are counted, also those that are not listed.
func TestVerifyCountsHeldRemovals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(300)
		f := newFeed(t, to(m), "Property")
		catchUp(t, f)
		for i := range 200 {
			m.remove("Property", fmt.Sprintf("P%04d", i))
		}
		catchUp(t, f)
		plant(t, f, planted("P0299", entityevent.Put, property("P0299", 7)))
		v := verify(t, f)
		if r := v.Resources[0]; r.Held <= 100 || r.Held != int64(status(t, f).Held) || r.Differences != r.Held+1 || len(r.Differs) != 100 {
			t.Errorf("%d held of %d, %d listed", r.Held, r.Differences, len(r.Differs))
		}
	})
}

// While the producer is written to all the time, and the copy follows, it ends equal.
func TestVerifyDuringWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(3000)
		f := newFeed(t, to(m), "Property")
		f.LongPoll = true
		stop := run(t, f)
		until(t, "it is loaded", func() bool { return status(t, f).Loaded })
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() {
			defer close(over)
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("P%04d", i*7919%3000)
				m.put("Property", key, property(key, i))
				if i%10 == 0 {
					m.put("Property", "P1500", property("P1500", i)) // one that changes all the time
				}
				<-time.After(5 * time.Millisecond)
			}
		}()
		m.polls = 1
		writing := func() {
			for i := range 20 {
				key := fmt.Sprintf("P%04d", i*131)
				m.put("Property", key, property(key, i+int(time.Now().UnixNano()%1e6)))
			}
		}
		m.between, m.after = writing, writing
		for range 3 {
			if v := verify(t, f); !v.Equal {
				t.Errorf("%+v", v)
			}
		}
		cancel()
		<-over
		stop()
	})
}

// A record that changes each time that it is looked at is not said to differ, but that nothing can be said of it;
// what differs beside it is found all the same.
func TestVerifyOfBusyRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(3000)
		f := newFeed(t, to(m), "Property")
		catchUp(t, f)
		price := 0
		m.between = func() { m.put("Property", "P1502", property("P1502", 1)) }
		m.after = func() {
			price++
			m.put("Property", "P1500", property("P1500", price))
			m.put("Property", "P1502", property("P1502", 2)) // there and back again
		}
		m.answer = func(w http.ResponseWriter, r *http.Request) bool {
			filter := r.URL.Query().Get("$filter")
			if !strings.Contains(filter, " gt '") {
				return false
			}
			m.between()
			m.serveBetween(w, r, filter)
			m.after()
			return true
		}
		v := verify(t, f)
		want := []consumer.VerifiedResource{{Resource: "Property", Records: 3000, Busy: 2}}
		if d := cmp.Diff(want, v.Resources); d != "" || !v.Equal {
			t.Errorf("equal %t: %s", v.Equal, d)
		}
		plant(t, f, planted("P1501", entityevent.Put, property("P1501", 7)))
		v = verify(t, f)
		want[0].Differences, want[0].Differs = 1, []consumer.VerifiedRecord{{Key: "P1501", What: "changed"}}
		if d := cmp.Diff(want, v.Resources); d != "" || v.Equal {
			t.Errorf("equal %t: %s", v.Equal, d)
		}
	})
}

// bent is a store one of whose records was changed beside its hash.
type bent struct{ consumer.Store }

func (b bent) Read(ctx context.Context, v entityevent.View, q entityevent.Query) iter.Seq2[entityevent.Record, error] {
	return func(yield func(entityevent.Record, error) bool) {
		for r, err := range b.Store.Read(ctx, v, q) {
			if r.Key == "P0011" {
				r.Body = json.RawMessage(property(r.Key, 999))
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// What counts is what the copy holds, not the hash that is stored beside it.
func TestVerifyLooksAtContents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(50)
		f := newFeed(t, to(m), "Property")
		catchUp(t, f)
		f.Store = bent{f.Store}
		v := verify(t, f)
		want := []consumer.VerifiedResource{{Resource: "Property", Records: 50, Differences: 1, Differs: []consumer.VerifiedRecord{{Key: "P0011", What: "changed"}}}}
		if d := cmp.Diff(want, v.Resources); d != "" || v.Equal {
			t.Errorf("equal %t: %s", v.Equal, d)
		}
	})
}

// It ends while the producer's log grows with every question that is put to it.
func TestVerifyDoesNotChaseTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(50)
		f := newFeed(t, to(m), "Property")
		catchUp(t, f)
		price, asked := 0, 0
		m.answer = func(_ http.ResponseWriter, r *http.Request) bool {
			if asked++; strings.HasSuffix(r.URL.Path, "/EntityEvent") && asked < 1000 {
				price++
				m.put("Property", "P0007", property("P0007", price))
			}
			return false
		}
		if v := verify(t, f); !v.Equal || asked >= 1000 {
			t.Errorf("after %d requests: %+v", asked, v)
		}
	})
}

// Ranges of numbers cannot be looked at record by record; one whose record is busy is not said to differ, and what differs
// beside it is found.
func TestVerifyOfBusyNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(0)
		m.metadata = schemaWith("Edm.Int64")
		number := func(key, price int) {
			m.put("Property", fmt.Sprint(key), property(fmt.Sprint(key), price))
		}
		for key := 1000; key < 1100; key++ {
			number(key, 1)
		}
		f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) { // the source reads text only
			r = r.Clone(r.Context())
			r.URL.Path = strings.NewReplacer("(", "('", ")", "')").Replace(r.URL.Path)
			r.URL.RawPath = r.URL.Path
			return to(m)(r)
		}), "Property")
		catchUp(t, f)
		price := 1
		m.after = func() {
			price++
			number(1050, price)
		}
		if v := verify(t, f); !v.Equal || len(v.Resources) != 1 || v.Resources[0].Busy != 1 {
			t.Errorf("%+v", v)
		}
		plant(t, f, planted("1049", entityevent.Put, property("1049", 7)))
		if v := verify(t, f); v.Equal || len(v.Resources) != 1 || len(v.Resources[0].Differs) != 1 || v.Resources[0].Differs[0] != (consumer.VerifiedRecord{Key: "1049", What: "changed"}) {
			t.Errorf("%+v", v)
		}
	})
}

// A producer that makes no digests, or one of another log, is told from one whose copy differs.
func TestVerifyUnable(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*maker)
		want error
		text string
	}{
		"no tasks": {func(m *maker) {
			m.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/" {
					htmlNotFound(w, r)
				}
				return r.URL.Path == "/"
			}
		}, consumer.ErrNoDigest, "resosync reconcile mls --dry-run"},
		"refused": {func(m *maker) {
			m.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPost {
					declined(w, 403, "not for you")
				}
				return r.Method == http.MethodPost
			}
		}, consumer.ErrNoDigest, "not for you"},
		"another log": {func(m *maker) {
			m.outcome = func(task *made) {
				task.result = []byte(strings.Replace(string(task.result), "log-1", "log-2", 1))
			}
		}, entityevent.ErrAnotherLog, "run the command again"},
		"ahead of its log": {func(m *maker) {
			m.outcome = func(task *made) {
				task.result = []byte(strings.Replace(string(task.result), `"through":50`, `"through":51`, 1))
			}
		}, nil, "the log ends at 50"},
		"without a resource": {func(m *maker) {
			m.outcome = func(task *made) { task.result = []byte(`{"log":"log-1/all","sequence":50,"through":50}`) }
		}, nil, "without Property"},
		"no digest": {func(m *maker) { m.outcome = func(task *made) { task.result = []byte(`[]`) } }, nil, "digest"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := making(50)
				f := newFeed(t, to(m.source), "Property")
				catchUp(t, f)
				c.set(m)
				f = newFeedOn(f.Store, to(m))
				v, err := f.Verify(t.Context(), nil)
				if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || v.Equal {
					t.Errorf("%v, %+v", err, v)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, to(making(5)), "Property")
		if _, err := f.Verify(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "resosync sync mls") {
			t.Error(err)
		}
	})
}
