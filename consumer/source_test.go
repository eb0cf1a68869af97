package consumer_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// source is a producer to copy from. Without a log id it behaves as the recorded third-party server
// does: quotes must be raw, unknown routes are HTML 404s, nextLinks count rows, a page of Property has 20.
// With one it behaves as ours. Its filters are evaluated here and by nothing that the consumer uses.
type source struct {
	root     string
	metadata []byte
	keys     map[string]string // the key's field, by resource

	mu       sync.Mutex
	log      string
	noIn     bool                  // `in` is refused
	noFilter bool                  // every $filter on records is refused
	collate  func(a, b string) int // the order of keys. Default: by bytes.
	rows     map[string][]row
	events   []row // ascending
	head     int64
	changed  chan struct{}
	requests []string // target of each
}

type row struct {
	key  string
	seq  int64
	body json.RawMessage
}

func newSource(log string) *source {
	return &source{root: "http://mls.test/odata", log: log, rows: map[string][]row{}, changed: make(chan struct{}),
		keys: map[string]string{"Property": "ListingKey", "Member": "MemberKey", "Office": "OfficeKey", "Media": "MediaKey"}}
}

// put stores a record and appends its event.
func (s *source) put(resource, key, body string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(resource, key, body)
	return s.event(s.head+1, resource, key)
}

// quiet stores a record without an event.
func (s *source) quiet(resource, key, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(resource, key, body)
}

func (s *source) remove(resource, key string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[resource] = slices.DeleteFunc(s.rows[resource], func(r row) bool { return r.key == key })
	return s.event(s.head+1, resource, key)
}

// publish appends an event under a number of its own, perhaps below others.
func (s *source) publish(seq int64, resource, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.event(seq, resource, key)
}

func (s *source) store(resource, key, body string) {
	r := row{key: key, body: json.RawMessage(body)}
	for i := range s.rows[resource] {
		if s.rows[resource][i].key == key {
			s.rows[resource][i] = r
			return
		}
	}
	s.rows[resource] = append(s.rows[resource], r)
}

func (s *source) event(seq int64, resource, key string) int64 {
	body := fmt.Sprintf(`{"EntityEventSequence":%d,"ResourceName":%q,"ResourceRecordKey":%q}`, seq, resource, key)
	s.events = append(s.events, row{key: key, seq: seq, body: json.RawMessage(body)})
	if seq < s.head {
		slices.SortFunc(s.events, func(a, b row) int { return int(a.seq - b.seq) })
	}
	s.head = max(s.head, seq)
	close(s.changed)
	s.changed = make(chan struct{})
	return seq
}

// asked returns the targets so far that contain a text.
func (s *source) asked(text string) (targets []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if strings.Contains(r, text) {
			targets = append(targets, r)
		}
	}
	return targets
}

func (s *source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target := strings.TrimPrefix(r.URL.EscapedPath(), "/odata/")
	s.mu.Lock()
	s.requests = append(s.requests, target+"?"+r.URL.RawQuery)
	s.mu.Unlock()
	resource, key, single := strings.Cut(target, "('")
	switch {
	case target == "$metadata" && s.metadata != nil:
		w.Header().Set("Content-Type", "application/xml; charset=utf-8")
		_, _ = w.Write(s.metadata)
	case target == "EntityEvent":
		s.serveEvents(w, r)
	case s.keys[resource] == "":
		htmlNotFound(w, r)
	case single:
		text, _ := strings.CutSuffix(key, "')")
		text, _ = url.PathUnescape(text)
		s.serveOne(w, resource, strings.ReplaceAll(text, "''", "'"))
	default:
		s.serveMany(w, r, resource)
	}
}

func htmlNotFound(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	fmt.Fprintf(w, "<!DOCTYPE html>\n<html lang=\"en\"><body><pre>Cannot GET %s</pre></body></html>\n", r.URL.EscapedPath())
}

func jsonError(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"code":"%d00","message":%q,"target":"Read","details":[]}}`, status, message)
}

func (s *source) serveEvents(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	match, err := condition(q.Get("$filter"), "EntityEventSequence")
	if err != nil {
		jsonError(w, http.StatusBadRequest, err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if wait, ok := strings.CutPrefix(r.Header.Get("Prefer"), "odata.maxpagesize=1000, wait="); ok && s.log != "" {
		w.Header().Set("Preference-Applied", "wait="+wait)
		seconds, _ := strconv.Atoi(wait)
		end := time.NewTimer(time.Duration(seconds) * time.Second)
		defer end.Stop()
		for !slices.ContainsFunc(s.events, func(e row) bool { return match(strconv.FormatInt(e.seq, 10)) }) {
			changed := s.changed
			s.mu.Unlock()
			over := false
			select {
			case <-changed:
			case <-end.C:
				over = true
			case <-r.Context().Done():
				over = true
			}
			s.mu.Lock()
			if over {
				break
			}
		}
	}
	var events []row
	for _, e := range s.events {
		if match(strconv.FormatInt(e.seq, 10)) {
			events = append(events, e)
		}
	}
	if strings.HasSuffix(q.Get("$orderby"), " desc") {
		slices.Reverse(events)
	}
	page, more := s.page(w, r, "EntityEvent", events, 1000)
	if s.log != "" {
		w.Header().Set("EntityEvent-Log", s.log)
		through := s.head
		if more || len(page) < len(events) && !strings.HasSuffix(q.Get("$orderby"), " desc") {
			through = page[len(page)-1].seq
		}
		w.Header().Set("EntityEvent-Through", strconv.FormatInt(through, 10))
	}
	s.write(w, r, "EntityEvent", page, more)
}

func (s *source) serveMany(w http.ResponseWriter, r *http.Request, resource string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	filter := r.URL.Query().Get("$filter")
	if filter != "" && (s.noFilter || s.noIn && strings.Contains(filter, " in ")) {
		jsonError(w, http.StatusBadRequest, "the filter is not understood")
		return
	}
	match, err := condition(filter, s.keys[resource])
	if err != nil {
		jsonError(w, http.StatusBadRequest, err.Error())
		return
	}
	var rows []row
	for _, record := range s.rows[resource] {
		if match(record.key) {
			rows = append(rows, record)
		}
	}
	size := 1000
	if resource == "Property" && s.log == "" {
		size = 20
	}
	page, more := s.page(w, r, resource, rows, size)
	s.write(w, r, resource, page, more)
}

func (s *source) serveOne(w http.ResponseWriter, resource, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rows[resource] {
		if r.key == key {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			fmt.Fprintf(w, `{"@odata.context":"%s/$metadata#%s/$entity","@odata.etag":"W/\"1\"",%s`, s.root, resource, bytes.TrimSpace(r.body)[1:])
			return
		}
	}
	jsonError(w, http.StatusNotFound, "No "+resource+" record found with key '"+key+"'.")
}

func (s *source) compare(a, b string) int {
	if s.collate != nil {
		return s.collate(a, b)
	}
	return strings.Compare(a, b)
}

// page cuts rows by $skip, $top and the size of a page.
func (s *source) page(_ http.ResponseWriter, r *http.Request, resource string, rows []row, size int) (page []row, more bool) {
	q := r.URL.Query()
	if field, ok := strings.CutSuffix(q.Get("$orderby"), " asc"); ok && field == s.keys[resource] {
		rows = slices.Clone(rows)
		slices.SortStableFunc(rows, func(a, b row) int { return s.compare(a.key, b.key) })
	}
	if s.log != "" && resource != "EntityEvent" {
		rows = slices.Clone(rows)
		slices.SortStableFunc(rows, func(a, b row) int { return s.compare(a.key, b.key) })
		if last := q.Get("$skiptoken"); last != "" {
			rows = slices.DeleteFunc(rows, func(r row) bool { return s.compare(r.key, last) <= 0 })
		}
	}
	skip, _ := strconv.Atoi(q.Get("$skip"))
	rows = rows[min(skip, len(rows)):]
	if top, err := strconv.Atoi(q.Get("$top")); err == nil {
		rows = rows[:min(top, len(rows))]
		if top <= size {
			return rows, false
		}
	}
	if len(rows) < size {
		return rows, false
	}
	return rows[:size], true // though perhaps nothing follows, as that server does
}

func (s *source) write(w http.ResponseWriter, r *http.Request, resource string, page []row, more bool) {
	q := r.URL.Query()
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	fmt.Fprintf(w, `{"@odata.context":"%s/$metadata#%s","value":[`, s.root, resource)
	for i, record := range page {
		if i > 0 {
			_, _ = w.Write([]byte(","))
		}
		_, _ = w.Write(project(record.body, q.Get("$select")))
	}
	_, _ = w.Write([]byte("]"))
	if more && s.log != "" && resource != "EntityEvent" {
		// Ours begin after the last key.
		fmt.Fprintf(w, `,"@odata.nextLink":"%s/%s?$skiptoken=%s&$select=%s"`, s.root, resource, url.QueryEscape(page[len(page)-1].key), q.Get("$select"))
	} else if more {
		skip, _ := strconv.Atoi(q.Get("$skip"))
		q.Set("$skip", strconv.Itoa(skip+len(page)))
		fmt.Fprintf(w, `,"@odata.nextLink":"%s/%s?%s"`, s.root, resource, strings.ReplaceAll(q.Encode(), "%24", "$"))
	}
	_, _ = w.Write([]byte("}"))
}

// project keeps the fields of a $select.
func project(body json.RawMessage, fields string) []byte {
	if fields == "" {
		return body
	}
	var all, kept map[string]json.RawMessage
	if json.Unmarshal(body, &all) != nil {
		return body
	}
	kept = map[string]json.RawMessage{}
	for _, f := range strings.Split(fields, ",") {
		if v, ok := all[f]; ok {
			kept[f] = v
		}
	}
	text, _ := json.Marshal(kept)
	return text
}

// condition reads the filters that replication needs: Key gt|ge N, Key in ('a','b'), and Key eq 'a' or …
func condition(filter, key string) (func(value string) bool, error) {
	if filter == "" {
		return func(string) bool { return true }, nil
	}
	field, rest, _ := strings.Cut(filter, " ")
	op, rest, _ := strings.Cut(rest, " ")
	if field != key {
		return nil, fmt.Errorf("unexpected field %q", field)
	}
	switch op {
	case "gt", "ge":
		if key != "EntityEventSequence" {
			after, err := literals(rest, ";")
			return func(value string) bool { return value > after[0] || op == "ge" && value == after[0] }, err
		}
		n, err := strconv.ParseInt(rest, 10, 64)
		return func(value string) bool {
			v, _ := strconv.ParseInt(value, 10, 64)
			return v > n || op == "ge" && v == n
		}, err
	case "in":
		keys, err := literals(strings.TrimSuffix(strings.TrimPrefix(rest, "("), ")"), ",")
		return func(value string) bool { return slices.Contains(keys, value) }, err
	case "eq":
		keys, err := literals(rest, " or "+key+" eq ")
		return func(value string) bool { return slices.Contains(keys, value) }, err
	}
	return nil, fmt.Errorf("unexpected token %q", op)
}

// literals reads quoted strings with a text between them.
func literals(text, between string) (out []string, err error) {
	for {
		if !strings.HasPrefix(text, "'") {
			return nil, fmt.Errorf("want a quote at %q", text)
		}
		text = text[1:]
		var b strings.Builder
		for {
			part, rest, found := strings.Cut(text, "'")
			if !found {
				return nil, fmt.Errorf("a string without an end")
			}
			b.WriteString(part)
			text = rest
			if !strings.HasPrefix(text, "'") {
				break
			}
			b.WriteByte('\'')
			text = text[1:]
		}
		out = append(out, b.String())
		if text == "" {
			return out, nil
		}
		var ok bool
		if text, ok = strings.CutPrefix(strings.TrimSpace(text), strings.TrimSpace(between)); !ok {
			return nil, fmt.Errorf("unexpected %q", text)
		}
		text = strings.TrimSpace(text)
	}
}

// wire is a network in memory.
type wire func(*http.Request) (*http.Response, error)

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) { return w(r) }

// to connects a wire to a server.
func to(h http.Handler) wire {
	return func(r *http.Request) (*http.Response, error) {
		recorder := httptest.NewRecorder()
		h.ServeHTTP(recorder, r)
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		resp := recorder.Result()
		resp.Request = r
		return resp, nil
	}
}

func property(key string, price int) string {
	return fmt.Sprintf(`{"ListingKey":%q,"ListPrice":%d,"ModificationTimestamp":"2026-01-02T03:04:05Z"}`, key, price)
}

func TestSourceFilters(t *testing.T) {
	for filter, want := range map[string]bool{
		"ListingKey in ('a','O''Neil')": true, "ListingKey eq 'b' or ListingKey eq 'O''Neil'": true,
		"ListingKey in ('a')": false, "ListingKey eq 'a' or ListingKey eq 'b'": false,
	} {
		match, err := condition(filter, "ListingKey")
		if err != nil || match("O'Neil") != want {
			t.Errorf("%s: %v, %v", filter, err, !want)
		}
	}
}
