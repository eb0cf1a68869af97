// Command soak runs a producer, a consumer and a subscriber of another make for a while under faults that
// never end, and ends with status 1 if the sides differ, if an event was not delivered, or if an agent's
// memory, files or goroutines grow.
//
//	make soak SOAK=10m
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/resosync/resosync/agent/internal/chaos"
)

func main() { os.Exit(run()) }

func run() int {
	long := flag.Duration("for", 10*time.Minute, "how long")
	binary := flag.String("binary", "./resosync", "the program")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the faults and the writes; their timing is the machine's")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := soak(ctx, *binary, *long, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		return 1
	}
	fmt.Println("flat, and equal")
	return 0
}

// The faults that each request between the agents may meet, all the time.
var faults = chaos.Faults{chaos.Lose: 0.02, chaos.Late: 0.02, chaos.Drop: 0.02, chaos.Truncate: 0.02,
	chaos.Delay: 0.05, chaos.Repeat: 0.04, chaos.Refuse: 0.04, chaos.Silence: 0.003}

// checkpoints is how often the writing pauses for both sides to become equal.
const checkpoints = 8

// soak does it all. In its first quarter agents are killed and started again; then they live on, so that
// what they need can be compared.
func soak(ctx context.Context, binary string, long time.Duration, seed uint64) (err error) {
	dir, err := os.MkdirTemp("", "resosync-soak-")
	if err != nil {
		return err
	}
	fmt.Printf("soak for %v, seed %d, in %s\n", long, seed, dir)
	random := rand.New(rand.NewPCG(seed, 0))
	p, err := newPair(ctx, binary, dir)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, p.close()); err == nil {
			err = os.RemoveAll(dir)
		} else {
			err = fmt.Errorf("%w\n(what there is to look at is in %s)", err, dir)
		}
	}()
	p.spoil(faults)
	begun := time.Now()
	quarter := func() int { return min(3, int(4*time.Since(begun)/long)) }

	running, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	defer func() { cancel(); err = errors.Join(err, group.Wait()) }()
	for range 4 {
		writer := rand.New(rand.NewPCG(seed, random.Uint64()))
		group.Go(func() error { return p.write(running, writer) })
	}
	var samples samples
	group.Go(func() error { return samples.take(running, p, quarter) })

	next := begun.Add(long / checkpoints)
	for time.Since(begun) < long {
		if err := p.befall(ctx, random, quarter() == 0); err != nil {
			return err
		}
		if time.Now().After(next) {
			if err := p.checkpoint(ctx); err != nil {
				return err
			}
			fmt.Printf("%5s  equal; %s\n", time.Since(begun).Round(time.Second), p.summary())
			next = next.Add(long / checkpoints)
		}
	}
	if err := p.checkpoint(ctx); err != nil {
		return err
	}
	if err := p.delivered(ctx); err != nil {
		return err
	}
	fmt.Println(p.summary())
	cancel()
	return samples.judge(os.Stdout)
}
