package consumer

import (
	"sync"
	"time"
)

// way is a way to ask for several records at once.
type way uint8

const (
	byIn     way = iota // Key in ('a','b')
	byOr                // Key eq 'a' or Key eq 'b'
	bySingle            // one request each
)

// relearn is when a producer that understood single reads only is asked for several records again: that
// may have been for reasons of the first few.
const relearn = time.Hour

// tongue remembers which way the producer understands, by resource.
type tongue struct {
	mu      sync.Mutex
	learned map[string]lesson
}

type lesson struct {
	way way
	at  time.Time
}

func (t *tongue) get(resource string) (w way, proven bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, proven := t.learned[resource]
	if l.way == bySingle && time.Since(l.at) >= relearn {
		return byIn, false
	}
	return l.way, proven
}

func (t *tongue) learn(resource string, w way) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l, known := t.learned[resource]; known && l.way == w && time.Since(l.at) < relearn {
		return
	}
	if t.learned == nil {
		t.learned = map[string]lesson{}
	}
	t.learned[resource] = lesson{way: w, at: time.Now()}
}
