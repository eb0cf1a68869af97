package main

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// teardown is what must be undone in the end: last in, first out, all of it, whatever fails.
type teardown struct{ steps []step }

type step struct {
	name string
	undo func() error
}

func (t *teardown) add(name string, undo func() error) { t.steps = append(t.steps, step{name, undo}) }

// run undoes every step once and joins the errors, each with the name of its step.
func (t *teardown) run() error {
	var all []error
	for _, s := range slices.Backward(t.steps) {
		if err := s.undo(); err != nil {
			all = append(all, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	t.steps = nil
	return errors.Join(all...)
}

// runWithin is run, but it does not wait for longer than d.
func (t *teardown) runWithin(d time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- t.run() }()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		return fmt.Errorf("what the agent holds was not released within %v", d)
	}
}
