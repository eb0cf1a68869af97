package digest_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/digest"
)

type record struct {
	key  string
	hash entityevent.Hash
}

// hashed is the hash of records as the documentation has it.
func hashed(records []record) string {
	var b strings.Builder
	for _, r := range records {
		b.WriteString(r.key + "\x00" + string(r.hash[:]))
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:])
}

func build(t testing.TB, b *digest.Builder, records []record) digest.Resource {
	t.Helper()
	for _, r := range records {
		if err := b.Add(r.key, r.hash); err != nil {
			t.Fatal(err)
		}
	}
	return b.Resource()
}

func numbered(n int) []record {
	all := make([]record, n)
	for i := range all {
		all[i] = record{fmt.Sprintf("k%06d", i), entityevent.Hash{byte(i), byte(i >> 8)}}
	}
	return all
}

func TestRanges(t *testing.T) {
	t.Parallel()
	all := numbered(2500)
	want := digest.Resource{Count: 2500, Hash: hashed(all), Ranges: []digest.Range{
		{To: "k000999", Count: 1000, Hash: hashed(all[:1000])},
		{After: "k000999", To: "k001999", Count: 1000, Hash: hashed(all[1000:2000])},
		{After: "k001999", Count: 500, Hash: hashed(all[2000:])},
	}}
	if d := cmp.Diff(want, build(t, digest.New(), all)); d != "" {
		t.Error(d)
	}
	for n, ranges := range map[int]int{0: 1, 1: 1, 1000: 1, 1001: 2, 2000: 2} {
		got := build(t, digest.New(), all[:n])
		if len(got.Ranges) != ranges || got.Ranges[ranges-1].To != "" || got.Ranges[0].After != "" || got.Count != int64(n) || got.Hash != hashed(all[:n]) {
			t.Errorf("%d records: %+v", n, got)
		}
	}
}

func TestGivenRanges(t *testing.T) {
	t.Parallel()
	all := numbered(20)
	b, err := digest.Over([]digest.Range{{After: "", To: "j"}, {After: "k000003", To: "k000005", Count: 99, Hash: "x"}, {After: "k000009", To: "k000010"}, {After: "k000018"}})
	if err != nil {
		t.Fatal(err)
	}
	want := digest.Resource{Count: 4, Hash: hashed(slices.Concat(all[4:6], all[10:11], all[19:])), Ranges: []digest.Range{
		{To: "j", Hash: hashed(nil)},
		{After: "k000003", To: "k000005", Count: 2, Hash: hashed(all[4:6])},
		{After: "k000009", To: "k000010", Count: 1, Hash: hashed(all[10:11])},
		{After: "k000018", Count: 1, Hash: hashed(all[19:])},
	}}
	if d := cmp.Diff(want, build(t, b, all)); d != "" {
		t.Error(d)
	}
	b, err = digest.Over([]digest.Range{{To: "a"}, {After: "a", To: "b"}, {After: "b", To: "c"}, {After: "c"}}) // three end before the first key
	if got := build(t, b, all); err != nil || got.Count != 20 || got.Ranges[3].Hash != hashed(all) {
		t.Errorf("empty ranges: %+v, %v", got, err)
	}
	b, err = digest.Over(nil)
	if got := build(t, b, all); err != nil || got.Count != 0 || len(got.Ranges) != 0 {
		t.Errorf("no ranges: %+v, %v", got, err)
	}
	for _, ranges := range [][]digest.Range{
		{{After: "b", To: "a"}}, {{After: "b", To: "b"}}, {{After: "a", To: "c"}, {After: "b"}}, {{After: "a"}, {After: "b"}},
	} {
		if _, err := digest.Over(ranges); !errors.Is(err, entityevent.ErrInvalid) {
			t.Errorf("%v: %v", ranges, err)
		}
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	b := digest.New()
	if err := errors.Join(b.Add("b", entityevent.Hash{}), b.Add("c", entityevent.Hash{})); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"c", "a", ""} {
		if err := b.Add(key, entityevent.Hash{}); !errors.Is(err, entityevent.ErrInvalid) {
			t.Errorf("%q after c: %v", key, err)
		}
	}
}

// TestProof: two copies that differ in one record differ in the one range that holds it, over the ranges of either.
func TestProof(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-cé]{1,4}`), 1, 40, rapid.ID[string]).Draw(t, "keys")
		slices.Sort(keys)
		all := make([]record, len(keys))
		for i, key := range keys {
			all[i] = record{key, entityevent.Hash{byte(rapid.IntRange(1, 3).Draw(t, "hash"))}}
		}
		var ranges []digest.Range
		after := ""
		for _, key := range keys {
			if rapid.Bool().Draw(t, "bound") {
				ranges = append(ranges, digest.Range{After: after, To: key})
				after = key
			}
		}
		ranges = append(ranges, digest.Range{After: after})
		over := func(records []record) digest.Resource {
			b, err := digest.Over(ranges)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				if err := b.Add(r.key, r.hash); err != nil {
					t.Fatal(err)
				}
			}
			return b.Resource()
		}
		at := rapid.IntRange(0, len(all)-1).Draw(t, "at")
		other := slices.Clone(all)
		switch rapid.IntRange(0, 2).Draw(t, "difference") {
		case 0:
			other[at].hash[3]++
		case 1:
			other = slices.Delete(other, at, at+1)
		case 2:
			other[at].key += "\x01" // no key of the others
		}
		one, two := over(all), over(other)
		if d := cmp.Diff(one, over(all)); d != "" {
			t.Fatal(d)
		}
		if one.Hash == two.Hash {
			t.Fatal("the digests of different records are equal")
		}
		for i, r := range one.Ranges {
			differs := r.Holds(all[at].key) || len(other) == len(all) && r.Holds(other[at].key)
			if (r != two.Ranges[i]) != differs {
				t.Fatalf("range %d of %v, record %s: %v, %v", i, ranges, all[at].key, r, two.Ranges[i])
			}
		}
	})
}
