package entityevent_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/resosync/resosync/entityevent"
)

func canonical(t *testing.T, raw string, volatile ...string) entityevent.Content {
	t.Helper()
	c, err := entityevent.Canonicalize([]byte(raw), volatile...)
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return c
}

func TestCanonicalizeBody(t *testing.T) {
	for raw, want := range map[string]string{
		`{}`: `{}`,
		` { "b" : 1 , "a" : [ 1 , { "y" : null , "x" : true } ] } `:               `{"b":1,"a":[1,{"y":null,"x":true}]}`,
		`{"A":1.50,"B":-0,"C":1E+5,"D":123456789012345678901234567890}`:           `{"A":1.50,"B":-0,"C":1E+5,"D":123456789012345678901234567890}`,
		`{"@odata.id":"x","A":1,"B@odata.type":"#Int64","B":[{"@odata.etag":1}]}`: `{"A":1,"B":[{}]}`,
		`{"A":1,"@odata.id":{"deep":[1]}}`:                                        `{"A":1}`,
		`{"A":"\u00e9\/"}`:                                                        `{"A":"\u00e9\/"}`,
		`{"A":"\ud83c\udfe0","B":"\ud800x","C":["\udfe0\n"]}`:                     `{"A":"\ud83c\udfe0","B":"�x","C":["�\u000a"]}`,
	} {
		if got := string(canonical(t, raw).Body); got != want {
			t.Errorf("%s became %s, want %s", raw, got, want)
		}
	}
}

func TestCanonicalizeEqual(t *testing.T) {
	for _, same := range [][]string{
		{`{}`, ` { } `, `{"@odata.context":"x"}`},
		{`{"a":1,"b":2}`, `{"b":2,"a":1}`, ` {"b" : 2,"a":1, "@odata.id":7}`, `{"\u0061":1,"b":2}`},
		{`{"a":"é/\n"}`, `{"a":"\u00e9\/\u000a"}`, `{"a":"\u00E9/\n"}`},
		{`{"a":"\ud83c\udfe0"}`, "{\"a\":\"\U0001F3E0\"}"},
		{`{"a":{"x":1,"y":[1,2]},"b":0}`, `{"b":0,"a":{"y":[1,2],"x":1}}`},
		{`{"a":{"x":1,"x@odata.type":"y"}}`, `{"a":{"x":1}}`},
	} {
		first := canonical(t, same[0])
		for _, other := range same[1:] {
			if got := canonical(t, other); got.Hash != first.Hash {
				t.Errorf("%s and %s differ", same[0], other)
			}
		}
	}
	seen := map[entityevent.Hash]string{}
	for _, raw := range []string{
		`{}`, `{"a":1}`, `{"a":1.0}`, `{"a":"1"}`, `{"a":[1]}`, `{"a":null}`, `{"A":1}`, `{"a":{}}`, `{"a":[]}`, `{"a":""}`,
		`{"a":[1,2]}`, `{"a":[2,1]}`, `{"a":[[1],2]}`, `{"a":[[1,2]]}`, `{"a":1,"b":1}`, `{"a":true}`, `{"a":"true"}`,
		`{"a":{"b":1}}`, `{"b":{"a":1}}`, `{"a":"b\":1,\"c"}`, `{"a":"b","c":1}`, `{"a":1e1}`, `{"a":10}`, `{"a":" "}`,
		`{"a":"é"}`, "{\"a\":\"e\u0301\"}", `{"a":"@b"}`, `{"a":["@b"]}`,
	} {
		c := canonical(t, raw)
		if c.Hash.IsZero() {
			t.Errorf("%s has the hash of nothing", raw)
		}
		if other, ok := seen[c.Hash]; ok {
			t.Errorf("%s and %s are taken for the same", raw, other)
		}
		seen[c.Hash] = raw
	}
}

func TestCanonicalizeVolatile(t *testing.T) {
	a := canonical(t, `{"MediaURL":"x?1","A":1,"B":{"MediaURL":1}}`, "MediaURL", "Other")
	b := canonical(t, `{"A":1,"MediaURL":"x?2","B":{"MediaURL":1},"Other":[]}`, "MediaURL", "Other")
	if a.Hash != b.Hash {
		t.Error("volatile members count")
	}
	if string(b.Body) != `{"A":1,"MediaURL":"x?2","B":{"MediaURL":1},"Other":[]}` {
		t.Errorf("the body is %s", b.Body)
	}
	if c := canonical(t, `{"A":1,"B":{"MediaURL":2}}`, "MediaURL"); c.Hash == a.Hash {
		t.Error("a member further down is not volatile")
	}
	// However it is spelled.
	if c := canonical(t, `{"\u004dediaURL":"x?3","A":1,"B":{"MediaURL":1}}`, "MediaURL"); c.Hash != a.Hash {
		t.Error("an escaped name is another name")
	}
}

func TestCanonicalizeModified(t *testing.T) {
	want := time.Date(2024, 5, 6, 5, 8, 9, 123456000, time.UTC)
	for raw, want := range map[string]time.Time{
		`{"ModificationTimestamp":"2024-05-06T07:08:09.123456789+02:00"}`: want,
		`{"A":1,"ModificationTimestamp" : "2024-05-06T05:08:09.123456Z"}`: want,
		`{"Modification\u0054imestamp":"2024-05-06T05:08:09.123456Z"}`:    want,
		`{"ModificationTimestamp":"2024-05-06T05:08:09.123456\u005a"}`:    want,
		`{"ModificationTimestamp":null}`:                                  {},
		`{"ModificationTimestamp":"yesterday"}`:                           {},
		`{"ModificationTimestamp":20240506}`:                              {},
		`{"Media":[{"ModificationTimestamp":"2024-05-06T05:08:09Z"}]}`:    {},
		`{"modificationtimestamp":"2024-05-06T05:08:09Z"}`:                {},
	} {
		if got := canonical(t, raw).Modified; !got.Equal(want) || got.IsZero() != want.IsZero() {
			t.Errorf("%s: %v, want %v", raw, got, want)
		}
	}
}

func TestCanonicalizeRefuses(t *testing.T) {
	nested := func(n int) string { return `{"a":` + strings.Repeat(`[`, n) + strings.Repeat(`]`, n) + `}` }
	canonical(t, nested(63))
	for name, raw := range map[string]string{
		"nothing": ``, "null": `null`, "an array": `[]`, "a string": `"{}"`, "cut": `{"a":1`, "two": `{}{}`, "a comma": `{"a":1,}`,
		"no comma": `{"a":1 "b":2}`, "no colon": `{"a" 1}`, "no name": `{1:2}`, "one quote": `{'a':1}`, "a comment": `{/**/}`,
		"a leading zero": `{"a":01}`, "a point": `{"a":1.}`, "no digit": `{"a":.5}`, "a plus": `{"a":+1}`, "NaN": `{"a":NaN}`, "hex": `{"a":0x1}`,
		"True": `{"a":True}`, "undefined": `{"a":undefined}`, "a minus": `{"a":-}`, "an exponent": `{"a":1e}`,
		"a control character": "{\"a\":\"\n\"}", "an unknown escape": `{"a":"\x41"}`, "a short escape": `{"a":"\u00"}`, "a cut escape": `{"a":"\`,
		"a cut string": `{"a":"b`, "not UTF-8": "{\"a\":\"\xff\"}", "a name not UTF-8": "{\"\xc3\x28\":1}", "a surrogate in UTF-8": "{\"a\":\"\xed\xa0\x80\"}",
		"a byte order mark": "\ufeff{}", "a form feed": "{\f}", "a name twice": `{"a":1,"a":1}`, "a name twice, escaped": `{"a":1,"\u0061":2}`,
		"a name twice further down": `{"x":[{"a":1,"b":2,"a":3}]}`, "deep arrays": nested(64), "deeper arrays": nested(200_000),
		"deep objects":     strings.Repeat(`{"a":`, 70) + `1` + strings.Repeat(`}`, 70),
		"deep annotation":  `{"@a":` + strings.Repeat(`[`, 70) + strings.Repeat(`]`, 70) + `}`,
		"a bad annotation": `{"@a":01}`, "a volatile name twice": `{"V":1,"V":2}`,
	} {
		if c, err := entityevent.Canonicalize([]byte(raw), "V"); !errors.Is(err, entityevent.ErrInvalid) {
			t.Errorf("%s: %s, %v", name, c.Body, err)
		} else if len(err.Error()) > 300 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}

// TestCanonicalizeOwns: the content shares no memory with what comes later.
func TestCanonicalizeOwns(t *testing.T) {
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := range 200 {
				raw := fmt.Appendf(nil, `{"B":%d,"A":"%d"}`, w, n)
				c, err := entityevent.Canonicalize(raw)
				clear(raw)
				entityevent.Canonicalize([]byte(`{"zzzzzzzzzzzzzzzzzzzzzzzzzzz":1}`))
				if err != nil || string(c.Body) != fmt.Sprintf(`{"B":%d,"A":"%d"}`, w, n) {
					t.Errorf("%s, %v", c.Body, err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzCanonicalize(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"b":1,"a":[{"y":null,"x":true}],"@odata.id":"x"}`, `{"a":"\ud83c\udfe0","b":1.50e-7}`, `{"V":1,"\u0056":2}`,
		`{"a":"\ud800\u0041"}`, `{"ModificationTimestamp":"2024-05-06T07:08:09.123456789+02:00"}`, "{\"a\":\"\xff\"}", `{"a":01}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		c, err := entityevent.Canonicalize(raw, "V")
		if !bytes.Equal(raw, before) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			if !errors.Is(err, entityevent.ErrInvalid) {
				t.Fatalf("another error than ErrInvalid: %v", err)
			}
			return
		}
		// What is accepted is JSON, and nothing but annotations and white space is missing from the body.
		if !json.Valid(raw) || !json.Valid(c.Body) {
			t.Fatalf("accepted what is not JSON: %q, %q", raw, c.Body)
		}
		if want, got := plain(t, raw), plain(t, c.Body); !reflect.DeepEqual(want, got) {
			t.Fatalf("%q became %q", raw, c.Body)
		}
		again, err := entityevent.Canonicalize(c.Body, "V")
		if err != nil || again.Hash != c.Hash || !bytes.Equal(again.Body, c.Body) || !again.Modified.Equal(c.Modified) {
			t.Fatalf("the body of %q is another record: %q, %v", raw, again.Body, err)
		}
		// The standard library writes the same value in another order, with other escapes.
		var value map[string]json.RawMessage
		if err := json.Unmarshal(c.Body, &value); err != nil {
			t.Fatal(err)
		}
		reordered, err := json.Marshal(value)
		if err != nil || bytes.Contains(c.Body, []byte(`\u`)) { // lone surrogates have no other spelling
			return
		}
		if other, err := entityevent.Canonicalize(reordered, "V"); err != nil || other.Hash != c.Hash {
			t.Fatalf("%q and %q differ, %v", c.Body, reordered, err)
		}
	})
}

// plain decodes JSON, numbers as their texts, and drops annotations.
func plain(t *testing.T, raw []byte) any {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	return strip(v)
}

func strip(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if strings.Contains(name, "@") {
				delete(v, name)
				continue
			}
			v[name] = strip(member)
		}
	case []any:
		for i := range v {
			v[i] = strip(v[i])
		}
	}
	return v
}

func BenchmarkCanonicalize(b *testing.B) {
	var s strings.Builder
	s.WriteString(`{"ListingKey":"1","ModificationTimestamp":"2024-05-06T07:08:09Z"`)
	for f := 0; s.Len() < 1400; f++ {
		fmt.Fprintf(&s, `,"%c%02d Field":"value %d"`, 'a'+f*7%26, f, f)
	}
	raw := []byte(s.String() + "}")
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := entityevent.Canonicalize(raw); err != nil {
			b.Fatal(err)
		}
	}
}
