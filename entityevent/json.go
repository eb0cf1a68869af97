package entityevent

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of JSON that is accepted.
const maxDepth = 64

// scanner walks JSON text once, strictly (RFC 8259, valid UTF-8), without decoding what nobody asks for.
// encoding/json costs several times as much for the same walk, and every record and event takes it.
type scanner struct {
	src []byte
	pos int
}

func (s *scanner) errorf(format string, args ...any) error {
	return fmt.Errorf("%w JSON at byte %d: %s", ErrInvalid, s.pos, fmt.Sprintf(format, args...))
}

// space skips white space and returns the next byte, 0 at the end.
func (s *scanner) space() byte {
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// end says whether nothing but white space is left.
func (s *scanner) end() error {
	if s.space() != 0 || s.pos < len(s.src) {
		return s.errorf("more text after the value")
	}
	return nil
}

// list walks an object or an array: it reads the opening byte, calls each at every member or element,
// and reads the closing byte.
func (s *scanner) list(open, end byte, each func() error) error {
	if s.space() != open {
		return s.errorf("want %q", open)
	}
	s.pos++
	if s.space() == end {
		s.pos++
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		switch s.space() {
		case ',':
			s.pos++
		case end:
			s.pos++
			return nil
		default:
			return s.errorf("want ',' or %q", end)
		}
	}
}

// object walks an object: each is called with the text of every name, its quotes included, and must
// read the value.
func (s *scanner) object(each func(name []byte) error) error {
	return s.list('{', '}', func() error {
		name, err := s.text()
		if err != nil {
			return err
		}
		if s.space() != ':' {
			return s.errorf("want ':'")
		}
		s.pos++
		return each(name)
	})
}

// skip walks one value of any kind and returns its text.
func (s *scanner) skip(depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, s.errorf("nested deeper than %d", maxDepth)
	}
	c := s.space()
	start := s.pos
	var err error
	switch c {
	case '{':
		err = s.object(func([]byte) error {
			_, err := s.skip(depth + 1)
			return err
		})
	case '[':
		err = s.list('[', ']', func() error {
			_, err := s.skip(depth + 1)
			return err
		})
	case '"':
		_, err = s.text()
	default:
		_, err = s.atom()
	}
	return s.src[start:s.pos], err
}

// text reads a string and returns its text with the quotes.
func (s *scanner) text() ([]byte, error) {
	if s.space() != '"' {
		return nil, s.errorf("want a string")
	}
	start := s.pos
	plain := true
	for i := s.pos + 1; i < len(s.src); i++ {
		switch c := s.src[i]; {
		case c == '"':
			s.pos = i + 1
			text := s.src[start:s.pos]
			if !plain && !utf8.Valid(text) {
				s.pos = start
				return nil, s.errorf("a string that is not UTF-8")
			}
			return text, nil
		case c == '\\':
			i++
			if i < len(s.src) && s.src[i] == 'u' {
				for n := 0; n < 4; n++ {
					i++
					if i >= len(s.src) || hexDigit(s.src[i]) < 0 {
						s.pos = min(i, len(s.src))
						return nil, s.errorf("a broken \\u escape")
					}
				}
			} else if i >= len(s.src) || bytes.IndexByte([]byte(`"\/bfnrt`), s.src[i]) < 0 {
				s.pos = min(i, len(s.src))
				return nil, s.errorf("an unknown escape")
			}
		case c < 0x20:
			s.pos = i
			return nil, s.errorf("a control character in a string")
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	s.pos = len(s.src)
	return nil, s.errorf("a string without an end")
}

// atom reads a number, true, false or null.
func (s *scanner) atom() ([]byte, error) {
	start := s.pos
	for s.pos < len(s.src) {
		c := s.src[s.pos]
		if c == ',' || c == '}' || c == ']' || c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == ':' {
			break
		}
		s.pos++
	}
	text := s.src[start:s.pos]
	switch string(text) {
	case "true", "false", "null":
		return text, nil
	}
	if !isNumber(text) {
		s.pos = start
		return nil, s.errorf("want a value")
	}
	return text, nil
}

// isNumber says whether t is a JSON number.
func isNumber(t []byte) bool {
	t = bytes.TrimPrefix(t, []byte("-"))
	digits := func() int {
		n := 0
		for n < len(t) && t[n] >= '0' && t[n] <= '9' {
			n++
		}
		t = t[n:]
		return n
	}
	zero := len(t) > 0 && t[0] == '0'
	if n := digits(); n == 0 || zero && n > 1 {
		return false
	}
	if len(t) > 0 && t[0] == '.' {
		t = t[1:]
		if digits() == 0 {
			return false
		}
	}
	if len(t) > 0 && (t[0] == 'e' || t[0] == 'E') {
		t = t[1:]
		if len(t) > 0 && (t[0] == '+' || t[0] == '-') {
			t = t[1:]
		}
		if digits() == 0 {
			return false
		}
	}
	return len(t) == 0
}

// unquote returns what a string's text stands for. A lone surrogate stands for U+FFFD.
func unquote(text []byte) []byte {
	inner := text[1 : len(text)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	out := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		if inner[i] != '\\' {
			out = append(out, inner[i])
			continue
		}
		i++
		switch inner[i] {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hex4(inner[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if i+6 < len(inner) && inner[i+1] == '\\' && inner[i+2] == 'u' {
					pair = utf16.DecodeRune(r, hex4(inner[i+3:]))
				}
				if pair != utf8.RuneError {
					i += 6
				}
				r = pair
			}
			out = utf8.AppendRune(out, r)
		default: // " \ /
			out = append(out, inner[i])
		}
	}
	return out
}

// loneSurrogate says whether a string's text escapes half a surrogate pair.
func loneSurrogate(text []byte) bool {
	for i := bytes.IndexByte(text, '\\'); i >= 0 && i+1 < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		if i++; text[i] != 'u' {
			continue
		}
		r := hex4(text[i+1:])
		i += 4
		if !utf16.IsSurrogate(r) {
			continue
		}
		if i+6 >= len(text) || text[i+1] != '\\' || text[i+2] != 'u' || utf16.DecodeRune(r, hex4(text[i+3:])) == utf8.RuneError {
			return true
		}
		i += 6
	}
	return false
}

// appendQuoted appends v as a JSON string, with as few escapes as JSON allows.
func appendQuoted(dst, v []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i, c := range v {
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, v[start:i]...)
		if c < 0x20 {
			dst = append(dst, `\u00`...)
			if c < 0x10 {
				dst = append(dst, '0')
			}
			dst = strconv.AppendUint(dst, uint64(c), 16)
		} else {
			dst = append(dst, '\\', c)
		}
		start = i + 1
	}
	return append(append(dst, v[start:]...), '"')
}

func hexDigit(c byte) rune {
	switch {
	case c >= '0' && c <= '9':
		return rune(c - '0')
	case c >= 'a' && c <= 'f':
		return rune(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return rune(c-'A') + 10
	}
	return -1
}

func hex4(b []byte) rune {
	return hexDigit(b[0])<<12 | hexDigit(b[1])<<8 | hexDigit(b[2])<<4 | hexDigit(b[3])
}
