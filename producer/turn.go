package producer

import (
	"context"
	"slices"
	"sync"
)

// Turns bound how many pushes are under way at a time, for each takes a file of the process until its subscriber answers.
// A client may have as many under way as are left over: half of all if it is alone, and of three whose subscribers do not
// answer each has a quarter, so that one is left. The pushes of a client wait in order; of clients the one goes first that
// has fewest under way.
type Turns struct {
	Most int // at a time. Default: without bound.

	mu       sync.Mutex
	underWay int
	of       map[string]int // by client
	waiting  map[string][]*wanted
	asked    uint64
}

// wanted is a turn that is waited for.
type wanted struct {
	n     uint64
	given chan struct{}
}

// begin waits for a turn of this client, until ctx ends. It says whether it got one, which must be given to end.
func (t *Turns) begin(ctx context.Context, client string) bool {
	if t == nil || t.Most == 0 {
		return true
	}
	w := t.ask(client)
	select {
	case <-w.given:
		return true
	case <-ctx.Done():
		return t.withdraw(client, w)
	}
}

// free takes a turn, as begin, if it need not wait for it.
func (t *Turns) free(client string) bool {
	ended, end := context.WithCancel(context.Background())
	end()
	return t.begin(ended, client)
}

func (t *Turns) ask(client string) *wanted {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of, t.waiting = map[string]int{}, map[string][]*wanted{}
	}
	t.asked++
	w := &wanted{t.asked, make(chan struct{})}
	t.waiting[client] = append(t.waiting[client], w)
	t.give()
	return w
}

// withdraw takes back what was asked for, and says whether it was given meanwhile.
func (t *Turns) withdraw(client string, w *wanted) (given bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting[client], w)
	if i < 0 {
		return true
	}
	t.keep(client, slices.Delete(t.waiting[client], i, i+1))
	return false
}

// end ends a turn.
func (t *Turns) end(client string) {
	if t == nil || t.Most == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.underWay--
	if t.of[client]--; t.of[client] == 0 {
		delete(t.of, client)
	}
	t.give()
}

// give gives what may be given.
func (t *Turns) give() {
	for len(t.waiting) > 0 {
		client, first := "", (*wanted)(nil)
		for name, all := range t.waiting {
			if w := all[0]; first == nil || t.of[name] < t.of[client] || t.of[name] == t.of[client] && w.n < first.n {
				client, first = name, w
			}
		}
		if t.of[client] >= t.Most-t.underWay {
			return
		}
		t.underWay++
		t.of[client]++
		t.keep(client, t.waiting[client][1:])
		close(first.given)
	}
}

// keep sets what waits of a client.
func (t *Turns) keep(client string, waiting []*wanted) {
	if t.waiting[client] = waiting; len(waiting) == 0 {
		delete(t.waiting, client)
	}
}

// begins waits for a turn to push b. It is false if it was woken meanwhile: what it knows may not hold any more.
func (r *run) begins(ctx context.Context, b batch) (begun bool, err error) {
	if r.Turns.free(r.sub.Client) {
		return true, nil
	}
	r.ahead = b
	if !r.moved.IsZero() { // it may take longer than a position may stay unwritten
		if err := r.write(ctx); err != nil {
			return false, err
		}
	}
	err = r.pause(ctx, func(ctx context.Context) error {
		begun = r.Turns.begin(ctx, r.sub.Client)
		return nil
	})
	return begun, err
}
