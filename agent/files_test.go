package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/resosync/resosync/config"
	"github.com/resosync/resosync/producer"
)

// TestFilesAreShared: the shares are not more than there is, those who wait leave connections to others, and a limit under
// which somebody would get too little is refused.
func TestFilesAreShared(t *testing.T) {
	c := &config.Config{Producer: &config.Producer{}}
	for _, limit := range []int{256, 257, 512, 1024, 4096, 20_000, 65_536, 1 << 20} {
		f := shares(limit, c)
		if err := f.check(); err != nil {
			t.Errorf("%d: %v", limit, err)
		}
		if f.own+f.conns+f.pushes+2*f.kept != limit || f.own < 128 || f.held < 32 || f.held > f.conns-32 || f.held > 20_000 || f.pushes < 16 || f.kept < 4 {
			t.Errorf("%d: %+v", limit, f)
		}
	}
	if f := shares(20_000, c); f.held/4*3 < 10_000 {
		t.Errorf("%+v", f)
	}
	for _, limit := range []int{0, 64, 255} {
		if err := shares(limit, c).check(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("only %d files open, and needs 256 ", limit)) {
			t.Errorf("%d: %v", limit, err)
		}
	}
	c.Producer.Subscriptions = make([]config.Subscription, 100)
	c.Consumer = &config.Consumer{Feeds: make([]config.Feed, 5)}
	if err := shares(256, c).check(); err == nil || !strings.Contains(err.Error(), "needs 376 ") {
		t.Error(err)
	}
	if f := shares(1024, c); f.own != 248 || f.own+f.conns+f.pushes+2*f.kept != 1024 {
		t.Errorf("%+v", f)
	}
}

// TestSharesAreKept: what has a share has it, and the subscriptions of the configuration have no turns to wait for.
func TestSharesAreKept(t *testing.T) {
	a := openAgent(t, "producer: {clients: [{name: vendor}], subscriptions: [{name: fixed, client: vendor, url: 'https://fixed/', token: t}]}")
	if a.turns.Most != a.files.pushes || a.holds.Most != a.files.held {
		t.Errorf("%+v: %d held, %d pushes", a.files, a.holds.Most, a.turns.Most)
	}
	if p := a.pusher(producer.Subscription{Name: "fixed"}); p.Turns != nil {
		t.Error("a subscription of the configuration waits for others")
	}
	if p := a.pusher(producer.Subscription{Name: "registered"}); p.Turns != a.turns {
		t.Error("a registered subscription waits for none")
	}
}
