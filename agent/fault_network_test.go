//go:build linux

package main_test

import (
	"testing"
	"time"

	"github.com/resosync/resosync/agent/internal/chaos"
)

// heartbeat is how long a poll is held, and half of how long a half-open connection may go unnoticed.
const heartbeat = 30 * time.Second

// halfOpenPush lets the connection of pushes die without a word, with nothing else to bring changes.
func halfOpenPush(t *testing.T) {
	r := newRig(t, setup{poll: never, timeout: "15s"})
	r.arrives(t, "at first", 15*time.Second)
	if n := r.push.Freeze(); n == 0 {
		t.Fatal("there was no connection to freeze")
	}
	r.arrives(t, "half-open", 2*heartbeat)
	r.settle(t)
}

// halfOpenPoll does so with those of polls, held ones or others.
func halfOpenPoll(t *testing.T, held bool) {
	r := newRig(t, setup{noPush: true, longPoll: held})
	r.arrives(t, "at first", 15*time.Second)
	r.rest() // so that a poll is held
	if n := r.odata.Freeze(); n == 0 {
		t.Fatal("there was no connection to freeze")
	}
	r.arrives(t, "half-open", 2*heartbeat)
	r.settle(t)
}

// spoiled spoils everything between the two sides for a while.
func spoiled(t *testing.T) {
	r := newRig(t, setup{longPoll: true})
	faults := chaos.Faults{chaos.Lose: 0.08, chaos.Late: 0.08, chaos.Drop: 0.08, chaos.Truncate: 0.08, chaos.Delay: 0.15, chaos.Repeat: 0.15, chaos.Refuse: 0.05}
	r.odata.Set(faults)
	r.push.Set(faults)
	if !eventually(4*time.Minute, func() bool { return requests(r.odata) > 150 && requests(r.push) > 30 }) {
		t.Errorf("too little was asked: %v, %v", r.odata.Counts(), r.push.Counts())
	}
	for fault := range faults { // what chance left out
		for _, proxy := range []*chaos.Proxy{r.odata, r.push} {
			proxy.Set(chaos.Faults{fault: 1})
			if !eventually(local, func() bool { return proxy.Counts()[fault] > 0 }) {
				t.Errorf("nothing met %s", fault)
			}
			proxy.Set(faults)
		}
	}
	r.odata.Set(nil)
	r.push.Set(nil)
	r.arrives(t, "all well again", local)
	r.green(t, producerSide)
	r.green(t, consumerSide)
	r.settle(t)
	t.Logf("polls and fetches %v, pushes %v", r.odata.Counts(), r.push.Counts())
}

func requests(p *chaos.Proxy) (n int) {
	for _, of := range p.Counts() {
		n += of
	}
	return n
}

// noNetwork cuts the two sides off from each other: who is stale says so after stale_after, the producer
// has no trouble of its own.
func noNetwork(t *testing.T) {
	r := newRig(t, setup{})
	r.arrives(t, "at first", local)
	before := r.producer.logged(`level=WARN msg="push was not taken"`)
	cut := chaos.Faults{chaos.Lose: 1}
	r.odata.Set(cut)
	r.push.Set(cut)
	r.red(t, consumerSide, `feed mls: .*(poll|contact)`)
	r.consumer.saysRed(t, "poll mls")
	r.green(t, producerSide)
	if n := r.consumer.logged(`level=WARN msg=failing feed=mls what=poll`); n != 1 {
		t.Errorf("the consumer's log says %d times that polling fails:\n%s", n, r.consumer.tail())
	}
	if n := r.producer.logged(`level=WARN msg="push was not taken"`); n != before+1 {
		t.Errorf("the producer's log says %d times that pushing fails:\n%s", n, r.producer.tail())
	}
	r.odata.Set(nil)
	r.push.Set(nil)
	r.arrives(t, "joined again", local)
	r.green(t, consumerSide)
	r.settle(t)
	r.consumer.saysOnce(t, "poll mls")
	if n := r.consumer.logged(`level=INFO msg=recovered feed=mls what=poll`); n != 1 {
		t.Errorf("the consumer's log says %d times that polling goes well again:\n%s", n, r.consumer.tail())
	}
}
