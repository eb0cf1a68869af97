package consumer

import (
	"sync"
	"sync/atomic"
)

// Stats are totals of a feed since it was made.
type Stats struct {
	Pushes   map[int]int64 // answered, by HTTP status
	Pushed   int64         // events of pushes that were not known before
	Polled   int64         // events of polls that were not known before
	Settled  int64         // records that the applier brought up to date or set aside
	Loaded   int64         // records read by loads
	Requests int64         // sent to the producer, with repeats
	Retries  int64         // of these, repeats
	Halts    int64         // answers of 429 and 503
	Silent   int64         // connections given up because nothing came any more
}

// stats counts. Its zero value is ready.
type stats struct {
	pushed, polled, settled, loaded, requests, retries, halts, silent atomic.Int64

	mu     sync.Mutex
	pushes map[int]int64
}

// push counts an answer to a push.
func (s *stats) push(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pushes == nil {
		s.pushes = map[int]int64{}
	}
	s.pushes[status]++
}

// Stats returns the feed's totals. They begin at 0 with every start of the agent.
func (f *Feed) Stats() Stats {
	s := &f.stats
	total := Stats{Pushes: map[int]int64{}, Pushed: s.pushed.Load(), Polled: s.polled.Load(), Settled: s.settled.Load(), Loaded: s.loaded.Load(),
		Requests: s.requests.Load(), Retries: s.retries.Load(), Halts: s.halts.Load(), Silent: s.silent.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	for status, n := range s.pushes {
		total.Pushes[status] = n
	}
	return total
}
