package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent"
)

func testChanges(b *box) {
	made := b.must(put("1", `{ "ListPrice" : 1.50, "@odata.id": "x", "ModificationTimestamp":"2024-05-06T07:08:09.123456+02:00"}`))
	r := b.record("1")
	b.equal("record", r, entityevent.Record{
		Ref:      ref("1"),
		Body:     json.RawMessage(`{"ListPrice":1.50,"ModificationTimestamp":"2024-05-06T07:08:09.123456+02:00"}`),
		Hash:     made.Hash,
		Version:  made.Sequence,
		Views:    entityevent.Everyone,
		Seen:     entityevent.Everyone,
		Modified: time.Date(2024, 5, 6, 5, 8, 9, 123456000, time.UTC),
	})
	b.equal("before", made.Before, entityevent.Hash{})

	merged := b.must(merge("1", `{"ListPrice":null,"City":"Fargo"}`))
	b.equal("merged", string(b.record("1").Body),
		`{"ListPrice":null,"ModificationTimestamp":"2024-05-06T07:08:09.123456+02:00","City":"Fargo"}`)
	b.equal("before", merged.Before, made.Hash)

	replaced := b.must(put("1", `{"City":"Bismarck"}`))
	b.equal("replaced", string(b.record("1").Body), `{"City":"Bismarck"}`)
	b.equal("no timestamp any more", b.record("1").Modified.IsZero(), true)

	gone := b.must(remove("1"))
	b.equal("gone", gone, entityevent.Outcome{Sequence: gone.Sequence, Before: replaced.Hash})
	r = b.record("1")
	if !r.Gone() || !r.Hash.IsZero() || r.Version != gone.Sequence || r.Seen != entityevent.Everyone {
		b.Errorf("the mark of a gone record: %+v", r)
	}
	b.equal("a gone record is not read", len(b.records(feed, entityevent.Query{})), 0)

	back := b.must(put("1", `{"City":"Bismarck"}`))
	b.equal("back", back, entityevent.Outcome{Sequence: back.Sequence, Hash: replaced.Hash})
	b.equal("back", string(b.record("1").Body), `{"City":"Bismarck"}`)
	b.equal("events", seqs(b.log(feed)),
		list(made.Sequence, merged.Sequence, replaced.Sequence, gone.Sequence, back.Sequence))

	// Several changes of one record in one commit.
	out := b.apply(put("2", `{"A":1}`), merge("2", `{"B":2}`), remove("2"), put("2", `{"A":3}`), put("2", `{"A":3}`))
	b.equal("the last did nothing", out[4], entityevent.Outcome{Hash: out[3].Hash, Before: out[3].Hash})
	b.equal("the sum", string(b.record("2").Body), `{"A":3}`)
	b.equal("version", b.record("2").Version, out[3].Sequence)
}

// testNoOp: equal content makes no event, whatever its bytes.
func testNoOp(b *box) {
	made := b.must(put("1", `{"A":1,"B":"x"}`))
	same := entityevent.Outcome{Hash: made.Hash, Before: made.Hash}
	for _, body := range []string{
		`{"A":1,"B":"x"}`, ` { "A" : 1 , "B" : "x" } `, `{"B":"\u0078","A":1}`, `{"@odata.etag":"W/1","A":1,"B":"x"}`,
	} {
		b.equal(body, b.must(put("1", body)), same)
	}
	b.equal("a merge of what is there", b.must(merge("1", `{"B":"x"}`)), same)
	b.equal("an empty merge", b.must(merge("1", `{}`)), same)
	b.equal("remove of an absent record", b.must(remove("2")), entityevent.Outcome{})
	gone := b.must(remove("1"))
	b.equal("remove of a gone record", b.must(remove("1")), entityevent.Outcome{})
	b.equal("an empty commit", len(b.commit(entityevent.Commit{Feed: feed})), 0)
	b.equal("events", seqs(b.log(feed)), list(made.Sequence, gone.Sequence))
	b.equal("version", b.record("1").Version, gone.Sequence)
	if other := b.must(put("1", `{"A":1.0,"B":"x"}`)); other.Sequence == 0 || other.Hash == made.Hash {
		b.Error("1.0 is not 1")
	}
}

func testPreconditions(b *box) {
	made := b.must(put("here", `{"A":1}`))
	b.must(put("gone", `{"A":1}`))
	gone := b.must(remove("gone"))
	since := func(c entityevent.Change, s entityevent.Sequence) entityevent.Change {
		c.UnchangedSince = &s
		return c
	}
	only := func(c entityevent.Change, e entityevent.Existence) entityevent.Change { c.Only = e; return c }
	match := func(c entityevent.Change, h entityevent.Hash) entityevent.Change { c.IfHash = h; return c }
	body := `{"A":2}`
	for _, c := range []struct {
		name   string
		change entityevent.Change
		want   error
	}{
		{"new but here", only(put("here", body), entityevent.New), entityevent.ErrExists},
		{"present but absent", only(put("absent", body), entityevent.Present), entityevent.ErrAbsent},
		{"present but gone", only(put("gone", body), entityevent.Present), entityevent.ErrAbsent},
		{"remove present but absent", only(remove("absent"), entityevent.Present), entityevent.ErrAbsent},
		{"remove present but gone", only(remove("gone"), entityevent.Present), entityevent.ErrAbsent},
		{"merge of absent", merge("absent", body), entityevent.ErrAbsent},
		{"merge of gone", merge("gone", body), entityevent.ErrAbsent},
		{"another hash", match(put("here", body), entityevent.Hash{1}), entityevent.ErrConflict},
		{"a hash of absent", match(put("absent", body), made.Hash), entityevent.ErrConflict},
		{"a hash of gone", match(put("gone", body), made.Hash), entityevent.ErrConflict},
		{"merge with another hash", match(merge("here", body), entityevent.Hash{1}), entityevent.ErrConflict},
		{"remove with another hash", match(remove("here"), entityevent.Hash{1}), entityevent.ErrConflict},
		{"changed since", since(put("here", body), made.Sequence-1), entityevent.ErrConflict},
		{"changed since, removing", since(remove("here"), made.Sequence-1), entityevent.ErrConflict},
		{"gone since", since(put("gone", body), gone.Sequence-1), entityevent.ErrConflict},
		{"one of two holds", since(match(put("here", body), made.Hash), 0), entityevent.ErrConflict},
		{"equal content is refused as well", since(put("here", `{"A":1}`), 0), entityevent.ErrConflict},
	} {
		before := b.log(feed)
		out := b.apply(c.change, put("beside", fmt.Sprintf(`{"for":%q}`, c.name)))
		if !errors.Is(out[0].Err, c.want) || out[0].Sequence != 0 {
			b.Errorf("%s: %+v, want %v", c.name, out[0], c.want)
		}
		if out[1].Err != nil || out[1].Sequence == 0 {
			b.Errorf("%s: the change beside it: %+v", c.name, out[1])
		}
		b.equal(c.name+": events", len(b.log(feed)), len(before)+1)
	}
	b.equal("nothing happened", b.record("here").Version, made.Sequence)
	for _, c := range []entityevent.Change{
		since(match(only(put("here", body), entityevent.Present), made.Hash), made.Sequence),
		since(only(put("gone", body), entityevent.New), gone.Sequence),
		since(only(put("absent", body), entityevent.New), 0),
		only(remove("here"), entityevent.Present),
	} {
		if out := b.must(c); out.Sequence == 0 {
			b.Errorf("%s: nothing changed", c.Ref)
		}
	}
}

// testLostUpdates: concurrent merges of different fields all stay; of those that name the hash that they
// read exactly one wins each round.
func testLostUpdates(b *box) {
	const writers, rounds = 8, 10
	b.must(put("1", `{}`))
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range rounds {
				c := merge("1", fmt.Sprintf(`{"F%d":%d}`, w, n))
				if out, err := b.Apply(b.Context(), entityevent.Commit{Feed: feed, Changes: []entityevent.Change{c}}); err != nil || out[0].Err != nil {
					b.Errorf("merge: %v, %v", out, err)
				}
			}
		})
	}
	wg.Wait()
	for w := range writers {
		b.equal("field", string(entityevent.Member(b.record("1").Body, fmt.Sprint("F", w))), fmt.Sprint(rounds-1))
	}
	b.equal("events", len(b.log(feed)), 1+writers*rounds)

	for n := range rounds {
		read := b.record("1").Hash
		won := make(chan bool, writers)
		for w := range writers {
			wg.Go(func() {
				c := put("1", fmt.Sprintf(`{"Round":%d,"Writer":%d}`, n, w))
				c.IfHash = read
				out, err := b.Apply(b.Context(), entityevent.Commit{Feed: feed, Changes: []entityevent.Change{c}})
				if err != nil || out[0].Err != nil && !errors.Is(out[0].Err, entityevent.ErrConflict) {
					b.Errorf("put: %v, %v", out, err)
					return
				}
				won <- out[0].Err == nil
			})
		}
		wg.Wait()
		close(won)
		winners := 0
		for w := range won {
			if w {
				winners++
			}
		}
		b.equal("winners", winners, 1)
	}
}

// testNumbers: the text of a number is content.
func testNumbers(b *box) {
	body := `{"A":9007199254740993,"B":0.10,"C":1e400,"D":-0,"E":123456789012345678901234567890}`
	b.must(put("1", body))
	b.reopen()
	b.equal("body", string(b.record("1").Body), body)
}

func testInvalid(b *box) {
	long := strings.Repeat("k", 256)
	bad := []entityevent.Change{
		put("", `{}`), put(long, `{}`), put("a\xff", `{}`), put("a\x00b", `{}`), remove(""), merge(long, `{}`),
		{Ref: entityevent.Ref{Key: "1"}, Body: json.RawMessage(`{}`)},
		{Ref: entityevent.Ref{Resource: long, Key: "1"}, Body: json.RawMessage(`{}`)},
		put("1", ``), put("1", `[]`), put("1", `{`), put("1", `{"A":1,"A":2}`), put("1", `null`), put("1", `{"A":"`+"\xff"+`"}`),
		merge("here", `[]`), merge("here", `{"A":1,"\u0041":2}`),
		{Ref: ref("1"), Op: 9, Body: json.RawMessage(`{}`)},
	}
	made := b.must(put("here", `{"B":1}`))
	out := b.apply(append(slices.Clone(bad), put("good", `{}`))...)
	for i := range bad {
		if !errors.Is(out[i].Err, entityevent.ErrInvalid) {
			b.Errorf("%d, %.20q: %v", i, bad[i].Key+string(bad[i].Body), out[i].Err)
		}
	}
	b.equal("events", seqs(b.log(feed)), list(made.Sequence, out[len(bad)].Sequence))
	for _, c := range []entityevent.Commit{
		{Changes: []entityevent.Change{put("1", `{}`)}},
		{Feed: feed, Changes: []entityevent.Change{put("1", `{}`)}, Aside: []entityevent.Setback{{Ref: ref("")}}},
		{Feed: feed, Changes: []entityevent.Change{put("1", `{}`)}, Docs: []entityevent.Doc{{Kind: "k", Body: json.RawMessage(`1`)}}},
		{Feed: feed, Changes: []entityevent.Change{put("1", `{}`)}, Docs: []entityevent.Doc{{Kind: "k", ID: "1", Body: json.RawMessage(`{`)}}},
	} {
		if _, err := b.Apply(b.Context(), c); !errors.Is(err, entityevent.ErrInvalid) {
			b.Errorf("%+v: %v", c, err)
		}
	}
	b.equal("events", len(b.log(feed)), 2)
}

// testKeys: keys are opaque and compare by their bytes.
func testKeys(b *box) {
	keys := []string{
		"O'Neil", "007", "7", "07", "7.0", "a", "A", "ä", "Ä", "a\u0308", "ß", "SS", "a b", "a/b", "a%2Fb", "a#b", "a?b", "%", "_",
		"key", "KEY", "Key", "key ", " key", "日本語", "\U0001F3E0", "null", "1e3", "1000", "a\tb", `a"b`, `a\b`, "-1", "+1",
		strings.Repeat("k", 255), strings.Repeat("é", 255), "'", "''", "0x10", "16", "true", "\u007f", "\uffff",
	}
	var changes []entityevent.Change
	for i, k := range keys {
		changes = append(changes, put(k, fmt.Sprintf(`{"N":%d}`, i)))
	}
	out := b.apply(changes...)
	for i, o := range out {
		if o.Err != nil || o.Sequence == 0 {
			b.Errorf("key %q: %+v", keys[i], o)
		}
	}
	for i, k := range keys {
		b.equal("body of "+k, string(b.record(k).Body), fmt.Sprintf(`{"N":%d}`, i))
	}
	for i, e := range b.log(feed) {
		b.equal("event", e.Key, keys[i])
	}
	sorted := slices.Sorted(slices.Values(keys))
	b.equal("in order of their bytes", recordKeys(b.records(feed, entityevent.Query{})), sorted)
	shuffled := append(slices.Clone(keys), "absent", "A", "oneil")
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	b.equal("by keys", recordKeys(b.records(feed, entityevent.Query{Keys: shuffled})), sorted)

	var events []entityevent.Event
	for i, k := range keys {
		events = append(events, entityevent.Event{Sequence: entityevent.Sequence(i + 1), Ref: ref(k)})
	}
	b.receive(entityevent.Delivery{Feed: "acme", Events: events})
	for i, item := range b.take("acme") {
		b.equal("item", item.Key, keys[i])
	}
}

func recordKeys(records []entityevent.Record) []string {
	keys := []string{}
	for _, r := range records {
		keys = append(keys, r.Key)
	}
	return keys
}
