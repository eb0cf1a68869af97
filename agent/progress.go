package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows how far a command is: a bar on a terminal, a plain line now and then elsewhere, and
// nothing with --json.
type progress struct {
	what string
	bar  *progressbar.ProgressBar // nil: plain lines
	out  io.Writer                // nil: nothing
	next time.Time                // when the next plain line is due
}

// plainEvery is how often progress is told in plain lines.
const plainEvery = 5 * time.Second

// newProgress begins to show work of the given size; -1: of unknown size. The options are of the bar.
func (p *program) newProgress(what string, size int64, more ...progressbar.Option) *progress {
	switch {
	case p.json:
		return &progress{}
	case !isTerminal(p.stderr):
		return &progress{what: what, out: p.stderr, next: time.Now().Add(plainEvery)}
	}
	options := append([]progressbar.Option{
		progressbar.OptionSetWriter(p.stderr), progressbar.OptionSetDescription(what), progressbar.OptionThrottle(65 * time.Millisecond),
		progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(), progressbar.OptionSetRenderBlankState(true),
	}, more...)
	return &progress{what: what, out: p.stderr, bar: progressbar.NewOptions64(size, options...)}
}

// at says how far the work is: done of the size, and in words.
func (g *progress) at(done int64, words string) {
	switch {
	case g.out == nil:
	case g.bar != nil:
		g.bar.Describe(g.what + " " + words)
		_ = g.bar.Set64(done) // a bar that cannot be drawn is no failure
	case time.Now().After(g.next):
		g.next = time.Now().Add(plainEvery)
		fmt.Fprintf(g.out, "%s: %s\n", g.what, words)
	}
}

// end removes the bar.
func (g *progress) end() {
	if g.bar != nil {
		_ = g.bar.Finish() // as above
	}
}
