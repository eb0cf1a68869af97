package producer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
)

// TestAccess: for random data, profiles and changes, a client that follows its feed from 0 ends with exactly the
// records that it may see, without the fields that are hidden from it, and is never told of a record that it never
// could see. Some poll, some are pushed to, and some begin when the log was compacted.
func TestAccess(t *testing.T) {
	seeds := uint64(24)
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newMLS(t, seed)
				for range 60 + m.rand.IntN(60) {
					m.change()
					m.look()
				}
				m.end()
			})
		})
	}
}

// mls is a producer, its clients, and what plain Go says of them.
type mls struct {
	t       *testing.T
	rand    *rand.Rand
	store   *sqlite.Store
	server  *producer.Server
	records map[entityevent.Ref]map[string]any
	written map[entityevent.Ref]bool // since look looked
	clients map[string]*client       // by profile

	mu       sync.Mutex // of what follows, for the gate
	masks    map[string]entityevent.Mask
	profiles map[string]profile
	hidden   map[string]map[string][]string // what Admit said of each profile last
}

// profile is what one shows, by resource.
type profile map[string]view

type view struct {
	filter string // of filters; "": all
	with   bool   // with Property, in place of the filter
	hide   string
}

// filters are conditions, in OData and in Go.
var filters = map[string]func(map[string]any) bool{
	"":                          func(map[string]any) bool { return true },
	"S eq 1":                    func(r map[string]any) bool { return r["S"] == 1. },
	"S ge 1":                    func(r map[string]any) bool { return r["S"].(float64) >= 1 },
	"T in ('a','b')":            func(r map[string]any) bool { return r["T"] == "a" || r["T"] == "b" },
	"T eq null or S eq 2":       func(r map[string]any) bool { return r["T"] == nil || r["S"] == 2. },
	"not (T eq 'a') and S ne 0": func(r map[string]any) bool { return r["T"] != "a" && r["S"] != 0. },
}

var keyFields = map[string]string{"Property": "ListingKey", "Media": "MediaKey"}

// client follows its feed in two ways: it polls, and is pushed to.
type client struct {
	name   string
	could  map[entityevent.Ref]bool // what it ever could see
	sees   map[entityevent.Ref]bool // what it could see when look looked last
	poll   *replica
	pushed *replica
}

// replica is one copy of what a client sees.
type replica struct {
	*mls
	client string
	cursor string // of a poll
	next   string // the nextLink to follow
	from0  bool   // which began at 0
	has    map[entityevent.Ref]map[string]any
	told   map[entityevent.Ref]bool
	pushes int
	after  entityevent.Sequence // the Through of the last push
	failed string               // why a push could not be right
}

func newMLS(t *testing.T, seed uint64) *mls {
	m := &mls{
		t: t, rand: rand.New(rand.NewPCG(seed, 7)), store: openStore(t, t.TempDir()),
		records: map[entityevent.Ref]map[string]any{}, clients: map[string]*client{}, written: map[entityevent.Ref]bool{}, hidden: map[string]map[string][]string{},
	}
	schema, err := producer.OpenSchema(t.Context(), m.store, entityevent.Local, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.server = &producer.Server{Store: m.store, Schema: schema, Gate: m, Root: root, Prefix: "/odata", Writable: true}
	m.setProfiles("p", "q", "r")
	for _, name := range []string{"p", "q", "r", "all"} {
		c := &client{name: name, could: map[entityevent.Ref]bool{}, poll: m.replica(name), pushed: m.replica(name)}
		m.clients[name] = c
		subscribe(t, m.store, name)
		start(t, &producer.Pusher{Store: m.store, HTTP: &http.Client{Transport: c.pushed}, Subscription: producer.Subscription{
			Name: name, URL: "https://vendor.example/" + name, Mask: m.mask(name), BatchEvents: 2 + m.rand.IntN(9),
		}})
	}
	return m
}

func (m *mls) replica(client string) *replica {
	return &replica{mls: m, client: client, cursor: "0", has: map[entityevent.Ref]map[string]any{}, told: map[entityevent.Ref]bool{}}
}

// Admit implements producer.Gate: the token is the name of a profile, or all.
func (m *mls) Admit(r *http.Request, _ string) (producer.Client, error) {
	name := bearer.FromHeader(r.Header)
	mask := m.mask(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if name == "all" {
		return producer.Client{Name: name, Mask: mask}, nil
	}
	return producer.Client{Name: name, Profile: name, Mask: mask, Resources: slices.Sorted(maps.Keys(m.profiles[name])), Hide: m.hidden[name]}, nil
}

func (m *mls) mask(name string) entityevent.Mask {
	m.mu.Lock()
	defer m.mu.Unlock()
	if name == "all" {
		return entityevent.Everyone
	}
	return m.masks[name]
}

// change does one random thing.
func (m *mls) change() {
	switch n := m.rand.IntN(20); {
	case n < 8:
		m.write()
	case n < 11:
		m.commit()
	case n < 12:
		var names []string
		for _, name := range []string{"p", "q", "r"} {
			if m.rand.IntN(5) > 0 {
				names = append(names, name)
			}
		}
		m.setProfiles(names...)
	case n < 14:
		m.review(1)
	case n < 15:
		m.review(1000)
	case n < 16:
		m.compact()
	case n < 17:
		time.Sleep(time.Duration(m.rand.IntN(1000)) * time.Millisecond) // lets pushes go their way
	default:
		for _, name := range slices.Sorted(maps.Keys(m.clients)) {
			m.clients[name].poll.pages(m.rand.IntN(4))
		}
	}
}

func (m *mls) setProfiles(names ...string) {
	profiles := map[string]profile{}
	var set []entityevent.Profile
	for _, name := range names {
		p := profile{}
		texts := slices.Sorted(maps.Keys(filters))
		draw := func() view {
			return view{filter: texts[m.rand.IntN(len(texts))], hide: []string{"", "", "X", "S"}[m.rand.IntN(4)]}
		}
		if m.rand.IntN(6) > 0 {
			p["Property"] = draw()
		}
		switch m.rand.IntN(6) {
		case 0:
		case 1:
			p["Media"] = draw()
		default:
			if _, ok := p["Property"]; ok {
				p["Media"] = view{with: true}
			}
		}
		profiles[name] = p
		set = append(set, p.of(name))
	}
	masks, err := m.store.SetProfiles(m.t.Context(), set)
	if err != nil {
		m.t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.masks == nil {
		m.masks = masks
	}
	for name, mask := range masks {
		if m.masks[name] != mask {
			m.t.Fatalf("%s had the mask %x, now %x", name, m.masks[name], mask)
		}
	}
	m.profiles = profiles
	for name, p := range profiles {
		m.hidden[name] = map[string][]string{}
		for resource, v := range p {
			m.hidden[name][resource] = []string{v.hide}
		}
	}
}

func (p profile) of(name string) entityevent.Profile {
	e := entityevent.Profile{Name: name, Resources: map[string]entityevent.Access{}}
	for resource, v := range p {
		var a entityevent.Access
		switch {
		case v.with:
			a.With = "Property"
		case v.filter != "":
			filter, err := odata.ParseFilter(v.filter, nil)
			if err != nil {
				panic(err)
			}
			a.Filter = filter
		}
		if v.hide != "" {
			a.Hide = []string{v.hide}
		}
		e.Resources[resource] = a
	}
	return e
}

func (m *mls) review(steps int) {
	for range steps {
		more, err := m.store.Review(m.t.Context())
		if err != nil {
			m.t.Fatal(err)
		}
		m.look()
		if !more {
			return
		}
	}
}

// compact forgets only what was gone before anybody who reads from 0 began, as long as it takes.
func (m *mls) compact() {
	var c entityevent.Compaction
	if m.rand.IntN(2) == 0 {
		time.Sleep(time.Minute) // pushes come to the end
		synctest.Wait()
		for _, client := range m.clients {
			for client.poll.next != "" {
				client.poll.pages(1)
			}
		}
		c.Forget = time.Now().Add(time.Hour)
	}
	if _, err := m.store.Compact(m.t.Context(), c); err != nil {
		m.t.Fatal(err)
	}
}

// draw returns a random record.
func (m *mls) draw() (entityevent.Ref, map[string]any) {
	ref := entityevent.Ref{Resource: "Property", Key: "L" + strconv.Itoa(m.rand.IntN(6))}
	body := map[string]any{"S": float64(m.rand.IntN(4)), "X": fmt.Sprint("x", m.rand.IntN(1000))}
	if t := []any{"a", "b", "c", nil}[m.rand.IntN(4)]; t != nil {
		body["T"] = t
	}
	if m.rand.IntN(2) == 0 {
		ref = entityevent.Ref{Resource: "Media", Key: "M" + strconv.Itoa(m.rand.IntN(8))}
		body["ResourceName"], body["ResourceRecordKey"] = "Property", "L"+strconv.Itoa(m.rand.IntN(7))
	}
	body[keyFields[ref.Resource]] = ref.Key
	return ref, body
}

// write changes one record over HTTP.
func (m *mls) write() {
	ref, body := m.draw()
	m.written[ref] = true
	old := m.records[ref]
	target := "/" + ref.Resource + "('" + ref.Key + "')"
	switch n := m.rand.IntN(4); {
	case n == 0 && old != nil:
		m.send("all", http.MethodDelete, target, nil, http.StatusNoContent)
		delete(m.records, ref)
	case n == 1 && old != nil:
		now := maps.Clone(old)
		maps.Copy(now, body)
		m.send("all", http.MethodPatch, target, body, http.StatusNoContent)
		m.records[ref] = now
	default:
		want := http.StatusNoContent
		if old == nil {
			want = http.StatusCreated
		}
		m.send("all", http.MethodPut, target, body, want)
		m.records[ref] = body
	}
}

// commit changes several records at once, as an import does.
func (m *mls) commit() {
	c := entityevent.Commit{Feed: entityevent.Local}
	for range 2 + m.rand.IntN(6) {
		ref, body := m.draw()
		m.written[ref] = true
		if m.rand.IntN(5) == 0 {
			c.Changes = append(c.Changes, entityevent.Change{Ref: ref, Op: entityevent.Remove})
			delete(m.records, ref)
			continue
		}
		text, err := json.Marshal(body)
		if err != nil {
			m.t.Fatal(err)
		}
		c.Changes = append(c.Changes, entityevent.Change{Ref: ref, Body: text})
		m.records[ref] = body
	}
	if _, err := m.store.Apply(m.t.Context(), c); err != nil {
		m.t.Fatal(err)
	}
}

// send asks the server as a client.
func (m *mls) send(client, method, target string, body map[string]any, want ...int) *httptest.ResponseRecorder {
	m.t.Helper()
	w := m.ask(client, method, target, body)
	if !slices.Contains(want, w.Code) {
		m.t.Fatalf("%s %s for %s: %d, want %d: %s", method, target, client, w.Code, want, w.Body)
	}
	return w
}

func (m *mls) ask(client, method, target string, body map[string]any, headers ...string) *httptest.ResponseRecorder {
	var text []byte
	if body != nil {
		text, _ = json.Marshal(body)
	}
	r := httptest.NewRequestWithContext(context.Background(), method, "/odata"+strings.ReplaceAll(target, " ", "%20"), strings.NewReader(string(text)))
	r.Header.Set("Authorization", "Bearer "+client)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	m.server.ServeHTTP(w, r)
	return w
}

// shows says whether a profile shows a record, if it shows these parents.
func (m *mls) shows(p profile, ref entityevent.Ref, parent func(entityevent.Ref) bool) bool {
	record := m.records[ref]
	v, ok := p[ref.Resource]
	switch {
	case record == nil || !ok:
		return false
	case v.with:
		return parent(entityevent.Ref{Resource: "Property", Key: record["ResourceRecordKey"].(string)})
	}
	return filters[v.filter](record)
}

// may returns what a client may see when all views are right.
func (m *mls) may(name string) map[entityevent.Ref]map[string]any {
	all, p := map[entityevent.Ref]map[string]any{}, m.profiles[name]
	for ref, record := range m.records {
		if name == "all" || m.shows(p, ref, func(parent entityevent.Ref) bool { return m.shows(p, parent, nil) }) {
			all[ref] = maps.Clone(record)
			delete(all[ref], p[ref.Resource].hide)
		}
	}
	return all
}

// look notes what everybody can see. What was written, and what anybody sees that he did not see before, is as his profile
// says: only the rest may wait for a review.
func (m *mls) look() {
	for name, c := range m.clients {
		if name == "all" {
			continue
		}
		now := map[entityevent.Ref]bool{}
		for _, resource := range []string{"Property", "Media"} {
			v := entityevent.View{Feed: entityevent.Local, Mask: m.mask(name)}
			for r, err := range m.store.Read(m.t.Context(), v, entityevent.Query{Resource: resource}) {
				if err != nil {
					m.t.Fatal(err)
				}
				now[r.Ref], c.could[r.Ref] = true, true
			}
		}
		for ref := range m.records {
			shown := m.shows(m.profiles[name], ref, func(parent entityevent.Ref) bool { return now[parent] })
			if now[ref] != shown && (m.written[ref] || now[ref] && !c.sees[ref]) {
				m.t.Fatalf("%s sees %s: %v, want %v by %+v", name, ref, now[ref], shown, m.profiles[name])
			}
		}
		c.sees = now
	}
	clear(m.written)
}

// end lets everybody come to the end, and looks at what they have and were told.
func (m *mls) end() {
	on := slices.Sorted(maps.Keys(m.profiles))
	if len(on) < 3 {
		m.setProfiles("p", "q", "r")
	}
	m.review(1000)
	m.look()
	for _, name := range slices.Sorted(maps.Keys(m.clients)) {
		c := m.clients[name]
		c.poll.toTheEnd()
		fresh := m.replica(name)
		fresh.toTheEnd()
		m.check("from 0", fresh)
		m.check("a poll", c.poll)
	}
	time.Sleep(time.Minute) // until all pushes are delivered
	synctest.Wait()
	if _, err := m.store.Compact(m.t.Context(), entityevent.Compaction{Forget: time.Now()}); err != nil {
		m.t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(m.clients)) {
		fresh := m.replica(name)
		fresh.toTheEnd()
		m.check("from 0 after a compaction", fresh)
		m.check("pushes", m.clients[name].pushed)
	}
}

func (m *mls) check(how string, r *replica) {
	m.t.Helper()
	if r.failed != "" {
		m.t.Fatalf("%s, by %s: %s", r.client, how, r.failed)
	}
	if d := cmp.Diff(m.may(r.client), r.has, cmpopts.EquateEmpty()); d != "" {
		m.t.Fatalf("%s, by %s, may see -, has +\n%s", r.client, how, d)
	}
	for ref := range r.told {
		if r.client != "all" && !m.clients[r.client].could[ref] {
			m.t.Fatalf("%s, by %s, was told of %s, which it never could see", r.client, how, ref)
		}
	}
}

func (r *replica) toTheEnd() {
	for before := ""; before != r.cursor || r.next != ""; {
		before = r.cursor
		r.pages(1)
	}
}

// pages polls: it follows nextLinks, or asks for what follows the position that the last page named.
func (r *replica) pages(n int) {
	for range n {
		target := r.next
		if target == "" || !r.from0 && r.rand.IntN(3) == 0 {
			target = "/EntityEvent?$filter=EntityEventSequence gt " + r.cursor
			r.from0 = r.cursor == "0"
		}
		page := r.ask(r.client, http.MethodGet, target, nil, "Prefer: maxpagesize="+strconv.Itoa(1+r.rand.IntN(9)))
		if page.Code == http.StatusGone && !r.from0 { // it begins anew
			r.cursor, r.next, r.has = "0", "", map[entityevent.Ref]map[string]any{}
			continue
		}
		r.read(page)
	}
}

// read takes a page.
func (r *replica) read(page *httptest.ResponseRecorder) {
	var body struct {
		Value []struct{ ResourceName, ResourceRecordKey string }
		Next  string `json:"@odata.nextLink"`
	}
	if err := json.Unmarshal(page.Body.Bytes(), &body); err != nil || page.Code != http.StatusOK {
		r.t.Fatalf("a page for %s: %d %s", r.client, page.Code, page.Body)
	}
	for _, e := range body.Value {
		if err := r.fetch(entityevent.Ref{Resource: e.ResourceName, Key: e.ResourceRecordKey}); err != nil {
			r.t.Fatal(err)
		}
	}
	r.cursor, r.next = page.Header()["EntityEvent-Through"][0], strings.TrimPrefix(body.Next, root)
	r.from0 = r.from0 && r.next != ""
}

// fetch reads what an event names, with the client's own view.
func (r *replica) fetch(ref entityevent.Ref) error {
	r.told[ref] = true
	w := r.ask(r.client, http.MethodGet, "/"+ref.Resource+"('"+ref.Key+"')", nil)
	switch w.Code {
	case http.StatusNotFound:
		delete(r.has, ref)
		return nil
	case http.StatusOK:
	default:
		return fmt.Errorf("%s: %d %s", ref, w.Code, w.Body)
	}
	var record map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &record); err != nil {
		return err
	}
	maps.DeleteFunc(record, func(name string, _ any) bool { return strings.Contains(name, "@") })
	r.has[ref] = record
	return nil
}

// RoundTrip takes a push.
func (r *replica) RoundTrip(request *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	r.take(w, request)
	return w.Result(), nil
}

func (r *replica) take(w http.ResponseWriter, request *http.Request) {
	s := newSubscriber()
	s.ServeHTTP(httptest.NewRecorder(), request)
	p := <-s.got
	switch {
	case p.after != r.after:
		r.failed = fmt.Sprintf("a push goes on after %d, the one before ended at %d", p.after, r.after)
	case r.pushes%5 == 3:
		r.pushes++
		w.WriteHeader(http.StatusBadGateway) // it comes again
		return
	}
	r.pushes++
	for _, e := range p.events {
		if err := r.fetch(e.Ref); err != nil {
			r.failed = err.Error()
		}
	}
	r.after = p.through
}
