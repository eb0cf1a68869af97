package task

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Results leave so much of the disk free, for the store is on it too.
const (
	leaveBytes   = 512 << 20
	leavePercent = 5
)

// errFull means that there is no room for a result.
var errFull = errors.New("the disk has too little room")

// room returns errFull if a result may not take more of the disk.
func (t *Tasks) room() error {
	free, total, err := t.disk(t.Folder)
	switch {
	case err != nil:
		return fmt.Errorf("free space of %s: %w", t.Folder, err)
	case free < leaveBytes || free < total/100*leavePercent:
		return fmt.Errorf("%w: %d MB of %d MB are free, and results leave %d MB and %d %%", errFull, free>>20, total>>20, leaveBytes>>20, leavePercent)
	}
	return nil
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

// remove removes what there is of a result.
func (t *Tasks) remove(id string) error {
	err := os.Remove(t.path(id))
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
