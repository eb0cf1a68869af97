package task_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/resosync/resosync/producer"
	"github.com/resosync/resosync/producer/task"
)

// large is a rig with a snapshot of several blocks, and its content.
func large(t testing.TB) (r *rig, target, plain string, packed []byte) {
	r = newRig(t)
	r.listings(1500, 700)
	r.run()
	path := r.create(`{"type":"snapshot"}`)
	r.done(path)
	target = path + "/result"
	plain = r.get(target).body
	packed = []byte(r.get(target, "Accept-Encoding: gzip").body)
	if len(plain) < 3*task.BlockSize || len(packed) > len(plain)/3 {
		t.Fatalf("%d bytes, %d of gzip", len(plain), len(packed))
	}
	return r, target, plain, packed
}

func TestResult(t *testing.T) {
	r, target, plain, packed := large(t)
	id := strings.Split(target, "/")[2]
	headers := []string{"Content-Type: application/x-ndjson", "Accept-Ranges: bytes", "Cache-Control: no-store", "EntityEvent-Log: " + string(r.store.LogID()) + "/all",
		"EntityEvent-After: 1500", "EntityEvent-Through: 1500", "Vary: Accept-Encoding", "X-Content-Type-Options: nosniff"}
	for method, body := range map[string]string{http.MethodGet: plain, http.MethodHead: ""} {
		a := r.do(method, target, "").has(headers...).has("Content-Encoding", `ETag: "`+id+`"`, "Content-Length: "+strconv.Itoa(len(plain)))
		if a.want(http.StatusOK); a.body != body {
			t.Errorf("%s: another body", method)
		}
		a = r.do(method, target, "", "Accept-Encoding: br, gzip;q=0.5").has(headers...).
			has("Content-Encoding: gzip", `ETag: "`+id+`-gzip"`, "Content-Length: "+strconv.Itoa(len(packed)))
		if a.want(http.StatusOK); method == http.MethodGet && a.body != string(packed) {
			t.Errorf("%s: another body", method)
		}
	}
	r.get(target, "Accept-Encoding: gzip;q=0").has("Content-Encoding").want(http.StatusOK)
	r.get(target, `If-None-Match: "x", W/"`+id+`"`).has(`ETag: "`+id+`"`, "EntityEvent-After: 1500", "Content-Type").want(http.StatusNotModified)
	r.get(target, `If-Match: "`+id+`"`).want(http.StatusOK)
	r.get(target, `If-Match: "x"`).has("Content-Type: application/problem+json", "EntityEvent-Log", "Content-Encoding").want(http.StatusPreconditionFailed)

	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	unzipped.Multistream(false) // some programs read one member only
	text, err := io.ReadAll(unzipped)
	if err != nil || string(text) != plain {
		t.Errorf("gzip has another content: %v", err)
	}
	lines := strings.Split(strings.TrimSuffix(plain, "\n"), "\n")
	if len(lines) != 1500 || !strings.HasPrefix(lines[7], `{"@reso.context":"urn:reso:metadata:2.0:resource:property","ListingKey":"p0000007","ListPrice":7,"PublicRemarks":"p0000007p`) {
		t.Errorf("%d lines, %.200s", len(lines), lines[7])
	}
}

// TestRanges: each part of a result is the one of the whole, with gzip or without.
func TestRanges(t *testing.T) {
	r, target, plain, packed := large(t)
	whole := map[string]string{"": plain, "gzip": string(packed)}
	tags := map[string]string{}
	for encoding := range whole {
		tags[encoding] = r.do(http.MethodHead, target, "", "Accept-Encoding: "+encoding).header.Get("ETag")
	}
	rapid.Check(t, func(t *rapid.T) {
		encoding := rapid.SampledFrom([]string{"", "gzip"}).Draw(t, "encoding")
		content := whole[encoding]
		var asked, want []string
		total := 0
		for range rapid.IntRange(1, 4).Draw(t, "ranges") {
			from := rapid.IntRange(0, len(content)-1).Draw(t, "from")
			if rapid.Bool().Draw(t, "at a block") {
				from = min(len(content)-1, max(0, from/task.BlockSize*task.BlockSize-rapid.IntRange(0, 2).Draw(t, "before")))
			}
			to := min(len(content), from+rapid.IntRange(1, task.BlockSize+3).Draw(t, "length"))
			text := fmt.Sprintf("%d-%d", from, to-1)
			switch rapid.IntRange(0, 3).Draw(t, "form") {
			case 0:
				text = fmt.Sprintf("%d-%d", from, to-1)
			case 1:
				text, to = fmt.Sprintf("%d-", from), len(content)
			case 2:
				text, from, to = fmt.Sprintf("-%d", to-from), len(content)-(to-from), len(content)
			}
			asked, want, total = append(asked, text), append(want, content[from:to]), total+to-from
		}
		a := r.get(target, "Accept-Encoding: "+encoding, "Range: bytes="+strings.Join(asked, ","), "If-Range: "+tags[encoding])
		if total > len(content) || encoding != "" && len(asked) > 1 { // they would cost more than all of it, or be no gzip
			if a.status != http.StatusOK || a.body != content {
				t.Fatalf("%v: %d", asked, a.status)
			}
			return
		}
		if a.status != http.StatusPartialContent || a.header.Get("ETag") != tags[encoding] || a.header.Get("Content-Encoding") != encoding {
			t.Fatalf("%v: %d %v", asked, a.status, a.header)
		}
		if got := parts(t, a); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Fatalf("%v: %d parts that are others", asked, len(got))
		}
	})
	r.get(target, "Range: bytes=0-9", `If-Range: "older"`).has("Content-Range").want(http.StatusOK)
	r.get(target, "Range: bytes=0-9", "Accept-Encoding: gzip", "If-Range: "+tags[""]).has("Content-Range").want(http.StatusOK)
	for _, none := range []string{"lines=0-9", "bytes=x", "bytes", "bytes=", "bytes=-", "bytes=9-3", "bytes=0-1,x", "bytes=1-0x2", "bytes=--2", "bytes=-0"} {
		r.get(target, "Range: "+none).has("Content-Range").want(http.StatusOK)
	}
	r.get(target, "Range: bytes=999999999-").has("Content-Range: bytes */"+strconv.Itoa(len(plain)), "Content-Type: application/problem+json", "EntityEvent-Log").
		want(http.StatusRequestedRangeNotSatisfiable)
	r.get(target, "Range: bytes=3-3").has("Content-Length: 1").want(http.StatusPartialContent)
	r.get(target, "Range: bytes=0-1,5-6", "Accept-Encoding: gzip").has("Content-Range", "Content-Encoding: gzip").want(http.StatusOK)
	r.get(target, "Range: bytes=0-0"+strings.Repeat(",5-5", 64)).has("Content-Range").want(http.StatusOK)
	r.do(http.MethodHead, target, "", "Range: bytes=3-9").has("Content-Range: bytes 3-9/"+strconv.Itoa(len(plain)), "Content-Length: 7").want(http.StatusPartialContent)
}

// parts are the parts of an answer.
func parts(t *rapid.T, a answer) (all []string) {
	kind, parameters, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" {
		return []string{a.body}
	}
	reader := multipart.NewReader(strings.NewReader(a.body), parameters["boundary"])
	for {
		part, err := reader.NextPart()
		if err != nil {
			return all
		}
		text, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
}

// TestDamagedResult: what is no whole result is not served as one, and its task failed.
func TestDamagedResult(t *testing.T) {
	r, target, _, packed := large(t)
	whole, err := os.ReadFile(filepath.Join(r.dir, "results", strings.Split(target, "/")[2]+".result"))
	if err != nil {
		t.Fatal(err)
	}
	lose := func(change func(file string) error) (path string) {
		t.Helper()
		path = r.create(`{"type":"snapshot"}`)
		r.done(path)
		if err := change(filepath.Join(r.dir, "results", path[len("/tasks/"):]+".result")); err != nil {
			t.Fatal(err)
		}
		return path
	}
	gone := func(path string) {
		t.Helper()
		r.get(path + "/result").want(http.StatusNotFound)
		r.wantStatus(path, "failed", "lost")
		for _, name := range r.files() {
			if name == path[len("/tasks/"):]+".result" {
				t.Errorf("left: %s", name)
			}
		}
	}
	for _, n := range []int{0, 10, len(packed), len(whole) - 1, len(whole) - 8} {
		path := lose(func(file string) error { return os.WriteFile(file, whole[:n], 0o600) })
		r.get(path + "/result").want(http.StatusNotFound)
		gone(path)
	}
	path := lose(os.Remove)
	r.wantStatus(path, "failed", "lost") // before anybody asks for the result
	gone(path)
	path = lose(func(file string) error {
		bent := bytes.Clone(whole)
		bent[len(packed)/2] ^= 4
		return os.WriteFile(file, bent, 0o600)
	})
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler { //nolint:errorlint // as net/http does
				t.Error("a damaged result is not cut off")
			}
		}()
		r.get(path + "/result")
	}()
	gone(path)
	if !strings.Contains(r.log.String(), "level=ERROR") {
		t.Error("nobody was told")
	}
	r.get(target).want(http.StatusOK)
}

// TestResultOfAnotherSight: a client who may see something else by now does not get what it could see then.
func TestResultOfAnotherSight(t *testing.T) {
	for name, change := range map[string]func(r *rig, c *producer.Client){
		"another profile": func(r *rig, c *producer.Client) {
			*c, _ = r.gate.client("idx")
			c.Name = "alice"
		},
		"another mask":                  func(_ *rig, c *producer.Client) { c.Mask = 2 },
		"other fields":                  func(_ *rig, c *producer.Client) { c.Hide = map[string][]string{"Property": {"City"}} },
		"other resources":               func(_ *rig, c *producer.Client) { c.Resources = []string{"Property"} },
		"other records in others":       func(_ *rig, c *producer.Client) { c.Inline = map[string]string{"Media": ""} },
		"another filter of the profile": func(_ *rig, c *producer.Client) { c.Rules = "others" },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).run()
			path := r.create(`{"type":"snapshot"}`)
			r.done(path)
			r.get(path + "/result").want(http.StatusOK)
			c, _ := r.gate.client("alice")
			change(r, &c)
			r.gate.set(c)
			if detail := r.get(path + "/result").has("ETag").want(http.StatusForbidden)["detail"]; !strings.Contains(detail.(string), "POST /tasks") {
				t.Error(detail)
			}
			r.wantStatus(path, "failed", "something else by now")
			r.get(path, "Accept: application/hal+json").want(http.StatusUnprocessableEntity)
		})
	}
}
