package producer_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent"
)

// unpacked returns the text of an answer that is compressed.
func (a answer) unpacked(t testing.TB) string {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// manyLarge makes a service with a record of some KB, 200 of them, and more events than fit one write.
func manyLarge(t testing.TB) *service {
	s := inferred(t)
	filler := strings.Repeat("remarks ", 400)
	c := entityevent.Commit{Feed: entityevent.Local}
	for i := range 200 {
		key := fmt.Sprintf("%03d", i)
		c.Changes = append(c.Changes, entityevent.Change{Ref: entityevent.Ref{Resource: "Property", Key: key},
			Body: json.RawMessage(`{"ListingKey":"` + key + `","PublicRemarks":"` + filler + `"}`)})
	}
	if _, err := s.store.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGzip(t *testing.T) {
	t.Parallel()
	s := manyLarge(t)
	s.put("Office", "o", `{"OfficeKey":"o"}`)
	for _, target := range []string{"/Property('007')", "/Property", "/EntityEvent", "/$metadata?x=" + strings.Repeat("x", 10), "/"} {
		plain := s.get(target)
		if plain.header.Get("Content-Encoding") != "" {
			t.Errorf("%s: compressed for a client that did not ask", target)
		}
		packed := s.get(target, "Accept-Encoding: gzip")
		if got := packed.header.Get("Vary"); got != "Accept, Accept-Encoding" || plain.header.Get("Vary") != got {
			t.Errorf("%s: Vary %q", target, got)
		}
		if packed.header.Get("ETag") != plain.header.Get("ETag") || packed.header.Get("Content-Type") != plain.header.Get("Content-Type") {
			t.Errorf("%s: %v", target, packed.header)
		}
		head := s.do(http.MethodHead, target, "", "Accept-Encoding: gzip")
		if head.status != 200 || head.body != "" || head.header.Get("Content-Encoding") != packed.header.Get("Content-Encoding") {
			t.Errorf("HEAD %s: %d %v", target, head.status, head.header)
		}
		if len(plain.body) < 1400 {
			if packed.body != plain.body || packed.header.Get("Content-Encoding") != "" {
				t.Errorf("%s: %d bytes were compressed", target, len(plain.body))
			}
			continue
		}
		if got := packed.unpacked(t); got != plain.body || packed.header.Get("Content-Encoding") != "gzip" || len(packed.body) >= len(plain.body) {
			t.Errorf("%s: %d bytes came as %d, which are %d", target, len(plain.body), len(packed.body), len(got))
		}
		if n := packed.header.Get("Content-Length"); n != "" && n != strconv.Itoa(len(packed.body)) {
			t.Errorf("%s: Content-Length %s of %d", target, n, len(packed.body))
		}
		if n := head.header.Get("Content-Length"); n != "" {
			t.Errorf("HEAD %s: Content-Length %s", target, n)
		}
	}
	if a := s.get("/Property('007')", "Accept-Encoding: gzip"); a.header.Get("Content-Length") == "" || !strings.HasPrefix(a.header.Get("ETag"), `W/"`) {
		t.Errorf("%v", a.header)
	}
	tag := s.get("/Property('007')").header.Get("ETag")
	for _, a := range []answer{
		s.get("/Property('007')", "Accept-Encoding: gzip", "If-None-Match: "+tag), s.do("OPTIONS", "/Property", "", "Accept-Encoding: gzip"),
		s.get("/Property/$count", "Accept-Encoding: gzip"), s.get("/Property('no')", "Accept-Encoding: gzip"),
		s.do("PUT", "/Property('new')", `{"A":1}`, "Accept-Encoding: gzip", "Prefer: return=minimal"),
	} {
		if a.header.Get("Content-Encoding") != "" {
			t.Errorf("%d is compressed: %v", a.status, a.header)
		}
	}
	if a := s.do("PATCH", "/Property('007')", `{"A":1}`, "Accept-Encoding: gzip", "Prefer: return=representation"); !strings.Contains(a.unpacked(t), `"A":1`) {
		t.Errorf("%d %v", a.status, a.header)
	}
}

func TestAcceptEncoding(t *testing.T) {
	t.Parallel()
	s := manyLarge(t)
	for header, want := range map[string]bool{
		"gzip": true, "x-gzip": true, "GZIP": true, "gzip, deflate, br": true, "br;q=1.0, gzip;q=0.8, *;q=0.1": true, "*": true, "deflate;q=0.5,*;q=0.2": true,
		"identity": false, "br": false, "deflate": false, "gzip;q=0": false, "gzip;q=0.0, *": false, "*;q=0": false, "gzip;q=x": false, "gzip;q=2": false,
		"gzip;q=NaN": false, "gzip; q=0.5": true, "gzip;q=0.5, identity;q=0.8": false, "gzip;q=0.5, identity;q=0.5": true, "identity;q=0.1, *;q=0.5": true,
		"": false, ",": false, "gzipped": false,
	} {
		a := s.get("/Property('007')", "Accept-Encoding: "+header)
		if got := a.header.Get("Content-Encoding") == "gzip"; a.status != 200 || got != want {
			t.Errorf("%q: %d, compressed %v", header, a.status, got)
		}
	}
}
