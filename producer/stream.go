package producer

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/klauspost/compress/gzip"
)

const (
	flushAt    = 32 << 10
	keepBuffer = 1 << 20 // a larger one is not kept for the next answer
)

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// stream is an answer that is sent while it is made, compressed if the client likes. A small one has a
// Content-Length.
type stream struct {
	x           *exchange
	status      int
	contentType string
	pooled      *[]byte
	buf         []byte
	sent        bool // the first byte is on its way: an error can only abort
	packed      *gzip.Writer
}

func (x *exchange) stream(status int) *stream {
	s := &stream{x: x, status: status, contentType: x.format.contentType(), pooled: buffers.Get().(*[]byte)}
	s.buf = (*s.pooled)[:0]
	return s
}

// room sends what there is once it is worth sending.
func (s *stream) room() {
	if len(s.buf) >= flushAt {
		s.flush()
	}
}

func (s *stream) flush() {
	if !s.sent {
		if s.compresses() {
			s.x.w.Header().Set("Content-Encoding", "gzip")
			if s.x.r.Method != http.MethodHead {
				s.packed = compressor(s.x.w)
			}
		}
		s.begin()
	}
	if s.packed != nil {
		s.write(s.packed, s.buf)
	} else {
		s.write(s.x.w, s.buf)
	}
	s.buf = s.buf[:0]
}

// compresses says whether an answer leaves compressed that has at least what is in the buffer.
func (s *stream) compresses() bool { return len(s.buf) >= compressFrom && s.x.gzip }

func (s *stream) begin() {
	s.x.w.Header().Set("Content-Type", s.contentType)
	s.x.w.WriteHeader(s.status)
	s.sent = true
}

func (s *stream) write(to io.Writer, text []byte) {
	if s.x.r.Method == http.MethodHead {
		return
	}
	if _, err := to.Write(text); err != nil {
		s.x.abort(s.x.r, err)
	}
}

// end sends the rest.
func (s *stream) end() {
	switch {
	case s.sent:
		s.flush()
		if s.packed != nil {
			if err := s.packed.Close(); err != nil {
				s.x.abort(s.x.r, err)
			}
		}
	case !s.compresses():
		s.x.w.Header().Set("Content-Length", strconv.Itoa(len(s.buf)))
		s.begin()
		s.write(s.x.w, s.buf)
	case s.x.r.Method == http.MethodHead: // its length is known to who compresses it
		s.flush()
	default:
		s.whole()
	}
	s.release()
}

// whole sends an answer that is complete in the buffer, compressed and with its length.
func (s *stream) whole() {
	pooled := buffers.Get().(*[]byte)
	small := appender((*pooled)[:0])
	s.packed = compressor(&small)
	if _, err := s.packed.Write(s.buf); err != nil {
		s.x.abort(s.x.r, err)
	}
	if err := s.packed.Close(); err != nil {
		s.x.abort(s.x.r, err)
	}
	h := s.x.w.Header()
	h.Set("Content-Encoding", "gzip")
	h.Set("Content-Length", strconv.Itoa(len(small)))
	s.begin()
	s.write(s.x.w, small)
	*pooled = small[:0]
	buffers.Put(pooled)
}

// release gives what was borrowed back. It may be called again.
func (s *stream) release() {
	if s.pooled != nil && cap(s.buf) <= keepBuffer {
		*s.pooled = s.buf[:0]
		buffers.Put(s.pooled)
	}
	s.pooled = nil
	if s.packed != nil {
		s.packed.Reset(nil) // it must not keep the connection
		compressors.Put(s.packed)
		s.packed = nil
	}
}

// member begins the next member of an object.
func (s *stream) member(name string) {
	if n := len(s.buf); n == 0 || s.buf[n-1] != '{' {
		s.buf = append(s.buf, ',')
	}
	s.buf = append(append(append(s.buf, '"'), name...), '"', ':')
}

func (s *stream) text(text string) { s.buf = append(s.buf, text...) }

func (s *stream) quoted(text string) { s.buf = appendString(s.buf, text) }

// appendString appends v as a JSON string.
func appendString(dst []byte, v string) []byte {
	for i := 0; i < len(v); i++ {
		if c := v[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			quoted, err := json.Marshal(v)
			if err != nil { // a string always has a JSON form
				return append(dst, `""`...)
			}
			return append(dst, quoted...)
		}
	}
	return append(append(append(dst, '"'), v...), '"')
}
