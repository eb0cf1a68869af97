package consumer_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent"
)

// maker is a source that does long-running tasks, as ours. What it hashes and renders it does by itself.
type maker struct {
	*source
	polls   int                                           // how often a task is still running when it is asked for
	between func()                                        // called before a task reads the records
	after   func()                                        // called when it has read them
	outcome func(task *made)                              // may falsify it
	ranges  int                                           // how many records the ranges of a digest have
	answer  func(http.ResponseWriter, *http.Request) bool // answers in its place
	desk    sync.Mutex                                    // one request for tasks at a time
	made    []*made                                       // all that were asked for; the URL of the first is /tasks/0
}

// made is a task.
type made struct {
	Type      string
	Resources []string
	Ranges    []struct{ Resource, After, To string }

	polled  int
	dropped bool
	done    map[string]any // what is told of it; nil: it is not done
	tag     string
	headers map[string]string
	result  []byte
}

// making returns a source of so many records that does tasks.
func making(n int) *maker {
	return &maker{source: filled("log-1/all", n), ranges: 1000}
}

func (m *maker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.answer != nil && m.answer(w, r) {
		return
	}
	path := r.URL.EscapedPath()
	if filter := r.URL.Query().Get("$filter"); strings.HasSuffix(path, "/Property") && (strings.Contains(filter, " le '") || strings.Contains(filter, " gt '")) {
		m.serveBetween(w, r, filter)
		return
	}
	if strings.HasPrefix(path, "/odata") {
		m.source.ServeHTTP(w, r)
		return
	}
	m.mu.Lock()
	m.requests = append(m.requests, r.Method+" "+path)
	m.mu.Unlock()
	m.desk.Lock()
	defer m.desk.Unlock()
	if path == "/" {
		hal(w, 200, `{"_links":{"self":{"href":"/"},"odata":{"href":"/odata"},"tasks":{"href":"/tasks"},"webhooks":[{"href":"/webhooks/x"}]}}`)
		return
	}
	if path == "/tasks" && r.Method == http.MethodPost {
		task := &made{tag: fmt.Sprintf("task-%d", len(m.made))}
		if err := json.NewDecoder(r.Body).Decode(task); err != nil {
			panic(err)
		}
		m.made = append(m.made, task)
		w.Header().Set("Location", fmt.Sprintf("http://%s/tasks/%d", r.Host, len(m.made)-1))
		w.Header().Set("Retry-After", "1")
		hal(w, 202, `{"status":"pending"}`)
		return
	}
	var n int
	if _, err := fmt.Sscanf(path, "/tasks/%d", &n); err != nil || n >= len(m.made) || m.made[n].dropped {
		declined(w, 404, "there is no such task")
		return
	}
	task := m.made[n]
	switch {
	case r.Method == http.MethodDelete:
		task.dropped = true
		w.WriteHeader(http.StatusNoContent)
	case strings.HasSuffix(path, "/result"):
		task.serve(w, r)
	case task.polled < m.polls:
		task.polled++
		w.Header().Set("Retry-After", "2")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"status":"running","progress":10}`)
	default:
		if task.done == nil {
			m.make(task, n)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(task.done)
	}
}

// serveBetween answers a filter of one bound or two, on one page.
func (m *maker) serveBetween(w http.ResponseWriter, r *http.Request, filter string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rows := m.sorted("Property")
	for _, part := range strings.Split(filter, " and ") {
		bound, err := literals(part[len("ListingKey gt "):], ";")
		if err != nil {
			panic(err)
		}
		rows = slices.DeleteFunc(rows, func(r row) bool {
			return strings.Contains(part, " gt ") && r.key <= bound[0] || strings.Contains(part, " le ") && r.key > bound[0]
		})
	}
	m.write(w, r, "Property", rows, false)
}

func hal(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/hal+json")
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

func declined(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"about:blank","title":%q,"status":%d,"detail":%q}`, http.StatusText(status), status, detail)
}

// make does a task.
func (m *maker) make(task *made, n int) {
	m.mu.Lock()
	log, sequence := m.log, m.head
	m.mu.Unlock()
	if m.between != nil {
		m.between()
	}
	count := 1
	var digests any
	m.mu.Lock()
	if task.Type == "snapshot" {
		task.result, count = m.lines(task.Resources)
	} else {
		digests = m.digest(task)
	}
	m.mu.Unlock()
	if m.after != nil {
		m.after()
	}
	m.mu.Lock()
	through := m.head
	m.mu.Unlock()
	if digests != nil {
		text, err := json.Marshal(map[string]any{"log": log, "sequence": sequence, "through": through, "resources": digests})
		if err != nil {
			panic(err)
		}
		task.result = text
	}
	task.done = map[string]any{"status": "succeeded", "sequence": sequence, "through": through, "log": log, "count": count, "href": fmt.Sprintf("/tasks/%d/result", n)}
	task.headers = map[string]string{"EntityEvent-Log": log, "EntityEvent-After": fmt.Sprint(sequence), "EntityEvent-Through": fmt.Sprint(through)}
	if m.outcome != nil {
		m.outcome(task)
	}
}

func (m *maker) sorted(resource string) []row {
	rows := slices.Clone(m.rows[resource])
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.key, b.key) })
	return rows
}

func (m *maker) lines(resources []string) ([]byte, int) {
	var b bytes.Buffer
	n := 0
	for _, resource := range resources {
		for _, r := range m.sorted(resource) {
			var flat bytes.Buffer
			if json.Compact(&flat, r.body) != nil {
				flat.Write(r.body)
			}
			fmt.Fprintf(&b, `{"@reso.context":"urn:reso:metadata:2.0:resource:%s",%s`+"\n", strings.ToLower(resource), flat.Bytes()[1:])
			n++
		}
	}
	return b.Bytes(), n
}

func (t *made) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	content, tag := t.result, t.tag
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		var b bytes.Buffer
		zip := gzip.NewWriter(&b)
		_, _ = zip.Write(content)
		_ = zip.Close()
		content, tag = b.Bytes(), tag+"-gzip"
		w.Header().Set("Content-Encoding", "gzip")
	}
	w.Header().Set("ETag", `"`+tag+`"`)
	for name, value := range t.headers {
		w.Header().Set(name, value)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// digest is what package digest says, by itself.
func (m *maker) digest(task *made) any {
	type part struct {
		After string `json:"after"`
		To    string `json:"to,omitempty"`
		Count int    `json:"count"`
		Hash  string `json:"hash"`
	}
	type whole struct {
		Count  int    `json:"count"`
		Hash   string `json:"hash"`
		Ranges []part `json:"ranges"`
	}
	over := func(rows []row, after, to string) part {
		p := part{After: after, To: to}
		h := sha256.New()
		for _, r := range rows {
			if r.key > after && (to == "" || r.key <= to) {
				content, err := entityevent.Canonicalize(r.body)
				if err != nil {
					panic(err)
				}
				fmt.Fprintf(h, "%s\x00%s", r.key, content.Hash[:])
				p.Count++
			}
		}
		p.Hash = hex.EncodeToString(h.Sum(nil))
		return p
	}
	all := map[string]*whole{}
	for _, resource := range task.Resources {
		rows := m.sorted(resource)
		o := &whole{Count: len(rows), Hash: over(rows, "", "").Hash}
		after := ""
		for n := m.ranges; n < len(rows); n += m.ranges {
			o.Ranges = append(o.Ranges, over(rows[n-m.ranges:n], after, rows[n-1].key))
			after = rows[n-1].key
		}
		o.Ranges = append(o.Ranges, over(rows, after, ""))
		all[resource] = o
	}
	sorted := map[string][]row{}
	for _, asked := range task.Ranges {
		if all[asked.Resource] == nil {
			all[asked.Resource] = &whole{}
			sorted[asked.Resource] = m.sorted(asked.Resource)
		}
		p := over(sorted[asked.Resource], asked.After, asked.To)
		all[asked.Resource].Ranges = append(all[asked.Resource].Ranges, p)
		all[asked.Resource].Count += p.Count
	}
	return all
}

// tasks returns how many tasks were asked for, and fails the test if any was left behind.
func (m *maker) tasks(t *testing.T) int {
	t.Helper()
	for i, task := range m.made {
		if !task.dropped {
			t.Errorf("task %d was not deleted", i)
		}
	}
	return len(m.made)
}
