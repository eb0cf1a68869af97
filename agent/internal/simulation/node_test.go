package simulation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/resosync/resosync/entityevent/retry"
	"github.com/resosync/resosync/entityevent/sqlite"
	"github.com/resosync/resosync/producer"
)

// node is one machine: a data folder, and one life after another.
type node struct {
	w       *world
	name    string
	start   func(l *life) error        // sets the parts of a new life going
	between func(n *node, file string) // what happens to the file while the node is down; may be nil
	observe func() sqlite.Options      // how its store is opened; may be nil

	mu      sync.Mutex
	life    *life // nil while it is down
	lives   int
	crashes int
	next    time.Time // no crash before
	hurry   bool      // comes back at once
	ended   chan struct{}
}

// life is what a process is: it ends by a crash, at any await. What its goroutines do afterwards has no
// effect, because all of their effects pass through its store or the network, and both look here.
type life struct {
	*node
	number  int
	ctx     context.Context
	end     context.CancelCauseFunc
	store   *sqlite.Store
	handler http.Handler
	pushers map[string]*producer.Pusher // of the producer, by subscription

	mu   sync.Mutex
	dead bool
	work sync.WaitGroup
}

var (
	errCrashed = errors.New("the process has crashed")
	errOver    = errors.New("the simulation is over")
)

func (n *node) file() string { return filepath.Join(n.w.dir, n.name+".db") }

// run lives and dies until ctx ends.
func (n *node) run(ctx context.Context) {
	defer close(n.ended)
	for ctx.Err() == nil {
		l, err := n.begin(ctx)
		if err != nil {
			n.w.violated("a node starts after any crash", "%s: %v", n.name, err)
			return
		}
		<-l.ctx.Done()
		l.kill()
		l.work.Wait()
		if err := l.store.Close(); err != nil {
			n.w.violated("a node starts after any crash", "%s: close: %v", n.name, err)
		}
		n.mu.Lock()
		n.life = nil
		n.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		n.rest(ctx)
		if n.between != nil {
			n.between(n, n.file())
		}
	}
}

// rest is how long a crashed node stays down.
func (n *node) rest(ctx context.Context) {
	d := n.w.dice("down " + n.name)
	down := between(d, 0, 2*time.Second)
	switch n := d.IntN(20); {
	case n == 0:
		down = between(d, time.Hour, 5*time.Hour)
	case n < 5:
		down = between(d, time.Minute, 20*time.Minute)
	}
	n.mu.Lock()
	if n.hurry || n.w.quiet() {
		down = time.Millisecond
	}
	n.mu.Unlock()
	_ = retry.Sleep(ctx, down)
}

func (n *node) begin(ctx context.Context) (*life, error) {
	n.mu.Lock()
	n.lives++
	l := &life{node: n, number: n.lives}
	n.next = time.Now().Add(between(n.w.dice("until crash "+n.name), 0, n.w.plan.crashEvery))
	n.mu.Unlock()
	l.ctx, l.end = context.WithCancelCause(ctx)
	options := sqlite.Options{ReadConns: 2}
	if n.observe != nil {
		options = n.observe()
	}
	var err error
	if l.store, err = sqlite.Open(context.WithoutCancel(ctx), n.file(), options); err != nil {
		return nil, err
	}
	n.w.note(fmt.Sprintf("%s begins life %d", n.name, l.number))
	if err := n.start(l); err != nil {
		return nil, errors.Join(err, l.store.Close())
	}
	n.mu.Lock()
	n.life = l
	n.mu.Unlock()
	return l, nil
}

// alive returns the present life, nil if there is none.
func (n *node) alive() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.life == nil || n.life.gone() {
		return nil
	}
	return n.life
}

// await returns the present life, or the next, or nil when ctx ends first.
func (n *node) await(ctx context.Context) *life {
	for ctx.Err() == nil {
		if l := n.alive(); l != nil {
			return l
		}
		_ = retry.Sleep(ctx, 100*time.Millisecond)
	}
	return nil
}

func (l *life) gone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

func (l *life) kill() {
	l.mu.Lock()
	l.dead = true
	l.mu.Unlock()
	l.end(errCrashed)
}

// enter begins work of this life, which leave ends; it is false if the life is over.
func (l *life) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dead {
		l.work.Add(1)
	}
	return !l.dead
}

func (l *life) leave() { l.work.Done() }

// worker is the key under which a context names who works: two who ask the same at one instant are not one.
type worker struct{}

func (l *life) run(what string, run func(context.Context) error) {
	if !l.enter() {
		return
	}
	go func() {
		defer l.leave()
		if err := run(context.WithValue(l.ctx, worker{}, what)); err != nil && l.ctx.Err() == nil {
			l.w.violated("nothing that runs for ever ends", "%s: %s: %v", l.name, what, err)
		}
	}()
}

// How likely a crash is at an await, once the node may crash again.
const (
	atRead    = 1.0 / 400
	atWrite   = 1.0 / 12
	atNetwork = 1.0 / 40
)

// await takes a moment of virtual time, in which the life may end.
func (l *life) await(ctx context.Context, what string, odds float64) error {
	if l.gone() {
		return errCrashed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return l.takes(ctx, between(l.w.dice("await "+l.name+what), 300*time.Microsecond, 3*time.Millisecond), what, odds)
}

// takes is await for so long.
func (l *life) takes(ctx context.Context, d time.Duration, what string, odds float64) error {
	if err := retry.Sleep(ctx, d); err != nil {
		return err
	}
	return l.mayCrash(what, odds)
}

func (l *life) mayCrash(what string, odds float64) error {
	if l.gone() {
		return errCrashed
	}
	n := l.node
	if n.w.quiet() {
		return nil
	}
	n.mu.Lock()
	can := n.crashes < n.w.plan.crashes && !time.Now().Before(n.next)
	n.mu.Unlock()
	if !can || l.w.dice("crash "+l.name+what).Float64() >= odds {
		return nil
	}
	l.w.note(fmt.Sprintf("%s CRASHES at %s", l.name, what))
	n.mu.Lock()
	n.crashes++
	n.mu.Unlock()
	l.kill()
	return errCrashed
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}
