package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestIntegratorsPage follows the page for integrators to the letter, in an empty folder and on ports that are free.
// What the page shows of answers must be in the output, with other numbers, names and times.
func TestIntegratorsPage(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	for _, tool := range []string{"bash", "curl", "node", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: the page needs %s, and it is not installed", tool)
		}
	}
	page, err := os.ReadFile("../producer/README.md")
	if err != nil {
		t.Fatal(err)
	}
	output := walk(t, string(page))
	seen := unnamed(output)
	shown := regexp.MustCompile("(?ms)^```(json|text)\n(.*?)^```").FindAllStringSubmatch(string(page), -1)
	for _, block := range shown {
		wanted := strings.Split(strings.TrimSpace(block[2]), "\n")
		if block[1] == "json" {
			var text bytes.Buffer
			if err := json.Compact(&text, []byte(block[2])); err != nil {
				t.Errorf("%v in\n%s", err, block[2])
			}
			wanted = []string{text.String()}
		}
		for _, want := range wanted {
			if !strings.Contains(seen, unnamed(want)) {
				t.Errorf("the page shows what is not in the output: %s", want)
			}
		}
	}
	if len(shown) < 6 {
		t.Errorf("found only %d answers on the page", len(shown))
	}

	// In the order of the page: what was held, pushed, refused, cancelled, loaded and heard.
	for _, want := range []string{
		`"value":[{"EntityEventSequence":4,"ResourceName":"Property","ResourceRecordKey":"1002"`,
		"POST /all signed 4 5 ", "POST /all signed 0 1 ",
		`"status":"cancelled"`, "HTTP/1.1 204 No Content",
		"POST /once not signed", `"status":403`,
		"HTTP/1.1 200 OK", `{"@reso.context":`, "HTTP/1.1 206 Partial Content", "POST /digest not signed",
		`"message":"new_change"`, `"event_type":"ENTITY_EVENT"`,
		"1 entity_event ", `2 note "sold?"`,
	} {
		_, after, found := strings.Cut(output, want)
		if !found {
			t.Errorf("the walk's output lacks %s, or it comes too early", want)
			continue
		}
		output = after
	}
}

// unnamed is a text without what is different each time.
func unnamed(text string) string {
	for _, each := range []struct{ pattern, with string }{
		{`127\.\d+\.\d+\.\d+:\d+`, "HOST"},
		{`\d{4}-\d\d-\d\dT[\d:.]+Z`, "TIME"},
		{`[A-Za-z0-9+/=_-]{22,}`, "NAME"},
		{`\d+`, "0"},
	} {
		text = regexp.MustCompile(each.pattern).ReplaceAllString(text, each.with)
	}
	return text
}
