package odata

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxNesting bounds the parentheses of a filter.
const maxNesting = 100

// ParseFilter reads a $filter: eq ne gt ge lt le, in, and, or, not and parentheses over fields and
// literals, operators in any case. Its error is an *Error with the position in characters from 0: 400
// for what is no OData, 501 for what is OData and not offered, as functions.
func ParseFilter(text string) (Expr, error) {
	if !utf8.ValidString(text) {
		return nil, refuse(http.StatusBadRequest, "$filter", "$filter is not UTF-8")
	}
	p := &parser{text: text}
	e, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.space(); p.pos < len(p.text) {
		return nil, p.unexpected()
	}
	return e, nil
}

type parser struct {
	text  string
	pos   int
	depth int
}

func (p *parser) errorf(status, at int, format string, args ...any) error {
	position := utf8.RuneCountInString(p.text[:at])
	return refuse(status, "$filter", fmt.Sprintf(format, args...)+" at position "+strconv.Itoa(position))
}

func (p *parser) unexpected() error {
	if p.pos >= len(p.text) {
		return p.errorf(http.StatusBadRequest, p.pos, "Unexpected end")
	}
	word := p.peek()
	if word == "" {
		r, _ := utf8.DecodeRuneInString(p.text[p.pos:])
		word = string(r)
	}
	switch strings.ToLower(word) {
	case "add", "sub", "mul", "div", "divby", "mod", "has":
		return p.errorf(http.StatusNotImplemented, p.pos, "The operator %s is not offered", word)
	}
	return p.errorf(http.StatusBadRequest, p.pos, "Unexpected %q", word)
}

func (p *parser) space() {
	for p.pos < len(p.text) && (p.text[p.pos] == ' ' || p.text[p.pos] == '\t') {
		p.pos++
	}
}

// peek returns the bare word at the position, "" if there is none.
func (p *parser) peek() string {
	p.space()
	end := p.pos
	for end < len(p.text) && !strings.ContainsRune(" \t(),'", rune(p.text[end])) {
		end++
	}
	return p.text[p.pos:end]
}

// keyword consumes the word if it is next.
func (p *parser) keyword(word string) bool {
	if next := p.peek(); strings.EqualFold(next, word) {
		p.pos += len(next)
		return true
	}
	return false
}

func (p *parser) symbol(c byte) bool {
	p.space()
	if p.pos < len(p.text) && p.text[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *parser) or() (Expr, error) {
	first, err := p.and()
	if err != nil {
		return nil, err
	}
	terms := Disjunction{first}
	for p.keyword("or") {
		next, err := p.and()
		if err != nil {
			return nil, err
		}
		terms = append(terms, next)
	}
	if len(terms) == 1 {
		return first, nil
	}
	return terms, nil
}

func (p *parser) and() (Expr, error) {
	first, err := p.term()
	if err != nil {
		return nil, err
	}
	terms := Conjunction{first}
	for p.keyword("and") {
		next, err := p.term()
		if err != nil {
			return nil, err
		}
		terms = append(terms, next)
	}
	if len(terms) == 1 {
		return first, nil
	}
	return terms, nil
}

func (p *parser) term() (Expr, error) {
	if p.depth++; p.depth > maxNesting {
		return nil, p.errorf(http.StatusBadRequest, p.pos, "Nested deeper than %d", maxNesting)
	}
	defer func() { p.depth-- }()
	if p.symbol('(') {
		e, err := p.or()
		if err == nil && !p.symbol(')') {
			p.space()
			err = p.unexpected()
		}
		return e, err
	}
	start := p.pos
	if p.keyword("not") {
		if p.pos < len(p.text) && strings.ContainsRune(" \t(", rune(p.text[p.pos])) {
			e, err := p.term()
			return Negation{e}, err
		}
		p.pos = start
	}
	return p.comparison()
}

func (p *parser) comparison() (Expr, error) {
	field, value, err := p.operand()
	if err != nil {
		return nil, err
	}
	p.space()
	if field != "" && p.keyword("in") {
		values, err := p.list()
		return Membership{field, values}, err
	}
	var op Op
	switch o := Op(strings.ToLower(p.peek())); o {
	case Eq, Ne, Gt, Ge, Lt, Le:
		op = o
		p.pos += len(o)
	default:
		return nil, p.unexpected()
	}
	p.space()
	at := p.pos
	otherField, otherValue, err := p.operand()
	switch {
	case err != nil:
		return nil, err
	case field != "" && otherField == "":
		return Comparison{field, op, otherValue}, nil
	case field == "" && otherField != "":
		return Comparison{otherField, op.swapped(), value}, nil
	case field != "":
		return nil, p.errorf(http.StatusNotImplemented, at, "Comparing two fields is not offered")
	}
	return nil, p.errorf(http.StatusBadRequest, at, "Comparing two literals")
}

func (p *parser) list() ([]Literal, error) {
	if !p.symbol('(') {
		return nil, p.unexpected()
	}
	var values []Literal
	for {
		p.space()
		at := p.pos
		field, value, err := p.operand()
		if err != nil {
			return nil, err
		}
		if field != "" {
			return nil, p.errorf(http.StatusBadRequest, at, "Want a literal, not %q", field)
		}
		values = append(values, value)
		if p.symbol(')') {
			return values, nil
		}
		if !p.symbol(',') {
			return nil, p.unexpected()
		}
	}
}

// operand reads a field or, returning no field, a literal.
func (p *parser) operand() (field string, value Literal, err error) {
	p.space()
	start := p.pos
	if p.pos < len(p.text) && p.text[p.pos] == '\'' {
		text, rest, ok := unquote(p.text[p.pos:])
		if !ok {
			return "", Literal{}, p.errorf(http.StatusBadRequest, start, "A string without an end")
		}
		p.pos = len(p.text) - len(rest)
		return "", Literal{String, text}, nil
	}
	word := p.peek()
	if word == "" {
		return "", Literal{}, p.unexpected()
	}
	p.pos += len(word)
	if p.pos < len(p.text) && (p.text[p.pos] == '(' || p.text[p.pos] == '\'') {
		p.pos = start
		what := "function " + word
		if p.text[start+len(word)] == '\'' {
			what = "literal of type " + word
		}
		return "", Literal{}, p.errorf(http.StatusNotImplemented, start, "The %s is not offered", what)
	}
	if value, ok := literal(word); ok {
		return "", value, nil
	}
	if fieldName.MatchString(word) {
		return word, Literal{}, nil
	}
	if intText.MatchString(word) {
		return "", Literal{}, p.errorf(http.StatusBadRequest, start, "%s is outside of Edm.Int64", word)
	}
	p.pos = start
	return "", Literal{}, p.unexpected()
}

var (
	fieldName   = regexp.MustCompile(`^[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Nd}\p{Mn}\p{Mc}\p{Pc}\p{Cf}]*(/[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Nd}\p{Mn}\p{Mc}\p{Pc}\p{Cf}]*)*$`)
	intText     = regexp.MustCompile(`^[+-]?[0-9]+$`)
	decimalText = regexp.MustCompile(`^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)
	guidText    = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
)

// literal reads a literal that is no string.
func literal(word string) (Literal, bool) {
	switch strings.ToLower(word) {
	case "null":
		return Literal{Null, "null"}, true
	case "true", "false":
		return Literal{Bool, strings.ToLower(word)}, true
	}
	switch c := word[0]; {
	case guidText.MatchString(word):
		return Literal{Guid, word}, true
	case c != '-' && c != '+' && (c < '0' || c > '9'):
		return Literal{}, false
	case intText.MatchString(word):
		_, err := strconv.ParseInt(word, 10, 64)
		return Literal{Int, word}, err == nil
	case decimalText.MatchString(word):
		return Literal{Decimal, word}, true
	}
	if _, err := time.Parse(time.DateOnly, word); err == nil {
		return Literal{Date, word}, true
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00"} {
		if _, err := time.Parse(layout, word); err == nil {
			return Literal{DateTimeOffset, word}, true
		}
	}
	return Literal{}, false
}

// unquote reads a string literal at the start of text and returns what it stands for, and the rest.
func unquote(text string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		if text[i] != '\'' {
			b.WriteByte(text[i])
			continue
		}
		if i+1 < len(text) && text[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		return b.String(), text[i+1:], true
	}
	return "", "", false
}
