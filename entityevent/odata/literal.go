package odata

import (
	"strconv"
	"strings"
)

// Literal is a constant in a filter.
type Literal struct {
	Kind Kind
	Text string // of a String or Enumeration what it stands for; of the others as they were written
}

// Type returns the type of the literal.
func (l Literal) Type() Type { return Type{Kind: l.Kind} }

func (l Literal) String() string {
	if l.Kind == String || l.Kind == Enumeration {
		return Quote(l.Text)
	}
	return l.Text
}

// Int returns the value of an Int.
func (l Literal) Int() int64 {
	n, _ := strconv.ParseInt(l.Text, 10, 64) // the parser saw that it fits
	return n
}

// Float returns the value of an Int or a Decimal as the nearest float64.
func (l Literal) Float() float64 {
	f, _ := strconv.ParseFloat(l.Text, 64) // beyond the range: infinite, as the store has it
	return f
}

// Instant returns the value of a DateTimeOffset, or the midnight UTC with which a Date begins, in
// microseconds since 1970.
func (l Literal) Instant() int64 {
	n, _ := momentOf(l.Text)
	return n
}

// Members returns the members that a literal beside has or an enumeration names.
func (l Literal) Members() []string {
	members := strings.Split(l.Text, ",")
	for i, m := range members {
		members[i] = strings.TrimSpace(m)
	}
	return members
}

// ParseLiteral returns the literal of a kind that a text without quotes stands for.
func ParseLiteral(text string, kind Kind) (Literal, bool) {
	if kind == String {
		return Literal{String, text}, true
	}
	l, ok := literal(text)
	return l, ok && kind.compares(l.Kind)
}

// literal reads a literal that is no string.
func literal(word string) (Literal, bool) {
	switch {
	case word == "":
		return Literal{}, false
	case strings.EqualFold(word, "null"):
		return Literal{Null, "null"}, true
	case strings.EqualFold(word, "true"), strings.EqualFold(word, "false"):
		return Literal{Bool, strings.ToLower(word)}, true
	case isGuid(word):
		return Literal{Guid, word}, true
	}
	if kind, ok := number(word); ok {
		return Literal{kind, word}, true
	}
	if isDate(word) {
		return Literal{Date, word}, true
	}
	if instant, ok := completed(word); ok {
		return Literal{DateTimeOffset, instant}, true
	}
	return Literal{}, false
}

// completed adds the seconds, which OData allows to leave out, to the text of an instant.
func completed(word string) (string, bool) {
	if _, ok := ParseInstant(word); ok {
		return word, true
	}
	if n := len("2006-01-02T15:04"); len(word) > n {
		word = word[:n] + ":00" + word[n:]
	}
	_, ok := ParseInstant(word)
	return word, ok
}

// number says whether the word is a number: an Int if it is written as one and fits.
func number(word string) (Kind, bool) {
	digits := strings.TrimLeft(word, "+-")
	if len(word)-len(digits) > 1 || digits == "" {
		return 0, false
	}
	whole, exponent, hasExponent := strings.Cut(strings.ToLower(digits), "e")
	whole, fraction, hasFraction := strings.Cut(whole, ".")
	if !isDigits(whole) || hasFraction && !isDigits(fraction) {
		return 0, false
	}
	if hasExponent {
		if e := strings.TrimLeft(exponent, "+-"); len(exponent)-len(e) > 1 || !isDigits(e) {
			return 0, false
		}
	}
	if _, err := strconv.ParseInt(word, 10, 64); err == nil {
		return Int, true
	}
	return Decimal, true
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func isGuid(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i] | 0x20; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if s[i] != '-' {
				return false
			}
		case c >= 'a' && c <= 'f', s[i] >= '0' && s[i] <= '9':
		default:
			return false
		}
	}
	return true
}

// unquote reads a string literal at the start of text and returns what it stands for, and the rest.
func unquote(text string) (value, rest string, ok bool) {
	for i := 1; ; i += len("''") {
		n := strings.IndexByte(text[i:], '\'')
		if n < 0 {
			return "", "", false
		}
		if i += n; i+1 == len(text) || text[i+1] != '\'' {
			return strings.ReplaceAll(text[1:i], "''", "'"), text[i+1:], true
		}
	}
}
