package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/resosync/resosync/config"
)

// files says how the files that the process may have open are shared out, for each connection is one too: what is full
// refuses or closes what it has too many of, and leaves the others theirs.
type files struct {
	own    int // the store, results, feeds, the subscriptions of the configuration, and what has no bound of its own
	conns  int // connections that others opened
	held   int // of these, requests that wait for news
	pushes int // pushes under way to registered subscriptions
	kept   int // connections that are kept for the next push, by plain http and by https each
}

const (
	ownFiles   = 128 // at least: an agent that does nothing has some 25
	enough     = 128 // the least that is shared out of the rest
	mostHeld   = 20_000
	mostPushes = 2_000
	mostKept   = 500
)

// shareFiles shares out what the process may have open.
func shareFiles(c *config.Config) files {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return shares(1024, c)
	}
	return shares(int(min(limit.Cur, 1<<20)), c) // it may be infinite
}

// shares shares out this many: what is left is a fifth for pushes under way, a twentieth for each kind that is kept, and
// the rest for those who ask, of which a tenth stays for those who do not wait.
func shares(limit int, c *config.Config) files {
	f := files{own: min(max(limit/10, ownFiles), 1000)}
	if c.Producer != nil {
		f.own += len(c.Producer.Subscriptions)
	}
	if c.Consumer != nil {
		f.own += 4 * len(c.Consumer.Feeds)
	}
	rest := limit - f.own
	f.pushes, f.kept = min(rest/5, mostPushes), min(rest/20, mostKept)
	f.conns = rest - f.pushes - 2*f.kept
	f.held = min(f.conns-max(f.conns/10, 32), mostHeld)
	return f
}

// check refuses a limit under which some would take what the others need.
func (f files) check() error {
	if all := f.conns + f.pushes + 2*f.kept; all < enough {
		return fmt.Errorf("the process may have only %d files open, and needs %d with this configuration: raise the limit, by `ulimit -n 4096` before it starts, or LimitNOFILE= in the unit", f.own+all, f.own+enough)
	}
	return nil
}
