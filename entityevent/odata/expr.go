// Package odata holds what both ends of a RESO Web API connection share of OData 4: the expressions of
// $filter, read, written and evaluated, the path of a record, the system query options, and errors.
//
// It promises that what it writes it reads back as the same, and that what it does not understand it
// refuses with a position: no part of a filter or a path is ever ignored.
package odata

import "strings"

// Expr is a $filter, or a part of one, as a tree whose names are resolved. String prints it as OData text
// that ParseFilter reads, in the same Scope, as the same tree.
//
// A condition is a Conjunction, Disjunction, Negation, Comparison, Membership, Has, Lambda, a Call of
// contains, startswith or endswith, or a Field, Variable or Literal of the kind Bool. What they compare is
// a Field, Variable, Literal, Now, Call, or a condition.
type Expr interface {
	Type() Type
	String() string
}

// Field is the value of a field: Untyped only beside null.
type Field struct {
	Path string // Address/City: City in the complex field Address
	Of   Type
}

// Variable is the element that a Lambda looks at.
type Variable struct {
	Name string
	Of   Type
}

// Now is now(). At replaces it.
type Now struct{}

// Conjunction is true if all of its two or more terms are.
type Conjunction []Expr

// Disjunction is true if one of its two or more terms is.
type Disjunction []Expr

// Negation is true if its term is false.
type Negation struct{ Term Expr }

// Comparison compares two values of kinds that compare: equal ones, Int and Decimal, or a Moment and a Date or
// DateTimeOffset. A literal stands on the right, and never on both sides.
type Comparison struct {
	Left  Expr
	Op    Op
	Right Expr
}

// Membership says that a value equals one of the literals: Field in ('a','b').
type Membership struct {
	Left   Expr
	Values []Literal
}

// Has says that a value of flags, or a collection, holds all members of the literal.
type Has struct {
	Left  Expr
	Right Literal // Literal.Members splits it
}

// Call is contains, startswith or endswith of two strings, or tolower or toupper of one.
type Call struct {
	Name string
	Args []Expr
}

// Lambda says that any or all elements of a collection meet a condition: Over/any(Var:Term). A value that is
// no list has no elements. Lambdas do not stand in each other.
type Lambda struct {
	Over Field
	All  bool
	Var  string
	Term Expr // nil for any(): there is an element
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

var condition = Type{Kind: Bool}

// Type returns the type that the value is compared as.
func (e Field) Type() Type { return e.Of }

// Type returns the type that the value is compared as.
func (e Variable) Type() Type { return e.Of }

// Type returns DateTimeOffset.
func (Now) Type() Type { return Type{Kind: DateTimeOffset} }

// Type returns Bool.
func (Conjunction) Type() Type { return condition }

// Type returns Bool.
func (Disjunction) Type() Type { return condition }

// Type returns Bool.
func (Negation) Type() Type { return condition }

// Type returns Bool.
func (Comparison) Type() Type { return condition }

// Type returns Bool.
func (Membership) Type() Type { return condition }

// Type returns Bool.
func (Has) Type() Type { return condition }

// Type returns Bool.
func (Lambda) Type() Type { return condition }

// Type returns String or Bool.
func (e Call) Type() Type {
	if functions[e.Name].args == 1 {
		return Type{Kind: String}
	}
	return condition
}

func (e Field) String() string    { return e.Path }
func (e Variable) String() string { return e.Name }
func (Now) String() string        { return "now()" }

func (e Conjunction) String() string { return joined(e, " and ", false) }
func (e Disjunction) String() string { return joined(e, " or ", true) }

// joined prints the terms, those in parentheses that would be read as part of the whole.
func joined(terms []Expr, operator string, or bool) string {
	texts := make([]string, len(terms))
	for i, t := range terms {
		texts[i] = t.String()
		switch t.(type) {
		case Disjunction:
			texts[i] = "(" + texts[i] + ")"
		case Conjunction:
			if !or {
				texts[i] = "(" + texts[i] + ")"
			}
		}
	}
	return strings.Join(texts, operator)
}

func (e Negation) String() string {
	switch e.Term.(type) {
	case Conjunction, Disjunction, Comparison, Membership:
		return "not (" + e.Term.String() + ")"
	}
	return "not " + e.Term.String()
}

func (e Comparison) String() string {
	return operand(e.Left) + " " + string(e.Op) + " " + operand(e.Right)
}

// operand prints what is compared: a condition in parentheses.
func operand(e Expr) string {
	switch e.(type) {
	case Conjunction, Disjunction, Negation, Comparison, Membership, Has:
		return "(" + e.String() + ")"
	}
	return e.String()
}

func (e Membership) String() string {
	values := make([]string, len(e.Values))
	for i, v := range e.Values {
		values[i] = v.String()
	}
	return operand(e.Left) + " in (" + strings.Join(values, ",") + ")"
}

func (e Has) String() string { return e.Left.String() + " has " + e.Right.String() }

func (e Call) String() string {
	args := make([]string, len(e.Args))
	for i, a := range e.Args {
		args[i] = a.String()
	}
	return e.Name + "(" + strings.Join(args, ",") + ")"
}

func (e Lambda) String() string {
	name := "any"
	if e.All {
		name = "all"
	}
	if e.Term == nil {
		return e.Over.Path + "/" + name + "()"
	}
	return e.Over.Path + "/" + name + "(" + e.Var + ":" + e.Term.String() + ")"
}
