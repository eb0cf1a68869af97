package task

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Results leave so much of the disk free, for the store is on it too: a share of it, within these bounds.
const (
	leaveLeast   = 512 << 20
	leaveMost    = 10 << 30
	leavePercent = 5
)

// errFull means that there is no room for a result.
var errFull = errors.New("the disk has too little room")

// room returns errFull if a result may not take more of the disk, and how many bytes are lacking.
func (t *Tasks) room() (lacking uint64, err error) {
	free, total, err := t.disk(t.Folder)
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", t.Folder, err)
	}
	if leave := max(leaveLeast, min(leaveMost, total/100*leavePercent)); free < leave {
		return leave - free, fmt.Errorf("%w: %d MB of %d MB are free, and results leave %d MB", errFull, free>>20, total>>20, leave>>20)
	}
	return 0, nil
}

// makeRoom is room for a client, which has written so many bytes of a result: for it the oldest results of those are dropped
// who hold more, or its own, if that helps. The last one of a client stays, unless it takes more than a quarter of all and
// keeps the other from that.
func (t *Tasks) makeRoom(ctx context.Context, client string, written uint64) error {
	lacking, err := t.room()
	if !errors.Is(err, errFull) {
		return err
	}
	held, results := map[string]uint64{}, map[string][]*task{} // by client, oldest first
	sizes := map[*task]uint64{}
	for _, k := range t.all() {
		if s, _ := t.look(k); s.Status == succeeded {
			if info, err := os.Stat(t.path(k.id)); err == nil {
				sizes[k] = uint64(info.Size())
				held[s.Client] += sizes[k]
				results[s.Client] = append(results[s.Client], k)
			}
		}
	}
	all := written
	for _, bytes := range held {
		all += bytes
	}
	share := all / 4
	poor := held[client]+written <= share
	var dropped []*task
	for made := uint64(0); made < lacking; {
		most := ""
		for name, of := range results {
			may := len(of) > 1 && (name == client || held[name] > held[client]) || len(of) == 1 && poor && held[name] > share
			if may && (most == "" || held[name] > held[most]) {
				most = name
			}
		}
		if most == "" {
			return err
		}
		k := results[most][0]
		results[most] = results[most][1:]
		held[most] -= sizes[k]
		made += sizes[k]
		dropped = append(dropped, k)
	}
	for _, k := range dropped {
		if err := t.abandon(ctx, k, "The disk has too little room for all results, and those who hold most lose their oldest: POST /tasks for another"); err != nil {
			return err
		}
		t.logger().WarnContext(ctx, "a result is dropped, as the disk has too little room", "task", k.id)
	}
	_, err = t.room()
	return err
}

// diskOf returns how many bytes of a folder's disk are free for us, and how many there are.
func diskOf(folder string) (free, total uint64, err error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(folder, &disk); err != nil {
		return 0, 0, err
	}
	block := uint64(disk.Bsize)
	return disk.Bavail * block, disk.Blocks * block, nil
}

// isFull says whether an error is that of a full disk.
func isFull(err error) bool {
	return errors.Is(err, errFull) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// resultSuffix is how the files of results end.
const resultSuffix = ".result"

func (t *Tasks) path(id string) string { return filepath.Join(t.Folder, id+resultSuffix) }

// remove removes what there is of a result. Who still reads it is cut off: else the room is not there until he is done.
func (t *Tasks) remove(id string) error {
	err := errors.Join(os.Truncate(t.path(id), 0), os.Remove(t.path(id)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// sweepFiles removes the files that are no task's result: those that a crash left behind.
func (t *Tasks) sweepFiles() error {
	entries, err := os.ReadDir(t.Folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	keep := map[string]bool{}
	t.mu.Lock()
	for id, k := range t.tasks {
		keep[id+resultSuffix] = k.state.Status == succeeded
	}
	t.mu.Unlock()
	for _, e := range entries {
		ours := strings.HasSuffix(e.Name(), resultSuffix) || strings.HasSuffix(e.Name(), partial)
		if ours && !keep[e.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(t.Folder, e.Name())))
		}
	}
	return err
}
