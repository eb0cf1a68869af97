package odata

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// ParseSelect reads a $select of fields, nil being all of them: *. Its error is an *Error 400.
func ParseSelect(text string, scope Scope) ([]string, error) {
	var fields []string
	all := false
	err := items("$select", text, scope, func(p *parser, at int) error {
		if p.keyword("*") {
			all = true
			return nil
		}
		f, err := p.field(at)
		if !slices.Contains(fields, f.Path) {
			fields = append(fields, f.Path)
		}
		return err
	})
	if all || err != nil {
		return nil, err
	}
	return fields, nil
}

// ParseOrderBy reads an $orderby: fields, each with asc or desc in any case, each once. Its error is an
// *Error 400.
func ParseOrderBy(text string, scope Scope) ([]Order, error) {
	var orders []Order
	err := items("$orderby", text, scope, func(p *parser, at int) error {
		f, err := p.field(at)
		if err != nil {
			return err
		}
		if t := f.Of; t.Collection || !t.Kind.simple() && t.Kind != Untyped {
			return p.errorf(at, "%s is %s, which has no order", brief(f.Path), t)
		}
		order := Order{Field: f}
		if order.Desc = p.keyword("desc"); !order.Desc {
			p.keyword("asc")
		}
		if !slices.ContainsFunc(orders, func(o Order) bool { return o.Field.Path == f.Path }) { // else the first decides
			orders = append(orders, order)
		}
		return nil
	})
	return orders, err
}

// ParseExpand reads an $expand: names of navigations that are known, each once, each with options in
// parentheses, between semicolons. What the options say is read later, as that of the query itself. Its
// error is an *Error 400, or 501 for an option that is not offered.
func ParseExpand(text string, known func(name string) bool) ([]Expand, error) {
	var expands []Expand
	err := items("$expand", text, nil, func(p *parser, at int) error {
		word := p.peek()
		name, rest, below := strings.Cut(word, "/")
		switch {
		case word == "":
			return p.unexpected()
		case word == "*":
			return p.errorf(at, "* is not offered: name what to expand,")
		case !known(name):
			return p.errorf(at, "There is nothing to expand called %q", brief(word))
		case below && rest == "$count":
			return p.errorf(at, "%q is not offered: write %s($count=true),", word, name)
		case below:
			return p.errorf(at, "%q is not offered: write %s($expand=…),", brief(word), name)
		case slices.ContainsFunc(expands, func(e Expand) bool { return e.Name == name }):
			return p.errorf(at, "%s stands twice", name)
		}
		p.pos += len(word)
		var err error
		e := Expand{Name: name}
		if p.symbol('(') {
			start := p.pos
			end, ok := closing(p.text, p.pos)
			if !ok {
				return p.errorf(start-1, "A parenthesis without an end")
			}
			p.pos = end + 1
			if e.Options, err = nested(text[start:end]); err != nil {
				return e.Within(err)
			}
		}
		expands = append(expands, e)
		return nil
	})
	return expands, err
}

// Within returns an *Error of the options, or of what they say, as one of this $expand.
func (e Expand) Within(err error) error {
	var refusal *Error
	if !errors.As(err, &refusal) || e.Name == "" {
		return err
	}
	inner := *refusal
	inner.Message = "In " + cmp.Or(refusal.Target, "the options") + " of $expand=" + e.Name + ": " + refusal.Message
	inner.Target = "$expand"
	return &inner
}

// nested reads options between semicolons, which are not percent-encoded again.
func nested(text string) (Options, error) {
	var o Options
	seen := map[string]bool{}
	for start := 0; start < len(text); {
		end := start
		for end < len(text) && text[end] != ';' {
			switch text[end] {
			case '\'':
				_, rest, ok := unquote(text[end:])
				if !ok {
					rest = ""
				}
				end = len(text) - len(rest)
			case '(':
				inner, ok := closing(text, end+1)
				if !ok {
					inner = len(text) - 1
				}
				end = inner + 1
			default:
				end++
			}
		}
		name, value, _ := strings.Cut(text[start:end], "=")
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "$format", "$skiptoken", "last_event":
			return Options{}, refuse(http.StatusBadRequest, name, name+" is no option of $expand")
		}
		if err := o.add(seen, name, value); err != nil {
			return Options{}, err
		}
		start = end + 1
	}
	return o, nil
}

// closing returns the place of the parenthesis that closes one before i.
func closing(text string, i int) (int, bool) {
	for depth := 0; i < len(text); i++ {
		switch text[i] {
		case '\'':
			_, rest, ok := unquote(text[i:])
			if !ok {
				return 0, false
			}
			i = len(text) - len(rest) - 1
		case '(':
			depth++
		case ')':
			if depth--; depth < 0 {
				return i, true
			}
		}
	}
	return 0, false
}

// items reads a list between commas.
func items(option, text string, scope Scope, item func(p *parser, at int) error) error {
	p := &parser{option: option, text: text, scope: scope}
	for {
		p.space()
		if err := item(p, p.pos); err != nil {
			return err
		}
		if p.space(); p.pos == len(p.text) {
			return nil
		}
		if !p.symbol(',') {
			return p.unexpected()
		}
	}
}

// field reads the path of a field.
func (p *parser) field(at int) (Field, error) {
	word := p.peek()
	if !areNames(word, "/") {
		return Field{}, p.unexpected()
	}
	p.pos += len(word)
	t, err := p.resolve(word, at)
	return Field{word, t}, err
}
