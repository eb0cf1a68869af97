package odata

import (
	"bytes"
	"encoding/json"
	"iter"
)

// kindOf returns the first byte of a JSON text, 0 if there is none.
func kindOf(raw []byte) byte {
	if len(raw) == 0 {
		return 0
	}
	return raw[0]
}

// text returns what a JSON string stands for. It may share the bytes of raw.
func text(raw []byte) string {
	if len(raw) >= 2 && bytes.IndexByte(raw, '\\') < 0 {
		return view(raw[1 : len(raw)-1])
	}
	var s string
	_ = json.Unmarshal(raw, &s) // what is no string stays empty
	return s
}

// memberOf returns a member of a JSON object, nil if it has none.
func memberOf(object []byte, name string) []byte {
	if kindOf(object) != '{' {
		return nil
	}
	i := next(object, 0) + 1
	for i = next(object, i); i < len(object) && object[i] == '"'; i = next(object, i+1) {
		end := skip(object, i)
		found := text(object[i:end]) == name
		i = next(object, next(object, end)+1) // the colon
		if end = skip(object, i); found {
			return object[i:end]
		}
		if i = next(object, end); i >= len(object) || object[i] != ',' {
			break
		}
	}
	return nil
}

// elements goes through a JSON array.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		i := next(array, next(array, 0)+1)
		for i < len(array) && array[i] != ']' {
			end := skip(array, i)
			if !yield(array[i:end]) {
				return
			}
			if i = next(array, end); i < len(array) && array[i] == ',' {
				i = next(array, i+1)
			}
		}
	}
}

// next returns the place of the first byte from i that is no white space.
func next(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n') {
		i++
	}
	return i
}

// skip returns the end of the JSON value that begins at i. It moves on always.
func skip(text []byte, i int) int {
	depth := 0
	for ; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case ',', ':', ' ', '\t', '\r', '\n':
			continue
		default:
			for i+1 < len(text) && !bytes.ContainsRune([]byte(",:]} \t\r\n"), rune(text[i+1])) {
				i++
			}
		}
		if depth <= 0 {
			return min(i+1, len(text))
		}
	}
	return len(text)
}
