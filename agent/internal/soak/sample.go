package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// measure is one thing that must not grow, and how much more it may be in the last quarter than in the
// second, beyond a fifth: what comes and goes with the work under way.
type measure struct {
	name  string // as in /metrics
	label string
	unit  float64
	slack float64
}

var measures = []measure{
	{"process_resident_memory_bytes", "memory MB", 1 << 20, 16},
	{"go_memstats_heap_inuse_bytes", "Go heap MB", 1 << 20, 6},
	{"process_open_fds", "open files", 1, 8},
	{"go_goroutines", "goroutines", 1, 12},
	{walSize, "WAL MB", 1 << 20, 16},
}

const walSize = "the size of the WAL file"

// samples is what was seen, by process, measure and quarter.
type samples struct {
	mu   sync.Mutex
	seen map[string]map[string][4][]float64
}

// take looks at both processes every two seconds until ctx ends.
func (s *samples) take(ctx context.Context, p *pair, quarter func() int) error {
	for {
		if err := sleep(ctx, 2*time.Second); err != nil {
			return nil
		}
		for _, one := range []*process{p.producer, p.consumer} {
			if values := look(ctx, one); values != nil {
				s.add(one.name, quarter(), values)
			}
		}
	}
}

func (s *samples) add(process string, quarter int, values map[string]float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]map[string][4][]float64{}
	}
	if s.seen[process] == nil {
		s.seen[process] = map[string][4][]float64{}
	}
	for _, m := range measures {
		if v, there := values[m.name]; there {
			all := s.seen[process][m.name]
			all[quarter] = append(all[quarter], v/m.unit)
			s.seen[process][m.name] = all
		}
	}
}

// look reads a process's metrics; nil: it does not answer now.
func look(ctx context.Context, p *process) map[string]float64 {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/metrics", nil)
	if err != nil {
		return nil
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil
	}
	values := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && name != "#" {
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				values[name] = v
			}
		}
	}
	if info, err := os.Stat(filepath.Join(p.dir, "data", "resosync.db-wal")); err == nil {
		values[walSize] = float64(info.Size())
	}
	return values
}

// judge prints the medians of each quarter, and says what is not flat.
func (s *samples) judge(w io.Writer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "median of each quarter\t1st\t2nd\t3rd\t4th\tat most\t")
	for _, process := range []string{"producer", "consumer"} {
		for _, m := range measures {
			all := s.seen[process][m.name]
			row := fmt.Sprintf("%s, %s", process, m.label)
			for _, values := range all {
				row += fmt.Sprintf("\t%.1f", median(values))
			}
			limit := median(all[1])*1.2 + m.slack
			fmt.Fprintf(table, "%s\t%.1f\t\n", row, limit)
			switch {
			case len(all[1]) == 0 || len(all[3]) == 0:
				errs = append(errs, fmt.Errorf("%s of the %s was not seen", m.label, process))
			case median(all[3]) > limit:
				errs = append(errs, fmt.Errorf("%s of the %s grows: from %.1f in the second quarter to %.1f in the last, at most %.1f", m.label, process, median(all[1]), median(all[3]), limit))
			}
		}
	}
	return errors.Join(append(errs, table.Flush())...)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
