package subscription_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/producer"
)

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	const key, body = "Idempotency-Key: 3f1c", `{"callbackUrl": "https://192.0.2.7/", "callbackToken": "hidden-token", "eventTypes": ["Property"]}`
	first := x.ask(whole, "POST", "/subscriptions", body, key)
	first.want(t, 201)
	id := first.member("UUID")
	same := func(a answered) {
		t.Helper()
		if a.status != 201 || a.body != first.body || a.header.Get("Location") != first.header.Get("Location") || a.header.Get("Content-Type") != first.header.Get("Content-Type") {
			t.Errorf("%d %v %s, want as before: %s", a.status, a.header, a.body, first.body)
		}
	}
	same(x.ask(whole, "POST", "/subscriptions", body, key))
	same(x.ask(whole, "POST", "/subscriptions/", ` { "eventTypes":["Property"],"callbackToken":"hidden-token",  "callbackUrl":"https://192.0.2.7/"}`, key))
	x.put("Property", "1") // the head is another one
	same(x.ask(whole, "POST", "/subscriptions", body, key))
	for _, other := range []string{`{"callbackUrl": "https://192.0.2.7/"}`, strings.Replace(body, "hidden-token", "hidden-other", 1), `{}`, strings.Replace(body, `"eventTypes"`, `"x": 1, "eventTypes"`, 1)} {
		x.ask(whole, "POST", "/subscriptions", other, key).wantRefused(t, 422, "was used for another request")
	}
	// Whatever became of it.
	x.ask(whole, "PATCH", "/subscriptions/"+id, `{"callbackToken": "new"}`).want(t, 200)
	x.ask(whole, "DELETE", "/subscriptions/"+id, "").want(t, 204)
	_, starts, _ := x.pushers.last()
	same(x.ask(whole, "POST", "/subscriptions", body, key))
	if _, n, _ := x.pushers.last(); n != starts || x.count("registration") != 1 || x.state(id).Status != producer.Cancelled {
		t.Errorf("%d starts, %d registrations", n-starts, x.count("registration"))
	}
	// It is one client's.
	if a := x.ask(other, "POST", "/subscriptions", body, key); a.want(t, 201) == first.body {
		t.Error("another client gets the answer")
	}
	if a := x.ask(owner, "POST", "/subscriptions?client="+whole, body, key); a.body != first.body {
		t.Errorf("the agent's own people, for the same client: %s", a.body)
	}
	// What was refused may be mended.
	x.ask(whole, "POST", "/subscriptions", `{"callbackUrl": "https://10.0.0.1/"}`, "Idempotency-Key: mended").wantRefused(t, 403, "not public")
	x.ask(whole, "POST", "/subscriptions", body, "Idempotency-Key: mended").want(t, 201)
	for _, bad := range []string{"", strings.Repeat("k", 256), "a\tb", "schlüssel"} {
		x.ask(whole, "POST", "/subscriptions", body, "Idempotency-Key: "+bad).wantRefused(t, 400, "Idempotency-Key")
	}
	x.ask(whole, "POST", "/subscriptions", body, "Idempotency-Key: "+strings.Repeat("k", 255)).want(t, 201)
	two := httptest.NewRequestWithContext(t.Context(), "POST", "/subscriptions", strings.NewReader(body))
	two.Header = http.Header{"Authorization": {"Bearer " + whole}, "Content-Type": {"application/json"}, "Idempotency-Key": {"one", "two"}}
	w := httptest.NewRecorder()
	if x.api.ServeHTTP(w, two); w.Code != 400 {
		t.Errorf("two keys: %d %s", w.Code, w.Body)
	}
}

// TestIdempotencyAtOnce: of requests with one key that come at the same time, one makes a subscription.
func TestIdempotencyAtOnce(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	var done sync.WaitGroup
	answers := make([]answered, 24)
	for i := range answers {
		done.Go(func() {
			body := `{"callbackUrl": "https://192.0.2.7/"}`
			if i%3 == 0 {
				body = `{"callbackUrl": "https://192.0.2.8/"}`
			}
			answers[i] = x.ask(whole, "POST", "/subscriptions", body, "Idempotency-Key: k")
		})
	}
	done.Wait()
	bodies := map[string]int{}
	for i, a := range answers {
		bodies[fmt.Sprint(i%3 == 0, a.status, a.body)]++
	}
	if len(bodies) != 2 || x.count("registration") != 1 || x.count(producer.SubscriptionKind) != 1 || x.count("idempotency") != 1 {
		t.Errorf("%d registrations, answers %v", x.count("registration"), bodies)
	}
	if _, n, _ := x.pushers.last(); n != 1 {
		t.Errorf("%d starts", n)
	}
}

func TestIdempotencyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRig(t)
		const key = "Idempotency-Key: k"
		const body = `{"callbackUrl": "https://192.0.2.7/"}`
		first := x.ask(whole, "POST", "/subscriptions", body, key).want(t, 201)
		time.Sleep(24 * time.Hour)
		if a := x.ask(whole, "POST", "/subscriptions", body, key); a.body != first {
			t.Errorf("after a day: %s", a.body)
		}
		x.sweep()
		if x.count("idempotency") != 1 {
			t.Error("it was forgotten too early")
		}
		time.Sleep(time.Second)
		second := x.ask(whole, "POST", "/subscriptions", `{"callbackUrl": "https://192.0.2.8/"}`, key).want(t, 201)
		if second == first || x.count("registration") != 2 {
			t.Errorf("after more than a day: %s", second)
		}
		if a := x.ask(whole, "POST", "/subscriptions", `{"callbackUrl": "https://192.0.2.8/"}`, key); a.body != second {
			t.Errorf("again: %s", a.body)
		}
		time.Sleep(25 * time.Hour)
		if x.sweep(); x.count("idempotency") != 0 || x.count("registration") != 2 {
			t.Errorf("%d keys and %d registrations", x.count("idempotency"), x.count("registration"))
		}
		_ = x.store.Close()
	})
}

func (x *rig) sweep() {
	x.Helper()
	if err := x.api.Sweep(x.Context()); err != nil {
		x.Fatal(err)
	}
}
