package odata_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent/odata"
	"github.com/resosync/resosync/entityevent/odata/odatatest"
)

func TestParseOptionsRefuses(t *testing.T) {
	for query, want := range map[string]struct {
		status          int
		target, message string
	}{
		"$wings=1":          {400, "$wings", `There is no option "$wings"`},
		"$top=-1":           {400, "$top", "$top is a whole number, 0 or more"},
		"$TOP=1&%24top=2":   {400, "$top", "$top stands twice"},
		"$skip=1e3":         {400, "$skip", "$skip is a whole number, 0 or more"},
		"$count=1":          {400, "$count", "$count is true or false"},
		"$filter=":          {400, "$filter", "$filter is empty"},
		"$select=+":         {400, "$select", "$select is empty"},
		"$orderby":          {400, "$orderby", "$orderby is empty"},
		"$expand=":          {400, "$expand", "$expand is empty"},
		"$format=":          {400, "$format", "$format is empty"},
		"$search=x":         {501, "$search", "The option $search is not offered"},
		"$apply=x":          {501, "$apply", "The option $apply is not offered"},
		"$Compute=x":        {501, "$compute", "The option $compute is not offered"},
		"$levels=2":         {501, "$levels", "The option $levels is not offered"},
		"$deltatoken=2":     {501, "$deltatoken", "The option $deltatoken is not offered"},
		"last_event=-1":     {400, "last_event", "last_event is a whole number, 0 or more"},
		"$filter=100%":      {400, "$filter", "$filter is not percent-encoded"},
		"%=1":               {400, "", "The query is not percent-encoded"},
		"$search=x&$wings=": {501, "$search", "The option $search is not offered"},
	} {
		o, err := odata.ParseOptions(query)
		checkError(t, query, o, err, want.status, want.target, want.message)
	}
	if o, err := odata.ParseOptions("top=1&filter=x&select&orderby=%zz&=&Wings=1&&"); err != nil || !cmp.Equal(o, odata.Options{}) {
		t.Errorf("without $: %+v, %v", o, err)
	}
}

func TestParseSelect(t *testing.T) {
	for text, want := range map[string][]string{
		"City": {"City"}, " City ,Beds,City": {"City", "Beds"}, "*": nil, "City, *": nil, "Address/City,Appliances,Address": {"Address/City", "Appliances", "Address"}, "Straße": {"Straße"},
	} {
		if got, err := odata.ParseSelect(text, odatatest.Scope()); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"City,Nope": `There is no field "Nope" at position 5`, "*,nope": `There is no field "nope" at position 2`, "City,": "Unexpected end at position 5", ",City": `Unexpected "," at position 0`,
		"City Beds": `Unexpected "Beds" at position 5`, "City;Beds": `Unexpected "City;Beds" at position 0`, "Address/Nope": `There is no field "Address/Nope" at position 0`,
		"tolower(City)": `There is no field "tolower" at position 0`, "'City'": `Unexpected "'" at position 0`, "1": `Unexpected "1" at position 0`,
	} {
		got, err := odata.ParseSelect(text, odatatest.Scope())
		checkError(t, text, got, err, 400, "$select", want)
	}
}

func TestParseOrderBy(t *testing.T) {
	for text, want := range map[string]string{
		"City": "City", "City asc,Beds desc": "City,Beds desc", " City  DESC ,\tBeds ASC": "City desc,Beds", "Beds desc,Beds,City": "Beds desc,City",
		"Address/Place/Height desc": "Address/Place/Height desc", "Odd": "Odd", "Status,Id,PoolYN desc,CloseDate": "Status,Id,PoolYN desc,CloseDate",
	} {
		orders, err := odata.ParseOrderBy(text, odatatest.Scope())
		var got []string
		for _, o := range orders {
			got = append(got, o.Field.Path+map[bool]string{true: " desc"}[o.Desc])
		}
		if err != nil || strings.Join(got, ",") != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"City,Nope desc": `There is no field "Nope" at position 5`, "City up": `Unexpected "up" at position 5`, "City asc x": `Unexpected "x" at position 9`, "City,,Beds": `Unexpected "," at position 5`,
		"Appliances": "Appliances is Collection(Edm.String), which has no order at position 0", "City,Address desc": "Address is Edm.ComplexType, which has no order at position 5",
		"Start": "Start is Edm.TimeOfDay, which has no order at position 0", "tolower(City)": `There is no field "tolower" at position 0`,
	} {
		got, err := odata.ParseOrderBy(text, odatatest.Scope())
		checkError(t, text, got, err, 400, "$orderby", want)
	}
}

func known(name string) bool { return name == "Media" || name == "ListAgent" }

func TestParseExpand(t *testing.T) {
	text := "Media($select=MediaKey,Order;$filter=contains(A,');') or B in ('x','y;') or C eq ';';$orderby=Order desc;$top=3;$SKIP=1;$count=true;" +
		"$expand=Member($top=1;$select=A),Office) , ListAgent"
	expands, err := odata.ParseExpand(text, known)
	if err != nil {
		t.Fatal(err)
	}
	fields, filter, order, expand, top := "MediaKey,Order", "contains(A,');') or B in ('x','y;') or C eq ';'", "Order desc", "Member($top=1;$select=A),Office", int64(3)
	want := []odata.Expand{
		{Name: "Media", Options: odata.Options{Select: &fields, Filter: &filter, OrderBy: &order, Top: &top, Skip: 1, Count: true, Expand: &expand}},
		{Name: "ListAgent"},
	}
	if d := cmp.Diff(want, expands); d != "" {
		t.Error(d)
	}
	inner, err := odata.ParseExpand(*expands[0].Options.Expand, func(string) bool { return true })
	if err != nil || len(inner) != 2 || inner[0].Name != "Member" || *inner[0].Options.Top != 1 || inner[1].Name != "Office" {
		t.Errorf("%+v, %v", inner, err)
	}
	if got, err := odata.ParseExpand("Media()", known); err != nil || !cmp.Equal(got, []odata.Expand{{Name: "Media"}}) {
		t.Errorf("%+v, %v", got, err)
	}
	for text, want := range map[string]string{
		"*": "* is not offered: name what to expand, at position 0", "Media,*": "* is not offered: name what to expand, at position 6",
		"Nope": `There is nothing to expand called "Nope" at position 0`, "Media,Nope($top=1)": `There is nothing to expand called "Nope" at position 6`,
		"Media/$count": `"Media/$count" is not offered: write Media($count=true), at position 0`, "Media/$ref": `"Media/$ref" is not offered: write Media($expand=…), at position 0`,
		"Media/Member": `"Media/Member" is not offered: write Media($expand=…), at position 0`, "Media,Media": "Media stands twice at position 6", "Media,": "Unexpected end at position 6",
		"Media($top=1": "A parenthesis without an end at position 5", "Media($filter=a eq ')": "A parenthesis without an end at position 5", "Media)": `Unexpected ")" at position 5`,
		"Media ListAgent": `Unexpected "ListAgent" at position 6`, "'Media'": `Unexpected "'" at position 0`,
		"Media($top=x)": "In $top of $expand=Media: $top is a whole number, 0 or more", "Media($wings=1)": `In $wings of $expand=Media: There is no option "$wings"`,
		"Media(select=A)": `In select of $expand=Media: There is no option "select"`, "Media($top=1;$top=2)": "In $top of $expand=Media: $top stands twice",
		"Media($format=json)": "In $format of $expand=Media: $format is no option of $expand", "Media($skiptoken=1)": "In $skiptoken of $expand=Media: $skiptoken is no option of $expand",
		"Media(last_event=1)": "In last_event of $expand=Media: last_event is no option of $expand", "Media($select=)": "In $select of $expand=Media: $select is empty",
	} {
		got, err := odata.ParseExpand(text, known)
		checkError(t, text, got, err, 400, "$expand", want)
	}
	for _, option := range []string{"$levels=2", "$search=x", "$compute=x", "$apply=x"} {
		var refusal *odata.Error
		if got, err := odata.ParseExpand("Media("+option+")", known); !errors.As(err, &refusal) || refusal.Status != 501 {
			t.Errorf("%s: read as %v, error %v", option, got, err)
		}
	}
	_, err = odata.ParseFilter("Nope eq 1", odatatest.Scope())
	checkError(t, "within", nil, expands[0].Within(err), 400, "$expand", `In $filter of $expand=Media: There is no field "Nope" at position 0`)
	if other := errors.New("x"); !errors.Is(expands[0].Within(other), other) {
		t.Error("another error is changed")
	}
}

// FuzzParseFields: lists of names are read, with and without a scope, or refused.
func FuzzParseFields(f *testing.F) {
	for _, seed := range []string{"City,Beds desc", "Media($top=1;$filter=a eq 'x');ListAgent", "*", "a/b asc,c", "Media(($$;';')", "Media($expand=Media($expand=Media))", ",,", "Straße DESC"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, scope := range []odata.Scope{nil, odatatest.Scope()} {
			if fields, err := odata.ParseSelect(text, scope); err != nil {
				wantRefusal(t, text, err, 400)
			} else if again, err := odata.ParseSelect(strings.Join(fields, ","), scope); fields != nil && (err != nil || !cmp.Equal(fields, again)) {
				t.Fatalf("%q is read as %q, then %q, %v", text, fields, again, err)
			}
			if _, err := odata.ParseOrderBy(text, scope); err != nil {
				wantRefusal(t, text, err, 400)
			}
		}
		expands, err := odata.ParseExpand(text, known)
		if err != nil {
			wantRefusal(t, text, err, 400, 501)
		}
		for _, e := range expands {
			if !known(e.Name) || e.Options.Format != "" || e.Options.SkipToken != nil || e.Options.LastEvent != nil {
				t.Fatalf("%q is read as %+v", text, e)
			}
			// The options between parentheses mean what those of a query mean.
			query, err := odata.ParseOptions(written(e.Options))
			if err != nil || !cmp.Equal(query, e.Options) {
				t.Fatalf("%q: %+v is written as %q and read as %+v, %v", text, e.Options, written(e.Options), query, err)
			}
		}
	})
}
