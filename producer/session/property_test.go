package session_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/session"
)

// TestEveryNumberOnceInOrder: listeners who pass the number of the last event that they received see every number once
// and in order, and the same events, while others post and the log goes on.
func TestEveryNumberOnceInOrder(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		listeners := rapid.IntRange(1, 4).Draw(r, "listeners")
		posts := rapid.SliceOfN(rapid.IntRange(0, 12), 1, 3).Draw(r, "posts of each poster")
		commits := rapid.SliceOfN(rapid.IntRange(1, 30), 0, 6).Draw(r, "events of each commit")
		statuses := rapid.IntRange(0, 3).Draw(r, "statuses")

		store := openStore(t)
		s := &session.Sessions{Store: store, Gate: gate{}}
		events := eventsOf(t, bare(s, "POST", "/api/sessions", "all", "").Body.String())
		total := int64(statuses)
		for _, n := range slices.Concat(posts, commits) {
			total += int64(n)
		}

		var group sync.WaitGroup
		seen := make([][]event, listeners)
		for i := range seen {
			group.Go(func() {
				for last := int64(0); last < total; {
					got := parse(t, bare(s, "GET", fmt.Sprint(events, "?last_event=", last), "", "").Body.String())
					for _, e := range got {
						if last++; e.Number != last {
							t.Errorf("number %d after %d", e.Number, last-1)
							last = total
						}
					}
					seen[i] = append(seen[i], got...)
				}
			})
		}
		for poster, n := range posts {
			group.Go(func() {
				for i := range n {
					got := bare(s, "POST", events, "", fmt.Sprintf(`{"type":"t","data":"%d/%d"}`, poster, i))
					if got.Code != 200 {
						t.Errorf("post: %d %s", got.Code, got.Body)
					}
				}
			})
		}
		group.Go(func() {
			for range statuses {
				s.Status("all", "x")
			}
		})
		group.Go(func() {
			for _, n := range commits {
				put(t, store, "Property", n)
			}
		})
		group.Wait()

		for _, other := range seen[1:] {
			if texts(other) != texts(seen[0]) {
				r.Errorf("two listeners saw other events:\n%s\n%s", texts(other), texts(seen[0]))
			}
		}
		inOrder(r, seen[0])
		if got := texts(parse(t, bare(s, "GET", events+"?last_event=0", "", "").Body.String())); got != texts(seen[0]) {
			r.Errorf("afterwards it is\n%s, and was\n%s", got, texts(seen[0]))
		}
	})
}

// inOrder fails unless those of the log are in its order, and those of each poster in his.
func inOrder(r *rapid.T, all []event) {
	var log []string
	by := map[byte]int{}
	for _, e := range all {
		switch e.Type {
		case "entity_event":
			log = append(log, string(e.Data))
		case "t":
			poster := e.Data[1]
			if want := fmt.Sprintf(`"%c/%d"`, poster, by[poster]); string(e.Data) != want {
				r.Errorf("%s where %s comes next", e.Data, want)
			}
			by[poster]++
		}
	}
	last := 0
	for _, data := range log {
		var sequence int
		if _, err := fmt.Sscanf(data, `{"EntityEventSequence":%d`, &sequence); err != nil || sequence <= last {
			r.Errorf("%d after %d: %v", sequence, last, err)
		}
		last = sequence
	}
}

// growing is a store whose log is as long as it says.
type growing struct {
	producer.Store
	head entityevent.Sequence
}

func (g *growing) Events(_ context.Context, _ entityevent.View, q entityevent.EventQuery) (page entityevent.Page, err error) {
	for n := q.After + 1; n > 0 && n <= g.head && len(page.Events) < q.Limit; n++ {
		page.Events, page.Through = append(page.Events, entityevent.Event{Sequence: n}), n
	}
	page.Head, page.More = g.head, page.Through < g.head && len(page.Events) > 0
	return page, nil
}

// TestAllOfASession: whatever happens in which order, each session has the newest 1,000 events of the log, of what its
// client is told and of what was posted to it, each with its number.
func TestAllOfASession(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		store := &growing{head: 5}
		s := &session.Sessions{Store: store, Gate: anybody{}}
		paths, want := []string{}, [][]string{}
		all := func(client bool, text string) {
			for i := range want {
				if !client || i%2 == 0 {
					want[i] = append(want[i], text)
				}
			}
		}
		for range rapid.IntRange(1, 8).Draw(r, "steps") {
			n := rapid.SampledFrom([]int{1, 2, 400, 1100}).Draw(r, "n")
			switch do := rapid.SampledFrom([]string{"open", "log", "status", "post"}).Draw(r, "do"); {
			case do == "open": // those of two clients in turn
				paths, want = append(paths, eventsOf(t, bare(s, "POST", "/api/sessions", string('a'+rune(len(want)%2)), "").Body.String())), append(want, nil)
			case do == "log":
				for range n {
					store.head++
					all(false, fmt.Sprint("log=", store.head))
				}
			case do == "status":
				for i := range n {
					s.Status("a", i)
					all(true, fmt.Sprint("status=", i))
				}
			case len(paths) > 0:
				to := rapid.IntRange(0, len(paths)-1).Draw(r, "to")
				for i := range n {
					bare(s, "POST", paths[to], "", fmt.Sprintf(`{"type":"t","data":%d}`, i))
					want[to] = append(want[to], fmt.Sprint("t=", i))
				}
			}
		}
		for i, path := range paths {
			last := max(len(want[i])-rapid.SampledFrom([]int{0, 1, 3, 999, 1000, 5000}).Draw(r, "behind"), 0)
			got := parse(t, bare(s, "HEAD", fmt.Sprint(path, "?last_event=", last), "", "").Body.String())
			var text strings.Builder
			for j := max(last, len(want[i])-1000); j < len(want[i]); j++ {
				fmt.Fprintf(&text, "%d:%s ", j+1, want[i][j])
			}
			if got := texts(got); got != strings.TrimSpace(text.String()) {
				r.Fatalf("session %d: %.200s, want %.200s", i, got, text.String())
			}
		}
	})
}
