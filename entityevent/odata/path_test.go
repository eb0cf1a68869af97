package odata_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent/odata"
)

func TestParsePath(t *testing.T) {
	quoted := func(resource, key string, rest ...string) odata.Path {
		return odata.Path{Resource: resource, Key: &key, KeyQuoted: true, Rest: rest}
	}
	bare := func(resource, key string) odata.Path { return odata.Path{Resource: resource, Key: &key} }
	named := quoted("Property", "k")
	named.KeyName = "ListingKey"
	for text, want := range map[string]odata.Path{
		"":                                {},
		"/":                               {},
		"/$metadata":                      {Resource: "$metadata"},
		"/%24metadata":                    {Resource: "$metadata"},
		"Property":                        {Resource: "Property"},
		"/Property/":                      {Resource: "Property"},
		"/Property/$count":                {Resource: "Property", Rest: []string{"$count"}},
		"/Property('a')":                  quoted("Property", "a"),
		"/Property('a')/":                 quoted("Property", "a"),
		"/Property%28%27a%27%29":          quoted("Property", "a"),
		"/Property('a//b')":               quoted("Property", "a//b"),
		"/Property('a/../b')":             quoted("Property", "a/../b"),
		"/Property('a%2Fb')":              quoted("Property", "a/b"),
		"/Property('a%252Fb')":            quoted("Property", "a%2Fb"),
		"/Property('/')":                  quoted("Property", "/"),
		"/Property('O''Neil')":            quoted("Property", "O'Neil"),
		"/Property(%27O%27%27Neil%27)":    quoted("Property", "O'Neil"),
		"/Property('')":                   quoted("Property", ""),
		"/Property('%D0%BA%20%23%3F')":    quoted("Property", "к #?"),
		"/Property('a)b(c')":              quoted("Property", "a)b(c"),
		"/Property('a+b')":                quoted("Property", "a+b"),
		"/Property('k')/Media":            quoted("Property", "k", "Media"),
		"/Property('k/l')/Media('m/n')/X": quoted("Property", "k/l", "Media('m/n')", "X"),
		"/EntityEvent(7)":                 bare("EntityEvent", "7"),
		"/EntityEvent('7')":               quoted("EntityEvent", "7"),
		"/Property(ListingKey='k')":       named,
	} {
		got, err := odata.ParsePath(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
	for text, status := range map[string]int{
		"//Property": 404, "/Property//": 404, "//": 404,
		"/Property('a": 400, "/Property('a'": 400, "/Property(a": 400, "/Property()": 400, "/Property('a'b')": 400,
		"/Property('a')x": 400, "/Property'a'": 400, "/Property(1,2)": 400, "/Property('%ff')": 400, "/%zz": 400,
		"/Property('O'Neil')": 400,
	} {
		var refusal *odata.Error
		if got, err := odata.ParsePath(text); !errors.As(err, &refusal) || refusal.Status != status {
			t.Errorf("%s: read as %v, error %v", text, got, err)
		}
	}
}

func TestKeySegmentReadsBack(t *testing.T) {
	if got, want := odata.KeySegment("Property", "O'Neil 100%/#?é", true), "Property('O''Neil%20100%25%2F%23%3F%C3%A9')"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := odata.KeySegment("EntityEvent", "7", false), "EntityEvent(7)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := odata.EscapeQuery("K in ('a b','c&d','+')"), "K%20in%20('a%20b','c%26d','%2B')"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseOptions(t *testing.T) {
	o, err := odata.ParseOptions("$select=A,%20B&%24orderby=A+desc,B&$TOP=5&$skip=2&$count=TRUE&$format=json&$skiptoken=0.x%20&other=1;2&last_event=9007199254740993&$filter=A+eq+'b%26c'")
	if err != nil {
		t.Fatal(err)
	}
	top, last, token := int64(5), int64(9007199254740993), "0.x "
	filter, fields, order := "A eq 'b&c'", "A, B", "A desc,B"
	want := odata.Options{
		Filter: &filter, Select: &fields, OrderBy: &order,
		Top: &top, Skip: 2, Count: true, Format: "json", SkipToken: &token, LastEvent: &last,
	}
	if d := cmp.Diff(want, o); d != "" {
		t.Error(d)
	}
	for query, status := range map[string]int{
		"$top=-1": 400, "$top=x": 400, "$top=": 400, "$top=1&$top=2": 400, "$skip=1.5": 400, "$count=yes": 400, "$foo=1": 400,
		"$select=": 400, "$orderby=": 400, "$filter=": 400, "$expand=": 400,
		"$filter=%zz": 400, "%zz=1": 400, "last_event=x": 400, "$format=": 400, "$": 400, "$top=9223372036854775808": 400,
		"$search=a": 501, "$apply=a": 501, "$compute=a": 501,
	} {
		var refusal *odata.Error
		if got, err := odata.ParseOptions(query); !errors.As(err, &refusal) || refusal.Status != status {
			t.Errorf("%s: read as %v, error %v", query, got, err)
		}
	}
}
