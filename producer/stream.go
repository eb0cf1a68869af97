package producer

import (
	"encoding/json"
	"strconv"
	"sync"
)

const (
	flushAt    = 32 << 10
	keepBuffer = 1 << 20 // a larger one is not kept for the next answer
)

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// stream is a JSON answer that is sent while it is made. A small one has a Content-Length.
type stream struct {
	x      *exchange
	status int
	pooled *[]byte
	buf    []byte
	sent   bool // the first byte is on its way: an error can only abort
}

func (x *exchange) stream(status int) *stream {
	s := &stream{x: x, status: status, pooled: buffers.Get().(*[]byte)}
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
		s.x.w.Header().Set("Content-Type", "application/json")
		s.x.w.WriteHeader(s.status)
		s.sent = true
	}
	if _, err := s.x.w.Write(s.buf); err != nil {
		s.x.abort(s.x.r, err)
	}
	s.buf = s.buf[:0]
}

// end sends the rest.
func (s *stream) end() {
	if !s.sent {
		s.x.w.Header().Set("Content-Length", strconv.Itoa(len(s.buf)))
	}
	s.flush()
	s.release()
}

// release gives the buffer back. It may be called again.
func (s *stream) release() {
	if s.pooled != nil && cap(s.buf) <= keepBuffer {
		*s.pooled = s.buf[:0]
		buffers.Put(s.pooled)
	}
	s.pooled = nil
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
