package simulation

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/sqlite"
)

var (
	oneSeed   = flag.Uint64("seed", 0, "run this seed alone")
	seeds     = flag.Int("seeds", 200, "how many seeds to run, from 1")
	stopAfter = flag.Int("stop", 4, "leave out the rest after so many failures")
	showTrace = flag.String("show", "", "print what happened whose text contains this; . for all")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plan is what a seed decides beforehand.
type plan struct {
	active       time.Duration // how long there is work and weather
	odds         float64       // of a fault, in fair weather
	crashes      int           // of each node, at most
	crashEvery   time.Duration
	longestGap   time.Duration
	logless      bool
	lag          time.Duration // of the producer's answers, if it names no log
	longPoll     bool
	poll         string
	rate         float64
	pageSize     int
	keyBatch     int
	maxPending   int64
	pushEvents   int
	pushBytes    int
	suspendAfter time.Duration
	reconcileAt  string
	token        string
	copied       bool          // the consumer's database is replaced by an old copy
	restored     bool          // and the producer's
	renameAfter  time.Duration // until somebody gives the restored log a name of its own
	empties      bool          // for a while the producer says that it has no records
	records      int           // at the start
}

func newPlan(r *rand.Rand) plan {
	p := plan{
		active:       between(r, 5*time.Minute, 50*time.Minute),
		odds:         []float64{0, 0.02, 0.05, 0.15}[r.IntN(4)],
		crashes:      []int{0, 2, 4, 8}[r.IntN(4)],
		crashEvery:   between(r, 20*time.Second, 10*time.Minute),
		longestGap:   between(r, time.Minute, 20*time.Minute),
		logless:      r.IntN(4) == 0,
		longPoll:     r.IntN(2) == 0,
		poll:         []string{"@every 60s", "*/5 * * * *"}[r.IntN(2)],
		rate:         []float64{1, 5, 20}[r.IntN(3)],
		pageSize:     []int{7, 20, 100}[r.IntN(3)],
		keyBatch:     []int{1, 3, 10, 100}[r.IntN(4)],
		maxPending:   []int64{20, 100, 10000}[r.IntN(3)],
		pushEvents:   []int{1, 3, 20, 500}[r.IntN(4)],
		pushBytes:    []int{1000, 1 << 20}[r.IntN(2)],
		suspendAfter: []time.Duration{0, 3 * time.Minute}[r.IntN(2)],
		records:      r.IntN(120),
	}
	if p.logless && r.IntN(2) == 0 {
		p.lag = between(r, time.Second, 8*time.Second)
	}
	p.reconcileAt = []string{"never", "never", "*/30 * * * *"}[r.IntN(3)]
	if p.lag > 0 { // of several changes in a row it may be an older one that is read: only reconciling notices
		p.reconcileAt = "*/30 * * * *"
	}
	p.copied = r.IntN(3) == 0
	p.restored = !p.logless && r.IntN(3) == 0
	p.renameAfter = []time.Duration{0, between(r, 0, 20*time.Minute)}[r.IntN(2)]
	if p.copied || p.restored {
		p.crashes, p.crashEvery = max(p.crashes, 4), p.crashEvery/4
	}
	if r.IntN(5) == 0 {
		p.empties, p.reconcileAt = true, "0 */2 * * *"
	}
	if r.IntN(16) == 0 { // a day in which nothing happens
		p.longestGap = 24 * time.Hour
	}
	return p
}

// TestSimulation runs the pair under many seeds. Run one of them again with -seed N -v -show .
func TestSimulation(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n = 8
		t.Logf("SHORT: %d seeds of %d; run without -short for all", n, *seeds)
	}
	first := uint64(1)
	if *oneSeed > 0 {
		first, n = *oneSeed, 1
	}
	var failed atomic.Int32
	for seed := first; seed < first+uint64(n); seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			if int(failed.Load()) >= *stopAfter {
				t.Skip("SKIPPED: other seeds have failed; run it by -seed")
			}
			defer func() { // a bubble that fails ends its test
				if t.Failed() {
					failed.Add(1)
				}
			}()
			run(t, seed)
		})
	}
}

// TestSameSeedSameRun proves that a seed can be run again.
func TestSameSeedSameRun(t *testing.T) {
	for seed := uint64(1); seed <= 6; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			once, again := run(t, seed), run(t, seed)
			if once.sum == again.sum {
				return
			}
			t.Errorf("%d and %d things happened, not the same", once.count, again.count)
			if *showTrace == "" {
				return
			}
			a, b := slices.Sorted(slices.Values(once.happen)), slices.Sorted(slices.Values(again.happen))
			for i := range a {
				if i >= len(b) || a[i] != b[i] {
					t.Fatalf("first difference:\n%s\n%s", strings.Join(a[max(0, i-5):i+1], "\n"), b[min(i, len(b)-1)])
				}
			}
		})
	}
}

// run is one run of a seed.
func run(t *testing.T, seed uint64) *world {
	var w *world
	dir := folder(t)
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(seed, dir)
		w.live()
		for _, line := range w.happen {
			if strings.Contains(line, strings.TrimPrefix(*showTrace, ".")) {
				t.Log(line)
			}
		}
		if len(w.broken) > 0 {
			t.Errorf("%s\nrun it again: go test ./agent/internal/simulation -run 'TestSimulation$' -seed %d", strings.Join(w.broken, "\n"), seed)
		}
	})
	return w
}

// folder is in memory where it can be: what is under test is not the disk.
func folder(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "resosync-simulation-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func newWorld(seed uint64, dir string) *world {
	r := rand.New(rand.NewPCG(seed, 0))
	w := &world{seed: seed, dir: dir, plan: newPlan(r), over: make(chan struct{}), drawn: map[string]int{}}
	w.ctx, w.stop = context.WithCancelCause(context.Background())
	w.truth = &truth{w: w, facts: map[entityevent.Ref]fact{}, history: map[entityevent.Ref][]version{}, committedAt: map[entityevent.Sequence]time.Time{}}
	w.replica = &replica{w: w, received: map[entityevent.Sequence]bool{}, revision: map[entityevent.Ref]int{}, written: map[entityevent.Ref]time.Time{},
		rows: map[string]int{}, mistakes: map[string][]time.Time{}}
	w.witness = &witness{w: w}
	w.producer = &node{w: w, name: "producer", start: w.startProducer, observe: w.observe, between: w.restoreProducer, ended: make(chan struct{})}
	w.consumer = &node{w: w, name: "consumer", start: w.startConsumer, between: w.restoreConsumer, ended: make(chan struct{})}
	w.network = &network{w: w, logless: w.plan.logless, patience: map[string]time.Time{}, cached: map[string]*reply{}, denied: map[string]time.Time{},
		weather: climate(r, epoch, epoch.Add(w.plan.active), w.plan.empties),
	}
	w.network.hosts = map[string]func(context.Context, *http.Request) (*reply, error){
		"producer.test": w.foreign, "consumer.test": w.consumer.host,
		"witness.test": func(_ context.Context, in *http.Request) (*reply, error) { return serve(w.witness, in) },
	}
	return w
}

// observe makes a transaction of the producer take a moment, in which others gather for the next one: they
// then share it, in the same order in every run.
func (w *world) observe() sqlite.Options {
	return sqlite.Options{ReadConns: 2, Observe: func(sqlite.Committed) {
		time.Sleep(between(w.dice("commit"), 100*time.Microsecond, 250*time.Microsecond))
	}}
}

// live is the whole of a run.
func (w *world) live() {
	defer w.stop(errOver)
	w.note(fmt.Sprintf("plan %+v", w.plan))
	for _, e := range w.network.weather {
		w.note("weather: " + e.String())
	}
	if err := w.issue(); err != nil {
		w.violated("a node starts after any crash", "%v", err)
		return
	}
	m := &workload{w: w, r: rand.New(rand.NewPCG(w.seed, 1))}
	go w.producer.run(w.ctx)
	time.Sleep(time.Millisecond) // it is up before anybody asks
	if w.plan.records > 0 {
		c := entityevent.Commit{Feed: entityevent.Local}
		for range w.plan.records {
			ref := m.ref()
			c.Changes = append(c.Changes, entityevent.Change{Ref: ref, Body: m.body(ref)})
		}
		m.write(c)
	}
	go w.consumer.run(w.ctx)
	go w.operate()
	m.run(epoch.Add(w.plan.active))
	w.note("faults are over")
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	w.settle("equal at rest")
	if !w.failed() {
		// It still works, and at once.
		m.write(m.commit(3))
		w.settle("equal after rest")
	}
	w.note("over")
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	if l := w.producer.alive(); l != nil {
		w.checkProducer(l.store)
	}
	w.stop(errOver)
	<-w.producer.ended
	<-w.consumer.ended
	w.behind.Wait()
}

// operate is the producer's operator: he looks at the subscriptions now and then, and in the end gives a
// restored log another name.
func (w *world) operate() {
	for n := 1; w.patient(time.Minute); n++ {
		if n%30 == 0 {
			w.resume(w.ctx)
		}
		w.rename(w.ctx)
	}
}

// settle waits until all is at rest and equal. Every wait of both sides ends within a day.
func (w *world) settle(invariant string) {
	deadline, step := time.Now().Add(30*time.Hour), time.Second
	for {
		left := w.restless()
		if left == "" || w.failed() {
			return
		}
		if time.Now().After(deadline) {
			w.violated(invariant, "%s", left)
			return
		}
		if !w.patient(step) {
			return
		}
		step = min(step*3/2, 10*time.Minute)
	}
}
