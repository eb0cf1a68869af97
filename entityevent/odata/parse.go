package odata

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxNesting bounds the parentheses, functions and negations of a filter within each other.
const maxNesting = 100

// ParseFilter reads a $filter and resolves its names in the scope: eq ne gt ge lt le, in, has, and, or,
// not and parentheses, contains startswith endswith tolower toupper now, any and all over fields and
// literals, operators in any case. What is constant is worked out. Its error is an *Error with status 400
// that names what it is about and its position in characters from 0.
func ParseFilter(text string, scope Scope) (Expr, error) {
	if !utf8.ValidString(text) {
		return nil, refuse(http.StatusBadRequest, "$filter", "$filter is not UTF-8")
	}
	p := &parser{option: "$filter", text: text, scope: scope}
	e, err := p.or()
	if err == nil {
		err = p.condition(&e)
	}
	if err != nil {
		return nil, err
	}
	if p.space(); p.pos < len(p.text) {
		return nil, p.unexpected()
	}
	return e.Expr, nil
}

type parser struct {
	option   string // named in errors
	text     string
	scope    Scope
	pos      int
	depth    int
	variable Variable // of the Lambda that is being read
}

// node is an expression and where it begins.
type node struct {
	Expr
	at int
}

func (p *parser) errorf(at int, format string, args ...any) error {
	position := utf8.RuneCountInString(p.text[:at])
	return refuse(http.StatusBadRequest, p.option, fmt.Sprintf(format, args...)+" at position "+strconv.Itoa(position))
}

// unexpected refuses what stands at the position.
func (p *parser) unexpected() error {
	p.space()
	if p.pos >= len(p.text) {
		return p.errorf(p.pos, "Unexpected end")
	}
	word := p.peek()
	if word == "" {
		r, _ := utf8.DecodeRuneInString(p.text[p.pos:])
		word = string(r)
	}
	switch strings.ToLower(word) {
	case "add", "sub", "mul", "div", "divby", "mod":
		return p.errorf(p.pos, "The operator %s is not offered", word)
	}
	return p.errorf(p.pos, "Unexpected %q", brief(word))
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
	for end < len(p.text) && strings.IndexByte(" \t(),'", p.text[end]) < 0 {
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

// follows says whether c is the next character, without a space before it.
func (p *parser) follows(c byte) bool { return p.pos < len(p.text) && p.text[p.pos] == c }

func (p *parser) symbol(c byte) bool {
	p.space()
	if p.follows(c) {
		p.pos++
		return true
	}
	return false
}

// nest reads what stands in parentheses or their like.
func (p *parser) nest(read func() (node, error)) (node, error) {
	if p.depth++; p.depth > maxNesting {
		return node{}, p.errorf(p.pos, "Nested deeper than %d", maxNesting)
	}
	defer func() { p.depth-- }()
	return read()
}

func (p *parser) or() (node, error) {
	first, terms, err := p.terms("or", p.and)
	if terms == nil || err != nil {
		return first, err
	}
	return node{Disjunction(terms), first.at}, nil
}

func (p *parser) and() (node, error) {
	first, terms, err := p.terms("and", p.term)
	if terms == nil || err != nil {
		return first, err
	}
	return node{Conjunction(terms), first.at}, nil
}

// terms reads conditions with the operator between them. What stands alone need not be a condition: terms is
// nil then.
func (p *parser) terms(operator string, read func() (node, error)) (first node, terms []Expr, err error) {
	if first, err = read(); err != nil {
		return node{}, nil, err
	}
	for next := first; ; {
		more := p.keyword(operator)
		if !more && terms == nil {
			return first, nil, nil
		}
		if err := p.condition(&next); err != nil {
			return node{}, nil, err
		}
		if terms = append(terms, next.Expr); !more {
			return first, terms, nil
		}
		if next, err = read(); err != nil {
			return node{}, nil, err
		}
	}
}

func (p *parser) term() (node, error) {
	p.space()
	start := p.pos
	if !p.not() {
		left, err := p.value()
		if err != nil {
			return node{}, err
		}
		return p.relation(left)
	}
	e, err := p.nest(p.negated)
	if err != nil {
		return node{}, err
	}
	return p.relation(node{Negation{e.Expr}, start})
}

// not consumes the operator if it is next.
func (p *parser) not() bool {
	start := p.pos
	if p.keyword("not") && (p.follows(' ') || p.follows('\t') || p.follows('(')) {
		return true
	}
	p.pos = start
	return false
}

// negated reads what follows a not: it binds tighter than eq, so that not F eq true compares not F. What cannot be
// negated is a comparison's left side.
func (p *parser) negated() (node, error) {
	p.space()
	start := p.pos
	if p.not() {
		e, err := p.nest(p.negated)
		return node{Negation{e.Expr}, start}, err
	}
	e, err := p.value()
	if err != nil {
		return node{}, err
	}
	if t := e.Type(); t.Kind != Bool || t.Collection {
		behind := p.pos
		compared, err := p.relation(e)
		switch {
		case err != nil:
			return node{}, err
		case t.Kind == Untyped && comparesBool(compared.Expr): // nobody knows its type, but the other side tells
			p.pos = behind
		default:
			e = compared
		}
	}
	err = p.condition(&e)
	return e, err
}

func comparesBool(e Expr) bool {
	isBool := func(e Expr) bool { l, ok := e.(Literal); return ok && l.Kind == Bool }
	switch e := e.(type) {
	case Comparison:
		return isBool(e.Right)
	case Membership:
		return slices.ContainsFunc(e.Values, func(l Literal) bool { return isBool(l) })
	}
	return false
}

// relation reads what a value is compared with, if anything.
func (p *parser) relation(left node) (node, error) {
	word := p.peek()
	at := p.pos
	switch op := strings.ToLower(word); op {
	case "in":
		p.pos += len(word)
		return p.membership(left)
	case "has":
		p.pos += len(word)
		right, err := p.value()
		if err != nil {
			return node{}, err
		}
		return p.has(left, right)
	case "eq", "ne", "gt", "ge", "lt", "le":
		p.pos += len(word)
		right, err := p.value()
		if err != nil {
			return node{}, err
		}
		return p.comparison(left, Op(op), right, at)
	case "", "and", "or":
		return left, nil
	}
	return node{}, p.unexpected()
}

// value reads a literal, a field, a function, a lambda, or an expression in parentheses.
func (p *parser) value() (node, error) {
	p.space()
	start := p.pos
	if p.follows('(') {
		return p.nest(p.parentheses)
	}
	if p.follows('\'') {
		text, err := p.quoted()
		return node{Literal{String, text}, start}, err
	}
	word := p.peek()
	if word == "" {
		return node{}, p.unexpected()
	}
	p.pos += len(word)
	switch {
	case p.follows('('):
		return p.nest(func() (node, error) { return p.call(word, start) })
	case p.follows('\''):
		return p.member(word, start)
	}
	if value, ok := literal(word); ok {
		return node{value, start}, nil
	}
	return p.name(word, start)
}

func (p *parser) parentheses() (node, error) {
	start := p.pos
	p.pos++
	e, err := p.or()
	if err == nil && !p.symbol(')') {
		err = p.unexpected()
	}
	return node{e.Expr, start}, err
}

// quoted reads the string literal at the position.
func (p *parser) quoted() (string, error) {
	text, rest, ok := unquote(p.text[p.pos:])
	if !ok {
		return "", p.errorf(p.pos, "A string without an end")
	}
	p.pos = len(p.text) - len(rest)
	return text, nil
}

// name resolves a variable or the path of a field, which was read before the position.
func (p *parser) name(word string, at int) (node, error) {
	if v := p.variable; v.Name != "" {
		if word == v.Name {
			return node{v, at}, nil
		}
		if strings.HasPrefix(word, v.Name+"/") {
			return node{}, p.errorf(at, "%q is not offered: any and all look at values, not at records", brief(word))
		}
	}
	switch c := word[0]; {
	case c >= '0' && c <= '9', c == '-', c == '+', word == "INF", word == "NaN":
		return node{}, p.errorf(at, "%q is no number, date, time with its zone (Z, or +02:00 with the + as %%2B), or Guid", brief(word))
	case !areNames(word, "/"):
		p.pos = at
		return node{}, p.unexpected()
	}
	t, err := p.resolve(word, at)
	return node{Field{word, t}, at}, err
}

// resolve returns the type of the field at the end of a path.
func (p *parser) resolve(path string, at int) (Type, error) {
	t := Type{Kind: Complex, Fields: p.scope}
	for name := range strings.SplitSeq(path, "/") {
		known := t.Kind == Complex && !t.Collection || t.Kind == Untyped
		switch {
		case known && t.Fields == nil:
			t = Type{}
		case known:
			t, known = t.Fields.Field(name)
		}
		if !known {
			return Type{}, p.errorf(at, "There is no field %q", brief(path))
		}
	}
	return t, nil
}

// member reads the quoted part of Namespace.Type'Member'.
func (p *parser) member(typeName string, at int) (node, error) {
	text, err := p.quoted()
	if err != nil {
		return node{}, err
	}
	switch typeName {
	case "duration", "binary", "geography", "geometry":
		return node{}, p.errorf(at, "The literal of type %s is not offered", typeName)
	}
	if p.scope == nil {
		if !areNames(typeName, ".") {
			return node{}, p.errorf(at, "There is no enumeration %q", brief(typeName))
		}
		return node{Literal{String, text}, at}, nil
	}
	enum, ok := p.scope.Enum(typeName)
	if !ok {
		return node{}, p.errorf(at, "There is no enumeration %q", brief(typeName))
	}
	members, err := p.memberOf(text, enum, at)
	return node{enumLiteral{Literal{Enumeration, members}, enum, text}, at}, err
}

// enumLiteral is a literal whose enumeration is named. Beside a field it becomes a Literal.
type enumLiteral struct {
	Literal
	enum    *Enum
	written string
}

// beside returns the literal as what it means beside a value of the kind: beside a String what was written.
func (l enumLiteral) beside(kind Kind) Literal {
	if kind == String {
		return Literal{String, l.written}
	}
	return Literal{kind, l.Text}
}

func (l enumLiteral) Type() Type { return Type{Kind: Enumeration, Enum: l.enum} }

// list reads ('a','b').
func (p *parser) list() ([]node, error) {
	if !p.symbol('(') {
		return nil, p.unexpected()
	}
	var values []node
	for {
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		values = append(values, v)
		if p.symbol(')') {
			return values, nil
		}
		if !p.symbol(',') {
			return nil, p.unexpected()
		}
	}
}

// brief keeps a message readable.
func brief(text string) string {
	const most = 60
	n := 0
	for i := range text {
		if n++; n > most {
			return text[:i] + "…"
		}
	}
	return text
}
