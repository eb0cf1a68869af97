package odata_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/odata/odatatest"
)

// wantRefusal is what a reader may refuse with: one of these statuses, a sentence, and no more text than the
// other side sent.
func wantRefusal(t *testing.T, in string, err error, statuses ...int) {
	t.Helper()
	var refusal *odata.Error
	if !errors.As(err, &refusal) {
		t.Fatalf("error %v", err)
	}
	ok := false
	for _, s := range statuses {
		ok = ok || refusal.Status == s
	}
	if !ok || refusal.Message == "" || len(refusal.Message) > 200+6*len(in) {
		t.Fatalf("status %d, %d bytes: %.100s", refusal.Status, len(refusal.Message), refusal.Message)
	}
}

// FuzzParseFilter: what is read, with and without a scope, is printed and read back as the same, and is
// answered for any record.
func FuzzParseFilter(f *testing.F) {
	for _, seed := range []string{
		"EntityEventSequence gt 100 and ResourceName eq 'Property'", "K in ('a','b')", "not (A eq null or B le 1.5)",
		"K eq 'O''Neil'", "A eq 2026-01-01T00:00:00Z", "((((", "'' eq ''", "a eq b eq c", "not not A eq 1", "K in (1,'2',null)",
		"Appliances/any(a:a eq 'X' or tolower(a) eq 'y')", "Status has Status'Active'", "Uses has org.reso.test.Uses'A,B'", "(PoolYN eq true) eq contains(City,'x')",
		"now() gt ModificationTimestamp", "Address/City eq 'x'", "true", "1 eq 1", "a/any()", "Status'Active' eq Status'Pending'", "Status'Active' in (null)", "Opened/all(o:o lt now())",
	} {
		f.Add(seed, `{"City":"x","Appliances":["X"],"Status":"Active"}`)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text, record string) {
		for _, scope := range []odata.Scope{nil, odatatest.Scope()} {
			e, err := odata.ParseFilter(text, scope)
			if err != nil {
				wantRefusal(t, text, err, 400)
				continue
			}
			again, err := odata.ParseFilter(e.String(), scope)
			if err != nil {
				t.Fatalf("%q printed as %q, which is refused: %v", text, e, err)
			}
			if e.String() != again.String() || !reflect.DeepEqual(e, again) {
				t.Fatalf("%q printed as %q, then as %q", text, e, again)
			}
			at := odata.At(e, now)
			if fixed, err := odata.ParseFilter(at.String(), scope); err != nil || !reflect.DeepEqual(at, fixed) {
				t.Fatalf("%q at a time is %q, read as %v, %v", text, at, fixed, err)
			}
			odata.Holds(at, func(string) []byte { return []byte(record) }) // also what is no JSON
			if json.Valid([]byte(record)) && strings.HasPrefix(record, "{") {
				odata.Holds(at, odatatest.Member([]byte(record)))
			}
		}
	})
}

// FuzzParseInstant: what time.Parse reads as RFC 3339 is the same instant, and no more is read, but for letters
// in lower case. It is laxer: 1:00, a comma, an offset of 24:60.
func FuzzParseInstant(f *testing.F) {
	for _, seed := range []string{
		"2024-05-06T10:00:00Z", "2024-05-06T10:00:00.5000009+02:00", "0000-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999999-23:59", "1969-12-31T23:59:59.000001Z",
		"2024-02-29T00:00:00Z", "2023-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "2024-05-06T24:00:00Z", "2024-05-06T10:00:60Z", "2024-05-06T10:00:00,5Z",
		"2024-05-06T1:00:00Z", "2024-05-06T10:00:00.Z", "2024-05-06t10:00:00z", "2024-05-06 10:00:00Z", "2024-05-06T10:00:00+0200", "2024-05-06T10:00:00+24:00", "2024-13-01T00:00:00Z",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := odata.ParseInstant(text)
		want, err := time.Parse(time.RFC3339Nano, strings.ToUpper(text))
		switch strict := len(text) >= 20 && text[13] == ':' && !strings.Contains(text, ",") && (!strings.HasSuffix(text[:len(text)-2], ":") || text[len(text)-5:] < "24" && text[len(text)-2:] < "60"); {
		case ok != (err == nil && strict):
			t.Fatalf("%q: %v, %v", text, ok, err)
		case ok && want.UnixMicro() != got:
			t.Fatalf("%q: %d, want %d", text, got, want.UnixMicro())
		}
	})
}

func FuzzParsePath(f *testing.F) {
	for _, seed := range []string{"/Property('a//b')", "/Property(%27O%27%27Neil%27)/Media", "/EntityEvent(7)", "/Property(A='b')", "''/('", "/a/(b)/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := odata.ParsePath(text)
		if err != nil {
			wantRefusal(t, text, err, 400, 404)
			return
		}
		if p.Key == nil {
			return
		}
		segment := odata.KeySegment(p.Resource, *p.Key, p.KeyQuoted)
		if _, err := url.Parse("http://h/" + segment); err != nil {
			t.Fatalf("%q: %v", segment, err)
		}
		again, err := odata.ParsePath("/" + segment)
		if err != nil || again.Key == nil || *again.Key != *p.Key || again.Resource != p.Resource {
			t.Fatalf("%q: written as %q, read as %v, %v", text, segment, again, err)
		}
	})
}

// FuzzKeySegment: every key is read back from the URL that is made of it, by this reader and by net/url.
func FuzzKeySegment(f *testing.F) {
	for _, seed := range []string{"O'Neil", "007", "a b", "x/../y", "100%", "#1?", "ключ", "','", "", "\x00", "..", "a;b=c&d+e"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if !utf8.ValidString(key) {
			return
		}
		segment := odata.KeySegment("Property", key, true)
		if strings.ContainsAny(segment, " /?#\"<>\\&;") {
			t.Fatalf("%q is written as %q", key, segment)
		}
		u, err := url.Parse("http://h/odata/" + segment + "/Media?x=1")
		if err != nil {
			t.Fatal(err)
		}
		p, err := odata.ParsePath(strings.TrimPrefix(u.EscapedPath(), "/odata"))
		if err != nil || p.Key == nil || *p.Key != key || !p.KeyQuoted || len(p.Rest) != 1 || p.Rest[0] != "Media" {
			t.Fatalf("%q is written as %q and read as %+v, %v", key, segment, p, err)
		}
		text := odata.In("K", []string{key, "'" + key}, true)
		e, err := odata.ParseFilter(text, nil)
		if m, ok := e.(odata.Membership); err != nil || !ok || len(m.Values) != 2 || m.Values[0].Text != key || m.Values[1].Text != "'"+key {
			t.Fatalf("%q is written as %q and read as %v, %v", key, text, e, err)
		}
		if back, err := url.QueryUnescape(odata.EscapeQuery(text)); err != nil || back != text {
			t.Fatalf("%q is escaped as %q, %v", text, odata.EscapeQuery(text), err)
		}
	})
}

func FuzzParseOptions(f *testing.F) {
	for _, seed := range []string{
		"$filter=A+eq+'b%26c'&$select=A,B&$orderby=A+desc,B&$top=5&$skip=2&$count=true", "last_event=9007199254740993&$format=json",
		"$skiptoken=%ff&x=%zz", "$top=9223372036854775808", "%24TOP=1&$top=1", "$select=*", "$expand=Media", "&&==&", "$filter=" + strings.Repeat("(", 101),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		o, err := odata.ParseOptions(query)
		if err != nil {
			wantRefusal(t, query, err, 400, 501)
			return
		}
		if o.Skip < 0 || o.Top != nil && *o.Top < 0 || o.LastEvent != nil && *o.LastEvent < 0 {
			t.Fatalf("negative: %+v", o)
		}
		again, err := odata.ParseOptions(written(o))
		if err != nil || !reflect.DeepEqual(o, again) {
			t.Fatalf("%q: %+v is written as %q and read as %+v, %v", query, o, written(o), again, err)
		}
	})
}

// written is a query that says the same.
func written(o odata.Options) string {
	var parts []string
	add := func(name, value string) { parts = append(parts, name+"="+url.QueryEscape(value)) }
	for name, text := range map[string]*string{"$filter": o.Filter, "$select": o.Select, "$orderby": o.OrderBy, "$expand": o.Expand} {
		if text != nil {
			add(name, *text)
		}
	}
	for name, n := range map[string]*int64{"$top": o.Top, "last_event": o.LastEvent, "$skip": &o.Skip} {
		if n != nil {
			add(name, fmt.Sprint(*n))
		}
	}
	add("$count", fmt.Sprint(o.Count))
	if o.Format != "" {
		add("$format", o.Format)
	}
	if o.SkipToken != nil {
		add("$skiptoken", *o.SkipToken)
	}
	return strings.Join(parts, "&")
}

// TestHostileText is read in a time that grows with its length alone.
func TestHostileText(t *testing.T) {
	const many = 200_000
	for _, text := range []string{
		strings.Repeat("(", many), strings.Repeat("not ", many) + "A eq 1", "K in (" + strings.Repeat("'',", many), strings.Repeat("'", many),
		"A eq '" + strings.Repeat("''", many), strings.Repeat("A", many) + " eq 1", "A eq " + strings.Repeat("9", many), strings.Repeat("A/", many) + "A eq 1",
		"A eq 1." + strings.Repeat("0", many) + "x", strings.Repeat("\xff", many), strings.Repeat("é", many), strings.Repeat("(A eq 1)or", many),
		strings.Repeat("tolower(", many), strings.Repeat("A/any(a:", many), "A/any(" + strings.Repeat("a", many), strings.Repeat("A/any(a:a eq 1)and ", many/10) + "A",
		strings.Repeat("A eq 1 and not (B or ", 99) + "C" + strings.Repeat(")", 99), strings.Repeat("A'", many), strings.Repeat("A'' eq ", many),
	} {
		if e, err := odata.ParseFilter(text, nil); err != nil {
			wantRefusal(t, text, err, 400, 501)
		} else if again, err := odata.ParseFilter(e.String(), nil); err != nil || again.String() != e.String() {
			t.Errorf("%.20s…: %v", text, err)
		}
	}
	long := "K in (" + strings.Repeat("'',", many) + "'')"
	if e, err := odata.ParseFilter(long, nil); err != nil || len(e.(odata.Membership).Values) != many+1 {
		t.Errorf("many keys: %v", err)
	}
	for _, text := range []string{
		strings.Repeat("A,", many) + "A", strings.Repeat("A/", many), strings.Repeat("Media(", many), "Media(" + strings.Repeat("()", many), "Media(" + strings.Repeat("a=(", many),
		"Media($expand=" + strings.Repeat("Media($expand=", many), "Media(" + strings.Repeat(";", many) + ")", "Media($filter=" + strings.Repeat("''", many) + ")", strings.Repeat("A desc", many),
	} {
		if _, err := odata.ParseSelect(text, nil); err != nil {
			wantRefusal(t, text, err, 400)
		}
		if _, err := odata.ParseOrderBy(text, nil); err != nil {
			wantRefusal(t, text, err, 400)
		}
		if _, err := odata.ParseExpand(text, known); err != nil {
			wantRefusal(t, text, err, 400)
		}
	}
	for _, text := range []string{
		strings.Repeat("/", many), strings.Repeat("/a", many), "/P(" + strings.Repeat("'", many), "/P('" + strings.Repeat("''", many) + "')",
		"/P(" + strings.Repeat("(", many), strings.Repeat("%2", many), strings.Repeat("%27/", many),
	} {
		if _, err := odata.ParsePath(text); err != nil {
			wantRefusal(t, text, err, 400, 404)
		}
	}
}
