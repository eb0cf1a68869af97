package producer_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

func TestRecordIsServedAsItIsStored(t *testing.T) {
	s := inferred(t)
	body := `{"B":1.50,"ListingKey":"k","A":"é \u00e9 <b> /","N":9007199254740993,"E":1e2,"L":[1,{"x":null}]}`
	s.put("Property", "k", body)
	a := s.get("/Property('k')")
	tag := a.header.Get("ETag")
	prefix := `{"@odata.context":"` + root + `/$metadata#Property/$entity","@odata.id":"` + root + `/Property('k')","@odata.etag":"W/\"`
	if !strings.HasPrefix(a.want(t, 200), prefix) || !strings.HasSuffix(a.body, `",`+body[1:]) {
		t.Errorf("%s", a.body)
	}
	if got := entityevent.StringMember([]byte(a.body), "@odata.etag"); got != tag || !strings.HasPrefix(tag, `W/"`) {
		t.Errorf("ETag %s, @odata.etag %s", tag, got)
	}
	tagged := `{"@odata.etag":` + strconv.Quote(tag) + `,` + body[1:]
	if got := s.get("/Property").want(t, 200); got != `{"@odata.context":"`+root+`/$metadata#Property","value":[`+tagged+`]}` {
		t.Errorf("%s", got)
	}
	if got := s.get("/Property('k')?$select=A,N").want(t, 200); !strings.HasSuffix(got, `","A":"é \u00e9 <b> /","N":9007199254740993}`) ||
		!strings.Contains(got, "$metadata#Property(A,N)/$entity") {
		t.Errorf("%s", got)
	}
	if got := s.get("/Property('k')?$select=ModificationTimestamp").want(t, 200); !strings.HasSuffix(got, `"}`) || !json.Valid([]byte(got)) {
		t.Errorf("%s", got)
	}
	if got := s.get("/Property?$select=B,ListingKey").want(t, 200); !strings.HasSuffix(got, `,"B":1.50,"ListingKey":"k"}]}`) {
		t.Errorf("%s", got)
	}
	if got := s.get("/Property?$select=B").want(t, 200); !strings.HasSuffix(got, `[{"@odata.id":"`+root+`/Property('k')","@odata.etag":`+strconv.Quote(tag)+`,"B":1.50}]}`) {
		t.Errorf("%s", got)
	}
	if a := s.get("/Property('k')", `If-Match: W/"00"`); a.status != 412 || a.header.Get("ETag") != "" {
		t.Errorf("If-Match: %d %s", a.status, a.body)
	}
	s.get("/Property('k')", "If-Match: "+tag).want(t, 200)
	s.get("/Property('k')?$expand=Media", "If-None-Match: "+tag).want(t, 200) // of Media the tag says nothing
	if a := s.get("/Property('k')", "If-None-Match: "+tag); a.status != 304 || a.body != "" {
		t.Errorf("If-None-Match: %d %s", a.status, a.body)
	}
	s.get("/Property('k')", `If-None-Match: W/"00"`).want(t, 200)
	s.put("Media", "e", `{}`)
	if got := s.get("/Media('e')").want(t, 200); !json.Valid([]byte(got)) {
		t.Errorf("%s", got)
	}
	for _, target := range []string{"/Property('absent')", "/Property('K')", "/Media('k')", "/Nothing('k')"} {
		a := s.get(target)
		a.want(t, 404)
		checkError(t, a)
	}
	s.do("DELETE", "/Property('k')", "").want(t, 204)
	s.get("/Property('k')").want(t, 404)
	if got := s.get("/Property").page(t); len(got.Value) != 0 {
		t.Errorf("a gone record is served: %v", got.Value)
	}
}

func TestRecordFilters(t *testing.T) {
	s := inferred(t)
	s.putMany("Property", "ListingKey", "a", "b", "c", "O'Neil", "x,y", "10", "9")
	for i := range 3 {
		s.put("OpenHouse", strconv.Itoa(i), fmt.Sprintf(`{"OpenHouseKey":%d}`, i))
	}
	for target, want := range map[string]string{
		"/Property":                           "10 9 O'Neil a b c x,y",
		"/Property?$orderby=ListingKey":       "10 9 O'Neil a b c x,y",
		"/Property?$orderby=ListingKey asc":   "10 9 O'Neil a b c x,y",
		"/Property?$filter=ListingKey eq 'a'": "a", "/Property?$filter='a' eq ListingKey": "a",
		"/Property?$filter=ListingKey in ('c','a','nope','a')":                  "a c",
		"/Property?$filter=ListingKey in ('O''Neil','x,y')":                     "O'Neil x,y",
		"/Property?$filter=ListingKey in (%27O%27%27Neil%27)":                   "O'Neil",
		"/Property?$filter=ListingKey eq 'a' or ListingKey eq 'b'":              "a b",
		"/Property?$filter=ListingKey eq 'a' OR ListingKey in ('b','c')":        "a b c",
		"/Property?$filter=ListingKey gt 'a'":                                   "b c x,y",
		"/Property?$filter=ListingKey gt 'a' and ListingKey gt 'b'":             "c x,y",
		"/Property?$filter=ListingKey in ('a','b','c') and ListingKey gt 'a'":   "b c",
		"/Property?$filter=ListingKey in ('a','b') and ListingKey in ('b','c')": "b",
		"/Property?$filter=ListingKey eq 'a' and ListingKey eq 'b'":             "",
		"/Property?$filter=ListingKey eq null":                                  "",
		"/Property?$filter=ListingKey gt 'zz'":                                  "",
		"/Property?$orderby=ListingKey desc":                                    "x,y c b a O'Neil 9 10",
		"/Property?$filter=ListingKey ge 'b' or startswith(ListingKey,'O')":     "O'Neil b c x,y",
		"/Property?$filter=not (ListingKey lt 'b') and ListingKey ne 'c'":       "b x,y",
		"/Property?$top=2":                            "10 9",
		"/Property?$top=0":                            "",
		"/Property?$skip=5":                           "c x,y",
		"/Property?$skip=5&$top=1":                    "c",
		"/Property?$filter=ListingKey gt 'a'&$skip=1": "c x,y",
		"/OpenHouse?$filter=OpenHouseKey in ('1','2','7')&$select=OpenHouseKey": "1 2",
		"/OpenHouse?$filter=OpenHouseKey eq '1'":                                "1",
		"/OpenHouse?$filter=OpenHouseKey gt '0'":                                "1 2", // an inferred key is text
	} {
		column := "ListingKey"
		if strings.HasPrefix(target, "/OpenHouse") {
			column = "OpenHouseKey"
		}
		if got := s.get(target).page(t).column(column); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
	for target, want := range map[string]struct {
		status  int
		message string
		at      string
	}{
		"/Property?$filter=ListPrice gt 5":                     {400, `There is no field "ListPrice" at position 0`, "$filter"},
		"/Property?$orderby=ListingKey,ListPrice":              {400, `There is no field "ListPrice" at position 11`, "$orderby"},
		"/Property?$select=ListingKey, Wings":                  {400, `There is no field "Wings" at position 12`, "$select"},
		"/Property?$expand=Media,Wings":                        {400, `There is nothing to expand called "Wings" at position 6`, "$expand"},
		"/Property?$expand=Media($select=Wings)":               {400, `In $select of $expand=Media: There is no field "Wings" at position 0`, "$expand"},
		"/Property?$expand=Media($skiptoken=x)":                {400, "", "$expand"},
		"/Property?$expand=ListAgent($top=1)":                  {400, `In $expand of $expand=ListAgent: ListAgent is one record: it takes $select and $expand`, "$expand"},
		"/Property?$expand=Media,Media":                        {400, "", "$expand"},
		"/Property?$filter=ListingKey eq":                      {400, "Unexpected end at position 13", "$filter"},
		"/Property?$filter=ListingKey gt 5":                    {400, "ListingKey is Edm.String and does not compare with 5, Edm.Int64 at position 14", "$filter"},
		"/Property?$filter=ListingKey eq true":                 {400, "ListingKey is Edm.String and does not compare with true, Edm.Boolean at position 14", "$filter"},
		"/Property?$search=x":                                  {501, "The option $search is not offered", "$search"},
		"/Property?$apply=x":                                   {501, "The option $apply is not offered", "$apply"},
		"/Property?$compute=x":                                 {501, "The option $compute is not offered", "$compute"},
		"/Property?$wings=x":                                   {400, `There is no option "$wings"`, "$wings"},
		"/Property?$top=x":                                     {400, "$top is a whole number, 0 or more", "$top"},
		"/Property?$top=1&$top=2":                              {400, "$top stands twice", "$top"},
		"/Property?$skip=100001":                               {400, "A $skip above 100000 is not offered: follow the nextLink, or filter by the key or ModificationTimestamp of the last record", "$skip"},
		"/Property?$format=xml":                                {501, "The only format here is application/json", "$format"},
		"/Property?last_event=1":                               {400, "last_event is for EntityEvent", "last_event"},
		"/Property?$skiptoken=abc":                             {400, "The $skiptoken is not one of ours, or belongs to another query: begin again without it", "$skiptoken"},
		"/Property('a')?$top=1":                                {400, "One record takes no option but $select, $expand and $format", ""},
		"/Property('no')":                                      {404, `There is no Property with the key "no"`, ""},
		"/Wings":                                               {404, `There is no resource "Wings"`, ""},
		"/Property?$filter=a eq 'a" + strings.Repeat("(", 200): {400, "", "$filter"},
	} {
		a := s.get(target)
		var got struct {
			Error struct{ Code, Message, Target string }
		}
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != want.status || got.Error.Message != want.message && want.message != "" ||
			got.Error.Target != want.at || got.Error.Code != strconv.Itoa(want.status) {
			t.Errorf("%s: %d %s", target, a.status, a.body)
		}
		checkError(t, a)
	}
	for target, want := range map[string]string{
		"/Property/$count": "7", "/Property/$count?$filter=ListingKey gt 'a'": "3", "/Property/$count?$filter=ListingKey in ('a','nope')": "1",
		"/Property/$count?$filter=ListingKey eq null": "0", "/Member/$count": "0",
	} {
		if got := s.get(target).want(t, 200); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
	page := s.get("/Property?$count=true&$top=2&$filter=ListingKey gt '9'").page(t)
	if page.Count == nil || *page.Count != 5 || len(page.Value) != 2 {
		t.Errorf("count %v of %v", page.Count, page.Value)
	}
}

// TestManyKeys asks for as many keys as fit into 16 KB, in each spelling of the filter.
func TestManyKeys(t *testing.T) {
	s := inferred(t)
	many := make([]string, 300)
	for i := range many {
		many[i] = fmt.Sprintf("0195f3e2-7c1b-7d44-9c1a-%012d", i)
	}
	s.putMany("Property", "ListingKey", many...)
	for _, filter := range []string{odata.In("ListingKey", many, true), odata.AnyOf("ListingKey", many[:200], true)} {
		query := "$filter=" + odata.EscapeQuery(filter)
		if len(query) < 11_000 {
			t.Errorf("a query of %d bytes", len(query))
		}
		if got := s.get("/Property?"+query, "Prefer: odata.maxpagesize=1000").page(t); len(got.Value) < 200 || got.Next != "" {
			t.Errorf("%d records, next %s", len(got.Value), got.Next)
		}
		if got := s.get("/Property?" + url.Values{"$filter": {filter}}.Encode()).page(t); len(got.Value) != 100 || got.Next == "" {
			t.Errorf("%d records, next %s", len(got.Value), got.Next)
		}
	}
	s.get("/Property?$filter="+strings.Repeat("x", 70_000)).want(t, 414)
}

// TestPagingWhileRecordsChange follows nextLinks while records come and go: whatever stays is seen once.
func TestPagingWhileRecordsChange(t *testing.T) {
	s := inferred(t)
	var staying []string
	for i := range 60 {
		staying = append(staying, fmt.Sprintf("%03d", i*10)+" O'Neil & Söhne")
	}
	s.putMany("Property", "ListingKey", staying...)
	seen := map[string]int{}
	round := 0
	for target := "/Property?$select=ListingKey"; target != ""; round++ {
		a := s.get(target, "Prefer: odata.maxpagesize=7")
		page := a.page(t)
		for _, v := range page.Value {
			var key string
			if err := json.Unmarshal(v["ListingKey"], &key); err != nil {
				t.Fatal(err)
			}
			seen[key]++
		}
		if target = ""; page.Next != "" {
			if !strings.HasPrefix(page.Next, root+"/Property?$select=ListingKey&$skiptoken=") || strings.ContainsAny(page.Next, " \"ö") {
				t.Fatalf("next %s", page.Next)
			}
			if _, err := url.ParseRequestURI(page.Next); err != nil {
				t.Fatal(err)
			}
			target = below(t, page.Next)
		}
		s.putMany("Property", "ListingKey", fmt.Sprintf("%03d new", round*50+1))
		if round > 0 {
			s.do("DELETE", "/"+odata.KeySegment("Property", fmt.Sprintf("%03d new", (round-1)*50+1), true), "").want(t, 204)
		}
	}
	for _, key := range staying {
		if seen[key] != 1 {
			t.Errorf("%s was seen %d times", key, seen[key])
		}
	}
	if s.get("/Property?$top=60&$filter=ListingKey gt '590'").page(t).Next != "" {
		t.Error("a nextLink though nothing is left")
	}
}

func TestRecordPagesWithTop(t *testing.T) {
	s := inferred(t)
	put(t, s.store, entityevent.Local, 250)
	for _, c := range []struct {
		target, prefer string
		sizes          []int
	}{
		{"/Property", "", []int{100, 100, 50}}, {"/Property?$top=1", "", []int{1}}, {"/Property?$top=250", "", []int{250}},
		{"/Property?$top=120", "maxpagesize=50", []int{50, 50, 20}}, {"/Property?$top=100", "maxpagesize=50", []int{50, 50}},
		{"/Property", "maxpagesize=125", []int{125, 125}}, {"/Property?$skip=200", "maxpagesize=30", []int{30, 20}},
		{"/Property?$count=true&$top=60", "maxpagesize=50", []int{50, 10}},
	} {
		var sizes []int
		for target, prefer := c.target, c.prefer; target != ""; prefer = "" {
			page := s.get(target, "Prefer: "+prefer).page(t)
			sizes = append(sizes, len(page.Value))
			if strings.Contains(c.target, "$count") && (page.Count == nil || *page.Count != 250) {
				t.Errorf("%s: count %v", target, page.Count)
			}
			if target = ""; page.Next != "" {
				target = below(t, page.Next)
			}
		}
		if fmt.Sprint(sizes) != fmt.Sprint(c.sizes) {
			t.Errorf("%s %s: %v, want %v", c.target, c.prefer, sizes, c.sizes)
		}
	}
}

// TestCutAnswersAreNotTakenAsWhole lets the store fail in the middle of a page.
func TestCutAnswersAreNotTakenAsWhole(t *testing.T) {
	store := openStore(t, t.TempDir())
	filler := strings.Repeat("x", 1000)
	for i := range 200 {
		key := strconv.Itoa(i)
		c := entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{
			{Ref: entityevent.Ref{Resource: "Property", Key: key}, Body: json.RawMessage(`{"ListingKey":"` + key + `","F":"` + filler + `"}`)}}}
		if _, err := store.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, failingReads{store, 150}, nil)
	if a, err := s.try(t.Context(), "GET", "/Property", "", "Prefer: maxpagesize=200"); err == nil {
		t.Errorf("a cut page came as a whole one: %d, %d bytes", a.status, len(a.body))
	}
	s.get("/Property", "Prefer: maxpagesize=100").page(t)
	s = serve(t, failingReads{store, 3}, nil) // before the first byte left: an error in good form
	a := s.get("/Property")
	a.want(t, 503)
	checkError(t, a)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}
