package task

import "net/http"

// BlockSize is how much of a result is in a block.
const BlockSize = blockSize

// SetDisk makes the disk of results look so.
func (t *Tasks) SetDisk(free, total func() uint64) {
	t.disk = func(string) (uint64, uint64, error) { return free(), total(), nil }
}

// FailWrites makes the files of results fail after so many bytes of all.
func (t *Tasks) FailWrites(after int, err error) {
	t.create = func(path string) (writable, error) {
		file, created := createFile(path)
		return &failing{file, &after, err}, created
	}
}

type failing struct {
	writable
	left *int
	err  error
}

func (f *failing) Write(p []byte) (int, error) {
	if *f.left -= len(p); *f.left < 0 {
		return 0, f.err
	}
	return f.writable.Write(p)
}

// KeepAtMost sets how many tasks of a client are kept.
func (t *Tasks) KeepAtMost(n int) { t.most = n }

// PostWith posts with another client.
func (t *Tasks) PostWith(client *http.Client) { t.client = client }
