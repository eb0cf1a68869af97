package odata

import (
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Path is a resource path below the service root.
type Path struct {
	Resource  string   // "" for the service root itself; may be $metadata
	Key       *string  // nil: the collection
	KeyQuoted bool     // the key was written as a string
	KeyName   string   // of a key written as (Name='key'); usually ""
	Rest      []string // segments after it, as Media or $count
}

// ParsePath reads a path below the service root, as url.URL.EscapedPath gives it, with or without its
// first slash. One trailing slash is ignored. Quotes and parentheses may be percent-encoded or not;
// whatever stands between quotes belongs to the key: a//b, a/../b, a%2Fb. Its error is an *Error: 400
// for what is no path, 404 for an empty segment.
func ParsePath(escaped string) (Path, error) {
	text, err := url.PathUnescape(escaped)
	if err != nil || !utf8.ValidString(text) {
		return Path{}, refuse(http.StatusBadRequest, "", "The path is not percent-encoded UTF-8")
	}
	segments, err := split(strings.TrimPrefix(text, "/"))
	if err != nil || len(segments) == 0 {
		return Path{}, err
	}
	p, err := parseKey(segments[0])
	if err != nil {
		return Path{}, err
	}
	if len(segments) > 1 {
		p.Rest = segments[1:]
	}
	return p, nil
}

// split cuts a path at the slashes that are not between quotes.
func split(text string) ([]string, error) {
	var segments []string
	start, quoted := 0, false
	for i := 0; i <= len(text); i++ {
		switch {
		case i == len(text) && quoted:
			return nil, refuse(http.StatusBadRequest, "", "A key without its closing quote")
		case i == len(text) || text[i] == '/' && !quoted:
			if i == start && i < len(text) {
				return nil, refuse(http.StatusNotFound, "", "An empty segment in the path")
			}
			if i > start {
				segments = append(segments, text[start:i])
			}
			start = i + 1
		case text[i] == '\'':
			quoted = !quoted
		}
	}
	return segments, nil
}

// parseKey reads Name, Name('key'), Name(123) or Name(Field='key').
func parseKey(segment string) (Path, error) {
	name, args, found := strings.Cut(segment, "(")
	if strings.Contains(name, "'") {
		return Path{}, refuse(http.StatusBadRequest, "", "A quote outside of a key")
	}
	p := Path{Resource: name}
	if !found {
		return p, nil
	}
	bad := refuse(http.StatusBadRequest, "", "A key is written as "+name+"('key') or "+name+"(123), with quotes doubled inside")
	if before, after, found := strings.Cut(args, "="); found && IsName(before) {
		p.KeyName, args = before, after
	}
	var key string
	if strings.HasPrefix(args, "'") {
		text, rest, ok := unquote(args)
		if !ok || rest != ")" {
			return Path{}, bad
		}
		key, p.KeyQuoted = text, true
	} else {
		text, ok := strings.CutSuffix(args, ")")
		if !ok || text == "" || strings.ContainsAny(text, "'(),=") {
			return Path{}, bad
		}
		key = text
	}
	p.Key = &key
	return p, nil
}

// KeySegment returns the path of a record: Property('O”Neil'), the key percent-encoded, its quotes and
// the parentheses raw, for some servers answer encoded ones with an HTML 404.
func KeySegment(resource, key string, quoted bool) string {
	return string(AppendKeySegment(nil, resource, key, quoted))
}

// AppendKeySegment appends what KeySegment returns to dst. It is ASCII that JSON need not escape.
func AppendKeySegment(dst []byte, resource, key string, quoted bool) []byte {
	dst = append(appendEscaped(dst, resource, ""), '(')
	if !quoted {
		return append(appendEscaped(dst, key, ""), ')')
	}
	dst = append(dst, '\'')
	for {
		before, after, found := strings.Cut(key, "'")
		dst = appendEscaped(dst, before, "")
		if !found {
			return append(dst, "')"...)
		}
		dst = append(dst, "''"...)
		key = after
	}
}

// EscapeQuery percent-encodes a value of a URL's query, leaving raw what filters are made of and no
// server misreads: quotes, parentheses, commas, $ and =.
func EscapeQuery(s string) string { return string(appendEscaped(nil, s, "'(),$=")) }

func appendEscaped(dst []byte, s, raw string) []byte {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			c == '-' || c == '_' || c == '.' || c == '~' || strings.IndexByte(raw, c) >= 0 {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}
