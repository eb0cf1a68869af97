package consumer_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
)

// large is a model of a large feed: its ranges have few records, so that there are more of them than are looked at.
func large(t *testing.T, records, ranges int) (*maker, *consumer.Feed) {
	m := making(records)
	m.ranges = ranges
	f := newFeed(t, to(m), "Property")
	catchUp(t, f)
	return m, f
}

func at(i int) string { return fmt.Sprintf("P%04d", i) }

// More ranges than one task has are written to during the first digest, and fewer in each that is shorter. It ends
// equal; what differs and stands still is found, alone.
func TestVerifyOfLargeUnderWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := large(t, 3600, 3)
		random := rand.New(rand.NewPCG(1, 1))
		m.after = func() {
			if len(m.made) == 1 {
				for i := range 1150 {
					m.put("Property", at(3*i), property(at(3*i), random.IntN(1e6)))
				}
			}
			for range 20 {
				i := random.IntN(3590)
				m.put("Property", at(i), property(at(i), random.IntN(1e6)))
			}
		}
		want := []consumer.VerifiedResource{{Resource: "Property", Records: 3600}}
		v := verify(t, f)
		if d := cmp.Diff(want, v.Resources); d != "" || !v.Equal {
			t.Errorf("equal %t: %s", v.Equal, d)
		}
		if n := m.tasks(t); n > 20 {
			t.Errorf("%d tasks", n)
		}
		m.made = nil
		plant(t, f, planted("P3599", entityevent.Put, property("P3599", 7)))
		want[0].Differences, want[0].Differs = 1, []consumer.VerifiedRecord{{Key: "P3599", What: "changed"}}
		v = verify(t, f)
		if d := cmp.Diff(want, v.Resources); d != "" || v.Equal {
			t.Errorf("equal %t: %s", v.Equal, d)
		}
	})
}

// Of more than can be looked at, written to without end, nothing is said to differ that does not, and nothing to be equal
// that differs and stands still: it is named, or lies in what is not judged. That ends, after a bounded number of tasks.
func TestVerifyOfLargeUnderTooManyWrites(t *testing.T) {
	for _, quick := range []int{2, 8} {
		if quick == 2 && testing.Short() {
			continue // thousands of looks
		}
		synctest.Test(t, func(t *testing.T) {
			m, f := large(t, 1200, 1)
			random := rand.New(rand.NewPCG(2, uint64(quick)))
			quiet := map[string]bool{}
			for i := 0; i < 1200; i += 50 {
				quiet[at(i+random.IntN(50))] = true
			}
			m.after = func() {
				for i := 0; i < 1200; i += quick {
					if key := at(i); !quiet[key] {
						m.put("Property", key, property(key, random.IntN(1e6)))
					}
				}
			}
			m.answer = func(w http.ResponseWriter, r *http.Request) bool {
				filter := r.URL.Query().Get("$filter")
				_, key, last := strings.Cut(filter, " le '")
				if !last {
					return false
				}
				m.serveBetween(w, r, filter)
				if key = strings.TrimSuffix(key, "'"); !quiet[key] && random.IntN(2) == 0 {
					m.put("Property", key, property(key, random.IntN(1e6)))
				}
				return true
			}
			for key := range quiet {
				plant(t, f, planted(key, entityevent.Remove, ""))
			}
			v := verify(t, f)
			r := v.Resources[0]
			named := map[string]bool{}
			for _, d := range r.Differs {
				named[d.Key] = true
				if !quiet[d.Key] || d.What != "missing" {
					t.Errorf("said to differ: %+v", d)
				}
			}
			within := func(key string) func(consumer.VerifiedRange) bool {
				return func(r consumer.VerifiedRange) bool { return key > r.After && (r.To == "" || key <= r.To) }
			}
			for _, d := range r.Ranges {
				if !slices.ContainsFunc(slices.Collect(maps.Keys(quiet)), func(key string) bool { return within(key)(d) }) {
					t.Errorf("said to differ: %+v", d)
				}
			}
			for key := range quiet {
				if !named[key] && !slices.ContainsFunc(r.Ranges, within(key)) && !slices.ContainsFunc(r.Unjudged, within(key)) {
					t.Errorf("%s is missed", key)
				}
			}
			if v.Equal || v.Rounds > 8 {
				t.Errorf("equal %t after %d rounds", v.Equal, v.Rounds)
			}
			n := m.tasks(t)
			if n > 8*5 {
				t.Errorf("%d tasks", n)
			}
			t.Logf("every %d: %d tasks, %d rounds, %d named, %d ranges, %d unjudged, %d busy", quick, n, v.Rounds, len(named), len(r.Ranges), len(r.Unjudged), r.Busy)
		})
	}
}

// numbered is a maker with keys that are numbers, and a feed that copied it.
func numbered(t *testing.T, keys int) (m *maker, f *consumer.Feed, put func(key, price int)) {
	m = making(0)
	m.metadata = schemaWith("Edm.Int64")
	put = func(key, price int) { m.put("Property", fmt.Sprint(key), property(fmt.Sprint(key), price)) }
	for key := range keys {
		put(1000+key, 1)
	}
	f = newFeed(t, wire(func(r *http.Request) (*http.Response, error) { // the source reads text only
		r = r.Clone(r.Context())
		r.URL.Path = strings.NewReplacer("(", "('", ")", "')").Replace(r.URL.Path)
		r.URL.RawPath = r.URL.Path
		return to(m)(r)
	}), "Property")
	catchUp(t, f)
	return m, f, put
}

// What differs beside a number that is busy all the time is named, whether the copy has it or not.
func TestVerifyBesideBusyNumbers(t *testing.T) {
	for what, c := range map[string]struct {
		plant  entityevent.Change
		differ consumer.VerifiedResource
	}{
		"changed": {planted("1049", entityevent.Put, property("1049", 7)), consumer.VerifiedResource{Differences: 1, Differs: []consumer.VerifiedRecord{{Key: "1049", What: "changed"}}}},
		"missing": {planted("1049", entityevent.Remove, ""), consumer.VerifiedResource{Ranges: []consumer.VerifiedRange{{After: "1048", To: "1050", There: 1}}}},
		"extra":   {planted("10495", entityevent.Put, property("10495", 7)), consumer.VerifiedResource{Differences: 1, Differs: []consumer.VerifiedRecord{{Key: "10495", What: "extra"}}}},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, f, put := numbered(t, 100)
				price := 1
				m.after = func() {
					price++
					put(1050, price)
				}
				plant(t, f, c.plant)
				v := verify(t, f)
				c.differ.Resource, c.differ.Records, c.differ.Busy = "Property", 100, 1
				if d := cmp.Diff([]consumer.VerifiedResource{c.differ}, v.Resources); d != "" || v.Equal {
					t.Errorf("equal %t: %s", v.Equal, d)
				}
			})
		})
	}
}

// A number that comes and goes all the time hides whether another is missing: that is not said to be equal, nor to differ.
func TestVerifyUnjudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f, put := numbered(t, 100)
		m.between = func() { put(10505, 1) }
		m.after = func() { m.remove("Property", "10505") }
		v := verify(t, f)
		want := []consumer.VerifiedResource{{Resource: "Property", Records: 101, Unjudged: []consumer.VerifiedRange{{After: "1050", To: "1051", There: 1}}}}
		if d := cmp.Diff(want, v.Resources); d != "" || v.Equal {
			t.Errorf("equal %t: %s", v.Equal, d)
		}
	})
}
