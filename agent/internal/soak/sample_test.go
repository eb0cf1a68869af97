package main

import (
	"io"
	"strings"
	"testing"
)

// TestJudge lets each measure of each process grow, and be missing.
func TestJudge(t *testing.T) {
	fill := func(process, name string, last float64) *samples {
		var s samples
		for quarter := range 4 {
			for _, p := range []string{"producer", "consumer"} {
				values := map[string]float64{}
				for _, m := range measures {
					values[m.name] = 100 * m.unit
				}
				if p == process && quarter == 3 {
					values[name] = last
				}
				for range 9 {
					s.add(p, quarter, values)
				}
				s.add(p, quarter, map[string]float64{name: 1e12}) // one peak is no growth
			}
		}
		return &s
	}
	for _, process := range []string{"producer", "consumer"} {
		for _, m := range measures {
			if err := fill(process, m.name, (119+m.slack)*m.unit).judge(io.Discard); err != nil {
				t.Errorf("%s %s within its limit: %v", process, m.label, err)
			}
			if err := fill(process, m.name, (121+m.slack)*m.unit).judge(io.Discard); err == nil || !strings.Contains(err.Error(), m.label+" of the "+process+" grows") {
				t.Errorf("%s %s above its limit: %v", process, m.label, err)
			}
		}
	}
	if err := new(samples).judge(io.Discard); err == nil {
		t.Error("nothing seen counts as flat")
	}
}
