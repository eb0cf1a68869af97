// Package retry says how long to wait before asking again: by our own back-off, or because the other
// side said so (Retry-After). It promises that a wait is never negative and never longer than its
// limit, whatever the number of attempts and whatever a server sends. It does not call anything again:
// who called decides.
package retry

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Backoff doubles a wait from Min to Max.
type Backoff struct {
	Min time.Duration // Default 1s.
	Max time.Duration // Default 15min.
}

// Delay returns the wait after so many failures, from 1: drawn evenly from [d/2, d], where d is Min
// doubled attempt−1 times, at most Max.
func (b Backoff) Delay(attempt int) time.Duration {
	lowest, highest := b.Min, b.Max
	if lowest <= 0 {
		lowest = time.Second
	}
	if highest <= 0 {
		highest = 15 * time.Minute
	}
	d := min(lowest, highest)
	for ; attempt > 1 && d < highest; attempt-- {
		if d > highest/2 {
			d = highest
		} else {
			d *= 2
		}
	}
	return d/2 + jitter(attempt, d-d/2)
}

// jitter draws from [0, most] by the clock, whose nanoseconds no two agents share: under a clock that a test
// holds, the same run waits the same.
func jitter(attempt int, most time.Duration) time.Duration {
	draw := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(attempt)))
	return time.Duration(draw.Int64N(int64(most) + 1))
}

// Longest is what After returns for anything longer.
const Longest = 365 * 24 * time.Hour

// After reads a Retry-After header (RFC 9110, 10.2.3): seconds, which some servers send with a
// fraction, or an HTTP date. A date in the past is no wait at all: 0, true. A wait above Longest is
// Longest. Anything else, negative numbers and an empty header too, is 0, false: the caller falls back
// on its own back-off.
func After(header string, now time.Time) (d time.Duration, ok bool) {
	header = strings.TrimSpace(header)
	if whole, fraction, _ := strings.Cut(header, "."); digits(whole) && (fraction == "" || digits(fraction)) {
		// A number of digits and at most one point cannot fail here but by its range, which gives +Inf.
		seconds, _ := strconv.ParseFloat(header, 64)
		if seconds >= Longest.Seconds() {
			return Longest, true
		}
		return time.Duration(seconds * float64(time.Second)), true
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0, false
	}
	return min(max(at.Sub(now), 0), Longest), true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// Sleep blocks for d, or until ctx ends; then it returns ctx's cause.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
