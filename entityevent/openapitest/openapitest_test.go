package openapitest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent/openapitest"
)

func document(t testing.TB) *openapitest.Document {
	t.Helper()
	text, err := os.ReadFile("../../producer/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	d, err := openapitest.Open(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	problems []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

const (
	context = `"@odata.context":"https://host/odata/$metadata#x"`
	refusal = `{"error":{"code":"404","message":"none","target":"","details":[]}}`
)

// Each answer is right but for what its name says, and the check must say so.
func TestWrongAnswersFail(t *testing.T) {
	d := document(t)
	page := map[string]string{"EntityEvent-Log": "l/all", "EntityEvent-Through": "7"}
	event := map[string]string{"EntityEvent-Log": "l/all"}
	good := `{` + context + `,"value":[{"EntityEventSequence":7,"ResourceName":"Property","ResourceRecordKey":"a"}]}`
	one := `{` + context + `,"@odata.id":"https://host/odata/EntityEvent(7)","EntityEventSequence":7,"ResourceName":"Property","ResourceRecordKey":"a"}`
	for name, c := range map[string]struct {
		method, path string
		status       int
		header       map[string]string
		body         string
		want         string // "": nothing is wrong
	}{
		"right page":                 {"GET", "/odata/EntityEvent", 200, page, good, ""},
		"right page of another feed": {"GET", "/feeds/acme/odata/EntityEvent", 200, page, good, ""},
		"right event":                {"GET", "/odata/EntityEvent(7)", 200, event, one, ""},
		"right quoted event":         {"GET", "/odata/EntityEvent%28%277%27%29", 200, event, one, ""},
		"right HEAD":                 {"HEAD", "/odata/EntityEvent(7)", 200, event, "", ""},
		"right refusal":              {"GET", "/odata/Property('a%2F''(b')", 404, nil, refusal, ""},
		"right count":                {"GET", "/odata/Property/$count", 200, map[string]string{"Content-Type": "text/plain; charset=utf-8"}, "12", ""},
		"right options":              {"OPTIONS", "/odata/Property", 204, map[string]string{"Allow": "GET"}, "", ""},
		"right method refused":       {"POST", "/odata/EntityEvent", 405, map[string]string{"Allow": "GET"}, refusal, ""},

		"right without annotations": {"GET", "/odata/Property('a')", 200, map[string]string{"Content-Type": "application/json;odata.metadata=none;IEEE754Compatible=true"}, `{"ListingKey":"a"}`, ""},

		"annotations all the same":    {"GET", "/odata/Property('a')", 200, map[string]string{"Content-Type": "application/json;odata.metadata=none"}, `{"@odata.context":"http://host/x"}`, "failed to validate"},
		"no annotations":              {"GET", "/odata/Property", 200, nil, `{"value":[]}`, "@odata.context"},
		"another status":              {"GET", "/odata/EntityEvent", 201, page, good, "no status 201"},
		"an undocumented refusal":     {"GET", "/odata/Property('a')", 418, nil, refusal, "no status 418"},
		"a success nobody described":  {"GET", "/odata/Property('a')/Media/x/y", 200, nil, "{}", "no status 200"},
		"a write nobody described":    {"PUT", "/odata/EntityEvent(7)", 204, nil, "", "no status 204"},
		"a number that is a word":     {"GET", "/odata/EntityEvent", 200, page, strings.Replace(good, "7", `"seven"`, 1), "value"},
		"a number that is zero":       {"GET", "/odata/EntityEvent", 200, page, strings.Replace(good, "7", "0", 1), "value"},
		"a key that is a number":      {"GET", "/odata/EntityEvent", 200, page, strings.Replace(good, `"a"`, "1", 1), "value"},
		"a member more":               {"GET", "/odata/EntityEvent", 200, page, strings.Replace(good, `"value"`, `"more":1,"value"`, 1), "more"},
		"no value":                    {"GET", "/odata/EntityEvent", 200, page, `{` + context + `}`, "value"},
		"a value that is none":        {"GET", "/odata/Property", 200, nil, `{` + context + `,"value":{}}`, "value"},
		"a record that is none":       {"GET", "/odata/Property", 200, nil, `{` + context + `,"value":[1]}`, "value"},
		"a bad event by its number":   {"GET", "/odata/EntityEvent(7)", 200, event, strings.Replace(one, ":7", ":false", 1), "EntityEventSequence"},
		"a bad event by its text":     {"GET", "/odata/EntityEvent('7')", 200, event, strings.Replace(one, `"ResourceName"`, `"Resource"`, 1), "Resource"},
		"a page for an event":         {"GET", "/odata/EntityEvent(7)", 200, event, good, "value"},
		"a page for a record":         {"GET", "/odata/Property('a')", 200, nil, `{"value":[]}`, "value"},
		"no JSON":                     {"GET", "/odata/EntityEvent", 200, page, `{`, "decoded"},
		"another media type":          {"GET", "/odata/EntityEvent", 200, map[string]string{"EntityEvent-Log": "l/all", "EntityEvent-Through": "7", "Content-Type": "text/html"}, good, "text/html"},
		"no body":                     {"GET", "/odata/EntityEvent", 200, page, "", "no body"},
		"a body too many":             {"DELETE", "/odata/Property('a')", 204, nil, "{}", "a body"},
		"a count that is none":        {"GET", "/odata/Property/$count", 200, map[string]string{"Content-Type": "text/plain"}, "many", "body"},
		"no header":                   {"GET", "/odata/EntityEvent", 200, map[string]string{"EntityEvent-Log": "l/all"}, good, "EntityEvent-Through"},
		"a required header's form":    {"GET", "/odata/EntityEvent", 200, map[string]string{"EntityEvent-Log": "l", "EntityEvent-Through": "7"}, good, "EntityEvent-Log"},
		"an optional header's form":   {"GET", "/odata/Property('a')", 200, map[string]string{"ETag": "x"}, `{}`, "ETag"},
		"another header":              {"GET", "/odata/Property('a')", 200, map[string]string{"Server": "x"}, `{}`, "Server"},
		"no challenge":                {"GET", "/odata/Property", 401, nil, refusal, "WWW-Authenticate"},
		"a method refused in silence": {"POST", "/odata/EntityEvent", 405, nil, refusal, "Allow"},
		"an error of another form":    {"GET", "/odata/Property", 404, nil, `{"error":"none"}`, "error"},
		"an error without details":    {"GET", "/odata/Property", 404, nil, `{"error":{"code":"404","message":"none","target":""}}`, "details"},
		"an option not described":     {"GET", "/odata/EntityEvent?$apply=x", 200, page, good, "$apply"},
		"a body of another type":      {"PUT", "/odata/Property('a')", 204, map[string]string{"Location": "https://host/x", "EntityId": "a"}, "", "request"},
	} {
		t.Run(name, func(t *testing.T) {
			seen := &recorder{TB: t}
			h := d.Handler(seen, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					t.Error(err)
				}
				w.Header().Set("OData-Version", "4.01")
				w.Header().Set("Content-Type", "application/json")
				for name, value := range c.header {
					w.Header().Set(name, value)
				}
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			}))
			r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, strings.NewReader(map[bool]string{true: "[]"}[c.method == "PUT"]))
			r.Header.Set("Content-Type", "application/json")
			h.ServeHTTP(httptest.NewRecorder(), r)
			all := strings.Join(seen.problems, "\n")
			if c.want == "" && all != "" || !strings.Contains(all, c.want) || c.want != "" && all == "" {
				t.Errorf("reported %q, want %q", all, c.want)
			}
			if all != "" && !strings.Contains(all, fmt.Sprintf("%s %s answered %d: ", c.method, r.URL.RequestURI(), c.status)) {
				t.Errorf("the report does not say of what: %s", all)
			}
		})
	}
}
