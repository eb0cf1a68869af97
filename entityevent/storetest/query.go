package storetest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"pgregory.net/rapid"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/odata/odatatest"
)

// testQueries compares what a store answers with what the contract says, in plain Go: random records, filters,
// orders, places and limits.
func testQueries(b *box) {
	n := 0
	rapid.Check(b.T, func(t *rapid.T) {
		n++
		w := newWorld(b, t, fmt.Sprint("world ", n))
		for range 6 {
			q := w.query()
			want := w.want(q)
			if got := w.read(q); !slices.EqualFunc(got, want, sameRecord) {
				t.Fatalf("%s\nread %v\nwant %v\nof %s", describe(q), names(got), names(want), w)
			}
			q.Limit, q.Skip = 0, 0
			count, err := b.Count(b.Context(), w.view, q)
			if want := len(w.want(q)); err != nil || count != int64(want) {
				t.Fatalf("%s\ncounts %d, %v, want %d\nof %s", describe(q), count, err, want, w)
			}
		}
	})
}

// testPagesOfQueries reads page by page while records change: those that do not change come exactly once, and
// those that do are found where they are, or not at all.
func testPagesOfQueries(b *box) {
	n := 0
	rapid.Check(b.T, func(t *rapid.T) {
		n++
		w := newWorld(b, t, fmt.Sprint("pages ", n))
		q := w.query()
		q.From, q.Skip = nil, 0
		before, changed, met := w.want(q), map[string]bool{}, map[string]int{}
		for q.Limit = 1 + draw(t, 4); ; {
			page := w.read(q)
			for _, r := range page {
				met[r.Key]++
				if now := w.records[r.Key]; !sameRecord(r, now) || !w.holds(q, now) {
					t.Fatalf("%s\nread %s, version %d: %s\nit is version %d: %s", describe(q), r.Key, r.Version, r.Body, now.Version, now.Body)
				}
			}
			if len(page) < q.Limit {
				break
			}
			place := q.PlaceOf(page[len(page)-1])
			q.From = &place
			for range draw(t, 3) {
				key := rapid.SampledFrom(worldKeys).Draw(t, "key")
				changed[key] = true
				w.change(key)
			}
		}
		for _, r := range before {
			if !changed[r.Key] && met[r.Key] != 1 {
				t.Fatalf("%s\n%s did not change and came %d times of %v\nof %s", describe(q), r.Key, met[r.Key], met, w)
			}
		}
	})
}

// testTimesOfQueries asks at the very microsecond, and for times that are hardly any.
func testTimesOfQueries(b *box) {
	for key, at := range map[string]string{
		"a": `"2024-05-06T10:00:00Z"`, "b": `"2024-05-06T10:00:00.000001Z"`, "c": `"2024-05-06T12:00:00.0000019+02:00"`, "d": `"2024-05-06T10:00:00.000002Z"`,
		"e": `"2024-05-06T09:59:59.999999Z"`, "f": `"0001-01-01T00:00:00Z"`, "g": "null", "h": `"tomorrow"`,
	} {
		b.must(put(key, `{"ModificationTimestamp":`+at+`}`))
	}
	for _, c := range []struct {
		filter string
		want   []string // by time
	}{
		{"ModificationTimestamp gt 2024-05-06T10:00:00Z", []string{"b", "c", "d"}},
		{"ModificationTimestamp ge 2024-05-06T10:00:00Z", []string{"a", "b", "c", "d"}},
		{"ModificationTimestamp lt 2024-05-06T10:00:00Z", []string{"f", "e"}},
		{"ModificationTimestamp le 2024-05-06T10:00:00Z", []string{"f", "e", "a"}},
		{"ModificationTimestamp eq 2024-05-06T10:00:00.000001Z", []string{"b", "c"}},
		{"ModificationTimestamp gt 2024-05-06T10:00:00.0000019Z", []string{"d"}},
		{"ModificationTimestamp ne null", []string{"f", "e", "a", "b", "c", "d"}},
		{"ModificationTimestamp eq null", []string{"g", "h"}},
		{"ModificationTimestamp gt 0001-01-01T00:00:00Z", []string{"e", "a", "b", "c", "d"}},
		{"ModificationTimestamp ne 0001-01-01T00:00:00Z", []string{"g", "h", "e", "a", "b", "c", "d"}},
	} {
		filter, err := odata.ParseFilter(c.filter, scopeOfWorlds)
		if err != nil {
			b.Fatal(err)
		}
		orders, err := odata.ParseOrderBy("ModificationTimestamp", scopeOfWorlds)
		if err != nil {
			b.Fatal(err)
		}
		q := entityevent.Query{Filter: filter, OrderBy: orders}
		b.equal(c.filter, names(b.records(feed, q)), c.want)
		orders[0].Desc = true
		backwards := slices.Clone(c.want)
		slices.Reverse(backwards)
		b.equal(c.filter+", descending", names(b.records(feed, q)), backwards)
		q.OrderBy = nil
		b.equal(c.filter+", by key", names(b.records(feed, q)), slices.Sorted(slices.Values(c.want)))
	}
}

// world is a feed of random records and the queries that ask for them.
type world struct {
	*box
	t       *rapid.T
	feed    string
	view    entityevent.View
	records map[string]entityevent.Record
}

// worldKeys are keys and parents; some are integers as they are written, one is not.
var worldKeys = []string{"a", "A", "b", "B/2", "O'Neil", "ü", "1", "7", "007", "-1", "9007199254740993", "x"}

func newWorld(b *box, t *rapid.T, feed string) *world {
	w := &world{box: b, t: t, feed: feed, view: everyone(feed), records: map[string]entityevent.Record{}}
	for range draw(t, 14) {
		w.change(rapid.SampledFrom(worldKeys).Draw(t, "key"))
	}
	return w
}

func (w *world) String() string {
	text := ""
	for _, r := range w.records {
		text += fmt.Sprintf("\n%s: %s", r.Key, r.Body)
	}
	return text
}

func draw(t *rapid.T, below int) int { return rapid.IntRange(0, below-1).Draw(t, "n") }

// change puts a record or removes it.
func (w *world) change(key string) {
	ref := entityevent.Ref{Resource: "Media", Key: key}
	c := entityevent.Change{Ref: ref, Op: entityevent.Remove}
	if draw(w.t, 6) > 0 {
		c.Op, c.Body = entityevent.Put, w.body()
	}
	if _, err := w.Apply(w.Context(), entityevent.Commit{Feed: w.feed, Changes: []entityevent.Change{c}}); err != nil {
		w.t.Fatal(err)
	}
	for r, err := range w.Read(w.Context(), w.view, entityevent.Query{Resource: "Media", Keys: []string{key}, Gone: true}) {
		if err != nil {
			w.t.Fatal(err)
		}
		w.records[key] = r
	}
}

// body makes a record that may belong to one of a few.
func (w *world) body() json.RawMessage {
	body := odatatest.Record().Draw(w.t, "record")
	extra := `"ResourceName":` + rapid.SampledFrom([]string{`"Property"`, `"property"`, `"Member"`, "null", "5", `""`}).Draw(w.t, "parent")
	if n := draw(w.t, 6); n > 0 {
		extra += `,"ResourceRecordKey":` + []string{`"a"`, `"ü"`, "7", `"7"`, "null"}[n-1]
	}
	if len(body) > len("{}") {
		extra += ","
	}
	return append([]byte("{"+extra), body[1:]...)
}

// query draws a query.
func (w *world) query() entityevent.Query {
	t := w.t
	q := entityevent.Query{Resource: "Media", Gone: draw(t, 5) == 0}
	q.KeyField = rapid.SampledFrom([]string{"MediaKey", "MediaKey", "City", "Id", "Beds", ""}).Draw(t, "key field")
	if draw(t, 5) == 0 {
		q.Keys = rapid.SliceOfN(rapid.SampledFrom(worldKeys), 1, 6).Draw(t, "keys")
	}
	if draw(t, 6) == 0 {
		q.After = rapid.SampledFrom(worldKeys).Draw(t, "after")
	}
	if draw(t, 5) == 0 {
		for range 1 + draw(t, 3) {
			q.Parents = append(q.Parents, entityevent.Ref{
				Resource: rapid.SampledFrom([]string{"Property", "Member"}).Draw(t, "parent resource"),
				Key:      rapid.SampledFrom([]string{"a", "7", "ü", "none"}).Draw(t, "parent"),
			})
		}
	}
	if draw(t, 5) > 0 {
		q.Filter = w.filter()
	}
	if draw(t, 4) > 0 {
		q.OrderBy = w.order()
	}
	if len(w.records) > 0 && draw(t, 3) == 0 {
		key := rapid.SampledFrom(worldKeys).Draw(t, "from")
		place := q.PlaceOf(entityevent.Record{Ref: entityevent.Ref{Resource: "Media", Key: key}, Body: w.records[key].Body})
		q.From = &place
	}
	if draw(t, 4) == 0 {
		q.Skip = 1 + draw(t, 4)
	}
	q.Limit = draw(t, 6)
	return q
}

// worldScope is that of odatatest, with a key and a parent.
type worldScope struct{ odata.Scope }

func (s worldScope) Field(name string) (odata.Type, bool) {
	switch name {
	case "MediaKey", "ResourceName", "ResourceRecordKey":
		return odata.Type{Kind: odata.String}, true
	}
	return s.Scope.Field(name)
}

var scopeOfWorlds = worldScope{odatatest.Scope()}

// filter draws any filter, or one of those that indexes serve, or several together.
func (w *world) filter() odata.Expr {
	text := odatatest.Filter().Draw(w.t, "filter")
	for range draw(w.t, 3) {
		more := rapid.SampledFrom([]string{
			"ModificationTimestamp gt 2024-05-06T10:00:00Z", "ModificationTimestamp ge 2024-05-06T10:00:00Z", "ModificationTimestamp lt 2024-05-06T12:00:00.5Z",
			"ModificationTimestamp le 2024-05-06T10:00:00.000001Z", "ModificationTimestamp eq 2024-05-06T10:00:00Z", "ModificationTimestamp ne null",
			"ModificationTimestamp in (2024-05-06T10:00:00Z,0001-01-01T00:00:00Z,null)", "ModificationTimestamp gt 0001-01-01T00:00:00Z",
			"MediaKey in ('a','O''Neil','x','nothing')", "MediaKey gt 'A'", "MediaKey le 'a'", "MediaKey ge 'b' and MediaKey lt 'ü'",
			"(MediaKey eq 'a' or MediaKey eq 'b' or MediaKey in ('7','1'))", "MediaKey eq '7'", "MediaKey ne 'a'", "MediaKey eq null",
			"Beds in (7,1,9007199254740993,-1)", "Beds eq 7", "Id eq 4b1e3d6d-5b61-4f6d-a38f-9e3b1cb71ffa", "City in ('a','A','007')",
			"ResourceRecordKey eq 'a'", "ResourceRecordKey in ('7','ü')", "ResourceRecordKey eq 'a' and ResourceName eq 'Property'", "ResourceRecordKey in ('a',null)",
			"(ModificationTimestamp gt 2024-05-06T10:00:00Z or ModificationTimestamp eq 2024-05-06T10:00:00Z and MediaKey gt 'a')",
			"(ModificationTimestamp le 2024-05-06T10:00:00Z and PoolYN or ModificationTimestamp lt 2024-05-06T12:00:00Z)",
			"(ModificationTimestamp ge 2024-05-06T10:00:00Z or ModificationTimestamp eq null)", "(MediaKey gt 'a' or MediaKey ge 'b' and PoolYN)",
			"(MediaKey lt 'b' or MediaKey le 'a')", "(MediaKey eq 'a' and PoolYN or MediaKey in ('b','x'))", "(MediaKey gt 'b' or MediaKey eq 'a')",
			"(ResourceRecordKey eq 'a' and ResourceName eq 'Property' or ResourceRecordKey in ('7','ü'))", "(ResourceRecordKey eq 'a' or MediaKey eq 'a')",
			"startswith(MediaKey,'O')", "toupper(MediaKey) eq 'A'",
			"Odd gt 2024-05-06", "Odd le 2024-05-06T10:00:00Z", "Odd in (2024-05-06,2024-05-06T00:00:00Z,2024-02-29)", "Odd ne CloseDate", "Odds/any(x:x ge 2024-05-06)",
		}).Draw(w.t, "more")
		switch draw(w.t, 4) {
		case 0:
			text = "(" + text + ") or " + more
		case 1:
			text = more
		default:
			text = "(" + text + ") and " + more
		}
	}
	e, err := odata.ParseFilter(text, scopeOfWorlds)
	if err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
	return odata.At(e, time.Date(2024, 5, 6, 10, 0, 0, 0, time.UTC))
}

func (w *world) order() []odata.Order {
	text := odatatest.OrderBy().Draw(w.t, "order")
	if draw(w.t, 2) == 0 {
		text = rapid.SampledFrom([]string{
			"ModificationTimestamp", "ModificationTimestamp desc", "ModificationTimestamp,MediaKey", "ModificationTimestamp desc,MediaKey desc",
			"ModificationTimestamp desc,MediaKey", "MediaKey", "MediaKey desc", "MediaKey desc,City", "City desc,MediaKey", "Beds desc", "ModificationTimestamp,City",
		}).Draw(w.t, "order of an index")
	}
	orders, err := odata.ParseOrderBy(text, scopeOfWorlds)
	if err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
	return orders
}

// want is what the contract says.
func (w *world) want(q entityevent.Query) []entityevent.Record {
	var found []entityevent.Record
	for _, r := range w.records {
		if w.holds(q, r) && (q.From == nil || comparePlaces(q, q.PlaceOf(r), *q.From) > 0) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b entityevent.Record) int { return comparePlaces(q, q.PlaceOf(a), q.PlaceOf(b)) })
	found = found[min(q.Skip, len(found)):]
	if q.Limit > 0 {
		found = found[:min(q.Limit, len(found))]
	}
	return found
}

func (w *world) holds(q entityevent.Query, r entityevent.Record) bool {
	member := func(name string) []byte {
		if name != q.KeyField || name == "" {
			return entityevent.Member(r.Body, name)
		}
		if of, _ := scopeOfWorlds.Field(name); of.Kind == odata.Int {
			if n, err := strconv.ParseInt(r.Key, 10, 64); err != nil || strconv.FormatInt(n, 10) != r.Key {
				return nil
			}
			return []byte(r.Key)
		}
		quoted, _ := json.Marshal(r.Key)
		return quoted
	}
	belongs := len(q.Parents) == 0
	if resource, key, ok := metadata.Parent(r.Resource, func(name string) string { return entityevent.StringMember(r.Body, name) }); ok {
		belongs = belongs || slices.Contains(q.Parents, entityevent.Ref{Resource: resource, Key: key})
	}
	return r.Key != "" && (q.Gone || !r.Gone()) && belongs && r.Key > q.After && (len(q.Keys) == 0 || slices.Contains(q.Keys, r.Key)) &&
		(q.Filter == nil || odata.Holds(q.Filter, member))
}

func comparePlaces(q entityevent.Query, a, b entityevent.Place) int {
	desc := false
	for i, o := range q.OrderBy {
		c := a.Values[i].Compare(b.Values[i])
		if desc = o.Desc; desc {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	if desc {
		return cmp.Compare(b.Key, a.Key)
	}
	return cmp.Compare(a.Key, b.Key)
}

func (w *world) read(q entityevent.Query) []entityevent.Record {
	var all []entityevent.Record
	for r, err := range w.Read(w.Context(), w.view, q) {
		if err != nil {
			w.t.Fatalf("%s: %v", describe(q), err)
		}
		all = append(all, r)
	}
	return all
}

func sameRecord(a, b entityevent.Record) bool {
	return a.Ref == b.Ref && a.Hash == b.Hash && a.Version == b.Version && string(a.Body) == string(b.Body) && a.Modified.Equal(b.Modified)
}

func names(records []entityevent.Record) []string {
	keys := make([]string, len(records))
	for i, r := range records {
		keys[i] = r.Key
	}
	return keys
}

func describe(q entityevent.Query) string {
	text := fmt.Sprintf("key field %s, keys %q, parents %v, after %q, skip %d, limit %d, gone %v", q.KeyField, q.Keys, q.Parents, q.After, q.Skip, q.Limit, q.Gone)
	if q.Filter != nil {
		text += "\nfilter " + q.Filter.String()
	}
	for _, o := range q.OrderBy {
		text += fmt.Sprintf("\nby %s, %v", o.Field.Path, o.Desc)
	}
	if q.From != nil {
		text += fmt.Sprintf("\nfrom %v", *q.From)
	}
	return text
}
