package producer_test

import (
	"context"
	"encoding/json"
	"iter"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// echo is a store whose every record has the key that is asked for, or that of the store, and that notes
// after which key a page was asked for.
type echo struct {
	entityevent.Store
	key   string
	after string
}

func (e *echo) Read(_ context.Context, _ entityevent.View, q entityevent.Query) iter.Seq2[entityevent.Record, error] {
	key := e.key
	if len(q.Keys) > 0 {
		key = q.Keys[0]
	}
	if e.after = ""; q.From != nil {
		e.after = q.From.Key
	}
	body, err := json.Marshal(map[string]string{"ListingKey": key})
	return func(yield func(entityevent.Record, error) bool) {
		for range max(q.Limit, 1) {
			if !yield(entityevent.Record{Ref: entityevent.Ref{Resource: q.Resource, Key: key}, Body: body}, err) {
				return
			}
		}
	}
}

// ask sends a request whose path and query are exactly as given; nil: no client could.
func ask(t testing.TB, h http.Handler, path, query string, headers http.Header) *httptest.ResponseRecorder {
	t.Helper()
	u, err := url.ParseRequestURI(path)
	if err != nil || strings.ContainsAny(path, "?#") {
		return nil
	}
	u.RawQuery = query
	r := (&http.Request{Method: http.MethodGet, URL: u, Host: "h", Proto: "HTTP/1.1", Header: headers, Body: http.NoBody, RemoteAddr: "127.0.0.1:1"}).WithContext(t.Context())
	if r.Header == nil {
		r.Header = http.Header{}
	}
	r.Header.Set("Authorization", "Bearer all")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code >= 400 {
		checkError(t, answer{w.Code, w.Header(), w.Body.String()})
	}
	if w.Code >= 500 && w.Code != 501 {
		t.Fatalf("%s?%s: %d %s", path, query, w.Code, w.Body)
	}
	return w
}

// follow asks for a link of ours.
func follow(t testing.TB, h http.Handler, link string) *httptest.ResponseRecorder {
	t.Helper()
	path, query, _ := strings.Cut(below(t, link), "?")
	w := ask(t, h, "/odata"+path, query, nil)
	if w == nil || w.Code != 200 {
		t.Fatalf("%s is a link of ours, and answered with %+v", link, w)
	}
	return w
}

// FuzzKeyURL: whatever the key, the URLs that name its record and the page after it lead there again; and
// whatever the path, it is a key or a refusal.
func FuzzKeyURL(f *testing.F) {
	for _, seed := range []string{
		"O'Neil", "007", "a b", "a/b", "a//b", "a/../b", "50%", "%2F", "#1", "?x=1", "ключ", ".", "..", "x')", "(", "a+b", "a&b", "a=b", "''", "%27", "\\", "a\nb",
		"Property('a')", "Property%28%27a%27%29", "Property(ListingKey='a')", "Property('a''b')/", "/Property(1)", "$metadata", "Property('a')/x", "Property(%ff)", ";", "a;b=c", "é", "\u2028",
	} {
		f.Add(seed)
	}
	store := &echo{Store: openStore(f, f.TempDir())}
	server := bubbleServer(f, store)
	f.Fuzz(func(t *testing.T, text string) {
		if w := ask(t, server, "/odata/"+text, "", nil); w != nil && w.Code == 200 && strings.Contains(w.Body.String(), `"@odata.id"`) {
			key := entityevent.StringMember(w.Body.Bytes(), "ListingKey")
			again := follow(t, server, entityevent.StringMember(w.Body.Bytes(), "@odata.id"))
			if got := entityevent.StringMember(again.Body.Bytes(), "ListingKey"); got != key {
				t.Errorf("%q is the key %q, whose link leads to %q", text, key, got)
			}
		}
		if (entityevent.Ref{Resource: "Property", Key: text}).Validate() != nil {
			return
		}
		store.key = text
		w := ask(t, server, "/odata/Property", "$select=ListingKey", http.Header{"Prefer": {"maxpagesize=1"}})
		if follow(t, server, entityevent.StringMember(w.Body.Bytes(), "@odata.nextLink")); store.after != text {
			t.Errorf("the page after %q is that after %q", text, store.after)
		}
	})
}

// FuzzQuery: whatever the options, they are read or refused, and the nextLink is one that is read.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"$filter=EntityEventSequence gt 1", "$filter=EntityEventSequence%20ge%200&$top=1", "last_event=1", "$orderby=EntityEventSequence+desc&$top=2", "$select=ResourceName",
		"$skip=1&$top=2", "$skiptoken=1.2", "$skiptoken=AXtvDA0AB1siMDYwIE8nTmVpbCBcdTAwMjYgU8O2aG5lIl0", "$orderby=ListingKey desc&$expand=Media($top=1;$filter=Order gt 1)", "$filter=ModificationTimestamp gt now()&$orderby=ModificationTimestamp", "$filter=ResourceName in ('a','b')", "$filter=ListingKey eq 'a' or ListingKey eq 'b'", "$filter=ListingKey in ('a')", "$filter=ListingKey gt 'a'",
		"$count=true", "$format=json", "$expand=x", "$top=-1", "$TOP=1&$Skip=1", "%24top=1", "$filter=(((", "$top=1&$top=2", "$filter=EntityEventSequence eq 9223372036854775807", "&&=&", "%zz",
	} {
		f.Add(seed)
	}
	store := openStore(f, f.TempDir())
	server := bubbleServer(f, store)
	put(f, store, entityevent.Local, 5)
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{"/EntityEvent", "/Property", "/Property/$count", "/Property('x')", "/Property('x')/Media", "/EntityEvent(1)", "/", "/$metadata"} {
			w := ask(t, server, "/odata"+path, query, http.Header{"Prefer": {"maxpagesize=2"}})
			switch w.Code {
			case 200, 400, 404, 414, 501:
			default:
				t.Fatalf("%s?%q: %d %s", path, query, w.Code, w.Body)
			}
			if next := entityevent.StringMember(w.Body.Bytes(), "@odata.nextLink"); w.Code == 200 && next != "" {
				follow(t, server, next)
			}
		}
	})
}

// FuzzPrefer: whatever is preferred, a page is answered, and no preference is claimed that is not followed.
func FuzzPrefer(f *testing.F) {
	for _, seed := range []string{
		"odata.maxpagesize=2", "maxpagesize=2", "wait=10", "return=minimal", "return=representation", `wait="10"; foo=1, maxpagesize=1`, "respond-async", "maxpagesize=-1",
		"maxpagesize=99999999999999999999", "=,;", "wait", "WAIT=1", "maxpagesize = 3", "maxpagesize=2, odata.maxpagesize=1", "\x00", "maxpagesize=+2", "maxpagesize=02",
	} {
		f.Add(seed)
	}
	store := openStore(f, f.TempDir())
	server := bubbleServer(f, store)
	put(f, store, entityevent.Local, 4)
	write := func(prefer string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPut, "/odata/Property('k')", strings.NewReader("{}"))
		r.Header = http.Header{"Prefer": {prefer}, "Content-Type": {"application/json"}, "Authorization": {"Bearer all"}}
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		return w
	}
	write("") // the fifth event, and the last: to write it again changes nothing
	f.Fuzz(func(t *testing.T, prefer string) {
		w := ask(t, server, "/odata/EntityEvent", "$select=EntityEventSequence", http.Header{"Prefer": {prefer}})
		size := 100
		for _, applied := range w.Header()["Preference-Applied"] {
			name, value, _ := strings.Cut(applied, "=")
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > 5000 || name == "wait" && n > 120 || !strings.Contains(strings.ToLower(prefer), name) {
				t.Errorf("%q: %s", prefer, applied)
			}
			if name != "wait" {
				size = n
			}
		}
		if got := strings.Count(w.Body.String(), `{"EntityEventSequence"`); w.Code != 200 || got != min(size, 5) {
			t.Errorf("%q: %d, %d events", prefer, w.Code, got)
		}
		w = write(prefer)
		if returned := w.Header().Get("Preference-Applied"); w.Code != 200 && w.Code != 204 || w.Code == 200 && returned != "return=representation" {
			t.Errorf("%q: %d %q", prefer, w.Code, returned)
		}
	})
}

// FuzzCursor: only our log's name and a number above the head prove a restore.
func FuzzCursor(f *testing.F) {
	for _, seed := range []string{
		"LOG:5", "LOG/all:6", "LOG:4", "LOG/a/b:c:99", "LOG", ":9", "LOG:", "other:99", "LOG:9223372036854775807", "LOG:9223372036854775808", "LOG:-1", "LOG:+9", "LOG :9", "LOG:0009", "LOG:9 ", "LOG:٩",
	} {
		f.Add(seed)
	}
	store := openStore(f, f.TempDir())
	server := bubbleServer(f, store)
	head := put(f, store, entityevent.Local, 4)[3]
	log := string(store.LogID())
	ahead := regexp.MustCompile(`(?s)^` + log + `(/.*)?:([0-9]+)$`)
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ReplaceAll(text, "LOG", log)
		want := 200
		if m := ahead.FindStringSubmatch(text); m != nil {
			if n, _ := new(big.Int).SetString(m[2], 10); n.IsInt64() && n.Int64() > int64(head) {
				want = 410
			}
		}
		if w := ask(t, server, "/odata/EntityEvent", "", http.Header{"Entityevent-Cursor": {text}}); w.Code != want {
			t.Errorf("%q: %d, want %d: %s", text, w.Code, want, w.Body)
		}
		if state, err := producer.Restored(t.Context(), store); err != nil || want == 410 && (state == nil || state.Seq <= head) {
			t.Errorf("%q: %+v %v", text, state, err)
		}
	})
}
