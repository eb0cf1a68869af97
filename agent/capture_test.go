package main_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/resosync/resosync/entityevent/metadata"
)

const capture = "../../shared/capture"

// captured are the resources of the recorded server that have records.
var captured = []string{"Lookup", "Property", "Member", "Office", "Media", "OpenHouse", "Teams", "OUID", "PropertyRooms"}

// TestRecordedServerIsServedAndReplicated imports what a third-party server answered, with its metadata and with
// inferred ones: our producer answers that server's requests with the same records, and our consumer replicates it,
// equal.
func TestRecordedServerIsServedAndReplicated(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	folder, err := filepath.Abs(capture)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(folder, "index.json")); os.IsNotExist(err) {
		t.Skipf("SKIPPED: the recorded answers of a third-party server are not at %s: nothing shows here that what it holds can be served", capture)
	}
	for name, configured := range map[string]string{"its metadata": "  metadata: " + filepath.Join(folder, "metadata.xml") + "\n", "inferred metadata": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mls, vendor := newShell(t), newShell(t)
			address := freeAddress(t)
			mls.write("resosync.yaml", producerConfig(address)+configured)
			want := map[string]string{}
			for _, resource := range captured {
				files, err := filepath.Glob(filepath.Join(folder, strings.ToLower(resource)+"-0?.json"))
				if err != nil || len(files) == 0 {
					t.Fatalf("no pages of %s: %v", resource, err)
				}
				mls.must(0, ` 0 refused`, append([]string{"import", "--resource", resource}, files...)...)
				key, _ := metadata.KnownKey(resource)
				for _, file := range files {
					for _, record := range page(t, file) {
						want[resource+"/"+member(t, record, key)] = mustHash(record)
					}
				}
			}
			token := strings.TrimSpace(mls.must(0, "^eyJ", "token", "issue", "--client", "vendor").stdout)
			mls.agent(address)

			vendor.write("resosync.yaml", "name: vendor\nlisten: "+freeAddress(t)+"\nconsumer:\n  feeds:\n    - {name: mls, url: \"http://"+address+
				"/odata\", token: "+token+", resources: ["+strings.Join(captured, ", ")+"]}\n")
			vendor.must(0, `mls: level`, "sync")
			replica := &process{dir: vendor.dir}
			if have := replica.records(t, "mls"); !reflect.DeepEqual(have, want) {
				t.Errorf("the replica has %d records and the recorded server %d, or some differ", len(have), len(want))
			}
			sameAnswers(t, folder, "http://"+address+"/odata", token)
		})
	}
}

// sameAnswers sends the recorded requests to our producer. Its pages are larger and in order of keys, so what the
// recorded server gave in several pages is compared as a whole.
func sameAnswers(t *testing.T, folder, root, token string) {
	t.Helper()
	var recorded []struct {
		File, Request string
		Status        int
	}
	text, err := os.ReadFile(filepath.Join(folder, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &recorded); err != nil {
		t.Fatal(err)
	}
	theirs, ours, compared := map[string][]string{}, map[string][]string{}, 0
	for _, r := range recorded {
		target := strings.TrimPrefix(r.Request, "GET ")
		if target == "/$metadata" || strings.HasPrefix(target, "/EntityEvent") {
			continue // our own numbers, and TestMetadata compares documents
		}
		compared++
		status, body := ask(t, root+target, token)
		if status != r.Status {
			t.Errorf("%s: %d, it was %d there: %.300s", target, status, r.Status, body)
		}
		if r.Status != http.StatusOK {
			var refusal struct{ Error *struct{ Message string } }
			if json.Unmarshal(body, &refusal) != nil || refusal.Error == nil || refusal.Error.Message == "" {
				t.Errorf("%s is not refused in JSON: %s", target, body)
			}
			continue
		}
		there, err := os.ReadFile(filepath.Join(folder, r.File))
		if err != nil {
			t.Fatal(err)
		}
		if target == "/" {
			continue // it names resources that have no records
		}
		// $skip pages of one collection are one answer.
		name, query, _ := strings.Cut(target, "?")
		if skip, err := url.ParseQuery(query); err == nil && skip.Has("$skip") {
			theirs[name] = append(theirs[name], plainRecords(t, there)...)
			continue
		}
		theirs[target] = append(theirs[target], plainRecords(t, there)...)
		ours[target] = plainRecords(t, body)
		for next := nextLink(body); next != ""; next = nextLink(body) {
			_, body = ask(t, next, token)
			ours[target] = append(ours[target], plainRecords(t, body)...)
		}
	}
	for target := range theirs {
		slices.Sort(theirs[target])
		slices.Sort(ours[target])
		if !slices.Equal(theirs[target], ours[target]) {
			t.Errorf("%s: %d records here and %d there, or they differ:\n%.500s\n%.500s", target, len(ours[target]), len(theirs[target]), ours[target], theirs[target])
		}
	}
	if compared < 20 {
		t.Errorf("compared %d answers only", compared)
	}
}

func ask(t *testing.T, url, token string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

func nextLink(body []byte) string {
	var page struct {
		Next string `json:"@odata.nextLink"`
	}
	_ = json.Unmarshal(body, &page) // one record has none
	return page.Next
}

// plainRecords are the records of an answer, a page or one, without annotations, each as text that equal ones share.
func plainRecords(t *testing.T, answer []byte) (all []string) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.UseNumber()
	var whole map[string]any
	if err := decoder.Decode(&whole); err != nil {
		t.Fatalf("%v: %.300s", err, answer)
	}
	records, isPage := whole["value"].([]any)
	if !isPage {
		records = []any{whole}
	}
	for _, record := range records {
		text, err := json.Marshal(unannotated(record))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
	return all
}

// unannotated leaves annotations out. What belongs to a record comes in any order.
func unannotated(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name := range v {
			if strings.Contains(name, "@odata.") {
				delete(v, name)
				continue
			}
			v[name] = unannotated(v[name])
		}
	case []any:
		for i := range v {
			v[i] = unannotated(v[i])
		}
		slices.SortFunc(v, func(a, b any) int {
			one, _ := json.Marshal(a) // it was JSON
			other, _ := json.Marshal(b)
			return bytes.Compare(one, other)
		})
	}
	return value
}

func page(t *testing.T, file string) []json.RawMessage {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var p struct{ Value []json.RawMessage }
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	return p.Value
}

func member(t *testing.T, record []byte, name string) string {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal(record, &members); err != nil {
		t.Fatal(err)
	}
	text, _ := members[name].(string)
	if text == "" {
		t.Fatalf("no %s in %.300s", name, record)
	}
	return text
}
