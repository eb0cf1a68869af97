package sqlite

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/odata"
)

// compiler turns a filter into SQL by the semantics of odata.Holds. The records are the table r, unless the
// fields have columns. Nothing that a caller said becomes part of the text, so those who ask alike share a
// prepared statement.
type compiler struct {
	key     string            // Query.KeyField
	columns map[string]column // the only fields that there are; nil: those of records
	args    []any
	numbers map[any]string // of the parameters, by argument
	over    string         // the JSON text of what a lambda goes through
	depth   int
	body    bool // the SQL reads bodies
	err     error
}

// column is a field that is a column.
type column struct {
	name string
	kind odata.Kind // Int or String
}

// Within these SQLite reads every statement: it takes 32,766 parameters and expressions of a depth of 1000.
const (
	maxParameters = 30_000
	maxDepth      = 200
)

func (c *compiler) fail(format string, args ...any) string {
	if c.err == nil {
		c.err = fmt.Errorf("%w filter: "+format, append([]any{entityevent.ErrInvalid}, args...)...)
	}
	return "NULL"
}

// arg returns a parameter for an int64, float64 or string.
func (c *compiler) arg(v any) string {
	if number, ok := c.numbers[v]; ok {
		return number
	}
	if len(c.args) >= maxParameters {
		return c.fail("more than %d values: ask for fewer", maxParameters)
	}
	c.args = append(c.args, v)
	if c.numbers == nil {
		c.numbers = map[any]string{}
	}
	number := "?" + strconv.Itoa(len(c.args))
	c.numbers[v] = number
	return number
}

// condition returns SQL that is 1, 0 or NULL. It can stand anywhere.
func (c *compiler) condition(e odata.Expr) string {
	if c.depth++; c.depth > maxDepth {
		return c.fail("nested deeper than %d", maxDepth)
	}
	defer func() { c.depth-- }()
	switch e := e.(type) {
	case odata.Conjunction:
		return c.tree(e, " AND ")
	case odata.Disjunction:
		if m, ok := asMembership(e); ok {
			return c.membership(m)
		}
		return c.tree(e, " OR ")
	case odata.Negation:
		return "(NOT " + c.condition(e.Term) + ")"
	case odata.Comparison:
		return c.comparison(e)
	case odata.Membership:
		return c.membership(e)
	case odata.Has:
		return "odata_has(" + c.raw(e.Left) + ", " + c.arg(e.Right.Text) + ", " + c.arg(flagsOf(e.Left.Type())) + ")"
	case odata.Lambda:
		return c.lambda(e)
	}
	if sql, kind := c.value(e); kind == odata.Bool {
		return sql
	}
	return "NULL"
}

// truth returns a constant that SQLite does not work out: it would drop what stands beside it, and with that the
// use of the index.
func (c *compiler) truth(b bool) string { return c.arg(flag(b)) }

// tree joins the terms in pairs of pairs: SQLite's expressions may be broad, but not deep.
func (c *compiler) tree(terms []odata.Expr, operator string) string {
	switch n := len(terms); n {
	case 0:
		return c.fail("an operator without operands")
	case 1:
		return c.condition(terms[0])
	default:
		return "(" + c.tree(terms[:n/2], operator) + operator + c.tree(terms[n/2:], operator) + ")"
	}
}

func (c *compiler) comparison(e odata.Comparison) string {
	left, a := c.value(e.Left)
	right, b := c.value(e.Right)
	if a == odata.Moment || b == odata.Moment {
		left, a = moment(left, a)
		right, b = moment(right, b)
	}
	switch alike := a == b && a != odata.Untyped || number(a) && number(b); {
	case e.Op == odata.Eq && alike:
		return "(" + left + " IS " + right + ")"
	case e.Op == odata.Ne && alike:
		return "(" + left + " IS NOT " + right + ")"
	case e.Op == odata.Eq: // only null equals what is of another kind
		return "(" + left + " IS NULL AND " + right + " IS NULL)"
	case e.Op == odata.Ne:
		return "(" + left + " IS NOT NULL OR " + right + " IS NOT NULL)"
	case !alike:
		return c.truth(false)
	}
	return "coalesce(" + left + " " + operators[e.Op] + " " + right + ", 0)"
}

// moment makes what stands in a comparison with a Moment an instant.
func moment(sql string, kind odata.Kind) (string, odata.Kind) {
	switch kind {
	case odata.Moment:
		return sql, odata.DateTimeOffset
	case odata.Date:
		return "odata_moment(" + sql + ")", odata.DateTimeOffset
	default:
		return sql, kind
	}
}

var operators = map[odata.Op]string{odata.Gt: ">", odata.Ge: ">=", odata.Lt: "<", odata.Le: "<="}

func number(k odata.Kind) bool { return k == odata.Int || k == odata.Decimal }

// membership binds the whole list as one value.
func (c *compiler) membership(e odata.Membership) string {
	left, kind := c.value(e.Left)
	null := false
	var values []any
	for _, l := range e.Values {
		switch {
		case l.Kind == odata.Null:
			null = true
		case l.Kind == kind || number(l.Kind) && number(kind):
			values = append(values, literalValue(l))
		case kind == odata.Moment && (l.Kind == odata.Date || l.Kind == odata.DateTimeOffset):
			values = append(values, l.Instant())
		}
	}
	var found string
	switch len(values) {
	case 0:
		found = c.truth(false)
	case 1:
		found = "(" + left + " IS " + c.arg(values[0]) + ")"
	default:
		found = "coalesce(" + left + " IN (SELECT value FROM json_each(" + c.arg(jsonArray(values)) + ")), 0)"
	}
	if null {
		return "(" + left + " IS NULL OR " + found + ")"
	}
	return found
}

// asMembership returns a disjunction that compares one field with literals as the list that it is.
func asMembership(e odata.Disjunction) (odata.Membership, bool) {
	var m odata.Membership
	for _, term := range e {
		var left odata.Expr
		var values []odata.Literal
		switch term := term.(type) {
		case odata.Comparison:
			literal, ok := term.Right.(odata.Literal)
			if !ok || term.Op != odata.Eq {
				return m, false
			}
			left, values = term.Left, []odata.Literal{literal}
		case odata.Membership:
			left, values = term.Left, term.Values
		default:
			return m, false
		}
		f, ok := left.(odata.Field)
		first, _ := m.Left.(odata.Field)
		if !ok || m.Left != nil && (f.Path != first.Path || f.Of.Kind != first.Of.Kind) {
			return m, false
		}
		m.Left, m.Values = f, append(m.Values, values...)
	}
	return m, true
}

// lambda goes through the elements as the table e.
func (c *compiler) lambda(e odata.Lambda) string {
	path := c.path(e.Over.Path)
	if c.over != "" {
		return c.fail("any or all within any or all")
	}
	if e.All && e.Term == nil {
		return c.truth(true)
	}
	c.over = "r.body -> " + path
	term := "1"
	if e.Term != nil {
		term = c.condition(e.Term)
	}
	c.over = ""
	each := "EXISTS (SELECT 1 FROM json_each(r.body, " + path + ") e WHERE "
	if e.All {
		return "CASE json_type(r.body, " + path + ") WHEN 'array' THEN NOT " + each + term + " IS NOT TRUE) ELSE 1 END"
	}
	return "CASE json_type(r.body, " + path + ") WHEN 'array' THEN " + each + term + ") ELSE 0 END"
}

// literalValue returns what a literal is as a value of SQLite, nil for null.
func literalValue(l odata.Literal) any {
	switch l.Kind {
	case odata.Bool:
		return flag(l.Text == "true")
	case odata.Int:
		return l.Int()
	case odata.Decimal:
		return l.Float()
	case odata.DateTimeOffset:
		return l.Instant()
	case odata.Guid:
		return strings.ToLower(l.Text)
	case odata.String, odata.Date, odata.Enumeration:
		return l.Text
	default:
		return nil
	}
}

// jsonArray writes the values for json_each. A text that is not UTF-8 equals none that is stored.
func jsonArray(values []any) string {
	text := []byte{'['}
	for _, v := range values {
		if len(text) > 1 {
			text = append(text, ',')
		}
		switch v := v.(type) {
		case int64:
			text = strconv.AppendInt(text, v, 10)
		case float64:
			switch {
			case math.IsInf(v, 1):
				text = append(text, "9e999"...)
			case math.IsInf(v, -1):
				text = append(text, "-9e999"...)
			default:
				text = strconv.AppendFloat(text, v, 'e', -1, 64)
			}
		case string:
			if !utf8.ValidString(v) {
				text = append(text, "null"...)
				continue
			}
			quoted, _ := json.Marshal(v)
			text = append(text, quoted...)
		}
	}
	return string(append(text, ']'))
}
