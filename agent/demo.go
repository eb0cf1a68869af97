package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/resosync/resosync/agent/internal/listing"
)

// demo is one demonstration.
type demo struct {
	*program
	records int
	rate    int           // changes a second
	length  time.Duration // of the live part
	seed    uint64
	tamper  bool
	keep    bool
	dir     string

	market *listing.Market
	report demoReport
}

// demoReport is what --json prints.
type demoReport struct {
	Seed       uint64                `json:"seed"`
	Loaded     int                   `json:"loaded"`       // records that the consumer copied first
	LoadTime   float64               `json:"load_seconds"` //
	Changes    int                   `json:"changes"`      // then made at the producer
	LiveTime   float64               `json:"live_seconds"`
	P50        float64               `json:"lag_p50_ms"` // from before a write to its commit in the replica
	P99        float64               `json:"lag_p99_ms"`
	Producer   string                `json:"producer"` // paths of the stores
	Consumer   string                `json:"consumer"`
	Resources  map[string]comparison `json:"resources"`
	Difference []string              `json:"differences"` // the first few
	Result     string                `json:"result"`      // equal or different
}

func (p *program) demoCommand() *cobra.Command {
	d := &demo{program: p}
	c := &cobra.Command{
		Use:   "demo",
		Short: "See it work: two agents, made-up listings, live changes",
		Long: `demo runs a producer and a consumer in this process, on free loopback ports, each with its own SQLite file.
It makes up listings, lets the consumer copy them, changes them for a while, and then compares the two sides
record by record: the producer over HTTP, the replica by SQL. It ends with equal (exit status 0) or with
different and the differences (exit status 1).`,
		Example: `  resosync demo
  resosync demo --records 20000 --rate 200 --for 30s
  resosync demo --tamper            change one row of the replica; the comparison must notice
  resosync demo --data ./demo       keep everything, to look around afterwards`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case d.records < 10:
				return usagef("--records must be at least 10")
			case d.rate < 1 || d.rate > 10_000:
				return usagef("--rate must be from 1 to 10000")
			case d.length < 0:
				return usagef("--for must not be negative")
			}
			return d.run(c.Context())
		},
	}
	f := c.Flags()
	f.IntVar(&d.records, "records", 2000, "begin with `N` records, of all resources together")
	f.IntVar(&d.rate, "rate", 50, "make `N` changes a second")
	f.DurationVar(&d.length, "for", 15*time.Second, "make changes for this long")
	f.Uint64Var(&d.seed, "seed", 1, "make up other listings and changes")
	f.BoolVar(&d.tamper, "tamper", false, "change one row of the replica before the comparison")
	f.BoolVar(&d.keep, "keep", false, "keep the temporary folder")
	f.StringVar(&d.dir, "data", "", "work in this new or empty `FOLDER` and keep it")
	return c
}

func (d *demo) run(ctx context.Context) (err error) {
	cleanup, err := d.folder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	both, err := d.newPair(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, both.stop()) }()
	d.say("A producer and a consumer on this machine, with made-up listings.\n\n")
	d.say("  producer  %s  %s\n", both.producer.url, both.producer.store())
	d.say("  consumer  %s  %s\n\n", both.consumer.url, both.consumer.store())

	steps := []func(context.Context, *pair) error{d.fill, d.firstLoad, d.live, d.settle}
	if d.tamper {
		steps = append(steps, d.tamperWith)
	}
	for _, step := range append(steps, d.compare) {
		if err := step(ctx, both); err != nil {
			return err
		}
	}
	if d.json {
		if err := d.printJSON(d.report); err != nil {
			return err
		}
	} else {
		d.printComparison()
	}
	if d.report.Result != "equal" {
		return errReported
	}
	return nil
}

// folder makes the folder to work in and returns what removes it, if it is not to be kept.
func (d *demo) folder() (cleanup func() error, err error) {
	keep := func() error {
		d.say("\nKept in %s. Go on with: %s run -c %s\n", d.dir, os.Args[0], filepath.Join(d.dir, "producer.yaml"))
		return nil
	}
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "resosync-demo-"); err != nil {
			return nil, err
		}
		if !d.keep {
			return func() error { return os.RemoveAll(d.dir) }, nil
		}
		return keep, nil
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(d.dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("--data %s is not empty: name a new folder, or empty it", d.dir)
	}
	return keep, os.MkdirAll(d.dir, 0o700)
}

// say tells a person, unless a program reads the output.
func (d *demo) say(format string, args ...any) {
	if !d.json {
		d.printf(format, args...)
	}
}
