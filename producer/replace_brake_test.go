package producer_test

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// replacing runs replacements of Property one after the other, each in a process of its own as far as it knows.
type replacing struct {
	t     *testing.T
	store producer.ReplacementStore
}

// run replaces by an input, and says what became of what is missing. Unfinished, it is broken off.
func (r replacing) run(o producer.ReplaceOptions, in io.Reader, finish bool) (removals []producer.Removal) {
	r.t.Helper()
	schema, err := producer.OpenSchema(r.t.Context(), r.store, entityevent.Local, nil, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	replacement, err := producer.BeginReplacement(r.t.Context(), r.store, schema, entityevent.Local, "Property")
	if err != nil {
		r.t.Fatal(err)
	}
	defer replacement.Close()
	if _, err := replacement.Import(in, nil); err != nil {
		r.t.Fatal(err)
	}
	if finish {
		if removals, err = replacement.Finish(o); err != nil {
			r.t.Fatal(err)
		}
	}
	return removals
}

func (r replacing) want(what string, got []producer.Removal, gone, held int64, reason string) {
	r.t.Helper()
	if len(got) != 1 || got[0].Gone != gone || got[0].Held != held || !strings.Contains(got[0].Reason, reason) {
		r.t.Errorf("%s: %+v, want %d gone and %d held: %s", what, got, gone, held, reason)
	}
}

// TestReplaceBrakeRemembers: what an import stored beside the records that are missing does not make these fewer for
// the next one, until somebody says that it is right.
func TestReplaceBrakeRemembers(t *testing.T) {
	const reason = "that is too many of 200 to be right by itself"
	for name, c := range map[string]struct{ finish bool }{"held": {true}, "broken off": {false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := replacing{t, openStore(t, t.TempDir())}
			r.want("a first load", r.run(producer.ReplaceOptions{}, strings.NewReader(lines(0, 200)), true), 0, 0, "")
			others := func() io.Reader { return strings.NewReader(lines(1e5, 20_000)) }
			r.run(producer.ReplaceOptions{}, others(), c.finish)
			for range 2 {
				r.want("the same again", r.run(producer.ReplaceOptions{}, others(), true), 0, 200, reason)
			}
			r.want("another one", r.run(producer.ReplaceOptions{}, strings.NewReader(lines(0, 80)), true), 0, 20_120, reason)
			r.want("allowed", r.run(producer.ReplaceOptions{AllowDeletes: true}, others(), true), 200, 0, "")
			// It is settled: what there is counts anew.
			r.want("less than 2 %", r.run(producer.ReplaceOptions{}, strings.NewReader(lines(1e5, 19_700)), true), 300, 0, "")
			if d := cmp.Diff([]producer.Removal{{Resource: "Property"}}, r.run(producer.ReplaceOptions{}, strings.NewReader(lines(1e5, 19_700)), true)); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestReplaceBrakeSlides: removals count together for an hour, however many imports they are of.
func TestReplaceBrakeSlides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replacing{t, openStore(t, t.TempDir())}
		replace := func(n int) []producer.Removal {
			t.Helper()
			time.Sleep(time.Second) // its marks are of the time
			return r.run(producer.ReplaceOptions{}, strings.NewReader(lines(0, n)), true)
		}
		replace(1000)
		r.want("the first", replace(940), 60, 0, "")
		time.Sleep(40 * time.Minute)
		r.want("up to 100", replace(900), 40, 0, "")
		r.want("more", replace(899), 0, 1, "that is, with 100 removed within the last hour, too many of 1000 to be right by itself")
		time.Sleep(21 * time.Minute)
		r.want("when the first count no more", replace(840), 60, 0, "")
		r.want("but the others do", replace(839), 0, 1, "with 100 removed within the last hour, too many of 940")
		time.Sleep(time.Second)
		r.want("allowed", r.run(producer.ReplaceOptions{AllowDeletes: true}, strings.NewReader(lines(0, 700)), true), 140, 0, "")
		time.Sleep(time.Hour + time.Minute)
		r.want("what was allowed does not count", replace(600), 100, 0, "")
	})
}
