package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/producer"
)

const (
	fanOut       = 100 // subscriptions
	fanBad       = 30  // of them, that misbehave in turns of fanWays
	fanPerSecond = 500 // events
	fanCommit    = 10  // events in a commit
	fanTime      = 10 * time.Second
	fanSettling  = time.Second // at the beginning, not measured
	fanIdle      = 1000        // subscriptions for which nothing happens
	fanIdleTime  = 5 * time.Second
)

// fanWays are how subscribers misbehave.
var fanWays = []http.HandlerFunc{
	func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	},
	func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, // it never answers
	func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) },
	func(_ http.ResponseWriter, r *http.Request) { // it takes them, slowly
		select {
		case <-time.After(slowAnswer):
		case <-r.Context().Done():
		}
	},
}

// fanned is all of the subscribers. An event's key is the time before its commit.
type fanned struct {
	mu     sync.Mutex
	from   time.Time // what was committed before is not measured
	delays []time.Duration
	events atomic.Int64
}

func (f *fanned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	var way int
	if _, err := fmt.Sscanf(r.URL.Path, "/bad/%d", &way); err == nil {
		fanWays[way%len(fanWays)](w, r)
		return
	}
	events, err := pushedEvents(r)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	f.events.Add(int64(len(events)))
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range events {
		var at, n int64
		if _, err := fmt.Sscanf(e.Key, "%d-%d", &at, &n); err == nil && at >= f.from.UnixNano() {
			f.delays = append(f.delays, time.Duration(now.UnixNano()-at))
		}
	}
}

// fanOut measures a hundred subscriptions at once, all behaving and with thirty that do not, and a thousand that are idle.
// The receivers and the writer are in the same process, and part of what it costs.
func (b *bench) fanOut(ctx context.Context) error {
	title("fanout: %d subscriptions at %d events/s in commits of %d, for %v each; from before the commit to the arrival at those that answer",
		fanOut, fanPerSecond, fanCommit, fanTime)
	for _, bad := range []int{0, fanBad} {
		if err := b.fan(ctx, bad); err != nil {
			return err
		}
	}
	return b.idleFan(ctx)
}

func (b *bench) fan(ctx context.Context, bad int) error {
	store, _, err := b.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	all := &fanned{from: time.Now().Add(fanSettling)}
	root, stop, err := serve(all)
	if err != nil {
		return err
	}
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	var client *http.Client // one for all, as in an agent
	for i := range fanOut {
		url := root + "/good"
		if i < bad {
			url = fmt.Sprintf("%s/bad/%d", root, i)
		}
		pusher, err := subscriber(ctx, store, producer.Subscription{Name: fmt.Sprint(i), URL: url, Token: "t"})
		if err != nil {
			return err
		}
		if client == nil {
			client = pusher.HTTP
		}
		pusher.HTTP = client
		group.Go(func() error { return pusher.Run(ctx) })
	}
	defer client.CloseIdleConnections()
	self, err := thisProcess()
	if err != nil {
		return err
	}
	before, err := self.cpu()
	if err != nil {
		return err
	}
	begun, written := time.Now(), 0
	tick := time.NewTicker(time.Second * fanCommit / fanPerSecond)
	defer tick.Stop()
	for time.Since(begun) < fanTime {
		if float64(written) > fanPerSecond*time.Since(begun).Seconds() { // else it is behind
			<-tick.C
		}
		c := entityevent.Commit{Feed: entityevent.Local}
		now := time.Now().UnixNano()
		for range fanCommit {
			written++
			ref := entityevent.Ref{Resource: "Property", Key: fmt.Sprintf("%d-%d", now, written)}
			c.Changes = append(c.Changes, entityevent.Change{Ref: ref, Op: entityevent.Put, Body: fmt.Appendf(nil, `{"ListingKey":%q}`, ref.Key)})
		}
		if _, err := store.Apply(ctx, c); err != nil {
			return err
		}
	}
	want := int64(written) * int64(fanOut-bad)
	for deadline := time.Now().Add(20 * time.Second); all.events.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d events arrived", all.events.Load(), want)
		}
	}
	took := time.Since(begun)
	after, err := self.cpu()
	if err != nil {
		return err
	}
	memory, err := self.memory()
	if err != nil {
		return err
	}
	cancel()
	if err := group.Wait(); err != nil {
		return err
	}
	name := fmt.Sprintf("all %d", fanOut)
	if bad > 0 {
		name = fmt.Sprintf("%d, while %d misbehave", fanOut-bad, bad)
	}
	report(name, all.delays)
	line("  events received", float64(all.events.Load())/took.Seconds(), 0, "/s")
	fmt.Printf("    CPU %.0f %% of a core, %d MB resident, with the receivers\n", 100*(after-before).Seconds()/took.Seconds(), memory>>20)
	return nil
}

// idleFan measures what subscriptions cost that wait.
func (b *bench) idleFan(ctx context.Context) error {
	store, _, err := b.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	self, err := thisProcess()
	if err != nil {
		return err
	}
	client := producer.CallbackDialer{}.Client()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	debug.FreeOSMemory()
	empty, err := self.memory()
	if err != nil {
		return err
	}
	for i := range fanIdle {
		pusher, err := subscriber(ctx, store, producer.Subscription{Name: fmt.Sprint(i), URL: "https://b.example/", Token: "t"})
		if err != nil {
			return err
		}
		pusher.HTTP = client
		group.Go(func() error { return pusher.Run(ctx) })
	}
	time.Sleep(time.Second) // until all wait
	debug.FreeOSMemory()
	full, memoryErr := self.memory()
	before, beforeErr := self.cpu()
	time.Sleep(fanIdleTime)
	after, afterErr := self.cpu()
	cancel()
	if err := errors.Join(memoryErr, beforeErr, afterErr, group.Wait()); err != nil {
		return err
	}
	fmt.Printf("  %d idle subscriptions: %.1f KB resident each, CPU %.2f %% of a core\n",
		fanIdle, float64(full-empty)/fanIdle/1024, 100*(after-before).Seconds()/fanIdleTime.Seconds())
	return nil
}

// thisProcess is the one that measures.
func thisProcess() (*process, error) {
	p, err := os.FindProcess(os.Getpid())
	return &process{cmd: &exec.Cmd{Process: p}}, err
}

func pushedEvents(r *http.Request) ([]entityevent.Event, error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return entityevent.ParseEvents(raw)
}
