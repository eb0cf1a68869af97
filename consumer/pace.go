package consumer

import (
	"context"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/resosync/resosync/entityevent/retry"
)

// longestHalt bounds what a producer may ask us to wait (Retry-After): it is asked again after a day
// even if it said a year.
const longestHalt = 24 * time.Hour

// pace holds all requests of a feed to what the producer wants: no more than the rate, and none before
// the time that its 429 or 503 named. Whoever hammers after a 429 loses the token.
type pace struct {
	limiter *rate.Limiter

	mu       sync.Mutex
	free     bool      // the producer sends a log id: no rate of ours
	until    time.Time // nothing before
	refusals int       // in a row
}

// pardon is the wait after a 429 or 503 that names none.
var pardon = retry.Backoff{Min: 2 * time.Second, Max: 15 * time.Minute}

// wait blocks until a request may be sent.
func (p *pace) wait(ctx context.Context) error {
	for {
		p.mu.Lock()
		free, halt := p.free, time.Until(p.until)
		p.mu.Unlock()
		if halt <= 0 {
			if free {
				return context.Cause(ctx)
			}
			return p.limiter.Wait(ctx)
		}
		if err := retry.Sleep(ctx, halt); err != nil {
			return err
		}
	}
}

// saw learns from an answer.
func (p *pace) saw(resp *http.Response) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !halts(resp.StatusCode) {
		p.refusals = 0
		return
	}
	p.refusals++
	halt, told := retry.After(resp.Header.Get("Retry-After"), time.Now())
	if !told {
		halt = pardon.Delay(p.refusals)
	}
	if until := time.Now().Add(min(halt, longestHalt)); until.After(p.until) {
		p.until = until
	}
}

func halts(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}

// named says whether the producer sends a log id.
func (p *pace) named(named bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = named
}

// halted returns until when the producer wants no requests; zero if it takes them.
func (p *pace) halted() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Until(p.until) <= 0 {
		return time.Time{}
	}
	return p.until
}
