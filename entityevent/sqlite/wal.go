package sqlite

import (
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// The WAL's size is looked at after so many commits or, roughly, bytes. Above the limit, or above the room
// that the disk still has, the writer waits for the readers to get it emptied: with a read always under way
// SQLite's own checkpoints, which wait for nobody, never would. A read lasts for one page.
const (
	trimEvery = 16
	trimBytes = 512 << 10
	rowBytes  = 4 << 10 // of the pages that a row changes, beside its body
	walLimit  = 128 << 20
)

func (w *writer) trim(group []*call) {
	for _, c := range group {
		w.written += c.bytes + c.rows*rowBytes
	}
	if w.commits++; w.commits < trimEvery && w.written < trimBytes {
		return
	}
	w.commits, w.written = 0, 0
	info, err := os.Stat(w.path + "-wal")
	if err == nil && (info.Size() > w.walLimit || info.Size() > room(w.path)) {
		w.checkpoint()
	}
}

// room is how many bytes the disk still takes. The WAL must not take more of them than it leaves: a
// checkpoint may need some.
func room(path string) int64 {
	var disk unix.Statfs_t
	if err := unix.Statfs(path, &disk); err != nil {
		return math.MaxInt64
	}
	return int64(disk.Bavail * uint64(disk.Bsize))
}

// checkpoint copies the WAL into the file and empties it. Where it cannot within 100 ms, nothing is lost,
// and the next one tries again. The passive one comes first because once it has copied everything new
// readers pass the WAL by; without it the other waits for readers that keep following each other.
func (w *writer) checkpoint() {
	var errs []error
	for _, step := range []string{
		"busy_timeout=100", "wal_checkpoint(PASSIVE)", "wal_checkpoint(TRUNCATE)", "busy_timeout=" + busyTimeout,
	} {
		if err := w.conn.pragma(step); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step, err))
		}
	}
	err := unavailable(w.path, errors.Join(errs...))
	switch {
	case err != nil && w.trimmed == nil:
		w.logger.Warn("checkpoint failed", "path", w.path, "err", err)
	case err == nil && w.trimmed != nil:
		w.logger.Info("checkpoint works again", "path", w.path)
	}
	w.trimmed = err
}
