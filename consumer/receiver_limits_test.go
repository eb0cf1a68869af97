package consumer_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/consumer"
	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/bearer"
)

// What arrives at a receiver that is open to the world: a clear refusal, nothing stored, and the next good
// push is taken. What is at the limit is taken exactly.
func TestReceiverUnderFire(t *testing.T) {
	d := newDoor(t, newFeed(t, nil, "Property"))
	const (
		head = `{"ResourceName":"Property","ResourceRecordKey":"k","EntityEventSequence":`
		rest = `"ResourceName":"Property","ResourceRecordKey":"k"`
	)
	one := event(1, "Property", "k")
	// A megabyte of zeros in a kilobyte, a thousand times.
	bomb := strings.Repeat(zipped(t, strings.Repeat(" ", 1<<20)), 1000)
	cases := map[string]struct {
		body   io.Reader
		status int
		seq    entityevent.Sequence // stored; 0: nothing
		header []string
	}{
		"100 MB":                    {body: io.LimitReader(spaces{}, 100<<20), status: 413},
		"100 MB that claims more":   {body: io.LimitReader(spaces{}, 100<<20), status: 413, header: []string{"Content-Length", "9223372036854775807"}},
		"gzip bomb of 1 GB":         {body: strings.NewReader(bomb), status: 413, header: []string{"Content-Encoding", "gzip"}},
		"cut gzip":                  {body: strings.NewReader(zipped(t, one)[:20]), status: 400, header: []string{"Content-Encoding", "gzip"}},
		"gzip in gzip":              {body: strings.NewReader(zipped(t, zipped(t, one))), status: 400, header: []string{"Content-Encoding", "gzip"}},
		"gzip and gzip":             {body: strings.NewReader(zipped(t, zipped(t, one))), status: 415, header: []string{"Content-Encoding", "gzip, gzip"}},
		"10^6 events":               {body: io.MultiReader(strings.NewReader(`{"value":[`), &repeated{text: one + ",", times: 1_000_000}, strings.NewReader(one+"]}")), status: 413},
		"deep arrays":               {body: strings.NewReader(`{"value":` + strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20) + "}"), status: 400},
		"deep objects":              {body: strings.NewReader(strings.Repeat(`{"a":`, 1<<20) + "1" + strings.Repeat("}", 1<<20)), status: 400},
		"deep inside an event":      {body: strings.NewReader(head + `1,"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}"), status: 400},
		"invalid UTF-8 in a key":    {body: strings.NewReader(`{"EntityEventSequence":1,"ResourceName":"P","ResourceRecordKey":"` + "\xc3\x28" + `"}`), status: 400},
		"invalid UTF-8 elsewhere":   {body: strings.NewReader(head + `1,"x":"` + "\xff" + `"}`), status: 400},
		"half a surrogate pair":     {body: strings.NewReader(`{"EntityEventSequence":1,"ResourceName":"P","ResourceRecordKey":"\ud800"}`), status: 400},
		"UTF-16":                    {body: strings.NewReader("\xff\xfe{\x00}\x00"), status: 400},
		"zero character in a key":   {body: strings.NewReader(`{"EntityEventSequence":1,"ResourceName":"P","ResourceRecordKey":"\u0000"}`), status: 400},
		"sequence twice":            {body: strings.NewReader(head + `1,"EntityEventSequence":2}`), status: 400},
		"sequence in both names":    {body: strings.NewReader(head + `1,"EntityEventSequenceNumeric":2}`), status: 400},
		"resource twice":            {body: strings.NewReader(head + `1,"ResourceName":"Member"}`), status: 400},
		"key twice":                 {body: strings.NewReader(head + `1,"ResourceRecordKey":"m"}`), status: 400},
		"numeric key twice":         {body: strings.NewReader(`{"EntityEventSequence":1,"ResourceName":"P","ResourceRecordKeyNumeric":1,"ResourceRecordKeyNumeric":2}`), status: 400},
		"value twice":               {body: strings.NewReader(`{"value":[` + one + `],"value":[]}`), status: 400},
		"context twice":             {body: strings.NewReader(`{"@reso.context":"` + entityevent.EventContext + `","@reso.context":"` + entityevent.EventContext + `",` + one[1:]), status: 400},
		"value null":                {body: strings.NewReader(`{"value":null}`), status: 400},
		"value null and an event":   {body: strings.NewReader(head + `1,"value":null}`), status: 400},
		"a null in value":           {body: strings.NewReader(`{"value":[null]}`), status: 400},
		"null":                      {body: strings.NewReader(`null`), status: 400},
		"an array":                  {body: strings.NewReader(`[` + one + `]`), status: 400},
		"a good and a bad event":    {body: strings.NewReader(pushed(one, event(-5, "Property", "k"))), status: 400},
		"a good event and rubbish":  {body: strings.NewReader(pushed(one) + "x"), status: 400},
		"log of 300 characters":     {body: strings.NewReader(one), status: 400, header: chain(strings.Repeat("l", 300), 0, 1)},
		"through above 2^63":        {body: strings.NewReader(one), status: 400, header: []string{"EntityEvent-Log", "l", "EntityEvent-After", "0", "EntityEvent-Through", "9223372036854775808"}},
		"positions with a fraction": {body: strings.NewReader(one), status: 400, header: []string{"EntityEvent-Log", "l", "EntityEvent-After", "0.0", "EntityEvent-Through", "1"}},

		"2^53+1":             {body: strings.NewReader(head + `9007199254740993}`), status: 200, seq: 1<<53 + 1},
		"2^53+3 as a string": {body: strings.NewReader(head + `"9007199254740995"}`), status: 200, seq: 1<<53 + 3},
		"2^63-2":             {body: strings.NewReader(head + `9223372036854775806}`), status: 200, seq: 1<<63 - 2},
		"2^63-1 as a string": {body: strings.NewReader(head + `"9223372036854775807"}`), status: 200, seq: 1<<63 - 1},
	}
	for _, bad := range []string{`0`, `-1`, `-9007199254740993`, `9223372036854775808`, `9223372036854775809`, `18446744073709551617`, `1.5`, `1e3`, `1E400`,
		`0x10`, `01`, `+1`, `true`, `[1]`, `{}`, `NaN`, ``} {
		for name, text := range map[string]string{"sequence " + bad: bad, "sequence of string " + bad: strconv.Quote(bad)} {
			if bad == "01" && text != bad {
				continue // a string of digits
			}
			c := cases["null"]
			c.body = strings.NewReader(`{"EntityEventSequence":` + text + `,` + rest + `}`)
			cases[name] = c
		}
	}
	next := int64(1000)
	for name, c := range cases {
		before := inbox(t, d.feed)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		allocated := m.TotalAlloc
		r := httptest.NewRequest(http.MethodPost, "/webhooks/mls", c.body)
		r.Header.Set("Authorization", "Bearer "+d.token)
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Set(c.header[i], c.header[i+1])
		}
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		if w.Code != c.status || w.Code != 200 && (w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(w.Body.String(), `"detail":"`)) {
			t.Errorf("%s: %d %.300s, want %d", name, w.Code, w.Body, c.status)
		}
		runtime.ReadMemStats(&m)
		if used := m.TotalAlloc - allocated; used > 80<<20 {
			t.Errorf("%s: %d MB were taken", name, used>>20)
		}
		after := inbox(t, d.feed)
		if c.seq == 0 && len(after) != len(before) || c.seq != 0 && !after[c.seq] {
			t.Errorf("%s: stored %v, before %v", name, after, before)
		}
		next++
		if w := d.push(event(next, "Property", "good")); w.Code != 200 || !inbox(t, d.feed)[entityevent.Sequence(next)] {
			t.Fatalf("after %s a good push gets %d %s", name, w.Code, w.Body)
		}
	}
}

func inbox(t *testing.T, f *consumer.Feed) map[entityevent.Sequence]bool {
	t.Helper()
	items, err := f.Store.Take(t.Context(), f.Name, 0)
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[entityevent.Sequence]bool{}
	for _, i := range items {
		numbers[i.Sequence] = true
	}
	return numbers
}

// spaces has no end.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// repeated is a text many times, without its memory.
type repeated struct {
	text  string
	times int
	left  string
}

func (r *repeated) Read(p []byte) (n int, err error) {
	if r.left == "" {
		if r.times == 0 {
			return 0, io.EOF
		}
		r.times--
		r.left = r.text
	}
	n = copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// twoFeeds is a receiver for the feeds mls and other, which share a store.
func twoFeeds(t *testing.T, s consumer.Store) (d, other *door) {
	t.Helper()
	f := newFeedOn(s, nil)
	d = newDoor(t, f)
	g := newFeedOn(s, nil)
	g.Name = "other"
	d.Feeds["other"] = g
	other = &door{d.Receiver, t, g, d.issue(t, bearer.Push("other"))}
	return d, other
}

// A sender of one byte a second, or of nothing, is cut off; meanwhile its own feed and every other takes
// pushes.
func TestSlowBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		defer s.Close()
		d, other := twoFeeds(t, s)
		net := newPipes()
		defer net.serve(t, d.Receiver)()
		type end struct {
			status int
			took   time.Duration
		}
		slow := func(token string, trickle bool) <-chan end {
			ended := make(chan end, 1)
			go func() {
				start := time.Now()
				c, err := net.dial(t.Context(), "", "")
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				fmt.Fprintf(c, "POST /webhooks/mls HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{", token)
				go func() {
					for trickle {
						time.Sleep(time.Second)
						if _, err := c.Write([]byte(" ")); err != nil {
							return
						}
					}
				}()
				r := bufio.NewReader(c)
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Error(err)
					ended <- end{}
					return
				}
				_, _ = io.Copy(io.Discard, r) // until the connection ends
				ended <- end{resp.StatusCode, time.Since(start)}
			}()
			return ended
		}
		for range 3 {
			var all []<-chan end
			for i := range 4 {
				all = append(all, slow(d.token, i%2 == 0), slow("forged", i%2 == 0))
			}
			pass(2 * time.Second)
			if w := d.push(event(1, "Property", "a")); w.Code != 429 || w.Header().Get("Retry-After") != "5" {
				t.Errorf("beyond what one feed may hold: %d %v", w.Code, w.Header())
			}
			if w := other.pushTo("other", event(1, "Property", "a")); w.Code != 200 {
				t.Errorf("another feed: %d %s", w.Code, w.Body)
			}
			for i, ended := range all {
				e, want := <-ended, 408
				if i%2 == 1 {
					want = 401
				}
				if e.status != want || e.took > 31*time.Second {
					t.Errorf("%d: answered %d, and over after %s", i, e.status, e.took)
				}
			}
			if w := d.push(event(1, "Property", "a")); w.Code != 200 {
				t.Errorf("afterwards: %d %s", w.Code, w.Body)
			}
		}
		pass(2 * time.Second) // the senders notice
		if s := d.feed.Stats(); s.Pushes[200] != 3 || s.Pushes[408] != 12 || s.Pushes[401] != 12 || s.Pushes[429] != 3 || s.Pushed != 1 {
			t.Errorf("counted %+v", s)
		}
	})
}

// A push that is here takes the store the time that it takes, on the connection that it came on.
func TestSlowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		defer s.Close()
		d, _ := twoFeeds(t, &gated{Store: s, wait: func(ctx context.Context, _ entityevent.Delivery) error {
			select {
			case <-time.After(5 * time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
		net := newPipes()
		defer net.serve(t, d.Receiver)()
		client := &http.Client{Transport: &http.Transport{DialContext: net.dial}}
		defer client.CloseIdleConnections()
		for n := range 2 {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://b/webhooks/mls", strings.NewReader(event(int64(n+1), "Property", "a")))
			r.Header.Set("Authorization", "Bearer "+d.token)
			r.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%d", resp.StatusCode)
			}
		}
		if n := len(net.dialled()); n != 1 {
			t.Errorf("%d connections for two pushes", n)
		}
	})
}

// pushTo is push for a feed of another name.
func (d *door) pushTo(feed, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/webhooks/"+feed, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+d.token)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

// gated lets something happen before a delivery is stored.
type gated struct {
	consumer.Store
	wait func(context.Context, entityevent.Delivery) error
}

func (g *gated) Receive(ctx context.Context, d entityevent.Delivery) (entityevent.Position, error) {
	if err := g.wait(ctx, d); err != nil {
		return entityevent.Position{}, err
	}
	return g.Store.Receive(ctx, d)
}

// However many pushes of one feed come at once, few are taken up, the others are asked to wait, and
// another feed's goes through at once.
func TestStormOfPushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		defer s.Close()
		stuck := make(chan struct{})
		var mu sync.Mutex
		under, most := 0, 0
		d, other := twoFeeds(t, &gated{Store: s, wait: func(_ context.Context, d entityevent.Delivery) error {
			if d.Feed != "mls" {
				return nil
			}
			mu.Lock()
			under++
			most = max(most, under)
			mu.Unlock()
			<-stuck
			mu.Lock()
			under--
			mu.Unlock()
			return nil
		}})
		var storm sync.WaitGroup
		codes := make([]*httptest.ResponseRecorder, 200)
		for i := range codes {
			storm.Go(func() { codes[i] = d.push(event(int64(i+1), "Property", "a")) })
		}
		synctest.Wait()
		if w := other.pushTo("other", event(1, "Property", "a")); w.Code != 200 {
			t.Errorf("another feed: %d", w.Code)
		}
		close(stuck)
		storm.Wait()
		taken := 0
		for _, w := range codes {
			switch {
			case w.Code == 200:
				taken++
			case w.Code != 429 || w.Header().Get("Retry-After") == "":
				t.Errorf("%d %v", w.Code, w.Header())
			}
		}
		if n := len(inbox(t, d.feed)); taken == 0 || n != taken || most > 4 {
			t.Errorf("%d taken, %d stored, %d at once", taken, n, most)
		}
	})
}

// A full inbox refuses its own feed for as long as it takes to empty it, and no other feed.
func TestFullInboxSaysHowLong(t *testing.T) {
	for _, c := range []struct {
		perRound time.Duration // for 100 events
		pending  int
		want     string
	}{
		{time.Second, 20, "5"}, {10 * time.Second, 200, "20"}, {25 * time.Second, 300, "75"}, {25 * time.Second, 1300, "300"},
	} {
		synctest.Test(t, func(t *testing.T) {
			src := filled("log-1/all", 400)
			f := newFeed(t, nil, "Property")
			var slow, down atomic.Bool
			f.HTTP.Transport = wire(func(r *http.Request) (*http.Response, error) {
				if slow.Load() && strings.Contains(r.URL.RequestURI(), "/Property") {
					time.Sleep(c.perRound)
				}
				if down.Load() {
					return nil, io.ErrUnexpectedEOF
				}
				return to(src)(r)
			})
			f.Poll = "@every 240h"
			d := newDoor(t, f)
			d.MaxPending = int64(c.pending)
			g := newFeedOn(f.Store, nil)
			g.Name = "other"
			d.Feeds["other"] = g
			other := &door{d.Receiver, t, g, d.issue(t, bearer.Push("other"))}
			stop := run(t, f)
			pass(time.Minute)
			slow.Store(true)
			at := src.head
			batch := func(n int) string {
				var events []string
				for i := range n {
					at++
					events = append(events, event(at, "Property", fmt.Sprintf("P%04d", i)))
				}
				return pushed(events...)
			}
			// The rate is that of a while.
			for range 40 {
				after := at
				if w := d.push(batch(100), chain("log-1/all", after, at)...); w.Code != 200 && w.Code != 429 {
					t.Fatal(w.Code)
				} else if w.Code == 429 {
					at = after
				}
				until(t, "it is applied", func() bool { return status(t, f).Pending == 0 })
			}
			down.Store(true)
			after := at
			if w := d.push(batch(c.pending), chain("log-1/all", after, at)...); w.Code != 200 {
				t.Fatal(w.Code)
			}
			w := d.push(event(at+1, "Property", "a"), chain("log-1/all", at, at+1)...)
			if w.Code != 429 || w.Header().Get("Retry-After") != c.want {
				t.Errorf("100 in %s, %d pending: %d, Retry-After %q, want %s", c.perRound, c.pending, w.Code, w.Header().Get("Retry-After"), c.want)
			}
			if w := other.pushTo("other", event(1, "Property", "a")); w.Code != 200 {
				t.Errorf("another feed: %d", w.Code)
			}
			stop()
		})
	}
}

// While the store cannot work every push is answered 503 with a wait, nothing is half stored, and the log
// has one line about it, and one when it works again.
func TestStoreThatIsUnavailable(t *testing.T) {
	for name, failure := range map[string]error{
		"unavailable": fmt.Errorf("disk full at /var/secret: %w", entityevent.ErrUnavailable), "anything": io.ErrShortWrite,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, nil, "Property")
			d := newDoor(t, f)
			broken := true
			f.Store = &gated{Store: f.Store, wait: func(context.Context, entityevent.Delivery) error {
				if broken {
					return failure
				}
				return nil
			}}
			var log bytes.Buffer
			d.Logger = slog.New(slog.NewTextHandler(&log, nil))
			for range 5 {
				w := d.push(pushed(event(1, "Property", "a"), event(2, "Property", "b")))
				if w.Code != 503 || w.Header().Get("Retry-After") != "5" || strings.Contains(w.Body.String(), "secret") {
					t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
				}
			}
			if n := len(inbox(t, f)); n != 0 {
				t.Errorf("%d events are stored", n)
			}
			broken = false
			for range 3 {
				if w := d.push(pushed(event(1, "Property", "a"), event(2, "Property", "b"))); w.Code != 200 {
					t.Errorf("%d", w.Code)
				}
			}
			if n := len(inbox(t, f)); n != 2 {
				t.Errorf("%d events are stored", n)
			}
			if text := log.String(); strings.Count(text, "failing") != 1 || strings.Count(text, "recovered") != 1 || strings.Count(text, "\n") != 2 {
				t.Errorf("the log says\n%s", text)
			}
		})
	}
}

// Whether the token is good cannot be told while the store does not answer: that is no refusal.
func TestTokensThatCannotBeRead(t *testing.T) {
	d := newDoor(t, newFeed(t, nil, "Property"))
	d.Authority.Store = deaf{d.Authority.Store}
	if w := d.push(event(1, "Property", "a")); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

type deaf struct{ bearer.Store }

func (deaf) Get(context.Context, string, string) (entityevent.Doc, error) {
	return entityevent.Doc{}, entityevent.ErrUnavailable
}

var _ net.Listener = (*pipes)(nil)
