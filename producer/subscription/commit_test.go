package subscription_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

// watched notes which kinds of documents are committed together, and fails instead if it is told to.
type watched struct {
	producer.Store
	mu      sync.Mutex
	commits []string
	fail    error
}

func (w *watched) Apply(ctx context.Context, c entityevent.Commit) ([]entityevent.Outcome, error) {
	var kinds []string
	for _, d := range c.Docs {
		kinds = append(kinds, d.Kind)
	}
	slices.Sort(kinds)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return nil, w.fail
	}
	w.commits = append(w.commits, strings.Join(kinds, " "))
	return w.Store.Apply(ctx, c)
}

// watch calls what commits these kinds of documents, each string one commit.
func (x *rig) watch(t testing.TB, do func(), want ...string) {
	t.Helper()
	w := &watched{Store: x.store}
	x.api.Store = w
	do()
	x.api.Store = x.store
	if !slices.Equal(w.commits, want) {
		t.Errorf("committed %q, want %q", w.commits, want)
	}
}

// TestOneCommit: what belongs together is one commit, so that no crash can part it; what fails leaves nothing, and
// nobody is told of it.
func TestOneCommit(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	x.put("Property", "1", "2")
	const body = `{"callbackUrl": "` + callback + `", "callbackToken": "hidden-token"}`
	id := ""
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		commit                   string
	}{
		{"register", "POST", "/subscriptions", body, 201, "registration subscription"},
		{"register with a key", "POST", "/subscriptions", body, 201, "idempotency registration subscription"},
		{"change", "PATCH", "/subscriptions/{id}", `{"callbackToken": "new-hidden"}`, 200, "registration subscription"},
		{"replay", "POST", "/subscriptions/{id}/resume", `{"fromSequence": 0}`, 202, "subscription"},
		{"cancel", "PUT", "/subscriptions/{id}", ``, 202, "subscription"},
	} {
		var headers []string
		if strings.Contains(c.commit, "idempotency") {
			headers = []string{"Idempotency-Key: k"}
		}
		ask := func() answered {
			return x.ask(whole, c.method, strings.ReplaceAll(c.path, "{id}", id), c.body, headers...)
		}
		before := x.documents()
		_, starts, wakes := x.pushers.last()
		for _, fail := range []error{fmt.Errorf("internal: %w", entityevent.ErrUnavailable), errors.New("internal text")} {
			x.api.Store = &watched{Store: x.store, fail: fail}
			a := ask()
			if a.wantRefused(t, 503, "The store cannot answer now"); a.header.Get("Retry-After") != "5" || strings.Contains(a.body, "internal") {
				t.Errorf("%s: %v %s", c.name, a.header, a.body)
			}
		}
		x.api.Store = x.store
		if _, s, w := x.pushers.last(); s != starts || w != wakes || x.documents() != before {
			t.Errorf("%s: it failed, and left something", c.name)
		}
		x.watch(t, func() {
			a := ask()
			a.want(t, c.status)
			id = a.member("UUID")
		}, c.commit)
	}
}

// documents is all that is stored.
func (x *rig) documents() string {
	x.Helper()
	var all strings.Builder
	for _, kind := range []string{"registration", producer.SubscriptionKind, "idempotency"} {
		docs, err := x.store.List(context.Background(), kind)
		if err != nil {
			x.Fatal(err)
		}
		for _, d := range docs {
			fmt.Fprintln(&all, d.Kind, d.ID, d.Version, string(d.Body))
		}
	}
	return all.String()
}
