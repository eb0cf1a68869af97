package task_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRefusals: who may not, what is not understood, and what is understood and not done.
func TestRefusals(t *testing.T) {
	r := newRig(t)
	r.put("Office", "o1", `{"OfficeKey":"o1"}`)
	r.put("X_Deals", "d1", `{"X_DealsKey":"d1"}`)
	path := r.create(`{"type":"snapshot"}`)
	const bad, elsewhere = `{"type":`, "https://10.1.2.3/hook"
	long := `{"type":"snapshot","callbackUrl":"https://127.0.0.1/` + strings.Repeat("x", 2000) + `"}`
	for _, c := range []struct {
		what, method, target, body string
		status                     int
		detail                     string
		headers                    []string
	}{
		{"no token", "POST", "/tasks", `{"type":"snapshot"}`, 401, "token", []string{"Authorization: "}},
		{"another token", "GET", path, "", 401, "token", []string{"Authorization: Bearer eve"}},
		{"another token", "GET", "/nothing", "", 401, "token", []string{"Authorization: Bearer eve"}},
		{"without the scope", "POST", "/tasks", `{"type":"snapshot"}`, 403, "token", []string{"Authorization: Bearer writer"}},
		{"tokens cannot be read", "GET", path, "", 503, "Try again", []string{"Authorization: Bearer broken"}},
		{"another's", "GET", path, "", 404, "no task", []string{"Authorization: Bearer bob"}},
		{"another's", "DELETE", path, "", 404, "no task", []string{"Authorization: Bearer bob"}},
		{"another's", "GET", path + "/result", "", 404, "no task", []string{"Authorization: Bearer bob"}},
		{"unknown", "GET", "/tasks/00000000-0000-4000-8000-000000000000", "", 404, "no task", nil},
		{"unknown", "DELETE", "/tasks/00000000-0000-4000-8000-000000000000", "", 404, "no task", nil},
		{"no id", "GET", "/tasks/..%2f..%2fresosync.db/result", "", 404, "no task", nil},
		{"below a task", "GET", path + "/results", "", 404, "nothing here", nil},
		{"below a result", "GET", path + "/result/1", "", 404, "nothing here", nil},
		{"not done", "GET", path + "/result", "", 404, "not done", nil},
		{"malformed", "POST", "/tasks", bad, 400, "JSON", nil},
		{"empty", "POST", "/tasks", " ", 400, "JSON", nil},
		{"another type", "POST", "/tasks", `{"type":7}`, 400, "type", nil},
		{"another type", "POST", "/tasks", `{"type":"snapshot","resources":"Property"}`, 400, "resources", nil},
		{"no object", "POST", "/tasks", `["snapshot"]`, 400, "JSON", nil},
		{"large", "POST", "/tasks", `{"type":"snapshot","x":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "larger", nil},
		{"text", "POST", "/tasks", `{"type":"snapshot"}`, 415, "application/json", []string{"Content-Type: text/plain"}},
		{"unknown type", "POST", "/tasks", `{"type":"backup"}`, 403, "snapshot and digest", nil},
		{"no type", "POST", "/tasks", `{}`, 403, "snapshot and digest", nil},
		{"unknown resource", "POST", "/tasks", `{"type":"snapshot","resources":["Property","X_Nothing"]}`, 403, `"X_Nothing"`, nil},
		{"the log", "POST", "/tasks", `{"type":"snapshot","resources":["EntityEvent"]}`, 403, `"EntityEvent"`, nil},
		{"invisible resource", "POST", "/tasks", `{"type":"digest","resources":["X_Deals"]}`, 403, `"X_Deals"`, []string{"Authorization: Bearer idx"}},
		{"ranges of a snapshot", "POST", "/tasks", `{"type":"snapshot","ranges":[{"resource":"Property"}]}`, 403, "no ranges", nil},
		{"ranges of an unknown resource", "POST", "/tasks", `{"type":"digest","ranges":[{"resource":"X_Nothing"}]}`, 403, `"X_Nothing"`, nil},
		{"ranges that overlap", "POST", "/tasks", `{"type":"digest","ranges":[{"resource":"Property"},{"resource":"Property","after":"a"}]}`, 403, "order", nil},
		{"a range and all", "POST", "/tasks", `{"type":"digest","resources":["Property"],"ranges":[{"resource":"Property","after":"a"}]}`, 403, "leave one", nil},
		{"too many ranges", "POST", "/tasks", `{"type":"digest","ranges":[` + strings.Repeat(`{"resource":"Property"},`, 10_000) + `{"resource":"Property"}]}`, 403, "10000", nil},
		{"a private callback", "POST", "/tasks", `{"type":"snapshot","callbackUrl":"` + elsewhere + `"}`, 403, "", nil},
		{"a callback of another scheme", "POST", "/tasks", `{"type":"snapshot","callbackUrl":"file:///etc/passwd"}`, 403, "", nil},
		{"a callback that is none", "POST", "/tasks", `{"type":"snapshot","callbackUrl":"hook"}`, 403, "", nil},
		{"a long callback", "POST", "/tasks", long, 403, "2000", nil},
		{"a token without a callback", "POST", "/tasks", `{"type":"snapshot","callbackToken":"x"}`, 403, "callbackUrl", nil},
		{"a long token", "POST", "/tasks", `{"type":"snapshot","callbackUrl":"http://127.0.0.1/","callbackToken":"` + strings.Repeat("x", 4097) + `"}`, 403, "4096", nil},
		{"a token that cannot be sent", "POST", "/tasks", `{"type":"snapshot","callbackUrl":"http://127.0.0.1/","callbackToken":"a\nb"}`, 403, "printable", nil},
	} {
		a := r.do(c.method, c.target, c.body, c.headers...)
		if a.status != c.status || a.header.Get("Content-Type") != "application/problem+json" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %s, want %d: %s", c.what, a.status, a.header.Get("Content-Type"), c.status, a.body)
		}
		if detail, _ := a.want(a.status)["detail"].(string); !strings.Contains(detail, c.detail) || detail == "" || strings.Contains(detail, elsewhere) {
			t.Errorf("%s: %q", c.what, detail)
		}
		if c.status == 401 != (a.header.Get("WWW-Authenticate") != "") {
			t.Errorf("%s: WWW-Authenticate %q", c.what, a.header.Get("WWW-Authenticate"))
		}
	}
}

// TestMethods: what is there says so.
func TestMethods(t *testing.T) {
	r := newRig(t)
	path := r.create(`{"type":"snapshot"}`)
	for target, allow := range map[string]string{"/tasks": "POST, OPTIONS", "/tasks/": "POST, OPTIONS", path: "GET, HEAD, DELETE, OPTIONS", path + "/result": "GET, HEAD, OPTIONS"} {
		r.do(http.MethodOptions, target, "").has("Allow: " + allow).want(http.StatusNoContent)
		r.do(http.MethodPut, target, "{}").has("Allow: "+allow, "Content-Type: application/problem+json").want(http.StatusMethodNotAllowed)
	}
	r.get("/tasks").has("Allow: POST, OPTIONS").want(http.StatusMethodNotAllowed)
}

// TestAccepted: what is known is accepted, also where there is no record of it.
func TestAccepted(t *testing.T) {
	r := newRig(t)
	for _, body := range []string{
		`{"type":"snapshot","resources":["Property","Property","OpenHouse"],"unknown":1}`,
		`{"type":"digest","ranges":[{"resource":"Property","to":"b"},{"resource":"Property","after":"b"},{"resource":"Member"}],"resources":["Office"]}`,
		`{"type":"snapshot","callbackUrl":"http://127.0.0.1:9/hook","callbackToken":"a~!"}`,
	} {
		r.create(body)
		r.create(body, "Content-Type: application/vnd.api+json")
	}
	r.create(`{"type":"snapshot","resources":["Media"]}`, "Authorization: Bearer idx")
	r.do(http.MethodPost, "/tasks/?x=1", `{"type":"snapshot"}`).want(http.StatusAccepted)
}

// TestOpenTasksAreLimited: a client has so many tasks that are not done, and others have theirs.
func TestOpenTasksAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var last string
		for range 20 {
			last = r.create(`{"type":"digest"}`)
		}
		r.do(http.MethodPost, "/tasks", `{"type":"digest"}`).has("Retry-After: 30").want(http.StatusTooManyRequests)
		r.create(`{"type":"digest"}`, "Authorization: Bearer bob")
		r.do(http.MethodDelete, last, "").want(http.StatusNoContent)
		r.create(`{"type":"digest"}`)
		r.do(http.MethodPost, "/tasks", `{"type":"digest"}`).want(http.StatusTooManyRequests)
		r.run()
		synctest.Wait()
		r.tasks.KeepAtMost(24)
		var path string
		for range 4 {
			r.get(last).want(http.StatusUnprocessableEntity)
			path = r.create(`{"type":"digest"}`)
			r.done(path)
		}
		r.get(last).want(http.StatusNotFound) // what has no result makes room
		r.do(http.MethodPost, "/tasks", `{"type":"digest"}`).has("Retry-After: 3600").want(http.StatusTooManyRequests)
		r.do(http.MethodDelete, path, "").want(http.StatusNoContent)
		r.done(r.create(`{"type":"digest"}`))
		time.Sleep(24*time.Hour - 10*time.Minute)
		r.do(http.MethodPost, "/tasks", `{"type":"digest"}`).has("Retry-After: 600").want(http.StatusTooManyRequests)
	})
}

// TestTasksThatAreDropped: any number of tasks may be asked for and dropped at once; what is left of them is little.
func TestTasksThatAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.tasks.KeepAtMost(30)
		var body strings.Builder
		for i := range 5000 {
			fmt.Fprintf(&body, `,{"resource":"Property","after":"p%070d","to":"p%070d"}`, i, i+1)
		}
		ranges := `{"type":"digest","ranges":[` + body.String()[1:] + `]}`
		for range 50 {
			path := r.create(ranges)
			r.do(http.MethodDelete, path, "").want(http.StatusNoContent)
			r.do(http.MethodDelete, path, "").want(http.StatusNoContent)
			r.wantStatus(path, "cancelled", "by its client")
		}
		left := 0
		for _, kind := range []string{"task", "task-ranges"} {
			docs, err := r.store.List(t.Context(), kind)
			if err != nil {
				t.Fatal(err)
			}
			for _, doc := range docs {
				left += len(doc.Body)
			}
		}
		if left > 30*500 {
			t.Errorf("%d bytes are kept of them", left)
		}
		if info, err := os.Stat(filepath.Join(r.dir, "resosync.db")); err != nil || info.Size() > 20<<20 {
			t.Errorf("the database has %d bytes, %v", info.Size(), err)
		}
	})
}
