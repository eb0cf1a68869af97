// Package odata holds what both ends of a RESO Web API connection share of OData 4: the expressions of
// $filter, read and written, the path of a record, the system query options, and errors.
//
// It promises that what it writes it reads back as the same, and that what it does not understand it
// refuses with a position: no part of a filter or a path is ever ignored.
package odata

import "strings"

// Expr is a $filter as a tree: Conjunction, Disjunction, Negation, Comparison or Membership. String prints it as OData text that
// ParseFilter reads as the same tree.
type Expr interface {
	String() string
	expr()
}

// Conjunction is true if all of its two or more terms are.
type Conjunction []Expr

// Disjunction is true if one of its two or more terms is.
type Disjunction []Expr

// Negation is true if its term is not.
type Negation struct{ Term Expr }

// Comparison compares a field with a literal.
type Comparison struct {
	Field string
	Op    Op
	Value Literal
}

// Membership says that a field equals one of the literals: Field in ('a','b').
type Membership struct {
	Field  string
	Values []Literal
}

// Op is a comparison.
type Op string

// The comparisons of OData.
const (
	Eq Op = "eq"
	Ne Op = "ne"
	Gt Op = "gt"
	Ge Op = "ge"
	Lt Op = "lt"
	Le Op = "le"
)

// swapped returns the comparison that holds with its two sides exchanged.
func (o Op) swapped() Op {
	switch o {
	case Gt:
		return Lt
	case Ge:
		return Le
	case Lt:
		return Gt
	case Le:
		return Ge
	default:
		return o
	}
}

// Kind is the type of a literal.
type Kind uint8

// The kinds of literals.
const (
	Null Kind = iota
	Bool
	Int // fits in an int64
	Decimal
	String
	DateTimeOffset
	Date
	Guid
)

// Literal is a constant in a filter.
type Literal struct {
	Kind Kind
	Text string // of a String what it stands for; of the others as they were written
}

func (l Literal) String() string {
	if l.Kind == String {
		return Quote(l.Text)
	}
	return l.Text
}

func (Conjunction) expr() {}
func (Disjunction) expr() {}
func (Negation) expr()    {}
func (Comparison) expr()  {}
func (Membership) expr()  {}

func (e Conjunction) String() string {
	terms := make([]string, len(e))
	for i, t := range e {
		terms[i] = t.String()
		switch t.(type) {
		case Disjunction, Conjunction:
			terms[i] = "(" + terms[i] + ")"
		}
	}
	return strings.Join(terms, " and ")
}

func (e Disjunction) String() string {
	terms := make([]string, len(e))
	for i, t := range e {
		terms[i] = t.String()
		if _, ok := t.(Disjunction); ok {
			terms[i] = "(" + terms[i] + ")"
		}
	}
	return strings.Join(terms, " or ")
}

func (e Negation) String() string { return "not (" + e.Term.String() + ")" }

func (e Comparison) String() string {
	return e.Field + " " + string(e.Op) + " " + e.Value.String()
}

func (e Membership) String() string {
	values := make([]string, len(e.Values))
	for i, v := range e.Values {
		values[i] = v.String()
	}
	return e.Field + " in (" + strings.Join(values, ",") + ")"
}

// Quote returns s as a string literal: quotes are doubled.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// In returns the filter that a field is one of the keys, which are quoted or, being numbers, are not.
func In(field string, keys []string, quoted bool) string {
	var b strings.Builder
	b.WriteString(field)
	b.WriteString(" in (")
	for i, key := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(keyLiteral(key, quoted))
	}
	b.WriteByte(')')
	return b.String()
}

// AnyOf returns what In returns as comparisons, for servers that do not know the operator in.
func AnyOf(field string, keys []string, quoted bool) string {
	var b strings.Builder
	for i, key := range keys {
		if i > 0 {
			b.WriteString(" or ")
		}
		b.WriteString(field)
		b.WriteString(" eq ")
		b.WriteString(keyLiteral(key, quoted))
	}
	return b.String()
}

func keyLiteral(key string, quoted bool) string {
	if quoted {
		return Quote(key)
	}
	return key
}
