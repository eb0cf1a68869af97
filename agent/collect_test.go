package main_test

import (
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestGarbageWaits: a small agent must not collect for every few answers, nor let garbage pile up.
func TestGarbageWaits(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	p := newProcess(t, filepath.Join(t.TempDir(), "a"), address, producerConfig(address))
	p.start(t)
	scrape := func() string {
		resp, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	figure := func(text, series string) float64 {
		_, after, _ := strings.Cut(text, "\n"+series+" ")
		value, _, _ := strings.Cut(after, "\n")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s: %v", series, err)
		}
		return n
	}
	// Right after a collection the limit is that of the pace before.
	const enough = 5
	for n := range 5_000 {
		text := scrape()
		limit, percent := figure(text, "go_memstats_next_gc_bytes"), figure(text, "go_gc_gogc_percent")
		switch collected := figure(text, "go_gc_duration_seconds_count") >= enough; {
		case !collected, limit > 48<<20, percent <= 100: // Go itself has as much wait as is live, and a large agent half of it
			if n == 5_000-1 {
				t.Errorf("the next collection is at %.0f bytes, %.0f %% above what is live", limit, percent)
			}
		default:
			return
		}
	}
}
