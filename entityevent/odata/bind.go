package odata

import (
	"slices"
	"strings"
)

// functions are those that are offered.
var functions = map[string]struct{ args int }{
	"contains": {2}, "startswith": {2}, "endswith": {2}, "tolower": {1}, "toupper": {1},
}

// condition checks that e can be true or false.
func (p *parser) condition(e *node) error {
	e.Expr = as(e.Expr, Bool)
	if t := e.Type(); t.Kind != Bool || t.Collection {
		return p.errorf(e.at, "%s is %s, no condition", brief(e.String()), t)
	}
	return nil
}

// as gives a field or variable of which nothing is known a kind.
func as(e Expr, kind Kind) Expr {
	switch e := e.(type) {
	case Field:
		if e.Of.Kind == Untyped && !e.Of.Collection {
			e.Of.Kind = kind
			return e
		}
	case Variable:
		if e.Of.Kind == Untyped && !e.Of.Collection {
			e.Of.Kind = kind
			return e
		}
	}
	return e
}

func constant(e Expr) bool {
	switch e.(type) {
	case Literal, enumLiteral, Now:
		return true
	}
	return false
}

// comparison makes both sides alike and refuses what does not compare.
func (p *parser) comparison(left node, op Op, right node, at int) (node, error) {
	start := left.at
	if constant(left.Expr) && !constant(right.Expr) {
		left, op, right = right, op.swapped(), left
	}
	if err := p.alike(&left, &right); err != nil {
		return node{}, err
	}
	if left.Type().Kind == Enumeration && op != Eq && op != Ne && right.Type().Kind != Null {
		return node{}, p.errorf(at, "%s does not order %s, %s", op, brief(left.String()), left.Type())
	}
	return node{fold(Comparison{plain(left.Expr), op, right.Expr}), start}, nil
}

// plain returns a literal without the name of its enumeration, which the other side has too.
func plain(e Expr) Expr {
	if named, ok := e.(enumLiteral); ok {
		return named.Literal
	}
	return e
}

// alike gives two sides of a comparison the same kind. A literal is on the right.
func (p *parser) alike(left, right *node) error {
	for _, side := range []*node{left, right} {
		if t := side.Type(); t.Collection && right.Type().Kind != Null {
			return p.errorf(side.at, "%s is %s: look into it with any or all", brief(side.String()), t)
		}
	}
	l, r := left.Type(), right.Type()
	switch {
	case r.Kind == Null:
		if f, ok := left.Expr.(Field); ok && (l.Collection || !l.Kind.simple()) {
			left.Expr = Field{f.Path, Type{}}
		}
		return nil
	case l.Kind == Null: // both are constant
		return nil
	case l.Kind == Untyped && r.Kind == Untyped:
		return p.errorf(right.at, "%s and %s are of unknown types and do not compare", brief(left.String()), brief(right.String()))
	}
	p.untyped(left, r)
	p.untyped(right, l)
	if l = left.Type(); !l.Kind.simple() {
		return p.errorf(left.at, "%s is %s and compares with null alone", brief(left.String()), l)
	}
	if r = right.Type(); !r.Kind.simple() {
		return p.errorf(right.at, "%s is %s and compares with null alone", brief(right.String()), r)
	}
	if literal, ok := right.Expr.(Literal); ok {
		var err error
		if right.Expr, err = p.beside(literal, *left, right.at); err != nil {
			return err
		}
		r = right.Type()
	}
	if named, ok := right.Expr.(enumLiteral); ok && (l.Kind == String || l.Kind == Enumeration && l.Enum == named.enum) {
		right.Expr = named.beside(l.Kind)
		return nil
	}
	_, fixed := right.Expr.(Literal)
	if !l.Kind.compares(r.Kind) || l.Enum != r.Enum && !fixed {
		return p.mismatch(*left, *right)
	}
	return nil
}

// untyped gives a side of unknown type the kind of the other.
func (p *parser) untyped(side *node, other Type) {
	switch other.Kind {
	case Enumeration:
		other.Kind = String
	case Date, DateTimeOffset:
		other.Kind = Moment
	default:
	}
	side.Expr = as(side.Expr, other.Kind)
}

func (p *parser) mismatch(left, right node) error {
	return p.errorf(right.at, "%s is %s and does not compare with %s, %s",
		brief(left.String()), left.Type(), brief(right.String()), right.Type())
}

// beside returns a literal as what it means beside the left side.
func (p *parser) beside(l Literal, left node, at int) (Expr, error) {
	switch t := left.Type(); {
	case t.Kind == Enumeration && l.Kind == String:
		text, err := p.memberOf(l.Text, t.Enum, at)
		return Literal{Enumeration, text}, err
	case t.Kind == DateTimeOffset && l.Kind == Date:
		return Literal{DateTimeOffset, l.Text + "T00:00:00Z"}, nil
	case t.Kind == Int && l.Kind == Decimal && isDigits(strings.TrimLeft(l.Text, "+-")):
		return nil, p.errorf(at, "%s is outside of Edm.Int64", brief(l.Text))
	}
	return l, nil
}

// memberOf checks a member of an enumeration, or several of flags, and returns them as Enum.Canonical does.
func (p *parser) memberOf(text string, enum *Enum, at int) (string, error) {
	if enum == nil || len(enum.Members) == 0 { // nobody said which there are
		return enum.Canonical(text), nil
	}
	members, others := enum.read(text)
	if len(others) > 0 {
		return "", p.errorf(at, "%s has no member %q", enum.Name, brief(others[0]))
	}
	return strings.Join(members, ","), nil
}

// membership reads the list of an in.
func (p *parser) membership(left node) (node, error) {
	values, err := p.list()
	if err != nil {
		return node{}, err
	}
	if left.Type().Kind == Untyped {
		for _, v := range values {
			if kind := v.Type().Kind; kind != Null && constant(v.Expr) {
				p.untyped(&left, v.Type())
				break
			}
		}
	}
	m := Membership{Values: make([]Literal, len(values))}
	for i, v := range values {
		if _, ok := v.Expr.(Now); ok || !constant(v.Expr) {
			return node{}, p.errorf(v.at, "Want a literal, not %q", brief(v.String()))
		}
		side := left
		if err := p.alike(&side, &v); err != nil {
			return node{}, err
		}
		m.Values[i] = v.Expr.(Literal)
		if v.Type().Kind != Null {
			m.Left = plain(side.Expr)
		}
	}
	if m.Left == nil { // in (null)
		if err := p.alike(&left, &node{Literal{Null, "null"}, left.at}); err != nil {
			return node{}, err
		}
		m.Left = plain(left.Expr)
	}
	return node{fold(m), left.at}, nil
}

// has checks a has.
func (p *parser) has(left, right node) (node, error) {
	t := left.Type()
	switch e := left.Expr.(type) {
	case Field, Variable:
	default:
		return node{}, p.errorf(left.at, "has wants a field, not %q", brief(e.String()))
	}
	if t.Kind == Untyped && !t.Collection {
		t = Type{Kind: String}
		left.Expr = as(left.Expr, String)
	}
	var l Literal
	switch e := right.Expr.(type) {
	case Literal:
		l = e
	case enumLiteral:
		if t.Kind == Enumeration && t.Enum != e.enum {
			return node{}, p.mismatch(left, right)
		}
		l = e.beside(t.Kind)
	}
	if t.Kind != String && t.Kind != Enumeration || l.Kind != String && l.Kind != Enumeration {
		return node{}, p.mismatch(left, right)
	}
	members := l.Members()
	if slices.Contains(members, "") {
		return node{}, p.errorf(right.at, "has wants a member, not %q", brief(l.Text))
	}
	if t.Kind == Enumeration {
		if t.Enum != nil && t.Enum.Flags {
			members = []string{strings.Join(members, ",")}
		}
		for i, m := range members {
			var err error
			if members[i], err = p.memberOf(m, t.Enum, right.at); err != nil {
				return node{}, err
			}
		}
	}
	return node{Has{left.Expr, Literal{t.Kind, strings.Join(members, ",")}}, left.at}, nil
}

// call reads the arguments of a function, or a lambda.
func (p *parser) call(word string, at int) (node, error) {
	if path, name, ok := cutLast(word, '/'); ok && (strings.EqualFold(name, "any") || strings.EqualFold(name, "all")) {
		return p.lambda(path, strings.ToLower(name), at)
	}
	name := strings.ToLower(word)
	f, ok := functions[name]
	if !ok && name != "now" {
		return node{}, p.errorf(at, "There is no function %q", brief(word))
	}
	open := p.pos
	var args []node
	var err error
	if p.pos++; p.symbol(')') {
		if name == "now" {
			return node{Now{}, at}, nil
		}
	} else {
		p.pos = open
		if args, err = p.list(); err != nil {
			return node{}, err
		}
	}
	if len(args) != f.args {
		return node{}, p.errorf(at, "%s takes %d arguments, not %d,", name, f.args, len(args))
	}
	c := Call{name, make([]Expr, len(args))}
	for i, a := range args {
		p.untyped(&a, Type{Kind: String})
		if t := a.Type(); t.Kind != String || t.Collection {
			return node{}, p.errorf(a.at, "%s takes a string, and %s is %s", name, brief(a.String()), t)
		}
		c.Args[i] = a.Expr
	}
	return node{fold(c), at}, nil
}

// lambda reads the parentheses of Over/any(v:condition).
func (p *parser) lambda(path, name string, at int) (node, error) {
	if p.variable.Name != "" {
		return node{}, p.errorf(at, "any and all within any or all are not offered: %q", brief(path+"/"+name))
	}
	l := Lambda{Over: Field{Path: path}, All: name == "all"}
	if !areNames(path, "/") {
		return node{}, p.errorf(at, "There is no field %q", brief(path))
	}
	t, err := p.resolve(path, at)
	if t.Kind == Untyped {
		t.Collection = true
	}
	if err != nil || !t.Collection || t.Kind == Complex {
		return node{}, p.errorf(at, "%s over %q is not offered: only over a field that is a collection of values", name, brief(path))
	}
	l.Over.Of = t
	p.pos++ // the parenthesis
	if p.symbol(')') {
		if l.All {
			return node{}, p.errorf(at, "all wants a condition")
		}
		return node{l, at}, nil
	}
	p.space()
	rest := p.text[p.pos:]
	variable, _, _ := strings.Cut(rest, ":")
	variable = strings.TrimRight(variable, " \t")
	if !IsName(variable) {
		return node{}, p.errorf(p.pos, "%s wants a variable and a colon", name)
	}
	p.pos += len(variable)
	p.symbol(':')
	l.Var = variable
	t.Collection = false
	p.variable = Variable{variable, t}
	defer func() { p.variable = Variable{} }()
	term, err := p.or()
	if err == nil {
		err = p.condition(&term)
	}
	if err == nil && !p.symbol(')') {
		err = p.unexpected()
	}
	l.Term = term.Expr
	return node{l, at}, err
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, false
}
