package consumer_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
)

// door is a receiver with one feed and a token for it. What passes it is held to the OpenAPI document.
type door struct {
	*consumer.Receiver
	t     testing.TB // nil: it is not
	feed  *consumer.Feed
	token string
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.t == nil {
		d.Receiver.ServeHTTP(w, r)
		return
	}
	document().Handler(d.t, d.Receiver).ServeHTTP(w, r)
}

func newDoor(t *testing.T, f *consumer.Feed) *door {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	authority := &bearer.Authority{Key: key, Store: f.Store}
	d := &door{&consumer.Receiver{Feeds: map[string]*consumer.Feed{f.Name: f}, Authority: authority}, t, f, ""}
	d.token = d.issue(t, bearer.Push(f.Name))
	return d
}

func (d *door) issue(t *testing.T, audience string) string {
	t.Helper()
	signed, _, err := d.Authority.Issue(t.Context(), bearer.Token{Audience: audience, Client: "mls"})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// push sends a body with the right token and headers of its own.
func (d *door) push(body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/webhooks/mls", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+d.token)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

func chain(log string, after, through int64) []string {
	return []string{"EntityEvent-Log", log, "EntityEvent-After", fmt.Sprint(after), "EntityEvent-Through", fmt.Sprint(through)}
}

func pushed(events ...string) string { return `{"value":[` + strings.Join(events, ",") + `]}` }

func event(seq int64, resource, key string) string {
	return fmt.Sprintf(`{"EntityEventSequence":%d,"ResourceName":%q,"ResourceRecordKey":%q}`, seq, resource, key)
}

// The pushes of RCP-28's text and what is answered, byte for byte.
func TestWireExamples(t *testing.T) {
	for name, want := range map[string][]entityevent.Item{
		"one": {{Sequence: 1101, Ref: entityevent.Ref{Resource: "Showing", Key: "235021"}}},
		"several": {{Sequence: 1101, Ref: entityevent.Ref{Resource: "Property", Key: "235021"}},
			{Sequence: 1111, Ref: entityevent.Ref{Resource: "Media", Key: "ABC123"}}},
		"old-names": {{Sequence: 1101, Ref: entityevent.Ref{Resource: "Property", Key: "235021"},
			URL: "https://a.example/odata/Property('235021')"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, nil, "Property")
			f.Label = "IDX Feed 123"
			d := newDoor(t, f)
			text := bytes.ReplaceAll(golden(t, name), []byte("TOKEN"), []byte(d.token))
			head, body, _ := bytes.Cut(text, []byte("\n\n"))
			r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(head), strings.NewReader("\n\n"))))
			if err != nil {
				t.Fatal(err)
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			same(t, w, "answer")
			items, err := f.Store.Take(t.Context(), "mls", 10)
			if err != nil || fmt.Sprint(items) != fmt.Sprint(want) {
				t.Errorf("received %v, %v", items, err)
			}
		})
	}
}

func golden(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "testdata", "rcp28", name+".http"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// same compares an answer with a golden file.
func same(t *testing.T, w *httptest.ResponseRecorder, name string) {
	t.Helper()
	var got bytes.Buffer
	fmt.Fprintf(&got, "HTTP/1.1 %d %s\n", w.Code, http.StatusText(w.Code))
	var header bytes.Buffer
	if err := w.Header().Write(&header); err != nil {
		t.Fatal(err)
	}
	got.WriteString(strings.ReplaceAll(header.String(), "\r\n", "\n") + "\n" + w.Body.String())
	if want := golden(t, name); !bytes.Equal(got.Bytes(), want) {
		t.Errorf("answered\n%s\nwant\n%s", got.Bytes(), want)
	}
}

func TestFullInboxAsksToWait(t *testing.T) {
	d := newDoor(t, newFeed(t, nil, "Property"))
	d.MaxPending = 2
	if w := d.push(pushed(event(1, "Property", "a"), event(2, "Property", "b"))); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	same(t, d.push(pushed(event(3, "Property", "c"))), "full")
	if w := d.push(`{"value":[]}`); w.Code != 200 {
		t.Errorf("a push without events: %d", w.Code)
	}
}

func TestReceiverRefuses(t *testing.T) {
	f := newFeed(t, nil, "Property")
	f.Label = "IDX Feed 123"
	d := newDoor(t, f)
	d.MaxBody = 20_000_000
	one := event(1, "Property", "a")
	bomb := zipped(t, strings.Repeat(" ", 25_000_000))
	many := pushed(strings.Repeat(one+",", 100_000) + one)
	for name, c := range map[string]struct {
		body   string
		header []string
		status int
	}{
		"no token":            {one, []string{"Authorization", ""}, 401},
		"forged token":        {one, []string{"Authorization", "Bearer x.y.z"}, 401},
		"token of the API":    {one, []string{"Authorization", "Bearer " + d.issue(t, bearer.API)}, 403},
		"token of another":    {one, []string{"Authorization", "Bearer " + d.issue(t, bearer.Push("other"))}, 403},
		"another label":       {one, []string{"EntityEventSource", "IDX Feed 7"}, 403},
		"another old label":   {one, []string{"ConsumerLabel", "IDX Feed 7"}, 403},
		"text":                {one, []string{"Content-Type", "text/plain"}, 415},
		"text of JSON":        {one, []string{"Content-Type", "text/json"}, 415},
		"no type":             {one, []string{"Content-Type", ""}, 415},
		"deflate":             {one, []string{"Content-Encoding", "deflate"}, 415},
		"not gzip":            {one, []string{"Content-Encoding", "gzip"}, 400},
		"gzip bomb":           {bomb, []string{"Content-Encoding", "gzip"}, 413},
		"too many events":     {many, nil, 413},
		"too large":           {strings.Repeat(" ", 20_000_001), nil, 413},
		"empty":               {"", nil, 400},
		"cut":                 {`{"value":[` + one, nil, 400},
		"two values":          {one + one, nil, 400},
		"value null":          {`{"value":null}`, nil, 400},
		"not UTF-8":           {`{"EntityEventSequence":1,"ResourceName":"P","ResourceRecordKey":"` + "\xff" + `"}`, nil, 400},
		"deep":                {strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000), nil, 400},
		"zero":                {event(0, "Property", "a"), nil, 400},
		"negative":            {event(-1, "Property", "a"), nil, 400},
		"2^63":                {`{"EntityEventSequence":9223372036854775808,"ResourceName":"P","ResourceRecordKey":"k"}`, nil, 400},
		"fraction":            {`{"EntityEventSequence":1.5,"ResourceName":"P","ResourceRecordKey":"k"}`, nil, 400},
		"one bad of two":      {pushed(one, event(0, "Property", "b")), nil, 400},
		"long key":            {event(1, "Property", strings.Repeat("k", 256)), nil, 400},
		"of another resource": {`{"@reso.context":"urn:reso:metadata:2.0:resource:property",` + one[1:], nil, 400},
		"after no number":     {one, []string{"EntityEvent-Log", "l", "EntityEvent-After", "x", "EntityEvent-Through", "3"}, 400},
		"after alone":         {one, []string{"EntityEvent-Log", "l", "EntityEvent-After", "0"}, 400},
		"after above through": {one, chain("l", 4, 3), 400},
		"event outside":       {one, chain("l", 1, 3), 400},
		"negative after":      {one, chain("l", -1, 3), 400},
		"another feed":        {one, []string{":path", "/webhooks/other"}, 404},
		"GET":                 {"", []string{":method", "GET"}, 405},
		"PUT":                 {one, []string{":method", "PUT"}, 405},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/webhooks/mls/", strings.NewReader(c.body))
			r.Header.Set("Authorization", "Bearer "+d.token)
			r.Header.Set("Content-Type", "application/json; charset=utf-8")
			for i := 0; i < len(c.header); i += 2 {
				switch c.header[i] {
				case ":path":
					r.URL.Path = c.header[i+1]
				case ":method":
					r.Method = c.header[i+1]
				default:
					r.Header.Set(c.header[i], c.header[i+1])
				}
			}
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			if w.Code != c.status || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("%d %s %.300s", w.Code, w.Header().Get("Content-Type"), w.Body)
			}
			if w.Code == 401 && w.Header().Get("WWW-Authenticate") == "" || w.Code == 405 && w.Header().Get("Allow") != "POST" {
				t.Errorf("%v", w.Header())
			}
			if n, err := f.Store.Depth(t.Context(), "mls"); n != 0 || err != nil {
				t.Errorf("%d events are stored, %v", n, err)
			}
		})
	}
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReceiverAccepts(t *testing.T) {
	d := newDoor(t, newFeed(t, nil, "Property"))
	d.feed.Label = "IDX Feed 123"
	for name, header := range map[string][]string{
		"plain": nil, "label": {"EntityEventSource", "IDX Feed 123"}, "old label": {"ConsumerLabel", "IDX Feed 123"},
		"a dialect of JSON": {"Content-Type", "application/hal+json"}, "a charset": {"Content-Type", "application/json; charset=ISO-8859-1"}, "log alone": {"EntityEvent-Log", "l"},
		"positions without a log": {"EntityEvent-After", "3", "EntityEvent-Through", "99"},
	} {
		if w := d.push(event(9, "Property", "a"), header...); w.Code != 200 || w.Body.String() != `{"status":"ok"}`+"\n" {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	w := d.push(zipped(t, event(10, "Property", "b")), "Content-Encoding", "gzip",
		"Accept", "application/hal+json, application/problem+json;q=0.9, application/json;q=0.8")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/hal+json" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if n, err := d.feed.Store.Depth(t.Context(), "mls"); n != 2 || err != nil {
		t.Errorf("%d events are stored, %v", n, err)
	}
}

// failingStore cannot store.
type failingStore struct{ consumer.Store }

func (failingStore) Receive(context.Context, entityevent.Delivery) (entityevent.Position, error) {
	return entityevent.Position{}, errors.New("disk full at /var/secret")
}

func TestStoreThatFails(t *testing.T) {
	f := newFeed(t, nil, "Property")
	d := newDoor(t, f)
	f.Store = failingStore{f.Store}
	w := d.push(event(1, "Property", "a"))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// A push that comes twice, or with an event more, changes nothing twice. One that does not follow the
// cursor is stored, moves nothing, and polling brings what was missed.
func TestPushesRepeatedAndOutOfChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		f := newFeed(t, to(src), "Property")
		f.Poll = "@every 24h"
		d := newDoor(t, f)
		stop := run(t, f)
		pass(time.Minute)
		polls := len(src.asked("EntityEvent"))
		src.put("Property", "P0001", property("P0001", 7))
		for range 2 {
			w := d.push(pushed(event(6, "Property", "P0001")), chain("log-1/all", 5, 6)...)
			if w.Code != 200 || w.Header().Get("EntityEvent-Cursor") != "log-1/all:6" {
				t.Errorf("%d %v", w.Code, w.Header())
			}
		}
		src.put("Property", "P0002", property("P0002", 7))
		w := d.push(pushed(event(6, "Property", "P0001"), event(7, "Property", "P0002")), chain("log-1/all", 5, 7)...)
		if w.Header().Get("EntityEvent-Cursor") != "log-1/all:7" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
		pass(time.Second)
		equal(t, src, f.Store)
		if n := len(src.asked("EntityEvent")); n != polls {
			t.Errorf("polled %d times though the chain holds", n-polls)
		}
		src.put("Property", "P0003", property("P0003", 7)) // 8: its push is lost
		src.put("Property", "P0004", property("P0004", 7))
		w = d.push(pushed(event(9, "Property", "P0004")), chain("log-1/all", 8, 9)...)
		if w.Header().Get("EntityEvent-Cursor") != "log-1/all:7" {
			t.Errorf("a broken chain moved the cursor: %v", w.Header())
		}
		pass(time.Second)
		equal(t, src, f.Store)
		if s := status(t, f); s.Behind || s.Sequence != 9 {
			t.Errorf("%+v", s)
		}
		stop()
	})
}

// A push of another log stores nothing; whether there is one, a poll finds out.
func TestPushOfAnotherLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 5)
		f := newFeed(t, to(src), "Property")
		f.Poll = "@every 24h"
		d := newDoor(t, f)
		stop := run(t, f)
		pass(time.Minute)
		polls := len(src.asked("EntityEvent"))
		w := d.push(pushed(event(70, "Property", "P0001")), chain("log-2/all", 5, 70)...)
		if w.Code != 200 || w.Header().Get("EntityEvent-Cursor") != "log-1/all:5" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
		pass(time.Second)
		if s := status(t, f); s.Sequence != 5 || s.Log != "log-1/all" || s.Behind {
			t.Errorf("%+v", s)
		}
		if len(src.asked("EntityEvent")) == polls {
			t.Error("nobody asked the producer")
		}
		stop()
	})
}

// Pushes that arrive before and during the first load are kept.
func TestPushesBeforeAndDuringFirstLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("log-1/all", 1500)
		during := false
		var d *door
		f := newFeed(t, wire(func(r *http.Request) (*http.Response, error) {
			resp, err := to(src)(r)
			if strings.Contains(r.URL.RequestURI(), "/Property") && !strings.Contains(r.URL.Path, "(") && !during {
				during = true
				src.put("Property", "P0001", property("P0001", 7))
				if w := d.push(pushed(event(1501, "Property", "P0001")), chain("log-1/all", 1500, 1501)...); w.Code != 200 {
					t.Error(w.Code)
				}
			}
			return resp, err
		}), "Property")
		d = newDoor(t, f)
		if w := d.push(pushed(event(3, "Property", "P0002")), chain("log-1/all", 2, 3)...); w.Code != 200 || w.Header().Get("EntityEvent-Cursor") != "" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
		stop := run(t, f)
		pass(time.Minute)
		equal(t, src, f.Store)
		if s := status(t, f); s.Sequence != 1501 || s.Pending != 0 || !s.Loaded {
			t.Errorf("%+v", s)
		}
		stop()
	})
}

// Pushes of other producers name no positions: they are stored at once, and a poll confirms them.
func TestPushWithoutPositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled("", 5)
		f := newFeed(t, to(src), "Property")
		f.Poll = "@every 24h"
		d := newDoor(t, f)
		stop := run(t, f)
		pass(10 * time.Minute)
		src.put("Property", "P0001", property("P0001", 7))
		src.put("Property", "P0002", property("P0002", 7))
		if w := d.push(event(7, "Property", "P0002")); w.Code != 200 {
			t.Fatal(w.Code)
		}
		pass(time.Minute)
		equal(t, src, f.Store)
		if s := status(t, f); s.Behind || s.Sequence != 7 {
			t.Errorf("%+v", s)
		}
		stop()
	})
}
