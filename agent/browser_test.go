package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
)

// follows is a page of another origin. It keeps a session, listens to it as long as it stays, and posts to it.
const follows = `<!doctype html><title>follows</title><script>
async function call(path, init) {
  const answer = await fetch(api + path, init)
  if (!answer.ok) throw new Error(answer.status + ' ' + await answer.text())
  return answer.json()
}
let api, events
const seen = []
async function begin(root, client) {
  api = root
  const { token } = await call('/api/sessions', { method: 'POST', headers: { Authorization: 'Bearer ' + client } })
  events = '/api/sessions/' + token + '/events'
  listen()
  return post('paused')
}
async function listen() {
  for (;;) seen.push(...await call(events + '?last_event=' + (seen.at(-1)?.number ?? 0)))
}
const post = (data) => call(events, { method: 'POST', body: JSON.stringify({ type: 'status', data }) })
async function until(n) {
  while (seen.length < n) await new Promise((resolve) => setTimeout(resolve, 20))
  return seen
}
</script>`

// TestBrowserFollowsASession has a page of another origin, in a real browser, follow a session: it hears what it posts
// and what happens in the log.
func TestBrowserFollowsASession(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED in -short: it drives other processes, which the race detector does not see; run go test ./agent")
	}
	t.Parallel()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("SKIPPED: it needs a browser, and there is none: apt-get install chromium")
	}
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, follows)
	}))
	t.Cleanup(page.Close)
	f := newFollowing(t, "cors_origins: ['"+page.URL+"']\n")
	f.start(t)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(time.Minute))...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	type event struct {
		Type   string          `json:"type"`
		Data   json.RawMessage `json:"data"`
		Number int64           `json:"number"`
	}
	if _, err := chromedp.Run(ctx, chromedp.Navigate(page.URL)); err != nil {
		t.Fatal(err)
	}
	posted, err := chromedp.Run(ctx, chromedp.Evaluate[event](fmt.Sprintf("begin(%q, %q)", "http://"+f.address, f.client), chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, 1)
	seen, err := chromedp.Run(ctx, chromedp.Evaluate[[]event]("until(2).then(() => post('running')).then(() => until(3))", chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatal(err)
	}
	want := []event{
		{"status", json.RawMessage(`"paused"`), 1},
		{"entity_event", json.RawMessage(`{"EntityEventSequence":1,"ResourceName":"Property","ResourceRecordKey":"1"}`), 2},
		{"status", json.RawMessage(`"running"`), 3},
	}
	if diff := cmp.Diff(want, seen); diff != "" || !cmp.Equal(posted, want[0]) {
		t.Errorf("posted %+v\n%s", posted, diff)
	}
}
