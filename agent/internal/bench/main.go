// Command bench measures the speed of resosync with its default settings, and beside each figure a
// limit measured in the same run: raw SQLite inserts of the same rows, raw POSTs of the same batches to
// a sink that decodes them, raw writes of the same bytes. It prints a table; it asserts nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

func main() { os.Exit(run()) }

func run() int {
	only := flag.String("only", "", "run these parts only, comma-separated: append,page,requests,longpoll,push,slow,fanout,catchup,live")
	waiters := flag.Int("waiters", 10_000, "requests that are held for news")
	bareAt := flag.String("bare", "", "used by this program: be the bare handler at this address")
	answer := flag.String("answer", "", "used by this program: what the bare handler answers, a file")
	events := flag.Int("events", 5_000_000, "events in the large log")
	records := flag.Int("records", 50_000, "records to catch up with")
	forTime := flag.Duration("live", 20*time.Second, "how long each live measurement lasts")
	flag.Parse()
	if *bareAt != "" {
		if err := bare(*bareAt, *answer); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	dir, err := os.MkdirTemp("", "resosync-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, waiters: *waiters, events: *events, records: *records, live: *forTime}
	fmt.Printf("resosync bench: %s, %d cores, %s\n", runtime.Version(), runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"append", b.appends}, {"page", b.pages}, {"requests", b.requests}, {"longpoll", b.longPolls}, {"push", b.pushes}, {"slow", b.slow}, {"fanout", b.fanOut}, {"catchup", b.catchUp}, {"live", b.lives},
	} {
		if *only != "" && !strings.Contains(","+*only+",", ","+part.name+",") {
			continue
		}
		if err := part.run(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "bench %s: %v\n", part.name, err)
			return 1
		}
	}
	return 0
}

// bench is one run: where it writes, and how much.
type bench struct {
	dir     string
	waiters int
	events  int
	records int
	live    time.Duration
	folders int
}

// folder returns a new folder.
func (b *bench) folder() (string, error) {
	b.folders++
	dir := filepath.Join(b.dir, fmt.Sprint(b.folders))
	return dir, os.Mkdir(dir, 0o700)
}

// title heads a part of the table.
func title(format string, args ...any) {
	fmt.Printf("\n%s\n", fmt.Sprintf(format, args...))
}

// line prints one figure per second, and its limit if there is one.
func line(name string, figure, limit float64, unit string) {
	if limit == 0 {
		fmt.Printf("  %-52s %12s %s\n", name, human(figure), unit)
		return
	}
	fmt.Printf("  %-52s %12s %-10s limit %10s  %5.1f %%\n", name, human(figure), unit, human(limit), 100*figure/limit)
}

func human(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1f k", v/1e3)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
