package retry_test

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/resosync/resosync/entityevent/retry"
)

func TestDelayDoublesUpToItsLimit(t *testing.T) {
	b := retry.Backoff{Min: time.Second, Max: 15 * time.Minute}
	for attempt, most := range map[int]time.Duration{
		math.MinInt: time.Second, -1: time.Second, 0: time.Second, 1: time.Second,
		2: 2 * time.Second, 5: 16 * time.Second, 10: 512 * time.Second, 11: 15 * time.Minute,
		30: 15 * time.Minute, 31: 15 * time.Minute, 64: 15 * time.Minute, 65: 15 * time.Minute,
		1 << 20: 15 * time.Minute, math.MaxInt: 15 * time.Minute,
	} {
		for range 200 {
			if d := b.Delay(attempt); d < most/2 || d > most {
				t.Fatalf("attempt %d: %v, want %v to %v", attempt, d, most/2, most)
			}
		}
	}
}

func TestDelayIsJittered(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		seen[retry.Backoff{}.Delay(40)] = true
	}
	if len(seen) < 90 {
		t.Fatalf("%d different waits of 100: subscribers would come back all at once", len(seen))
	}
}

// TestDelayFollowsTheClock: two runs under the same clock wait the same, and a later wait is another.
func TestDelayFollowsTheClock(t *testing.T) {
	var runs [2][]time.Duration
	for i := range runs {
		synctest.Test(t, func(*testing.T) {
			for attempt := range 20 {
				time.Sleep(time.Millisecond)
				runs[i] = append(runs[i], retry.Backoff{}.Delay(40), retry.Backoff{}.Delay(40+attempt))
			}
		})
	}
	if !slices.Equal(runs[0], runs[1]) {
		t.Fatalf("%v\n%v", runs[0], runs[1])
	}
	slices.Sort(runs[0])
	if seen := slices.Compact(runs[0]); len(seen) < 35 {
		t.Fatalf("%d different waits of 40", len(seen))
	}
}

func TestDelayAtTheEdges(t *testing.T) {
	for name, b := range map[string]retry.Backoff{
		"defaults":      {},
		"longest":       {Min: time.Second, Max: math.MaxInt64},
		"min above max": {Min: time.Hour, Max: time.Minute},
		"one ns":        {Min: 1, Max: 1},
		"negative":      {Min: -1, Max: -1},
	} {
		for attempt := range 200 {
			if d := b.Delay(attempt); d < 0 || b.Max > 0 && d > b.Max {
				t.Fatalf("%s: attempt %d: %v", name, attempt, d)
			}
		}
	}
}

func TestAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		header string
		want   time.Duration
		ok     bool
	}{
		{"60", time.Minute, true},
		{" 60 ", time.Minute, true},
		{"0", 0, true},
		{"007", 7 * time.Second, true},
		{"1.5", 1500 * time.Millisecond, true},
		{"1.", time.Second, true},
		{"31536000", retry.Longest, true},
		{"31536001", retry.Longest, true},
		{"9223372036854775807", retry.Longest, true},
		{"9223372037", retry.Longest, true}, // wraps as nanoseconds
		{"18446744073709551616", retry.Longest, true},
		{strings.Repeat("9", 5000), retry.Longest, true},
		{date(time.Minute), time.Minute, true},
		{date(-time.Hour), 0, true},
		{date(400 * 24 * time.Hour), retry.Longest, true},
		{"Fri, 31 Dec 9999 23:59:59 GMT", retry.Longest, true},
		{"Mon, 01 Jan 0001 00:00:00 GMT", 0, true},
		{"Sunday, 01-Mar-26 12:01:00 GMT", time.Minute, true},
		{"", 0, false},
		{"-1", 0, false},
		{"-9223372036854775808", 0, false},
		{"+5", 0, false},
		{"1e9", 0, false},
		{"0x10", 0, false},
		{"NaN", 0, false},
		{"Inf", 0, false},
		{".5", 0, false},
		{"1.5.5", 0, false},
		{"60s", 0, false},
		{"60, 120", 0, false},
		{"soon", 0, false},
		{"2026-03-01T12:01:00Z", 0, false},
	} {
		d, ok := retry.After(c.header, now)
		if d != c.want || ok != c.ok {
			t.Errorf("%.40q: %v, %v; want %v, %v", c.header, d, ok, c.want, c.ok)
		}
	}
}

func FuzzAfter(f *testing.F) {
	f.Add("60")
	f.Add("Fri, 31 Dec 9999 23:59:59 GMT")
	f.Fuzz(func(t *testing.T, header string) {
		d, ok := retry.After(header, time.Now())
		if d < 0 || d > retry.Longest || !ok && d != 0 {
			t.Fatalf("%q: %v, %v", header, d, ok)
		}
	})
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := retry.Sleep(t.Context(), time.Hour); err != nil || time.Since(start) != time.Hour {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		stop := errors.New("stopping")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(stop) })
		if err := retry.Sleep(ctx, time.Hour); !errors.Is(err, stop) {
			t.Fatalf("%v, want the cause", err)
		}
		if err := retry.Sleep(ctx, 0); !errors.Is(err, stop) {
			t.Fatalf("%v without a wait, want the cause", err)
		}
	})
}
