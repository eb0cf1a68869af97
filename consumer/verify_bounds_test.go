package consumer_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/digest"
)

// A digest that leaves out keys proves nothing: neither the first, of all, nor one of the ranges that were asked for.
func TestVerifyOfDigestsThatLeaveOut(t *testing.T) {
	for what, falsify := range map[string]func([]digest.Range) []digest.Range{
		"nothing":       func(r []digest.Range) []digest.Range { return r },
		"all":           func([]digest.Range) []digest.Range { return []digest.Range{} },
		"all, by null":  func([]digest.Range) []digest.Range { return nil },
		"the first":     func(r []digest.Range) []digest.Range { return r[1:] },
		"the last":      func(r []digest.Range) []digest.Range { return r[:len(r)-1] },
		"the end":       func(r []digest.Range) []digest.Range { r[len(r)-1].To = "P0289"; return r },
		"the beginning": func(r []digest.Range) []digest.Range { r[0].After = "A"; return r },
		"a middle":      func(r []digest.Range) []digest.Range { return append(r[:1], r[2:]...) },
		"a gap":         func(r []digest.Range) []digest.Range { r[1].After += "x"; return r },
	} {
		for _, round := range []int{0, 1} {
			t.Run(what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := making(300)
					f := newFeed(t, to(m), "Property")
					catchUp(t, f)
					plant(t, f, planted("P0000", entityevent.Remove, ""), planted("P0150", entityevent.Remove, ""), planted("P0295", entityevent.Remove, ""))
					m.made, m.ranges = nil, 100
					m.outcome = func(task *made) {
						if len(m.made) != round+1 {
							return
						}
						var d digest.Digest
						err := json.Unmarshal(task.result, &d)
						of := d.Resources["Property"]
						of.Ranges = falsify(of.Ranges)
						d.Resources["Property"] = of
						text, failed := json.Marshal(d)
						if err := errors.Join(err, failed); err != nil {
							panic(err)
						}
						task.result = text
					}
					v, err := f.Verify(t.Context(), nil)
					if what == "nothing" {
						if err != nil || v.Resources[0].Differences != 3 {
							t.Errorf("%v, %+v", err, v)
						}
						return
					}
					if err == nil || !strings.Contains(err.Error(), "keys") || v.Equal {
						t.Errorf("%v, %+v", err, v)
					}
				})
			})
		}
	}
}

// What is held while the records are looked at is told with its reason.
func TestVerifySaysWhyOfLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(100)
		f := newFeed(t, to(m), "Property")
		catchUp(t, f)
		plant(t, f, planted("P0050", entityevent.Put, property("P0050", 7)))
		m.answer = func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Query().Get("$filter"), " gt '") {
				m.answer = nil
				for i := range 90 {
					m.remove("Property", at(i))
				}
			}
			return false
		}
		v := verify(t, f)
		want := []consumer.VerifiedRecord{{Key: "P0050", What: "extra"}}
		if len(v.Resources[0].Differs) == 1 && strings.HasPrefix(v.Resources[0].Differs[0].Reason, "its removal is held, as ") {
			want[0].Reason, want[0].Held = v.Resources[0].Differs[0].Reason, true
		}
		if d := cmp.Diff(want, v.Resources[0].Differs); d != "" || want[0].Reason == "" {
			t.Errorf("%s: %+v", d, v)
		}
	})
}

// A resource that cannot be loaded is named, and keeps nobody from comparing the others; those that differ are found.
func TestVerifyOfPartlyLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := making(50)
		m.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/Member") || r.Method == http.MethodPost {
				jsonError(w, 404, "there is no such resource")
				return true
			}
			return false
		}
		f := newFeed(t, to(m), "Property", "Member")
		if err := f.Sync(t.Context(), consumer.SyncOptions{}, nil); err == nil {
			t.Fatal("it is loaded")
		}
		m.answer = nil
		v := verify(t, f)
		if d := cmp.Diff([]consumer.VerifiedResource{{Resource: "Property", Records: 50}}, v.Resources); d != "" || v.Equal || len(v.Unloaded) != 1 || v.Unloaded[0] != "Member" {
			t.Errorf("%s: %+v", d, v)
		}
		plant(t, f, planted("P0007", entityevent.Remove, ""))
		if v := verify(t, f); v.Equal || v.Resources[0].Differences != 1 {
			t.Errorf("%+v", v)
		}
	})
}

// Whatever it is interrupted at, it leaves no task at the producer; one that does not answer is not waited for.
func TestVerifyInterrupted(t *testing.T) {
	for _, c := range []struct {
		at    string // METHOD path
		takes time.Duration
	}{{"POST /tasks", time.Second}, {"GET /tasks/0", time.Second}, {"GET /tasks/0/result", time.Second}, {"POST /tasks", time.Hour}} {
		synctest.Test(t, func(t *testing.T) {
			m := making(50)
			f := newFeed(t, to(m.source), "Property")
			catchUp(t, f)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			f = newFeedOn(f.Store, wire(func(r *http.Request) (*http.Response, error) {
				if r.Method+" "+r.URL.Path != c.at {
					return to(m)(r)
				}
				resp, err := to(m)(r) // it arrived, and its answer takes a while
				cancel()
				select {
				case <-r.Context().Done():
					return nil, r.Context().Err()
				case <-time.After(c.takes):
					return resp, err
				}
			}))
			began := time.Now()
			if _, err := f.Verify(ctx, nil); !errors.Is(err, context.Canceled) || time.Since(began) > 8*time.Second {
				t.Errorf("%s: %v after %s", c.at, err, time.Since(began))
			}
			if c.takes < time.Minute {
				m.tasks(t)
			}
		})
	}
}
