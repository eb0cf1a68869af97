package subscription_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/resosync/resosync/producer"
)

// TestAtOnce: of changes that come at the same time none is lost and none half done, whatever their order.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	x.put("Property", "1", "2", "3")
	id := x.register(whole, "")
	path := "/subscriptions/" + id
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			switch i % 5 {
			case 0:
				x.ask(whole, "POST", path+"/resume", fmt.Sprintf(`{"fromSequence": %d}`, i%4)).want(t, 202)
			case 1: // both or neither
				x.ask(whole, "PATCH", path, fmt.Sprintf(`{"callbackToken": "token-%[1]d", "batchSize": %[1]d}`, i)).want(t, 200)
			case 2:
				x.ask(whole, "GET", path, "").want(t, 200)
			case 3:
				x.move(id, func(s *producer.SubscriptionState) { s.Attempts++; s.Suspend("refused") })
			case 4:
				x.ask(whole, "PATCH", path, `{"timeout": 30}`).want(t, 200)
			}
		})
	}
	all.Wait()
	last, _, _ := x.pushers.last()
	subs, err := x.api.Active(t.Context())
	if err != nil || len(subs) != 1 || fmt.Sprint(subs[0]) != fmt.Sprint(last) {
		t.Errorf("stored %+v, started %+v, %v", subs, last, err)
	}
	if last.Token != fmt.Sprint("token-", last.BatchEvents) || last.Timeout.String() != "30s" {
		t.Errorf("%+v", last)
	}
	// And cancelled it stays, whatever came with that.
	statuses := make([]int, 60)
	for i := range statuses {
		all.Go(func() {
			switch i % 4 {
			case 0:
				statuses[i] = x.ask(whole, "PUT", path, fmt.Sprintf(`{"message": "by %d"}`, i)).status
			case 1:
				statuses[i] = x.ask(whole, "DELETE", path, "").status
			case 2:
				statuses[i] = x.ask(whole, "POST", path, `{"status": "active"}`).status
			case 3:
				statuses[i] = x.ask(whole, "PATCH", path, fmt.Sprintf(`{"callbackToken": "late-%d"}`, i)).status
			}
		})
	}
	all.Wait()
	for i, status := range statuses {
		if want := [][]int{{202}, {204}, {202, 403}, {200, 403}}[i%4]; status != want[0] && status != want[len(want)-1] {
			t.Errorf("%d was answered %d, want %v", i, status, want)
		}
	}
	if s := x.state(id); s.Status != producer.Cancelled || x.active() != nil {
		t.Errorf("%+v", s)
	}
}

// running runs real pushers, whose pushes arrive on a channel. It implements subscription.Pushers.
type running struct {
	store  producer.Store
	ctx    context.Context
	pushes chan push

	mu   sync.Mutex
	runs map[string]*one
	all  sync.WaitGroup
}

type one struct {
	*producer.Pusher
	stop context.CancelFunc
	done chan struct{}
}

// push is one that is under way, until it is answered.
type push struct {
	*http.Request
	body   string
	answer chan int
}

// RoundTrip implements http.RoundTripper.
func (p *running) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	in := push{r, string(body), make(chan int, 1)}
	select {
	case p.pushes <- in:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	select {
	case status := <-in.answer:
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func (p *running) Start(s producer.Subscription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.runs[s.Name]
	ctx, stop := context.WithCancel(p.ctx)
	now := &one{&producer.Pusher{Store: p.store, Subscription: s, HTTP: &http.Client{Transport: p}}, stop, make(chan struct{})}
	p.runs[s.Name] = now
	p.all.Go(func() {
		defer close(now.done)
		if before != nil {
			before.stop()
			<-before.done
		}
		if err := now.Run(ctx); err != nil {
			panic(err)
		}
	})
}

func (p *running) Wake(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.runs[name]; r != nil {
		r.Pusher.Wake()
	}
}

func (p *running) ended(name string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runs[name].done
}

// run gives the rig real pushers.
func (x *rig) run(t *testing.T) *running {
	ctx, cancel := context.WithCancel(context.Background())
	p := &running{store: x.store, ctx: ctx, pushes: make(chan push), runs: map[string]*one{}}
	x.api.Pushers = p
	t.Cleanup(func() { cancel(); p.all.Wait() })
	return p
}

// next is the next push, which has to be of these events; after "*": from wherever.
func (p *running) next(t *testing.T, after, through string) push {
	t.Helper()
	select {
	case in := <-p.pushes:
		if h := in.Header; after != "*" && h.Get("EntityEvent-After") != after || h.Get("EntityEvent-Through") != through {
			t.Errorf("pushed (%s, %s], want (%s, %s]: %s", h.Get("EntityEvent-After"), h.Get("EntityEvent-Through"), after, through, in.body)
		}
		if found := described().Callback("createSubscription", "events", in.Request, []byte(in.body)); len(found) > 0 {
			t.Errorf("%q", found)
		}
		return in
	case <-t.Context().Done():
		t.Fatal("nothing was pushed")
		return push{}
	}
}

// TestCancelWhileInFlight: a push that is under way may arrive; none comes after it, and what the subscriber says to it
// changes nothing.
func TestCancelWhileInFlight(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 500, 410} {
		x := newRig(t)
		p := x.run(t)
		x.put("Property", "1", "2")
		id := x.register(whole, `, "fromSequence": 0`)
		in := p.next(t, "0", "2")
		x.ask(whole, "DELETE", "/subscriptions/"+id, "").want(t, 204)
		ended := p.ended(id)
		in.answer <- status
		<-ended
		x.put("Property", "3")
		if s := x.state(id); s.Status != producer.Cancelled || s.Reason != "Your subscription is cancelled." {
			t.Errorf("answered %d: %+v", status, s)
		}
	}
}

// TestReplayWhileInFlight: what is acknowledged after a replay was asked for does not move past it.
func TestReplayWhileInFlight(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	p := x.run(t)
	x.put("Property", "1", "2", "3")
	id := x.register(whole, `, "fromSequence": 1`)
	in := p.next(t, "1", "3")
	a := x.ask(whole, "POST", "/subscriptions/"+id+"/resume", `{"fromSequence": 0}`)
	if a.want(t, 202); a.member("cursor") != "0" {
		t.Errorf("%s", a.body)
	}
	in.answer <- 200
	again := p.next(t, "0", "3")
	if !strings.Contains(again.body, `"EntityEventSequence":1`) {
		t.Errorf("%s", again.body)
	}
	again.answer <- 200
	x.put("Property", "4")
	p.next(t, "3", "4").answer <- 200
}

// TestPatchWhileInFlight: the next push goes to the new callback with the new token, and nothing is left out.
func TestPatchWhileInFlight(t *testing.T) {
	t.Parallel()
	x := newRig(t)
	p := x.run(t)
	x.put("Property", "1", "2", "3")
	id := x.register(whole, `, "fromSequence": 0, "batchSize": 2`)
	p.next(t, "0", "2").answer <- 200
	p.next(t, "2", "3") // never answered
	x.ask(whole, "PATCH", "/subscriptions/"+id, `{"callbackUrl": "https://192.0.2.9/new", "callbackToken": "new", "secret": "`+secret+`", "batchSize": 9}`).want(t, 200)
	in := p.next(t, "*", "3") // from 0 if what was acknowledged just before was not stored yet
	if in.URL.String() != "https://192.0.2.9/new" || in.Header.Get("Authorization") != "Bearer new" || in.Header.Get("webhook-signature") == "" {
		t.Errorf("%s %v", in.URL, in.Header)
	}
	in.answer <- 200
	// A suspended one that gets another token is tried again.
	x.put("Property", "4")
	p.next(t, "3", "4").answer <- 410
	x.until(func() bool { return x.state(id).Status == producer.Suspended })
	x.ask(whole, "PATCH", "/subscriptions/"+id, `{"callbackToken": "newer"}`).want(t, 200)
	p.next(t, "3", "4").answer <- 200
	// One that only waits for its owner goes on by itself.
	x.put("Property", "5")
	p.next(t, "4", "5").answer <- 410
	x.until(func() bool { return x.state(id).Status == producer.Suspended })
	x.ask(whole, "POST", "/subscriptions/"+id, `{"status": "active"}`).want(t, 202)
	p.next(t, "4", "5").answer <- 200
}

// TestPushed: what is pushed to each kind of registration is as described, and as its event types say.
func TestPushed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ more, after, through, want string }{
		{`"callbackToken": "t", "consumerLabel": "IDX Feed 123"`, "0", "3", `{"@reso.context":"urn:reso:metadata:2.0:resource:entityevent","value":[{"EntityEventSequence":1,`},
		{`"batchSize": 1, "consumerLabel": "B", "secret": "` + secret + `"`, "0", "1", `{"@reso.context":"urn:reso:metadata:2.0:resource:entityevent","EntityEventSequence":1,`},
		{`"mode": "continuous"`, "0", "3", `"UUID":"U"`},
		{`"batchSize": 1`, "0", "1", `"UUID":"U"`},
		{`"mode": "only-once"`, "0", "3", `"_links":{"self":{"href":"/subscriptions/U"}}`},
		{`"eventTypes": ["Media"], "protocol": "reso"`, "", "", `{"@reso.context":"urn:reso:metadata:2.0:resource:entityevent","value":[{"EntityEventSequence":2,"ResourceName":"Media","ResourceRecordKey":"m"}]}`},
	} {
		x := newRig(t)
		p := x.run(t)
		x.put("Property", "1")
		x.put("Media", "m")
		x.put("Property", "2")
		a := x.ask(whole, "POST", "/subscriptions", `{"callbackUrl": "https://192.0.2.7/", "fromSequence": 0, `+c.more+`}`)
		a.want(t, 201)
		in := p.next(t, c.after, c.through)
		if body := strings.ReplaceAll(in.body, a.member("UUID"), "U"); !strings.Contains(body, c.want) {
			t.Errorf("%s: %s, want %s", c.more, body, c.want)
		}
		in.answer <- 200
		if strings.Contains(c.more, "only-once") {
			<-p.ended(a.member("UUID"))
			if a := x.ask(whole, "GET", "/subscriptions/"+a.member("UUID"), ""); a.member("status") != "cancelled" || a.member("cursor") != "3" || a.member("message") == "" {
				t.Errorf("%s", a.body)
			}
		}
	}
}

// until waits for what a pusher does by itself.
func (x *rig) until(done func() bool) {
	x.Helper()
	for tick := time.NewTicker(time.Millisecond); !done(); {
		select {
		case <-tick.C:
		case <-x.Context().Done():
			x.Fatal("it did not come")
		}
	}
}
