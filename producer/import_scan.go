package producer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/resosync/resosync/entityevent"
)

// read walks the input: a first value, and when that was a record of its own, lines.
func (i *importer) read(t *textScanner) error {
	for {
		c, err := t.space()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch c {
		case '[':
			err = t.list(func() error { return i.element(t, i.resource) })
		case '{':
			var single bool
			if single, err = i.object(t); err == nil && single {
				return i.lines(t)
			}
		default:
			err = t.fault("want an object or an array")
		}
		if err != nil {
			return err
		}
	}
}

// element reads one record of an array.
func (i *importer) element(t *textScanner, resource string) error {
	t.text, t.overflow = t.text[:0], false
	if c, err := t.space(); err != nil {
		return t.cut(err)
	} else if c != '{' {
		return t.fault("want an object")
	}
	i.at = place{i.at.record + 1, t.line}
	if err := t.value(); err != nil {
		return err
	}
	return i.take(t, resource)
}

// take adds the record that the scanner holds.
func (i *importer) take(t *textScanner, resource string) error {
	if t.overflow {
		i.refuse(i.at, errTooLarge)
		i.keepOld(entityevent.Ref{})
		return nil
	}
	return i.add(resource, t.text)
}

// object reads RESO Common Format: records in a value array, which are added as they are read, or one
// record, for which it returns true.
func (i *importer) object(t *textScanner) (single bool, err error) {
	var context string
	multi, line := false, t.line
	t.text, t.overflow = append(t.text[:0], '{'), false
	err = t.members(func(name string, start int) error {
		if c, err := t.space(); err != nil {
			return t.cut(err)
		} else if name != `"value"` || c != '[' || multi {
			from := len(t.text)
			err := t.value()
			if name == `"@reso.context"` && !t.overflow {
				context = entityevent.StringMember(append(append([]byte(`{"c":`), t.text[from:]...), '}'), "c")
			}
			return err
		}
		multi = true
		resource, err := i.wrapped(context)
		if err != nil {
			return err
		}
		i.replacement.named(resource)
		held := bytes.Clone(t.text[:start])
		err = t.list(func() error { return i.element(t, resource) })
		t.text, t.overflow = append(append(t.text[:0], held...), `"value":0`...), false
		return err
	})
	if err != nil || multi {
		return false, err
	}
	t.text = append(t.text, '}')
	i.at = place{line, line}
	if inherited, err := i.contextResource(context); err == nil {
		i.inherited = inherited // by the lines that follow
	}
	return true, i.take(t, i.resource)
}

// wrapped returns the resource of a value array whose object has this context.
func (i *importer) wrapped(context string) (string, error) {
	named, err := i.contextResource(context)
	switch {
	case err != nil:
		return "", err
	case i.resource == "":
		return named, nil
	case named != "" && named != i.resource:
		return "", fmt.Errorf("%w: the input is of %s by its @reso.context, not of %s", entityevent.ErrInvalid, named, i.resource)
	}
	return i.resource, nil
}

// lines reads the rest of the input as JSON Lines, after a first record.
func (i *importer) lines(t *textScanner) error {
	rest, _, err := t.readLine()
	if len(bytes.TrimSpace(rest)) > 0 {
		return t.fault("more text after the first record")
	}
	for n := t.line; err == nil; n++ {
		var line []byte
		var tooLong bool
		line, tooLong, err = t.readLine()
		i.at = place{n, n}
		line = bytes.TrimSpace(line)
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return t.cut(err)
		case tooLong:
			i.refuse(i.at, errTooLarge)
			i.keepOld(entityevent.Ref{})
		case len(line) > 0:
			if err := i.add(i.resource, line); err != nil {
				return err
			}
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

var errTooLarge = fmt.Errorf("it is larger than %d bytes", maxRecord)

// textScanner cuts a stream into the texts of JSON values. It checks only what it must to find their
// ends: whoever takes a text checks it.
type textScanner struct {
	in       *bufio.Reader
	line     int
	text     []byte // of the value under way
	overflow bool   // the text is longer than maxRecord: the rest of it is not kept
}

func (t *textScanner) fault(what string) error {
	return fmt.Errorf("%w JSON in line %d: %s", entityevent.ErrInvalid, t.line, what)
}

// cut is the error of input that ends inside a value, or cannot be read.
func (t *textScanner) cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return t.fault("the input ends in the middle")
	}
	return err
}

// skip drops the byte that space returned.
func (t *textScanner) skip() { _, _ = t.in.Discard(1) } // it is in the buffer

// space skips white space and returns the next byte without taking it.
func (t *textScanner) space() (byte, error) {
	for {
		b, err := t.in.Peek(1)
		if err != nil {
			return 0, err
		}
		switch b[0] {
		case '\n':
			t.line++
		case ' ', '\t', '\r':
		default:
			return b[0], nil
		}
		t.skip()
	}
}

// members walks an object. It appends every name and colon to text, and calls each, which must read the
// value, with the name, its quotes included, and where in text it stands.
func (t *textScanner) members(each func(name string, start int) error) error {
	t.skip()
	for first := true; ; first = false {
		c, err := t.space()
		if err != nil {
			return t.cut(err)
		}
		if c == '}' {
			t.skip()
			return nil
		}
		if !first {
			if c != ',' {
				return t.fault("want ',' or '}'")
			}
			t.skip()
			t.text = append(t.text, ',')
			if c, err = t.space(); err != nil {
				return t.cut(err)
			}
		}
		if c != '"' {
			return t.fault("want a name")
		}
		start := len(t.text)
		if err := t.value(); err != nil {
			return err
		}
		name := string(t.text[start:])
		if c, err = t.space(); err != nil {
			return t.cut(err)
		}
		if c != ':' {
			return t.fault("want ':'")
		}
		t.skip()
		t.text = append(t.text, ':')
		if err := each(name, start); err != nil {
			return err
		}
	}
}

// list walks an array and calls each at every element.
func (t *textScanner) list(each func() error) error {
	t.skip()
	if c, err := t.space(); err != nil {
		return t.cut(err)
	} else if c == ']' {
		t.skip()
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		c, err := t.space()
		if err != nil {
			return t.cut(err)
		}
		if c != ',' && c != ']' {
			return t.fault("want ',' or ']'")
		}
		t.skip()
		if c == ']' {
			return nil
		}
	}
}

// value appends the text of the next value, whose first byte space returned, to text.
func (t *textScanner) value() error {
	var v valueEnd
	for {
		if _, err := t.in.Peek(1); err == io.EOF && v.depth == 0 && !v.quoted {
			return nil // a number or a word at the end of the input
		} else if err != nil {
			return t.cut(err)
		}
		part, _ := t.in.Peek(t.in.Buffered())
		n, done := v.find(part)
		t.line += bytes.Count(part[:n], []byte{'\n'})
		if t.overflow = t.overflow || len(t.text)+n > maxRecord; !t.overflow {
			t.text = append(t.text, part[:n]...)
		}
		if _, err := t.in.Discard(n); err != nil || done {
			return err
		}
	}
}

// valueEnd finds the end of a JSON value that comes in parts.
type valueEnd struct {
	depth           int
	quoted, escaped bool
}

// find returns how many bytes of the part belong to the value, and whether it ends there.
func (v *valueEnd) find(part []byte) (n int, done bool) {
	for n, c := range part {
		switch {
		case v.escaped:
			v.escaped = false
		case v.quoted:
			v.escaped = c == '\\'
			v.quoted = c != '"'
			if v.depth == 0 && !v.quoted {
				return n + 1, true
			}
		case c == '"':
			v.quoted = true
		case c == '{', c == '[':
			v.depth++
		case c == '}', c == ']':
			if v.depth == 0 {
				return n, true // what surrounds a number or a word
			}
			if v.depth--; v.depth == 0 {
				return n + 1, true
			}
		case v.depth > 0:
		case c == ',', c == ':', c == ' ', c == '\n', c == '\r', c == '\t':
			return n, true
		}
	}
	return len(part), false
}

// readLine returns the next line without its end, which is valid until the next call. A line that is too
// long is read over. At the end of the input it returns what is left, and io.EOF.
func (t *textScanner) readLine() (line []byte, tooLong bool, err error) {
	t.text = t.text[:0]
	for {
		part, err := t.in.ReadSlice('\n')
		if tooLong = tooLong || len(t.text)+len(part) > maxRecord; !tooLong {
			t.text = append(t.text, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err == nil {
			t.line++
		}
		return t.text, tooLong, err
	}
}
