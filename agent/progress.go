package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
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

// line is one line of the answer to something that takes long.
type line interface {
	over() bool                           // it says how it ended
	progress() (done int64, words string) // how far it is, if it is not over
}

// long asks for something that takes long, shows how far it is, and returns its last line.
func long[L line](ctx context.Context, p *program, s *session, what, path string) (last L, err error) {
	resp, err := s.send(ctx, http.MethodPost, path, nil, nil)
	if err != nil {
		return last, err
	}
	defer resp.Body.Close()
	show := p.newProgress(what, -1, progressbar.OptionShowCount())
	defer show.end()
	for lines := json.NewDecoder(resp.Body); ; {
		var l L
		if err := lines.Decode(&l); err != nil {
			return l, fmt.Errorf("the agent stopped before the end: run the command again: %w", err)
		}
		if l.over() {
			return l, nil
		}
		show.at(l.progress())
	}
}
