package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/retry"
)

const (
	// snapshotsAsked is how many snapshots of a resource a load asks for before it reads pages.
	snapshotsAsked = 2
	// snapshotTries is how often one run goes on after cuts that let nothing through.
	snapshotTries = 4
	// snapshotCuts is after how many such cuts, in all runs, a snapshot is given up.
	snapshotCuts = 12
)

// snapshotAt is how far the load of a resource is in reading a snapshot.
type snapshotAt struct {
	Asked int                  `json:"asked"`           // how many the producer was asked for, in this pass
	Task  string               `json:"task,omitempty"`  // of the one that is read; empty: none is
	Head  entityevent.Sequence `json:"head,omitempty"`  // the cursor before it was asked for
	Since entityevent.Sequence `json:"since,omitempty"` // the local head before it was asked for
	Place snapshotPlace        `json:"place,omitzero"`  // where to go on
	Lines int64                `json:"lines"`           // before that place
	Cuts  int                  `json:"cuts,omitempty"`  // in a row, that let nothing through
}

// snapshot copies the resource out of a snapshot, if the producer makes one; if it does not, or what it made is of
// no use, the pages are left to be read.
//
// What the pages promise holds here too. The feed follows the log from a head that was noted before the snapshot was
// asked for, so a record that changes once its line was written, there, has an event that is still to be received or
// applied here. A line may be older than what the applier fetched meanwhile: it is not written over a version after
// the local head that was noted before the snapshot was asked for (UnchangedSince), nor over anything that the
// applier wrote since (touched), which may be a removal, or a change back to what it was before, without a version.
func (l *loader) snapshot(ctx context.Context) error {
	if !l.named || l.at.Read || l.at.Next != "" {
		return nil
	}
	mark := l.touched.watch()
	defer l.touched.forget(mark)
	watched := false // since before the snapshot was asked for
	for !l.at.Read {
		if l.at.Snapshot.Task == "" {
			asked, err := l.askSnapshot(ctx)
			if err != nil || !asked {
				return err
			}
			watched = true
		}
		task := l.at.Snapshot.Task
		err := l.readSnapshot(ctx, mark, watched)
		if err != nil && !errors.Is(err, errJob) {
			return err
		}
		l.client.as(forLoad).end(ctx, task)
		if err == nil {
			break
		}
		l.Logger.Warn("a snapshot is not used", "resource", l.resource, "task", path(task), "err", err)
		l.at.Snapshot = snapshotAt{Asked: l.at.Snapshot.Asked}
		l.at.Records = 0
		if l.doc, err = l.save(ctx, l.doc, l.at); err != nil {
			return err
		}
	}
	return nil
}

// askSnapshot asks for a snapshot and remembers it. It says whether there is one.
func (l *loader) askSnapshot(ctx context.Context) (asked bool, err error) {
	if l.at.Snapshot.Asked >= snapshotsAsked {
		return false, nil
	}
	o, err := l.offers(ctx)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil || o.Tasks == "" {
		return false, nil // pages meet the same failure, or do not need what failed
	}
	position, err := l.Store.Position(ctx, l.Name)
	if err != nil {
		return false, err
	}
	s := snapshotAt{Asked: l.at.Snapshot.Asked + 1, Head: position.Sequence}
	if s.Since, err = l.localHead(ctx); err != nil {
		return false, err
	}
	l.at.Snapshot = s
	// It is counted before it is asked for: an answer that is lost, time and again, ends with pages.
	if l.doc, err = l.save(ctx, l.doc, l.at); err != nil {
		return false, err
	}
	s.Task, err = l.client.as(forLoad).begin(ctx, o.Tasks, job{Type: snapshotJob, Resources: []string{l.resource}})
	if errors.Is(err, errJob) {
		l.links.forget()
		l.Logger.Warn("the producer makes no snapshot; its pages are read", "resource", l.resource, "err", err)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	l.at.Snapshot = s
	l.doc, err = l.save(ctx, l.doc, l.at)
	return err == nil, err
}

// readSnapshot waits for the snapshot and writes its records. What is cut goes on where it stopped.
func (l *loader) readSnapshot(ctx context.Context, m *mark, watched bool) error {
	done, err := l.client.as(forLoad).await(ctx, l.at.Snapshot.Task, func() { l.state.loaded(l.resource, 0) })
	if err != nil {
		return err
	}
	position, err := l.Store.Position(ctx, l.Name)
	switch {
	case err != nil:
		return err
	case done.Log != position.Log:
		return fmt.Errorf("%w: it is of another log than the one followed", errJob)
	case done.Sequence < l.at.Snapshot.Head:
		return fmt.Errorf("%w: it was made at %d, and the log was read up to %d before", errJob, done.Sequence, l.at.Snapshot.Head)
	}
	if !watched {
		if err := l.recollect(ctx, m, done.Sequence); err != nil {
			return err
		}
	}
	for tries := 1; ; tries++ {
		lines := l.at.Snapshot.Lines
		cut := l.copyLines(ctx, m, done)
		if !errors.Is(cut, errCut) {
			return cut
		}
		if l.at.Snapshot.Lines > lines {
			tries, l.at.Snapshot.Cuts = 1, 0
		}
		l.at.Snapshot.Cuts++
		if l.doc, err = l.save(ctx, l.doc, l.at); err != nil {
			return err
		}
		if l.at.Snapshot.Cuts >= snapshotCuts {
			return fmt.Errorf("%w: it is cut time and again", errJob)
		}
		if tries >= snapshotTries {
			return cut
		}
		if err := retry.Sleep(ctx, again.Delay(tries)); err != nil {
			return err
		}
	}
}

// recollect touches what may have been applied while nobody watched, in a run before this one: whatever has an
// event between the snapshot's beginning and the present end of the log. Pushes may have brought events beyond the cursor.
func (l *loader) recollect(ctx context.Context, m *mark, after entityevent.Sequence) error {
	position, err := l.Store.Position(ctx, l.Name)
	if err != nil {
		return err
	}
	start := time.Now()
	head, err := l.newest(ctx)
	if err != nil {
		return ofJob(err)
	}
	for after < head.through {
		page, err := l.eventsAfter(ctx, position, after, atOnce)
		switch {
		case err != nil:
			return ofJob(err)
		case page.log != position.Log || page.through <= after:
			return fmt.Errorf("%w: the log since it was made cannot be read", errJob)
		}
		l.touched.add(m, page.events)
		after = page.through
	}
	l.Logger.Info("a snapshot is read on", "resource", l.resource, "records", l.at.Snapshot.Lines, "took", time.Since(start).Round(time.Millisecond))
	return nil
}
