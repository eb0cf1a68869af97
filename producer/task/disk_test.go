package task_test

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/task"
)

// TestWhoLosesResults: who has results of which sizes, and what is left of them when bob wants another and so much room is
// lacking.
func TestWhoLosesResults(t *testing.T) {
	type sizes map[string][]int64 // by client, oldest first
	for name, c := range map[string]struct {
		held    sizes
		lacking int64
		left    sizes
		fails   bool // bob's
	}{
		"no more than is lacking":            {sizes{"alice": {10, 10, 10, 10}}, 15, sizes{"alice": {10, 10}}, false},
		"the oldest of who holds most":       {sizes{"alice": {30, 31, 32}, "carol": {40, 10}}, 70, sizes{"alice": {32}, "carol": {10}}, false},
		"the largest of those with one":      {sizes{"alice": {26}, "carol": {40}, "dave": {34}}, 5, sizes{"alice": {26}, "dave": {34}}, false},
		"nobody holds more than a quarter":   {sizes{"alice": {25}, "carol": {25}, "dave": {25}, "idx": {25}}, 5, sizes{"alice": {25}, "carol": {25}, "dave": {25}, "idx": {25}}, true},
		"bob holds a quarter":                {sizes{"alice": {60}, "bob": {30}}, 5, sizes{"alice": {60}, "bob": {30}}, true},
		"bob's own, as the other's is alone": {sizes{"alice": {60}, "bob": {30, 31}}, 5, sizes{"alice": {60}, "bob": {31}}, false},
		"bob's own, as he holds more":        {sizes{"alice": {10, 11}, "bob": {20, 21}}, 5, sizes{"alice": {10, 11}, "bob": {21}}, false},
		"bob's own, as he holds as much":     {sizes{"alice": {10, 10}, "bob": {11, 9}}, 5, sizes{"alice": {10, 10}, "bob": {9}}, false},
		"too little altogether":              {sizes{"alice": {10, 11}}, 30, sizes{"alice": {10, 11}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t).run()
				for _, name := range []string{"carol", "dave"} {
					r.gate.set(producer.Client{Name: name, Mask: entityevent.Everyone})
				}
				file := func(path string) string { return filepath.Join(r.dir, "results", filepath.Base(path)+".result") }
				used := func() (bytes int64) {
					for _, name := range r.files() {
						if info, err := os.Stat(file(strings.TrimSuffix(name, ".result"))); err == nil {
							bytes += info.Size()
						}
					}
					return bytes
				}
				paths := map[string][]string{}
				for _, client := range slices.Sorted(maps.Keys(c.held)) {
					for _, size := range c.held[client] {
						path := r.create(`{"type":"digest"}`, "Authorization: Bearer "+client)
						r.done(path, "Authorization: Bearer "+client)
						if err := os.Truncate(file(path), size<<20); err != nil {
							t.Fatal(err)
						}
						paths[client] = append(paths[client], path)
					}
				}
				room := used() - c.lacking<<20
				r.tasks.SetDisk(func() uint64 { return uint64(512<<20 + room - used()) }, func() uint64 { return 1 << 30 })
				own := r.create(`{"type":"digest"}`, "Authorization: Bearer bob")
				want := http.StatusOK
				if c.fails {
					want = http.StatusUnprocessableEntity
				}
				r.get(own, "Authorization: Bearer bob", "Prefer: wait=120").want(want)
				left := sizes{}
				for client, of := range paths {
					for i, path := range of {
						if info, err := os.Stat(file(path)); err == nil && info.Size() > 0 {
							left[client] = append(left[client], c.held[client][i])
						}
					}
				}
				if diff := cmp.Diff(c.left, left); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestRoomIsTakenMeanwhile: what is dropped does not help when something else takes the room.
func TestRoomIsTakenMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t).run()
		for range 2 {
			r.done(r.create(`{"type":"digest"}`))
		}
		r.tasks.SetDisk(func() uint64 { return 512<<20 - 1 }, func() uint64 { return 1 << 30 })
		path := r.create(`{"type":"digest"}`, "Authorization: Bearer bob")
		r.get(path, "Authorization: Bearer bob", "Prefer: wait=120").want(http.StatusUnprocessableEntity)
		if n := len(r.files()); n != 1 {
			t.Errorf("%d results are left", n)
		}
	})
}

// TestWhatIsWrittenCounts: a result under way that is as large as the only one of somebody else does not take its place.
func TestWhatIsWrittenCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.listings(20, 2*task.BlockSize)
		r.run()
		kept := r.create(`{"type":"digest"}`)
		r.done(kept)
		folder := filepath.Join(r.dir, "results")
		r.tasks.SetDisk(func() uint64 {
			begun, err := filepath.Glob(filepath.Join(folder, "*.partial"))
			if err != nil || len(begun) == 0 {
				return 1 << 30
			}
			info, err := os.Stat(begun[0])
			if err != nil {
				t.Error(err)
				return 1 << 30
			}
			if err := os.Truncate(filepath.Join(folder, filepath.Base(kept)+".result"), info.Size()); err != nil {
				t.Error(err)
			}
			return 512<<20 - 1
		}, func() uint64 { return 1 << 30 })
		path := r.create(`{"type":"snapshot"}`, "Authorization: Bearer bob")
		r.get(path, "Authorization: Bearer bob", "Prefer: wait=120").want(http.StatusUnprocessableEntity)
		if !slices.Contains(r.files(), filepath.Base(kept)+".result") {
			t.Error("it was dropped")
		}
	})
}

// TestResultsLeftBehind: of files in the folder those that are no task's results are removed, and nobody else's.
func TestResultsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t).run()
		kept, dropped := r.create(`{"type":"digest"}`), r.create(`{"type":"digest"}`)
		r.done(kept)
		r.done(dropped)
		r.do(http.MethodDelete, dropped, "").want(http.StatusNoContent)
		r.restart()
		result := filepath.Base(kept) + ".result"
		for _, name := range []string{"theirs", "unknown.result", "unknown.result.partial", filepath.Base(dropped) + ".result"} {
			if err := os.WriteFile(filepath.Join(r.dir, "results", name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r.run()
		synctest.Wait()
		want := []string{result, "theirs"}
		slices.Sort(want)
		if diff := cmp.Diff(want, r.files()); diff != "" {
			t.Error(diff)
		}
	})
}
