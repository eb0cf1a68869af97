package task_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPollingAsJSON follows the description of long polling, with its Accept header that is none.
func TestPollingAsJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.listings(3, 10)
		turns := r.store.hold()
		r.run()
		created := r.do(http.MethodPost, "/tasks", `{"type":"snapshot"}`)
		body := created.want(http.StatusAccepted)
		path := "/tasks/" + body["UUID"].(string)
		created.has("Content-Type: application/hal+json", "Location: "+root+path, "Retry-After: 1", "Cache-Control: no-store")
		if d := cmp.Diff(map[string]any{"_links": map[string]any{"self": map[string]any{"href": path}}, "UUID": path[len("/tasks/"):], "status": "pending",
			"progress": 0., "message": "The snapshot has been accepted: ask its URL until it is done."}, body); d != "" {
			t.Error(d)
		}
		synctest.Wait()
		for _, headers := range [][]string{{"Accept: application+json"}, {}, {"Accept: */*"}, {"Accept: application/json"}, {"Accept: text/html"}} {
			a := r.get(path, headers...).has("Content-Type: application/json", "Location: "+root+path, "Retry-After: 1", "Vary: Accept", "Preference-Applied", "Cache-Control: no-store")
			if d := cmp.Diff(map[string]any{"status": "running", "progress": 0.}, a.want(http.StatusAccepted)); d != "" {
				t.Errorf("%v: %s", headers, d)
			}
		}
		time.Sleep(time.Minute)
		r.get(path + "/").has("Retry-After: 6").want(http.StatusAccepted)
		r.do(http.MethodHead, path, "").has("Location: "+root+path, "Retry-After: 6", "Content-Type: application/json").want(http.StatusAccepted)
		close(turns)
		synctest.Wait()
		a := r.get(path, "Accept: application+json").has("Content-Type: application/json", "Location: "+root+path, "Retry-After", "Vary: Accept", "Cache-Control: no-store")
		want := map[string]any{"status": "succeeded", "sequence": 3., "through": 3., "log": string(r.store.LogID()) + "/all", "count": 3., "href": path + "/result"}
		if d := cmp.Diff(want, a.want(http.StatusOK)); d != "" {
			t.Error(d)
		}
		r.do(http.MethodHead, path, "").has("Location: " + root + path).want(http.StatusOK)
	})
}

// TestPollingAsHAL: 200 until it is done, then 303 to the result.
func TestPollingAsHAL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.listings(2, 10)
		turns := r.store.hold()
		r.run()
		path := r.create(`{"type":"snapshot"}`)
		id := path[len("/tasks/"):]
		synctest.Wait()
		turns <- nil
		links := map[string]any{"self": map[string]any{"href": path}}
		a := r.get(path, "Accept: application/hal+json").has("Content-Type: application/hal+json", "Location", "Vary: Accept")
		if d := cmp.Diff(map[string]any{"_links": links, "UUID": id, "status": "running", "progress": 0.}, a.want(http.StatusOK)); d != "" {
			t.Error(d)
		}
		close(turns)
		synctest.Wait()
		links["result"] = map[string]any{"href": path + "/result"}
		a = r.get(path, "Accept: application/json;q=0.5, application/hal+json").has("Content-Type: application/hal+json", "Location: "+root+path+"/result", "Vary: Accept")
		want := map[string]any{"_links": links, "UUID": id, "status": "succeeded", "sequence": 2., "through": 2., "log": string(r.store.LogID()) + "/all", "count": 2., "href": path + "/result"}
		if d := cmp.Diff(want, a.want(http.StatusSeeOther)); d != "" {
			t.Error(d)
		}
		r.do(http.MethodHead, path, "", "Accept: application/hal+json").has("Location: " + root + path + "/result").want(http.StatusSeeOther)
	})
}

// TestWait: who prefers to wait is answered when the task ended, or after so many seconds.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.listings(1, 10)
		turns := r.store.hold()
		r.run()
		path := r.create(`{"type":"snapshot"}`)
		begun := time.Now()
		took := func(low, high time.Duration) {
			t.Helper()
			if d := time.Since(begun); d < low || d > high {
				t.Errorf("it took %s, want %s to %s", d, low, high)
			}
			begun = time.Now()
		}
		r.get(path, "Prefer: wait=5").has("Preference-Applied: wait=5", "Location: "+root+path).want(http.StatusAccepted)
		took(5*time.Second, 5*time.Second)
		r.get(path, "Prefer: wait=5", "Accept: application/hal+json").has("Preference-Applied: wait=5").want(http.StatusOK)
		took(5*time.Second, 5*time.Second)
		r.get(path, "Prefer: respond-async, wait=100000").has("Preference-Applied: wait=120").want(http.StatusAccepted)
		took(108*time.Second, 120*time.Second)
		r.do(http.MethodHead, path, "", "Prefer: wait=50").has("Preference-Applied").want(http.StatusAccepted)
		r.get(path, "Prefer: wait=-1").has("Preference-Applied").want(http.StatusAccepted)
		took(0, 0)
		go func() {
			time.Sleep(7 * time.Second)
			close(turns)
		}()
		r.get(path, "Prefer: wait=60").has("Preference-Applied: wait=60").want(http.StatusOK)
		took(7*time.Second, 7*time.Second)
		r.get(path, "Prefer: wait=60").has("Preference-Applied: wait=60").want(http.StatusOK)
		took(0, 0)
	})
}

// TestWaitEnds: the agent ends, the client is revoked, or too many wait.
func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		path := r.create(`{"type":"snapshot"}`)
		r.tasks.Holds.Most = 1
		answers := make(chan answer, 2)
		go func() { answers <- r.get(path, "Prefer: wait=100") }()
		synctest.Wait()
		r.get(path, "Prefer: wait=100").has("Retry-After: 30", "Preference-Applied").want(http.StatusServiceUnavailable)
		go func() { answers <- r.do(http.MethodDelete, path, "") }()
		for range 2 {
			if a := <-answers; a.status != http.StatusNoContent {
				a.has("Preference-Applied: wait=100").want(http.StatusUnprocessableEntity)
			}
		}
		path = r.create(`{"type":"snapshot"}`)
		go func() { answers <- r.get(path, "Prefer: wait=100") }()
		synctest.Wait()
		r.gate.revoke("alice")
		begun := time.Now()
		r.tasks.Holds.Drain()
		a := <-answers
		a.has("Preference-Applied").want(http.StatusUnauthorized)
		if d := time.Since(begun); d > 2*time.Second {
			t.Errorf("drained after %s", d)
		}
	})
}

// TestWireFormat: the bodies have no more than they are said to have, in one line.
func TestWireFormat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t).run()
		path := r.create(`{"type":"digest","resources":[]}`)
		r.done(path)
		for accept, want := range map[string]string{
			"application/json":     `{"count":0,"href":"` + path + `/result","log":"` + string(r.store.LogID()) + `/all","sequence":0,"status":"succeeded","through":0}` + "\n",
			"application/hal+json": `{"UUID":"` + path[len("/tasks/"):] + `","_links":{"result":{"href":"` + path + `/result"},"self":{"href":"` + path + `"}},"count":0,`,
		} {
			if got := r.get(path, "Accept: "+accept).body; !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s", accept, got)
			}
		}
	})
}
