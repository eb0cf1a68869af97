package producer_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/producer"
)

var updateWire = flag.Bool("update-wire", false, "write the golden files of the server anew")

// root is the public URL of the service under test, which is not where it listens.
const root = "https://host/odata"

// hides is what the client with the token "hidden" does not know.
var hides = map[string][]string{"Property": {"PrivateRemarks", "ListAgentKey"}, "Media": {"ShortDescription"}, "Member": {"MemberEmail"}, "Office": {"Media"}}

// gate admits the tokens "all" (read and write), "reader" (read) and "hidden" (read, with fields hidden).
type gate struct{}

func (gate) Admit(r *http.Request, scope string) (producer.Client, error) {
	client := producer.Client{Name: "test", Mask: entityevent.Everyone}
	switch bearer.FromHeader(r.Header) {
	case "all":
		return client, nil
	case "reader":
		if scope == bearer.ScopeRead {
			return client, nil
		}
		return client, producer.ErrForbidden
	case "other":
		client.Name = "other"
		return client, nil
	case "hidden":
		client.Hide = hides
		return client, nil
	case "push":
		return client, bearer.ErrAudience
	case "store-down":
		return client, fmt.Errorf("tokens: %w", context.DeadlineExceeded)
	}
	return client, bearer.ErrUnauthorized
}

// service is a Server over a store, behind a real listener.
type service struct {
	t      testing.TB
	store  entityevent.Store
	server *producer.Server
	http   *httptest.Server
}

func serve(t testing.TB, store entityevent.Store, edmx *metadata.Schema) *service {
	t.Helper()
	schema, err := producer.OpenSchema(t.Context(), store, entityevent.Local, edmx, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, store: store, server: &producer.Server{
		Store: store, Schema: schema, Gate: gate{}, Root: root, Prefix: "/odata", Writable: true, MaxBody: 4096,
	}}
	s.http = httptest.NewServer(document().Handler(t, s.server))
	// What leaves is what is looked at: a client that unpacks by itself hides the headers.
	s.http.Client().Transport.(*http.Transport).DisableCompression = true
	t.Cleanup(s.http.Close)
	return s
}

func inferred(t testing.TB) *service { return serve(t, openStore(t, t.TempDir()), nil) }

func configured(t testing.TB) *service {
	f, err := os.Open("../testdata/metadata.xml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	edmx, err := metadata.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, openStore(t, t.TempDir()), edmx)
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request below the service root, its path and query exactly as written. Headers are
// "Name: value".
func (s *service) do(method, target, body string, headers ...string) answer {
	s.t.Helper()
	a, err := s.try(s.t.Context(), method, target, body, headers...)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *service) try(ctx context.Context, method, target, body string, headers ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.http.URL, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	path, query, _ := strings.Cut("/odata"+target, "?")
	r.URL.Opaque = "//" + r.URL.Host + strings.ReplaceAll(path, " ", "%20")
	r.URL.RawQuery = strings.NewReplacer(" ", "%20", "#", "%23").Replace(query)
	r.Header.Set("Authorization", "Bearer all")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	response, err := s.http.Client().Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(text)}, err
}

func (s *service) get(target string, headers ...string) answer {
	s.t.Helper()
	return s.do(http.MethodGet, target, "", headers...)
}

// want checks the status and returns the body.
func (a answer) want(t testing.TB, status int) string {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if v := a.header.Get("OData-Version"); v != "4.0" && v != "4.01" {
		t.Errorf("OData-Version %q", v)
	}
	return a.body
}

func (s *service) put(resource, key, body string) {
	s.t.Helper()
	outcomes, err := s.store.Apply(s.t.Context(), entityevent.Commit{Feed: entityevent.Local, Changes: []entityevent.Change{
		{Ref: entityevent.Ref{Resource: resource, Key: key}, Body: json.RawMessage(body)},
	}})
	if err != nil || outcomes[0].Err != nil {
		s.t.Fatal(err, outcomes)
	}
}

func (s *service) putMany(resource, field string, keys ...string) {
	s.t.Helper()
	var c entityevent.Commit
	c.Feed = entityevent.Local
	for _, key := range keys {
		body, err := json.Marshal(map[string]string{field: key})
		if err != nil {
			s.t.Fatal(err)
		}
		c.Changes = append(c.Changes, entityevent.Change{Ref: entityevent.Ref{Resource: resource, Key: key}, Body: body})
	}
	if _, err := s.store.Apply(s.t.Context(), c); err != nil {
		s.t.Fatal(err)
	}
}

// collection is a page as a client reads it.
type collection struct {
	Context string                       `json:"@odata.context"`
	Count   *int                         `json:"@odata.count"`
	Value   []map[string]json.RawMessage `json:"value"`
	Next    string                       `json:"@odata.nextLink"`
}

func (a answer) page(t testing.TB) collection {
	t.Helper()
	var c collection
	if err := json.Unmarshal([]byte(a.want(t, http.StatusOK)), &c); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	if c.Value == nil {
		t.Fatalf("no value: %s", a.body)
	}
	return c
}

func (c collection) column(name string) string {
	values := make([]string, len(c.Value))
	for i, v := range c.Value {
		values[i] = strings.Trim(string(v[name]), `"`)
	}
	return strings.Join(values, " ")
}

// below turns a nextLink into a target.
func below(t testing.TB, link string) string {
	t.Helper()
	target, ok := strings.CutPrefix(link, root)
	if !ok {
		t.Fatalf("%q is not below %s", link, root)
	}
	return target
}

func TestGate(t *testing.T) {
	s := inferred(t)
	s.put("Property", "a", `{"ListingKey":"a"}`)
	for _, c := range []struct {
		method, target, token string
		status                int
		challenge             string
	}{
		{"GET", "/Property", "Bearer reader", 200, ""},
		{"GET", "/", "", 401, `Bearer realm="resosync"`},
		{"GET", "/Property", "", 401, `Bearer realm="resosync"`},
		{"GET", "/Property", "Bearer forged", 401, `Bearer realm="resosync", error="invalid_token"`},
		{"GET", "/NoSuch", "", 401, `Bearer realm="resosync"`},
		{"GET", "/Property", "Bearer push", 403, ""},
		{"GET", "/Property", "Bearer store-down", 503, ""},
		{"PUT", "/Property('a')", "Bearer reader", 403, ""},
		{"DELETE", "/Property('a')", "Bearer reader", 403, ""},
		{"POST", "/Property", "Bearer reader", 403, ""},
		{"PATCH", "/Property('a')", "Bearer reader", 403, ""},
	} {
		a := s.do(c.method, c.target, "", "Authorization: "+c.token)
		a.want(t, c.status)
		if got := a.header.Get("WWW-Authenticate"); got != c.challenge {
			t.Errorf("%s %s %q: WWW-Authenticate %q", c.method, c.target, c.token, got)
		}
		if c.status >= 400 {
			checkError(t, a)
		}
		if (a.header.Get("Retry-After") != "") != (c.status == 503) {
			t.Errorf("%d: Retry-After %q", c.status, a.header.Get("Retry-After"))
		}
	}
}

// checkError checks that an answer is an OData error and tells nothing of the inside.
func checkError(t testing.TB, a answer) {
	t.Helper()
	var body struct {
		Error *struct {
			Code, Message *string
			Target        *string
			Details       []struct{ Code, Target, Message string }
		}
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Error == nil ||
		body.Error.Code == nil || body.Error.Message == nil || *body.Error.Message == "" || body.Error.Target == nil || body.Error.Details == nil {
		t.Errorf("no OData error: %s", a.body)
	}
	if a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers of an error: %v", a.header)
	}
	if strings.Contains(a.body, "deadline") || strings.Contains(a.body, ".go") || strings.Contains(a.body, "SQL") {
		t.Errorf("internal text: %s", a.body)
	}
}

func TestVersion(t *testing.T) {
	s := inferred(t)
	for _, c := range []struct {
		header, want string
		status       int
	}{
		{"X: y", "4.01", 200}, {"OData-Version: 4.0", "4.0", 200}, {"OData-MaxVersion: 4.0", "4.0", 200},
		{"OData-MaxVersion: 4.01", "4.01", 200}, {"OData-Version: 3.0", "4.01", 400}, {"OData-MaxVersion: 5.0", "4.01", 400},
		{"OData-Version: x", "4.01", 400},
	} {
		for _, target := range []string{"/", "/NoSuch", "/EntityEvent", "/Property('x')"} {
			a := s.get(target, c.header)
			if got := a.header.Get("OData-Version"); got != c.want {
				t.Errorf("%s with %s: OData-Version %q, want %q", target, c.header, got, c.want)
			}
			if (a.status == 400) != (c.status == 400) {
				t.Errorf("%s with %s: status %d", target, c.header, a.status)
			}
		}
	}
	for version, want := range map[string]string{"4.01": "200 4.0", "4.0": "200 4.0", "3.0": "400 4.01"} {
		a := s.get("/", "OData-Version: "+version, "OData-MaxVersion: 4.0")
		if got := fmt.Sprint(a.status, " ", a.header.Get("OData-Version")); got != want {
			t.Errorf("%s with at most 4.0: %s, want %s", version, got, want)
		}
	}
	a := s.get("/", "OData-Version: 4.0", "Authorization: none")
	if a.status != 401 || a.header.Get("OData-Version") != "4.0" {
		t.Errorf("%d, OData-Version %q", a.status, a.header.Get("OData-Version"))
	}
}

func TestMethods(t *testing.T) {
	s := inferred(t)
	s.put("Property", "a", `{"ListingKey":"a"}`)
	const readOnly = "GET, HEAD, OPTIONS"
	for _, c := range []struct{ method, target, allow string }{
		{"POST", "/EntityEvent", readOnly}, {"PATCH", "/EntityEvent(1)", readOnly}, {"PUT", "/EntityEvent(1)", readOnly},
		{"DELETE", "/EntityEvent('1')", readOnly}, {"DELETE", "/EntityEvent", readOnly}, {"POST", "/", readOnly},
		{"POST", "/$metadata", readOnly}, {"POST", "/Property/$count", readOnly},
		{"PUT", "/Property", readOnly + ", POST"}, {"PATCH", "/Property", readOnly + ", POST"}, {"DELETE", "/Property", readOnly + ", POST"},
		{"POST", "/Property('a')", readOnly + ", PUT, PATCH, DELETE"}, {"TRACE", "/Property('a')", readOnly + ", PUT, PATCH, DELETE"},
	} {
		a := s.do(c.method, c.target, "{}")
		a.want(t, 405)
		checkError(t, a)
		if got := a.header.Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow %q, want %q", c.method, c.target, got, c.allow)
		}
		// The log and what is read-only is so for those who may only read, too.
		s.do(c.method, c.target, "{}", "Authorization: Bearer reader").want(t, 405)
		a = s.do("OPTIONS", c.target, "")
		if a.want(t, 204); a.header.Get("Allow") != c.allow {
			t.Errorf("OPTIONS %s: Allow %q, want %q", c.target, a.header.Get("Allow"), c.allow)
		}
	}
	batch := s.do("POST", "/$batch", `{"requests":[]}`)
	batch.want(t, 501)
	checkError(t, batch)
	s.do("POST", "/$batch", "{}", "Authorization: none").want(t, 401)
	s.server.Writable = false
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		target := "/Property('a')"
		if method == "POST" {
			target = "/Property"
		}
		if a := s.do(method, target, "{}"); a.status != 405 || a.header.Get("Allow") != readOnly {
			t.Errorf("%s on a server that is not writable: %d, Allow %q", method, a.status, a.header.Get("Allow"))
		}
	}
	for _, target := range []string{"/", "/$metadata", "/EntityEvent", "/EntityEvent(1)", "/Property", "/Property('a')", "/Property/$count"} {
		get, head := s.get(target), s.do("HEAD", target, "")
		if head.status != 200 || head.body != "" || head.header.Get("Content-Type") != get.header.Get("Content-Type") ||
			head.header.Get("Content-Length") != get.header.Get("Content-Length") {
			t.Errorf("HEAD %s: %d %q %v", target, head.status, head.body, head.header)
		}
	}
}

func TestPathsAreReadBeforeTheyAreCleaned(t *testing.T) {
	s := inferred(t)
	keys := []string{"O'Neil", "007", "a b", "a/b", "a//b", "a/../b", "50%", "%2F", "#1", "?x=1", "ключ", "Key", "key", ".", "..", "x')", "(", "a+b", "a&b"}
	s.putMany("Property", "ListingKey", keys...)
	for _, target := range []string{
		"/Property('a//b')", "/Property('a/../b')", "/Property('a/b')", "/Property('a%2Fb')", "/Property%28%27a%2Fb%27%29",
		"/Property('O''Neil')", "/Property(%27O%27%27Neil%27)", "/Property('Key')/", "/Property('.')", "/Property('..')", "/Property(007)",
		"/Property(ListingKey='Key')",
	} {
		if a := s.get(target); a.status != 200 {
			t.Errorf("%s: %d %s", target, a.status, a.body)
		}
	}
	for i, event := range s.get("/EntityEvent").page(t).Value {
		var link string
		if err := json.Unmarshal(event["ResourceRecordUrl"], &link); err != nil {
			t.Fatal(err)
		}
		a := s.get(below(t, link))
		if got := entityevent.StringMember([]byte(a.want(t, 200)), "ListingKey"); got != keys[i] {
			t.Errorf("%s leads to %s, want %s", link, got, keys[i])
		}
		if got := entityevent.StringMember([]byte(a.body), "@odata.id"); got != link {
			t.Errorf("@odata.id %s, want %s", got, link)
		}
	}
	for target, status := range map[string]int{
		"/Property('KEY')": 404, "/Property(7)": 404, "/Property('a'b')": 400, "/Property(": 400, "/Property('": 400, "//Property": 404,
		"/Property/": 200, "": 200, "/": 200, "/Propertyx": 404, "/property": 404, "/Property/x": 404, "/Property/$count/x": 404,
		"/Property('Key')/Media": 200, "/Property('Key')/ListAgent": 204, "/Property('no')/Media": 404, "/Property('Key')/x": 404, "/Property('Key')/ListingKey": 501,
		"/Property('Key')/Media/x": 404, "/Property('Key')/Media/$count/x": 404, "/Property('Key')/ListAgent/$count": 404, "/Property('Key')/$count": 404,
		"/$batch": 404, "/$metadata/x": 404, "x": 404, "/Property(MemberKey='Key')": 400, "/EntityEvent(ListingKey=1)": 400,
	} {
		a := s.get(target)
		if a.status != status {
			t.Errorf("%s: %d, want %d: %s", target, a.status, status, a.body)
		}
		if a.status >= 400 {
			checkError(t, a)
		}
	}
}

// TestNoRedirect sends the bytes of a request itself: clients clean paths too.
func TestNoRedirect(t *testing.T) {
	s := inferred(t)
	s.putMany("Property", "ListingKey", "a//b", "a/../b")
	for _, path := range []string{"/odata/Property('a//b')", "/odata/Property('a/../b')"} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.http.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer all\r\nConnection: close\r\n\r\n", path); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200 ") {
			t.Errorf("%s: %v %s", path, err, text)
		}
		conn.Close()
	}
}

func TestServiceDocumentAndMetadata(t *testing.T) {
	s := inferred(t)
	s.put("Property", "a", `{"ListingKey":"a","ListPrice":1.5,"Tags":[]}`)
	s.put("Acme", "1", `{"Name":"x","AcmeId":1}`)
	names := func() string { return s.get("/").page(t).column("name") }
	if got := names(); got != "EntityEvent Property Acme" && got != "EntityEvent Acme Property" {
		t.Errorf("resources %s", got)
	}
	a := s.get("/$metadata", "Accept: application/json")
	if got := a.header.Get("Content-Type"); got != "application/xml; charset=utf-8" {
		t.Errorf("Content-Type %s", got)
	}
	read, err := metadata.Read(strings.NewReader(a.want(t, 200)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(regexp.MustCompile(`<Schema\b`).FindAllString(a.body, -1)); n != 1 {
		t.Errorf("%d schemas", n)
	}
	for resource, want := range map[string]string{"EntityEvent": "EntityEventSequence Edm.Int64", "Property": "ListingKey Edm.String", "Acme": "AcmeId Edm.String"} {
		if name, edmType, _ := read.KeyField(resource); name+" "+edmType != want {
			t.Errorf("key of %s: %s %s", resource, name, edmType)
		}
	}
	if f, _ := read.Field("Property", "ListPrice"); f.Type != "Edm.Decimal" {
		t.Errorf("ListPrice: %+v", f)
	}
	s.get("/Acme(1)").want(t, 200)
	s.get("/Acme('1')").want(t, 200)
	if got := s.get("/EntityEvent").page(t).column("ResourceRecordUrl"); got != root+"/Property('a') "+root+"/Acme('1')" {
		t.Errorf("URLs %s", got)
	}
	for target, status := range map[string]int{
		"/$metadata?$format=xml": 200, "/$metadata?$format=application/xml": 200, "/$metadata?$format=json": 501,
		"/Property?$format=json": 200, "/Property?$format=application/json;odata.metadata=minimal": 200, "/Property?$format=xml": 501,
		"/?$format=json": 200, "/$metadata?$foo=1": 400,
	} {
		if a := s.get(target); a.status != status {
			t.Errorf("%s: %d, want %d", target, a.status, status)
		}
	}
}

func TestSchemaGrowsOverARestart(t *testing.T) {
	dir := t.TempDir()
	store := openStore(t, dir)
	counted := &countingReads{Store: store}
	schema, err := producer.OpenSchema(t.Context(), counted, entityevent.Local, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	put(t, store, entityevent.Local, 2500)
	if _, err := schema.EDMX(t.Context()); err != nil {
		t.Fatal(err)
	}
	if counted.keys != 2500 {
		t.Errorf("looked at %d records of 2500", counted.keys)
	}
	put(t, store, entityevent.Local, 3)
	if _, err := schema.EDMX(t.Context()); err != nil {
		t.Fatal(err)
	}
	if counted.keys != 2503 {
		t.Errorf("looked at %d records of 2503", counted.keys)
	}
	again, err := producer.OpenSchema(t.Context(), counted, entityevent.Local, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if name, _, ok := again.KeyField("Property"); name != "ListingKey" || !ok {
		t.Errorf("the kept schema has the key %q", name)
	}
	if _, err := again.EDMX(t.Context()); err != nil {
		t.Fatal(err)
	}
	if counted.keys > 2503+2500 {
		t.Errorf("looked at %d records after reopening", counted.keys)
	}
}

func TestGoneResourceIsInTheMetadata(t *testing.T) {
	s := inferred(t)
	s.put("Member", "1", `{"MemberKey":"1"}`)
	s.do("DELETE", "/Member('1')", "").want(t, 204)
	read, err := metadata.Read(strings.NewReader(s.get("/$metadata").want(t, 200)))
	if err != nil {
		t.Fatal(err)
	}
	if name, _, ok := read.KeyField("Member"); !ok || name != "MemberKey" {
		t.Errorf("key %q", name)
	}
}

func TestConfiguredMetadata(t *testing.T) {
	s := configured(t)
	read, err := metadata.Read(strings.NewReader(s.get("/$metadata").want(t, 200)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"Property", "Member", "Office", "Media", "OpenHouse", "Lookup", "EntityEvent"}, read.Resources()); d != "" {
		t.Error(d)
	}
	for target, status := range map[string]int{
		"/Teams": 404, "/Teams('1')": 404, "/OpenHouse": 200, "/Property?$select=Wings": 400, "/Property?$select=ListPrice,Media": 200,
	} {
		if a := s.get(target); a.status != status {
			t.Errorf("%s: %d, want %d: %s", target, a.status, status, a.body)
		}
	}
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("../testdata", name)
	if *updateWire {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), text); d != "" {
		t.Errorf("%s (-update-wire writes it anew): %s", name, d)
	}
}
