package main_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recordLines are records of Property with the numbers from a first to before a last.
func recordLines(first, last int, members string) string {
	var b strings.Builder
	for i := first; i < last; i++ {
		fmt.Fprintf(&b, "{\"ListingKey\":\"%03d\"%s}\n", i, members)
	}
	return b.String()
}

// TestImportReplace with an agent and without: several files are one whole, in one go, or nothing goes.
func TestImportReplace(t *testing.T) {
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("agent=%v", running), func(t *testing.T) {
			t.Parallel()
			s, address := newShell(t), freeAddress(t)
			s.write("resosync.yaml", producerConfig(address))
			if running {
				s.agent(address)
			}
			events := func(want int) {
				t.Helper()
				if got := strings.Count(s.must(0, "", "events").stdout, "\n"); got != want {
					t.Errorf("%d events, want %d", got, want)
				}
			}
			s.write("1.jsonl", recordLines(0, 12, ""))
			var zipped bytes.Buffer
			w := gzip.NewWriter(&zipped)
			if _, err := io.WriteString(w, `{"@reso.context":"urn:reso:metadata:2.0:resource:property","value":[{"ListingKey":"100"},{"ListingKey":"101"}]}`); err != nil || w.Close() != nil {
				t.Fatal(err)
			}
			s.write("2.json.gz", zipped.String())
			s.pipe(`{"MediaKey":"m"}`, "import", "--resource", "Media", "-").must(t, 0, "1 new", "import -")
			all := []string{"import", "--replace", "--resource", "Property", "1.jsonl", "2.json.gz"}
			s.must(0, "^1.jsonl: 12 new, 0 changed, 0 unchanged, 0 refused\n2.json.gz: 2 new, 0 changed, 0 unchanged, 0 refused\nProperty: 0 gone\n$", all...)
			s.must(0, "^1.jsonl: 0 new, 0 changed, 12 unchanged, 0 refused\n2.json.gz: 0 new, 0 changed, 2 unchanged, 0 refused\nProperty: 0 gone\n$", all...)
			events(15)

			// Less than half: gone. More: held, while what changed goes in.
			s.write("1.jsonl", recordLines(6, 12, ""))
			s.must(0, "Property: 6 gone\n", all...)
			events(21)
			s.write("1.jsonl", recordLines(11, 12, ""))
			s.must(1, "Property: 5 missing, none removed: that is, with 6 removed within the last hour, too many of 14 to be right by itself", all...)
			s.must(1, "Property: 5 missing, none removed", all...) // asked again it is not more right
			s.must(0, "Property: 5 gone\n", append(all, "--allow-deletes")...)
			s.write("1.jsonl", recordLines(0, 12, `,"V":1`))
			s.must(0, "1.jsonl: 11 new, 1 changed", all...)
			events(38)
			s.write("1.jsonl", recordLines(0, 1, `,"V":2`))
			held := s.must(1, "Property: 11 missing, none removed: that is, with 6 removed within the last hour, too many of 20 to be right by itself: if it is, import it again with --allow-deletes\n", all...)
			if !strings.HasPrefix(held.stdout, "1.jsonl: 0 new, 1 changed, 0 unchanged, 0 refused\n") {
				t.Errorf("%s", held.stdout)
			}
			events(39)

			// What is no whole removes nothing, whatever is allowed.
			s.write("bad.jsonl", recordLines(0, 1, `,"V":2`)+"{\"ListingKey\":\n")
			s.must(1, "bad.jsonl:2: .*\n.*Property: 13 missing, none removed: a record of the input could not be read", "import", "--replace", "--allow-deletes", "--resource", "Property", "bad.jsonl")
			s.write("empty.jsonl", "")
			s.must(1, "^empty.jsonl: 0 new, 0 changed, 0 unchanged, 0 refused\n.*Property: 14 missing, none removed: the input has no record of it", "import", "--replace", "--resource", "Property", "empty.jsonl")
			s.write("cut.json", `[{"ListingKey":"000","V":2}`)
			s.must(1, "cut.json: 0 new, 0 changed, 1 unchanged, 0 refused\n.*cut.json: import: invalid JSON in line 1: the input ends in the middle", "import", "--replace", "--allow-deletes", "--resource", "Property", "cut.json")
			s.must(1, "no such file", "import", "--replace", "--allow-deletes", "--resource", "Property", "1.jsonl", "absent.jsonl")
			events(39)
			if running {
				cutRequest(t, s, address)
				events(39)
			}

			s.must(0, `^{"file":"1.jsonl","new":0,"changed":0,"unchanged":1,"refused":0}\n{"file":"2.json.gz","new":0,"changed":0,"unchanged":2,"refused":0}\n{"resource":"Property","gone":11,"held":0}\n$`,
				append(all, "--allow-deletes", "--json")...)
			events(50)
			s.must(2, "--allow-deletes belongs to --replace", "import", "--allow-deletes", "1.jsonl")
			s.must(0, `Media\tm\n`, "events", "--limit", "1")
		})
	}
}

// cutRequest sends a body whose last boundary is missing: more may have been to come.
func cutRequest(t *testing.T, s *shell, address string) {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(s.dir, "data", "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	const part = "--b\r\n\r\n{\"ListingKey\":\"000\",\"V\":2}"
	for _, body := range []string{part + "\r\n--b\r\n", part + "\r\n--b", part, "--b\r\n", "", part + "\r\n--b--\r\n"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			"http://"+address+"/admin/import?resource=Property&replace=1&allow_deletes=1&files=2", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		r.Header.Set("Content-Type", "multipart/mixed; boundary=b")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(text, []byte(`"error":"`)) || bytes.Contains(text, []byte(`"gone"`)) {
			t.Errorf("%q: %d %s %v", body, resp.StatusCode, text, err)
		}
	}
}
