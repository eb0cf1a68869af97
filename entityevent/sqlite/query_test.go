package sqlite_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/sqlite"
)

var listings = odata.Fields{
	"ListingKey": {Kind: odata.String}, "City": {Kind: odata.String}, "ListPrice": {Kind: odata.Int}, "StandardStatus": {Kind: odata.String},
	"ModificationTimestamp": {Kind: odata.DateTimeOffset}, "ResourceRecordKey": {Kind: odata.String}, "ResourceName": {Kind: odata.String},
}

// ask makes a query of what a client would write.
func ask(t testing.TB, resource, filter, orderBy string) entityevent.Query {
	t.Helper()
	q := entityevent.Query{Resource: resource, KeyField: "ListingKey"}
	var err error
	if filter != "" {
		if q.Filter, err = odata.ParseFilter(filter, listings); err != nil {
			t.Fatalf("%s: %v", filter, err)
		}
	}
	if orderBy != "" {
		if q.OrderBy, err = odata.ParseOrderBy(orderBy, listings); err != nil {
			t.Fatalf("%s: %v", orderBy, err)
		}
	}
	return q
}

func collect(t testing.TB, s *sqlite.Store, q entityevent.Query) (keys []string) {
	t.Helper()
	for r, err := range s.Read(t.Context(), everyone, q) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, r.Key)
	}
	return keys
}

// populate makes n listings, one a second, and three media of each.
func populate(t testing.TB, s *sqlite.Store, n int) {
	t.Helper()
	var changes []entityevent.Change
	for i := range n {
		key := fmt.Sprintf("%06d", i)
		changes = append(changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: key}, Body: fmt.Appendf(nil,
			`{"ListingKey":"%s","City":"City %d","ListPrice":%d,"ModificationTimestamp":"2024-05-06T%02d:%02d:%02dZ"}`, key, i%7, i, i/3600, i/60%60, i%60)})
		for m := range 3 {
			changes = append(changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Media", Key: fmt.Sprintf("%s-%d", key, m)}, Body: fmt.Appendf(nil,
				`{"ListingKey":"%s-%d","City":"x","ResourceName":"Property","ResourceRecordKey":"%s"}`, key, m, key)})
		}
	}
	for len(changes) > 0 {
		n := min(len(changes), 1000)
		if _, err := s.Apply(t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: changes[:n]}); err != nil {
			t.Fatal(err)
		}
		changes = changes[n:]
	}
}

func opened(t *testing.T) *sqlite.Store {
	return open(t, filepath.Join(t.TempDir(), "s.db"), sqlite.Options{ReadConns: 1})
}

// indexed are the queries that people replicate by, and what serves them.
func indexed(t *testing.T) map[string]struct {
	entityevent.Query
	steps []string
} {
	type plan = struct {
		entityevent.Query
		steps []string
	}
	const (
		modified = "USING INDEX records_modified (feed=? AND resource=? AND "
		keys     = "USING INDEX records_ref (feed=? AND resource=?"
		parents  = "USING INDEX records_parent (feed=? AND parent_key=? AND resource=?"
	)
	limited := func(q entityevent.Query) entityevent.Query { q.Limit = 200; return q }
	some := make([]string, 100)
	for i := range some {
		some[i] = fmt.Sprintf("'%06d'", i*3)
	}
	many := ask(t, "Media", "", "")
	after := ask(t, "Property", "", "ModificationTimestamp")
	after.From = &entityevent.Place{Values: []odata.Literal{{Kind: odata.DateTimeOffset, Text: "2024-05-06T00:03:00Z"}}, Key: "000180"}
	for i := range 50 {
		many.Parents = append(many.Parents, entityevent.Ref{Resource: "Property", Key: fmt.Sprintf("%06d", i*2)})
	}
	const lower = " and tolower(City) ne 'nowhere'" // tells which rows are looked at
	return map[string]plan{
		"time":               {limited(ask(t, "Property", "ModificationTimestamp gt 2024-05-06T00:02:00Z"+lower, "ModificationTimestamp")), []string{modified + "(modified_at,key)>(?,?)", modified + "modified_at>?"}},
		"time, key":          {limited(ask(t, "Property", "ModificationTimestamp gt 2024-05-06T00:02:00Z"+lower, "ModificationTimestamp,ListingKey")), []string{modified}},
		"time, descending":   {limited(ask(t, "Property", "ModificationTimestamp lt 2024-05-06T00:06:00Z"+lower, "ModificationTimestamp desc")), []string{modified}},
		"times":              {limited(ask(t, "Property", "ModificationTimestamp gt 2024-05-06T00:02:00Z and ModificationTimestamp lt 2024-05-06T00:04:00Z"+lower, "ModificationTimestamp")), []string{modified}},
		"by time":            {limited(ask(t, "Property", "true eq true"+lower, "ModificationTimestamp")), []string{modified, keys}}, // to count it any index will do
		"time, by key":       {limited(ask(t, "Property", "ModificationTimestamp gt 2024-05-06T00:02:00Z and ModificationTimestamp lt 2024-05-06T00:04:00Z"+lower, "")), []string{modified, keys + " AND key=?)"}},
		"time, by price":     {limited(ask(t, "Property", "ModificationTimestamp gt 2024-05-06T00:02:00Z and ModificationTimestamp lt 2024-05-06T00:04:00Z"+lower, "ListPrice desc")), []string{modified, keys + " AND key=?)"}},
		"from a place":       {limited(after), []string{modified + "(modified_at,key)>(?,?)"}},
		"in":                 {ask(t, "Property", "ListingKey in ("+strings.Join(some, ",")+")"+lower, ""), []string{keys + " AND key=?)"}},
		"in, by price":       {ask(t, "Property", "ListingKey in ("+strings.Join(some, ",")+")"+lower, "ListPrice desc"), []string{keys + " AND key=?)"}},
		"or":                 {ask(t, "Property", "(ListingKey eq '000001' or ListingKey eq '000002' or '000003' eq ListingKey)"+lower, ""), []string{keys + " AND key=?)"}},
		"key":                {ask(t, "Property", "ListingKey eq '000001'"+lower, ""), []string{keys + " AND key=?)"}},
		"keys above":         {limited(ask(t, "Property", "ListingKey gt '000100'"+lower, "")), []string{keys + " AND key>?"}},
		"keys, descending":   {limited(ask(t, "Property", "ListingKey le '000300'"+lower, "ListingKey desc")), []string{keys + " AND key<?", keys + " AND key>? AND key<?"}},
		"of a parent":        {ask(t, "Media", "ResourceRecordKey eq '000007'"+lower, ""), []string{parents}},
		"of several parents": {ask(t, "Media", "ResourceRecordKey in ('000007','000008') and ResourceName eq 'Property'"+lower, ""), []string{parents, keys + " AND key=?)"}},
		"time, key above":    {limited(ask(t, "Property", "(ModificationTimestamp gt 2024-05-06T00:02:00Z or ModificationTimestamp eq 2024-05-06T00:02:00Z and ListingKey gt '000120')"+lower, "ModificationTimestamp,ListingKey")), []string{modified + "(modified_at,key)>(?,?)", modified + "modified_at>?"}},
		"time in each":       {limited(ask(t, "Property", "(City ne 'x' and ModificationTimestamp gt 2024-05-06T00:02:00Z or ModificationTimestamp gt 2024-05-06T00:03:00Z)"+lower, "ModificationTimestamp")), []string{modified + "(modified_at,key)>(?,?)", modified + "modified_at>?"}},
		"keys in each":       {ask(t, "Property", "(ListingKey eq '000001' and City ne 'x' or ListingKey in ('000002','000003') and City ne 'y')"+lower, ""), []string{keys + " AND key=?)"}},
		"keys above either":  {limited(ask(t, "Property", "(ListingKey gt '000100' or ListingKey ge '000200')"+lower, "")), []string{keys + " AND key>?"}},
		"parents in each":    {ask(t, "Media", "(ResourceRecordKey eq '000007' and ResourceName eq 'Property' or ResourceRecordKey eq '000008')"+lower, ""), []string{parents, keys + " AND key=?)"}},
		"expanded":           {many, []string{parents, keys + " AND key=?)"}},
		"all":                {limited(ask(t, "Property", "true eq true"+lower, "")), []string{keys}},
	}
}

// TestQueryPlans: what people replicate by is found by an index, and in its order.
func TestQueryPlans(t *testing.T) {
	t.Parallel()
	s := opened(t)
	populate(t, s, 400)
	seen := map[string]bool{}
	for name, c := range indexed(t) {
		if len(collect(t, s, c.Query)) == 0 {
			t.Errorf("%s: nothing found", name)
		}
		if _, err := s.Count(t.Context(), everyone, c.Query); err != nil {
			t.Error(err)
		}
		for _, text := range s.Statements() {
			if seen[text] || !strings.Contains(text, " records r ") || strings.HasPrefix(text, "EXPLAIN") {
				continue
			}
			seen[text] = true
			steps, err := s.Plan(text)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			plan := strings.ReplaceAll(strings.Join(steps, "\n"), "COVERING ", "")
			served := false
			for _, want := range c.steps {
				served = served || strings.Contains(plan, want)
			}
			if !served || strings.Contains(plan, "TEMP B-TREE") || strings.Contains(plan, "SCAN r\n") {
				t.Errorf("%s\n%s\n%s", name, text, plan)
			}
		}
	}
}

// TestQueryCost: a page looks at as many records in a store ten times as large, and not at many more than it
// yields.
func TestQueryCost(t *testing.T) {
	t.Parallel()
	looked := func(n int) map[string][2]int64 {
		s := opened(t)
		populate(t, s, n)
		var lowered atomic.Int64
		if err := s.OnLower(func() { lowered.Add(1) }); err != nil {
			t.Fatal(err)
		}
		found := map[string][2]int64{}
		for name, c := range indexed(t) {
			lowered.Store(0)
			read := len(collect(t, s, c.Query))
			found[name] = [2]int64{int64(read), lowered.Load()}
		}
		return found
	}
	small, large := looked(600), looked(6000)
	for name, got := range large {
		if got != small[name] {
			t.Errorf("%s: of 6000 records, %d are read by a look at %d; of 600, %d by %d", name, got[0], got[1], small[name][0], small[name][1])
		}
		if got[1] > 3*got[0]+16 {
			t.Errorf("%s: %d are read by a look at %d", name, got[0], got[1])
		}
	}
}

// TestQueryIsStopped: a filter that finds nothing ends with the context, after a few more rows.
func TestQueryIsStopped(t *testing.T) {
	t.Parallel()
	s := opened(t)
	populate(t, s, 3000)
	why := errors.New("enough")
	for _, orderBy := range []string{"", "ListPrice", "ModificationTimestamp"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		var looked atomic.Int64
		if err := s.OnLower(func() {
			if looked.Add(1) == 700 {
				cancel(why)
			}
		}); err != nil {
			t.Fatal(err)
		}
		q := ask(t, "Property", "tolower(City) eq 'nowhere'", orderBy)
		for _, err := range s.Read(ctx, everyone, q) {
			if !errors.Is(err, why) {
				t.Errorf("by %q: %v", orderBy, err)
			}
		}
		if looked.Load() < 700 || looked.Load() > 1000 {
			t.Errorf("by %q: a look at %d", orderBy, looked.Load())
		}
		cancel(nil)
	}
}

// TestStatementsAreBounded: callers think up filters without end.
func TestStatementsAreBounded(t *testing.T) {
	t.Parallel()
	s := opened(t)
	populate(t, s, 10)
	long := strings.Repeat(" and City ne ListingKey", 300)
	for i := range 120 {
		filter := "City ne 'a'" + strings.Repeat(" and City ne ListingKey", i)
		if i%20 == 0 {
			filter += long
		}
		if got := len(collect(t, s, ask(t, "Property", filter, ""))); got != 10 {
			t.Fatalf("%d records", got)
		}
		bytes := 0
		statements := s.Statements()
		for _, text := range statements {
			bytes += len(text)
		}
		if len(statements) > 150 || bytes > 512<<10 {
			t.Fatalf("after %d filters %d statements of %d bytes are kept", i, len(statements), bytes)
		}
	}
}

// TestLargeFilters: broad and deep ones are answered, and what is beyond all measure is refused.
// A parameter whose value SQLite looks at while it plans, as it does in LIMIT ?, has the statement planned again each
// time it is bound.
func TestStatementsAreParsedOnce(t *testing.T) {
	t.Parallel()
	s := opened(t)
	populate(t, s, 300)
	found := 0
	if err := s.OnParse(func() { found++ }); err != nil {
		t.Fatal(err)
	}
	again := func(name string, run func(n int)) {
		t.Helper()
		run(0)
		first := found
		if run(1); first == 0 || found > first {
			t.Errorf("%s: parsed %d times, and then %d times more", name, first, found-first)
		}
	}
	for _, query := range sqlite.HotQueries() {
		again(query, func(n int) {
			if err := s.RunHot(query, n); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
		})
	}
	for name, q := range indexed(t) {
		again(name, func(n int) {
			q.Query.Limit = 10 + n
			collect(t, s, q.Query)
		})
	}
	again("events", func(n int) {
		if _, err := s.Events(t.Context(), everyone, entityevent.EventQuery{After: entityevent.Sequence(n), Limit: 5 + n}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLargeFilters(t *testing.T) {
	t.Parallel()
	s := opened(t)
	populate(t, s, 20)
	values := make([]string, 20_000)
	for i := range values {
		values[i] = fmt.Sprint(i * 2)
	}
	for name, filter := range map[string]string{
		"or":          strings.Repeat("City eq 'x' or ListPrice gt 1000 or ", 800) + "ListPrice lt 10",
		"and":         strings.Repeat("City ne 'x' and ListPrice lt 1000 and ", 800) + "ListPrice lt 10",
		"in":          "ListPrice in (" + strings.Join(values, ",") + ")",
		"parentheses": strings.Repeat("(City ne 'x' and (ListPrice lt 0 or ", 45) + "ListPrice lt 10" + strings.Repeat("))", 45),
		"not":         strings.Repeat("not (City eq 'x' or ", 48) + "ListPrice lt 10" + strings.Repeat(")", 48),
		"functions":   strings.Repeat("tolower(", 90) + "ListingKey" + strings.Repeat(")", 90) + " lt '00001'",
		"truth":       strings.Repeat("(", 90) + "(ListPrice lt 10)" + strings.Repeat(" eq true)", 90),
	} {
		if got := len(collect(t, s, ask(t, "Property", filter, ""))); got != 10 {
			t.Errorf("%s: %d records", name, got)
		}
	}
	var deep odata.Expr = odata.Literal{Kind: odata.Bool, Text: "true"}
	var broad odata.Disjunction
	for i := range 40_000 {
		if i < 1000 {
			deep = odata.Negation{Term: deep}
		}
		broad = append(broad, odata.Comparison{Left: odata.Field{Path: "City", Of: odata.Type{Kind: odata.String}}, Op: odata.Ne, Right: odata.Literal{Kind: odata.String, Text: fmt.Sprint(i)}})
	}
	city := odata.Field{Path: `Ci"ty`, Of: odata.Type{Kind: odata.String}}
	for name, e := range map[string]odata.Expr{
		"deep": deep, "broad": broad, "now": odata.Comparison{Left: odata.Field{Path: "A", Of: odata.Type{Kind: odata.DateTimeOffset}}, Op: odata.Gt, Right: odata.Now{}},
		"name": odata.Comparison{Left: city, Op: odata.Eq, Right: odata.Literal{Kind: odata.String, Text: "x"}},
	} {
		q := entityevent.Query{Resource: "Property", Filter: e}
		for _, err := range s.Read(t.Context(), everyone, q) {
			if !errors.Is(err, entityevent.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := s.Count(t.Context(), everyone, q); !errors.Is(err, entityevent.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	q := ask(t, "Property", "", "City")
	q.From = &entityevent.Place{Key: "1"}
	for _, err := range s.Read(t.Context(), everyone, q) {
		if !errors.Is(err, entityevent.ErrInvalid) {
			t.Errorf("a place of another order: %v", err)
		}
	}
}

// TestFilterMeetsDamage: a body that is no JSON is damage, and not a fault of the filter.
func TestFilterMeetsDamage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, sqlite.Options{})
	populate(t, s, 20)
	run(t, raw(t, path), `UPDATE records SET body = '{"City":}' WHERE key = '000007'`)
	_, err := s.Count(t.Context(), everyone, ask(t, "Property", "City eq 'x'", ""))
	var u *sqlite.UnavailableError
	if !errors.As(err, &u) || !u.Damaged {
		t.Errorf("%v", err)
	}
}

// TestNothingOfAFilterIsInAStatement: values and names are bound.
func TestNothingOfAFilterIsInAStatement(t *testing.T) {
	t.Parallel()
	s := opened(t)
	populate(t, s, 3)
	q := ask(t, "Property", "City eq 'secret1' or contains(City,'secret2') or ListPrice in (4711,4712) or startswith(tolower(City),'secret3') or ListingKey gt 'secret4'", "City,ListPrice")
	q.Keys, q.After = []string{"000001", "secret5"}, "0000"
	q.Parents = []entityevent.Ref{{Resource: "secret6", Key: "secret7"}}
	place := q.PlaceOf(entityevent.Record{Ref: entityevent.Ref{Key: "secret8"}, Body: json.RawMessage(`{"City":"secret9"}`)})
	q.From = &place
	collect(t, s, q)
	for _, text := range s.Statements() {
		for _, word := range []string{"secret", "47", "City", "ListPrice", "Property"} {
			if strings.Contains(text, word) {
				t.Errorf("%s is in %s", word, text)
			}
		}
	}
}
