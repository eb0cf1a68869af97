package sqlite

import (
	"encoding/json"
	"strings"

	"github.com/resosync/resosync/entityevent/odata"
)

// value returns SQL of what is compared, and its kind: Untyped for what compares with null alone. Numbers, and
// instants as microseconds, are numbers, Bools 1 and 0, and all others text, Guids in lower case.
func (c *compiler) value(e odata.Expr) (sql string, kind odata.Kind) {
	switch e := e.(type) {
	case odata.Field:
		return c.field(e), e.Of.Kind
	case odata.Variable:
		return c.canonical(c.element(e.Of.Kind), e.Of), e.Of.Kind
	case odata.Literal:
		if v := literalValue(e); v != nil {
			return c.arg(v), e.Kind
		}
		return "NULL", odata.Untyped
	case odata.Call:
		return c.call(e)
	case odata.Now:
		return c.fail("now() must be replaced by a time"), odata.DateTimeOffset
	}
	return c.condition(e), odata.Bool
}

// field returns the value of a field, NULL unless it fits the kind. The + keeps SQLite from choosing an index
// by it: what the indexes serve is decided in bounds.
func (c *compiler) field(f odata.Field) string {
	kind := f.Of.Kind
	if c.columns != nil {
		return c.columns[f.Path].value(kind)
	}
	switch {
	case f.Path == c.key && c.key != "":
		if number(kind) {
			return "CASE WHEN CAST(CAST(r.key AS INTEGER) AS TEXT) = r.key THEN CAST(r.key AS INTEGER) END"
		}
		return c.canonical(fitted("+r.key", kind), f.Of)
	case f.Path == modificationTimestamp && kind == odata.DateTimeOffset:
		return "+r.modified_at"
	}
	path := c.path(f.Path)
	is := "json_type(r.body, " + path + ")"
	switch {
	case kind == odata.Untyped:
		return "nullif(" + is + ", 'null')"
	case kind == odata.Bool:
		return "CASE " + is + " WHEN 'true' THEN 1 WHEN 'false' THEN 0 END"
	case number(kind):
		// What SQLite reads exactly it reads itself: it is several times faster than a call of Go.
		raw := "r.body -> " + path
		return "CASE WHEN " + is + " IN ('integer', 'real') THEN CASE WHEN length(" + raw + ") < 20 THEN json_extract(r.body, " + path +
			") ELSE odata_number(" + raw + ") END END"
	}
	return c.canonical(fitted("CASE "+is+" WHEN 'text' THEN json_extract(r.body, "+path+") END", kind), f.Of)
}

// value returns the value of the column, NULL unless it fits the kind.
func (col column) value(kind odata.Kind) string {
	switch {
	case col.name == "", number(kind) != number(col.kind) && kind != odata.Untyped, kind == odata.Bool:
		return "NULL"
	case number(kind):
		return "+" + col.name
	}
	return fitted("+"+col.name, kind)
}

const modificationTimestamp = "ModificationTimestamp"

// element returns the value of a lambda's variable.
func (c *compiler) element(kind odata.Kind) string {
	switch {
	case c.over == "":
		return c.fail("a variable outside of any and all")
	case kind == odata.Untyped:
		return "nullif(e.type, 'null')"
	case kind == odata.Bool:
		return "CASE e.type WHEN 'true' THEN 1 WHEN 'false' THEN 0 END"
	case number(kind):
		return "CASE WHEN e.type IN ('integer', 'real') THEN odata_number(" + c.over + " -> e.key) END"
	}
	return fitted("CASE e.type WHEN 'text' THEN e.value END", kind)
}

// fitted returns a text as a value of the kind.
func fitted(text string, kind odata.Kind) string {
	switch kind {
	case odata.String, odata.Enumeration, odata.Untyped:
		return text
	case odata.Guid:
		return "odata_tolower(" + text + ")"
	case odata.Date:
		return "odata_date(" + text + ")"
	case odata.DateTimeOffset:
		return "odata_instant(" + text + ")"
	case odata.Moment:
		return "odata_moment(" + text + ")"
	default:
		return "NULL"
	}
}

// canonical returns a text of flags as it is compared, and any other value as it is.
func (c *compiler) canonical(value string, of odata.Type) string {
	if enum := flagsOf(of); enum != "" {
		return "odata_flags(" + value + ", " + c.arg(enum) + ")"
	}
	return value
}

// flagsOf returns the flags of a type for the functions of SQL, "" if it has none.
func flagsOf(of odata.Type) string {
	if of.Enum == nil || !of.Enum.Flags {
		return ""
	}
	text, err := json.Marshal(of.Enum)
	if err != nil { // names and numbers always have a JSON form
		return ""
	}
	return string(text)
}

// call compares bytes, as Go does: SQLite's own functions on texts count characters.
func (c *compiler) call(e odata.Call) (string, odata.Kind) {
	var args [2]string
	for i, a := range e.Args {
		sql, kind := c.value(a)
		if kind != odata.String || i > 1 {
			sql = "NULL"
		}
		args[i] = sql
	}
	a, b := "CAST("+args[0]+" AS BLOB)", "CAST("+args[1]+" AS BLOB)"
	switch e.Name {
	case "tolower", "toupper":
		return "odata_" + e.Name + "(" + args[0] + ")", odata.String
	case "contains":
		return "(instr(" + a + ", " + b + ") > 0)", odata.Bool
	case "startswith":
		return within(a, b, "1"), odata.Bool
	case "endswith":
		return within(a, b, "length("+a+") - length("+b+") + 1"), odata.Bool
	}
	return c.fail("there is no function %q", e.Name), odata.Bool
}

// within says whether b stands in a from there on. SQLite's substr of nothing is NULL.
func within(a, b, from string) string {
	return "CASE WHEN length(" + a + ") < length(" + b + ") THEN 0 WHEN length(" + a + ") >= length(" + b + ") THEN length(" + b +
		") = 0 OR substr(" + a + ", " + from + ", length(" + b + ")) = " + b + " END"
}

// raw returns the JSON text of a field or a variable.
func (c *compiler) raw(e odata.Expr) string {
	switch e := e.(type) {
	case odata.Field:
		if c.columns != nil {
			return "json_quote(" + c.columns[e.Path].value(odata.String) + ")"
		}
		if e.Path == c.key && c.key != "" {
			return "json_quote(r.key)"
		}
		return "r.body -> " + c.path(e.Path)
	case odata.Variable:
		if c.over != "" {
			return c.over + " -> e.key"
		}
	}
	return c.fail("has wants a field")
}

// path returns a parameter for where SQLite finds a field in the body.
func (c *compiler) path(path string) string {
	if c.columns != nil || strings.ContainsAny(path, "\"\\\x00") {
		return c.fail("no field is called %q", path)
	}
	c.body = true
	return c.arg(`$."` + strings.ReplaceAll(path, "/", `"."`) + `"`)
}
