// Package simulation runs the whole pair, a producer and a consumer with real stores, in one process: over a
// network in memory that fails in every way it can, under virtual time, with a crash at any await of either
// side. One seed decides everything that happens, so that a failure can be run again.
//
// What holds throughout is written in invariants_test.go; what the network does in weather_test.go; the bugs
// that were planted to prove that all this notices them in planted_test.go.
package simulation

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// world is one run: everything in it lives in one bubble of synctest.
type world struct {
	seed uint64
	dir  string
	plan plan
	ctx  context.Context // of what belongs to no life
	stop context.CancelCauseFunc

	producer *node
	consumer *node
	truth    *truth
	replica  *replica
	witness  *witness
	network  *network
	behind   sync.WaitGroup // deliveries that nobody waits for
	backup   *truth         // what the producer's backup holds; its world is set when it was restored
	kept     *replica       // what the copy of the consumer's database holds, likewise

	mu       sync.Mutex
	calm     bool      // faults are over
	ended    bool      // nothing is noted any more: what ends does so in no order
	renameAt time.Time // when the producer's log gets another name; zero: it keeps it
	broken   []string
	over     chan struct{} // closed when an invariant is broken
	sum      uint64        // of all that happened
	count    int
	happen   []string // all of it, if asked for
	drawn    map[string]int
	at       time.Time // of drawn
}

// violated notes that an invariant does not hold. The run ends soon after the first.
func (w *world) violated(invariant, format string, args ...any) {
	text := fmt.Sprintf("invariant %q: "+format, append([]any{invariant}, args...)...)
	w.note("VIOLATED " + text)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.broken) < 10 {
		w.broken = append(w.broken, time.Since(epoch).String()+": "+text)
	}
	if len(w.broken) == 1 {
		close(w.over)
	}
}

// epoch is when every bubble begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// note adds to the trace. What happens at one instant of virtual time has no order in it.
func (w *world) note(what string) {
	since := time.Since(epoch)
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s", since, what)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.sum += h.Sum64()
	w.count++
	if *showTrace != "" {
		w.happen = append(w.happen, fmt.Sprintf("%016.9f %s", since.Seconds(), what))
	}
}

// dice are of the seed, the instant and what they are for: who draws first at one instant does not matter.
func (w *world) dice(what string) *rand.Rand {
	now := time.Now()
	w.mu.Lock()
	if !w.at.Equal(now) {
		w.at = now
		clear(w.drawn)
	}
	w.drawn[what]++
	again := w.drawn[what]
	w.mu.Unlock()
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %d %s", now.Sub(epoch), again, what)
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

func (w *world) quiet() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calm
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.broken) > 0
}

// between draws a duration.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)+1))
}

// result is an error as it stands in the trace: without what differs between runs, as paths and log ids.
func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, errCrashed):
		return "crashed"
	}
	text, _, _ := strings.Cut(err.Error(), ":")
	return text
}
