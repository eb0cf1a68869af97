package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestFilesAreKept: those who wait leave a tenth of the files to others.
func TestFilesAreKept(t *testing.T) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	most := mostHeld()
	if most < 0 || most > 20_000 || uint64(most) > files.Cur/10*9 || most == 0 && files.Cur/10*9 <= 20_000 {
		t.Errorf("%d of %d files", most, files.Cur)
	}
}
