package task_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent/digest"
	"github.com/resosync/resosync/producer/task"
)

// receiver is where outcomes are posted. It answers with the statuses it is given, then 200.
type receiver struct {
	t        testing.TB
	mu       sync.Mutex
	statuses []int
	header   http.Header // of the answers
	got      []received
	takes    time.Duration // for an answer
}

type received struct {
	at     time.Time
	url    string
	header http.Header
	body   string
}

// RoundTrip implements http.RoundTripper.
func (v *receiver) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	for _, problem := range document().Callback("createTask", "taskEnded", r, body) {
		v.t.Error(problem)
	}
	v.mu.Lock()
	takes := v.takes
	v.mu.Unlock()
	if takes > 0 {
		time.Sleep(takes)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.got = append(v.got, received{time.Now(), r.URL.String(), r.Header, string(body)})
	status := http.StatusOK
	if len(v.statuses) > 0 {
		status, v.statuses = v.statuses[0], v.statuses[1:]
	}
	if status == 0 {
		return nil, fmt.Errorf("connection to %s refused", r.URL)
	}
	return &http.Response{StatusCode: status, Header: v.header, Body: http.NoBody, Request: r}, nil
}

func (v *receiver) posts() []received {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.got
}

const (
	hook   = "http://127.0.0.1:8099/hook?key=c0ffee-in-the-url"
	secret = "t0ken-of-the-callback"
	asking = `"callbackUrl":"` + hook + `","callbackToken":"` + secret + `"}`
)

// receive makes the rig post to a receiver.
func (r *rig) receive(v *receiver) *receiver {
	if v.header == nil {
		v.header = http.Header{}
	}
	v.t = r.TB
	r.tasks.PostWith(&http.Client{Transport: v, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }})
	return v
}

// TestPost: the outcome is posted once, with the token, and a digest in it.
func TestPost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		v := r.receive(&receiver{})
		r.run()
		r.listings(2, 10)
		links := func(path string) map[string]any {
			return map[string]any{"self": map[string]any{"href": path}, "result": map[string]any{"href": path + "/result"}}
		}
		for _, kind := range []string{"snapshot", "digest"} {
			path := r.create(`{"type":"` + kind + `",` + asking)
			r.done(path)
			time.Sleep(25 * time.Hour)
			posts := v.posts()
			if len(posts) != 1 {
				t.Fatalf("%d posts", len(posts))
			}
			p := posts[0]
			v.got = nil
			for name, want := range map[string]string{"Content-Type": "application/json", "Authorization": "Bearer " + secret, "User-Agent": "resosync",
				"Accept": "application/hal+json, application/problem+json;q=0.9, application/json;q=0.8"} {
				if got := p.header.Get(name); got != want {
					t.Errorf("%s: %q", name, got)
				}
			}
			var body map[string]any
			if err := json.Unmarshal([]byte(p.body), &body); err != nil || p.url != hook {
				t.Fatalf("%v, %s", err, p.url)
			}
			want := map[string]any{"_links": links(path), "UUID": path[len("/tasks/"):], "status": "succeeded", "sequence": 2., "through": 2., "log": string(r.store.LogID()) + "/all", "count": 2., "href": path + "/result"}
			if kind == "digest" {
				var of struct{ Result digest.Digest }
				if err := json.Unmarshal([]byte(p.body), &of); err != nil || of.Result.Resources["Property"].Count != 2 {
					t.Errorf("%v: %s", err, p.body)
				}
				delete(body, "result")
			}
			if d := cmp.Diff(want, body); d != "" {
				t.Errorf("%s: %s", kind, d)
			}
		}
	})
}

// TestPostOfFailure: that a task failed is posted, too; that it was cancelled is not.
func TestPostOfFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.tasks.SetDisk(func() uint64 { return 0 }, func() uint64 { return 1 << 40 })
		v := r.receive(&receiver{})
		cancelled := r.create(`{"type":"snapshot",` + asking)
		r.do(http.MethodDelete, cancelled, "").want(http.StatusNoContent)
		path := r.create(`{"type":"snapshot",` + asking)
		r.run()
		time.Sleep(time.Hour)
		want := `{"UUID":"` + path[len("/tasks/"):] + `","_links":{"self":{"href":"` + path + `"}},"detail":"The producer's disk has too little room for the result: ask again later, or for fewer resources","status":"failed"}`
		if posts := v.posts(); len(posts) != 1 || posts[0].body != want {
			t.Errorf("%+v", posts)
		}
	})
}

// TestPostAgain: what is not taken is posted again, later and later, over a restart too, and not after it was taken.
func TestPostAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		v := &receiver{statuses: []int{500, 0, 302, 403, 401, 503, 400, 204}}
		r.receive(v)
		r.run()
		path := r.create(`{"type":"digest",` + asking)
		r.done(path)
		time.Sleep(5 * time.Second)
		for len(v.posts()) < 8 {
			r.restart()
			r.receive(v)
			r.run()
			time.Sleep(time.Minute)
		}
		for range 3 {
			time.Sleep(7 * time.Hour)
			r.restart()
			r.receive(v)
			r.run()
		}
		posts := v.posts()
		if len(posts) != 8 {
			t.Fatalf("%d posts", len(posts))
		}
		for i, p := range posts {
			if p.body != posts[0].body {
				t.Errorf("another outcome: %s", p.body)
			}
			if gap := p.at.Sub(posts[max(0, i-1)].at); i > 0 && gap < 500*time.Millisecond<<min(i-1, 6) {
				t.Errorf("post %d came %s after the one before", i, gap)
			}
		}
	})
}

// TestPostWaits: Retry-After is obeyed, and nobody is asked any more who says 410, or after a day.
func TestPostWaits(t *testing.T) {
	for name, c := range map[string]struct {
		statuses []int
		after    string
		lowest   time.Duration // between the first two
		posts    [2]int        // from, to
	}{
		"429":       {[]int{429}, "7200", 2 * time.Hour, [2]int{2, 2}},
		"gone":      {[]int{410}, "", 0, [2]int{1, 1}},
		"never":     {slicesOf(500, 1000), "", time.Second / 2, [2]int{90, 250}},
		"next year": {[]int{503}, "99999999", 0, [2]int{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				v := r.receive(&receiver{statuses: c.statuses, header: http.Header{"Retry-After": {c.after}}})
				r.run()
				r.done(r.create(`{"type":"digest",` + asking))
				time.Sleep(48 * time.Hour)
				posts := v.posts()
				if len(posts) < c.posts[0] || len(posts) > c.posts[1] {
					t.Fatalf("%d posts", len(posts))
				}
				if len(posts) > 1 && posts[1].at.Sub(posts[0].at) < c.lowest {
					t.Errorf("the second came %s after the first", posts[1].at.Sub(posts[0].at))
				}
			})
		})
	}
}

func slicesOf(status, n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = status
	}
	return all
}

// TestPostOfLostResult: whatever happens to a result before its client was told of it, he is told of that.
func TestPostOfLostResult(t *testing.T) {
	for name, c := range map[string]struct {
		lose func(r *rig, path, file string) error
		want map[string]string // the status and detail that are posted, by type
	}{
		"lost":      {func(_ *rig, _, file string) error { return os.Remove(file) }, map[string]string{"digest": `"The result was lost: POST /tasks for another","status":"failed"`, "snapshot": `"The result was lost: POST /tasks for another","status":"failed"`}},
		"cut":       {func(_ *rig, _, file string) error { return os.Truncate(file, 30) }, map[string]string{"digest": `"status":"failed"`, "snapshot": `"status":"failed"`}},
		"damaged":   {func(_ *rig, _, file string) error { return bend(file, 30) }, map[string]string{"digest": `"status":"failed"`, "snapshot": `"status":"succeeded"`}},
		"no files":  {elsewhere, map[string]string{"digest": `"status":"succeeded"`, "snapshot": `"status":"succeeded"`}},
		"no store":  {func(r *rig, _, file string) error { r.store.refuse(2); return os.Remove(file) }, map[string]string{"digest": `"status":"failed"`, "snapshot": `"status":"failed"`}},
		"cancelled": {func(r *rig, path, _ string) error { r.do(http.MethodDelete, path, ""); return nil }, nil},
		"another sight": {func(r *rig, _, _ string) error {
			c, _ := r.gate.client("alice")
			c.Rules = "others"
			r.gate.set(c)
			return nil
		}, map[string]string{"digest": `by now than when this result was made: POST /tasks for another","status":"failed"`, "snapshot": `"status":"failed"`}},
	} {
		for _, kind := range []string{"digest", "snapshot"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					r.listings(2, 10)
					v := r.receive(&receiver{statuses: []int{503}, header: http.Header{"Retry-After": {"60"}}})
					r.run()
					path := r.create(`{"type":"` + kind + `",` + asking)
					r.done(path)
					synctest.Wait()
					if err := c.lose(r, path, filepath.Join(r.dir, "results", path[len("/tasks/"):]+".result")); err != nil {
						t.Fatal(err)
					}
					time.Sleep(23 * time.Hour)
					posts := v.posts()
					if c.want == nil {
						if len(posts) != 1 {
							t.Errorf("%d posts", len(posts))
						}
						return
					}
					if len(posts) != 2 || !strings.Contains(posts[1].body, c.want[kind]) || strings.Contains(posts[1].body, "failed") && strings.Contains(posts[1].body, "result\":") {
						t.Errorf("%d posts: %s", len(posts), posts[len(posts)-1].body)
					}
				})
			})
		}
	}
}

// bend changes a bit of a file.
func bend(file string, at int) error {
	text, err := os.ReadFile(file)
	if err == nil {
		text[at] ^= 4
		err = os.WriteFile(file, text, 0o600)
	}
	return err
}

// elsewhere takes the folder of results away for an hour: what cannot be read for a while is not lost.
func elsewhere(r *rig, _, _ string) error {
	folder := filepath.Join(r.dir, "results")
	err := errors.Join(os.Rename(folder, folder+".away"), os.Symlink("results", folder)) // a circle
	go func() {
		time.Sleep(time.Hour)
		if err := errors.Join(os.Remove(folder), os.Rename(folder+".away", folder)); err != nil {
			r.Error(err)
		}
	}()
	return err
}

// TestPostOfDroppedResult: who loses a result to others, and has not been told of it, is told that.
func TestPostOfDroppedResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.listings(10, 2*task.BlockSize)
		full := false
		r.tasks.SetDisk(func() uint64 {
			if full && len(r.files()) > 1 {
				return 512<<20 - 1
			}
			return 1 << 40
		}, func() uint64 { return 1 << 30 })
		v := r.receive(&receiver{statuses: []int{503}, header: http.Header{"Retry-After": {"3600"}}})
		r.run()
		path := r.create(`{"type":"snapshot",` + asking)
		r.done(path)
		time.Sleep(time.Second)
		r.done(r.create(`{"type":"snapshot"}`))
		full = true
		r.done(r.create(`{"type":"snapshot"}`))
		r.wantStatus(path, "cancelled", "too little room")
		time.Sleep(2 * time.Hour)
		if posts := v.posts(); len(posts) != 2 || !strings.Contains(posts[1].body, `"status":"cancelled"`) || !strings.Contains(posts[1].body, "too little room") {
			t.Errorf("%+v", posts)
		}
	})
}

// TestPostIsNotStored: that the outcome was taken is stored as soon as that can be, and it is not posted again after that.
func TestPostIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		v := r.receive(&receiver{takes: time.Second})
		r.run()
		r.done(r.create(`{"type":"digest",` + asking))
		r.store.refuse(3)
		time.Sleep(time.Hour)
		r.restart()
		r.receive(v)
		r.run()
		time.Sleep(time.Hour)
		if n := len(v.posts()); n != 1 {
			t.Errorf("%d posts", n)
		}
	})
}

// TestPostAtTheEnd: a task whose day ends while its outcome is under way is gone all the same.
func TestPostAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		v := r.receive(&receiver{statuses: []int{503, 503}, header: http.Header{"Retry-After": {"86395"}}, takes: time.Millisecond})
		r.run()
		path := r.create(`{"type":"digest",` + asking)
		r.done(path)
		time.Sleep(time.Hour)
		v.mu.Lock()
		v.takes = 10 * time.Second
		v.mu.Unlock()
		time.Sleep(24 * time.Hour)
		if n := len(v.posts()); n != 2 {
			t.Errorf("%d posts", n)
		}
		r.get(path).want(http.StatusNotFound)
		if docs, err := r.store.List(t.Context(), "task"); err != nil || len(docs) > 0 {
			t.Errorf("left: %v, %v", docs, err)
		}
		if strings.Contains(r.log.String(), "cannot be stored") {
			t.Error(r.log.String())
		}
	})
}

// TestPostOfNobody: the outcome of one who is no longer a client goes nowhere.
func TestPostOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		v := r.receive(&receiver{statuses: []int{500}})
		r.run()
		r.done(r.create(`{"type":"digest",` + asking))
		synctest.Wait()
		r.gate.revoke("alice")
		time.Sleep(23 * time.Hour)
		if n := len(v.posts()); n != 1 {
			t.Errorf("%d posts", n)
		}
	})
}

// TestCallbackIsSecret: neither the URL nor the token is in the store, in the log, or in an answer.
func TestCallbackIsSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		v := r.receive(&receiver{statuses: []int{500, 0, 302}})
		r.run()
		path := r.create(`{"type":"digest",` + asking)
		r.done(path)
		time.Sleep(time.Minute)
		if n := len(v.posts()); n != 4 {
			t.Fatalf("%d posts", n)
		}
		texts := map[string]string{"log": r.log.String(), "task": r.get(path).body, "HAL": r.get(path, "Accept: application/hal+json").body, "result": r.get(path + "/result").body}
		for name, text := range snapshotOf(t, r) {
			texts[filepath.Base(name)] = string(text)
		}
		for name, text := range texts {
			for _, s := range []string{secret, "c0ffee", "/hook"} {
				if strings.Contains(text, s) {
					t.Errorf("%s has %q", name, s)
				}
			}
		}
		if !strings.Contains(r.log.String(), "status=500") || !bytes.Contains([]byte(texts["resosync.db-wal"]+texts["resosync.db"]), []byte(path[len("/tasks/"):])) {
			t.Error("the test looked at the wrong places")
		}
	})
}

// TestPostOverTheNetwork: with the client of pushes, which follows no redirect.
func TestPostOverTheNetwork(t *testing.T) {
	hits := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits <- r.URL.Path + " " + r.Header.Get("Authorization")
		if r.URL.Path == "/redirects" {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		}
	}))
	defer server.Close()
	r := newRig(t).run()
	for path, status := range map[string]string{"/redirects": "status=307", "/takes": ""} {
		r.done(r.create(`{"type":"digest","callbackUrl":"` + server.URL + path + `","callbackToken":"` + secret + `"}`))
		if got := <-hits; got != path+" Bearer "+secret {
			t.Errorf("%s was asked", got)
		}
		for !strings.Contains(r.log.String(), status) { // what became of it is settled before it is logged
			runtime.Gosched()
		}
	}
	r.end()
	if len(hits) > 0 {
		t.Errorf("%s was asked, too", <-hits)
	}
}
