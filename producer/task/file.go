package task

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/flate"
)

// A result is stored once, as it is sent to those who accept gzip: one gzip member, made of deflate blocks of
// blockSize bytes each that do not look back beyond their start, so that any part of what is in it can be read without
// the rest. After the member stand where the blocks begin, each with the CRC-32 of what is in it, and a footer.
const (
	blockSize  = 256 << 10 // before compression
	indexSize  = 12        // of what is said of a block
	footerSize = 24        // the lengths of the member and of what is in it, and the magic
	magic      = "resosyn2"
)

var (
	gzipHeader = [10]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}
	lastBlock  = [2]byte{3, 0} // an empty block that is the last one
)

// writable is a file that is written.
type writable interface {
	io.WriteCloser
	Sync() error
}

func createFile(path string) (writable, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

// resultWriter writes a result into a temporary file, in the memory of one block.
type resultWriter struct {
	file   writable
	path   string // of the result, once it is whole
	deflat *flate.Writer
	block  []byte       // what is in the block that is not complete
	packed packedBlock  // a block, compressed
	index  []byte       // of the blocks
	size   int64        // what was written
	at     int64        // where the next block begins
	sum    uint32       // CRC-32 of what was written
	room   func() error // is asked now and then whether there is room for more
}

// packedBlock appends what is written.
type packedBlock []byte

func (p *packedBlock) Write(b []byte) (int, error) {
	*p = append(*p, b...)
	return len(b), nil
}

// roomEvery is how many blocks are written without asking for room.
const roomEvery = 32

// partial is the suffix of a file that is not whole.
const partial = ".partial"

// errResult means that a result could not be written.
var errResult = errors.New("the result cannot be written")

// createResult begins the result that will stand at path. It asks room now and then whether there is some. All errors
// of the writer are errResult, wrapped.
func (t *Tasks) createResult(path string, room func() error) (w *resultWriter, err error) {
	defer wrap(&err)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := room(); err != nil {
		return nil, err
	}
	file, err := t.create(path + partial)
	if err != nil {
		return nil, err
	}
	deflat, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	w = &resultWriter{file: file, path: path, deflat: deflat, block: make([]byte, 0, blockSize), room: room}
	if err := w.write(gzipHeader[:]); err != nil {
		w.drop()
		return nil, err
	}
	return w, nil
}

func wrap(err *error) {
	if *err != nil {
		*err = fmt.Errorf("%w: %w", errResult, *err)
	}
}

// Write implements io.Writer.
func (w *resultWriter) Write(p []byte) (n int, err error) {
	defer wrap(&err)
	n = len(p)
	for len(p) > 0 {
		part := p[:min(len(p), blockSize-len(w.block))]
		w.block, p = append(w.block, part...), p[len(part):]
		if len(w.block) == blockSize {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// flush writes the block.
func (w *resultWriter) flush() error {
	if len(w.index)/indexSize%roomEvery == roomEvery-1 {
		if err := w.room(); err != nil {
			return err
		}
	}
	w.index = binary.BigEndian.AppendUint64(w.index, uint64(w.at))
	w.index = binary.BigEndian.AppendUint32(w.index, crc32.ChecksumIEEE(w.block))
	w.size += int64(len(w.block))
	w.sum = crc32.Update(w.sum, crc32.IEEETable, w.block)
	w.packed = w.packed[:0]
	w.deflat.Reset(&w.packed)
	if _, err := w.deflat.Write(w.block); err != nil {
		return err
	}
	if err := w.deflat.Flush(); err != nil { // to the next byte, and not the end
		return err
	}
	w.block = w.block[:0]
	return w.write(w.packed)
}

// written is how many bytes there are in the file; 0 before it is there.
func (w *resultWriter) written() uint64 {
	if w == nil {
		return 0
	}
	return uint64(w.at)
}

func (w *resultWriter) write(p []byte) error {
	n, err := w.file.Write(p)
	w.at += int64(n)
	return err
}

// finish makes the result whole and durable. Before it there is no file at its path.
func (w *resultWriter) finish() (err error) {
	defer wrap(&err)
	if len(w.block) > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	tail := binary.LittleEndian.AppendUint32(lastBlock[:], w.sum)
	tail = binary.LittleEndian.AppendUint32(tail, uint32(w.size))
	length := w.at + int64(len(tail))
	tail = append(tail, w.index...)
	tail = binary.BigEndian.AppendUint64(tail, uint64(length))
	tail = append(binary.BigEndian.AppendUint64(tail, uint64(w.size)), magic...)
	if err := w.write(tail); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	if err := w.file.Close(); err != nil {
		return err
	}
	if err := os.Rename(w.path+partial, w.path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(w.path))
}

// drop removes what was not finished.
func (w *resultWriter) drop() {
	_ = w.file.Close() // it may be closed, and is not kept
	_ = os.Remove(w.path + partial)
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

// result is a result that is served.
type result struct {
	file   *os.File
	packed int64 // length of the gzip member
	size   int64 // of what is in it
}

// errDamaged means that a file is no result, or only a part of one.
var errDamaged = errors.New("not a whole result")

func openResult(path string) (*result, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &result{file: file}
	if err := r.readFooter(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	return r, nil
}

func (r *result) readFooter() error {
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	var footer [footerSize]byte
	if _, err := r.file.ReadAt(footer[:], max(0, info.Size()-footerSize)); err != nil {
		return errDamaged
	}
	r.packed, r.size = int64(binary.BigEndian.Uint64(footer[:])), int64(binary.BigEndian.Uint64(footer[8:]))
	if string(footer[16:]) != magic || r.packed < 0 || r.size < 0 || r.packed+indexSize*r.blocks()+footerSize != info.Size() {
		return errDamaged
	}
	return nil
}

func (r *result) blocks() int64 { return (r.size + blockSize - 1) / blockSize }

// compressed is the result as gzip, which whoever reads it checks.
func (r *result) compressed() io.ReadSeeker { return io.NewSectionReader(r.file, 0, r.packed) }

// plain is the result without compression.
func (r *result) plain() *plainReader { return &plainReader{result: r, open: -1} }

func (r *result) Close() error { return r.file.Close() }

// plainReader reads a result from anywhere on. It implements io.ReadSeeker.
type plainReader struct {
	*result
	at    int64
	open  int64 // the block that is in block; -1: none
	err   error // of the last block that was read
	block []byte
	unzip io.ReadCloser
}

// Seek implements io.Seeker.
func (r *plainReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	r.at = offset
	return offset, nil
}

// Read implements io.Reader.
func (r *plainReader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if n := r.at / blockSize; n != r.open {
		if r.err = r.load(n); r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.block[r.at%blockSize:])
	r.at += int64(n)
	return n, nil
}

// load reads a block.
func (r *plainReader) load(n int64) error {
	r.open = -1
	var of [indexSize]byte
	if _, err := r.file.ReadAt(of[:], r.packed+indexSize*n); err != nil {
		return err
	}
	from := int64(binary.BigEndian.Uint64(of[:]))
	packed := io.NewSectionReader(r.file, from, r.packed-from)
	if r.unzip == nil {
		r.unzip, r.block = flate.NewReader(packed), make([]byte, blockSize)
	} else if err := r.unzip.(flate.Resetter).Reset(packed, nil); err != nil {
		return err
	}
	r.block = r.block[:min(blockSize, r.size-n*blockSize)]
	if _, err := io.ReadFull(r.unzip, r.block); err != nil {
		return fmt.Errorf("%w: block %d: %w", errDamaged, n, err)
	}
	if crc32.ChecksumIEEE(r.block) != binary.BigEndian.Uint32(of[8:]) {
		return fmt.Errorf("%w: block %d has another checksum", errDamaged, n)
	}
	r.open = n
	return nil
}
